//! Images from archives: a plain tar of a root file system, `docker save`, an OCI image layout.
//!
//! The outer archive is read once, so it may come from a pipe: files that can matter are set aside below `tmp/`
//! (their meaning is only known when the last one, the manifest, was read), then layers are unpacked from there.
//! Layers are kept as blobs, so that they go out again as they came.

use std::collections::HashMap;
use std::io::{Read, Write};

use serde::Deserialize;

use super::layer::{Unpacked, unpack_layer};
use super::platform::Platform;
use super::tar_reader::TarReader;
use super::{Error, Limits, Result, apply_changes, manifest};
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
    /// The image.
    pub image: Image,
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
/// Of an index the host's platform is taken. Reports one resource `Image <name>` an image.
pub fn load(store: &Store, reader: &mut (dyn Read + Send), progress: &dyn Progress) -> Result<Vec<Loaded>> {
    store.sweep_leftovers()?;
    let (inflated, _) = super::inflate::inflate(reader).map_err(|source| Error::Read { source })?;
    let files = Files::read(store, inflated)?;
    let mut loaded = Vec::new();
    for wanted in files.images()? {
        loaded.push(load_image(store, &files, wanted, progress)?);
    }
    if loaded.is_empty() {
        return Err(Error::DamagedArchive { reason: "it has no image for this platform" });
    }
    Ok(loaded)
}

/// Makes an image of an OCI image layout that is a folder present, without a name; `wanted` is its tag or digest
/// where the layout has several.
pub fn load_layout(store: &Store, folder: &std::path::Path, wanted: Option<&str>) -> Result<Image> {
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
    let mut wanted = files.layout_images(wanted)?;
    if wanted.is_empty() {
        return Err(Error::DamagedArchive { reason: "it has no image of that name for this platform" });
    }
    let chosen = Wanted { references: Vec::new(), ..wanted.swap_remove(0) };
    Ok(load_image(store, &files, chosen, &crate::model::event::Silent)?.image)
}

/// An image as an archive describes it.
struct Wanted {
    config: String,
    layers: Vec<String>,
    references: Vec<Reference>,
    /// As it is, of an image layout.
    manifest: Option<Vec<u8>>,
}

fn load_image(store: &Store, files: &Files, wanted: Wanted, progress: &dyn Progress) -> Result<Loaded> {
    let content = files.document(&wanted.config)?;
    let config: ImageConfig =
        serde_json::from_slice(&content).map_err(|source| Error::Document { what: wanted.config.clone(), source })?;
    let id = Digest::of(&content);
    let name = wanted.references.first().map_or_else(|| id.short().to_owned(), ToString::to_string);
    let resource = format!("Image {name}");
    progress.working(&resource, "Loading");
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
    for reference in &wanted.references {
        store.images().tag(reference, &image.id)?;
    }
    progress.done(&resource, "Loaded");
    Ok(Loaded { image, references: wanted.references })
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

    fn images(&self) -> Result<Vec<Wanted>> {
        if self.files.contains_key("manifest.json") {
            return self.saved_images();
        }
        if self.files.contains_key("index.json") {
            return self.layout_images(None);
        }
        Err(Error::DamagedArchive {
            reason: "it has neither manifest.json nor index.json (for a tar of a root file system use import)",
        })
    }

    fn saved_images(&self) -> Result<Vec<Wanted>> {
        let content = self.document("manifest.json")?;
        let saved: Vec<SavedImage> = serde_json::from_slice(&content)
            .map_err(|source| Error::Document { what: "manifest.json".into(), source })?;
        let wanted = saved.into_iter().map(|image| {
            let names = image.repo_tags.unwrap_or_default();
            let references = names.iter().filter_map(|name| name.parse().ok()).collect();
            Wanted { config: image.config, layers: image.layers, references, manifest: None }
        });
        Ok(wanted.collect())
    }

    /// The images of an image layout; only those with the tag or digest `wanted` where one is.
    fn layout_images(&self, wanted: Option<&str>) -> Result<Vec<Wanted>> {
        let index = manifest::parse_index(&self.document("index.json")?)?;
        let mut images = Vec::new();
        for descriptor in index.manifests() {
            if manifest::is_attestation(descriptor) || wanted.is_some_and(|name| !manifest::is_called(descriptor, name))
            {
                continue;
            }
            let references = manifest::name_of(descriptor).into_iter().collect();
            let digest = manifest::digest_of(descriptor)?;
            let content = self.verified_document(&digest)?;
            let content = match manifest::parse(&content)? {
                manifest::Document::Manifest(_) => content,
                manifest::Document::Index(nested) => {
                    let chosen = manifest::choose(&nested, &Platform::host())?;
                    let digest = manifest::digest_of(chosen)?;
                    self.verified_document(&digest)?
                }
            };
            let manifest::Document::Manifest(found) = manifest::parse(&content)? else {
                return Err(Error::DamagedArchive { reason: "an index refers to an index" });
            };
            let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
            let layers = found.layers().iter().map(|layer| Ok(blob(&manifest::digest_of(layer)?)));
            images.push(Wanted {
                config: blob(&manifest::digest_of(found.config())?),
                layers: layers.collect::<Result<_>>()?,
                references,
                manifest: Some(content),
            });
        }
        Ok(images)
    }

    fn verified_document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let content = self.document(&format!("blobs/sha256/{}", digest.hex()))?;
        let actual = Digest::of(&content);
        if actual == *digest {
            Ok(content)
        } else {
            Err(crate::store::Error::DigestMismatch { expected: digest.clone(), actual }.into())
        }
    }
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
