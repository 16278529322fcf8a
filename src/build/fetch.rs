//! `ADD https://…`: one file fetched into a temporary file, its digest checked.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#add>.

use std::fs::File;
use std::io::{Seek, SeekFrom};

use super::copy::{CopyError, Manner, copy_inline};
use super::target::Target;
use crate::base::fs;
use crate::base::id::Digest;
use crate::store::Store;

/// Mode of fetched files.
const MODE: u32 = 0o600;

/// Why a URL cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Fetching is not there yet.
    #[error("ADD of a URL is not supported yet")]
    Unsupported,
    /// The content is another one.
    #[error("its digest is {actual}, not {expected}")]
    Checksum {
        /// What the Dockerfile says.
        expected: String,
        /// What came.
        actual: Digest,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

/// A fetched file.
#[derive(Debug)]
pub struct Fetched {
    /// Its name.
    pub name: String,
    /// Digest of its content.
    pub digest: Digest,
    file: File,
    mtime_ns: i128,
}

impl Fetched {
    /// Writes it into a layer.
    pub fn copy(&mut self, target: &mut Target<'_>, manner: &Manner<'_>) -> Result<(), CopyError> {
        use crate::base::fs::Context;
        self.file.seek(SeekFrom::Start(0)).context("rewind", std::path::Path::new(&self.name))?;
        copy_inline(target, &self.name, &mut self.file, manner, Some(MODE), self.mtime_ns)
    }
}

/// Fetches a URL.
pub fn fetch(store: &Store, url: &str, checksum: Option<&str>) -> Result<Fetched, FetchError> {
    let _ = (store, url, checksum);
    Err(FetchError::Unsupported)
}
