//! The files of a container from outside: `cp`, `export`.
//!
//! ```text
//! running   /proc/PID/root: what its processes see, with volumes
//! stopped   its layers, mounted nowhere, under its lock so that it does not start meanwhile;
//!           a path below a volume or folder of the host is looked for there
//! ```

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::archive::{Archive, Destination, extract, open_child};
use super::owners::Owners;
use super::{Engine, Error, Result};
use crate::base::fs::Context;
use crate::base::id::ContainerId;
use crate::model::container::{ContainerSpec, MountSource, Status};
use crate::runtime::root::{open_in_root, open_root};
use crate::runtime::{self, RootFs};
use crate::store::Lock;
use crate::supervise;

/// Links that are followed before they count as a circle. Source: path_resolution(7).
const LINKS_MAX: usize = 40;

/// A place among the files of a container or of the host.
pub struct Place {
    root: OwnedFd,
    /// Below the root, without `.` and `..`.
    path: PathBuf,
    /// As the user wrote it, for messages.
    shown: PathBuf,
    /// It was written with `/` or `/.` at its end.
    is_folder: bool,
    /// The content is meant, not the folder: `/.` at its end.
    is_content: bool,
    read_only: bool,
    /// What the host calls owners there.
    owners: Owners,
    /// Keeps a stopped container from starting.
    _lock: Option<Lock>,
}

/// How files are copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// Keep owners.
    pub archive: bool,
    /// Copy what the link at the source means.
    pub follow: bool,
}

impl Engine {
    /// A place in a container. Relative paths start from its root.
    pub fn place_in(&self, id: &ContainerId, path: &str) -> Result<Place> {
        let spec = self.store.containers().spec(id)?;
        let shown = PathBuf::from(format!("{}:{path}", spec.name));
        let state = self.store.containers().state(id)?;
        if matches!(state.status, Status::Running | Status::Paused)
            && let Some(identity) = state.process
        {
            let gone = || Error::NotRunning { name: spec.name.clone() };
            let pidfd = runtime::identify(identity).ok_or_else(gone)?;
            let folder = PathBuf::from(format!("/proc/{}/root", identity.pid));
            let root = open_root(&folder).context("open", &folder)?;
            // The number could have been given to another process before it was opened.
            runtime::identify(identity).ok_or_else(gone)?;
            drop(pidfd);
            let place = Place::new(root, path, shown, false, None);
            return Ok(Place { owners: Owners::inside(&spec), ..place });
        }
        let lock = self.store.containers().lock(id)?;
        let clean = clean(path);
        if let Some((folder, rest, read_only)) = self.mounted(&spec, &clean)? {
            let root = open_root(&folder).context("open", &folder)?;
            let ending = if path.ends_with("/.") {
                "/."
            } else if path.ends_with('/') {
                "/"
            } else {
                ""
            };
            let inner = format!("{}{ending}", rest.display());
            return Ok(Place::new(root, &inner, shown, read_only, Some(lock)));
        }
        let root = runtime::mount_layers(&supervise::root_fs(&self.store, &spec))?;
        Ok(Place::new(root, path, shown, spec.read_only, Some(lock)))
    }

    /// The folder of the host that a path of a container lies in, when it is below a mount.
    fn mounted(&self, spec: &ContainerSpec, path: &Path) -> Result<Option<(PathBuf, PathBuf, bool)>> {
        let mut found: Option<(PathBuf, PathBuf, bool)> = None;
        let mut longest = 0;
        for mount in &spec.mounts {
            let target = clean(&mount.target);
            let Ok(rest) = path.strip_prefix(&target) else { continue };
            if target.components().count() < longest {
                continue;
            }
            let folder = match &mount.source {
                MountSource::Bind { path, .. } if path.is_dir() => path.clone(),
                MountSource::Volume { name, subpath: None, .. }
                    if self.store.volumes().get(name)?.options.is_empty() =>
                {
                    self.store.volumes().data_folder(name)
                }
                _ => continue,
            };
            longest = target.components().count();
            found = Some((folder, rest.to_owned(), mount.read_only));
        }
        Ok(found)
    }

