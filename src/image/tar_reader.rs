//! Reads a tar stream entry by entry with bounded memory.
//!
//! The `tar` crate parses header blocks; this module strings them together, because that crate reads GNU long
//! names and pax records of any size into memory. Old, ustar, GNU and pax archives; a pax `size` overrides the
//! header's in every respect, so no two readers disagree on where an entry ends (CVE-2025-62518).
//!
//! Source: <https://www.gnu.org/software/tar/manual/html_node/Standard.html>, pax(1) "pax Extended Header".

use std::io::{self, Read};

use super::{Error, Result};

const BLOCK_BYTES: usize = 512;
/// One read from the stream below.
const BUFFER_BYTES: usize = 256 << 10;
/// Longest GNU long name: PATH_MAX.
const NAME_BYTES_MAX: u64 = 4096 + 1;
/// Most pax records before an entry. Extended attributes of one file have at most 64 KiB each.
const PAX_BYTES_MAX: u64 = 1 << 20;
/// Most parts of a sparse file.
const SPARSE_PARTS_MAX: usize = 1 << 16;

/// An entry's header, with what extension headers said about it.
#[derive(Debug, Clone)]
pub struct EntryHeader {
    /// Name as in the archive.
    pub name: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: tar::EntryType,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Device numbers.
    pub device: (u32, u32),
    /// Extended attributes.
    pub attributes: Vec<(String, Vec<u8>)>,
    /// Bytes of content that follow in the archive.
    pub size: u64,
    /// Where a sparse file's content belongs.
    pub sparse: Option<Sparse>,
}

/// Where the content of a sparse file belongs.
#[derive(Debug, Clone, Default)]
pub struct Sparse {
    /// Offset and length of each part, ascending, without overlap.
    pub parts: Vec<(u64, u64)>,
    /// Size of the file.
    pub real_size: u64,
}

/// A tar stream.
pub struct TarReader<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Content of the current entry that was not taken yet, and the padding after it.
    content_left: u64,
    padding_left: u64,
}

#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    attributes: Vec<(String, Vec<u8>)>,
    sparse_major: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_name: Option<Vec<u8>>,
    has_old_sparse: bool,
}

