//! Images from archives: a plain tar of a root file system, `docker save`, an OCI image layout.
//!
//! The outer archive is read once, so it may come from a pipe: files that can matter are set aside below `tmp/`
//! (their meaning is only known when the last one, the manifest, was read), then layers are unpacked from there.
//! Layers are kept as blobs, so that they go out again as they came.

use std::collections::HashMap;
use std::io::{Read, Write};

use oci_spec::image::{ImageIndex, ImageManifest};
use serde::Deserialize;

use super::layer::{Unpacked, unpack_layer};
use super::platform::Platform;
use super::tar_reader::TarReader;
use super::{Error, Limits, Result, apply_changes, index, manifest};
use crate::base::fs::Durability;
use crate::base::id::Digest;
use crate::model::event::Progress;
use crate::model::image::{BlobRecord, History, Image, ImageConfig, LayerRecord};
use crate::model::reference::Reference;
use crate::store::{BlobWriter, Store};

/// Most files of an outer archive that are set aside.
const FILES_MAX: usize = 20_000;
/// Largest manifest, index or config.
const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// How to make an image from a plain tar.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The name it gets.
    pub reference: Option<Reference>,
    /// Dockerfile instructions for its config, see [`apply_changes`].
    pub changes: Vec<String>,
    /// Remark in its history.
    pub message: Option<String>,
    /// `linux/amd64`; the host's when `None`.
    pub platform: Option<String>,
}

/// An image that [`load`] made.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The image; one for each platform.
    pub images: Vec<Image>,
    /// Its names in the archive.
    pub references: Vec<Reference>,
}

/// Makes an image of one layer from a tar of a root file system, also compressed.
pub fn import(store: &Store, reader: &mut (dyn Read + Send), options: &ImportOptions) -> Result<Image> {
    store.sweep_leftovers()?;
    let platform = options.platform.as_deref().map_or_else(|| Ok(Platform::host()), Platform::parse)?;
    let mut config = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        ..ImageConfig::default()
    };
    apply_changes(&mut config.config, &options.changes)?;
    let Unpacked { writer, .. } = unpack_layer(store, reader, &Limits::default())?;
    // Named by the archive that we make of it, not by the one that came and is not kept.
    let layer = writer.commit_by_content()?;
    let diff_id = layer.diff_id.clone();
    let created = jiff::Timestamp::now().to_string();
    config.created = Some(created.clone());
    config.rootfs.diff_ids = vec![diff_id];
    config.history = vec![History {
        created: Some(created),
        comment: Some(options.message.clone().unwrap_or_else(|| "Imported from -".into())),
        ..History::default()
    }];
    publish(store, config, None, vec![layer], options.reference.as_slice())
}

/// Records an image whose layers are in the store, with a config that was made here.
///
/// Makes the layers durable, writes the config blob and the record, and lets `references` mean it.
pub fn publish(
    store: &Store,
    config: ImageConfig,
    manifest: Option<Digest>,
    layers: Vec<LayerRecord>,
    references: &[Reference],
) -> Result<Image> {
    store.layers().make_durable(layers.iter().map(|layer| &layer.diff_id))?;
    let content = serde_json::to_vec(&config).map_err(|source| Error::Document { what: "config".into(), source })?;
    let id = store.blobs().put(&content)?;
    let image = Image { id, manifest, config, layers };
    store.images().add(&image)?;
    for reference in references {
        store.images().tag(reference, &image.id)?;
    }
    Ok(image)
}

