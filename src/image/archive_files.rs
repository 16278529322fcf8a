//! The files of an archive of images, and what they say it has: `docker save`'s manifest, or an OCI image layout.

use std::collections::HashMap;
use std::io::{Read, Write};

use oci_spec::image::{ImageIndex, ImageManifest};
use serde::Deserialize;

use super::platform::Platform;
use super::tar_reader::TarReader;
use super::{Error, Result, manifest};
use crate::base::id::Digest;
use crate::model::reference::Reference;
use crate::store::{BlobWriter, Store};

/// Most files of an outer archive that are set aside.
const FILES_MAX: usize = 20_000;
/// Largest manifest, index or config.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// What an archive has under one name.
pub(super) struct Wanted {
    /// One for each platform.
    pub(super) parts: Vec<Part>,
    pub(super) references: Vec<Reference>,
    /// The index of an image layout, as it is.
    pub(super) index: Option<Vec<u8>>,
}

/// An image as an archive describes it.
pub(super) struct Part {
    pub(super) config: String,
    pub(super) layers: Vec<String>,
    /// As it is, of an image layout.
    pub(super) manifest: Option<Vec<u8>>,
}

/// The files of an outer archive by name; links name another one.
pub(super) struct Files {
    files: HashMap<String, BlobWriter>,
    links: HashMap<String, String>,
}

