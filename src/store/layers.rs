//! Unpacked layers, keyed by diff id: independent of each other, shared between images.
//!
//! A layer is made below `tmp/` by a [`LayerWriter`] and renamed into place with the mark `unsynced`, a symlink to
//! the id of this boot. [`Layers::make_durable`] syncs once and takes the marks of many layers away. A layer that
//! has the mark of another boot may have lost data when the power went, and counts as missing.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Kind, Result, Store, layer_archive};
use crate::base::fs::{self, Context, Durability};
use crate::base::id::Digest;
use crate::model::image::LayerRecord;

/// Access to unpacked layers.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    store: &'a Store,
}

/// A layer being made: a folder of its own, thrown away unless committed.
#[derive(Debug)]
pub struct LayerWriter {
    store: Store,
    building: PathBuf,
    folder: PathBuf,
    finished: bool,
}

/// What is known of a layer besides its content.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    size_bytes: u64,
}

impl<'a> Layers<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// The folder of a layer's file system, as overlayfs wants it. It need not exist.
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        self.folder(diff_id).join("fs")
    }

    /// Whether the layer is there, whole.
    pub fn exists(&self, diff_id: &Digest) -> bool {
        let folder = self.folder(diff_id);
        folder.join("layer.json").exists() && !self.is_from_another_boot(&folder)
    }

    /// Size of a layer: the sum of the sizes of its files, in bytes.
    pub fn size_bytes(&self, diff_id: &Digest) -> Result<u64> {
        let meta = super::read_record::<Meta>(&self.folder(diff_id).join("layer.json"))?;
        Ok(meta.ok_or_else(|| Error::not_found(Kind::Layer, diff_id.as_str()))?.size_bytes)
    }

    /// The diff ids of all layers.
    pub fn list(&self) -> Result<Vec<Digest>> {
        let names = super::entries(&self.store.root("layers"))?;
        Ok(names.iter().filter_map(|name| format!("sha256:{name}").parse().ok()).collect())
    }

    /// Begins a layer. Fill [`LayerWriter::folder`], then commit it.
    pub fn begin(&self) -> Result<LayerWriter> {
        let building = self.store.temporary_path()?;
        let folder = building.join("fs");
        fs::create_dir_all(&folder)?;
        super::containers::set_mode(&folder, 0o755)?;
        Ok(LayerWriter { store: self.store.clone(), building, folder, finished: false })
    }

    /// Makes committed layers survive a power cut: one syncfs for all, then their marks go.
    ///
    /// Call it once before the image (or the build step) that needs them is recorded.
    pub fn make_durable<'d>(&self, diff_ids: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        let marks = self.marks(diff_ids);
        if marks.is_empty() {
            return Ok(());
        }
        self.store.sync()?;
        self.unmark(&marks)
    }

    /// Takes the marks of layers away after the caller has called [`Store::sync`] for something else, too.
    pub fn confirm<'d>(&self, diff_ids: impl IntoIterator<Item = &'d Digest>) -> Result<()> {
        let marks = self.marks(diff_ids);
        self.unmark(&marks)
    }

    /// Removes a layer whose content is wrong. The caller knows that nothing has it mounted.
    pub fn remove(&self, diff_id: &Digest) -> Result<()> {
        self.store.discard(&self.folder(diff_id))
    }

    fn marks<'d>(&self, diff_ids: impl IntoIterator<Item = &'d Digest>) -> Vec<PathBuf> {
        let marks = diff_ids.into_iter().map(|diff_id| self.folder(diff_id).join("unsynced"));
        marks.filter(|mark| mark.symlink_metadata().is_ok()).collect()
    }

    fn unmark(&self, marks: &[PathBuf]) -> Result<()> {
        for mark in marks {
            fs::remove_file(mark)?;
        }
        for mark in marks {
            if let Some(folder) = mark.parent() {
                fs::sync_folder(folder)?;
            }
        }
        Ok(fs::sync_folder(&self.store.root("layers"))?)
    }

    pub(super) fn folder(&self, diff_id: &Digest) -> PathBuf {
        self.store.root("layers").join(diff_id.hex())
    }

    pub(super) fn is_from_another_boot(&self, folder: &Path) -> bool {
        match std::fs::read_link(folder.join("unsynced")) {
            Ok(boot) => self.store.boot_id().map_or(true, |this| boot.as_os_str() != this),
            Err(_) => false,
        }
    }
}

impl LayerWriter {
    /// The folder to fill. It may serve as overlayfs' upper folder: whiteouts (character device 0:0) and opaque
    /// folders stay as they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A folder on the same file system for overlayfs' work files; thrown away at the end.
    pub fn work_folder(&self) -> Result<PathBuf> {
        let path = self.building.join("work");
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Publishes the folder as the layer `diff_id`, whose archive the caller has read and verified.
    ///
    /// Protect `diff_id` with a lease first. Not yet durable: see [`Layers::make_durable`]. When the layer is there
    /// already this one is thrown away.
    pub fn commit(mut self, diff_id: &Digest, size_bytes: u64) -> Result<LayerRecord> {
        self.publish(diff_id, size_bytes)?;
        Ok(LayerRecord { diff_id: diff_id.clone(), blob: None, size_bytes })
    }

    /// Computes the diff id of the folder (the digest of its archive, see [`super::write_archive`]), protects it
    /// and publishes the layer under it.
    pub fn commit_by_content(mut self) -> Result<LayerRecord> {
        let mut hasher = layer_archive::HashingWriter::default();
        let size_bytes = layer_archive::write_archive(&self.folder, &mut hasher)?;
        let diff_id = hasher.digest();
        self.store.lease()?.protect(&diff_id)?;
        self.publish(&diff_id, size_bytes)?;
        Ok(LayerRecord { diff_id, blob: None, size_bytes })
    }

    fn publish(&mut self, diff_id: &Digest, size_bytes: u64) -> Result<()> {
        let work = self.building.join("work");
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        super::write_record(&self.building.join("layer.json"), &Meta { size_bytes }, Durability::Volatile)?;
        let mark = self.building.join("unsynced");
        std::os::unix::fs::symlink(self.store.boot_id()?, &mark).context("create", &mark)?;
        let target = self.store.layers().folder(diff_id);
        loop {
            match rename_new(&self.building, &target) {
                Ok(()) => {
                    self.finished = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(fs::Error { operation: "create", path: target, source }.into()),
            }
            if self.store.layers().exists(diff_id) {
                return Ok(());
            }
            self.store.discard(&target)?;
        }
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What stays is swept once this process is gone.
            drop(self.store.discard(&self.building));
        }
    }
}

/// Renames unless something has the new name.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}
