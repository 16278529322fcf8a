//! Everything on disk: records, layers, blobs, locks, and the collection of what nothing refers to.
//!
//! ```text
//! /var/lib/wharf                     mode 0700, one file system
//!   format                           version of this layout
//!   blobs/sha256/<digest>            manifests, configs, compressed layers: immutable, named by content
//!   spool/<digest>                   blobs under way; a later command goes on where one was cut off
//!   layers/<diff id>/fs              unpacked layers; overlayfs reads them in place
//!                   /layer.json      their sizes
//!                   /unsynced        symlink to a boot id: not yet known to survive a power cut
//!   images/<id>.json                 one record an image, with its config
//!   refs/<sha256 of the name>.json   a name (tag or digest), the image that it means, other platforms' ones
//!   containers/<id>/                 config.json state.json wish upper/ work/ etc/ files/ logs/
//!   networks/<id>.json
//!   volumes/<name>/                  volume.json _data/
//!   names/{containers,networks}/     symlinks: unique name -> id
//!   cache/{steps,stat,mounts}        what builds remember
//!   tmp/<lease>-<random>              things being made by the command that holds the lease
//!   trash/<lease>-<random>           things already removed, not yet deleted
//!   lock/                            lock files; lock/leases/ running commands, lock/d/ digests
//! /run/wharf                         a tmpfs: gone after a reboot
//!   c/<24 digits of the id>/         a running container: locks, sockets, FIFOs
//!   b/<id>                           a running command of a build: a lock
//!   net/<network>/                   addresses in use, and a generation that grows with each change
//! ```
//!
//! **Records** change by temporary file, rename and, where they cannot be made again, fsync of file and folder.
//! Folders are made whole below `tmp/` and renamed into place, so what has its final name is complete. **Layers**
//! become visible at once with the mark `unsynced`; one syncfs takes the marks away. A layer with the mark of
//! another boot counts as missing.
//!
//! **Locks** are open-file-description locks: the kernel drops them when their holder dies. Order, outermost
//! first: container, network, volume, cache mount; ids; digest; `lock/gc` (shared to publish a reference to something,
//! exclusive to collect); `lock/names`. Nobody waits for an outer lock while holding an inner one. Readers of
//! records (`ps`, `inspect`, `logs`) take none.
//!
//! **Collection** (see [`gc`]): roots are image records, containers, remembered build steps and the leases of
//! running commands. A command protects a digest first and then looks whether it is there.
//!
//! This module does not know registries, mounts, processes or networks; it keeps what others tell it.

mod blobs;
mod cache;
mod containers;
mod endpoints;
mod error;
pub mod gc;
mod images;
mod journal;
mod layer_archive;
mod layers;
mod lease;
mod lock;
mod names;
mod networks;
mod steps;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod volumes;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use blobs::{BlobWriter, Blobs, Spool};
pub use cache::{Cache, CacheMount, Sharing, StepRecord};
pub use containers::{Containers, Wish};
pub use endpoints::{Endpoints, QUIET, quiet_until};
pub use error::{Error, Kind, Result};
pub use gc::{GcOptions, GcReport};
pub use images::Images;
pub use journal::{Journal, JournalReader};
pub use layer_archive::write_archive;
pub use layers::{LayerWriter, Layers};
pub use lease::Lease;
pub use lock::Lock;
pub use networks::Networks;
pub use steps::Steps;
pub use volumes::Volumes;

use crate::base::fs::{self, Context, Durability};
use crate::base::paths::Paths;

/// Version of the layout that this program writes.
const FORMAT: u32 = 1;

/// Largest record that is read. Image configs, the largest ones, are limited to 4 MiB by registries.
const RECORD_BYTES_MAX: u64 = 8 << 20;

/// The store of one host. Cheap to open and to clone; used from any thread.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    lease: OnceLock<Lease>,
    boot_id: OnceLock<String>,
}

