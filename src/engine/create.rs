//! Makes a container: joins a request with its image, makes its volumes, writes its record.

use std::path::Path;

use super::request::Request;
use super::{Engine, Error, Result};
use crate::base::fs::Context;
use crate::base::id::ContainerId;
use crate::model::container::{ContainerSpec, IdMap, MountSource, NetworkMode};
use crate::model::image::Image;
use crate::model::volume::VolumeRecord;

impl Engine {
    /// Makes a container from `image`; it is not started.
    ///
    /// Errors: the name is taken, a bind source is missing, no command. Nothing is left behind then.
    pub fn create(&self, request: Request, image: &Image) -> Result<ContainerId> {
        if let Some(wrong) = request.check().into_iter().next() {
            return Err(wrong);
        }
        let wants_name = request.name.is_none();
        let named_host = request.hostname.is_some();
        let mut spec = request.into_spec(image, jiff::Timestamp::now())?;
        if let (NetworkMode::Container { id }, false) = (&spec.network, named_host) {
            // Who shares a network shares /etc/hosts, and that knows the other's name.
            spec.hostname = self.store.containers().spec(id)?.hostname;
        }
        if spec.network == NetworkMode::Host && !named_host {
            // Who is in the host's network goes by the host's name, as Docker has it.
            spec.hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        }
        self.check_networks(&spec)?;
        let ids = self.settle_users(&mut spec)?;
        self.check_binds(&spec)?;
        let volumes = self.create_volumes(&spec)?;
        let id = spec.id.clone();
        let created =
            if wants_name { self.create_with_made_up_name(spec) } else { Ok(self.store.containers().create(&spec)?) };
        // Its record holds its ids from here on.
        drop(ids);
        if created.is_err() {
            for volume in volumes {
                // The first error is the one to report; an empty volume that stays is removed by prune.
                drop(self.store.volumes().remove(&volume));
            }
        }
        created.map(|()| id)
    }

    /// A missing network is an error of `create`, not of the start.
    fn check_networks(&self, spec: &ContainerSpec) -> Result<()> {
        if let NetworkMode::Networks { attachments } = &spec.network {
            for attachment in attachments {
                self.store.networks().get(&attachment.network)?;
            }
        }
        Ok(())
    }

    fn create_with_made_up_name(&self, mut spec: ContainerSpec) -> Result<()> {
        const ATTEMPTS_MAX: u32 = 20;
        for attempt in 0.. {
            match self.store.containers().create(&spec) {
                Err(error) if error.is_name_taken() && attempt < ATTEMPTS_MAX => {
                    spec.name = super::request::made_up_name(attempt + 1);
                }
                result => return Ok(result?),
            }
        }
        Ok(())
    }

    fn check_binds(&self, spec: &ContainerSpec) -> Result<()> {
        for mount in &spec.mounts {
            if let MountSource::Bind { path, create, idmap, .. } = &mount.source {
                match std::fs::metadata(path) {
                    Ok(_) => {}
                    Err(_) if *create => make_source(path, spec, *idmap)?,
                    Err(_) => return Err(Error::BindSource { path: path.clone() }),
                }
            }
        }
        Ok(())
    }

    /// Makes the volumes that do not exist yet and returns the names of those it made.
    fn create_volumes(&self, spec: &ContainerSpec) -> Result<Vec<String>> {
        let mut made = Vec::new();
        for mount in &spec.mounts {
            let MountSource::Volume { name, anonymous, .. } = &mount.source else { continue };
            let volumes = self.store.volumes();
            if volumes.get(name).is_ok() {
                continue;
            }
            let record = VolumeRecord {
                name: name.clone(),
                created: spec.created,
                anonymous: *anonymous,
                options: Default::default(),
                labels: Default::default(),
            };
            match volumes.create(&record) {
                Ok(()) => made.push(name.clone()),
                // Another command made it in between.
                Err(error) if error.is_name_taken() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(made)
    }
}

/// Makes the missing source of a bind mount; it belongs to root of the container, as Docker has it.
fn make_source(path: &Path, spec: &ContainerSpec, idmap: bool) -> Result<()> {
    crate::base::fs::create_dir_all(path)?;
    if idmap || spec.uid_maps.is_empty() {
        return Ok(());
    }
    if let (Some(uid), Some(gid)) = (IdMap::to_host(&spec.uid_maps, 0), IdMap::to_host(&spec.gid_maps, 0)) {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).context("change the owner of", path)?;
    }
    Ok(())
}
