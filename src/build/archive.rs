//! `ADD archive`: a local tar archive (plain or compressed, told by its content) is unpacked into a layer.
//!
//! Entries stay below the destination whatever their names or links say. A file replaces what it finds; folders
//! are merged and get the archive's owner, mode and time. Names and sizes are those of the archive's headers, so
//! reading is bounded by the archive itself; the number of entries and their sum are bounded here.
//!
//! Source: moby `pkg/archive` (Untar); BuildKit `solver/llbsolver/file/unpack.go`.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use tar::EntryType;

use super::target::{Owner, Target, shown};
use crate::base::fs;

/// Most entries of one archive.
const ENTRIES_MAX: u64 = 10_000_000;
/// Most bytes of all files of one archive, unpacked.
const BYTES_MAX: u64 = 1 << 40;
/// Most memory that unpacking xz may take: its format lets a file ask for 4 GiB; `xz -9` needs 65 MiB.
const XZ_MEMORY_KIB_MAX: u32 = 256 << 10;
/// Deepest nesting of folders.
const DEPTH_MAX: usize = 1000;

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its bytes are not an archive after all.
    #[error("the archive cannot be read after `{}`", path.display())]
    Damaged {
        /// The last entry that was read.
        path: PathBuf,
        /// The reader's answer.
        #[source]
        source: io::Error,
    },
    /// It is larger than allowed.
    #[error("the archive has too many entries, too many bytes or too deep folders at `{}`", path.display())]
    TooLarge {
        /// Where it was noticed.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fs::Error),
}

/// Unpacks `file` at `destination` (resolved) if it is an archive; says whether it was one.
pub fn unpack_if_archive(
    target: &mut Target<'_>,
    file: File,
    destination: &Path,
    owner: Option<Owner>,
) -> Result<bool, ArchiveError> {
    let Some(reader) = archive_reader(file)? else { return Ok(false) };
    target.make_folders(destination, 0o755, owner.unwrap_or(Owner { uid: 0, gid: 0 }))?;
    let mut unpack = Unpack { target, destination, owner, bytes: 0, last: PathBuf::new() };
    unpack.all(reader)?;
    Ok(true)
}

/// The uncompressed archive; `None` when the file is none.
fn archive_reader(mut file: File) -> Result<Option<Box<dyn Read>>, ArchiveError> {
    let mut begin = [0u8; 6];
    let Ok(count) = read_up_to(&mut file, &mut begin) else { return Ok(None) };
    if file.rewind().is_err() {
        return Ok(None);
    }
    let begin = &begin[..count];
    let Ok(copy) = file.try_clone() else { return Ok(None) };
    let Some(mut probe) = decompressed(begin, copy)? else { return Ok(None) };
    // A compressed file that is no archive is copied as it is.
    let mut header = [0u8; 512];
    let is_archive = matches!(read_up_to(&mut probe, &mut header), Ok(512)) && is_header(&header);
    drop(probe);
    if !is_archive || file.rewind().is_err() {
        return Ok(None);
    }
    decompressed(begin, file)
}

fn decompressed(begin: &[u8], file: File) -> Result<Option<Box<dyn Read>>, ArchiveError> {
    let reader = BufReader::with_capacity(128 << 10, file);
    Ok(Some(match begin {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => match zstd::Decoder::with_buffer(reader) {
            Ok(decoder) => Box::new(decoder),
            Err(_) => return Ok(None),
        },
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY_KIB_MAX))
        }
        _ => Box::new(reader),
    }))
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Whether a block is a tar header: its checksum is right and it is not empty.
fn is_header(block: &[u8; 512]) -> bool {
    let header = tar::Header::from_byte_slice(block);
    let sum: u32 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    block.iter().any(|byte| *byte != 0) && header.cksum().is_ok_and(|expected| expected == sum)
}

struct Unpack<'a, 'b> {
    target: &'a mut Target<'b>,
    destination: &'a Path,
    owner: Option<Owner>,
    bytes: u64,
    last: PathBuf,
}

