//! A layer's folder as a tar archive, the same bytes each time: its digest is the layer's diff id.
//!
//! Entries are sorted by name, a folder before its content; times are whole seconds; owners are numbers; a hard
//! link refers to the name that sorts first. Long names and extended attributes are pax records. overlayfs' marks
//! become the archive's: a character device 0:0 is written as `.wh.<name>`, an opaque folder gets the entry
//! `.wh..wh..opq`. Sockets are left out.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/layer.md>, pax(1), overlayfs.rst "whiteouts".

use std::collections::HashMap;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::Digest as _;

use super::{Error, Result};
use crate::base::fs::{self, Context};
use crate::base::id::Digest;

/// Longest name or link target that fits a header without a pax record.
const HEADER_NAME_BYTES: usize = 100;
/// Most bytes that an extended attribute has (`XATTR_SIZE_MAX`, linux/limits.h).
const ATTRIBUTE_BYTES_MAX: usize = 65536;
/// Deepest folder, so that a hostile tree cannot exhaust the stack. Paths end at 4096 bytes anyway.
const DEPTH_MAX: usize = 2048;

/// Bytes that are handed to the hashing thread at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait for it.
const CHUNKS_WAITING: usize = 4;

/// Hashes what is written to it, and forgets it. After the first chunk a thread does it, so that reading the files
/// of a large layer goes on meanwhile; a small layer is hashed without one.
#[derive(Debug, Default)]
pub(super) struct HashingWriter {
    chunk: Vec<u8>,
    thread: Option<(SyncSender<Vec<u8>>, JoinHandle<sha2::Sha256>)>,
}

impl HashingWriter {
    pub(super) fn digest(mut self) -> Digest {
        let mut hasher = match self.thread.take() {
            Some((sender, thread)) => {
                drop(sender);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
            None => sha2::Sha256::default(),
        };
        hasher.update(&self.chunk);
        Digest::from_sha256(&hasher.finalize())
    }

    fn hand_over(&mut self) {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        let (sender, _) = self.thread.get_or_insert_with(|| {
            let (sender, chunks) = sync_channel::<Vec<u8>>(CHUNKS_WAITING);
            let thread = std::thread::spawn(move || {
                chunks.iter().fold(sha2::Sha256::default(), |hasher, chunk| hasher.chain_update(chunk))
            });
            (sender, thread)
        });
        // The thread takes chunks until the sender is gone.
        drop(sender.send(chunk));
    }
}

impl Write for HashingWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(buffer);
        if self.chunk.len() >= CHUNK_BYTES {
            self.hand_over();
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `folder` (a layer's, or overlayfs' upper one) to `output` as a layer archive and returns the sum of the
/// sizes of its files in bytes.
///
/// Errors: `Archive` for an entry that has no place in one; `File` when reading or writing fails.
pub fn write_archive(folder: &Path, output: impl Write) -> Result<u64> {
    let mut archive = Archive {
        builder: tar::Builder::new(io::BufWriter::with_capacity(1 << 16, output)),
        root: folder.to_owned(),
        first_names: HashMap::new(),
        size_bytes: 0,
    };
    archive.folder(Path::new(""), 0)?;
    let mut buffer = archive.builder.into_inner().context("write the archive of", folder)?;
    buffer.flush().context("write the archive of", folder)?;
    Ok(archive.size_bytes)
}

struct Archive<W: Write> {
    builder: tar::Builder<W>,
    root: PathBuf,
    /// Device and inode of files with several links: the name already written.
    first_names: HashMap<(u64, u64), PathBuf>,
    size_bytes: u64,
}

impl<W: Write> Archive<W> {
    fn folder(&mut self, relative: &Path, depth: usize) -> Result<()> {
        let path = self.root.join(relative);
        if depth > DEPTH_MAX {
            return Err(Error::Archive { path, reason: "its folders are nested too deeply" });
        }
        if read_attribute(&path, c"trusted.overlay.opaque")?.as_deref() == Some(b"y") {
            self.marker(&relative.join(".wh..wh..opq"))?;
        }
        let mut names: Vec<OsString> = Vec::new();
        for entry in std::fs::read_dir(&path).context("list", &path)? {
            names.push(entry.context("list", &path)?.file_name());
        }
        names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        for name in names {
            self.entry(relative, &name, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, parent: &Path, name: &OsStr, depth: usize) -> Result<()> {
        let relative = parent.join(name);
        let path = self.root.join(&relative);
        let metadata = std::fs::symlink_metadata(&path).context("look at", &path)?;
        let kind = metadata.file_type();
        if kind.is_socket() {
            return Ok(());
        }
        if kind.is_char_device() && metadata.rdev() == 0 {
            let mut marker = OsString::from(".wh.");
            marker.push(name);
            return self.marker(&parent.join(marker));
        }
        if name.as_bytes().starts_with(b".wh.") {
            return Err(Error::Archive {
                path,
                reason: "names that begin with `.wh.` mark deleted files in an archive",
            });
        }
        if !kind.is_dir() && metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.first_names.get(&key) {
                let (mut header, first) = (header(&metadata, tar::EntryType::Link, 0), first.clone());
                return self.append(&mut header, &relative, Some(first.as_os_str()), &[], io::empty());
            }
            self.first_names.insert(key, relative.clone());
        }
        let attributes = attributes(&path)?;
        if kind.is_dir() {
            let mut header = header(&metadata, tar::EntryType::Directory, 0);
            let mut named = relative.clone().into_os_string();
            named.push("/");
            self.append(&mut header, Path::new(&named), None, &attributes, io::empty())?;
            self.folder(&relative, depth + 1)
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path).context("read", &path)?;
            let mut header = header(&metadata, tar::EntryType::Symlink, 0);
            self.append(&mut header, &relative, Some(target.as_os_str()), &attributes, io::empty())
        } else if kind.is_file() {
            self.file(&relative, &path, &metadata, &attributes)
        } else {
            let kind = if kind.is_fifo() {
                tar::EntryType::Fifo
            } else if kind.is_block_device() {
                tar::EntryType::Block
            } else {
                tar::EntryType::Char
            };
            let mut header = header(&metadata, kind, 0);
            if kind != tar::EntryType::Fifo {
                let device = metadata.rdev();
                let numbers = header
                    .set_device_major(rustix::fs::major(device))
                    .and_then(|()| header.set_device_minor(rustix::fs::minor(device)));
                numbers.context("archive", &path)?;
            }
            self.append(&mut header, &relative, None, &attributes, io::empty())
        }
    }

    fn file(
        &mut self,
        relative: &Path,
        path: &Path,
        metadata: &Metadata,
        attributes: &[(String, Vec<u8>)],
    ) -> Result<()> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file: std::fs::File = rustix::fs::open(path, flags, Mode::empty()).context("open", path)?.into();
        self.size_bytes += metadata.len();
        let mut header = header(metadata, tar::EntryType::Regular, metadata.len());
        // Exactly as many bytes as the header says, or an error: the archive stays readable.
        let mut content = Exact { file, left: metadata.len() };
        self.append(&mut header, relative, None, attributes, &mut content)
    }

    /// An empty file that is not there: a whiteout or the mark of an opaque folder.
    fn marker(&mut self, relative: &Path) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.append(&mut header, relative, None, &[], io::empty())
    }

