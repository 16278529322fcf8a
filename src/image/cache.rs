//! Results of build steps that lie elsewhere: in a registry, in a folder, or within an image.
//!
//! ```text
//! manifest   config: application/vnd.buildkit.cacheconfig.v0     layers: gzip archives
//! config     layers: [{blob, parent, annotations {diffID, ...}}]  records: [{digest: key, layers: [{layer, createdAt}]}]
//! in an image's config, base64: "moby.buildkit.cache.v0", whose layers are those of the image
//! ```
//!
//! This is BuildKit's own form, so registries keep it, `docker buildx imagetools inspect` shows it, and a builder
//! that meets the other's cache reads it without harm. The keys are ours: what BuildKit hashes is its internal graph,
//! so neither finds its steps in the other's cache.
//!
//! A layer is fetched when a step wants it, and counts only after its digests agree.
//!
//! Source: moby/buildkit `cache/remotecache/v1/doc.go` and `spec.go`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::download::{self, Wanted};
use super::layer::unpack_layer;
use super::tags::online;
use super::{Error, Limits, Platform, Result, manifest, push};
use crate::base::fs::{self, Context, Durability};
use crate::base::id::Digest;
use crate::model::event::{Progress, Silent};
use crate::model::image::{BlobRecord, LayerRecord};
use crate::model::reference::Reference;
use crate::store::{StepRecord, Store};

const CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The member of an image's config that holds the steps of its layers.
pub const INLINE: &str = "moby.buildkit.cache.v0";
/// Largest manifest, index or config of a folder; a registry's are limited by the client.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// The tag of a folder's cache where none is given.
const TAG: &str = "latest";

