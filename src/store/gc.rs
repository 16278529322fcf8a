//! Collection of what nothing refers to, and of what dead commands left half-made.
//!
//! ```text
//! lock/gc exclusive:  mark   image records, containers, build steps, live leases
//!                     sweep  rename what is unmarked into trash/
//! unlocked:           delete trash/
//! ```
//!
//! A reference is published under `lock/gc` shared, after the thing it refers to was protected by a lease; so
//! everything that is referred to, or is about to be, is marked.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::{Error, Result, Store, containers, lease};
use crate::base::fs::{self, Context};
use crate::base::id::Digest;
use crate::model::image::Image;
use crate::model::reference::Reference;

/// Where records are replaced, which a crash may leave half done.
const RECORD_FOLDERS: [&str; 6] = ["images", "refs", "networks", "cache/steps", "cache/stat", "blobs/sha256"];
/// Records are small: nobody writes one for so long.
const TEMPORARY_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// What to give up besides what nothing refers to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// Images that have no tag and no container.
    pub dangling_images: bool,
    /// Images that have no container.
    pub unused_images: bool,
    /// What builds remember, cache mounts that nobody uses included.
    pub build_cache: bool,
    /// Of those steps only what is older.
    pub steps_before: Option<jiff::Timestamp>,
    /// Downloads that were cut off.
    pub spools: bool,
}

/// What a collection took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Images, each with a name it had, if any.
    pub images: Vec<(Digest, Vec<String>)>,
    /// Layers.
    pub layers: Vec<Digest>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Remembered build steps.
    pub steps: usize,
    /// Bytes of layers, blobs and spools, by the sizes of their files.
    pub freed_bytes: u64,
}

/// A collection under way.
#[derive(Default)]
struct Sweep {
    report: GcReport,
    /// What lies in the trash, to be deleted without the lock.
    trashed: Vec<PathBuf>,
}

