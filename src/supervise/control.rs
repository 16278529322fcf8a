//! What a command does to a running container without asking its supervisor: signals. And what it asks for: freezing, and a
//! changed spec.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::start::is_active;
use super::wait::wait_exited;
use super::{AttachStream, Error, Frame, Result, heal};
use crate::base::id::ContainerId;
use crate::model::container::{ContainerSpec, ContainerState, ProcessIdentity, Status};
use crate::model::journal::Entry;
use crate::runtime::{self, Cgroup};
use crate::store::{Store, Wish};

/// See [`super::stop`].
pub(super) fn stop(store: &Store, id: &ContainerId, timeout: Option<Duration>, signal: Option<i32>) -> Result<i32> {
    heal::one(store, id)?;
    store.containers().set_wish(id, Wish::Stopped)?;
    let state = store.containers().state(id)?;
    if !is_active(&state) {
        return Ok(state.exit_code);
    }
    let spec = store.containers().spec(id)?;
    if let Some((identity, pidfd)) = process(&state) {
        let timeout = timeout.unwrap_or(Duration::from_millis(spec.stop_timeout_ms));
        let signal = signal.unwrap_or(spec.stop_signal);
        let ended = can_react(identity, signal) && {
            note_signal(store, &spec, signal);
            // A profile of AppArmor may keep signals out: then there is nothing to wait for.
            let is_sent = send(&pidfd, signal).is_ok();
            if state.status == Status::Paused {
                thaw(store, id)?;
            }
            is_sent && ends_within(&pidfd, timeout)
        };
        if !ended {
            note_signal(store, &spec, libc::SIGKILL);
            kill_hard(store, id, &pidfd)?;
        }
    }
    let code = wait_exited(store, id)?;
    store.journal().note(&Entry::of_container(&spec, "stop"));
    Ok(code)
}

/// See [`super::kill`].
pub(super) fn kill(store: &Store, id: &ContainerId, signal: i32) -> Result<()> {
    heal::one(store, id)?;
    let state = store.containers().state(id)?;
    let not_running = || Error::NotRunning { id: id.clone() };
    let (_, pidfd) = process(&state).filter(|_| is_active(&state)).ok_or_else(not_running)?;
    let spec = store.containers().spec(id)?;
    if signal == libc::SIGKILL || signal == spec.stop_signal {
        store.containers().set_wish(id, Wish::Stopped)?;
    }
    note_signal(store, &spec, signal);
    match send(&pidfd, signal) {
        Err(_) if signal == libc::SIGKILL => return kill_hard(store, id, &pidfd),
        sent => sent?,
    }
    if signal == libc::SIGKILL && state.status == Status::Paused {
        // A frozen process of cgroup v1 does not die.
        thaw(store, id)?;
    }
    Ok(())
}

/// See [`super::pause`] and [`super::unpause`].
pub(super) fn freeze(store: &Store, id: &ContainerId, freeze: bool) -> Result<()> {
    heal::one(store, id)?;
    let state = store.containers().state(id)?;
    match (state.status, freeze) {
        (Status::Running, true) | (Status::Paused, false) => {}
        (Status::Paused, true) => return Err(Error::Paused { id: id.clone() }),
        (Status::Running, false) => return Err(Error::NotPaused { id: id.clone() }),
        _ => return Err(Error::NotRunning { id: id.clone() }),
    }
    ask(store, id, "change the freezer", &Frame::Freeze(freeze))
}

/// See [`super::reload`].
pub(super) fn reload(store: &Store, id: &ContainerId) -> Result<()> {
    heal::one(store, id)?;
    if !is_active(&store.containers().state(id)?) {
        return Ok(());
    }
    match ask(store, id, "change", &Frame::Reload) {
        // It ended meanwhile: its next start reads the spec.
        Err(_) if !is_active(&store.containers().state(id)?) => Ok(()),
        result => result,
    }
}

/// Has the supervisor do something, and waits for its answer.
fn ask(store: &Store, id: &ContainerId, operation: &'static str, frame: &Frame) -> Result<()> {
    let connection = observe(store, id)?;
    let failed = |source| Error::System { operation, id: id.clone(), source };
    connection.send(frame).map_err(failed)?;
    loop {
        match connection.receive().map_err(failed)? {
            Some(Frame::Answer(None)) => return Ok(()),
            Some(Frame::Answer(Some(reason))) => return Err(failed(std::io::Error::other(reason))),
            Some(_) => {}
            None => return Err(Error::SupervisorLost { id: id.clone() }),
        }
    }
}