impl Unpack<'_, '_> {
    fn all(&mut self, reader: Box<dyn Read>) -> Result<(), ArchiveError> {
        let mut archive = tar::Archive::new(reader);
        let entries = archive.entries().map_err(|source| self.damaged(source))?;
        for (number, entry) in (0u64..).zip(entries) {
            let mut entry = entry.map_err(|source| self.damaged(source))?;
            let name = PathBuf::from(std::ffi::OsStr::from_bytes(&entry.path_bytes()));
            self.last.clone_from(&name);
            self.bytes = self.bytes.saturating_add(entry.size());
            if number > ENTRIES_MAX || self.bytes > BYTES_MAX || name.components().count() > DEPTH_MAX {
                return Err(ArchiveError::TooLarge { path: name });
            }
            self.entry(&mut entry, &name)?;
        }
        Ok(())
    }

    fn damaged(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Damaged { path: self.last.clone(), source }
    }

    fn entry(&mut self, entry: &mut tar::Entry<'_, Box<dyn Read>>, name: &Path) -> Result<(), ArchiveError> {
        let header = entry.header();
        let id = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
        let owner = self.owner.unwrap_or(Owner { uid: id(header.uid()), gid: id(header.gid()) });
        let mode = header.mode().unwrap_or(0o644) & 0o7777;
        let mtime_ns = i128::from(header.mtime().unwrap_or(0)) * 1_000_000_000;
        let kind = header.entry_type();
        let path = self.target.resolve(self.destination, name, false)?;
        let is_root = path == *self.destination;
        if is_root && kind != EntryType::Directory {
            return Ok(());
        }
        if !is_root {
            self.parents(&path)?;
        }
        let existing = self.target.look(&path)?;
        if kind == EntryType::Directory {
            match existing {
                Some(meta) if meta.is_folder() => self.target.enter(&path)?,
                _ => {
                    self.target.clear(&path)?;
                    self.target.new_folder(&path, mode)?;
                }
            }
            return Ok(self.target.set_folder(&path, owner, mode, mtime_ns)?);
        }
        self.target.clear(&path)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.target.write_file(entry, &path, owner, mode, mtime_ns)?;
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().unwrap_or_default();
                self.target.symlink(Path::new(std::ffi::OsStr::from_bytes(&link)), &path, owner, mtime_ns)?;
            }
            EntryType::Link => self.hard_link(entry, &path)?,
            EntryType::Fifo => self.target.node(&path, FileType::Fifo, 0, owner, mode)?,
            EntryType::Char | EntryType::Block => {
                let header = entry.header();
                let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
                let device = rustix::fs::makedev(number(header.device_major()), number(header.device_minor()));
                let kind = if kind == EntryType::Char { FileType::CharacterDevice } else { FileType::BlockDevice };
                self.target.node(&path, kind, device, owner, mode)?;
            }
            // Global headers and formats of other tools say nothing about files.
            _ => {}
        }
        Ok(())
    }

    fn parents(&mut self, path: &Path) -> Result<(), ArchiveError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        match self.target.look(parent)? {
            Some(meta) if meta.is_folder() => {}
            _ => self.target.make_folders(parent, 0o755, self.owner.unwrap_or(Owner { uid: 0, gid: 0 }))?,
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &tar::Entry<'_, Box<dyn Read>>, path: &Path) -> Result<(), ArchiveError> {
        let link = entry.link_name_bytes().unwrap_or_default();
        let name = Path::new(std::ffi::OsStr::from_bytes(&link));
        let first = self.target.resolve(self.destination, name, false)?;
        if self.target.has(&first)? {
            return Ok(self.target.hard_link(&first, path)?);
        }
        let source = io::Error::new(io::ErrorKind::NotFound, "the archive has no such file before this link");
        Err(ArchiveError::File(fs::Error { operation: "link", path: shown(&first), source }))
    }
}
