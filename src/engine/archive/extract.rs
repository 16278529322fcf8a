//! Tar -> a tree of files.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use crate::base::fs::{Context, Error, Result};
use crate::engine;
use crate::engine::owners::Owners;
use crate::image::tar_reader::{EntryHeader, TarReader};
use crate::runtime::root::{mkdir_in_root, open_in_root};

/// Where an archive goes.
pub struct Destination<'a> {
    /// No link leads out of it.
    pub root: BorrowedFd<'a>,
    /// The folder in it that names start from; it exists.
    pub folder: PathBuf,
    /// The owner of everything; `None` keeps the archive's.
    pub owner: Option<(u32, u32)>,
    /// The first part of every name, and what it becomes.
    pub renamed: Option<(PathBuf, PathBuf)>,
    /// What the host calls owners there.
    pub owners: Owners,
}

/// Unpacks an archive. Files that are there are replaced; folders are filled.
///
/// Errors: names with `..`, a folder where a file is or the other way round, what the file system says.
pub fn extract(archive: impl Read, destination: &Destination<'_>) -> std::result::Result<(), engine::Error> {
    let mut reader = TarReader::new(archive);
    let _user = destination.owners.act().context("write as the user of", &destination.folder)?;
    let mut times = Vec::new();
    while let Some(header) = reader.next_entry()? {
        let name = destination.name(&header.name)?;
        if name.as_os_str().is_empty() {
            continue;
        }
        let path = destination.folder.join(&name);
        let parent = path.parent().unwrap_or(Path::new(""));
        let owner = destination.owner.map(|owner| destination.owners.to_host(owner));
        let folder =
            mkdir_in_root(destination.root, parent, Mode::from_raw_mode(0o755), owner).context("create", parent)?;
        let last = path.file_name().unwrap_or_default().to_owned();
        let entry = Entry { folder: folder.as_fd(), name: &last, path: &path, header: &header, destination };
        if let Some(handle) = entry.make(&mut reader)? {
            times.push((handle, header.mtime));
        }
    }
    // Every new entry changed the time of its folder.
    for (folder, mtime) in times.iter().rev() {
        rustix::fs::futimens(folder, &timestamps(*mtime)).context("change the time of", Path::new("a folder"))?;
    }
    Ok(())
}

impl Destination<'_> {
    /// The name below the folder, renamed; never one that leads out.
    fn name(&self, bytes: &[u8]) -> Result<PathBuf> {
        let mut clean = PathBuf::new();
        for part in Path::new(OsStr::from_bytes(bytes)).components() {
            match part {
                Component::Normal(part) => clean.push(part),
                Component::ParentDir => {
                    let path = PathBuf::from(OsStr::from_bytes(bytes));
                    let source = io::Error::other("names with `..` lead out of the archive");
                    return Err(Error { operation: "unpack", path, source });
                }
                _ => {}
            }
        }
        Ok(match &self.renamed {
            Some((from, to)) => match clean.strip_prefix(from) {
                Ok(rest) if rest.as_os_str().is_empty() => to.clone(),
                Ok(rest) => to.join(rest),
                Err(_) => clean,
            },
            None => clean,
        })
    }
}

struct Entry<'a> {
    folder: BorrowedFd<'a>,
    name: &'a OsStr,
    path: &'a Path,
    header: &'a EntryHeader,
    destination: &'a Destination<'a>,
}

