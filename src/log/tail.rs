//! Finds the last lines of a log by reading its files backwards, so that a tail costs what it shows.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Error, record};
use crate::base::fs::Context;

/// How much is read at a time.
const BLOCK_BYTES: u64 = 64 << 10;

/// Returns the file (and its index in `chain`, oldest first) that holds the first of the last `lines` lines, opened
/// there; `None` when the log is empty. Partial records count with the line that they belong to.
pub(super) fn find(chain: &[PathBuf], lines: u64) -> Result<Option<(usize, File)>, Error> {
    let mut wanted = Count { lines, last_is_open: true };
    for (index, path) in chain.iter().enumerate().rev() {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).context("open", path).map_err(Error::from),
        };
        let start = scan(path, &mut file, &mut wanted)?;
        if start > 0 || wanted.reached() || index == 0 {
            file.seek(SeekFrom::Start(start)).context("seek in", path)?;
            return Ok(Some((index, file)));
        }
    }
    Ok(None)
}

/// Lines still to be found.
struct Count {
    lines: u64,
    /// No record was seen yet: a partial one at the very end is a line of its own.
    last_is_open: bool,
}

impl Count {
    fn reached(&self) -> bool {
        self.lines == 0
    }

    /// Takes the record before those seen; `false` when it is one too many.
    fn take(&mut self, text: &[u8]) -> bool {
        let Some(line) = record::decode(text).filter(|line| !line.bytes.is_empty()) else { return true };
        let complete = line.bytes.ends_with(b"\n");
        if complete || self.last_is_open {
            if self.lines == 0 {
                return false;
            }
            self.lines -= 1;
        }
        self.last_is_open = false;
        true
    }
}

/// Reads one file backwards; returns the offset at which the wanted lines begin.
fn scan(path: &Path, file: &mut File, wanted: &mut Count) -> Result<u64, Error> {
    let mut offset = file.seek(SeekFrom::End(0)).context("seek in", path)?;
    // Bytes from `offset` to the end of the record that is being put together.
    let mut carried: Vec<u8> = Vec::new();
    let mut start = offset;
    while offset > 0 {
        let length = offset.min(BLOCK_BYTES);
        offset -= length;
        let mut block = vec![0; length as usize];
        file.read_exact_at(&mut block, offset).context("read", path)?;
        block.extend_from_slice(&carried);
        let mut end = block.len();
        // A line feed at `index` ends the record before it and begins the one behind it.
        let mut search = end;
        while let Some(index) = block[..search].iter().rposition(|byte| *byte == b'\n') {
            if index + 1 < end {
                if !wanted.take(&block[index + 1..end]) {
                    return Ok(start);
                }
                start = offset + index as u64 + 1;
            }
            end = index + 1;
            search = index;
        }
        block.truncate(end);
        carried = block;
        if carried.len() as u64 > 4 * BLOCK_BYTES {
            // Longer than any record: not ours, and not worth the memory.
            carried.clear();
        }
    }
    if !carried.is_empty() {
        if !wanted.take(&carried) {
            return Ok(start);
        }
        start = 0;
    }
    Ok(start)
}
