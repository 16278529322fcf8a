//! Volumes: made from a project's definition, and removed.

use super::{Engine, Error, Result};
use crate::graph::{hash, observed::label};
use crate::model::project::{Project, Volume};
use crate::model::volume::VolumeRecord;

impl Engine {
    /// Makes the volume with this key of a project. One that exists is left as it is.
    pub fn create_project_volume(&self, project: &Project, key: &str, volume: &Volume) -> Result<()> {
        match volume.driver.as_deref() {
            None | Some("" | "local" | "default") => {}
            Some(driver) => {
                return Err(Error::Unsupported { what: format!("volume driver `{driver}` of volume `{key}`") });
            }
        }
        let mut labels = volume.labels.clone();
        labels.insert(label::PROJECT.into(), project.name.clone());
        labels.insert(label::VOLUME.into(), key.to_owned());
        labels.insert(label::CONFIG_HASH.into(), hash::volume(volume));
        labels.insert(label::VERSION.into(), env!("CARGO_PKG_VERSION").to_owned());
        self.create_volume(&VolumeRecord {
            name: volume.name.clone(),
            created: jiff::Timestamp::now(),
            anonymous: false,
            options: volume.driver_opts.clone(),
            labels,
        })
    }

    /// Makes a volume. One of that name that exists is left as it is.
    pub fn create_volume(&self, record: &VolumeRecord) -> Result<()> {
        match self.store.volumes().create(record) {
            Err(error) if error.is_name_taken() => Ok(()),
            result => Ok(result?),
        }
    }

    /// Removes a volume that no container uses. One that is gone already is fine.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        let users = self.store.volumes().containers_using(name)?;
        if !users.is_empty() {
            return Err(Error::VolumeInUse { name: name.to_owned(), users });
        }
        match self.store.volumes().remove(name) {
            Err(error) if error.is_not_found() => Ok(()),
            result => Ok(result?),
        }
    }
}
