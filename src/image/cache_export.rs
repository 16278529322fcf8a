//! Writing what build steps made, in the form that [`super::cache`] reads.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};

use super::cache::{
    ALIAS, CONFIG, CacheConfig, CacheLayer, CachePlace, CacheRecord, CacheResult, INDEX, LAYER, LayerAnnotations,
    MANIFEST, TAG, blob_path, read_index, tag_of,
};
use super::online::with_client;
use super::{Error, Result, push};
use crate::base::fs::{self, Context, Durability};
use crate::base::id::Digest;
use crate::model::event::Progress;
use crate::model::image::{BlobRecord, LayerRecord};
use crate::store::{StepRecord, Store};

/// What an image's config says of the steps that made its layers, for [`super::cache::INLINE`]; `layers` are all of the image. Of
/// other steps it says what they made.
pub fn inline_cache(layers: &[LayerRecord], steps: &[StepRecord]) -> String {
    let entry = |(number, layer): (usize, &LayerRecord)| {
        let annotations = LayerAnnotations { diff_id: Some(layer.diff_id.clone()), ..LayerAnnotations::default() };
        let parent = i64::try_from(number).unwrap_or(0) - 1;
        CacheLayer { blob: None, parent, annotations: Some(annotations) }
    };
    let others = others(steps, |layer| layers.iter().any(|other| other.diff_id == layer.diff_id));
    let listed: Vec<CacheLayer> = layers.iter().chain(others.iter().copied()).enumerate().map(entry).collect();
    let number = |layer: &LayerRecord| {
        let mut all = layers.iter().chain(others.iter().copied());
        all.position(|other| other.diff_id == layer.diff_id)
    };
    let cache = CacheConfig { layers: listed, records: records(steps, number) };
    // Only strings, numbers and lists: it cannot fail.
    let text = serde_json::to_vec(&cache).unwrap_or_default();
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The layers of steps that are not among those that are written, each once.
fn others(steps: &[StepRecord], is_written: impl Fn(&LayerRecord) -> bool) -> Vec<&LayerRecord> {
    let mut found: Vec<&LayerRecord> = Vec::new();
    for layer in steps.iter().flat_map(|step| step.layers.first()) {
        if !is_written(layer) && found.iter().all(|other| other.diff_id != layer.diff_id) {
            found.push(layer);
        }
    }
    found
}

/// A record for each key of each step whose layer has a number.
fn records(steps: &[StepRecord], number: impl Fn(&LayerRecord) -> Option<usize>) -> Vec<CacheRecord> {
    let mut found: BTreeMap<Digest, CacheRecord> = BTreeMap::new();
    for step in steps {
        let Some(layer) = step.layers.first().and_then(&number) else { continue };
        let alias = step.data[ALIAS].as_str().and_then(|text| text.parse::<Digest>().ok());
        for key in std::iter::once(step.key.clone()).chain(alias) {
            let result = CacheResult { layer, created_at: Some(step.created) };
            found.insert(key.clone(), CacheRecord { digest: Some(key), layers: vec![result] });
        }
    }
    found.into_values().collect()
}

/// Writes what `steps` made to `place`, and the layers of those that `is_wanted` names, compressing what has not been;
/// a cache that was there is replaced.
///
/// Returns the digest of its manifest.
pub fn write_cache(
    store: &Store,
    place: &CachePlace,
    steps: &[StepRecord],
    is_wanted: &dyn Fn(&StepRecord) -> bool,
    progress: &dyn Progress,
) -> Result<Digest> {
    let mut layers: Vec<(LayerRecord, BlobRecord)> = Vec::new();
    for step in steps.iter().filter(|step| is_wanted(step)) {
        for layer in &step.layers {
            if !layers.iter().any(|(other, _)| other.diff_id == layer.diff_id) {
                layers.push((layer.clone(), push::compressed_layer(store, layer)?));
            }
        }
        // So that the blob stays as long as the step is remembered.
        let mut kept = step.clone();
        for layer in &mut kept.layers {
            let blob = layers.iter().find(|(other, _)| other.diff_id == layer.diff_id).map(|(_, blob)| blob.clone());
            layer.blob = blob.or(layer.blob.take());
        }
        if kept != *step {
            store.cache().remember(&kept)?;
        }
    }
    store.blobs().sync_folder()?;
    let (config, document) = documents(&layers, steps)?;
    let digest = Digest::of(&document);
    match place {
        CachePlace::Registry(reference) => {
            let config_digest = store.blobs().put(&config)?;
            with_client(reference, false, async |client| {
                for (layer, blob) in &layers {
                    let file = store.blobs().open(&blob.digest)?;
                    progress.working(layer.diff_id.short(), "Pushing");
                    client.upload(&blob.digest, &file, blob.size_bytes, &[], &|_| {}).await?;
                    progress.done(layer.diff_id.short(), "Pushed");
                }
                let file = store.blobs().open(&config_digest)?;
                client.upload(&config_digest, &file, config.len() as u64, &[], &|_| {}).await?;
                client.put_manifest(reference.manifest_name(), MANIFEST, &document).await
            })?;
        }
        CachePlace::Folder { path, tag } => {
            fs::create_dir_all(&path.join("blobs/sha256"))?;
            for (_, blob) in &layers {
                copy_blob(store, path, &blob.digest)?;
            }
            for content in [&config, &document] {
                fs::write_atomic(&blob_path(path, &Digest::of(content)), content, Durability::Volatile)?;
            }
            write_index(path, tag.as_deref().unwrap_or(TAG), &digest, document.len())?;
        }
    }
    Ok(digest)
}

/// The config and the manifest of a cache.
fn documents(layers: &[(LayerRecord, BlobRecord)], steps: &[StepRecord]) -> Result<(Vec<u8>, Vec<u8>)> {
    let created = |layer: &LayerRecord| {
        steps.iter().find(|step| step.layers.first() == Some(layer)).map(|step| step.created.to_string())
    };
    let entry = |(layer, blob): &(LayerRecord, BlobRecord)| CacheLayer {
        blob: Some(blob.digest.clone()),
        // Each step's result stands alone: its key says what lies below.
        parent: -1,
        annotations: Some(LayerAnnotations {
            media_type: LAYER.into(),
            diff_id: Some(layer.diff_id.clone()),
            size: blob.size_bytes,
            created_at: created(layer),
        }),
    };
    let others = others(steps, |layer| layers.iter().any(|(other, _)| other.diff_id == layer.diff_id));
    let traced = |layer: &&LayerRecord| CacheLayer {
        blob: None,
        parent: -1,
        annotations: Some(LayerAnnotations { diff_id: Some(layer.diff_id.clone()), ..LayerAnnotations::default() }),
    };
    let listed = layers.iter().map(entry).chain(others.iter().map(traced)).collect();
    let all: Vec<&Digest> =
        layers.iter().map(|(layer, _)| &layer.diff_id).chain(others.iter().map(|layer| &layer.diff_id)).collect();
    let number = |layer: &LayerRecord| all.iter().position(|other| **other == layer.diff_id);
    let cache = CacheConfig { layers: listed, records: records(steps, number) };
    let config = serde_json::to_vec(&cache).map_err(|source| Error::Document { what: "cache".to_owned(), source })?;
    let listed: Vec<Value> = layers
        .iter()
        .map(|(layer, blob)| {
            let annotations = json!({ "containerd.io/uncompressed": layer.diff_id });
            let media_type = if blob.media_type.ends_with("gzip") { LAYER } else { &blob.media_type };
            json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size_bytes, "annotations": annotations })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": Digest::of(&config), "size": config.len() },
        "layers": listed,
    });
    Ok((config, manifest.to_string().into_bytes()))
}

fn copy_blob(store: &Store, folder: &Path, digest: &Digest) -> Result<()> {
    let target = blob_path(folder, digest);
    if target.exists() {
        return Ok(());
    }
    let partial = target.with_extension("partial");
    std::fs::copy(store.blobs().path(digest), &partial).context("write", &partial)?;
    Ok(std::fs::rename(&partial, &target).context("write", &target)?)
}

fn write_index(folder: &Path, tag: &str, digest: &Digest, size_bytes: usize) -> Result<()> {
    let mut entries = read_index(folder).unwrap_or_default();
    entries.retain(|entry| tag_of(entry) != Some(tag));
    entries.push(json!({
        "mediaType": MANIFEST,
        "digest": digest,
        "size": size_bytes,
        "annotations": { "org.opencontainers.image.ref.name": tag },
    }));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
    fs::write_atomic(&folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#, Durability::Volatile)?;
    Ok(fs::write_atomic(&folder.join("index.json"), index.as_bytes(), Durability::Volatile)?)
}
