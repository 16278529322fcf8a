//! Images from archives: a plain tar of a root file system, `docker save`, an OCI image layout.
//!
//! The outer archive is read once, so it may come from a pipe: files that can matter are set aside below `tmp/`
//! (their meaning is only known when the last one, the manifest, was read), then layers are unpacked from there.
//! Layers are kept as blobs, so that they go out again as they came.

use std::io::Read;

use super::archive_files::{Files, Part, Wanted};
use super::layer::{Unpacked, unpack_layer};
use super::platform::Platform;
use super::{Error, Limits, Result, apply_changes, index, manifest};
use crate::base::fs::Durability;
use crate::base::id::Digest;
use crate::model::event::Progress;
use crate::model::image::{BlobRecord, History, Image, ImageConfig, LayerRecord};
use crate::model::reference::Reference;
use crate::store::Store;

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
