//! Compose projects in registries: artifacts whose layers are files as they are.
//!
//! Bounded, since what comes is foreign: so many parts, so many bytes, all of them in memory. Nothing of it gets into
//! the store.
//!
//! Source: docker/compose `internal/oci`, OCI image spec 1.1, "Guidelines for Artifact Usage".

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::online::with_client;
use super::registry::Client;
use super::{Error, Result};
use crate::base::id::Digest;
use crate::model::artifact::{EMPTY_CONFIG_TYPE, ENV_FILE_TYPE, FILE_TYPE, PROJECT_TYPE, Part, VERSION};
use crate::model::reference::Reference;

/// Files of one project.
const PARTS_MAX: usize = 500;
/// Bytes of all of them.
const BYTES_MAX: u64 = 32 << 20;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The config of every artifact.
const EMPTY: &[u8] = b"{}";

/// The version of OCI's specification that the manifest keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OciVersion {
    /// The kind of artifact is told by the config's media type.
    V1_0,
    /// It is told by `artifactType`.
    V1_1,
}

/// How to speak to the registry of an artifact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArtifactOptions {
    /// Use HTTP.
    pub insecure: bool,
    /// Version of the manifest; `None`: 1.1, or 1.0 for a registry that does not take that.
    pub version: Option<OciVersion>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    /// Of an index.
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// The content itself, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}

impl Descriptor {
    fn of(media_type: &str, content: &[u8], annotations: BTreeMap<String, String>) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(content).to_string(),
            size: content.len() as u64,
            artifact_type: None,
            annotations,
            data: Some(STANDARD.encode(content)),
        }
    }

    fn digest(&self) -> Result<Digest> {
        self.digest.parse().map_err(|_| Error::Unsupported { what: "a digest that is not sha256".into() })
    }
}

/// Asks what `reference` means today, and fetches its parts unless `is_here` knows that digest.
///
/// The digest is that of the manifest or index that the reference names.
///
/// Errors: it is no compose project; it is larger than the limits; those of registries.
pub fn fetch_artifact(
    reference: &Reference,
    options: ArtifactOptions,
    is_here: &(dyn Fn(&Digest) -> bool + Sync),
) -> Result<(Digest, Option<Vec<Part>>)> {
    with_client(reference, options.insecure, async |client| {
        let top = client.manifest(reference, reference.manifest_name()).await?;
        if is_here(&top.digest) {
            return Ok((top.digest, None));
        }
        let mut manifest = parse(&top.content)?;
        if let Some(inner) = manifest.manifests.iter().find(|inner| is_project(inner.artifact_type.as_deref())) {
            let digest = inner.digest()?;
            manifest = parse(&client.manifest(reference, digest.as_str()).await?.content)?;
        }
        let told_by_config = manifest.config.as_ref().is_some_and(|config| config.media_type == EMPTY_CONFIG_TYPE);
        let is_right = match &manifest.artifact_type {
            Some(kind) if !kind.is_empty() => is_project(Some(kind)),
            _ => told_by_config,
        };
        if !is_right {
            return Err(Error::Unsupported { what: format!("{reference} is not a published compose project") });
        }
        let wanted: Vec<Descriptor> = manifest
            .layers
            .into_iter()
            .filter(|layer| matches!(layer.media_type.as_str(), FILE_TYPE | ENV_FILE_TYPE))
            .collect();
        let total = wanted.iter().try_fold(0_u64, |total, layer| total.checked_add(layer.size));
        if wanted.len() > PARTS_MAX || total.is_none_or(|total| total > BYTES_MAX) {
            let what = format!("{reference} has more than {PARTS_MAX} files or {} MiB", BYTES_MAX >> 20);
            return Err(Error::Unsupported { what });
        }
        let mut parts = Vec::with_capacity(wanted.len());
        for layer in wanted {
            let content = content_of(&client, &layer).await?;
            parts.push(Part { media_type: layer.media_type, annotations: layer.annotations, content });
        }
        Ok((top.digest, Some(parts)))
    })
}

