//! Tells when something changes in folders.
//!
//! A host gives away few inotify instances (`fs.inotify.max_user_instances`, 128 for each user), and others need them,
//! too. Who gets none is told every [`PERIOD`] that something may have changed: to look again is always right, and
//! nobody fails for want of a watch.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

pub use rustix::fs::inotify::WatchFlags as Changes;

use super::fs::{Context, Result};

/// How often one looks who cannot be told.
const PERIOD: Duration = Duration::from_millis(50);

/// Watches on folders. Its descriptor becomes readable when there may be news.
#[derive(Debug)]
pub struct FolderWatch {
    fd: OwnedFd,
    /// The descriptor is a timer's: the host has no instance or no watch left.
    ticks: bool,
}

/// One of the watches, to be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(Option<i32>);

impl FolderWatch {
    /// Watches `folder` for `changes`. Errors: the folder is not there, or this process has no descriptor left.
    pub fn new(folder: &Path, changes: Changes) -> Result<Self> {
        let mut watch = match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(fd) => Self { fd, ticks: false },
            Err(Errno::MFILE | Errno::NFILE) => Self { fd: ticker().context("watch", folder)?, ticks: true },
            Err(errno) => return Err(errno).context("watch", folder),
        };
        watch.add(folder, changes)?;
        Ok(watch)
    }

    /// Watches another folder, too. Errors: it is not there.
    pub fn add(&mut self, folder: &Path, changes: Changes) -> Result<Place> {
        if !self.ticks {
            match inotify::add_watch(&self.fd, folder, changes) {
                Ok(number) => return Ok(Place(Some(number))),
                // Of watches there are many, but not without end (`fs.inotify.max_user_watches`).
                Err(Errno::NOSPC) => *self = Self { fd: ticker().context("watch", folder)?, ticks: true },
                Err(errno) => return Err(errno).context("watch", folder),
            }
        }
        rustix::fs::stat(folder).context("watch", folder)?;
        Ok(Place(None))
    }

    /// Takes a watch back.
    pub fn remove(&self, place: Place) {
        if let (Some(number), false) = (place.0, self.ticks) {
            // Gone with its folder: then there is nothing to take back.
            let _gone = inotify::remove_watch(&self.fd, number);
        }
    }

    /// Takes the news; whether there were any. Whoever looks after that misses nothing.
    pub fn drain(&self) -> bool {
        let mut any = false;
        if self.ticks {
            let mut count = [0; 8];
            while rustix::io::read(&self.fd, &mut count).is_ok_and(|length| length > 0) {
                any = true;
            }
            return any;
        }
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.fd, &mut buffer);
        while let Ok(event) = events.next() {
            // Watches that were taken back say so once.
            any |= event.events() != ReadFlags::IGNORED;
        }
        any
    }
}

impl AsFd for FolderWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A descriptor that becomes readable once a period.
fn ticker() -> rustix::io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let period = Timespec::try_from(PERIOD).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: period, it_value: period })?;
    Ok(timer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn has_news(watch: &FolderWatch, patience: Duration) -> bool {
        let timeout = Timespec::try_from(patience).expect("short");
        poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&timeout)).expect("it can be waited for") == 1
    }

    #[test]
    fn a_change_is_told_once_and_a_watch_that_is_taken_back_tells_nothing() {
        let folder = &std::env::temp_dir().join(format!("wharf-test-{}", crate::base::id::random_hex(6)));
        std::fs::create_dir_all(folder.join("inner")).expect("it can be made");
        let mut watch = FolderWatch::new(folder, Changes::CREATE).expect("it can be watched");
        let inner = watch.add(&folder.join("inner"), Changes::CREATE).expect("it can be watched");
        watch.remove(inner);
        std::fs::write(folder.join("inner/file"), "").expect("it can be written");
        assert!(!watch.drain());
        std::fs::write(folder.join("file"), "").expect("it can be written");
        assert!(has_news(&watch, Duration::from_secs(10)) && watch.drain());
        assert!(!has_news(&watch, Duration::ZERO) && !watch.drain());
        assert!(FolderWatch::new(&folder.join("missing"), Changes::CREATE).is_err());
        std::fs::remove_dir_all(folder).expect("it can be removed");
    }

    #[test]
    fn without_an_instance_the_time_tells() {
        let watch = FolderWatch { fd: ticker().expect("a timer"), ticks: true };
        for _ in 0..2 {
            assert!(has_news(&watch, Duration::from_secs(10)) && watch.drain());
        }
    }
}
