//! Volumes: a folder that appears whole and goes whole, with a record and the data.

use std::path::PathBuf;

use super::lock::Lock;
use super::{Error, Kind, Result, Store, names};
use crate::base::fs::{self, Durability};
use crate::model::container::MountSource;
use crate::model::journal::{self, Entry};
use crate::model::volume::VolumeRecord;

/// Access to volumes.
#[derive(Debug, Clone, Copy)]
pub struct Volumes<'a> {
    store: &'a Store,
}

impl<'a> Volumes<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Makes an empty volume, durably. Errors: `InvalidName`, `NameInUse`.
    pub fn create(&self, record: &VolumeRecord) -> Result<()> {
        names::check(Kind::Volume, &record.name)?;
        let building = self.store.temporary_path()?;
        let data = building.join("_data");
        fs::create_dir_all(&data)?;
        super::containers::set_mode(&data, 0o755)?;
        super::write_record(&building.join("volume.json"), record, Durability::Durable)?;
        let folder = self.folder(&record.name);
        // The new name is taken only if it is free: renaming onto a folder that has entries fails.
        if let Err(source) = std::fs::rename(&building, &folder) {
            drop(self.store.discard(&building));
            if source.raw_os_error() == Some(libc::ENOTEMPTY) || source.kind() == std::io::ErrorKind::AlreadyExists {
                let name = record.name.clone();
                return Err(Error::NameInUse { kind: Kind::Volume, holder: format!("volume {name}"), name });
            }
            return Err(fs::Error { operation: "create", path: folder, source }.into());
        }
        self.store.journal().note(&Entry::new(journal::Kind::Volume, "create", &record.name).with("driver", "local"));
        Ok(fs::sync_folder(&self.store.root("volumes"))?)
    }

    /// A volume by its name.
    pub fn get(&self, name: &str) -> Result<VolumeRecord> {
        let missing = || Error::not_found(Kind::Volume, name);
        names::check(Kind::Volume, name).map_err(|_| missing())?;
        super::read_record(&self.folder(name).join("volume.json"))?.ok_or_else(missing)
    }

    /// All volumes by name.
    pub fn list(&self) -> Result<Vec<VolumeRecord>> {
        let mut records = Vec::new();
        for name in super::entries(&self.store.root("volumes"))? {
            records.extend(super::read_record::<VolumeRecord>(&self.folder(&name).join("volume.json"))?);
        }
        Ok(records)
    }

    /// Removes a volume with its data. The caller holds its lock and has found it unused.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.get(name)?;
        if self.is_mounted(name) {
            self.unmount(name)?;
        }
        self.store.discard(&self.folder(name))?;
        self.store.journal().note(&Entry::new(journal::Kind::Volume, "destroy", name).with("driver", "local"));
        Ok(fs::sync_folder(&self.store.root("volumes"))?)
    }

    /// The folder of a volume's data.
    pub fn data_folder(&self, name: &str) -> PathBuf {
        self.folder(name).join("_data")
    }

    /// Whether something is mounted on the folder of a volume's data.
    pub fn is_mounted(&self, name: &str) -> bool {
        use std::os::unix::fs::MetadataExt;
        let device = |path: PathBuf| path.symlink_metadata().ok().map(|status| status.dev());
        let (data, folder) = (device(self.data_folder(name)), device(self.folder(name)));
        data.is_some() && data != folder
    }

    /// Unmounts what is mounted there, also under those who still look at it. The caller holds the lock.
    pub fn unmount(&self, name: &str) -> Result<()> {
        let data = self.data_folder(name);
        let unmounted = rustix::mount::unmount(&data, rustix::mount::UnmountFlags::DETACH);
        unmounted.map_err(|errno| fs::Error { operation: "unmount", path: data, source: errno.into() }.into())
    }

    /// Names of the containers that mount a volume.
    pub fn containers_using(&self, name: &str) -> Result<Vec<String>> {
        let containers = self.store.containers().list()?;
        let uses = |source: &MountSource| matches!(source, MountSource::Volume { name: used, .. } if used == name);
        let users = containers.into_iter().filter(|(spec, _)| spec.mounts.iter().any(|mount| uses(&mount.source)));
        Ok(users.map(|(spec, _)| spec.name).collect())
    }

    /// Waits for the lock of a volume: held while it is filled from an image, or made or removed.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        names::check(Kind::Volume, name)?;
        let path = self.store.paths().run.join("lock").join(format!("volume-{name}"));
        Ok(Lock::exclusive(&path)?.removed_on_release())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.store.root("volumes").join(name)
    }
}
