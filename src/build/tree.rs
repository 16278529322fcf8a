//! File trees that COPY reads from: a folder of the host, or a stack of layers seen as one.
//!
//! A stack is an overlay mount that is attached nowhere: it lives as long as its handle, so a killed build leaves
//! no mount. Paths inside are resolved component by component, so that no link leads out of the tree.
//!
//! Source: fsopen(2), fsconfig(2), fsmount(2), <https://docs.kernel.org/filesystems/overlayfs.html>.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::base::fs::{Context, Error, Result};
use crate::runtime::{self, RootFs};

/// Most links that are followed for one path, as in the kernel.
const LINKS_MAX: usize = 40;
/// Longest target of a link.
const LINK_LENGTH_MAX: usize = 4096;

/// What is known about a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its type.
    pub kind: FileType,
    /// Permission bits, with set-user-id and so on.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Time of its last change, in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Time of the last change of its inode.
    pub ctime_ns: i128,
    /// Its file system.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Number of names.
    pub links: u64,
    /// The device that it is.
    pub special: u64,
}

impl Meta {
    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == FileType::Directory
    }
}

/// A tree of files.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// What errors call it.
    name: PathBuf,
}

impl Tree {
    /// A folder of the host.
    pub fn folder(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).context("open", path)?;
        Ok(Self { root, name: path.to_owned() })
    }

    /// Layers seen as one tree, read-only; `layers` are bottom first, `empty` is an empty folder for none.
    pub fn layers(layers: &[PathBuf], empty: &Path) -> Result<Self> {
        match layers {
            [] => Self::folder(empty),
            [layer] => Self::folder(layer),
            layers => {
                let root = mount_overlay(layers)?;
                Ok(Self { root, name: PathBuf::from("/") })
            }
        }
    }

    /// A handle of its root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The path as errors show it.
    pub fn display(&self, path: &Path) -> PathBuf {
        self.name.join(path)
    }

    /// What stands at a resolved path; `None` when nothing does.
    pub fn look(&self, path: &Path) -> Result<Option<Meta>> {
        look_at(self.root(), path).context("look at", &self.display(path))
    }

    /// The target of the link at a resolved path.
    pub fn link(&self, path: &Path) -> Result<PathBuf> {
        read_link(self.root(), path).context("read", &self.display(path))
    }

    /// Opens the file at a resolved path for reading.
    pub fn open(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, dot(path), flags, Mode::empty()).context("open", &self.display(path))
    }

    /// Opens the folder at a resolved path.
    pub fn open_folder(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, dot(path), flags, Mode::empty()).context("open", &self.display(path))
    }

    /// The path without links, relative to the root; components that do not exist stay as they are.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<PathBuf> {
        resolve(path, follow_last, &mut |path| match self.look(path)? {
            Some(meta) if meta.kind == FileType::Symlink => self.link(path).map(Some),
            _ => Ok(None),
        })
        .map_err(|error| error.unwrap_or_else(|| too_many_links(&self.display(path))))
    }
}

/// The error for a path with a circle of links.
pub fn too_many_links(path: &Path) -> Error {
    Error { operation: "resolve", path: path.to_owned(), source: Errno::LOOP.into() }
}

/// Resolves a path whose links `link_of` knows (by path relative to the root). `Err(None)`: too many links.
pub fn resolve(
    path: &Path,
    follow_last: bool,
    link_of: &mut dyn FnMut(&Path) -> Result<Option<PathBuf>>,
) -> std::result::Result<PathBuf, Option<Error>> {
    let parts = |path: &Path| -> Vec<OsString> {
        path.components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            })
            .collect()
    };
    let mut open: VecDeque<OsString> = parts(path).into();
    let mut resolved = PathBuf::new();
    let mut links = 0;
    while let Some(part) = open.pop_front() {
        if part == ".." {
            resolved.pop();
            continue;
        }
        resolved.push(&part);
        if open.is_empty() && !follow_last {
            break;
        }
        let Some(target) = link_of(&resolved).map_err(Some)? else { continue };
        links += 1;
        if links > LINKS_MAX {
            return Err(None);
        }
        resolved.pop();
        if target.is_absolute() {
            resolved.clear();
        }
        for part in parts(&target).into_iter().rev() {
            open.push_front(part);
        }
    }
    Ok(resolved)
}

/// What stands at `path` below `root`, whose folders are no links.
pub fn look_at(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<Option<Meta>> {
    match rustix::fs::statat(root, dot(path), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(meta(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an open file is.
pub fn look_at_open(file: BorrowedFd<'_>) -> rustix::io::Result<Meta> {
    Ok(meta(&rustix::fs::fstat(file)?))
}

/// The target of a link.
pub fn read_link(root: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(root, path, Vec::with_capacity(LINK_LENGTH_MAX))?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

/// The names in an open folder, sorted.
pub fn names_in(folder: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The empty path means the root itself.
pub fn dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
fn meta(stat: &rustix::fs::Stat) -> Meta {
    let time = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    Meta {
        kind: FileType::from_raw_mode(stat.st_mode),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u64,
        mtime_ns: time(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctime_ns: time(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        links: stat.st_nlink as u64,
        special: stat.st_rdev as u64,
    }
}

/// Mounts layers (bottom first) as one read-only tree that is attached nowhere.
fn mount_overlay(layers: &[PathBuf]) -> Result<OwnedFd> {
    let stack = RootFs { lowers: layers.iter().rev().cloned().collect(), upper: None };
    runtime::mount_layers(&stack).map_err(|error| Error {
        operation: "mount the layers below",
        path: layers.last().cloned().unwrap_or_default(),
        source: std::io::Error::other(error),
    })
}
