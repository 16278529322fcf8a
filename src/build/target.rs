//! A layer being filled by COPY, ADD or WORKDIR: a folder of new files above the tree of the stage so far.
//!
//! The layer folder is written directly, without mounting anything: a file put there hides what is below it, and
//! a folder there is merged with the one below, so only what is new or replaced is written. A folder that exists
//! below and gets new content is made again with the metadata it has there.
//!
//! Paths are resolved over both trees together, component by component; links cannot lead out. What is written
//! is always named relative to the layer folder by a path that was resolved before.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::content::attributes;
use super::mode::Chmod;
use super::tree::{self, Meta, Tree, look_at, read_link};
use crate::base::fs::{Context, Error, Result};

/// Bytes copied at once when the kernel cannot copy by itself.
pub const BUFFER_BYTES: usize = 128 << 10;

/// A layer being filled.
pub struct Target<'a> {
    layer: OwnedFd,
    below: &'a Tree,
    /// Folders that are in the layer, and whether there is none below them.
    folders: HashMap<PathBuf, bool>,
    /// Times that are set when everything is in place.
    times: Vec<(PathBuf, i128)>,
    timed: HashSet<PathBuf>,
    buffer: Vec<u8>,
}

/// The owner and mode that something gets.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl<'a> Target<'a> {
    /// Begins to fill `folder`, which is empty, above `below`.
    pub fn new(folder: &Path, below: &'a Tree) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let layer = rustix::fs::open(folder, flags, Mode::empty()).context("open", folder)?;
        let mut target = Self {
            layer,
            below,
            folders: HashMap::new(),
            times: Vec::new(),
            timed: HashSet::new(),
            buffer: vec![0; BUFFER_BYTES],
        };
        // The root of the layer is the root of the image as long as no layer above says otherwise.
        if let Some(meta) = below.look(Path::new(""))? {
            target.give_metadata(Path::new(""), &meta)?;
        }
        target.folders.insert(PathBuf::new(), false);
        Ok(target)
    }

    /// What stands at a resolved path.
    pub fn look(&self, path: &Path) -> Result<Option<Meta>> {
        if let Some(meta) = look_at(self.layer.as_fd(), path).context("look at", &shown(path))? {
            return Ok(Some(meta));
        }
        // Nothing below shows through a folder that replaced something else.
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.folders.get(parent).copied() == Some(true) { Ok(None) } else { self.below.look(path) }
    }

    /// The path without links, both trees seen as one; `base` is the root of the resolution.
    pub fn resolve(&self, base: &Path, path: &Path, follow_last: bool) -> Result<PathBuf> {
        let resolved = tree::resolve(path, follow_last, &mut |path| {
            let path = base.join(path);
            match self.look(&path)? {
                Some(meta) if meta.kind == FileType::Symlink => self.link(&path).map(Some),
                _ => Ok(None),
            }
        });
        resolved
            .map(|path| base.join(path))
            .map_err(|error| error.unwrap_or_else(|| tree::too_many_links(&shown(path))))
    }

    fn link(&self, path: &Path) -> Result<PathBuf> {
        match read_link(self.layer.as_fd(), path) {
            Ok(target) => Ok(target),
            Err(_) => self.below.link(path),
        }
    }

    /// Makes a folder with those above it; existing ones are left as they are. The path is resolved.
    pub fn make_folders(&mut self, path: &Path, mode: u32, owner: Owner) -> Result<()> {
        let mut current = PathBuf::new();
        for part in path.components() {
            current.push(part);
            match self.look(&current)? {
                Some(meta) if meta.is_folder() => {}
                Some(_) => return Err(fails("create folder", &current, Errno::NOTDIR)),
                None => {
                    self.new_folder(&current, mode)?;
                    self.own(&current, owner)?;
                }
            }
        }
        Ok(())
    }

    /// Makes a folder where there is none (or something else, which it replaces).
    pub fn new_folder(&mut self, path: &Path, mode: u32) -> Result<()> {
        self.enter_parent(path)?;
        let below = self.below_is_folder(path)?;
        rustix::fs::mkdirat(&self.layer, path, Mode::RWXU).context("create folder", &shown(path))?;
        self.set_mode(path, mode)?;
        self.folders.insert(path.to_owned(), !below);
        Ok(())
    }

    fn below_is_folder(&self, path: &Path) -> Result<bool> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.folders.get(parent).copied() == Some(true) {
            return Ok(false);
        }
        Ok(self.below.look(path)?.is_some_and(|meta| meta.is_folder()))
    }

    /// Makes sure that the folder of `path` is in the layer.
    fn enter_parent(&mut self, path: &Path) -> Result<()> {
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        self.enter(&parent)
    }

    /// Makes sure that an existing folder is in the layer, with the metadata it has.
    pub fn enter(&mut self, path: &Path) -> Result<()> {
        if self.folders.contains_key(path) {
            return Ok(());
        }
        self.enter_parent(path)?;
        let Some(meta) = self.look(path)?.filter(Meta::is_folder) else {
            return Err(fails("enter", path, Errno::NOTDIR));
        };
        rustix::fs::mkdirat(&self.layer, path, Mode::RWXU).context("create folder", &shown(path))?;
        self.give_metadata(path, &meta)?;
        if let Ok(handle) = self.below.open_folder(path) {
            self.give_attributes(path, &attributes(handle.as_fd()))?;
        }
        self.folders.insert(path.to_owned(), false);
        Ok(())
    }

    /// Takes away what the layer itself has at a path, so that something else can be put there.
    pub fn clear(&mut self, path: &Path) -> Result<()> {
        let Some(meta) = look_at(self.layer.as_fd(), path).context("look at", &shown(path))? else { return Ok(()) };
        if !meta.is_folder() {
            return rustix::fs::unlinkat(&self.layer, path, AtFlags::empty()).context("remove", &shown(path));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.layer, path, flags, Mode::empty()).context("open", &shown(path))?;
        for name in tree::names_in(handle.as_fd()).context("list", &shown(path))? {
            self.clear(&path.join(name))?;
        }
        self.folders.remove(path);
        rustix::fs::unlinkat(&self.layer, path, AtFlags::REMOVEDIR).context("remove", &shown(path))
    }

    /// Begins a new regular file.
    pub fn create(&mut self, path: &Path) -> Result<OwnedFd> {
        self.enter_parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.layer, path, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => {
                self.clear(path)?;
                rustix::fs::openat(&self.layer, path, flags, Mode::RUSR | Mode::WUSR).context("create", &shown(path))
            }
            file => file.context("create", &shown(path)),
        }
    }

    /// Starts to write what the layer has so far to the disk, without waiting: who makes it durable later finds
    /// little left to do.
    pub fn begin_write_back(&self) {
        if let Ok(folder) = self.layer.try_clone() {
            std::thread::spawn(move || rustix::fs::syncfs(folder));
        }
    }

    /// Writes a regular file; a reader that ends early is an error of its own.
    pub fn write_file(
        &mut self,
        content: &mut dyn Read,
        path: &Path,
        owner: Owner,
        mode: u32,
        mtime_ns: i128,
    ) -> Result<()> {
        let mut file = std::fs::File::from(self.create(path)?);
        loop {
            let count = content.read(&mut self.buffer).context("read the content of", &shown(path))?;
            if count == 0 {
                break;
            }
            file.write_all(&self.buffer[..count]).context("write", &shown(path))?;
        }
        finish_file(&file.into(), owner, mode, mtime_ns).context("change", &shown(path))
    }

    /// Makes a symbolic link.
    pub fn symlink(&mut self, to: &Path, path: &Path, owner: Owner, mtime_ns: i128) -> Result<()> {
        self.enter_parent(path)?;
        self.clear(path)?;
        rustix::fs::symlinkat(to, &self.layer, path).context("create", &shown(path))?;
        self.own(path, owner)?;
        self.set_time(path, mtime_ns)
    }

    /// Gives a file of the layer a second name.
    pub fn hard_link(&mut self, first: &Path, path: &Path) -> Result<()> {
        self.enter_parent(path)?;
        self.clear(path)?;
        rustix::fs::linkat(&self.layer, first, &self.layer, path, AtFlags::empty()).context("link", &shown(path))
    }

    /// Whether the layer itself has something at a path.
    pub fn has(&self, path: &Path) -> Result<bool> {
        Ok(look_at(self.layer.as_fd(), path).context("look at", &shown(path))?.is_some())
    }

    /// Makes a device or a FIFO.
    pub fn node(&mut self, path: &Path, kind: FileType, device: u64, owner: Owner, mode: u32) -> Result<()> {
        self.enter_parent(path)?;
        self.clear(path)?;
        rustix::fs::mknodat(&self.layer, path, kind, Mode::empty(), device).context("create", &shown(path))?;
        self.own(path, owner)?;
        self.set_mode(path, mode)
    }

    /// Sets owner, mode and time of a folder of the layer.
    pub fn set_folder(&mut self, path: &Path, owner: Owner, mode: u32, mtime_ns: i128) -> Result<()> {
        self.own(path, owner)?;
        self.set_mode(path, mode)?;
        self.keep_time(path, mtime_ns);
        Ok(())
    }

    /// Sets attributes of something in the layer that is no link.
    pub fn give_attributes(&self, path: &Path, attributes: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        if attributes.is_empty() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(&self.layer, tree::dot(path), flags, Mode::empty()).context("open", &shown(path))?;
        for (name, value) in attributes {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::fsetxattr(&file, name.as_slice(), value, flags)
                .context("set the attributes of", &shown(path))?;
        }
        Ok(())
    }

    fn give_metadata(&mut self, path: &Path, meta: &Meta) -> Result<()> {
        self.own(path, Owner { uid: meta.uid, gid: meta.gid })?;
        self.set_mode(path, meta.mode)?;
        self.keep_time(path, meta.mtime_ns);
        Ok(())
    }

    fn keep_time(&mut self, path: &Path, mtime_ns: i128) {
        if !self.timed.insert(path.to_owned()) {
            self.times.retain(|(known, _)| known != path);
        }
        self.times.push((path.to_owned(), mtime_ns));
    }

    fn own(&self, path: &Path, owner: Owner) -> Result<()> {
        let (uid, gid) = (rustix::fs::Uid::from_raw(owner.uid), rustix::fs::Gid::from_raw(owner.gid));
        rustix::fs::chownat(&self.layer, tree::dot(path), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .context("change the owner of", &shown(path))
    }

    fn set_mode(&self, path: &Path, mode: u32) -> Result<()> {
        rustix::fs::chmodat(&self.layer, tree::dot(path), Mode::from_raw_mode(mode), AtFlags::empty())
            .context("change the mode of", &shown(path))
    }

    fn set_time(&self, path: &Path, mtime_ns: i128) -> Result<()> {
        rustix::fs::utimensat(&self.layer, tree::dot(path), &times(mtime_ns), AtFlags::SYMLINK_NOFOLLOW)
            .context("change the time of", &shown(path))
    }

    /// Sets the times of folders, which every new entry in them changed.
    pub fn finish(self) -> Result<()> {
        for (path, mtime_ns) in self.times.iter().rev() {
            if self.has(path)? {
                self.set_time(path, *mtime_ns)?;
            }
        }
        Ok(())
    }
}

