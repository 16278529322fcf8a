//! Bells between threads, as descriptors to wait for beside others.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Something to wait for that any thread can ring.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// One that is silent.
    pub fn new() -> rustix::io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Wakes whoever waits, or the next one that does.
    pub fn ring(&self) {
        // It can only fail when it was rung more often than anybody can count.
        let _rung = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it silent again.
    pub fn clear(&self) {
        let _silent = rustix::io::read(&self.0, &mut [0; 8]);
    }

    /// Readable while it rings.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The end of a watch, as a wish.
#[derive(Debug)]
pub struct Stop {
    flag: AtomicBool,
    bell: Bell,
    building: AtomicBool,
}

impl Stop {
    /// Nobody wishes it yet.
    pub fn new() -> rustix::io::Result<Self> {
        Ok(Self { flag: AtomicBool::new(false), bell: Bell::new()?, building: AtomicBool::new(false) })
    }

    /// Ends the watch.
    pub fn set(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.bell.ring();
    }

    /// Nobody wishes it any more: for the next watch, once this one has ended.
    pub fn reset(&self) {
        self.flag.store(false, Ordering::Relaxed);
        self.bell.clear();
    }

    /// Whether it is to end.
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Set once it is to end.
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// Whether images are being had: whoever ends the watch need not wait for that, the next command goes on there.
    pub fn is_building(&self) -> bool {
        self.building.load(Ordering::Relaxed)
    }

    pub(super) fn set_building(&self, building: bool) {
        self.building.store(building, Ordering::Relaxed);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.bell.fd()
    }
}

/// Waits until one of the descriptors is readable, or the time is over.
pub fn wait(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> rustix::io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    let timeout = timeout.map(|time| Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ });
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}