impl Store {
    /// Opens the store below `paths`; makes its folders when it is used for the first time.
    ///
    /// Errors: `Access` when the caller may not use it; `NewerFormat` when a newer wharf wrote it.
    pub fn open(paths: &Paths) -> Result<Self> {
        let format = paths.root.join("format");
        match std::fs::read_to_string(&format) {
            Ok(text) => check_format(&paths.root, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make_folders(&paths.root).map_err(|error| Error::access(&paths.root, error))?;
                let text = format!("wharf {FORMAT}\n");
                fs::write_atomic(&format, text.as_bytes(), Durability::Durable)
                    .map_err(|error| Error::access(&paths.root, error))?;
            }
            Err(source) => {
                let error = fs::Error { operation: "read", path: format, source };
                return Err(Error::access(&paths.root, error));
            }
        }
        let is_first_since_boot = !paths.run.join("net").is_dir();
        if is_first_since_boot {
            for name in ["", "c", "net"] {
                make_folder(&paths.run.join(name)).map_err(|error| Error::access(&paths.run, error))?;
            }
        }
        let inner = Inner { paths: paths.clone(), lease: OnceLock::new(), boot_id: OnceLock::new() };
        let store = Self { inner: Arc::new(inner) };
        if is_first_since_boot {
            // What cannot be swept is in nobody's way; collections and checks try again and report it.
            drop(store.sweep_after_power_cut().and_then(|()| store.sweep_leftovers()));
        }
        Ok(store)
    }

    /// Where it lies.
    pub fn paths(&self) -> &Paths {
        &self.inner.paths
    }

    /// Containers: specs, states, names, folders, locks.
    pub fn containers(&self) -> Containers<'_> {
        Containers::new(self)
    }

    /// Images and the names that refer to them.
    pub fn images(&self) -> Images<'_> {
        Images::new(self)
    }

    /// Unpacked layers.
    pub fn layers(&self) -> Layers<'_> {
        Layers::new(self)
    }

    /// Immutable files named by their content.
    pub fn blobs(&self) -> Blobs<'_> {
        Blobs::new(self)
    }

    /// Commands of builds that run now.
    pub fn steps(&self) -> Steps<'_> {
        Steps::new(self)
    }

    /// Networks.
    pub fn networks(&self) -> Networks<'_> {
        Networks::new(self)
    }

    /// Addresses in use in the networks of this boot.
    pub fn endpoints(&self) -> Endpoints<'_> {
        Endpoints::new(self)
    }

    /// Volumes.
    pub fn volumes(&self) -> Volumes<'_> {
        Volumes::new(self)
    }

    /// What happened.
    pub fn journal(&self) -> Journal<'_> {
        Journal::new(self)
    }

    /// What builds remember.
    pub fn cache(&self) -> Cache<'_> {
        Cache::new(self)
    }

    /// The lease of this process: what it protects is not collected while it runs. Made on first use.
    pub fn lease(&self) -> Result<&Lease> {
        if let Some(lease) = self.inner.lease.get() {
            return Ok(lease);
        }
        let lease = Lease::take(&self.root("lock/leases"))?;
        // Of two threads that come here at once one keeps its lease; the other's is given back at once.
        let mut is_first = false;
        let lease = self.inner.lease.get_or_init(|| {
            is_first = true;
            lease
        });
        if is_first {
            // Who is about to write clears away what writers that were killed left. What cannot be swept is in
            // nobody's way.
            drop(self.sweep_leftovers());
        }
        Ok(lease)
    }

    /// Makes everything written so far to the store's file system survive a power cut (one syncfs).
    pub fn sync(&self) -> Result<()> {
        let root = &self.paths().root;
        let folder = std::fs::File::open(root).context("open", root)?;
        rustix::fs::syncfs(&folder).context("sync", root)?;
        Ok(())
    }

    /// Waits for the lock of `digest`: who holds it fetches or unpacks that content, others wait and find it there.
    pub fn lock_digest(&self, digest: &crate::base::id::Digest) -> Result<Lock> {
        Ok(Lock::exclusive(&self.root("lock/d").join(digest.hex()))?.removed_on_release())
    }

    /// Waits for the lock of the host's ids: who holds it chooses ids for a container that is about to be made.
    pub fn lock_ids(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.root("lock/ids"))?)
    }

    /// A fresh path below `tmp/` that is swept once this process is gone. Nothing is made there.
    pub fn temporary_path(&self) -> Result<PathBuf> {
        Ok(self.root("tmp").join(self.leased_name()?))
    }

    /// Identifies this boot of the host (`/proc/sys/kernel/random/boot_id`).
    pub fn boot_id(&self) -> Result<&str> {
        if let Some(id) = self.inner.boot_id.get() {
            return Ok(id);
        }
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        let id = std::fs::read_to_string(path).context("read", path)?.trim().to_owned();
        Ok(self.inner.boot_id.get_or_init(|| id))
    }

    /// A fresh name that tells whose it is: `<lease>-<random>`.
    fn leased_name(&self) -> Result<String> {
        Ok(format!("{}-{}", self.lease()?.name(), crate::base::id::random_hex(8)))
    }

    fn root(&self, name: &str) -> PathBuf {
        self.inner.paths.root.join(name)
    }

    /// Takes `path` (a file or a folder) away in one step; deletes it afterwards.
    fn discard(&self, path: &Path) -> Result<()> {
        if let Some(trashed) = self.move_to_trash(path)? {
            gc::delete(&trashed)?;
        }
        Ok(())
    }

    /// Renames `path` into `trash/` and returns where it is now; `None` when it was not there.
    fn move_to_trash(&self, path: &Path) -> Result<Option<PathBuf>> {
        let trashed = self.root("trash").join(self.leased_name()?);
        match std::fs::rename(path, &trashed) {
            Ok(()) => Ok(Some(trashed)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(fs::Error { operation: "remove", path: path.to_owned(), source }.into()),
        }
    }
}

