//! One run of a container: from the making of its group to the removal.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::heal::EXIT_CODE_UNKNOWN;
use super::health::Prober;
use super::network::Network;
use super::stdio::Stdio;
use super::supervisor::has_own_network;
use super::{Error, Result, launch, namespace};
use crate::model::container::{ContainerSpec, ProcessIdentity};
use crate::runtime::{self, Cgroup, Running};
use crate::store::Store;

/// A process under way and what belongs to this run alone.
pub(super) struct Run {
    pub(super) process: Running,
    pub(super) cgroup: Cgroup,
    pub(super) stdio: Stdio,
    pub(super) prober: Option<Prober>,
    pub(super) started: Instant,
    /// Its mount namespace. While somebody has it open, the end of the process does not include the unmounting of an
    /// overlay, which syncs the whole file system of the upper layer (moby issue 47630).
    pub(super) mounts: Option<OwnedFd>,
    /// The supervisor is not its parent: the one that was died.
    pub(super) adopted: bool,
}

impl Run {
    /// Starts the process. The network is furnished when it is new; `announce` is told of the process when all is ready
    /// and before it runs. On error nothing of this stays.
    pub(super) fn begin(
        store: &Store,
        spec: &ContainerSpec,
        network: &mut Network,
        size: Option<(u16, u16)>,
        announce: impl FnOnce(ProcessIdentity, &Network) -> Result<()>,
    ) -> Result<Self> {
        let cgroup = Cgroup::create(&store.paths().instance(), spec)?;
        let new_network = network.namespace.is_none();
        let result = start(store, spec, network, &cgroup, size, announce);
        match result {
            Ok((process, stdio)) => {
                let started = Instant::now();
                let prober = spec.healthcheck.as_ref().map(|check| Prober::new(check, started, false));
                let mounts = namespace::of_process(process.identity, "mnt");
                Ok(Self { process, cgroup, stdio, prober, started, mounts, adopted: false })
            }
            Err(error) => {
                // The first error is the one to report; what cannot be undone now is cleared by `heal`.
                drop(cgroup.kill_all());
                drop(cgroup.remove());
                if new_network {
                    drop(network.disconnect(store, spec));
                }
                Err(error)
            }
        }
    }

    pub(super) fn is_probing(&self) -> bool {
        self.prober.as_ref().is_some_and(Prober::is_probing)
    }

    /// The exit code if the process ended.
    pub(super) fn exit_code(&self) -> Option<i32> {
        if self.adopted {
            return adopted_exit_code(&self.process);
        }
        match self.process.try_wait() {
            Ok(status) => status.map(|status| status.code),
            Err(_) => adopted_exit_code(&self.process),
        }
    }

    /// Ends what is left of the run; returns whether the kernel killed for lack of memory, and the mounts.
    pub(super) fn finish(self) -> (bool, Option<OwnedFd>) {
        drop(self.prober);
        let killed = self.cgroup.oom_kill_count() > 0;
        // Processes can outlive the first one where it is not PID 1 of its namespace. What cannot be removed now is
        // used again by the next start.
        drop(self.cgroup.kill_all());
        drop(self.cgroup.remove());
        (killed, self.mounts)
    }
}

fn start(
    store: &Store,
    spec: &ContainerSpec,
    network: &mut Network,
    cgroup: &Cgroup,
    size: Option<(u16, u16)>,
    announce: impl FnOnce(ProcessIdentity, &Network) -> Result<()>,
) -> Result<(Running, Stdio)> {
    let run_folder = store.containers().run_folder(&spec.id);
    let (mut ours, inside) = Stdio::create(&run_folder, &spec.process, size)?;
    let launch = launch::resolve(store, spec, network, cgroup, inside)?;
    let mut prepared = runtime::prepare(&launch)?;
    // With it go our copies of the container's ends: only then does the end of the last writer show.
    drop(launch);
    if has_own_network(spec) && network.namespace.is_none() {
        network.connect(store, spec, prepared.net_namespace()?)?;
    }
    launch::write_etc_files(store, spec, network)?;
    if let Some(console) = prepared.take_console() {
        let failed = |source| Error::System { operation: "set up the terminal", id: spec.id.clone(), source };
        ours.set_console(console).map_err(failed)?;
    }
    announce(prepared.identity(), network)?;
    Ok((prepared.start()?, ours))
}

/// The exit code of a process that somebody else reaps: from its zombie, else from the kernel's memory of it
/// (Linux 6.15), else [`EXIT_CODE_UNKNOWN`]. `None` while it runs.
fn adopted_exit_code(process: &Running) -> Option<i32> {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(process.pidfd.as_fd(), rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    if !matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1)) {
        return None;
    }
    let status = crate::sys::daemon::pidfd_wait_status(process.pidfd.as_fd())
        .or_else(|| zombie_wait_status(process))
        // It may have been reaped between the two looks.
        .or_else(|| crate::sys::daemon::pidfd_wait_status(process.pidfd.as_fd()));
    Some(status.map_or(EXIT_CODE_UNKNOWN, exit_code_of))
}

/// Docker's reading of a wait status: 128+n for signal n.
fn exit_code_of(status: i32) -> i32 {
    match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

/// Field 52 of /proc/PID/stat, which a zombie keeps. Source: proc_pid_stat(5).
fn zombie_wait_status(process: &Running) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.identity.pid)).ok()?;
    // The program's name may hold anything, also parentheses; what follows the last one is numbers.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let start: u64 = fields.get(19)?.parse().ok()?;
    if start != process.identity.start_ticks || *fields.first()? != "Z" {
        return None;
    }
    fields.get(49)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn wait_statuses_are_read_as_docker_reads_them() {
        for (status, code) in [(0, 0), (42 << 8, 42), (9, 137), (15 | 0x80, 143), (255 << 8, 255)] {
            assert_eq!(super::exit_code_of(status), code);
        }
    }
}
