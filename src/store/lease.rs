//! What a running command needs although no record refers to it yet.
//!
//! A lease is a locked file in `lock/leases/`; each line is the digest of a layer, a blob or an image. The kernel
//! drops the lock with the process, which ends the lease. What the command makes below `tmp/` begins with the
//! name of its lease, so leftovers are told from work under way in the same manner.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::lock::Lock;
use super::{Error, Result};
use crate::base::fs::Context;
use crate::base::id::{Digest, random_hex};

/// A running command's claim on digests.
#[derive(Debug)]
pub struct Lease {
    name: String,
    lock: Lock,
    gc_lock: PathBuf,
    protected: Mutex<std::collections::HashSet<Digest>>,
}

impl Lease {
    /// Takes a new lease in `folder`.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let name = random_hex(8);
        let lock = Lock::exclusive(&folder.join(&name))?.removed_on_release();
        let gc_lock = folder.parent().unwrap_or(folder).join("gc");
        Ok(Self { name, lock, gc_lock, protected: Mutex::default() })
    }

    /// Its name, unique in the store.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Keeps `digest` (of a layer, a blob or an image) from being collected while this process runs.
    ///
    /// Look whether it exists after this call, not before: the collector may just have taken it.
    pub fn protect(&self, digest: &Digest) -> Result<()> {
        let mut protected = self.protected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if protected.contains(digest) {
            return Ok(());
        }
        let _collector_waits = Lock::shared(&self.gc_lock)?;
        let mut file = File::options().append(true).open(self.lock.path()).context("open", self.lock.path())?;
        file.write_all(format!("{digest}\n").as_bytes()).context("write", self.lock.path())?;
        protected.insert(digest.clone());
        Ok(())
    }
}

/// The digests that the live leases in `folder` protect. Removes the files of dead ones.
///
/// The caller holds the collector's lock, so no lease grows meanwhile.
pub(super) fn protected(folder: &Path) -> Result<std::collections::HashSet<Digest>> {
    let mut digests = std::collections::HashSet::new();
    for name in super::entries(folder)? {
        let path = folder.join(name);
        if !Lock::is_held(&path)? {
            // Between the creation of the file and its locking a new lease looks dead; it has no line yet, and its
            // owner may have to make another.
            Lock::remove_free(&path)?;
            continue;
        }
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.context("read", &path)?,
        };
        digests.extend(text.lines().filter_map(|line| line.parse().ok()));
    }
    Ok(digests)
}

/// Removes the files of dead leases in `folder`.
pub(super) fn sweep(folder: &Path) -> Result<()> {
    for name in super::entries(folder)? {
        Lock::remove_free(&folder.join(name))?;
    }
    Ok(())
}

/// Whether the lease `name` in `folder` is held by a living process.
pub(super) fn is_live(folder: &Path, name: &str) -> Result<bool> {
    Lock::is_held(&folder.join(name)).map_err(Error::from)
}
