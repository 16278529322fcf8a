//! Brings single files of the host into a container's files as they are now: what `watch` does.
//!
//! A file appears whole or not at all: it is written beside its place under another name and renamed. What is gone
//! on the host goes in the container. Nothing is opened by a plain path on either side: in the container because
//! links may have been laid there, on the host because a container that mounts the folder could lay them.
//!
//! As with Compose a file belongs to the container's user where one is set, else to whom it belongs on the host;
//! mode and time are the host's.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::files::clean;
use super::owners::Owners;
use super::{Engine, Error, Result};
use crate::base::fs::Context;
use crate::base::id::ContainerId;
use crate::model::container::{ContainerSpec, MountSource, Status};
use crate::runtime::root::{mkdir_in_root, open_in_root, open_root};
use crate::runtime::{self, user};
use crate::store::Lock;
use crate::supervise;

/// The name of a file until it has its place: where the file system takes files without a name, from when it is whole
/// to the rename that follows at once. Fixed, so that one that a killed command left is replaced by the next, or swept
/// ([`Recipient::sweep`]); in a form that editors and watchers ignore.
const UNFINISHED: &str = ".wharf-sync~";
/// How long a container may be between two states of its record.
const PATIENCE: Duration = Duration::from_secs(2);
/// Deepest folder that is removed, so that a hostile tree cannot exhaust the stack.
const DEPTH_MAX: usize = 512;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// It is in the container as it is on the host.
    Copied,
    /// It is gone in the container, as it is on the host.
    Removed,
    /// There was nothing to do, or it is being written: its writer will tell.
    Unchanged,
}

/// A container that files are brought into.
pub struct Recipient {
    root: OwnedFd,
    /// Folders mounted in a container that does not run, where its layers do not show them: the longest first.
    mounts: Vec<Mounted>,
    host: OwnedFd,
    owner: Option<(u32, u32)>,
    /// What the host calls owners there.
    owners: Owners,
    read_only: bool,
    /// Keeps a stopped container from starting.
    _lock: Option<Lock>,
}

struct Mounted {
    target: PathBuf,
    folder: OwnedFd,
    read_only: bool,
}

/// A place on the host: the handle, and what it was like.
struct Source {
    handle: OwnedFd,
    stat: Stat,
}

impl Engine {
    /// Opens the files of a container, which may run or not.
    pub fn recipient(&self, id: &ContainerId) -> Result<Recipient> {
        let spec = self.store.containers().spec(id)?;
        let deadline = Instant::now() + PATIENCE;
        let (root, mounts, lock) = loop {
            if let Some(root) = self.running_root(id)? {
                break (root, Vec::new(), None);
            }
            let lock = self.store.containers().lock(id)?;
            let status = self.store.containers().state(id)?.status;
            if !matches!(status, Status::Running | Status::Paused) {
                let root = runtime::mount_layers(&supervise::root_fs(&self.store, &spec))?;
                break (root, self.mounts_of(&spec)?, Some(lock));
            }
            // It was started while we waited, or its supervisor has yet to write down its end.
            drop(lock);
            if Instant::now() > deadline {
                return Err(Error::NotRunning { name: spec.name });
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let owner = if spec.process.user.is_empty() {
            None
        } else {
            let user = user::resolve(root.as_fd(), &spec.process.user, &[])?;
            Some((user.uid, user.gid))
        };
        let host = open_root(Path::new("/")).context("open", Path::new("/"))?;
        // A running container's own mounts say what may be written.
        let read_only = lock.is_some() && spec.read_only;
        // Only what its processes see has their owners.
        let owners = if lock.is_none() { Owners::inside(&spec) } else { Owners::default() };
        Ok(Recipient { root, mounts, host, owner, owners, read_only, _lock: lock })
    }

    /// What the processes of a container see as `/`; `None` when it does not run.
    fn running_root(&self, id: &ContainerId) -> Result<Option<OwnedFd>> {
        let state = self.store.containers().state(id)?;
        let Some(identity) = state.process.filter(|_| matches!(state.status, Status::Running | Status::Paused)) else {
            return Ok(None);
        };
        let folder = PathBuf::from(format!("/proc/{}/root", identity.pid));
        let Ok(root) = open_root(&folder) else { return Ok(None) };
        // The number could have been given to another process before it was opened.
        Ok(runtime::is_alive(identity).then_some(root))
    }

    fn mounts_of(&self, spec: &ContainerSpec) -> Result<Vec<Mounted>> {
        let mut mounts = Vec::new();
        for mount in &spec.mounts {
            let folder = match &mount.source {
                MountSource::Bind { path, .. } if path.is_dir() => path.clone(),
                MountSource::Volume { name, subpath: None, .. }
                    if self.store.volumes().get(name)?.options.is_empty() =>
                {
                    self.store.volumes().data_folder(name)
                }
                _ => continue,
            };
            let folder = open_root(&folder).context("open", &folder)?;
            mounts.push(Mounted { target: clean(&mount.target), folder, read_only: mount.read_only });
        }
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.target.components().count()));
        Ok(mounts)
    }
}

