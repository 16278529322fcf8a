//! An image to a registry: layers and config that are missing there, then the manifest.
//!
//! A layer that has no compressed blob yet is compressed into one, which is kept: the next push, save or pull of it
//! finds the same bytes. An image that was pulled goes back with the manifest it came with, so its digest stays.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;

use super::index::{self, platforms_of};
use super::layer::kept_blob;
use super::online::apart;
use super::registry::{Client, Config, Timing, Upload};
use super::{Error, Result};
use crate::base::fs::Durability;
use crate::base::id::Digest;
use crate::model::event::{Event, EventStatus, Progress};
use crate::model::image::{BlobRecord, Image, LayerRecord};
use crate::model::reference::Reference;
use crate::store::Store;

/// Layers under way at once.
const LAYERS_AT_ONCE: usize = 3;
/// Fast, and within a few percent of the best size.
const COMPRESSION: u32 = 5;
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Largest config or manifest.
const DOCUMENT_BYTES_MAX: u64 = 64 << 20;

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// Pushes the image that `reference` names here to the registry that it names: all platforms of it as one index, or
/// only the image for `platform`.
///
/// Reports one resource a layer: its diff id's first 12 digits.
pub fn push(store: &Store, reference: &Reference, platform: Option<&str>, progress: &dyn Progress) -> Result<Pushed> {
    push_with(store, reference, platform, progress, Timing::default(), &Config::read()?)
}

/// [`push`] with another patience and other settings of registries.
pub(super) fn push_with(
    store: &Store,
    reference: &Reference,
    platform: Option<&str>,
    progress: &dyn Progress,
    timing: Timing,
    config: &Config,
) -> Result<Pushed> {
    let images = match platform {
        None => platforms_of(store, reference)?,
        Some(platform) => vec![index::find(store, &reference.familiar(), Some(platform))?],
    };
    let images = images.into_iter().map(|image| compressed(store, image, progress)).collect::<Result<Vec<_>>>()?;
    let others = other_repositories(store, reference, &images)?;
    // Mirrors are for reading.
    let not_here = || Error::NotHere { reference: reference.to_string() };
    let client = Client::for_reference(reference, config, timing)?.pop().ok_or_else(not_here)?;
    apart("registry", async || push_to(store, &client, reference, &images, &others, progress).await)
}

async fn push_to(
    store: &Store,
    client: &Client,
    reference: &Reference,
    images: &[Image],
    others: &[String],
    progress: &dyn Progress,
) -> Result<Pushed> {
    let mut seen = std::collections::BTreeSet::new();
    let layers = images.iter().flat_map(|image| &image.layers);
    let different: Vec<&LayerRecord> = layers.filter(|layer| seen.insert(&layer.diff_id)).collect();
    stream::iter(different)
        .map(|layer| push_layer(store, client, layer, others, progress))
        .buffer_unordered(LAYERS_AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    let name = reference
        .digest
        .as_ref()
        .map_or_else(|| reference.tag.clone().unwrap_or_else(|| "latest".into()), |digest| digest.as_str().to_owned());
    let mut manifests = Vec::new();
    for image in images {
        let config = store.blobs().read(&image.id, DOCUMENT_BYTES_MAX)?;
        let file = store.blobs().open(&image.id)?;
        client.upload(&image.id, &file, config.len() as u64, others, &|_| {}).await?;
        let (media_type, manifest) = manifest_of(store, image, config.len() as u64)?;
        let digest = Digest::of(&manifest);
        // Of several the tag means the index.
        let name = if images.len() == 1 { &name } else { digest.as_str() };
        client.put_manifest(name, &media_type, &manifest).await?;
        let size_bytes = manifest.len() as u64;
        if images.len() == 1 {
            return Ok(Pushed { digest, size_bytes });
        }
        manifests.push(index::descriptor(image, &media_type, &digest, size_bytes));
    }
    let known = store.images().index(reference)?.and_then(|index| index.document);
    let (media_type, content) = index::document(store, known.as_ref(), &manifests)?;
    let digest = client.put_manifest(&name, &media_type, &content).await?;
    Ok(Pushed { digest, size_bytes: content.len() as u64 })
}

async fn push_layer(
    store: &Store,
    client: &Client,
    layer: &LayerRecord,
    others: &[String],
    progress: &dyn Progress,
) -> Result<()> {
    let resource = layer.diff_id.short().to_owned();
    let Some(blob) = &layer.blob else { return Err(Error::MissingBlob { digest: layer.diff_id.clone() }) };
    progress.working(&resource, "Pushing");
    let file = store.blobs().open(&blob.digest)?;
    let sent = |bytes: u64| {
        let mut event = Event::new(&resource, EventStatus::Working, "Pushing");
        event.amount = Some((bytes, blob.size_bytes));
        progress.report(event);
    };
    let text = match client.upload(&blob.digest, &file, blob.size_bytes, others, &sent).await? {
        Upload::Exists => "Layer already exists".to_owned(),
        Upload::Mounted => format!("Mounted from {}", others.first().map_or("elsewhere", String::as_str)),
        Upload::Sent => "Pushed".to_owned(),
    };
    progress.done(&resource, &text);
    Ok(())
}

/// The manifest with which the image came, where it still fits, else one of our own.
///
/// All its layers have a blob, see [`compressed_layer`].
fn manifest_of(store: &Store, image: &Image, config_bytes: u64) -> Result<(String, Vec<u8>)> {
    let blobs: Vec<Option<&Digest>> = image.layers.iter().map(|layer| Some(&layer.blob.as_ref()?.digest)).collect();
    if let Some(kept) = kept_manifest(store, image, &blobs)? {
        return Ok(kept);
    }
    let layers: Vec<_> = image
        .layers
        .iter()
        .filter_map(|layer| layer.blob.as_ref())
        .map(|blob| json!({ "mediaType": docker_type(&blob.media_type), "size": blob.size_bytes, "digest": blob.digest }))
        .collect();
    let oci = layers.iter().any(|layer| layer["mediaType"].as_str().is_some_and(|text| text.contains("oci")));
    let (manifest, config) = match oci {
        true => ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json"),
        false => (DOCKER_MANIFEST, DOCKER_CONFIG),
    };
    let mut layers = layers;
    if oci {
        for layer in &mut layers {
            if layer["mediaType"] == DOCKER_LAYER {
                layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
            }
        }
    }
    let document = json!({
        "schemaVersion": 2,
        "mediaType": manifest,
        "config": { "mediaType": config, "size": config_bytes, "digest": image.id },
        "layers": layers,
    });
    Ok((manifest.to_owned(), document.to_string().into_bytes()))
}

/// Media type and content of the manifest with which an image came, when it lists these blobs of its layers.
pub(super) fn kept_manifest(
    store: &Store,
    image: &Image,
    blobs: &[Option<&Digest>],
) -> Result<Option<(String, Vec<u8>)>> {
    let Some(digest) = image.manifest.as_ref().filter(|digest| store.blobs().exists(digest)) else { return Ok(None) };
    let content = store.blobs().read(digest, DOCUMENT_BYTES_MAX)?;
    let document: serde_json::Value = serde_json::from_slice(&content).unwrap_or_default();
    // A layer that was here already may have come in another compression than the manifest says.
    let listed = document["layers"].as_array().map_or(&[][..], Vec::as_slice);
    let own = blobs.iter().map(|digest| digest.map(Digest::as_str));
    let has_same_layers = listed.iter().map(|layer| layer["digest"].as_str()).eq(own);
    let fits = has_same_layers && document["config"]["digest"] == *image.id.as_str();
    let media_type = document["mediaType"].as_str().filter(|_| fits).map(str::to_owned);
    Ok(media_type.map(|media_type| (media_type, content)))
}

/// Gzip layers are called the same in Docker's manifests everywhere; others only OCI's have a name for.
fn docker_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar+gzip" => DOCKER_LAYER,
        other => other,
    }
}