fn check_format(root: &Path, text: &str) -> Result<()> {
    let found = text.strip_prefix("wharf ").and_then(|rest| rest.trim().parse::<u32>().ok());
    match found {
        Some(found) if found <= FORMAT => Ok(()),
        _ => Err(Error::NewerFormat { path: root.to_owned(), found: text.trim().to_owned(), known: FORMAT }),
    }
}

fn make_folders(root: &Path) -> fs::Result<()> {
    make_folder(root)?;
    for name in [
        "blobs/sha256",
        "spool",
        "layers",
        "images",
        "refs",
        "containers",
        "networks",
        "volumes",
        "names/containers",
        "names/networks",
        "cache/steps",
        "cache/stat",
        "cache/mounts",
        "tmp",
        "trash",
        "lock/leases",
        "lock/d",
    ] {
        make_folder(&root.join(name))?;
    }
    Ok(())
}

fn make_folder(path: &Path) -> fs::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).context("create folder", path)
}

fn write_record<T: Serialize>(path: &Path, record: &T, durability: Durability) -> Result<()> {
    let content = serde_json::to_vec(record).map_err(|source| Error::Corrupt { path: path.to_owned(), source })?;
    Ok(fs::write_atomic(path, &content, durability)?)
}

/// Reads a record; `None` when it is missing.
fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let content = match fs::read_limited(path, RECORD_BYTES_MAX) {
        Ok(content) => content,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    parse_record(path, &content).map(Some)
}

fn parse_record<T: DeserializeOwned>(path: &Path, content: &[u8]) -> Result<T> {
    serde_json::from_slice(content).map_err(|source| Error::Corrupt { path: path.to_owned(), source })
}

/// The names in a folder that are text and do not begin with a dot; none when the folder is missing.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let reader = match std::fs::read_dir(folder) {
        Ok(reader) => reader,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(fs::Error { operation: "list", path: folder.to_owned(), source }.into()),
    };
    let mut names = Vec::new();
    for entry in reader {
        let entry = entry.context("list", folder)?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