impl Entry<'_> {
    /// Makes it; returns the handle of a folder, whose time is set at the end.
    fn make(&self, reader: &mut TarReader<impl Read>) -> std::result::Result<Option<OwnedFd>, engine::Error> {
        match self.header.kind {
            tar::EntryType::Directory => return Ok(Some(self.make_folder()?)),
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                self.make_way()?;
                self.file(reader)?;
            }
            tar::EntryType::Symlink => {
                self.make_way()?;
                let target = OsStr::from_bytes(&self.header.link);
                rustix::fs::symlinkat(target, self.folder, self.name).context("create", self.path)?;
                self.own()?;
            }
            tar::EntryType::Link => {
                let target = self.destination.folder.join(self.destination.name(&self.header.link)?);
                let flags = OFlags::PATH | OFlags::NOFOLLOW;
                let first =
                    open_in_root(self.destination.root, &target, flags, Mode::empty()).context("open", &target)?;
                self.make_way()?;
                rustix::fs::linkat(&first, c"", self.folder, self.name, AtFlags::EMPTY_PATH)
                    .context("link", self.path)?;
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                self.make_way()?;
                let kind = match self.header.kind {
                    tar::EntryType::Char => FileType::CharacterDevice,
                    tar::EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let (major, minor) = self.header.device;
                let mode = Mode::from_raw_mode(self.header.mode & 0o7777);
                rustix::fs::mknodat(self.folder, self.name, kind, mode, rustix::fs::makedev(major, minor))
                    .context("create", self.path)?;
                self.own()?;
            }
            _ => {}
        }
        Ok(None)
    }

    fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        let owner = self.destination.owner.unwrap_or((self.header.uid, self.header.gid));
        let (uid, gid) = self.destination.owners.to_host(owner);
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    fn own(&self) -> Result<()> {
        let (uid, gid) = self.owner();
        rustix::fs::chownat(self.folder, self.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .context("change the owner of", self.path)
    }

    /// Takes away what a file or link replaces.
    fn make_way(&self) -> Result<()> {
        match rustix::fs::unlinkat(self.folder, self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => {
                Err(io::Error::other("a folder is not replaced by a file")).context("write", self.path)
            }
            Err(errno) => Err(errno).context("replace", self.path),
        }
    }

    fn make_folder(&self) -> Result<OwnedFd> {
        let made = match rustix::fs::mkdirat(self.folder, self.name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno).context("create folder", self.path),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match rustix::fs::openat(self.folder, self.name, flags, Mode::empty()) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(io::Error::other("a file is not replaced by a folder")).context("write", self.path);
            }
            handle => handle.context("open", self.path)?,
        };
        if made || self.destination.owner.is_none() {
            let (uid, gid) = self.owner();
            rustix::fs::fchown(&handle, uid, gid).context("change the owner of", self.path)?;
        }
        rustix::fs::fchmod(&handle, Mode::from_raw_mode(self.header.mode & 0o7777))
            .context("change the mode of", self.path)?;
        Ok(handle)
    }

    fn file(&self, reader: &mut TarReader<impl Read>) -> std::result::Result<(), engine::Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(self.folder, self.name, flags, Mode::RUSR | Mode::WUSR).context("create", self.path)?;
        let mut file = std::fs::File::from(file);
        match &self.header.sparse {
            None => loop {
                let piece = reader.content()?;
                if piece.is_empty() {
                    break;
                }
                file.write_all(piece).context("write", self.path)?;
            },
            Some(sparse) => {
                file.set_len(sparse.real_size).context("write", self.path)?;
                write_parts(&file, reader, &sparse.parts, self.path)?;
            }
        }
        let file = OwnedFd::from(file);
        let (uid, gid) = self.owner();
        rustix::fs::fchown(&file, uid, gid).context("change the owner of", self.path)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(self.header.mode & 0o7777))
            .context("change the mode of", self.path)?;
        for (name, value) in &self.header.attributes {
            if name == "security.capability" || name.starts_with("user.") {
                let flags = rustix::fs::XattrFlags::empty();
                match rustix::fs::fsetxattr(&file, name.as_str(), value, flags) {
                    Ok(()) | Err(Errno::NOTSUP) => {}
                    Err(errno) => return Err(errno).context("set the attributes of", self.path).map_err(Into::into),
                }
            }
        }
        rustix::fs::futimens(&file, &timestamps(self.header.mtime)).context("change the time of", self.path)?;
        Ok(())
    }
}

/// The content of a sparse file: its parts one after the other.
fn write_parts(
    file: &std::fs::File,
    reader: &mut TarReader<impl Read>,
    parts: &[(u64, u64)],
    path: &Path,
) -> std::result::Result<(), engine::Error> {
    use std::os::unix::fs::FileExt;
    let mut parts = parts.iter().filter(|(_, length)| *length > 0);
    let (mut offset, mut left) = parts.next().copied().unwrap_or_default();
    loop {
        let mut piece = reader.content()?;
        if piece.is_empty() {
            return Ok(());
        }
        while !piece.is_empty() && left > 0 {
            let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all_at(&piece[..length], offset).context("write", path)?;
            piece = &piece[length..];
            (offset, left) = (offset + length as u64, left - length as u64);
            if left == 0 {
                (offset, left) = parts.next().copied().unwrap_or_default();
            }
        }
    }
}

fn timestamps((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
    let last_modification = Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification }
}