/// Where results lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// Under this name in a registry: a cache of its own, or an image that holds one.
    Registry(Reference),
    /// In an image layout that is a folder.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Which of several.
        tag: Option<String>,
    },
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "{reference}"),
            Self::Folder { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// What a cache elsewhere remembers.
#[derive(Debug)]
pub struct CacheSource {
    place: CachePlace,
    steps: BTreeMap<Digest, Known>,
    /// Steps whose layers are not there: when they ran, and the layer's diff id.
    traces: BTreeMap<Digest, (jiff::Timestamp, Digest)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Known {
    created: jiff::Timestamp,
    wanted: Wanted,
}

/// BuildKit's `CacheConfig`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CacheConfig {
    layers: Vec<CacheLayer>,
    records: Vec<CacheRecord>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CacheLayer {
    #[serde(skip_serializing_if = "Option::is_none")]
    blob: Option<Digest>,
    parent: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<LayerAnnotations>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LayerAnnotations {
    media_type: String,
    #[serde(rename = "diffID")]
    diff_id: Option<Digest>,
    size: u64,
    created_at: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CacheRecord {
    digest: Option<Digest>,
    #[serde(default)]
    layers: Vec<CacheResult>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheResult {
    layer: usize,
    created_at: Option<jiff::Timestamp>,
}

impl CacheSource {
    /// Reads what `place` remembers, but no layer.
    ///
    /// Errors: `UnknownImage` when there is nothing; the registry's.
    pub fn open(place: &CachePlace) -> Result<Self> {
        let (steps, traces) = match place {
            CachePlace::Registry(reference) => steps_of(&FromRegistry(reference))?,
            CachePlace::Folder { path, tag } => steps_of(&FromFolder { path, tag: tag.as_deref().unwrap_or(TAG) })?,
        };
        Ok(Self { place: place.clone(), steps, traces })
    }

    /// How many steps it knows.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What the step `key` made, of which nothing is fetched: its layer may be nowhere.
    pub fn trace(&self, key: &Digest) -> Option<StepRecord> {
        let known = self.steps.get(key).map(|known| (known.created, known.wanted.diff_id.clone()));
        let (created, diff_id) = known.or_else(|| self.traces.get(key).cloned())?;
        Some(StepRecord {
            key: key.clone(),
            description: format!("from {}", self.place),
            created,
            layers: vec![LayerRecord { diff_id, blob: None, size_bytes: 0 }],
            data: Value::Null,
        })
    }

    /// The result of the step `key`, its layer in the store; `None` when it is not known there.
    pub fn fetch(&self, store: &Store, key: &Digest) -> Result<Option<StepRecord>> {
        let Some(known) = self.steps.get(key) else { return Ok(None) };
        let layer = match &self.place {
            CachePlace::Registry(reference) => fetch_layer(store, reference, &known.wanted)?,
            CachePlace::Folder { path, .. } => load_layer(store, path, &known.wanted)?,
        };
        let mut aliases = self.steps.iter().filter(|(other, known_as)| *other != key && *known_as == known);
        Ok(Some(StepRecord {
            key: key.clone(),
            description: format!("from {}", self.place),
            created: known.created,
            layers: vec![layer],
            data: aliases.next().map_or(Value::Null, |(alias, _)| json!({ ALIAS: alias })),
        }))
    }
}

/// The member of a step's data that names another key with the same result.
pub const ALIAS: &str = "alias";

/// Small documents of a cache, each verified by its digest where it has one.
trait Documents {
    fn top(&self) -> Result<Vec<u8>>;
    fn manifest(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<u8>>;
    fn blob(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<u8>>;
}

fn steps_of(documents: &dyn Documents) -> Result<Steps> {
    let mut content = documents.top()?;
    if parse::<Value>(&content, "manifest")?.get("manifests").is_some() {
        let index = manifest::parse_index(&content)?;
        // Of an image for several platforms the host's; of BuildKit's older form, which is an index of layers, none.
        let Ok(chosen) = manifest::choose(&index, &Platform::host()) else { return Ok(Steps::default()) };
        content = documents.manifest(&manifest::digest_of(chosen)?, chosen.size())?;
    }
    let found: oci_spec::image::ImageManifest = parse(&content, "manifest")?;
    let config = documents.blob(&manifest::digest_of(found.config())?, found.config().size())?;
    let cache: CacheConfig = if found.config().media_type().to_string() == CONFIG {
        parse(&config, "cache")?
    } else {
        let image: Value = parse(&config, "config")?;
        let Some(text) = image.get(INLINE).and_then(Value::as_str) else { return Ok(Steps::default()) };
        let text = base64::engine::general_purpose::STANDARD.decode(text);
        let text = text.map_err(|_| Error::Unsupported { what: format!("`{INLINE}` is not base64") })?;
        parse(&text, "cache")?
    };
    let mut blobs = Vec::new();
    for layer in found.layers() {
        let media_type = layer.media_type().to_string();
        blobs.push(BlobRecord { digest: manifest::digest_of(layer)?, size_bytes: layer.size(), media_type });
    }
    Ok(known_steps(&cache, &blobs))
}

/// Steps with a layer to be had, and those without.
type Steps = (BTreeMap<Digest, Known>, BTreeMap<Digest, (jiff::Timestamp, Digest)>);

/// What the records and layers say together; what does not fit is as if it were not there.
fn known_steps(cache: &CacheConfig, blobs: &[BlobRecord]) -> Steps {
    let known = |record: &CacheRecord| {
        let result = record.layers.first()?;
        let layer = cache.layers.get(result.layer)?;
        let blob = match &layer.blob {
            Some(digest) => blobs.iter().find(|blob| blob.digest == *digest)?,
            // Within an image: its layer of the same number.
            None => blobs.get(result.layer)?,
        };
        let diff_id = layer.annotations.as_ref()?.diff_id.clone()?;
        let wanted = Wanted { diff_id, blob: blob.clone(), needs_blob: false };
        Some((record.digest.clone()?, Known { created: result.created_at?, wanted }))
    };
    let trace = |record: &CacheRecord| {
        let result = record.layers.first()?;
        let layer = cache.layers.get(result.layer)?;
        let diff_id = layer.annotations.as_ref()?.diff_id.clone()?;
        Some((record.digest.clone()?, (result.created_at?, diff_id)))
    };
    let steps: BTreeMap<Digest, Known> = cache.records.iter().filter_map(known).collect();
    let traces = cache.records.iter().filter_map(trace).filter(|(key, _)| !steps.contains_key(key)).collect();
    (steps, traces)
}

fn parse<T: serde::de::DeserializeOwned>(content: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(content).map_err(|source| Error::Document { what: what.to_owned(), source })
}

struct FromRegistry<'a>(&'a Reference);

impl Documents for FromRegistry<'_> {
    fn top(&self) -> Result<Vec<u8>> {
        online(self.0, async |client| Ok(client.manifest(self.0, self.0.manifest_name()).await?.content))
    }

    fn manifest(&self, digest: &Digest, _size_bytes: u64) -> Result<Vec<u8>> {
        online(self.0, async |client| Ok(client.manifest(self.0, digest.as_str()).await?.content))
    }

    fn blob(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<u8>> {
        online(self.0, async |client| client.blob(digest, size_bytes).await)
    }
}

fn fetch_layer(store: &Store, reference: &Reference, wanted: &Wanted) -> Result<LayerRecord> {
    let arrived = online(reference, async |client| download::layer(&client, store, wanted, "", &Silent).await)?;
    let records = super::pull::publish(store, std::slice::from_ref(wanted), vec![arrived])?;
    records.into_iter().next().ok_or(Error::MissingBlob { digest: wanted.blob.digest.clone() })
}

struct FromFolder<'a> {
    path: &'a Path,
    tag: &'a str,
}

impl Documents for FromFolder<'_> {
    fn top(&self) -> Result<Vec<u8>> {
        let index = read_index(self.path)?;
        let entry = index.iter().find(|entry| tag_of(entry) == Some(self.tag));
        let digest = entry.and_then(|entry| entry["digest"].as_str()?.parse().ok());
        let digest: Digest =
            digest.ok_or_else(|| Error::MissingFile { name: format!("{} in index.json", self.tag) })?;
        self.blob(&digest, DOCUMENT_BYTES_MAX)
    }

    fn manifest(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<u8>> {
        self.blob(digest, size_bytes)
    }

    fn blob(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<u8>> {
        let content = fs::read_limited(&blob_path(self.path, digest), size_bytes.min(DOCUMENT_BYTES_MAX))?;
        if Digest::of(&content) == *digest {
            return Ok(content);
        }
        Err(crate::store::Error::DigestMismatch { expected: digest.clone(), actual: Digest::of(&content) }.into())
    }
}

fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}

fn tag_of(entry: &Value) -> Option<&str> {
    entry["annotations"]["org.opencontainers.image.ref.name"].as_str()
}

/// The entries of a folder's index.
fn read_index(folder: &Path) -> Result<Vec<Value>> {
    let content = fs::read_limited(&folder.join("index.json"), DOCUMENT_BYTES_MAX)?;
    let index: Value = parse(&content, "index.json")?;
    Ok(index["manifests"].as_array().cloned().unwrap_or_default())
}

fn load_layer(store: &Store, folder: &Path, wanted: &Wanted) -> Result<LayerRecord> {
    let Wanted { diff_id, blob, .. } = wanted;
    store.lease()?.protect(diff_id)?;
    store.lease()?.protect(&blob.digest)?;
    let _one_at_a_time = store.lock_digest(diff_id)?;
    let layers = store.layers();
    if layers.exists(diff_id) {
        let kept = store.blobs().exists(&blob.digest).then(|| blob.clone());
        return Ok(LayerRecord { diff_id: diff_id.clone(), blob: kept, size_bytes: layers.size_bytes(diff_id)? });
    }
    if !store.blobs().exists(&blob.digest) {
        let path = blob_path(folder, &blob.digest);
        let file = std::fs::File::open(&path).context("open", &path)?;
        let mut copy = store.blobs().begin()?;
        std::io::copy(&mut file.take(blob.size_bytes + 1), &mut copy).map_err(|source| Error::Read { source })?;
        copy.commit(Some(&blob.digest), Durability::Volatile)?;
    }
    let unpacked = unpack_layer(store, store.blobs().open(&blob.digest)?, &Limits::default())?;
    if unpacked.diff_id != *diff_id {
        return Err(crate::store::Error::DigestMismatch { expected: diff_id.clone(), actual: unpacked.diff_id }.into());
    }
    let record = unpacked.writer.commit(diff_id, unpacked.size_bytes)?;
    Ok(LayerRecord { blob: Some(blob.clone()), ..record })
}

/// What an image's config says of the steps that made its layers, for [`INLINE`]; `layers` are all of the image. Of
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
            online(reference, async |client| {
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
