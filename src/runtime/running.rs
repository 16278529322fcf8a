//! A container process that waits for its start, and one that runs.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use super::Error;
use super::plan::{CREATED, Channels, Failure, MOUNTED, Names, READY};
use crate::model::container::ProcessIdentity;
use crate::sys::process::Child;

/// A process that is being set up and waits for [`Prepared::start`]. Dropping it kills the process and reaps it.
#[derive(Debug)]
pub struct Prepared {
    identity: ProcessIdentity,
    // Taken by `start`; what is left is killed on drop.
    pidfd: Option<OwnedFd>,
    go: OwnedFd,
    listen: OwnedFd,
    console: Option<OwnedFd>,
    names: Names,
}

impl Prepared {
    /// Takes over a cloned child and the parent's ends of its channels.
    pub(super) fn new(child: Child, channels: Channels, names: Names, console: Option<OwnedFd>) -> Result<Self, Error> {
        let Channels { go, wait, listen, report } = channels;
        // Were the child's ends kept here, its end would never be seen.
        drop((wait, report));
        let pid = child.pid;
        let mut prepared = Self {
            identity: ProcessIdentity { pid, start_ticks: 0 },
            pidfd: Some(child.pidfd),
            go,
            listen,
            console,
            names,
        };
        // Our own child that was not reaped: the number cannot have been given to another.
        prepared.identity.start_ticks = start_ticks(pid).ok_or(Error::Died)?;
        Ok(prepared)
    }

    /// The process.
    pub fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    /// A handle of the process, for poll(2) and signals.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        // Only `start` takes it, and consumes the value with it.
        self.pidfd.as_ref().map_or_else(|| self.go.as_fd(), OwnedFd::as_fd)
    }

    /// Its network namespace, for the caller to furnish. Only of use with [`super::NetNamespace::New`].
    pub fn net_namespace(&self) -> Result<OwnedFd, Error> {
        open_namespace(self.identity.pid, "net").map_err(|errno| match errno {
            // It has failed already, in building its root: its report says why.
            Errno::NOENT | Errno::SRCH => outcome(&self.listen, &self.names).err().unwrap_or(Error::Died),
            errno => refused(self.identity.pid, "net", errno),
        })
    }

    /// The master side of its terminal, once, when it has one.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Waits until its mounts are made and its root is still the host's; only of a bundle.
    pub fn mounted(&self) -> Result<(), Error> {
        self.reached(MOUNTED)
    }

    /// Lets it go on from there, and waits until all of it is made.
    pub fn created(&self) -> Result<(), Error> {
        self.let_go()?;
        self.reached(CREATED)
    }

    /// Leaves it alone: it waits to be let go by [`super::bundle::start`].
    pub fn leave(mut self) -> ProcessIdentity {
        self.pidfd = None;
        self.identity
    }

    fn reached(&self, stage: u8) -> Result<(), Error> {
        let mut bytes = [0u8; 12];
        let length = loop {
            match rustix::io::read(&self.listen, &mut bytes) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(hearing(errno.into())),
                Ok(length) => break length,
            }
        };
        match bytes.get(..length) {
            Some([reached]) if *reached == stage => Ok(()),
            Some(_) if length == bytes.len() => {
                Err(Failure::from_bytes(&bytes).map_or(Error::Died, |failure| self.names.explain(failure)))
            }
            _ => Err(Error::Died),
        }
    }

    fn let_go(&self) -> Result<(), Error> {
        // A child that failed already has closed its end: what it reported counts.
        match rustix::io::write(&self.go, &[1]) {
            Ok(_) | Err(Errno::PIPE) => Ok(()),
            Err(errno) => Err(Error::Step { step: "let the process go".into(), source: errno.into() }),
        }
    }

    /// Lets the process go and returns when the user's program runs, or with the reason why it does not.
    ///
    /// The error's [`exit_code`](crate::base::error::Explain::exit_code) is 125, 126 or 127, as Docker has them.
    pub fn start(mut self) -> Result<Running, Error> {
        self.let_go()?;
        match outcome(&self.listen, &self.names) {
            Ok(()) => {
                let Some(pidfd) = self.pidfd.take() else { return Err(Error::Died) };
                Ok(Running { identity: self.identity, pidfd, console: self.console.take() })
            }
            Err(error) => Err(error),
        }
    }
}

fn hearing(source: std::io::Error) -> Error {
    Error::Step { step: "read the report of the process".into(), source }
}

/// Reads the child's report to its end.
fn outcome(listen: &OwnedFd, names: &Names) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let copy = listen.try_clone();
    copy.and_then(|pipe| std::fs::File::from(pipe).take(64).read_to_end(&mut bytes)).map_err(hearing)?;
    let (ready, failure) = match bytes.split_first() {
        Some((&READY, rest)) if rest.len() == 12 || rest.is_empty() => (true, rest),
        _ => (false, bytes.as_slice()),
    };
    match <&[u8; 12]>::try_from(failure).ok().and_then(Failure::from_bytes) {
        Some(failure) => Err(names.explain(failure)),
        None if ready => Ok(()),
        None => Err(Error::Died),
    }
}