/// A connection that is told how the container ends.
pub(super) fn observe(store: &Store, id: &ContainerId) -> Result<AttachStream> {
    Ok(AttachStream::new(super::clients::connect(&store.containers().run_folder(id))?))
}

/// Tells `events` of a signal, before the end that it may bring.
fn note_signal(store: &Store, spec: &ContainerSpec, signal: i32) {
    store.journal().note(&Entry::of_container(spec, "kill").with("signal", signal.to_string()));
}

/// The process of a container that still has one.
fn process(state: &ContainerState) -> Option<(ProcessIdentity, OwnedFd)> {
    let identity = state.process?;
    Some((identity, runtime::identify(identity)?))
}

fn send(pidfd: &OwnedFd, signal: i32) -> Result<()> {
    Ok(runtime::send_signal(pidfd.as_fd(), signal)?)
}

fn thaw(store: &Store, id: &ContainerId) -> Result<()> {
    Ok(Cgroup::of(&store.paths().instance(), &store.containers().spec(id)?)?.thaw()?)
}

/// Kills everything in the container, whatever state it is in.
fn kill_hard(store: &Store, id: &ContainerId, pidfd: &OwnedFd) -> Result<()> {
    let sent = send(pidfd, libc::SIGKILL);
    // The group may be gone already, with the process. Nothing keeps out a signal that comes by way of it.
    let spec = store.containers().spec(id)?;
    let killed = Cgroup::of(&store.paths().instance(), &spec).and_then(|cgroup| cgroup.kill_all());
    match sent.and(killed.map_err(Error::from)) {
        Err(error) if !ends_within(pidfd, Duration::from_secs(2)) => Err(error),
        _ => Ok(()),
    }
}

fn ends_within(pidfd: &OwnedFd, timeout: Duration) -> bool {
    let deadline = Instant::now().checked_add(timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Whether a signal can have an effect on a container's first process.
///
/// The kernel protects PID 1 of a namespace from signals that it has no handler for: neither handled nor blocked
/// (for sigwait or signalfd), a signal is lost, and to wait for its effect is to wait in vain. A first process that
/// is not PID 1 (shared PID namespace) has the default action. In doubt: yes.
/// Source: pid_namespaces(7), proc_pid_status(5).
pub(super) fn can_react(identity: ProcessIdentity, signal: i32) -> bool {
    let status = |path: &str| std::fs::read_to_string(path).ok();
    let Some(text) = status(&format!("/proc/{}/status", identity.pid)) else { return true };
    let facts = Facts::of(&text, signal);
    if !facts.is_first || facts.caught || facts.blocked {
        return true;
    }
    // Another thread may wait for it.
    let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", identity.pid)) else { return true };
    threads.flatten().any(|thread| {
        let path = thread.path().join("status");
        path.to_str().and_then(status).is_some_and(|text| Facts::of(&text, signal).blocked)
    })
}

/// What /proc/PID/status says about one signal.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    is_first: bool,
    caught: bool,
    blocked: bool,
}

impl Facts {
    fn of(status: &str, signal: i32) -> Self {
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let has = |name: &str| {
            let mask = field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
            let bit = u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift)).unwrap_or(0);
            mask.is_none_or(|mask| mask & bit != 0)
        };
        let numbers: Vec<&str> = field("NSpid").unwrap_or_default().split_whitespace().collect();
        Self {
            is_first: numbers.len() > 1 && numbers.last() == Some(&"1"),
            caught: has("SigCgt"),
            blocked: has("SigBlk"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_process_reacts_to_what_it_handles_or_blocks() {
        let text = "Name:\tsh\nNSpid:\t4242\t1\nSigBlk:\t0000000000000002\nSigIgn:\t0\nSigCgt:\t0000000000004000\n";
        assert_eq!(Facts::of(text, 15), Facts { is_first: true, caught: true, blocked: false });
        assert_eq!(Facts::of(text, 2), Facts { is_first: true, caught: false, blocked: true });
        assert_eq!(Facts::of(text, 1), Facts { is_first: true, caught: false, blocked: false });
        assert!(!Facts::of("NSpid:\t4242\nSigBlk:\t0\nSigCgt:\t0\n", 15).is_first);
        // A kernel that does not say is asked politely.
        assert!(Facts::of("NSpid:\t9\t1\n", 15).caught);
    }
}
