//! What takes the disk's room, and what of it nothing needs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Engine, Result};
use crate::base::fs::tree_bytes;
use crate::base::id::Digest;
use crate::model::container::{ContainerSpec, ContainerState, Status};
use crate::model::image::Image;
use crate::model::reference::Reference;
use crate::model::volume::VolumeRecord;

/// Everything that takes room. Sizes in bytes.
#[derive(Debug)]
pub struct DiskUsage {
    /// Images.
    pub images: Vec<ImageUsage>,
    /// Containers with the size of their own layers.
    pub containers: Vec<(ContainerSpec, ContainerState, u64)>,
    /// Volumes with their sizes and the number of containers that mount them.
    pub volumes: Vec<(VolumeRecord, u64, usize)>,
    /// Steps that builds remember.
    pub steps: usize,
    /// Layers that only builds need, and the folders of cache mounts.
    pub build_cache_bytes: u64,
    /// All layers of images, each once.
    pub layers_bytes: u64,
    /// Those that only images without a container need.
    pub free_layers_bytes: u64,
}

/// One image.
#[derive(Debug)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Its names.
    pub names: Vec<Reference>,
    /// Layers that other images have as well.
    pub shared_bytes: u64,
    /// The other layers.
    pub own_bytes: u64,
    /// Containers made from it.
    pub containers: usize,
}

impl DiskUsage {
    /// Sum of the containers' layers; of those that do not run.
    pub fn containers_bytes(&self) -> (u64, u64) {
        let sum = |only_ended: bool| {
            let counted = self.containers.iter().filter(|(_, state, _)| !only_ended || !is_up(state));
            counted.map(|(_, _, size)| size).sum()
        };
        (sum(false), sum(true))
    }

    /// Sum of the volumes; of those that no container mounts.
    pub fn volumes_bytes(&self) -> (u64, u64) {
        let sum = |only_free: bool| {
            let counted = self.volumes.iter().filter(|(_, _, users)| !only_free || *users == 0);
            counted.map(|(_, size, _)| size).sum()
        };
        (sum(false), sum(true))
    }

    /// How many containers run.
    pub fn running(&self) -> usize {
        self.containers.iter().filter(|(_, state, _)| is_up(state)).count()
    }
}

fn is_up(state: &ContainerState) -> bool {
    matches!(state.status, Status::Running | Status::Paused | Status::Restarting)
}

impl Engine {
    /// Measures everything. Reads every folder of volumes and containers: not quick where they are large.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let store = &self.store;
        let containers = store.containers().list()?;
        let images = store.images().list()?;
        let mut users: BTreeMap<&Digest, usize> = BTreeMap::new();
        let mut sizes: BTreeMap<&Digest, u64> = BTreeMap::new();
        for layer in images.iter().flat_map(|(image, _)| &image.layers) {
            sizes.insert(&layer.diff_id, layer.size_bytes);
        }
        for (image, _) in &images {
            for layer in image.layers.iter().map(|layer| &layer.diff_id).collect::<BTreeSet<_>>() {
                *users.entry(layer).or_default() += 1;
            }
        }
        let needed: BTreeSet<&Digest> = containers.iter().flat_map(|(spec, _)| &spec.layers).collect();
        let total =
            |layers: &mut dyn Iterator<Item = &Digest>| layers.filter_map(|layer| sizes.get(layer)).sum::<u64>();
        let layers_bytes = sizes.values().sum();
        let free_layers_bytes = total(&mut sizes.keys().copied().filter(|layer| !needed.contains(layer)));
        let mut build_cache_bytes = tree_bytes(&store.cache().mounts_folder());
        for layer in store.layers().list()?.iter().filter(|layer| !sizes.contains_key(layer)) {
            // One that is collected at this moment takes no room.
            build_cache_bytes += store.layers().size_bytes(layer).unwrap_or(0);
        }
        let image_usage = |(image, names): &(Image, Vec<Reference>)| {
            let is_shared = |layer: &&Digest| users.get(layer).is_some_and(|users| *users > 1);
            let layers: BTreeSet<&Digest> = image.layers.iter().map(|layer| &layer.diff_id).collect();
            ImageUsage {
                shared_bytes: total(&mut layers.iter().copied().filter(is_shared)),
                own_bytes: total(&mut layers.iter().copied().filter(|layer| !is_shared(layer))),
                containers: containers.iter().filter(|(spec, _)| spec.image_id.as_ref() == Some(&image.id)).count(),
                image: image.clone(),
                names: names.clone(),
            }
        };
        let images = images.iter().map(image_usage).collect();
        let mut volumes = Vec::new();
        for volume in store.volumes().list()? {
            let size = tree_bytes(&store.volumes().data_folder(&volume.name));
            let users = store.volumes().containers_using(&volume.name)?.len();
            volumes.push((volume, size, users));
        }
        let steps = store.cache().steps()?.len();
        let measured = |(spec, state): (ContainerSpec, ContainerState)| {
            let size = tree_bytes(&store.containers().upper_folder(&spec.id));
            (spec, state, size)
        };
        let containers = containers.into_iter().map(measured).collect();
        Ok(DiskUsage { images, containers, volumes, steps, build_cache_bytes, layers_bytes, free_layers_bytes })
    }
}