    fn append(
        &mut self,
        header: &mut tar::Header,
        relative: &Path,
        link: Option<&OsStr>,
        attributes: &[(String, Vec<u8>)],
        content: impl io::Read,
    ) -> Result<()> {
        let path = self.root.join(relative);
        let mut records: Vec<(&str, &[u8])> = Vec::new();
        let name = relative.as_os_str().as_bytes();
        if name.len() > HEADER_NAME_BYTES {
            records.push(("path", name));
        }
        let target = link.map(OsStr::as_bytes).unwrap_or_default();
        if target.len() > HEADER_NAME_BYTES {
            records.push(("linkpath", target));
        }
        records.extend(attributes.iter().map(|(key, value)| (key.as_str(), value.as_slice())));
        let fields = header.as_old_mut();
        copy_truncated(&mut fields.name, name);
        copy_truncated(&mut fields.linkname, target);
        header.set_cksum();
        if !records.is_empty() {
            self.builder.append_pax_extensions(records).context("archive", &path)?;
        }
        Ok(self.builder.append(header, content).context("archive", &path)?)
    }
}

/// Reads `left` bytes of a file; one that became shorter is an error.
struct Exact {
    file: std::fs::File,
    left: u64,
}

impl io::Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if limit == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut buffer[..limit])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn header(metadata: &Metadata, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(u64::from(metadata.uid()));
    header.set_gid(u64::from(metadata.gid()));
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(size);
    header
}

fn copy_truncated(field: &mut [u8; HEADER_NAME_BYTES], text: &[u8]) {
    let length = text.len().min(field.len());
    field.fill(0);
    field[..length].copy_from_slice(&text[..length]);
}

/// The extended attributes that belong into an archive, as pax records, sorted.
fn attributes(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0u8; 256];
    let length = loop {
        match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(length) => break length,
            Err(rustix::io::Errno::RANGE) if names.len() < ATTRIBUTE_BYTES_MAX => {
                names.resize(names.len() * 4, 0);
            }
            Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Ok(Err(errno).context("read the attributes of", path)?),
        }
    };
    let mut found = Vec::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let Ok(text) = name.to_str() else { continue };
        if text.starts_with("trusted.overlay.")
            || text.starts_with("user.overlay.")
            || text.starts_with("security.selinux")
        {
            continue;
        }
        if let Some(value) = read_attribute(path, name)? {
            found.push((format!("SCHILY.xattr.{text}"), value));
        }
    }
    found.sort();
    Ok(found)
}

fn read_attribute(path: &Path, name: &CStr) -> fs::Result<Option<Vec<u8>>> {
    let mut value = vec![0u8; 256];
    loop {
        match rustix::fs::lgetxattr(path, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(rustix::io::Errno::RANGE) if value.len() < ATTRIBUTE_BYTES_MAX => value.resize(ATTRIBUTE_BYTES_MAX, 0),
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => return Ok(None),
            Err(errno) => return Err(errno).context("read the attributes of", path),
        }
    }
}