    /// Writes all files of a container, without those of volumes, as a tar.
    pub fn export(&self, id: &ContainerId, output: &mut dyn Write) -> Result<()> {
        let spec = self.store.containers().spec(id)?;
        let stack = supervise::root_fs(&self.store, &spec);
        // The container may go on: its own layer is the top-most of those that are only read.
        let upper = stack.upper.into_iter().map(|upper| upper.upper);
        let root = runtime::mount_layers(&RootFs { lowers: upper.chain(stack.lowers).collect(), upper: None })?;
        let mut archive = Archive::new(output, Owners::default());
        let place = open_child(root.as_fd(), ".".as_ref()).context("open", Path::new("/"))?;
        archive.add(&place, Path::new(""))?;
        archive.finish()?.flush().context("write", Path::new("-"))?;
        Ok(())
    }
}

impl Place {
    /// A place on the host; relative paths start from the current folder.
    pub fn on_host(path: &str) -> Result<Self> {
        let folder = if path.starts_with('/') {
            PathBuf::from("/")
        } else {
            std::env::current_dir().context("find", Path::new("."))?
        };
        let absolute = format!("{}/{path}", folder.display());
        let root = open_root(Path::new("/")).context("open", Path::new("/"))?;
        Ok(Self::new(root, &absolute, PathBuf::from(path), false, None))
    }

    fn new(root: OwnedFd, path: &str, shown: PathBuf, read_only: bool, lock: Option<Lock>) -> Self {
        let is_content = path.ends_with("/.") || path == ".";
        let is_folder = is_content || path.ends_with('/') || path.ends_with("/..");
        Self {
            root,
            path: clean(path),
            shown,
            is_folder,
            is_content,
            read_only,
            owners: Owners::default(),
            _lock: lock,
        }
    }

    fn open(&self, follow: bool) -> rustix::io::Result<OwnedFd> {
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        open_in_root(self.root.as_fd(), &self.path, flags, Mode::empty())
    }

    /// Its last name; of the root `root`.
    fn name(&self) -> OsString {
        self.path.file_name().map_or_else(|| "root".into(), ToOwned::to_owned)
    }

    /// Writes what is here as a tar, named as the place's last name; returns whether it is a folder.
    pub fn read(&self, options: CopyOptions, output: impl Write) -> Result<()> {
        let place = self.open(options.follow || self.is_folder).context("copy", &self.shown)?;
        let is_folder = is_folder(&place).context("look at", &self.shown)?;
        if self.is_folder && !is_folder {
            return Err(Errno::NOTDIR).context("copy", &self.shown).map_err(Into::into);
        }
        let mut archive = Archive::new(output, self.owners.clone());
        let name = if self.is_content { PathBuf::from(".") } else { self.name().into() };
        archive.add(&place, &name)?;
        archive.finish()?.flush().context("write", Path::new("-"))?;
        Ok(())
    }

    /// Unpacks a tar into the folder that must be here.
    pub fn write_archive(&self, options: CopyOptions, input: impl Read) -> Result<()> {
        self.check_writable()?;
        let place = self.open(true).context("copy to", &self.shown)?;
        if !is_folder(&place).context("look at", &self.shown)? {
            return Err(Errno::NOTDIR).context("copy to", &self.shown).map_err(Into::into);
        }
        self.unpack(options, input, self.path.clone(), None)
    }

