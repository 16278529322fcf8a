//! Unpacks a layer archive into a folder, whatever bytes it is made of.
//!
//! Every path is resolved by openat2(2) with `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS` relative to the folder, and
//! the last component is never followed: links inside the archive cannot lead out of it. Descriptors of parent
//! folders are cached, which makes this twice as fast as resolving each path.
//!
//! * `.wh.<name>` becomes a character device 0:0, `.wh..wh..opq` the attribute `trusted.overlay.opaque`.
//! * A later entry of the same name replaces the earlier one; folders are merged. A new folder beside a whiteout of
//!   its name is opaque.
//! * Names with `..` are refused; a leading `/` means the folder. overlayfs' own attributes in an archive are
//!   dropped: a redirect would show another folder's content.
//! * Times of folders are set at the end.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/layer.md>, openat2(2), overlayfs.rst.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::tar_reader::{EntryHeader, TarReader};
use super::{Error, Result};
use crate::base::fs::{self, Context};

/// What an archive may ask for at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Folders within folders.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // The largest public images have some hundred thousand files and some ten gigabytes.
        Self { entries: 5_000_000, bytes: 1 << 40, depth: 256 }
    }
}

/// Open parent folders kept at once.
const CACHED_FOLDERS_MAX: usize = 256;
/// Files of at least this size begin their way to the device at once; smaller ones go together at the end.
const WRITE_BEHIND_BYTES: u64 = 64 << 10;
/// Marks a deleted name in an archive.
const WHITEOUT: &[u8] = b".wh.";
/// Marks a folder whose lower content is hidden.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Unpacks an uncompressed layer archive into `folder` and returns the sum of the sizes of its files in bytes.
///
/// Reads `archive` to its end. `folder` is a [`crate::store::LayerWriter`]'s, which nobody else changes. On an
/// error its content is undefined: drop the writer.
pub fn unpack(archive: impl Read, folder: &Path, limits: &Limits) -> Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(folder, flags, Mode::empty()).context("open", folder)?;
    let mut unpacker = Unpacker {
        root,
        folder: folder.to_owned(),
        parents: HashMap::new(),
        folder_times: Vec::new(),
        limits: *limits,
        entries: 0,
        size_bytes: 0,
    };
    let mut reader = TarReader::new(archive);
    while let Some(header) = reader.next_entry()? {
        unpacker.entry(&header, &mut reader)?;
    }
    unpacker.set_folder_times()?;
    reader.drain()?;
    Ok(unpacker.size_bytes)
}

struct Unpacker {
    root: OwnedFd,
    folder: PathBuf,
    /// Open folders by their path in the archive.
    parents: HashMap<PathBuf, OwnedFd>,
    folder_times: Vec<(PathBuf, Timestamps)>,
    limits: Limits,
    entries: u64,
    size_bytes: u64,
}