impl<R: Read> TarReader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self { input, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, content_left: 0, padding_left: 0 }
    }

    /// The next entry, whatever is left of the one before being skipped; `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<EntryHeader>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| damaged("an entry's size is not a number"))?;
            match header.entry_type() {
                tar::EntryType::GNULongName => extensions.name = Some(self.text(size)?),
                tar::EntryType::GNULongLink => extensions.link = Some(self.text(size)?),
                tar::EntryType::XHeader => {
                    let records = self.small_content(size, PAX_BYTES_MAX, "its pax records are too long")?;
                    extensions.read_pax(&records)?;
                }
                // Defaults for all entries: nothing that writes layers uses them, but git archives carry a comment.
                tar::EntryType::XGlobalHeader => self.begin_content(size),
                _ => return self.entry(&header, extensions, size).map(Some),
            }
        }
    }

    /// The next piece of the current entry's content; empty at its end.
    pub fn content(&mut self) -> Result<&[u8]> {
        if self.content_left == 0 {
            return Ok(&[]);
        }
        if self.start == self.end {
            self.fill()?;
            if self.start == self.end {
                return Err(damaged("it ends within an entry"));
            }
        }
        let available = (self.end - self.start) as u64;
        // At most the buffer's size, so it fits.
        let length = available.min(self.content_left) as usize;
        let piece = self.start..self.start + length;
        self.start += length;
        self.content_left -= length as u64;
        Ok(&self.buffer[piece])
    }

    /// Reads the stream to its end: padding belongs to an archive's digest.
    pub fn drain(&mut self) -> Result<()> {
        self.start = self.end;
        loop {
            self.fill()?;
            if self.start == self.end {
                return Ok(());
            }
            self.start = self.end;
        }
    }

    fn entry(&mut self, header: &tar::Header, extensions: Extensions, header_size: u64) -> Result<EntryHeader> {
        if extensions.has_old_sparse {
            return Err(damaged("a sparse file in a pax format before 1.0 is not supported"));
        }
        let size = extensions.size.unwrap_or(header_size);
        let mut kind = header.entry_type();
        // Links, devices and folders have no content, whatever the size says (old tars put the size there); with a
        // pax size they would be read differently by others.
        let has_content =
            matches!(kind, tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse);
        let size = if has_content {
            size
        } else if kind.is_dir() {
            0
        } else {
            size
        };
        let mut sparse = None;
        if kind == tar::EntryType::GNUSparse {
            sparse = Some(self.gnu_sparse(header, size)?);
            kind = tar::EntryType::Regular;
        }
        self.begin_content(size);
        if extensions.sparse_major.is_some() {
            let real_size = extensions.sparse_size.ok_or_else(|| damaged("a sparse file has no size"))?;
            sparse = Some(self.pax_sparse(real_size)?);
        }
        let number = |field: &[u8], value: io::Result<u64>| match value {
            _ if is_blank(field) => Ok(0),
            value => {
                let value = value.ok().and_then(|value| u32::try_from(value).ok());
                value.ok_or_else(|| damaged("an owner is not a number"))
            }
        };
        let fields = header.as_old();
        let uid = extensions.uid.map_or_else(|| number(&fields.uid, header.uid()), Ok)?;
        let gid = extensions.gid.map_or_else(|| number(&fields.gid, header.gid()), Ok)?;
        let mtime = extensions.mtime.unwrap_or_else(|| (header.mtime().map_or(0, |time| time as i64), 0));
        let device = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
        Ok(EntryHeader {
            name: extensions.sparse_name.or(extensions.name).unwrap_or_else(|| header.path_bytes().into_owned()),
            link: extensions
                .link
                .or_else(|| header.link_name_bytes().map(|link| link.into_owned()))
                .unwrap_or_default(),
            kind,
            mode: match header.mode() {
                _ if is_blank(&fields.mode) => 0,
                mode => mode.map_err(|_| damaged("an entry's mode is not a number"))? & 0o7777,
            },
            uid,
            gid,
            mtime,
            device: (device(header.device_major()), device(header.device_minor())),
            attributes: extensions.attributes,
            size: self.content_left,
            sparse,
        })
    }

    /// The next header block; `None` at the end.
    fn header(&mut self) -> Result<Option<tar::Header>> {
        let mut header = tar::Header::new_old();
        if !self.block(header.as_mut_bytes())? || header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The checksum is the sum of all bytes, those of its own field (148 to 155) taken as spaces.
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum().map_or(true, |expected| expected != sum) {
            return Err(damaged("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Fills one block; false at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK_BYTES]) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            if self.start == self.end {
                self.fill()?;
                if self.start == self.end {
                    return if filled == 0 { Ok(false) } else { Err(damaged("it ends within a header")) };
                }
            }
            let length = (self.end - self.start).min(BLOCK_BYTES - filled);
            block[filled..filled + length].copy_from_slice(&self.buffer[self.start..self.start + length]);
            self.start += length;
            filled += length;
        }
        Ok(true)
    }

    fn fill(&mut self) -> Result<()> {
        self.start = 0;
        self.end = 0;
        loop {
            match self.input.read(&mut self.buffer) {
                Ok(read) => {
                    self.end = read;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { source }),
            }
        }
    }

    fn begin_content(&mut self, size: u64) {
        self.content_left = size;
        self.padding_left = (BLOCK_BYTES as u64 - size % BLOCK_BYTES as u64) % BLOCK_BYTES as u64;
    }

    fn skip_rest(&mut self) -> Result<()> {
        while !self.content()?.is_empty() {}
        self.content_left = std::mem::take(&mut self.padding_left);
        while !self.content()?.is_empty() {}
        Ok(())
    }

    fn small_content(&mut self, size: u64, size_max: u64, reason: &'static str) -> Result<Vec<u8>> {
        if size > size_max {
            return Err(damaged(reason));
        }
        self.begin_content(size);
        let mut content = Vec::new();
        loop {
            let piece = self.content()?;
            if piece.is_empty() {
                return Ok(content);
            }
            content.extend_from_slice(piece);
        }
    }

    fn text(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut text = self.small_content(size, NAME_BYTES_MAX, "a name is longer than 4096 bytes")?;
        while text.last() == Some(&0) {
            text.pop();
        }
        Ok(text)
    }

    /// The map of an old GNU sparse file: in its header and in the blocks that follow it.
    fn gnu_sparse(&mut self, header: &tar::Header, size: u64) -> Result<Sparse> {
        let wrong = || damaged("the map of a sparse file is wrong");
        let gnu = header.as_gnu().ok_or_else(wrong)?;
        let mut sparse = Sparse { parts: Vec::new(), real_size: gnu.real_size().map_err(|_| wrong())? };
        let mut add = |part: &tar::GnuSparseHeader| -> Result<()> {
            if part.is_empty() {
                return Ok(());
            }
            let (offset, length) = (part.offset().map_err(|_| wrong())?, part.length().map_err(|_| wrong())?);
            sparse.parts.push((offset, length));
            if sparse.parts.len() > SPARSE_PARTS_MAX { Err(wrong()) } else { Ok(()) }
        };
        gnu.sparse.iter().try_for_each(&mut add)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut block = tar::GnuExtSparseHeader::new();
            if !self.block(block.as_mut_bytes())? {
                return Err(wrong());
            }
            block.sparse.iter().try_for_each(&mut add)?;
            extended = block.is_extended();
        }
        sparse.check(size)?;
        Ok(sparse)
    }

    /// The map of a pax 1.0 sparse file: decimal numbers, one a line, before the content, padded to a block.
    fn pax_sparse(&mut self, real_size: u64) -> Result<Sparse> {
        let wrong = || damaged("the map of a sparse file is wrong");
        let mut numbers: Vec<u64> = Vec::new();
        let mut current: Option<u64> = None;
        let mut sparse = Sparse { parts: Vec::new(), real_size };
        loop {
            if self.content_left < BLOCK_BYTES as u64 {
                return Err(wrong());
            }
            let mut block = [0; BLOCK_BYTES];
            self.block(&mut block)?;
            self.content_left -= BLOCK_BYTES as u64;
            for byte in block {
                match byte {
                    b'0'..=b'9' => {
                        let value = current.unwrap_or(0).checked_mul(10).ok_or_else(wrong)?;
                        current = Some(value.checked_add(u64::from(byte - b'0')).ok_or_else(wrong)?);
                    }
                    b'\n' => numbers.push(current.take().ok_or_else(wrong)?),
                    _ => break,
                }
                let count = numbers.first().copied().unwrap_or(0);
                if count > SPARSE_PARTS_MAX as u64 {
                    return Err(wrong());
                }
                if !numbers.is_empty() && numbers.len() as u64 == 1 + 2 * count {
                    sparse.parts = numbers[1..].chunks_exact(2).map(|part| (part[0], part[1])).collect();
                    sparse.check(self.content_left)?;
                    return Ok(sparse);
                }
            }
        }
    }
}

