//! Images of several platforms under one name.
//!
//! A name that stands for an index keeps those of its images that are here (see [`Index`]). It means the one that
//! suits this host best; others are taken by their platform. What was built here gets its document when it is pushed
//! or saved, because a manifest is only known once its layers are compressed.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/image-index.md>.

use serde_json::{Value, json};

use super::manifest::{self, Document};
use super::platform::Platform;
use super::{Error, Result};
use crate::base::id::Digest;
use crate::model::image::{Image, Index};
use crate::model::reference::Reference;
use crate::store::Store;

/// Media type of OCI's indexes.
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of Docker's.
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The images of a name, the one that it means first.
///
/// Errors: `NotHere` for a name that means nothing.
pub fn platforms_of(store: &Store, reference: &Reference) -> Result<Vec<Image>> {
    let not_here = || Error::NotHere { reference: reference.to_string() };
    let meant = store.images().resolve(reference)?.ok_or_else(not_here)?;
    let mut images = vec![meant];
    if let Some(index) = store.images().index(reference)? {
        let meant = images[0].id.clone();
        for id in index.images.into_iter().filter(|id| *id != meant) {
            match store.images().get(&id) {
                Ok(image) => images.push(image),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        images[1..].sort_by_key(|image| Platform::of(&image.config).to_string());
    }
    Ok(images)
}

/// The image that a name or an id means for `platform`; for this host when `None`.
///
/// Errors: `Store(NotFound)`; `NoPlatform` with those that are here.
pub fn find(store: &Store, text: &str, platform: Option<&str>) -> Result<Image> {
    let image = store.images().find(text)?;
    let Some(wanted) = platform.map(Platform::parse).transpose()? else { return Ok(image) };
    let images = match text.parse::<Reference>() {
        Ok(reference) => platforms_of(store, &reference).unwrap_or_else(|_| vec![image]),
        Err(_) => vec![image],
    };
    let offered = images.iter().map(|image| Platform::of(&image.config).to_string()).collect();
    best(images, &wanted).ok_or(Error::NoPlatform { wanted: wanted.to_string(), offered })
}

/// The image that `reference` means here for `platform`; `None` when there is none.
pub fn resolve(store: &Store, reference: &Reference, platform: Option<&str>) -> Result<Option<Image>> {
    match platform.map(Platform::parse).transpose()? {
        None => Ok(store.images().resolve(reference)?),
        Some(wanted) => match platforms_of(store, reference) {
            Ok(images) => Ok(best(images, &wanted)),
            Err(Error::NotHere { .. }) => Ok(None),
            Err(error) => Err(error),
        },
    }
}

/// Whether an image is for another platform than this host's although the index that its name came as has one for
/// this host, too, which nobody has pulled yet.
pub fn is_foreign(store: &Store, reference: &Reference, image: &Image) -> bool {
    let host = Platform::host();
    if image.config.architecture == host.architecture || image.config.architecture.is_empty() {
        return false;
    }
    let document = store.images().index(reference).ok().flatten().and_then(|index| index.document);
    let content = document.and_then(|digest| store.blobs().read(&digest, manifest::DOCUMENT_BYTES_MAX).ok());
    let index = content.and_then(|content| manifest::parse_index(&content).ok());
    index.is_some_and(|index| manifest::choose(&index, &host).is_ok())
}

/// The image that runs best on `wanted`. Those that do not say what they are for run everywhere.
fn best(images: Vec<Image>, wanted: &Platform) -> Option<Image> {
    let distance = |image: &Image| match image.config.architecture.as_str() {
        "" => Some(u32::MAX),
        _ => wanted.distance(&Platform::of(&image.config)),
    };
    let suitable = images.into_iter().filter_map(|image| Some((distance(&image)?, image)));
    suitable.min_by_key(|(distance, _)| *distance).map(|(_, image)| image)
}

/// Lets `reference` mean `images`, which came with the index `document` or were built together. What the name has of
/// the same document already stays. Returns the one that it means when no platform is asked for.
pub fn name(store: &Store, reference: &Reference, document: Option<&Digest>, images: &[Image]) -> Result<Image> {
    let mut all: Vec<Image> = images.to_vec();
    let known =
        store.images().index(reference)?.filter(|known| document.is_some() && known.document.as_ref() == document);
    for id in known.into_iter().flat_map(|known| known.images) {
        if all.iter().all(|image| image.id != id)
            && let Ok(image) = store.images().get(&id)
        {
            all.push(image);
        }
    }
    let index = Index { document: document.cloned(), images: all.iter().map(|image| image.id.clone()).collect() };
    let index = Some(index).filter(|index| index.document.is_some() || index.images.len() > 1);
    let first = images.first().cloned();
    let meant =
        best(all, &Platform::host()).or(first).ok_or(Error::DamagedArchive { reason: "there is no image in it" })?;
    store.images().tag_index(reference, &meant.id, index)?;
    Ok(meant)
}

/// Gives what `source` (a name, an id) means the name `target`, all its platforms included.
pub fn tag(store: &Store, source: &str, target: &Reference) -> Result<()> {
    let image = store.images().find(source)?;
    let index = match source.parse::<Reference>() {
        Ok(reference) => store.images().index(&reference)?.filter(|index| index.images.contains(&image.id)),
        Err(_) => None,
    };
    Ok(store.images().tag_index(target, &image.id, index)?)
}

/// The descriptor of an image's manifest in an index.
pub(super) fn descriptor(image: &Image, media_type: &str, digest: &Digest, size_bytes: u64) -> Value {
    let mut platform = json!({ "architecture": image.config.architecture, "os": image.config.os });
    if let Some(variant) = &image.config.variant {
        platform["variant"] = json!(variant);
    }
    json!({ "mediaType": media_type, "digest": digest, "size": size_bytes, "platform": platform })
}

/// Media type and content of the index of these manifests: the `document` as it came where it lists them and nothing
/// else, so that its digest stays.
pub(super) fn document(store: &Store, document: Option<&Digest>, manifests: &[Value]) -> Result<(String, Vec<u8>)> {
    let digests = |found: &[Value]| -> std::collections::BTreeSet<String> {
        found.iter().filter_map(|descriptor| Some(descriptor["digest"].as_str()?.to_owned())).collect()
    };
    if let Some(digest) = document.filter(|digest| store.blobs().exists(digest)) {
        let content = store.blobs().read(digest, manifest::DOCUMENT_BYTES_MAX)?;
        let listed: Value = serde_json::from_slice(&content).unwrap_or_default();
        let is_same = listed["manifests"].as_array().is_some_and(|found| digests(found) == digests(manifests));
        if is_same && let Ok(Document::Index(_)) = manifest::parse(&content) {
            let media_type = listed["mediaType"].as_str().unwrap_or(OCI_INDEX).to_owned();
            return Ok((media_type, content));
        }
    }
    let is_oci = manifests.iter().any(|found| found["mediaType"].as_str().is_some_and(|text| text.contains("oci")));
    let media_type = if is_oci { OCI_INDEX } else { DOCKER_LIST };
    let made = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    Ok((media_type.to_owned(), made.to_string().into_bytes()))
}
