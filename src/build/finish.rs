//! The result of a build: config and image record, in the store, with its tags.
//!
//! Everything is derived from what the build depends on (times come from the cached steps), so that a build that
//! changes nothing ends with the same image id and writes nothing.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::error::Error;
use super::execute::Built;
use super::interpret::State;
use super::request::BuildRequest;
use super::tree::Tree;
use crate::base::id::Digest;
use crate::model::image::{Image, RootFs};
use crate::store::Store;

/// Records the image and tags it.
///
/// With an `epoch` (seconds since 1970) that is when everything was made.
pub fn finish(
    store: &Store,
    request: &BuildRequest,
    state: State,
    built: &Built,
    epoch: Option<i64>,
) -> Result<Image, Error> {
    let epoch = epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let created: Vec<jiff::Timestamp> = built.created.iter().map(|time| epoch.unwrap_or(*time)).collect();
    let mut config = state.image;
    config.config.labels.extend(request.labels.clone());
    config.rootfs =
        RootFs { kind: "layers".into(), diff_ids: built.layers.iter().map(|l| l.diff_id.clone()).collect() };
    let mut times = created.iter();
    let mut latest = None;
    for entry in config.history.iter_mut() {
        // Those of the base image have their times.
        if entry.created.is_some() {
            latest.clone_from(&entry.created);
            continue;
        }
        if let Some(epoch) = epoch {
            latest = Some(epoch.to_string());
        }
        if !entry.empty_layer
            && let Some(time) = times.next()
        {
            latest = Some(time.to_string());
        }
        entry.created.clone_from(&latest);
    }
    config.created = latest.or_else(|| created.last().map(ToString::to_string));
    config.inline_cache = super::cache::inline(&request.cache_to, built);
    let content = serde_json::to_vec(&config).map_err(|error| {
        let source = std::io::Error::other(error);
        crate::base::fs::Error { operation: "write", path: "the image's config".into(), source }
    })?;
    let id = Digest::of(&content);
    store.lease()?.protect(&id)?;
    let image = Image { id: id.clone(), manifest: None, config, layers: built.layers.clone() };
    if !request.keep_image {
        return Ok(image);
    }
    if store.images().get(&id).is_err() {
        store.layers().make_durable(image.layers.iter().map(|layer| &layer.diff_id))?;
        store.blobs().put(&content)?;
        store.images().add(&image)?;
    }
    for tag in &request.tags {
        let current = store.images().resolve(tag)?;
        if current.is_none_or(|current| current.id != id) {
            store.images().tag(tag, &id)?;
        }
    }
    Ok(image)
}

/// Writes the file system of an image as one tar archive and returns the sum of the sizes of its files in bytes.
pub fn write_root(store: &Store, image: &Image, output: &mut dyn std::io::Write) -> Result<u64, Error> {
    let folders = super::execute::folders(store, &image.layers);
    let empty = store.temporary_path()?;
    crate::base::fs::create_dir_all(&empty)?;
    let tree = Tree::layers(&folders, &empty)?;
    // The tree is attached nowhere; its handle has a path all the same.
    let path = PathBuf::from(format!("/proc/self/fd/{}/", tree.root().as_raw_fd()));
    let result = crate::store::write_archive(&path, output);
    crate::base::fs::remove_dir_all(&empty)?;
    Ok(result?)
}
