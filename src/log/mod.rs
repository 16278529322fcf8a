//! What containers wrote, kept on disk in the lines of Docker's `json-file` driver.
//!
//! ```text
//! log.json      {"log":"hello\n","stream":"stdout","time":"2026-11-20T12:00:00.123456789Z"}
//! log.json.1    older lines; `.2` older still
//! ```
//!
//! [`Writer`] belongs to a container's supervisor; [`Reader`] reads the files itself, so `logs` needs no running
//! process. A record is at most 16 KiB of output. Output without a line feed at its end is a *partial* record: the
//! next record of that stream goes on in the same line. Output that is not UTF-8 is kept without loss: `log` has
//! replacement characters for those who read the files, and a further field `raw` has the bytes in base64.
//!
//! Invariants: a record is written whole or not at all (a torn one after a power cut is skipped by the reader and
//! ended by the next writer); the writer never blocks or fails its caller: what the disk does not take is counted
//! and the count is written down once the disk takes records again.
//!
//! Not here: colours, prefixes and time stamps on a terminal (`cli`), and moving bytes out of pipes (`supervise`).
//! Source of the format: <https://docs.docker.com/engine/logging/drivers/json-file/>.

mod reader;
mod record;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

pub use reader::{Next, ReadOptions, Reader, read};
pub use record::{Line, Stream};
pub use writer::Writer;

use crate::base::error::Explain;

/// Most bytes of output in one record; longer lines are cut, as Docker cuts them.
pub const RECORD_BYTES_MAX: usize = 16 << 10;

/// What can go wrong when logs are read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A log file or its folder cannot be read.
    #[error(transparent)]
    File(#[from] crate::base::fs::Error),
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
        }
    }
}

/// The files of a log whose current file is `path`, oldest first; only those that exist.
fn files(path: &std::path::Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = (1..)
        .map(|number| rotated(path, number))
        .take_while(|file| file.exists())
        .take(ROTATED_FILES_MAX as usize)
        .collect();
    files.reverse();
    if path.exists() {
        files.push(path.to_owned());
    }
    files
}

/// Most files of one log that are looked at, whatever an option says.
const ROTATED_FILES_MAX: u32 = 1000;

/// The name of the `number`th older file.
fn rotated(path: &std::path::Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}
