//! One reading of what exists for a project, for the planner.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::service::image_name;
use super::{Engine, Result};
use crate::base::id::{ContainerId, to_hex};
use crate::graph::Observed;
use crate::graph::observed::{HostPort, ObservedContainer, ObservedNetwork, ObservedVolume, label};
use crate::image;
use crate::model::container::{ContainerSpec, ContainerState, Mount, MountSource, NamespaceMode, NetworkMode, Status};
use crate::model::project::{FileObject, Project, Service};
use crate::model::reference::Reference;
use crate::store::Wish;

/// The largest config or secret that is looked at.
const FILE_OBJECT_SIZE_MAX: u64 = 16 << 20;

impl Engine {
    /// Reads what exists for the project `name`; `project` adds the images and contents that a plan compares.
    pub fn observe(&self, name: &str, project: Option<&Project>) -> Result<Observed> {
        let all = self.store.containers().list()?;
        let mut observed = Observed::default();
        for (spec, state) in &all {
            if spec.labels.get(label::PROJECT).is_some_and(|value| value == name) {
                observed.containers.push(self.observed_container(spec, state)?);
            }
        }
        // Sharing with a container of somebody else is nothing that a plan could mend.
        let foreign = |id: &ContainerId| {
            all.iter()
                .any(|(spec, _)| spec.id == *id && spec.labels.get(label::PROJECT).is_none_or(|value| value != name))
        };
        for container in &mut observed.containers {
            container.shares.retain(|id| !foreign(id));
        }
        observed.containers.sort_by(|a, b| a.name.cmp(&b.name));
        let wanted = |labels: &BTreeMap<String, String>, names: &dyn Fn(&Project) -> bool| {
            labels.get(label::PROJECT).is_some_and(|value| value == name) || project.is_some_and(names)
        };
        for record in self.store.networks().list()? {
            if !wanted(&record.labels, &|project| project.networks.values().any(|n| n.name == record.name)) {
                continue;
            }
            let foreign = all.iter().filter(|(spec, _)| {
                spec.labels.get(label::PROJECT).is_none_or(|value| value != name)
                    && spec.network.networks().any(|network| *network == record.id)
            });
            let network = ObservedNetwork {
                foreign_users: foreign.count(),
                project: record.labels.get(label::PROJECT).cloned(),
                config_hash: record.labels.get(label::CONFIG_HASH).cloned(),
                id: record.id,
            };
            observed.networks.insert(record.name, network);
        }
        for record in self.store.volumes().list()? {
            if wanted(&record.labels, &|project| project.volumes.values().any(|v| v.name == record.name)) {
                let volume = ObservedVolume {
                    project: record.labels.get(label::PROJECT).cloned(),
                    config_hash: record.labels.get(label::CONFIG_HASH).cloned(),
                };
                observed.volumes.insert(record.name, volume);
            }
        }
        if let Some(project) = project {
            self.add_images(project, &mut observed)?;
            for service in project.services.values() {
                if let Some(digest) = contents(project, service)? {
                    observed.contents.insert(service.name.clone(), digest);
                }
                self.add_mounted_images(service, &mut observed)?;
            }
        }
        Ok(observed)
    }

    fn observed_container(&self, spec: &ContainerSpec, state: &ContainerState) -> Result<ObservedContainer> {
        let text = |key: &str| spec.labels.get(key).cloned().unwrap_or_default();
        let ended = matches!(state.status, Status::Exited | Status::Dead);
        Ok(ObservedContainer {
            id: spec.id.clone(),
            name: spec.name.clone(),
            service: text(label::SERVICE),
            number: text(label::NUMBER).parse().unwrap_or(0),
            oneoff: text(label::ONEOFF) == "True",
            hook: spec.labels.contains_key(label::HOOK),
            config_hash: text(label::CONFIG_HASH),
            image: spec.image_id.clone(),
            replaces: spec.labels.get(label::REPLACE).and_then(|id| id.parse().ok()),
            depends_on: text(label::DEPENDS_ON)
                .split(',')
                .filter_map(|entry| entry.split(':').next())
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect(),
            networks: spec.network.networks().cloned().collect(),
            volumes: spec.mounts.iter().filter_map(named_volume).collect(),
            ports: spec.ports.iter().filter_map(HostPort::of_binding).collect(),
            shares: shares(spec),
            status: state.status,
            stopped_by_user: ended && self.store.containers().wish(&spec.id)? == Wish::Stopped,
            exit_code: state.exit_code,
            health: state.health.as_ref().map(|health| health.status),
            image_name: spec.image.clone(),
        })
    }

