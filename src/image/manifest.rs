//! Manifests and indexes, of OCI and of Docker (schema 2): the same JSON with other media types.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/manifest.md>, distribution `manifest-v2-2.md`.

use std::io::Read;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::platform::Platform;
use super::{Error, Result};
use crate::base::id::Digest;
use crate::model::reference::Reference;

/// Most layers that overlayfs stacks (OVL_MAX_STACK, fs/overlayfs/params.h).
pub(super) const LAYERS_MAX: usize = 500;

/// Largest manifest or index.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Most images that are taken of one index; there are not as many architectures.
const PLATFORMS_MAX: usize = 64;

/// What a registry answers to a request for a manifest.
#[derive(Debug)]
pub(super) enum Document {
    /// One image.
    Manifest(Box<ImageManifest>),
    /// Images of several platforms.
    Index(Box<ImageIndex>),
}

/// Reads a manifest or an index; the content decides which it is, the media type is only a hint.
///
/// Errors: `Unsupported` for schema 1 and for what is no image; `Document` for what is not well-formed.
pub(super) fn parse(content: &[u8]) -> Result<Document> {
    let value: serde_json::Value = serde_json::from_slice(content).map_err(document("manifest"))?;
    if value.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1) {
        return Err(Error::Unsupported {
            what: "the image's manifest has schema version 1, which is obsolete; push it again with a current tool"
                .into(),
        });
    }
    if value.get("manifests").is_some() {
        return parse_index(content).map(|index| Document::Index(Box::new(index)));
    }
    let manifest: ImageManifest = serde_json::from_slice(content).map_err(document("manifest"))?;
    let config_type = manifest.config().media_type().to_string();
    let is_image = matches!(
        config_type.as_str(),
        "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
    );
    if !is_image {
        return Err(Error::Unsupported { what: format!("this is no image but an artifact of type {config_type}") });
    }
    if manifest.layers().len() > LAYERS_MAX {
        let what =
            format!("the image has {} layers, and no more than {LAYERS_MAX} can be stacked", manifest.layers().len());
        return Err(Error::Unsupported { what });
    }
    for layer in manifest.layers() {
        let media_type = layer.media_type().to_string();
        if media_type.contains("foreign") || media_type.contains("nondistributable") {
            return Err(Error::Unsupported {
                what: format!("layer {} is foreign ({media_type}): it must not be distributed", layer.digest()),
            });
        }
    }
    Ok(Document::Manifest(Box::new(manifest)))
}

/// The digests that a manifest or an index refers to: config and layers, or manifests.
///
/// Errors: as for everything that a registry sends, see [`Error::Unsupported`] and [`Error::Document`].
pub fn refers_to(content: &[u8]) -> Result<Vec<Digest>> {
    match parse(content)? {
        Document::Manifest(found) => std::iter::once(found.config()).chain(found.layers()).map(digest_of).collect(),
        Document::Index(index) => index.manifests().iter().map(digest_of).collect(),
    }
}

pub(super) fn parse_index(content: &[u8]) -> Result<ImageIndex> {
    serde_json::from_slice(content).map_err(document("index"))
}

fn document(what: &'static str) -> impl Fn(serde_json::Error) -> Error {
    move |source| Error::Document { what: what.to_owned(), source }
}

/// Whether it describes an image instead of being one (provenance, a list of software).
pub(super) fn is_attestation(descriptor: &Descriptor) -> bool {
    let annotated = descriptor.annotations().as_ref().is_some_and(|map| map.contains_key("vnd.docker.reference.type"));
    annotated || platform_of(descriptor).is_some_and(|platform| platform.os == "unknown")
}

/// The images of an index that can be kept here: for Linux, each digest once.
///
/// Errors: `NoPlatform` when there is none.
pub(super) fn all(index: &ImageIndex) -> Result<Vec<&Descriptor>> {
    let mut seen = std::collections::BTreeSet::new();
    let images = index.manifests().iter().filter(|descriptor| !is_attestation(descriptor));
    let (ours, others): (Vec<_>, Vec<_>) =
        images.partition(|descriptor| platform_of(descriptor).is_none_or(|platform| platform.os == "linux"));
    let ours: Vec<&Descriptor> = ours.into_iter().filter(|found| seen.insert(found.digest().to_string())).collect();
    if ours.is_empty() {
        let offered = others.into_iter().filter_map(platform_of).map(|platform| platform.to_string()).collect();
        return Err(Error::NoPlatform { wanted: "linux".into(), offered });
    }
    if ours.len() > PLATFORMS_MAX {
        return Err(Error::Unsupported { what: format!("the index has images of {} platforms", ours.len()) });
    }
    Ok(ours)
}

fn platform_of(descriptor: &Descriptor) -> Option<Platform> {
    let platform = descriptor.platform().as_ref()?;
    let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
    Some(Platform::normal(&os, &architecture, platform.variant().as_deref()))
}

/// The manifest of an index that suits `wanted` best.
///
/// Errors: `NoPlatform` with those that there are.
pub(super) fn choose<'a>(index: &'a ImageIndex, wanted: &Platform) -> Result<&'a Descriptor> {
    let images: Vec<&Descriptor> = index.manifests().iter().filter(|descriptor| !is_attestation(descriptor)).collect();
    let best = images
        .iter()
        .filter_map(|descriptor| Some((wanted.distance(&platform_of(descriptor)?)?, *descriptor)))
        .min_by_key(|(distance, _)| *distance);
    if let Some((_, descriptor)) = best {
        return Ok(descriptor);
    }
    match images.as_slice() {
        // An index of one image that does not say what it is for, as some builders write it.
        [only] if only.platform().is_none() => Ok(only),
        _ => {
            let mut offered: Vec<String> = images
                .iter()
                .filter_map(|descriptor| platform_of(descriptor))
                .map(|platform| platform.to_string())
                .collect();
            offered.dedup();
            Err(Error::NoPlatform { wanted: wanted.to_string(), offered })
        }
    }
}

/// The digest of a descriptor. Errors: `Unsupported` for other algorithms than SHA-256.
pub(super) fn digest_of(descriptor: &Descriptor) -> Result<Digest> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|_| Error::Unsupported { what: format!("`{text}` is not a sha256 digest") })
}

/// The name that an image of an image layout has: containerd's annotation, else OCI's where it is a whole name.
pub(super) fn name_of(descriptor: &Descriptor) -> Option<Reference> {
    let annotations = descriptor.annotations().as_ref()?;
    if let Some(name) = annotations.get("io.containerd.image.name") {
        return name.parse().ok();
    }
    let name = annotations.get("org.opencontainers.image.ref.name")?;
    if name.contains([':', '/']) { name.parse().ok() } else { None }
}

/// Whether an image of an image layout has that tag or digest.
pub(super) fn is_called(descriptor: &Descriptor, name: &str) -> bool {
    let annotation = descriptor.annotations().as_ref().and_then(|map| map.get("org.opencontainers.image.ref.name"));
    let tag = annotation.map(|text| text.rsplit_once(':').map_or(text.as_str(), |(_, tag)| tag));
    descriptor.digest().to_string() == name || tag == Some(name)
}

/// The media type of a layer by its first bytes.
pub(super) fn layer_media_type(content: &mut dyn Read) -> String {
    let mut head = [0u8; 4];
    let suffix = match content.read_exact(&mut head) {
        Ok(()) if head.starts_with(&[0x1f, 0x8b]) => "+gzip",
        Ok(()) if head == [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => "",
    };
    format!("application/vnd.oci.image.layer.v1.tar{suffix}")
}