impl Store {
    /// Collects. Waits until nobody is publishing; what running commands protect stays.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport> {
        self.gc_chosen(options, &|_, _| true)
    }

    /// [`Store::gc`] that gives up no image but those that are `chosen` by what they are and their names.
    pub fn gc_chosen(&self, options: &GcOptions, chosen: &dyn Fn(&Image, &[Reference]) -> bool) -> Result<GcReport> {
        let mut sweep = Sweep::default();
        {
            let _nobody_publishes = self.lock_collect()?;
            let leased = lease::protected(&self.root("lock/leases"))?;
            self.give_up_images(options, &leased, chosen, &mut sweep)?;
            if options.build_cache {
                self.give_up_build_cache(options.steps_before, &mut sweep)?;
            }
            let marked = self.mark(leased)?;
            self.sweep_layers(&marked, &mut sweep)?;
            self.sweep_blobs(&marked, &mut sweep)?;
            if options.spools {
                self.sweep_spools(&mut sweep)?;
            }
        }
        for path in &sweep.trashed {
            delete(path)?;
        }
        self.sweep_after_power_cut()?;
        self.sweep_leftovers()?;
        Ok(sweep.report)
    }

    /// Removes what commands that died left behind: things half-made, things taken away but not deleted.
    ///
    /// Costs three listings of all but empty folders when there is nothing.
    pub fn sweep_leftovers(&self) -> Result<()> {
        let leases = self.root("lock/leases");
        let mut found = false;
        for folder in [self.root("tmp"), self.root("trash")] {
            for name in super::entries(&folder)? {
                // Who lives makes or deletes it itself.
                let owner = name.split_once('-').map_or(name.as_str(), |(owner, _)| owner);
                if !lease::is_live(&leases, owner)? {
                    found = true;
                    let ours = self.move_to_trash(&folder.join(&name))?;
                    ours.map_or(Ok(()), |path| delete(&path))?;
                }
            }
        }
        if found {
            // What died between a container's folder, its name and its run folder.
            self.containers().sweep_names()?;
            self.containers().sweep_run_folders()?;
        }
        lease::sweep(&leases)
    }

    /// Removes what a power cut left: containers without a readable spec, layers that may have lost data,
    /// temporary files beside records. Call it in the first command after a boot, and from `system check`.
    pub fn sweep_after_power_cut(&self) -> Result<()> {
        let containers = self.containers();
        for id in containers.ids()? {
            if containers.is_half_made(&id) {
                containers.remove(&id)?;
            }
        }
        for folder in RECORD_FOLDERS {
            self.sweep_temporary_files(&self.root(folder))?;
        }
        for id in containers.ids()? {
            self.sweep_temporary_files(&containers.folder(&id))?;
        }
        let locks = self.root("lock/d");
        for name in super::entries(&locks)? {
            Lock::remove_free(&locks.join(name))?;
        }
        let _nobody_publishes = self.lock_collect()?;
        let layers = self.layers();
        for diff_id in layers.list()? {
            let folder = layers.folder(&diff_id);
            if layers.is_from_another_boot(&folder) {
                self.discard(&folder)?;
            }
        }
        Ok(())
    }

    /// Removes `.tmp-*` files that are too old for anybody to be writing them.
    fn sweep_temporary_files(&self, folder: &Path) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let is_temporary = entry.file_name().as_encoded_bytes().starts_with(b".tmp-");
            let age =
                entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
            if is_temporary && age.is_some_and(|age| age > TEMPORARY_AGE) {
                fs::remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    fn give_up_images(
        &self,
        options: &GcOptions,
        leased: &HashSet<Digest>,
        chosen: &dyn Fn(&Image, &[Reference]) -> bool,
        sweep: &mut Sweep,
    ) -> Result<()> {
        if !options.dangling_images && !options.unused_images {
            return Ok(());
        }
        let used: HashSet<Digest> =
            self.containers().list()?.into_iter().filter_map(|(spec, _)| spec.image_id).collect();
        for (image, references) in self.images().list()? {
            let tagged = references.iter().any(|reference| reference.tag.is_some());
            if used.contains(&image.id)
                || leased.contains(&image.id)
                || (tagged && !options.unused_images)
                || !chosen(&image, &references)
            {
                continue;
            }
            self.images().remove_locked(&image.id)?;
            let names = references.iter().map(ToString::to_string).collect();
            sweep.report.images.push((image.id, names));
        }
        Ok(())
    }

    fn give_up_build_cache(&self, before: Option<jiff::Timestamp>, sweep: &mut Sweep) -> Result<()> {
        for step in self.cache().steps()? {
            if before.is_some_and(|before| step.created >= before) {
                continue;
            }
            self.cache().forget(&step.key)?;
            sweep.report.steps += 1;
        }
        if before.is_some() {
            return Ok(());
        }
        let stats = self.root("cache/stat");
        for name in super::entries(&stats)? {
            fs::remove_file(&stats.join(name))?;
        }
        let mounts = self.root("cache/mounts");
        for name in super::entries(&mounts)?.into_iter().filter(|name| !name.ends_with(".lock")) {
            let Some(_unused) = Lock::try_exclusive(&mounts.join(format!("{name}.lock")))? else {
                continue;
            };
            sweep.trashed.extend(self.move_to_trash(&mounts.join(name))?);
        }
        Ok(())
    }

    /// The digests of everything that is referred to.
    fn mark(&self, leased: HashSet<Digest>) -> Result<HashSet<Digest>> {
        let mut marked = leased;
        marked.extend(self.images().documents()?);
        for (image, _) in self.images().list()? {
            marked.insert(image.id);
            marked.extend(image.manifest);
            for layer in image.layers {
                marked.insert(layer.diff_id);
                marked.extend(layer.blob.map(|blob| blob.digest));
            }
        }
        // Not `list`, which leaves out what it cannot read.
        let store_containers = self.containers();
        for id in store_containers.ids()? {
            match store_containers.spec(&id) {
                Ok(spec) => {
                    marked.extend(containers::layers_of(&spec).cloned());
                    marked.extend(spec.image_id);
                }
                Err(error) if error.is_not_found() => {}
                Err(Error::Corrupt { .. }) if store_containers.is_half_made(&id) => {}
                Err(error) => return Err(error),
            }
        }
        for step in self.cache().steps()? {
            for layer in step.layers {
                marked.insert(layer.diff_id);
                marked.extend(layer.blob.map(|blob| blob.digest));
            }
        }
        Ok(marked)
    }

    fn sweep_layers(&self, marked: &HashSet<Digest>, sweep: &mut Sweep) -> Result<()> {
        let layers = self.layers();
        for diff_id in layers.list()? {
            if marked.contains(&diff_id) {
                continue;
            }
            let size_bytes = layers.size_bytes(&diff_id).unwrap_or(0);
            if let Some(path) = self.move_to_trash(&layers.folder(&diff_id))? {
                sweep.trashed.push(path);
                sweep.report.freed_bytes += size_bytes;
                sweep.report.layers.push(diff_id);
            }
        }
        Ok(())
    }

    fn sweep_blobs(&self, marked: &HashSet<Digest>, sweep: &mut Sweep) -> Result<()> {
        for digest in self.blobs().list()? {
            if marked.contains(&digest) {
                continue;
            }
            let size_bytes = self.blobs().size_bytes(&digest).unwrap_or(0);
            if let Some(path) = self.move_to_trash(&self.blobs().path(&digest))? {
                sweep.trashed.push(path);
                sweep.report.freed_bytes += size_bytes;
                sweep.report.blobs.push(digest);
            }
        }
        Ok(())
    }

    fn sweep_spools(&self, sweep: &mut Sweep) -> Result<()> {
        let spools = self.root("spool");
        for name in super::entries(&spools)? {
            let lock = Lock::try_exclusive(&self.root("lock/d").join(&name))?;
            let Some(_nobody_fetches) = lock.map(Lock::removed_on_release) else { continue };
            let path = spools.join(name);
            let size_bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if let Some(trashed) = self.move_to_trash(&path)? {
                sweep.trashed.push(trashed);
                sweep.report.freed_bytes += size_bytes;
            }
        }
        Ok(())
    }
}

/// Deletes something in `trash/`, file or folder; another command may be doing the same.
pub(super) fn delete(path: &Path) -> Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Ok(Err(error).context("look at", path)?),
    };
    if metadata.is_dir() { Ok(fs::remove_dir_all(path)?) } else { Ok(fs::remove_file(path)?) }
}