/// Reads an archive of `docker save` or an OCI image layout, also compressed, and returns its images.
///
/// Of an index all platforms are taken that the archive has, or only `platform`. Reports one resource `Image <name>`
/// an image.
pub fn load(
    store: &Store,
    reader: &mut (dyn Read + Send),
    platform: Option<&str>,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>> {
    let platform = platform.map(Platform::parse).transpose()?;
    store.sweep_leftovers()?;
    let (inflated, _) = super::inflate::inflate(reader).map_err(|source| Error::Read { source })?;
    let files = Files::read(store, inflated)?;
    let mut loaded = Vec::new();
    for wanted in files.images(platform.as_ref())? {
        loaded.push(load_name(store, &files, wanted, progress)?);
    }
    if loaded.is_empty() {
        return Err(Error::DamagedArchive { reason: "it has no image for this platform" });
    }
    Ok(loaded)
}

/// Makes an image of an OCI image layout that is a folder present, without a name; `wanted` is its tag or digest
/// where the layout has several, `platform` the one that is taken of an index.
pub fn load_layout(store: &Store, folder: &std::path::Path, wanted: Option<&str>, platform: &str) -> Result<Image> {
    store.sweep_leftovers()?;
    let (reader, writer) = std::io::pipe().map_err(|source| Error::Read { source })?;
    let files = std::thread::scope(|scope| {
        // The reader takes what it can use of an archive; so the folder is one.
        let thread = scope.spawn(|| crate::store::write_archive(folder, writer));
        let files = Files::read(store, reader);
        let written = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let files = files?;
        written?;
        Ok::<_, Error>(files)
    })?;
    let found = files.layout_images(wanted, Some(&Platform::parse(platform)?))?;
    let parts = found.into_iter().next().and_then(|wanted| wanted.parts.into_iter().next());
    let reason = "it has no image of that name for this platform";
    load_image(store, &files, parts.ok_or(Error::DamagedArchive { reason })?)
}

/// What an archive has under one name.
struct Wanted {
    /// One for each platform.
    parts: Vec<Part>,
    references: Vec<Reference>,
    /// The index of an image layout, as it is.
    index: Option<Vec<u8>>,
}

/// An image as an archive describes it.
struct Part {
    config: String,
    layers: Vec<String>,
    /// As it is, of an image layout.
    manifest: Option<Vec<u8>>,
}

fn load_name(store: &Store, files: &Files, wanted: Wanted, progress: &dyn Progress) -> Result<Loaded> {
    // Most name the config by its digest.
    let digits = |part: &Part| part.config.rsplit('/').next().unwrap_or_default().chars().take(12).collect();
    let unnamed = || wanted.parts.first().map(digits).unwrap_or_default();
    let name = wanted.references.first().map_or_else(unnamed, ToString::to_string);
    let resource = format!("Image {name}");
    progress.working(&resource, "Loading");
    let images = wanted.parts.into_iter().map(|part| load_image(store, files, part)).collect::<Result<Vec<_>>>()?;
    let document = wanted.index.as_deref().map(|content| store.blobs().put(content)).transpose()?;
    for reference in &wanted.references {
        index::name(store, reference, document.as_ref(), &images)?;
    }
    progress.done(&resource, "Loaded");
    Ok(Loaded { images, references: wanted.references })
}

fn load_image(store: &Store, files: &Files, wanted: Part) -> Result<Image> {
    let content = files.document(&wanted.config)?;
    let config: ImageConfig =
        serde_json::from_slice(&content).map_err(|source| Error::Document { what: wanted.config.clone(), source })?;
    let id = Digest::of(&content);
    if config.rootfs.diff_ids.len() != wanted.layers.len() {
        return Err(Error::DamagedArchive { reason: "its config and its manifest disagree on the number of layers" });
    }
    if wanted.layers.len() > manifest::LAYERS_MAX {
        return Err(Error::DamagedArchive {
            reason: "it has an image of more than 500 layers, which cannot be stacked",
        });
    }
    let mut layers = Vec::new();
    for (diff_id, file) in config.rootfs.diff_ids.iter().zip(&wanted.layers) {
        layers.push(load_layer(store, files, diff_id, file)?);
    }
    store.layers().make_durable(&config.rootfs.diff_ids)?;
    store.blobs().put(&content)?;
    let manifest = wanted.manifest.as_deref().map(|content| store.blobs().put(content)).transpose()?;
    let image = Image { id, manifest, config, layers };
    store.images().add(&image)?;
    Ok(image)
}

fn load_layer(store: &Store, files: &Files, diff_id: &Digest, name: &str) -> Result<LayerRecord> {
    store.lease()?.protect(diff_id)?;
    let _one_at_a_time = store.lock_digest(diff_id)?;
    let file = files.get(name)?;
    let digest = file.digest();
    // Plain ones are kept, too: an archive that another tool made of the same files has other bytes than ours.
    let blob = {
        store.lease()?.protect(&digest)?;
        if !store.blobs().exists(&digest) {
            let mut copy = store.blobs().begin()?;
            std::io::copy(&mut file.reader()?, &mut copy).map_err(|source| Error::Read { source })?;
            copy.commit(Some(&digest), Durability::Durable)?;
        }
        let media_type = manifest::layer_media_type(&mut file.reader()?);
        Some(BlobRecord { digest, size_bytes: file.size_bytes(), media_type })
    };
    if store.layers().exists(diff_id) {
        return Ok(LayerRecord { diff_id: diff_id.clone(), blob, size_bytes: store.layers().size_bytes(diff_id)? });
    }
    let unpacked = unpack_layer(store, file.reader()?, &Limits::default())?;
    if unpacked.diff_id != *diff_id {
        return Err(crate::store::Error::DigestMismatch { expected: diff_id.clone(), actual: unpacked.diff_id }.into());
    }
    let record = unpacked.writer.commit(diff_id, unpacked.size_bytes)?;
    Ok(LayerRecord { blob, ..record })
}

/// The files of an outer archive by name; links name another one.
struct Files {
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
    fn read(store: &Store, archive: impl Read) -> Result<Self> {
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

    fn get(&self, name: &str) -> Result<&BlobWriter> {
        let missing = || Error::MissingFile { name: name.to_owned() };
        let name = clean(name.as_bytes()).ok_or_else(missing)?;
        let name = self.links.get(&name).unwrap_or(&name);
        self.files.get(name).ok_or_else(missing)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.get(name)?;
        if file.size_bytes() > DOCUMENT_BYTES_MAX {
            return Err(Error::DamagedArchive { reason: "a manifest or config is larger than 4 MiB" });
        }
        let mut content = Vec::new();
        file.reader()?.read_to_end(&mut content).map_err(|source| Error::Read { source })?;
        Ok(content)
    }

    fn images(&self, platform: Option<&Platform>) -> Result<Vec<Wanted>> {
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
    fn layout_images(&self, wanted: Option<&str>, platform: Option<&Platform>) -> Result<Vec<Wanted>> {
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
