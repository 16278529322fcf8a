//! Whether two folders hold the same files: what proves an unpacked layer against its archive, unpacked once more.
//!
//! Compared are kinds, modes, owners, sizes, contents, targets of links, device numbers, attributes and the times of
//! everything but folders: those of folders that an archive only implies are the moment they were made.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::Result;
use crate::base::fs::Context;

/// Bytes of two files compared at once.
const PIECE_BYTES: usize = 256 << 10;
/// Most bytes of an attribute, or of the list of their names (linux/limits.h).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// What differs, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    /// Below the folders.
    pub(super) path: PathBuf,
    /// A sentence fragment: "is missing", "has another content".
    pub(super) how: &'static str,
}

/// The first difference of the folder `is` from what it `should` be, in the order of names.
pub(super) fn difference(is: &Path, should: &Path) -> Result<Option<Difference>> {
    // Not by recursion: the depth of a layer's folders is not ours to choose.
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let names: BTreeSet<OsString> =
            names(&is.join(&folder))?.union(&names(&should.join(&folder))?).cloned().collect();
        for name in names {
            let path = folder.join(name);
            if let Some(how) = entry(&is.join(&path), &should.join(&path))? {
                return Ok(Some(Difference { path, how }));
            }
            if is.join(&path).symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                folders.push(path);
            }
        }
    }
    Ok(None)
}

fn names(folder: &Path) -> Result<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).context("list", folder)? {
        names.insert(entry.context("list", folder)?.file_name());
    }
    Ok(names)
}

fn look(path: &Path) -> Result<Option<Metadata>> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other.context("look at", path)?)),
    }
}

fn entry(is: &Path, should: &Path) -> Result<Option<&'static str>> {
    let (found, wanted) = match (look(is)?, look(should)?) {
        (Some(found), Some(wanted)) => (found, wanted),
        (Some(_), None) => return Ok(Some("does not belong there")),
        (None, _) => return Ok(Some("is missing")),
    };
    let kind = wanted.file_type();
    let is_special = kind.is_char_device() || kind.is_block_device();
    Ok(if found.file_type() != kind {
        Some("is of another kind")
    } else if found.mode() != wanted.mode() || (found.uid(), found.gid()) != (wanted.uid(), wanted.gid()) {
        Some("has another mode or owner")
    } else if !kind.is_dir() && (found.mtime(), found.nlink()) != (wanted.mtime(), wanted.nlink()) {
        Some("has another time or number of links")
    } else if is_special && found.rdev() != wanted.rdev() {
        Some("is another device")
    } else if kind.is_symlink()
        && std::fs::read_link(is).context("read", is)? != std::fs::read_link(should).context("read", should)?
    {
        Some("leads elsewhere")
    } else if kind.is_file() && (found.len() != wanted.len() || !same_content(is, should)?) {
        Some("has another content")
    } else if attributes(is)? != attributes(should)? {
        Some("has other extended attributes")
    } else {
        None
    })
}

fn same_content(is: &Path, should: &Path) -> Result<bool> {
    let (mut one, mut other) = (File::open(is).context("open", is)?, File::open(should).context("open", should)?);
    let (mut found, mut wanted) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    loop {
        let length = one.read(&mut found).context("read", is)?;
        if other.read_exact(&mut wanted[..length]).is_err() || found[..length] != wanted[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Names and values, sorted.
fn attributes(path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0u8; ATTRIBUTE_BYTES_MAX];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Ok(Err(errno).context("read the attributes of", path)?),
    };
    let mut found = Vec::new();
    let mut value = vec![0u8; if length == 0 { 0 } else { ATTRIBUTE_BYTES_MAX }];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).context("read the attributes of", path)?;
        found.push((name.to_vec(), value[..length].to_vec()));
    }
    found.sort();
    Ok(found)
}
