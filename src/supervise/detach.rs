//! Leaves the caller behind: what a daemon would shield a container from is reset here.
//!
//! A command line forks a supervisor, so the supervisor begins with the caller's descriptors, signals, limits,
//! priorities, control group and terminal. None of it may reach the container, and nothing may tie the supervisor's
//! life to the caller's session.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, RawFd};

use rustix::process::{Resource, Rlimit, WaitOptions};

use crate::base::fs;
use crate::sys::daemon::{self, Fork};

/// More open files than a supervisor ever needs; a larger limit would only slow down what walks all of them.
const OPEN_FILES_MAX: u64 = 4096;

/// Runs `body` in a new process that has no parent to wait for it, with the descriptors `keep` and no others; what
/// it returns is that process's exit code. Returns in the caller at once.
///
/// Errors: `Unsupported` in a process with several threads; what fork(2) says.
pub(super) fn spawn(keep: &[RawFd], cgroup_parent: &str, body: impl FnOnce() -> i32) -> io::Result<()> {
    match daemon::fork()? {
        Fork::Parent { pid } => {
            while let Err(rustix::io::Errno::INTR) = rustix::process::waitpid(Some(pid), WaitOptions::empty()) {}
            Ok(())
        }
        Fork::Child => {
            // A failure of either shows as a report that never comes.
            let _leader = rustix::process::setsid();
            match daemon::fork() {
                Ok(Fork::Child) => {
                    let code = leave(keep, cgroup_parent).map_or(1, |()| body());
                    daemon::exit_now(code)
                }
                Ok(Fork::Parent { .. }) | Err(_) => daemon::exit_now(0),
            }
        }
    }
}

fn leave(keep: &[RawFd], cgroup_parent: &str) -> fs::Result<()> {
    use crate::base::fs::Context as _;
    use std::path::Path;
    let null = super::stdio::null()?;
    let standard = |result: rustix::io::Result<()>| result.context("duplicate", Path::new("/dev/null"));
    standard(rustix::stdio::dup2_stdin(null.as_fd()))?;
    standard(rustix::stdio::dup2_stdout(null.as_fd()))?;
    standard(rustix::stdio::dup2_stderr(null.as_fd()))?;
    drop(null);
    daemon::close_all_but(keep).context("close descriptors above", Path::new("/dev/stderr"))?;
    rustix::process::chdir("/").context("enter", Path::new("/"))?;
    daemon::reset_signals().context("reset the signals of", Path::new("/proc/self"))?;
    daemon::ignore_broken_pipes();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    reset_scheduling();
    reset_limits();
    reset_oom_score();
    // Without control groups, or in a group that cannot be left, the container still runs as it should.
    drop(crate::runtime::cgroup::enter_supervisors(cgroup_parent));
    name_process(c"wharf-supervise");
    Ok(())
}

fn name_process(name: &CStr) {
    // For people who look at `ps`; nothing depends on it.
    let _unnamed = rustix::thread::set_name(name);
}

/// Best effort: a caller that was restricted on purpose (cpuset, no right to raise its priority) stays restricted.
fn reset_scheduling() {
    daemon::reset_scheduling();
    let mut all = rustix::thread::CpuSet::new();
    for cpu in 0..rustix::thread::CpuSet::MAX_CPU {
        all.set(cpu);
    }
    let _refused = rustix::thread::sched_setaffinity(None, &all);
}

/// Lifts the limits that would make a supervisor fail at a later time, as far as their hard limits go.
fn reset_limits() {
    for resource in [Resource::Cpu, Resource::Fsize, Resource::As, Resource::Data] {
        let limit = rustix::process::getrlimit(resource);
        let _refused = rustix::process::setrlimit(resource, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    allow_open_files();
    let files = rustix::process::getrlimit(Resource::Nofile);
    if files.current.is_none_or(|soft| soft > OPEN_FILES_MAX) {
        let wished = Rlimit { current: Some(OPEN_FILES_MAX), maximum: files.maximum };
        let _refused = rustix::process::setrlimit(Resource::Nofile, wished);
    }
}

/// Lets this process have as many open files as wharf ever needs, if it may: the limit of the caller's shell is about
/// its own programs, and containers get theirs from their specs.
pub fn allow_open_files() {
    let files = rustix::process::getrlimit(Resource::Nofile);
    let wish = |current: u64, maximum: Option<u64>| {
        let wished = Rlimit { current: Some(current), maximum };
        rustix::process::setrlimit(Resource::Nofile, wished).is_ok()
    };
    match files.maximum {
        // More takes CAP_SYS_RESOURCE.
        Some(hard) if hard < OPEN_FILES_MAX => {
            let _as_far_as_it_goes = wish(OPEN_FILES_MAX, Some(OPEN_FILES_MAX)) || wish(hard, Some(hard));
        }
        hard if files.current.is_some_and(|soft| soft < OPEN_FILES_MAX) => {
            let _refused = wish(OPEN_FILES_MAX, hard);
        }
        _ => {}
    }
}

/// The last process to kill when memory is out: it holds no memory, and its container's output would be lost.
/// Lowering needs CAP_SYS_RESOURCE; without it the caller's own adjustment is taken off as far as that goes.
fn reset_oom_score() {
    for score in ["-999", "0"] {
        if std::fs::write("/proc/self/oom_score_adj", score).is_ok() {
            return;
        }
    }
}