/// An entry of `docker save`'s `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Files {
    pub(super) fn read(store: &Store, archive: impl Read) -> Result<Self> {
        let mut reader = TarReader::new(archive);
        let mut found = Self { files: HashMap::new(), links: HashMap::new() };
        while let Some(header) = reader.next_entry()? {
            let Some(name) = clean(&header.name) else { continue };
            if found.files.len() + found.links.len() >= FILES_MAX {
                return Err(Error::DamagedArchive { reason: "it has too many files" });
            }
            match header.kind {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let mut file = store.blobs().begin()?;
                    loop {
                        let piece = reader.content()?;
                        if piece.is_empty() {
                            break;
                        }
                        file.write_all(piece).map_err(|source| Error::Read { source })?;
                    }
                    found.files.insert(name, file);
                }
                tar::EntryType::Link => {
                    found.links.extend(clean(&header.link).map(|target| (name, target)));
                }
                tar::EntryType::Symlink => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let target = resolve(folder, &header.link);
                    found.links.extend(target.map(|target| (name, target)));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    pub(super) fn get(&self, name: &str) -> Result<&BlobWriter> {
        let missing = || Error::MissingFile { name: name.to_owned() };
        let name = clean(name.as_bytes()).ok_or_else(missing)?;
        let name = self.links.get(&name).unwrap_or(&name);
        self.files.get(name).ok_or_else(missing)
    }

    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.get(name)?;
        if file.size_bytes() > DOCUMENT_BYTES_MAX {
            return Err(Error::DamagedArchive { reason: "a manifest or config is larger than 4 MiB" });
        }
        let mut content = Vec::new();
        file.reader()?.read_to_end(&mut content).map_err(|source| Error::Read { source })?;
        Ok(content)
    }

    pub(super) fn images(&self, platform: Option<&Platform>) -> Result<Vec<Wanted>> {
        let has = |name: &str| self.files.contains_key(name);
        if !has("manifest.json") && !has("index.json") {
            let reason = "it has neither manifest.json nor index.json (for a tar of a root file system use import)";
            return Err(Error::DamagedArchive { reason });
        }
        // Docker's own manifest knows no platforms.
        if has("manifest.json") && (!has("index.json") || (platform.is_none() && !self.has_index()?)) {
            return self.saved_images();
        }
        self.layout_images(None, platform)
    }

    /// Whether the image layout has an image of several platforms.
    fn has_index(&self) -> Result<bool> {
        let index = manifest::parse_index(&self.document("index.json")?)?;
        Ok(index.manifests().iter().any(|found| {
            let media_type = found.media_type().to_string();
            media_type.contains("image.index") || media_type.contains("manifest.list")
        }))
    }

    fn saved_images(&self) -> Result<Vec<Wanted>> {
        let content = self.document("manifest.json")?;
        let saved: Vec<SavedImage> = serde_json::from_slice(&content)
            .map_err(|source| Error::Document { what: "manifest.json".into(), source })?;
        let wanted = saved.into_iter().map(|image| {
            let names = image.repo_tags.unwrap_or_default();
            let references = names.iter().filter_map(|name| name.parse().ok()).collect();
            let part = Part { config: image.config, layers: image.layers, manifest: None };
            Wanted { parts: vec![part], references, index: None }
        });
        Ok(wanted.collect())
    }

    /// The images of an image layout; only those with the tag or digest `wanted` where one is, and for `platform`.
    pub(super) fn layout_images(&self, wanted: Option<&str>, platform: Option<&Platform>) -> Result<Vec<Wanted>> {
        let top = manifest::parse_index(&self.document("index.json")?)?;
        let mut found: Vec<(Digest, Wanted)> = Vec::new();
        for descriptor in top.manifests() {
            if manifest::is_attestation(descriptor) || wanted.is_some_and(|name| !manifest::is_called(descriptor, name))
            {
                continue;
            }
            let digest = manifest::digest_of(descriptor)?;
            let name = manifest::name_of(descriptor);
            // Each further name is one more descriptor of the same thing.
            if let Some((_, known)) = found.iter_mut().find(|(known, _)| *known == digest) {
                known.references.extend(name);
                continue;
            }
            let content = self.verified_document(&digest)?;
            let references = name.into_iter().collect();
            let wanted = match manifest::parse(&content)? {
                manifest::Document::Manifest(found) => {
                    Wanted { parts: vec![part(&found, content)?], references, index: None }
                }
                manifest::Document::Index(nested) => {
                    Wanted { parts: self.parts(&nested, platform)?, references, index: Some(content) }
                }
            };
            found.push((digest, wanted));
        }
        Ok(found.into_iter().map(|(_, wanted)| wanted).collect())
    }

    /// The images of an index that the archive has; the one for `platform` has to be there.
    fn parts(&self, index: &ImageIndex, platform: Option<&Platform>) -> Result<Vec<Part>> {
        let chosen = match platform {
            Some(platform) => vec![manifest::choose(index, platform)?],
            None => manifest::all(index)?,
        };
        let mut parts = Vec::new();
        for descriptor in &chosen {
            let digest = manifest::digest_of(descriptor)?;
            if platform.is_none() && !self.files.contains_key(&blob_name(&digest)) {
                continue;
            }
            let content = self.verified_document(&digest)?;
            let manifest::Document::Manifest(found) = manifest::parse(&content)? else {
                return Err(Error::DamagedArchive { reason: "an index refers to an index" });
            };
            let part = part(&found, content)?;
            let is_whole = part.layers.iter().all(|layer| self.files.contains_key(layer));
            if is_whole || platform.is_some() || chosen.len() == 1 {
                parts.push(part);
            }
        }
        match parts.is_empty() {
            true => Err(Error::DamagedArchive { reason: "it has an index, and of none of its platforms all layers" }),
            false => Ok(parts),
        }
    }

    fn verified_document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let content = self.document(&blob_name(digest))?;
        let actual = Digest::of(&content);
        if actual == *digest {
            Ok(content)
        } else {
            Err(crate::store::Error::DigestMismatch { expected: digest.clone(), actual }.into())
        }
    }
}

/// Where an image layout has a blob.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn part(found: &ImageManifest, content: Vec<u8>) -> Result<Part> {
    let layers = found.layers().iter().map(|layer| Ok(blob_name(&manifest::digest_of(layer)?)));
    Ok(Part {
        config: blob_name(&manifest::digest_of(found.config())?),
        layers: layers.collect::<Result<_>>()?,
        manifest: Some(content),
    })
}

/// A name without `./` and doubled slashes; `None` for what is no plain name.
fn clean(name: &[u8]) -> Option<String> {
    resolve("", name)
}

/// The name that `target` has when it is seen from `folder`; `None` when it leads out of the archive.
fn resolve(folder: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { None } else { Some(parts.join("/")) }
}