impl Sparse {
    /// Refuses a map whose parts overlap, lie outside the file or do not add up to the content.
    fn check(&self, size: u64) -> Result<()> {
        let mut end = 0u64;
        let mut sum = 0u64;
        for (offset, length) in &self.parts {
            let part_end = offset.checked_add(*length);
            let in_order = *offset >= end && part_end.is_some_and(|part_end| part_end <= self.real_size);
            if !in_order {
                return Err(damaged("the map of a sparse file is wrong"));
            }
            end = part_end.unwrap_or(u64::MAX);
            sum = sum.saturating_add(*length);
        }
        if sum == size { Ok(()) } else { Err(damaged("the map of a sparse file is wrong")) }
    }
}

impl Extensions {
    fn read_pax(&mut self, records: &[u8]) -> Result<()> {
        let mut rest = records;
        while !rest.is_empty() {
            let (key, value, after) = pax_record(rest).ok_or_else(|| damaged("a pax record is malformed"))?;
            rest = after;
            self.set(key, value)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let text = std::str::from_utf8(value).ok();
        let wrong = || damaged("a pax record is malformed");
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(text.and_then(|text| text.parse().ok()).ok_or_else(wrong)?),
            b"uid" => self.uid = Some(text.and_then(|text| text.parse().ok()).ok_or_else(wrong)?),
            b"gid" => self.gid = Some(text.and_then(|text| text.parse().ok()).ok_or_else(wrong)?),
            b"mtime" => self.mtime = Some(text.and_then(pax_time).ok_or_else(wrong)?),
            b"GNU.sparse.major" => self.sparse_major = Some(value.to_vec()),
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.realsize" => {
                self.sparse_size = Some(text.and_then(|text| text.parse().ok()).ok_or_else(wrong)?);
            }
            b"GNU.sparse.map" | b"GNU.sparse.offset" | b"GNU.sparse.numblocks" => self.has_old_sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                    && let Ok(name) = std::str::from_utf8(name)
                {
                    self.attributes.push((name.to_owned(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Splits `<length> <key>=<value>\n` off; the length counts the whole record.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?;
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

/// `-12.345`: seconds with a decimal fraction.
fn pax_time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    // A time before 1970 counts its fraction downwards; whole seconds are precise enough there.
    Some(if whole.starts_with('-') { (seconds, 0) } else { (seconds, nanoseconds) })
}

/// Whether nothing was written into a field of a header. Old and hand-made archives leave owners out; GNU tar and
/// others read that as root.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, b' ' | 0))
}

fn damaged(reason: &'static str) -> Error {
    Error::DamagedArchive { reason }
}