fn is_project(kind: Option<&str>) -> bool {
    kind == Some(PROJECT_TYPE)
}

fn parse(content: &[u8]) -> Result<Manifest> {
    serde_json::from_slice(content).map_err(|source| Error::Document { what: "manifest".into(), source })
}

/// The content of a layer: what its descriptor carries if that is it, else the blob.
async fn content_of(client: &Client, layer: &Descriptor) -> Result<Vec<u8>> {
    let digest = layer.digest()?;
    let carried = layer.data.as_ref().and_then(|data| STANDARD.decode(data).ok());
    match carried.filter(|content| content.len() as u64 == layer.size && Digest::of(content) == digest) {
        Some(content) => Ok(content),
        None => client.blob(&digest, layer.size).await,
    }
}

/// Publishes parts under the tag of `reference` and returns the manifest's digest.
pub fn publish_artifact(reference: &Reference, parts: &[Part], options: ArtifactOptions) -> Result<Digest> {
    let created = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    with_client(reference, options.insecure, async |client| {
        put_blob(&client, EMPTY).await?;
        for part in parts {
            put_blob(&client, &part.content).await?;
        }
        let put = async |version| {
            let content = manifest_of(parts, version, &created);
            client.put_manifest(reference.manifest_name(), MANIFEST_TYPE, &content).await
        };
        match (put(options.version.unwrap_or(OciVersion::V1_1)).await, options.version) {
            // A registry from before artifacts refuses what it does not know.
            (Err(Error::Refused { status: 400..=499, .. }), None) => put(OciVersion::V1_0).await,
            (result, _) => result,
        }
    })
}

/// Publishes an index of `images` (each with its media type and size in bytes) that belongs to an artifact
/// (`docker compose publish --app`).
pub fn publish_application(
    reference: &Reference,
    artifact: &Digest,
    images: &[super::Copied],
    options: ArtifactOptions,
) -> Result<Digest> {
    with_client(reference, options.insecure, async |client| {
        let manifest = client.manifest(reference, artifact.as_str()).await?;
        let images: Vec<_> = images
            .iter()
            .map(|image| json!({"mediaType": image.media_type, "digest": image.digest, "size": image.size_bytes}))
            .collect();
        let annotations = json!({ VERSION: env!("CARGO_PKG_VERSION") });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": images,
            "subject": {
                "mediaType": MANIFEST_TYPE,
                "digest": artifact,
                "size": manifest.content.len(),
                "annotations": annotations,
                "artifactType": PROJECT_TYPE,
            },
            "annotations": annotations,
        });
        let content = index.to_string().into_bytes();
        let digest = Digest::of(&content);
        client.put_manifest(digest.as_str(), INDEX_TYPE, &content).await
    })
}

fn manifest_of(parts: &[Part], version: OciVersion, created: &str) -> Vec<u8> {
    let layers: Vec<Descriptor> =
        parts.iter().map(|part| Descriptor::of(&part.media_type, &part.content, part.annotations.clone())).collect();
    let config_type = if version == OciVersion::V1_0 { EMPTY_CONFIG_TYPE } else { EMPTY_TYPE };
    let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE });
    if version == OciVersion::V1_1 {
        manifest["artifactType"] = json!(PROJECT_TYPE);
    }
    manifest["config"] = json!(Descriptor::of(config_type, EMPTY, BTreeMap::new()));
    manifest["layers"] = json!(layers);
    manifest["annotations"] = json!({ "org.opencontainers.image.created": created });
    manifest.to_string().into_bytes()
}

async fn put_blob(client: &Client, content: &[u8]) -> Result<()> {
    let read = |source: std::io::Error| Error::Read { source };
    let descriptor = rustix::fs::memfd_create("part", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(descriptor.map_err(|errno| read(errno.into()))?);
    file.write_all(content).map_err(read)?;
    client.upload(&Digest::of(content), &file, content.len() as u64, &[], &|_| {}).await?;
    Ok(())
}
