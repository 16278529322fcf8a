//! A process that holds open what would end a container when its supervisor dies: the master of its terminal (a
//! hang-up) or the write end of its stdin (an end of input).
//!
//! Output needs none of this, since FIFOs have a name. Only containers with a terminal or an open stdin have a keeper;
//! it sleeps until the container's process ends. A successor takes the descriptors out of it with pidfd_getfd(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};

use crate::model::container::ProcessIdentity;
use crate::runtime;
use crate::sys::daemon::{self, Fork};

/// A keeper; it is ended when the value is dropped, for nothing is left to keep then.
#[derive(Debug)]
pub(super) struct Keeper {
    pidfd: OwnedFd,
    kept: Kept,
}

/// Who keeps what, for a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    process: ProcessIdentity,
    /// Number of its descriptor of the terminal's master.
    console: Option<i32>,
    /// Number of its descriptor of the input's write end.
    stdin: Option<i32>,
}

impl Keeper {
    /// Makes a keeper of these descriptors for as long as `process` lives.
    pub(super) fn spawn(
        process: BorrowedFd<'_>,
        console: Option<&OwnedFd>,
        stdin: Option<&OwnedFd>,
    ) -> io::Result<Self> {
        let number = |fd: Option<&OwnedFd>| fd.map(AsRawFd::as_raw_fd);
        let (console, stdin) = (number(console), number(stdin));
        match daemon::fork()? {
            Fork::Child => {
                let keep: Vec<i32> = [Some(process.as_raw_fd()), console, stdin].into_iter().flatten().collect();
                daemon::exit_now(sleep(process, &keep))
            }
            Fork::Parent { pid } => {
                let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
                let gone = || io::Error::from_raw_os_error(libc::ESRCH);
                let process = runtime::identity_of(pid.as_raw_nonzero().get()).ok_or_else(gone)?;
                Ok(Self { pidfd, kept: Kept { process, console, stdin } })
            }
        }
    }

    /// Takes over the keeper that a dead supervisor made.
    pub(super) fn adopt(kept: Kept) -> Option<Self> {
        Some(Self { pidfd: runtime::identify(kept.process)?, kept })
    }

    /// For the card.
    pub(super) fn kept(&self) -> Kept {
        self.kept
    }

    /// The master of the terminal that it keeps.
    pub(super) fn console(&self) -> Option<OwnedFd> {
        self.take(self.kept.console)
    }

    /// The write end of the input that it keeps.
    pub(super) fn stdin(&self) -> Option<OwnedFd> {
        self.take(self.kept.stdin)
    }

    fn take(&self, number: Option<i32>) -> Option<OwnedFd> {
        rustix::process::pidfd_getfd(&self.pidfd, number?, PidfdGetfdFlags::empty()).ok()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _refused = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        // An adopted one is not our child and is reaped by whose it is.
        let _refused = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// The life of a keeper.
fn sleep(process: BorrowedFd<'_>, keep: &[i32]) -> i32 {
    let _unnamed = rustix::thread::set_name(c"wharf-keep");
    if daemon::close_all_but(keep).is_err() {
        return 1;
    }
    loop {
        let mut fds = [PollFd::from_borrowed_fd(process, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return 0,
            Err(_) => return 1,
        }
    }
}
