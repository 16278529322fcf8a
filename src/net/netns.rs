//! Doing something inside a container's network namespace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Error, Result};

/// Runs `work` with the calling thread in the network namespace `netns`, then goes back. Sockets made there stay
/// in it; /proc/sys/net shows it.
///
/// Only the calling thread moves, so other threads see nothing of it.
/// Errors: `Namespace`. A thread that cannot go back must not go on in the wrong namespace: the process ends.
pub fn inside<T>(netns: BorrowedFd<'_>, work: impl FnOnce() -> T) -> Result<T> {
    let home = rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::Namespace(errno.into()))?;
    enter(netns).map_err(Error::Namespace)?;
    let back = Home(home);
    let result = work();
    drop(back);
    Ok(result)
}

/// Goes home when dropped, also when the work panics in a build that unwinds.
struct Home(rustix::fd::OwnedFd);

impl Drop for Home {
    fn drop(&mut self) {
        if enter(self.0.as_fd()).is_err() {
            std::process::abort();
        }
    }
}

fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?)
}
