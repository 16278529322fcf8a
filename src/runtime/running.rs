//! A container process that waits for its start, and one that runs.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::Error;
use crate::model::container::ProcessIdentity;

/// A process that is being set up and waits for [`Prepared::start`]. Dropping it kills the process.
#[derive(Debug)]
pub struct Prepared {
    identity: ProcessIdentity,
    pidfd: OwnedFd,
    console: Option<OwnedFd>,
}

impl Prepared {
    /// The process.
    pub fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    /// A handle of the process, for poll(2) and signals.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.pidfd.as_fd()
    }

    /// Its network namespace, for the caller to furnish.
    pub fn net_namespace(&self) -> Result<OwnedFd, Error> {
        todo!()
    }

    /// The master side of its terminal, once, when it has one.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Lets the process go and returns when the user's program runs, or with the reason why it does not.
    ///
    /// The error's [`exit_code`](crate::base::error::Explain::exit_code) is 125, 126 or 127, as Docker has them.
    pub fn start(self) -> Result<Running, Error> {
        todo!()
    }
}

/// A process that runs. Dropping it does nothing to the process.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub identity: ProcessIdentity,
    /// A handle of it: readable when it ended.
    pub pidfd: OwnedFd,
    /// The master side of its terminal, when `exec` gave it one.
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
        todo!()
    }

    /// Reaps the process if it ended.
    pub fn try_wait(&self) -> Result<Option<ExitStatus>, Error> {
        todo!()
    }
}

/// Opens the process `identity` names, if that very process still exists (it may be a zombie).
pub fn identify(identity: ProcessIdentity) -> Option<OwnedFd> {
    let _ = identity;
    todo!()
}

/// Whether the process `identity` names exists and has not ended.
pub fn is_alive(identity: ProcessIdentity) -> bool {
    let _ = identity;
    todo!()
}
