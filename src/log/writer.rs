//! Writes a container's output: cuts it into records, collects them for one write, rotates the files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::record::{self, Stream};
use super::{RECORD_BYTES_MAX, rotated};
use crate::base::fs::{Context, Result};
use crate::model::container::Logging;

/// Encoded records are handed to the kernel at the latest when there are so many bytes of them.
const BATCH_BYTES: usize = 128 << 10;
/// A batch buffer larger than this is given back to the allocator when it is empty.
const BATCH_BYTES_KEPT: usize = 16 << 10;

/// The writing end of a log. One per container, owned by its supervisor.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: Option<File>,
    size_bytes: u64,
    limits: Logging,
    /// Output of each stream behind its last line feed; shorter than a record.
    partial: [Vec<u8>; 2],
    /// Encoded records that wait for the write.
    batch: Vec<u8>,
    /// Bytes of output encoded in `batch`.
    batch_output_bytes: u64,
    dropped_bytes: u64,
}

impl Writer {
    /// Opens the log at `path` for appending, or one that keeps nothing when `logging` is not enabled.
    ///
    /// A record that a crash tore is ended, so that the next one begins on a line of its own.
    pub fn open(path: &Path, logging: &Logging) -> Result<Self> {
        let mut writer = Self {
            path: path.to_owned(),
            file: None,
            size_bytes: 0,
            limits: logging.clone(),
            partial: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            batch_output_bytes: 0,
            dropped_bytes: 0,
        };
        if logging.enabled {
            writer.open_file()?;
        }
        Ok(writer)
    }

    fn open_file(&mut self) -> Result<()> {
        let mut file = OpenOptions::new()
            .append(true)
            .read(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)
            .context("open", &self.path)?;
        self.size_bytes = file.seek(SeekFrom::End(0)).context("seek in", &self.path)?;
        if self.size_bytes > 0 {
            file.seek(SeekFrom::End(-1)).context("seek in", &self.path)?;
            let mut last = [0];
            file.read_exact(&mut last).context("read", &self.path)?;
            if last != [b'\n'] && file.write_all(b"\n").is_ok() {
                self.size_bytes += 1;
            }
        }
        self.file = Some(file);
        Ok(())
    }

    /// Takes output of one stream. Whole lines are encoded; what follows the last line feed waits.
    pub fn push(&mut self, stream: Stream, mut output: &[u8], time: Timestamp) {
        if !self.limits.enabled {
            return;
        }
        let time = time.to_string();
        while !output.is_empty() {
            let partial = &mut self.partial[stream as usize];
            let room = RECORD_BYTES_MAX - partial.len();
            let window = &output[..output.len().min(room)];
            let end = window.iter().position(|byte| *byte == b'\n').map(|index| index + 1);
            let take = end.unwrap_or(window.len());
            let (head, rest) = output.split_at(take);
            output = rest;
            if end.is_none() && take < room {
                partial.extend_from_slice(head);
                return;
            }
            if partial.is_empty() {
                record::encode(&mut self.batch, stream, head, &time);
                self.batch_output_bytes += head.len() as u64;
            } else {
                partial.extend_from_slice(head);
                record::encode(&mut self.batch, stream, partial, &time);
                self.batch_output_bytes += partial.len() as u64;
                partial.clear();
            }
            if self.batch.len() >= BATCH_BYTES {
                self.flush();
            }
        }
    }

    /// Whether output without a line feed waits for more.
    pub fn has_partial(&self) -> bool {
        self.partial.iter().any(|partial| !partial.is_empty())
    }

    /// Encodes output without a line feed as it is: when nothing followed for a while, or at the end.
    pub fn cut(&mut self, time: Timestamp) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = std::mem::take(&mut self.partial[stream as usize]);
            if !partial.is_empty() {
                record::encode(&mut self.batch, stream, &partial, &time.to_string());
                self.batch_output_bytes += partial.len() as u64;
            }
        }
    }

    /// Hands what was collected to the kernel in one write, and rotates when the file is full.
    ///
    /// Never fails: output that the disk does not take is dropped and counted in [`Self::dropped_bytes`].
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.dropped_bytes > 0 {
            let mut noted = Vec::new();
            record::encode_dropped(&mut noted, self.dropped_bytes, &Timestamp::now().to_string());
            if self.append(&noted) {
                self.dropped_bytes = 0;
            }
        }
        let mut batch = std::mem::take(&mut self.batch);
        if !self.append(&batch) {
            self.dropped_bytes += self.batch_output_bytes;
        }
        self.batch_output_bytes = 0;
        batch.clear();
        batch.shrink_to(BATCH_BYTES_KEPT);
        self.batch = batch;
        if self.size_bytes >= self.limits.max_size_bytes.max(1) {
            self.rotate();
        }
    }

    /// Bytes of output that were dropped and are not yet noted in the log.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Appends whole records; on failure the file is cut back to where it was.
    fn append(&mut self, records: &[u8]) -> bool {
        if self.file.is_none() && self.open_file().is_err() {
            return false;
        }
        let Some(file) = &mut self.file else { return false };
        if file.write_all(records).is_err() {
            // Readers skip a torn record anyway; this keeps the file tidy where it can.
            drop(file.set_len(self.size_bytes));
            return false;
        }
        self.size_bytes += records.len() as u64;
        true
    }

    /// `log.json` -> `.1` -> `.2`; the oldest is removed. A rename that fails leaves the file growing: no loss.
    fn rotate(&mut self) {
        let older = self.limits.max_files.clamp(1, super::ROTATED_FILES_MAX) - 1;
        if older == 0 {
            if fs::remove_file(&self.path).is_err() {
                return;
            }
        } else {
            for number in (1..older).rev() {
                let from = rotated(&self.path, number);
                if from.exists() && fs::rename(from, rotated(&self.path, number + 1)).is_err() {
                    return;
                }
            }
            if fs::rename(&self.path, rotated(&self.path, 1)).is_err() {
                return;
            }
        }
        self.file = None;
        self.size_bytes = 0;
        // A failure is met again, and counted, by the next append.
        drop(self.open_file());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.cut(Timestamp::now());
        self.flush();
    }
}
