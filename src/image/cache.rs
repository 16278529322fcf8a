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
use super::online::with_client;
use super::{Error, Limits, Platform, Result, manifest};
use crate::base::fs::{self, Context, Durability};
use crate::base::id::Digest;
use crate::model::event::Silent;
use crate::model::image::{BlobRecord, LayerRecord};
use crate::model::reference::Reference;
use crate::store::{StepRecord, Store};

pub(super) const CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The member of an image's config that holds the steps of its layers.
pub const INLINE: &str = "moby.buildkit.cache.v0";
/// Largest manifest, index or config of a folder; a registry's are limited by the client.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// The tag of a folder's cache where none is given.
pub(super) const TAG: &str = "latest";

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
pub(super) struct CacheConfig {
    pub(super) layers: Vec<CacheLayer>,
    pub(super) records: Vec<CacheRecord>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CacheLayer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blob: Option<Digest>,
    pub(super) parent: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<LayerAnnotations>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct LayerAnnotations {
    pub(super) media_type: String,
    #[serde(rename = "diffID")]
    pub(super) diff_id: Option<Digest>,
    pub(super) size: u64,
    pub(super) created_at: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CacheRecord {
    pub(super) digest: Option<Digest>,
    #[serde(default)]
    pub(super) layers: Vec<CacheResult>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CacheResult {
    pub(super) layer: usize,
    pub(super) created_at: Option<jiff::Timestamp>,
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
        with_client(self.0, false, async |client| Ok(client.manifest(self.0, self.0.manifest_name()).await?.content))
    }

    fn manifest(&self, digest: &Digest, _size_bytes: u64) -> Result<Vec<u8>> {
        with_client(self.0, false, async |client| Ok(client.manifest(self.0, digest.as_str()).await?.content))
    }

    fn blob(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<u8>> {
        with_client(self.0, false, async |client| client.blob(digest, size_bytes).await)
    }
}

fn fetch_layer(store: &Store, reference: &Reference, wanted: &Wanted) -> Result<LayerRecord> {
    let arrived =
        with_client(reference, false, async |client| download::layer(&client, store, wanted, "", &Silent).await)?;
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

pub(super) fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}

pub(super) fn tag_of(entry: &Value) -> Option<&str> {
    entry["annotations"]["org.opencontainers.image.ref.name"].as_str()
}

/// The entries of a folder's index.
pub(super) fn read_index(folder: &Path) -> Result<Vec<Value>> {
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