    /// Copies from another place by the rules of `docker cp`; returns the bytes of the archive between them.
    pub fn copy_from(&self, source: &Self, options: CopyOptions) -> Result<u64> {
        self.check_writable()?;
        let from = source.open(options.follow || source.is_folder).context("copy", &source.shown)?;
        let from_folder = is_folder(&from).context("look at", &source.shown)?;
        if source.is_folder && !from_folder {
            return Err(Errno::NOTDIR).context("copy", &source.shown).map_err(Into::into);
        }
        let existing = match self.open(true) {
            Ok(place) => Some(is_folder(&place).context("look at", &self.shown)?),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno).context("copy to", &self.shown).map_err(Into::into),
        };
        if existing != Some(true)
            && let Some(path) = self.behind_links().context("copy to", &self.shown)?
        {
            // A link at the destination stays: what it leads to gets the content, also where that is not there yet.
            return Self {
                root: self.root.try_clone().context("open", &self.shown)?,
                path,
                shown: self.shown.clone(),
                owners: self.owners.clone(),
                _lock: None,
                ..*self
            }
            .copy_from(source, options);
        }
        let name = PathBuf::from(source.name());
        // The folder that the archive's names start from, and what its first name becomes.
        let (folder, target) = match (existing, from_folder) {
            (Some(true), true) if source.is_content => (self.path.clone(), PathBuf::new()),
            (Some(true), _) => (self.path.clone(), name.clone()),
            (Some(false), true) => {
                return Err(Error::CopyFolderOverFile { path: self.shown.clone() });
            }
            (Some(false), false) if self.is_folder => {
                return Err(Errno::NOTDIR).context("copy to", &self.shown).map_err(Into::into);
            }
            (None, false) if self.is_folder => {
                return Err(Errno::NOENT).context("copy to", &self.shown).map_err(Into::into);
            }
            (None | Some(false), _) => {
                let parent = self.path.parent().unwrap_or(Path::new("")).to_owned();
                let above = open_in_root(self.root.as_fd(), &parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
                above.context("copy to", &self.shown)?;
                (parent, self.name().into())
            }
        };
        let owners = source.owners.clone();
        let (reader, writer) = std::io::pipe().context("copy", &source.shown)?;
        std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let mut archive = Archive::new(Counting { output: writer, bytes: 0 }, owners);
                archive.add(&from, &name)?;
                Ok::<_, Error>(archive.finish()?.bytes)
            });
            let received = self.unpack(options, reader, folder, Some((PathBuf::from(source.name()), target)));
            let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // What the receiver says explains why the sender could not go on.
            received?;
            sent
        })
    }

    /// Where the link at this place leads to; `None` when there is none, or what it leads to is no link either.
    fn behind_links(&self) -> rustix::io::Result<Option<PathBuf>> {
        let mut path = self.path.clone();
        for _ in 0..LINKS_MAX {
            let place = match open_in_root(self.root.as_fd(), &path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(place) => place,
                Err(Errno::NOENT) => return Ok(Some(path).filter(|path| *path != self.path)),
                Err(errno) => return Err(errno),
            };
            if FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) != FileType::Symlink {
                return Ok(Some(path).filter(|path| *path != self.path));
            }
            let link = rustix::fs::readlinkat(&place, c"", Vec::new())?;
            let link = Path::new(std::ffi::OsStr::from_bytes(link.as_bytes()));
            // What is left of `..` is resolved in the root, as the kernel does it.
            path = match link.strip_prefix("/") {
                Ok(absolute) => absolute.to_owned(),
                Err(_) => path.parent().unwrap_or(Path::new("")).join(link),
            };
            if path.file_name().is_none() {
                return Err(Errno::NOENT);
            }
        }
        Err(Errno::LOOP)
    }

    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Errno::ROFS).context("copy to", &self.shown).map_err(Into::into);
        }
        Ok(())
    }

    fn unpack(
        &self,
        options: CopyOptions,
        input: impl Read,
        folder: PathBuf,
        renamed: Option<(PathBuf, PathBuf)>,
    ) -> Result<()> {
        let owner = if options.archive {
            None
        } else {
            Some((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()))
        };
        extract(input, &Destination { root: self.root.as_fd(), folder, owner, renamed, owners: self.owners.clone() })
    }
}

/// Counts what goes through.
struct Counting<W> {
    output: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.output.write(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

fn is_folder(place: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode) == FileType::Directory)
}

/// Below the root, without `.`; `..` goes up by name, as people mean it.
pub(super) fn clean(path: impl AsRef<Path>) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.as_ref().components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => _ = clean.pop(),
            _ => {}
        }
    }
    clean
}