impl Recipient {
    /// Makes `target` (absolute in the container) what `host` is now. `depth` is how many of the last parts of
    /// `target` are the host's to decide: folders among them are made like those of the host and give way to files.
    ///
    /// Errors: the system's, with the path in the container.
    pub fn bring(&self, host: &Path, target: &Path, depth: usize) -> Result<Brought> {
        let _user = self.owners.act().context("write as the user of", target)?;
        let done = match self.source(host) {
            Ok(source) => self.put(&source, host, target, depth),
            Err(Errno::NOENT | Errno::NOTDIR) => self.remove(target, depth),
            Err(errno) => return Err(errno).context("read", host).map_err(Into::into),
        };
        done.context("write", target).map_err(Into::into)
    }

    /// Removes what a killed command has left in these folders (absolute in the container).
    pub fn sweep<'p>(&self, folders: impl IntoIterator<Item = &'p Path>) {
        let Ok(_user) = self.owners.act() else { return };
        for folder in folders {
            let opened = self
                .at(folder)
                .and_then(|(root, path)| open_in_root(root, &path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()));
            // What cannot be opened has nothing of ours.
            if let Ok(folder) = opened {
                let _left = unlink(&folder, OsStr::new(UNFINISHED));
            }
        }
    }

    /// Opens a file of the host without following any link: where it lies none did when it was found.
    fn source(&self, host: &Path) -> rustix::io::Result<Source> {
        let below = host.strip_prefix("/").unwrap_or(host);
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let handle = rustix::fs::openat2(&self.host, below, flags, Mode::empty(), resolve)?;
        let stat = rustix::fs::fstat(&handle)?;
        Ok(Source { handle, stat })
    }

    /// The root that `path` is to be resolved in, and the path in it.
    fn at(&self, path: &Path) -> rustix::io::Result<(BorrowedFd<'_>, PathBuf)> {
        let path = clean(path);
        for mount in &self.mounts {
            if let Ok(rest) = path.strip_prefix(&mount.target) {
                return if mount.read_only { Err(Errno::ROFS) } else { Ok((mount.folder.as_fd(), rest.to_owned())) };
            }
        }
        if self.read_only { Err(Errno::ROFS) } else { Ok((self.root.as_fd(), path)) }
    }

    fn put(&self, source: &Source, host: &Path, target: &Path, depth: usize) -> io::Result<Brought> {
        let kind = FileType::from_raw_mode(source.stat.st_mode);
        if kind == FileType::Directory {
            let folder = self.folder(host, target, depth)?;
            let mode = Mode::from_raw_mode(source.stat.st_mode & 0o7777);
            rustix::fs::chmod(format!("/proc/self/fd/{}", folder.as_raw_fd()), mode)?;
            return Ok(Brought::Copied);
        }
        if !matches!(kind, FileType::RegularFile | FileType::Symlink) {
            return Ok(Brought::Unchanged);
        }
        let name = target.file_name().ok_or(Errno::ISDIR)?;
        let folder = self.folder(&above(host), &above(target), depth.saturating_sub(1))?;
        let there = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (source.stat.st_dev, source.stat.st_ino) => {
                // The container has this very file by a mount.
                return Ok(Brought::Unchanged);
            }
            Ok(there) => Some(FileType::from_raw_mode(there.st_mode)),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        unlink(&folder, OsStr::new(UNFINISHED))?;
        let written = match kind {
            FileType::Symlink => self.write_link(&folder, source).map(|()| true),
            _ => self.write_file(&folder, source),
        };
        let renamed = match written {
            Ok(true) if there == Some(FileType::Directory) && depth > 0 => {
                remove_tree(folder.as_fd(), name, 0).and_then(|()| rename(&folder, name))
            }
            Ok(true) => rename(&folder, name),
            Ok(false) => {
                unlink(&folder, OsStr::new(UNFINISHED))?;
                return Ok(Brought::Unchanged);
            }
            Err(error) => Err(error),
        };
        if let Err(error) = renamed {
            // The first error is the one to tell.
            let _left = unlink(&folder, OsStr::new(UNFINISHED));
            return Err(error);
        }
        Ok(Brought::Copied)
    }

    fn owner_of(&self, stat: &Stat) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = self.owners.to_host(self.owner.unwrap_or((stat.st_uid, stat.st_gid)));
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    fn write_link(&self, folder: &OwnedFd, source: &Source) -> io::Result<()> {
        let link = rustix::fs::readlinkat(&source.handle, c"", Vec::new())?;
        rustix::fs::symlinkat(&link, folder, UNFINISHED)?;
        let (uid, gid) = self.owner_of(&source.stat);
        rustix::fs::chownat(folder, UNFINISHED, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        let times = times_of(&source.stat);
        Ok(rustix::fs::utimensat(folder, UNFINISHED, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Writes the content; `false` when the file was written to meanwhile.
    fn write_file(&self, folder: &OwnedFd, source: &Source) -> io::Result<bool> {
        // The handle is opened again, not the path: what was looked at is what is read.
        let again = format!("/proc/self/fd/{}", source.handle.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut from = File::from(rustix::fs::open(again, flags, Mode::empty())?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let (mut to, is_nameless) = match rustix::fs::openat(folder, ".", nameless, mode) {
            Ok(file) => (File::from(file), true),
            // Overlays before Linux 6.1, and others that cannot.
            Err(_) => (File::from(rustix::fs::openat(folder, UNFINISHED, flags, mode)?), false),
        };
        let stat = rustix::fs::fstat(&from)?;
        io::copy(&mut from, &mut to)?;
        let after = rustix::fs::fstat(&from)?;
        let state = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
        if state(&stat) != state(&after) {
            return Ok(false);
        }
        let (uid, gid) = self.owner_of(&after);
        rustix::fs::fchown(&to, uid, gid)?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(after.st_mode & 0o7777))?;
        copy_attributes(&from, &to);
        rustix::fs::futimens(&to, &times_of(&after))?;
        if is_nameless {
            let nameless = format!("/proc/self/fd/{}", to.as_raw_fd());
            rustix::fs::linkat(rustix::fs::CWD, nameless, folder, UNFINISHED, AtFlags::SYMLINK_FOLLOW)?;
        }
        Ok(true)
    }

    /// Opens the folder `target`, made with those above it where missing: like the host's as far as `depth` says.
    fn folder(&self, host: &Path, target: &Path, depth: usize) -> io::Result<OwnedFd> {
        let (root, path) = self.at(target)?;
        match open_in_root(root, &path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Ok(folder) => return Ok(folder),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) if depth > 0 => {}
            Err(errno) => return Err(errno.into()),
        }
        if depth == 0 {
            let owner = self.owners.to_host(self.owner.unwrap_or((0, 0)));
            return Ok(mkdir_in_root(root, &path, Mode::from_raw_mode(0o755), Some(owner))?);
        }
        let above = self.folder(&above(host), &above(target), depth - 1)?;
        let name = target.file_name().ok_or(Errno::INVAL)?;
        // A file, or a link that leads nowhere, where the host has a folder.
        unlink(&above, name)?;
        let stat = self.source(host)?.stat;
        match rustix::fs::mkdirat(&above, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&above, name, flags, Mode::empty())?;
        let (uid, gid) = self.owner_of(&stat);
        rustix::fs::fchown(&made, uid, gid)?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        Ok(made)
    }

    fn remove(&self, target: &Path, depth: usize) -> io::Result<Brought> {
        let Some(name) = target.file_name() else { return Ok(Brought::Unchanged) };
        let (root, path) = self.at(&above(target))?;
        let folder = match open_in_root(root, &path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Brought::Unchanged),
            folder => folder?,
        };
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) => Ok(Brought::Removed),
            Err(Errno::NOENT) => Ok(Brought::Unchanged),
            Err(Errno::ISDIR) if depth > 0 => remove_tree(folder.as_fd(), name, 0).map(|()| Brought::Removed),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn above(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

fn rename(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    Ok(rustix::fs::renameat(folder, UNFINISHED, folder, name)?)
}

/// Removes a file or link; one that is missing is fine, a folder stays.
fn unlink(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes a folder with all below it; what is mounted there stays, and the folders above it.
fn remove_tree(folder: BorrowedFd<'_>, name: &OsStr, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other("folders are nested too deeply"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let inner = match rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve) {
        Err(Errno::XDEV | Errno::NOENT) => return Ok(()),
        inner => inner?,
    };
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&inner)? {
        let entry = entry?.file_name().to_bytes().to_owned();
        if entry != b"." && entry != b".." {
            names.push(entry);
        }
    }
    for entry in names {
        let entry = OsStr::from_bytes(&entry);
        match rustix::fs::unlinkat(&inner, entry, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT | Errno::BUSY) => {}
            Err(Errno::ISDIR) => remove_tree(inner.as_fd(), entry, depth + 1)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        // Not empty: what is mounted in it.
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::BUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Copies the extended attributes that are a file's own: users', and capabilities. Those of labels and access lists
/// speak of the host. File systems without them have none to give or take.
fn copy_attributes(from: &File, to: &File) {
    // The kernel's own limits: XATTR_LIST_MAX and XATTR_SIZE_MAX.
    let mut names = vec![0_u8; 64 << 10];
    let Ok(length) = rustix::fs::flistxattr(from, &mut names) else { return };
    for name in names[..length].split(|byte| *byte == 0) {
        if !name.starts_with(b"user.") && name != b"security.capability" {
            continue;
        }
        let mut value = vec![0_u8; 64 << 10];
        if let Ok(length) = rustix::fs::fgetxattr(from, name, &mut value) {
            let _unsupported = rustix::fs::fsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty());
        }
    }
}

fn times_of(stat: &Stat) -> Timestamps {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    let last_modification = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}