/// The mode that something gets from `--chmod`, or keeps.
pub fn changed_mode(chmod: Option<&Chmod>, meta: &Meta) -> u32 {
    chmod.map_or(meta.mode, |chmod| chmod.apply(meta.mode, meta.is_folder()))
}

fn fails(operation: &'static str, path: &Path, errno: Errno) -> Error {
    Error { operation, path: shown(path), source: errno.into() }
}

/// A path as it is called inside the image.
pub fn shown(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

pub(super) fn times(mtime_ns: i128) -> Timestamps {
    let seconds = mtime_ns.div_euclid(1_000_000_000);
    let last_modification = Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(0),
        #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
        tv_nsec: mtime_ns.rem_euclid(1_000_000_000) as _,
    };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}

pub(super) fn finish_file(file: &OwnedFd, owner: Owner, mode: u32, mtime_ns: i128) -> rustix::io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner.uid), rustix::fs::Gid::from_raw(owner.gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    rustix::fs::futimens(file, &times(mtime_ns))
}

/// Shares the blocks where the file system can, else lets the kernel copy, else copies.
pub(super) fn copy_content(from: &OwnedFd, to: &OwnedFd, size: u64, buffer: &mut [u8]) -> rustix::io::Result<()> {
    if size > buffer.len() as u64 {
        if rustix::fs::ioctl_ficlone(to, from).is_ok() {
            return Ok(());
        }
        let mut copied = 0u64;
        loop {
            match rustix::fs::copy_file_range(from, None, to, None, 1 << 30) {
                Ok(0) if copied > 0 || size == 0 => return Ok(()),
                Ok(0) => break,
                Ok(count) => copied += count as u64,
                Err(error) if copied > 0 => return Err(error),
                Err(_) => break,
            }
        }
    }
    write_pieces(from, to, size, buffer, &mut |_| {})
}

