//! What builds remember: the results of steps, what is known of files in a context, cache mounts.
//!
//! All of it can be thrown away at any time. A step whose layers are gone counts as not remembered.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::{Result, Store};
use crate::base::fs::{self, Durability};
use crate::base::id::Digest;
use crate::model::image::LayerRecord;

/// Most private copies of one cache mount that are in use at once.
const PRIVATE_MOUNTS_MAX: usize = 1000;

/// Access to what builds remember.
#[derive(Debug, Clone, Copy)]
pub struct Cache<'a> {
    store: &'a Store,
}

/// The result of one build step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// What determines the result; also the record's name.
    pub key: Digest,
    /// What the step was, for people.
    pub description: String,
    /// When it ran.
    pub created: jiff::Timestamp,
    /// The layers that it made, kept while this is remembered.
    pub layers: Vec<LayerRecord>,
    /// Whatever else the builder wants back.
    pub data: serde_json::Value,
}

/// Who may use a cache mount at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// One after the other.
    Locked,
    /// Each has its own; one that is free is used again.
    Private,
}

/// A cache mount in use.
#[derive(Debug)]
pub struct CacheMount {
    /// Its folder.
    pub folder: PathBuf,
    /// Whether it was made by this call: its owner and mode are to be set.
    pub created: bool,
    _lock: Lock,
}

impl<'a> Cache<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// The result of the step `key`, its layers protected by this process's lease; `None` when it is not
    /// remembered or a layer of it is gone.
    pub fn step(&self, key: &Digest) -> Result<Option<StepRecord>> {
        let Some(mut record) = self.trace(key)? else { return Ok(None) };
        for layer in &mut record.layers {
            self.store.lease()?.protect(&layer.diff_id)?;
            if !self.store.layers().exists(&layer.diff_id) {
                return Ok(None);
            }
            if layer.size_bytes == 0 {
                // It was remembered before the layer was here.
                layer.size_bytes = self.store.layers().size_bytes(&layer.diff_id)?;
            }
        }
        Ok(Some(record))
    }

    /// What is remembered of the step `key`, whether its layers are here or not.
    pub fn trace(&self, key: &Digest) -> Result<Option<StepRecord>> {
        super::read_record::<StepRecord>(&self.step_path(key))
    }

    /// Remembers the result of a step. Not durable: what a power cut takes is built again.
    pub fn remember(&self, record: &StepRecord) -> Result<()> {
        super::write_record(&self.step_path(&record.key), record, Durability::Volatile)
    }

    /// All remembered steps.
    pub fn steps(&self) -> Result<Vec<StepRecord>> {
        let folder = self.store.root("cache/steps");
        let mut records = Vec::new();
        for file in super::entries(&folder)? {
            match super::read_record::<StepRecord>(&folder.join(&file)) {
                Ok(record) => records.extend(record),
                // Emptied by a power cut, or of another version.
                Err(super::Error::Corrupt { path, .. }) => fs::remove_file(&path)?,
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// Forgets a step.
    pub fn forget(&self, key: &Digest) -> Result<()> {
        Ok(fs::remove_file(&self.step_path(key))?)
    }

    /// What was last kept about the files of the context at `context`, in the builder's own form.
    pub fn stat(&self, context: &Path) -> Result<Option<Vec<u8>>> {
        Ok(fs::read_optional(&self.stat_path(context))?)
    }

    /// Keeps what is known about the files of the context at `context`.
    pub fn set_stat(&self, context: &Path, content: &[u8]) -> Result<()> {
        Ok(fs::write_atomic(&self.stat_path(context), content, Durability::Volatile)?)
    }

    /// The folder of all cache mounts.
    pub fn mounts_folder(&self) -> PathBuf {
        self.store.root("cache/mounts")
    }

    /// Takes the cache mount `id` (any text) for use, and makes its folder when there is none.
    pub fn mount(&self, id: &str, sharing: Sharing) -> Result<CacheMount> {
        let base = self.store.root("cache/mounts").join(Digest::of(id.as_bytes()).hex());
        match sharing {
            Sharing::Shared => self.take(base.clone(), Lock::shared(&lock_path(&base))?),
            Sharing::Locked => self.take(base.clone(), Lock::exclusive(&lock_path(&base))?),
            Sharing::Private => {
                for number in 0..PRIVATE_MOUNTS_MAX {
                    let folder = if number == 0 { base.clone() } else { base.with_extension(number.to_string()) };
                    if let Some(lock) = Lock::try_exclusive(&lock_path(&folder))? {
                        return self.take(folder, lock);
                    }
                }
                self.take(base.clone(), Lock::exclusive(&lock_path(&base))?)
            }
        }
    }

    fn take(&self, folder: PathBuf, lock: Lock) -> Result<CacheMount> {
        let created = !folder.is_dir();
        fs::create_dir_all(&folder)?;
        Ok(CacheMount { folder, created, _lock: lock })
    }

    fn step_path(&self, key: &Digest) -> PathBuf {
        self.store.root("cache/steps").join(format!("{}.json", key.hex()))
    }

    fn stat_path(&self, context: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.store.root("cache/stat").join(Digest::of(context.as_os_str().as_bytes()).hex())
    }
}

/// The lock of a cache mount lies beside its folder, out of the reach of what runs in it.
fn lock_path(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}