    /// Adds the images that a service mounts to what its container is made from.
    fn add_mounted_images(&self, service: &Service, observed: &mut Observed) -> Result<()> {
        for mount in service.volumes.iter().filter(|mount| mount.kind == "image") {
            let reference: Reference = mount.source.as_deref().unwrap_or_default().parse()?;
            if let Some(image) = self.store.images().resolve(&reference)? {
                let contents = observed.contents.entry(service.name.clone()).or_default();
                contents.push_str(&image.id.to_string());
            }
        }
        Ok(())
    }

    /// The image that each service's name stands for now. Services of one name share one look-up.
    fn add_images(&self, project: &Project, observed: &mut Observed) -> Result<()> {
        let mut known: BTreeMap<(String, Option<&str>), Option<crate::base::id::Digest>> = BTreeMap::new();
        for service in project.services.values() {
            let wanted = (image_name(project, service), service.platform.as_deref());
            let id = match known.get(&wanted) {
                Some(id) => id.clone(),
                None => {
                    let id = image::resolve(&self.store, &wanted.0.parse()?, wanted.1)?.map(|image| image.id);
                    known.insert(wanted, id.clone());
                    id
                }
            };
            if let Some(id) = id {
                observed.images.insert(service.name.clone(), id);
            }
        }
        Ok(())
    }
}

fn named_volume(mount: &Mount) -> Option<String> {
    match &mount.source {
        MountSource::Volume { name, anonymous: false, .. } => Some(name.clone()),
        _ => None,
    }
}

/// The other containers of the project whose namespaces a container uses.
fn shares(spec: &ContainerSpec) -> Vec<ContainerId> {
    let network = match &spec.network {
        NetworkMode::Container { id } => Some(id),
        _ => None,
    };
    let modes = [&spec.security.pid, &spec.security.ipc, &spec.security.uts];
    let others = modes.into_iter().filter_map(|mode| match mode {
        NamespaceMode::Container(id) => Some(id),
        _ => None,
    });
    network.into_iter().chain(others).cloned().collect()
}

/// A digest over what a service's container is made from besides its own definition: the contents of its configs and
/// secrets, and what others call it (`links`). `None` without any.
fn contents(project: &Project, service: &Service) -> Result<Option<String>> {
    let aliases = super::service::link_aliases(project, service);
    if service.configs.is_empty() && service.secrets.is_empty() && aliases.is_empty() {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    for alias in aliases {
        hash.update(alias);
        hash.update([0]);
    }
    let objects = service
        .configs
        .iter()
        .map(|file| (&project.configs, file))
        .chain(service.secrets.iter().map(|file| (&project.secrets, file)));
    for (objects, file) in objects {
        hash.update(&file.source);
        hash.update([0]);
        if let Some(object) = objects.get(&file.source) {
            hash.update(Sha256::digest(content(project, object)?));
        }
    }
    Ok(Some(to_hex(&hash.finalize())))
}

fn content(project: &Project, object: &FileObject) -> Result<Vec<u8>> {
    if let Some(path) = &object.file {
        return Ok(crate::base::fs::read_limited(path.as_ref(), FILE_OBJECT_SIZE_MAX)?);
    }
    let variable = object.environment.as_ref().and_then(|variable| project.environment.get(variable));
    Ok(object.content.as_ref().or(variable).map(|text| text.clone().into_bytes()).unwrap_or_default())
}