/// Copies, and shows what is copied to `see`. Blocks are shared where the file system can, and then only read.
pub(super) fn copy_and_read(
    from: &OwnedFd,
    to: &OwnedFd,
    size: u64,
    buffer: &mut [u8],
    see: &mut dyn FnMut(&[u8]),
) -> rustix::io::Result<()> {
    if size <= buffer.len() as u64 || rustix::fs::ioctl_ficlone(to, from).is_err() {
        return write_pieces(from, to, size, buffer, see);
    }
    loop {
        match rustix::io::read(from, &mut *buffer)? {
            0 => return Ok(()),
            count => see(&buffer[..count]),
        }
    }
}

/// Copies until the end. At `size` it is not asked for: whether the file has grown, its metadata tells in the end.
fn write_pieces(
    from: &OwnedFd,
    to: &OwnedFd,
    size: u64,
    buffer: &mut [u8],
    see: &mut dyn FnMut(&[u8]),
) -> rustix::io::Result<()> {
    let mut copied = 0u64;
    loop {
        let count = rustix::io::read(from, &mut *buffer)?;
        if count == 0 {
            return Ok(());
        }
        see(&buffer[..count]);
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let written = rustix::io::write(to, rest)?;
            rest = &rest[written..];
        }
        copied += count as u64;
        if copied == size {
            return Ok(());
        }
    }
}