/// Lets a child go that another process made with named channels.
pub(super) fn start_named(go: &std::path::Path, report: &std::path::Path, names: &Names) -> Result<(), Error> {
    // Without blocking: a child that is gone has neither end open.
    let open = |path: &std::path::Path, flags| {
        rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| match errno {
            Errno::NXIO => Error::Died,
            _ => Error::Step { step: format!("open the pipe {}", path.display()), source: errno.into() },
        })
    };
    let listen = open(report, OFlags::RDONLY)?;
    let go = open(go, OFlags::WRONLY)?;
    rustix::fs::fcntl_setfl(&listen, OFlags::empty()).map_err(|errno| hearing(errno.into()))?;
    rustix::io::write(&go, &[1]).map_err(|_| Error::Died)?;
    outcome(&listen, names)
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            // A process that ended by itself needs no signal; both are reaped.
            let _: Result<(), Errno> = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            let _: Result<ExitStatus, Error> = wait(pidfd.as_fd());
        }
    }
}

/// A process that runs. Dropping it does nothing to the process.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub identity: ProcessIdentity,
    /// A handle of it: readable when it ended.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, unless `take_console` took it before.
    pub console: Option<OwnedFd>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// Its exit code; 128+n when killed by signal n.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
}

impl Running {
    /// Waits for the end of the process and reaps it. The caller must be its parent.
    pub fn wait(&self) -> Result<ExitStatus, Error> {
        wait(self.pidfd.as_fd())
    }

    /// Reaps the process if it ended.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, Error> {
        wait_with(self.pidfd.as_fd(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        send_signal(self.pidfd.as_fd(), signal)
    }
}

/// Sends a signal by number through a pidfd; to a process that ended is fine. Source: pidfd_send_signal(2).
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Error> {
    match crate::sys::process::send_signal(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => {
            Err(Error::Step { step: format!("{} {signal}", super::error::SEND_SIGNAL), source: errno.into() })
        }
    }
}

/// Waits for a child of ours that ends by itself, and reaps it.
pub(super) fn reap(pidfd: BorrowedFd<'_>) -> Result<(), Error> {
    wait(pidfd).map(drop)
}

/// Waits for a child by its pidfd and reaps it.
fn wait(pidfd: BorrowedFd<'_>) -> Result<ExitStatus, Error> {
    loop {
        if let Some(status) = wait_with(pidfd, WaitIdOptions::EXITED)? {
            return Ok(status);
        }
    }
}

fn wait_with(pidfd: BorrowedFd<'_>, options: WaitIdOptions) -> Result<Option<ExitStatus>, Error> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), options) {
            Ok(None) => return Ok(None),
            Ok(Some(status)) => {
                let signal = status.terminating_signal();
                let code = signal.map_or_else(|| status.exit_status().unwrap_or(0), |signal| 128 + signal);
                return Ok(Some(ExitStatus { code, signal }));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Step { step: "wait for the process".into(), source: errno.into() }),
        }
    }
}

/// Opens the process `identity` names, if that very process still exists (it may be a zombie).
pub fn identify(identity: ProcessIdentity) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(identity.pid)?, PidfdFlags::empty()).ok()?;
    // Read after it was opened: had the number been given to another before, the start would differ.
    (start_ticks(identity.pid)? == identity.start_ticks).then_some(pidfd)
}

/// Whether the process `identity` names exists and has not ended.
pub fn is_alive(identity: ProcessIdentity) -> bool {
    let Some(pidfd) = identify(identity) else { return false };
    let mut poll = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    // A pidfd is readable once its process ended.
    matches!(rustix::event::poll(&mut poll, Some(&timeout)), Ok(0))
}

/// The identity of a process by its number now; `None` when there is none.
pub fn identity_of(pid: i32) -> Option<ProcessIdentity> {
    Some(ProcessIdentity { pid, start_ticks: start_ticks(pid)? })
}

/// Start of a process in clock ticks since boot: field 22 of /proc/PID/stat.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses that may contain any byte; the last one ends it.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Opens a namespace (`net`, `mnt`, …) of a process that may have been replaced by another.
pub fn namespace_of(identity: ProcessIdentity, kind: &str) -> Result<OwnedFd, Error> {
    let not_running = Error::NotRunning { pid: identity.pid };
    let Some(_pidfd) = identify(identity) else { return Err(not_running) };
    let namespace = open_namespace(identity.pid, kind).map_err(|errno| refused(identity.pid, kind, errno))?;
    // Still the same process after the file was opened by number?
    let alive = identify(identity).is_some();
    if alive { Ok(namespace) } else { Err(not_running) }
}

fn open_namespace(pid: i32, kind: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(format!("/proc/{pid}/ns/{kind}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn refused(pid: i32, kind: &str, errno: Errno) -> Error {
    match errno {
        Errno::NOENT | Errno::SRCH => Error::NotRunning { pid },
        _ => Error::Step { step: format!("open the {kind} namespace of process {pid}"), source: errno.into() },
    }
}
