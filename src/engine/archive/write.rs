//! A tree of files -> tar.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use crate::base::fs::{Context, Result};
use crate::engine::owners::Owners;

/// Longest name or link target that fits a header without a pax record.
const HEADER_NAME_BYTES: usize = 100;
/// Deepest folder, so that a hostile tree cannot exhaust the stack.
const DEPTH_MAX: usize = 1024;
/// Most bytes of the attributes' names of one file.
const ATTRIBUTE_NAMES_BYTES: usize = 64 << 10;

/// An archive being written.
pub struct Archive<W: Write> {
    builder: tar::Builder<W>,
    /// What the host calls owners there.
    owners: Owners,
    /// Device and inode of files with several names: the one already written.
    first_names: HashMap<(u64, u64), PathBuf>,
}

/// Opens one name below a folder, without following it.
pub fn open_child(folder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

impl<W: Write> Archive<W> {
    /// Begins one of files that the host calls their owners so.
    pub fn new(output: W, owners: Owners) -> Self {
        Self { builder: tar::Builder::new(output), owners, first_names: HashMap::new() }
    }

    /// Writes the end of the archive.
    pub fn finish(self) -> Result<W> {
        self.builder.into_inner().context("write the archive to", Path::new("-"))
    }

    /// Adds what `place` (a handle made with `O_PATH`) is, with all below it, under `name`; empty is the root.
    pub fn add(&mut self, place: &OwnedFd, name: &Path) -> Result<()> {
        self.entry(place, name, 0)
    }

    fn entry(&mut self, place: &OwnedFd, name: &Path, depth: usize) -> Result<()> {
        let stat = rustix::fs::fstat(place).context("look at", name)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.folder(place, name, depth),
            FileType::RegularFile => self.file(place, name, &stat),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(place, c"", Vec::new()).context("read", name)?;
                self.append(
                    &mut self.header(&stat, tar::EntryType::Symlink, 0),
                    name,
                    target.as_bytes(),
                    &[],
                    io::empty(),
                )
            }
            // What listens on a socket is not in the archive, so it would be no use.
            FileType::Socket => Ok(()),
            kind => {
                let kind = match kind {
                    FileType::CharacterDevice => tar::EntryType::Char,
                    FileType::BlockDevice => tar::EntryType::Block,
                    _ => tar::EntryType::Fifo,
                };
                let mut header = self.header(&stat, kind, 0);
                let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                header.set_device_major(numbers.0).context("archive", name)?;
                header.set_device_minor(numbers.1).context("archive", name)?;
                self.append(&mut header, name, b"", &[], io::empty())
            }
        }
    }

    fn folder(&mut self, place: &OwnedFd, name: &Path, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other("folders are nested too deeply")).context("archive", name);
        }
        let folder = reopen(place, OFlags::DIRECTORY).context("open", name)?;
        let stat = rustix::fs::fstat(&folder).context("look at", name)?;
        if !name.as_os_str().is_empty() {
            let mut named = name.as_os_str().to_owned();
            named.push("/");
            let mut header = self.header(&stat, tar::EntryType::Directory, 0);
            self.append(&mut header, Path::new(&named), b"", &attributes(&folder), io::empty())?;
        }
        let mut names = Vec::new();
        let mut entries = rustix::fs::Dir::read_from(&folder).context("list", name)?;
        while let Some(entry) = entries.read() {
            let entry = entry.context("list", name)?.file_name().to_bytes().to_owned();
            if entry != b"." && entry != b".." {
                names.push(entry);
            }
        }
        names.sort_unstable();
        for entry in names {
            let entry = OsStr::from_bytes(&entry);
            match open_child(folder.as_fd(), entry) {
                Ok(child) => self.entry(&child, &name.join(entry), depth + 1)?,
                // A running container removes files as it likes.
                Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(errno).context("open", &name.join(entry)),
            }
        }
        Ok(())
    }

    fn file(&mut self, place: &OwnedFd, name: &Path, stat: &Stat) -> Result<()> {
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.first_names.get(&key).cloned() {
                let mut header = self.header(stat, tar::EntryType::Link, 0);
                return self.append(&mut header, name, first.as_os_str().as_bytes(), &[], io::empty());
            }
            self.first_names.insert(key, name.to_owned());
        }
        let file = reopen(place, OFlags::NONBLOCK).context("open", name)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let attributes = attributes(&file);
        // A file that grows meanwhile is cut, one that shrinks is filled up: the archive stays readable.
        let content = std::fs::File::from(file).take(size).chain(io::repeat(0)).take(size);
        self.append(&mut self.header(stat, tar::EntryType::Regular, size), name, b"", &attributes, content)
    }

    fn header(&self, stat: &Stat, kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        let (uid, gid) = self.owners.to_inside((stat.st_uid, stat.st_gid));
        header.set_uid(u64::from(uid));
        header.set_gid(u64::from(gid));
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(size);
        header
    }

    fn append(
        &mut self,
        header: &mut tar::Header,
        name: &Path,
        link: &[u8],
        attributes: &[(String, Vec<u8>)],
        content: impl Read,
    ) -> Result<()> {
        let bytes = name.as_os_str().as_bytes();
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        if bytes.len() > HEADER_NAME_BYTES {
            records.push(("path", bytes));
        }
        if link.len() > HEADER_NAME_BYTES {
            records.push(("linkpath", link));
        }
        records.extend(attributes.iter().map(|(key, value)| (key.as_str(), value.as_slice())));
        let fields = header.as_old_mut();
        for (field, text) in [(&mut fields.name, bytes), (&mut fields.linkname, link)] {
            let length = text.len().min(field.len());
            field.fill(0);
            field[..length].copy_from_slice(&text[..length]);
        }
        header.set_cksum();
        if !records.is_empty() {
            self.builder.append_pax_extensions(records).context("archive", name)?;
        }
        self.builder.append(header, content).context("archive", name)
    }
}

/// Opens what a handle means for reading. It was looked at before: it is a file or a folder.
fn reopen(place: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
}

/// Attributes that mean the same elsewhere, as pax records, sorted.
fn attributes(file: &OwnedFd) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0u8; ATTRIBUTE_NAMES_BYTES];
    // A file system without attributes has none.
    let Ok(length) = rustix::fs::flistxattr(file, &mut names[..]) else { return Vec::new() };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        let Ok(text) = std::str::from_utf8(name) else { continue };
        if text != "security.capability" && !text.starts_with("user.") {
            continue;
        }
        let mut value = vec![0u8; ATTRIBUTE_NAMES_BYTES];
        if let Ok(length) = rustix::fs::fgetxattr(file, text, &mut value[..]) {
            value.truncate(length);
            found.push((format!("SCHILY.xattr.{text}"), value));
        }
    }
    found.sort();
    found
}
