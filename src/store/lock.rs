//! Locks on files that end with their holder.
//!
//! They are open-file-description locks (fcntl(2), `F_OFD_SETLK`): the kernel drops one when the last copy of its
//! descriptor is closed, so kill -9 leaves none behind; unlike flock(2) another process can ask whether one is
//! held without taking it, so a look never makes somebody's attempt fail.
//!
//! A lock file may be removed by its holder: whoever waited for it notices and starts anew on the new file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

use crate::base::fs::{self, Context};

/// A held lock; released when dropped, or when the last process that inherited its descriptor is gone.
///
/// A forked child inherits it until it calls exec; [`Lock::release`] ends it for parent and child alike.
#[derive(Debug)]
pub struct Lock {
    // Fields are dropped in this order: the file goes before the lock does, so nobody can lock it in between.
    removal: Option<Removal>,
    file: File,
    path: PathBuf,
}

/// Removes a lock's file when dropped.
#[derive(Debug)]
struct Removal(PathBuf);

impl Drop for Removal {
    fn drop(&mut self) {
        // A file that stays is an unlocked lock: harmless.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Lock {
    /// Waits until the lock at `path` is this process's alone. Missing folders are made.
    pub fn exclusive(path: &Path) -> fs::Result<Self> {
        loop {
            if let Some(lock) = Self::attempt(path, libc::F_WRLCK, true)? {
                return Ok(lock);
            }
        }
    }

    /// Waits until nobody holds the lock at `path` alone, and keeps others from doing so.
    pub fn shared(path: &Path) -> fs::Result<Self> {
        loop {
            if let Some(lock) = Self::attempt(path, libc::F_RDLCK, true)? {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock at `path` if nobody has it; `None` when it is held.
    pub fn try_exclusive(path: &Path) -> fs::Result<Option<Self>> {
        Self::attempt(path, libc::F_WRLCK, false)
    }

    /// Whether somebody holds the lock at `path` alone. A missing file is a free lock.
    pub fn is_held(path: &Path) -> fs::Result<bool> {
        let file = match OpenOptions::new().read(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(fs::Error { operation: "open", path: path.to_owned(), source }),
        };
        let mut range = whole_file(libc::F_RDLCK);
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut range)).map_err(io::Error::from).context("look at the lock", path)?;
        Ok(range.l_type != libc::F_UNLCK as libc::c_short)
    }

    /// Removes the file of a lock that nobody holds.
    ///
    /// Under the lock itself: between a look and the removal somebody could have taken it, who would then hold a file
    /// that nobody else finds. Who waits for it meanwhile makes another.
    pub(super) fn remove_free(path: &Path) -> fs::Result<()> {
        // A look first: an attempt would make the file again that its holder has just removed.
        if !Self::is_held(path)? {
            drop(Self::try_exclusive(path)?.map(Self::removed_on_release));
        }
        Ok(())
    }

    /// Takes over a lock whose descriptor came through exec.
    pub fn from_fd(descriptor: OwnedFd, path: PathBuf) -> Self {
        Self { removal: None, file: File::from(descriptor), path }
    }

    /// Gives up ownership of the descriptor without releasing the lock, to pass it through exec.
    pub fn into_fd(self) -> OwnedFd {
        self.file.into()
    }

    /// Releases the lock now, also when a forked child still has the descriptor.
    pub fn release(self) {
        drop(self.removal);
        // Unlocking a lock that is held cannot fail.
        let _closing_follows = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&whole_file(libc::F_UNLCK)));
    }

    /// The lock's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file when the lock is released.
    pub(super) fn removed_on_release(mut self) -> Self {
        self.removal = Some(Removal(self.path.clone()));
        self
    }

    fn attempt(path: &Path, kind: libc::c_int, wait: bool) -> fs::Result<Option<Self>> {
        loop {
            let file = open(path)?;
            let range = whole_file(kind);
            let request = if wait { FcntlArg::F_OFD_SETLKW(&range) } else { FcntlArg::F_OFD_SETLK(&range) };
            match fcntl(&file, request) {
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => return Ok(None),
                Err(errno) => return Err(io::Error::from(errno)).context("lock", path),
            }
            if is_still_at(&file, path)? {
                return Ok(Some(Self { removal: None, file, path: path.to_owned() }));
            }
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path) -> fs::Result<File> {
    let attempt = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    match attempt() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            attempt().context("open", path)
        }
        other => other.context("open", path),
    }
}

/// Whether `path` still names `file`: its last holder may have removed it while we waited.
fn is_still_at(file: &File, path: &Path) -> fs::Result<bool> {
    let ours = file.metadata().context("look at", path)?;
    match std::fs::metadata(path) {
        Ok(theirs) => Ok(ours.ino() == theirs.ino() && ours.dev() == theirs.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(fs::Error { operation: "look at", path: path.to_owned(), source }),
    }
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::Folder;

    #[test]
    fn only_the_file_of_a_free_lock_is_removed() {
        let folder = Folder::new();
        let path = folder.path().join("lock");
        let lock = Lock::exclusive(&path).unwrap();
        Lock::remove_free(&path).unwrap();
        assert!(path.exists());
        drop(lock);
        // Somebody who has opened it but not locked it yet gets another file, with a lock that others find.
        let late = open(&path).unwrap();
        Lock::remove_free(&path).unwrap();
        assert!(!path.exists() && !is_still_at(&late, &path).unwrap());
        let _lock = Lock::exclusive(&path).unwrap();
        assert!(Lock::is_held(&path).unwrap());
        // Nothing to remove makes nothing.
        Lock::remove_free(&folder.path().join("none")).unwrap();
        assert!(!folder.path().join("none").exists());
    }

    #[test]
    fn a_lock_is_exclusive_and_visible_to_others() {
        let folder = Folder::new();
        let path = folder.path().join("deep/lock");
        assert!(!Lock::is_held(&path).unwrap());
        let lock = Lock::exclusive(&path).unwrap();
        assert!(Lock::is_held(&path).unwrap());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(lock);
        assert!(!Lock::is_held(&path).unwrap());
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn who_waits_for_a_removed_lock_file_gets_the_new_one() {
        let folder = Folder::new();
        let path = folder.path().join("lock");
        let counter = std::sync::atomic::AtomicUsize::new(0);
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = Lock::exclusive(&path).unwrap().removed_on_release();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two holders");
                        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(counter.into_inner(), 400);
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_survives_as_a_descriptor() {
        let folder = Folder::new();
        let path = folder.path().join("lock");
        let descriptor = Lock::exclusive(&path).unwrap().into_fd();
        assert!(Lock::is_held(&path).unwrap());
        Lock::from_fd(descriptor, path.clone()).release();
        assert!(!Lock::is_held(&path).unwrap());
    }
}