/// Compresses the layers that have no blob, as many at once as there are cores, and records them.
fn compressed(store: &Store, mut image: Image, progress: &dyn Progress) -> Result<Image> {
    let mut missing = Vec::new();
    for layer in &mut image.layers {
        store.lease()?.protect(&layer.diff_id)?;
        if let Some(blob) = &layer.blob {
            store.lease()?.protect(&blob.digest)?;
            if store.blobs().exists(&blob.digest) {
                continue;
            }
        }
        missing.push(layer);
    }
    if missing.is_empty() {
        return Ok(image);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
    let queue = Mutex::new(missing.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<()> {
        while let Some(layer) = next() {
            progress.working(layer.diff_id.short(), "Preparing");
            layer.blob = Some(compressed_layer(store, layer)?);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let join = |result: Result<()>, thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            result.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        };
        others.into_iter().fold(own, join)
    })?;
    store.blobs().sync_folder()?;
    store.images().add(&image)?;
    Ok(image)
}

/// The compressed blob of a layer, made when there is none. Its name is to be made durable by the caller.
pub(super) fn compressed_layer(store: &Store, layer: &LayerRecord) -> Result<BlobRecord> {
    store.lease()?.protect(&layer.diff_id)?;
    match kept_blob(store, layer)? {
        Some(blob) => Ok(blob),
        None => compress(store, layer),
    }
}

fn compress(store: &Store, layer: &LayerRecord) -> Result<BlobRecord> {
    let _one_at_a_time = store.lock_digest(&layer.diff_id)?;
    let blob = store.blobs().begin()?;
    let mut hashing = Hashing {
        output: flate2::write::GzEncoder::new(blob, flate2::Compression::new(COMPRESSION)),
        hasher: sha2::Digest::new(),
    };
    crate::store::write_archive(&store.layers().path(&layer.diff_id), &mut hashing)?;
    let actual = Digest::from_sha256(&sha2::Digest::finalize(hashing.hasher));
    if actual != layer.diff_id {
        let expected = layer.diff_id.clone();
        return Err(crate::store::Error::DigestMismatch { expected, actual }.into());
    }
    let blob = hashing.output.finish().map_err(|source| Error::Read { source })?;
    let size_bytes = blob.size_bytes();
    store.lease()?.protect(&blob.digest())?;
    let digest = blob.commit(None, Durability::Durable)?;
    Ok(BlobRecord { digest, size_bytes, media_type: DOCKER_LAYER.to_owned() })
}

/// Hashes what is written through it.
struct Hashing<W> {
    output: W,
    hasher: sha2::Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.output.write(buffer)?;
        sha2::Digest::update(&mut self.hasher, &buffer[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

/// Repositories of the same registry under which images with some of these layers are known here.
fn other_repositories(store: &Store, reference: &Reference, images: &[Image]) -> Result<Vec<String>> {
    let layers = images.iter().flat_map(|image| &image.layers);
    let own: std::collections::BTreeSet<&Digest> = layers.map(|layer| &layer.diff_id).collect();
    let mut found = std::collections::BTreeSet::new();
    for (other, references) in store.images().list()? {
        if other.layers.iter().any(|layer| own.contains(&layer.diff_id)) {
            found.extend(
                references
                    .into_iter()
                    .filter(|known| known.registry == reference.registry && known.repository != reference.repository)
                    .map(|known| known.repository),
            );
        }
    }
    // One attempt: a registry answers each of them, and most layers are in the first.
    Ok(found.into_iter().take(1).collect())
}