impl Unpacker {
    fn entry(&mut self, header: &EntryHeader, reader: &mut TarReader<impl Read>) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::DamagedArchive { reason: "it has too many entries" });
        }
        let path = self.clean(&header.name)?;
        let Some(name) = path.file_name() else {
            // The root itself.
            return if header.kind.is_dir() { self.folder_attributes(header, &path) } else { Ok(()) };
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(&parent_path, name);
        }
        self.open_parent(&parent_path)?;
        match header.kind {
            tar::EntryType::Directory => self.directory(header, &path, &parent_path, name),
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                self.file(header, reader, &path, &parent_path, name)
            }
            tar::EntryType::Link => self.hard_link(header, &path, &parent_path, name),
            tar::EntryType::Symlink => self.symlink(header, &path, &parent_path, name),
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                self.device(header, &path, &parent_path, name)
            }
            _ => Err(self.refused(&path, "its type is unknown")),
        }
    }

    /// The path without `/`, `.` and doubled slashes; refuses `..`, NUL and paths that are too deep.
    fn clean(&self, name: &[u8]) -> Result<PathBuf> {
        let shown = || Path::new(OsStr::from_bytes(name));
        if name.contains(&0) {
            return Err(self.refused(shown(), "its name has a NUL byte"));
        }
        let mut path = PathBuf::new();
        let mut depth = 0;
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(self.refused(shown(), "its name leads out of its folder with `..`")),
                part => {
                    depth += 1;
                    path.push(OsStr::from_bytes(part));
                }
            }
        }
        if depth > self.limits.depth {
            return Err(self.refused(shown(), "its folders are nested too deeply"));
        }
        Ok(path)
    }

    /// Opens the folder `path` (and makes it, as root's, when it is missing), so that `parent` finds it.
    fn open_parent(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || self.parents.contains_key(path) {
            return Ok(());
        }
        let descriptor = match self.open_folder(path) {
            Err(Errno::NOENT) => {
                let above = path.parent().unwrap_or(Path::new(""));
                self.open_parent(above)?;
                let name = path.file_name().unwrap_or_default();
                match rustix::fs::mkdirat(self.parent(above), name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => {}
                    Err(Errno::EXIST) => {
                        return Err(self.refused(path, "it is a link that leads nowhere, and has entries below it"));
                    }
                    Err(errno) => return Err(self.failed("create folder", path, errno)),
                }
                self.open_folder(path).map_err(|errno| self.failed("open", path, errno))?
            }
            Err(Errno::NOTDIR) => return Err(self.refused(path, "it is a file and has entries below it")),
            Err(Errno::LOOP) => return Err(self.refused(path, "its links form a loop")),
            other => other.map_err(|errno| self.failed("open", path, errno))?,
        };
        if self.parents.len() >= CACHED_FOLDERS_MAX {
            self.parents.clear();
        }
        self.parents.insert(path.to_owned(), descriptor);
        Ok(())
    }

    fn open_folder(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// The open folder of `path`, after `open_parent`.
    fn parent(&self, path: &Path) -> BorrowedFd<'_> {
        self.parents.get(path).map_or_else(|| self.root.as_fd(), AsFd::as_fd)
    }

    /// Runs `make` in the parent folder; when the name is taken, removes what is there and runs it again.
    fn make<T>(
        &mut self,
        path: &Path,
        parent: &Path,
        name: &OsStr,
        make: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Result<T> {
        match make(self.parent(parent)) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|errno| self.failed("create", path, errno)),
        }
        self.remove(path, parent, name)?;
        self.open_parent(parent)?;
        make(self.parent(parent)).map_err(|errno| self.failed("create", path, errno))
    }

    /// Removes an earlier entry. Cached folders may lie below it.
    fn remove(&mut self, path: &Path, parent: &Path, name: &OsStr) -> Result<()> {
        let descriptor = self.parent(parent);
        match rustix::fs::unlinkat(descriptor, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                let by_descriptor = Path::new("/proc/self/fd").join(descriptor.as_raw_fd().to_string()).join(name);
                fs::remove_dir_all(&by_descriptor)?;
            }
            Err(errno) => return Err(self.failed("replace", path, errno)),
        }
        self.parents.clear();
        Ok(())
    }

    fn kind_of(&self, parent: &Path, name: &OsStr) -> Option<FileType> {
        let stat = rustix::fs::statat(self.parent(parent), name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    fn is_whiteout(&self, parent: &Path, name: &OsStr) -> bool {
        rustix::fs::statat(self.parent(parent), name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
    }

    fn directory(&mut self, header: &EntryHeader, path: &Path, parent: &Path, name: &OsStr) -> Result<()> {
        let make = |parent: BorrowedFd<'_>| rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755));
        match self.kind_of(parent, name) {
            Some(FileType::Directory) => {}
            Some(_) => {
                let hides_lower = self.is_whiteout(parent, name);
                self.make(path, parent, name, make)?;
                if hides_lower {
                    self.open_parent(path)?;
                    self.set_opaque(path)?;
                }
            }
            None => self.make(path, parent, name, make)?,
        }
        self.folder_attributes(header, path)
    }

    fn folder_attributes(&mut self, header: &EntryHeader, path: &Path) -> Result<()> {
        self.open_parent(path)?;
        let descriptor = self.parent(path);
        rustix::fs::fchown(descriptor, Some(Uid::from_raw(header.uid)), Some(Gid::from_raw(header.gid)))
            .and_then(|()| rustix::fs::fchmod(descriptor, Mode::from_raw_mode(header.mode)))
            .map_err(|errno| self.failed("set the owner of", path, errno))?;
        self.set_attributes(descriptor, header, path)?;
        self.folder_times.push((path.to_owned(), times(header)));
        Ok(())
    }

    fn file(
        &mut self,
        header: &EntryHeader,
        reader: &mut TarReader<impl Read>,
        path: &Path,
        parent: &Path,
        name: &OsStr,
    ) -> Result<()> {
        let size = header.sparse.as_ref().map_or(header.size, |sparse| sparse.real_size);
        self.size_bytes = self.size_bytes.saturating_add(size);
        if self.size_bytes > self.limits.bytes {
            return Err(self.refused(path, "the archive is too large"));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = self
            .make(path, parent, name, |parent| rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)))?;
        let file = std::fs::File::from(descriptor);
        match &header.sparse {
            None => self.write(&file, reader, path)?,
            Some(sparse) => {
                file.set_len(sparse.real_size).context("write", &self.folder.join(path))?;
                self.write_parts(&file, reader, path, &sparse.parts)?;
            }
        }
        if size >= WRITE_BEHIND_BYTES {
            // Only a hint: the sync of the store at the end is what counts, and finds less to do.
            let _ = crate::sys::file::begin_writeback(&file, 0);
        }
        // The owner first: changing it clears the set-user-id bit and file capabilities.
        rustix::fs::fchown(&file, Some(Uid::from_raw(header.uid)), Some(Gid::from_raw(header.gid)))
            .and_then(|()| rustix::fs::fchmod(&file, Mode::from_raw_mode(header.mode)))
            .map_err(|errno| self.failed("set the owner of", path, errno))?;
        self.set_attributes(file.as_fd(), header, path)?;
        rustix::fs::futimens(&file, &times(header)).map_err(|errno| self.failed("set the time of", path, errno))
    }

    fn write(&self, mut file: &std::fs::File, reader: &mut TarReader<impl Read>, path: &Path) -> Result<()> {
        use std::io::Write;
        loop {
            let piece = reader.content()?;
            if piece.is_empty() {
                return Ok(());
            }
            file.write_all(piece).context("write", &self.folder.join(path))?;
        }
    }

    fn write_parts(
        &self,
        file: &std::fs::File,
        reader: &mut TarReader<impl Read>,
        path: &Path,
        parts: &[(u64, u64)],
    ) -> Result<()> {
        let mut parts = parts.iter().copied().filter(|(_, length)| *length > 0);
        let mut current = parts.next();
        loop {
            let mut piece = reader.content()?;
            if piece.is_empty() {
                return Ok(());
            }
            while !piece.is_empty() {
                let Some((offset, length)) = current else {
                    return Err(self.refused(path, "it has more content than its map says"));
                };
                // At most the piece's length, so it fits.
                let taken = length.min(piece.len() as u64) as usize;
                file.write_all_at(&piece[..taken], offset).context("write", &self.folder.join(path))?;
                piece = &piece[taken..];
                let rest = length - taken as u64;
                current = if rest > 0 { Some((offset + taken as u64, rest)) } else { parts.next() };
            }
        }
    }

    fn hard_link(&mut self, header: &EntryHeader, path: &Path, parent: &Path, name: &OsStr) -> Result<()> {
        let target = self.clean(&header.link)?;
        let Some(target_name) = target.file_name().map(OsStr::to_owned) else {
            return Err(self.refused(path, "it is a hard link to a folder"));
        };
        if target == *path {
            return Err(self.refused(path, "it is a hard link to itself"));
        }
        let target_parent = target.parent().unwrap_or(Path::new(""));
        let target_folder = if target_parent.as_os_str().is_empty() {
            self.root.try_clone().context("open", &self.folder)?
        } else {
            match self.open_folder(target_parent) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    return Err(self.refused(path, "it is a hard link to a file that is not in this archive"));
                }
                other => other.map_err(|errno| self.failed("open", target_parent, errno))?,
            }
        };
        let link =
            |parent: BorrowedFd<'_>| rustix::fs::linkat(&target_folder, &target_name, parent, name, AtFlags::empty());
        // A target that is missing must not cost what has the new name.
        if rustix::fs::statat(&target_folder, &target_name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return Err(self.refused(path, "it is a hard link to a file that is not in this archive"));
        }
        self.make(path, parent, name, link)
    }

    fn symlink(&mut self, header: &EntryHeader, path: &Path, parent: &Path, name: &OsStr) -> Result<()> {
        let target = OsString::from_vec(header.link.clone());
        if header.link.is_empty() || header.link.contains(&0) {
            return Err(self.refused(path, "it is a symbolic link without a target"));
        }
        self.make(path, parent, name, |parent| rustix::fs::symlinkat(target.as_os_str(), parent, name))?;
        self.attributes_by_name(header, path, parent, name)
    }

    fn device(&mut self, header: &EntryHeader, path: &Path, parent: &Path, name: &OsStr) -> Result<()> {
        let kind = match header.kind {
            tar::EntryType::Char => FileType::CharacterDevice,
            tar::EntryType::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = if kind == FileType::Fifo { 0 } else { rustix::fs::makedev(header.device.0, header.device.1) };
        self.make(path, parent, name, |parent| {
            rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)
        })?;
        self.attributes_by_name(header, path, parent, name)?;
        rustix::fs::chmodat(self.parent(parent), name, Mode::from_raw_mode(header.mode), AtFlags::empty())
            .map_err(|errno| self.failed("set the mode of", path, errno))
    }

    /// Owner, attributes and time of what cannot be opened.
    fn attributes_by_name(&self, header: &EntryHeader, path: &Path, parent: &Path, name: &OsStr) -> Result<()> {
        let descriptor = self.parent(parent);
        let (uid, gid) = (Uid::from_raw(header.uid), Gid::from_raw(header.gid));
        rustix::fs::chownat(descriptor, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed("set the owner of", path, errno))?;
        let by_descriptor = Path::new("/proc/self/fd").join(descriptor.as_raw_fd().to_string()).join(name);
        for (key, value) in kept_attributes(header) {
            let result = rustix::fs::lsetxattr(&by_descriptor, key, value, XattrFlags::empty());
            self.check_attribute(result, path)?;
        }
        rustix::fs::utimensat(descriptor, name, &times(header), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.failed("set the time of", path, errno))
    }

    fn set_attributes(&self, descriptor: BorrowedFd<'_>, header: &EntryHeader, path: &Path) -> Result<()> {
        for (key, value) in kept_attributes(header) {
            self.check_attribute(rustix::fs::fsetxattr(descriptor, key, value, XattrFlags::empty()), path)?;
        }
        Ok(())
    }

    /// A file system or kernel without an attribute does not make an image unusable.
    fn check_attribute(&self, result: rustix::io::Result<()>, path: &Path) -> Result<()> {
        match result {
            Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL) | Ok(()) => Ok(()),
            Err(errno) => Err(self.failed("set an attribute of", path, errno)),
        }
    }

    fn whiteout(&mut self, parent: &Path, mark: &OsStr) -> Result<()> {
        let mark = mark.as_bytes();
        if mark == OPAQUE {
            self.open_parent(parent)?;
            return self.set_opaque(parent);
        }
        let hidden = &mark[WHITEOUT.len()..];
        if hidden.starts_with(WHITEOUT) {
            // Metadata of aufs: `.wh..wh.plnk` and the like.
            return Ok(());
        }
        let name = OsStr::from_bytes(hidden);
        let path = parent.join(name);
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(self.refused(&parent.join(OsStr::from_bytes(mark)), "it marks no file as deleted"));
        }
        self.open_parent(parent)?;
        let device = rustix::fs::makedev(0, 0);
        let made =
            rustix::fs::mknodat(self.parent(parent), name, FileType::CharacterDevice, Mode::from_raw_mode(0), device);
        match made {
            Ok(()) => Ok(()),
            // The archive brings something of that name itself: the lower one is hidden by it.
            Err(Errno::EXIST) if self.kind_of(parent, name) == Some(FileType::Directory) => {
                self.open_parent(&path)?;
                self.set_opaque(&path)
            }
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.failed("create", &path, errno)),
        }
    }

    fn set_opaque(&self, path: &Path) -> Result<()> {
        rustix::fs::fsetxattr(self.parent(path), "trusted.overlay.opaque", b"y", XattrFlags::empty())
            .map_err(|errno| self.failed("set an attribute of", path, errno))
    }

    fn set_folder_times(&mut self) -> Result<()> {
        for (path, times) in std::mem::take(&mut self.folder_times) {
            // One that was replaced by something else has its own time.
            let folder =
                if path.as_os_str().is_empty() { self.root.try_clone().ok() } else { self.open_folder(&path).ok() };
            if let Some(folder) = folder {
                rustix::fs::futimens(&folder, &times).map_err(|errno| self.failed("set the time of", &path, errno))?;
            }
        }
        Ok(())
    }

    fn refused(&self, path: &Path, reason: &'static str) -> Error {
        Error::RefusedEntry { entry: path.to_owned(), reason }
    }

    fn failed(&self, operation: &'static str, path: &Path, errno: Errno) -> Error {
        fs::Error { operation, path: self.folder.join(path), source: errno.into() }.into()
    }
}

fn times(header: &EntryHeader) -> Timestamps {
    let time = Timespec { tv_sec: header.mtime.0, tv_nsec: header.mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Attributes that an archive may set: not overlayfs' own, and no label of this host's policy.
fn kept_attributes(header: &EntryHeader) -> impl Iterator<Item = (&str, &[u8])> {
    header
        .attributes
        .iter()
        .filter(|(key, _)| {
            !key.starts_with("trusted.overlay.")
                && !key.starts_with("user.overlay.")
                && key != "security.selinux"
                && !key.contains('\0')
        })
        .map(|(key, value)| (key.as_str(), value.as_slice()))
}
