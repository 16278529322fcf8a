//! Images as an archive: an OCI image layout that is a `docker save` archive, too.
//!
//! ```text
//! blobs/sha256/<layers, configs, manifests>   index.json   oci-layout   manifest.json (Docker's)
//! ```
//!
//! Layers that came compressed go out as they came, so that digests stay; others as plain archives of their folders.
//! Times and owners of the archive's own entries are fixed: the same images make the same bytes.
//!
//! Source: <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>, moby `image/tarexport`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use serde_json::{Value, json};

use super::index::{self, OCI_INDEX};
use super::layer::kept_blob;
use super::push::kept_manifest;
use super::{Error, Result};
use crate::base::id::Digest;
use crate::model::image::{Image, LayerRecord};
use crate::model::reference::Reference;
use crate::store::Store;

/// The media type of a layer that is not compressed.
const PLAIN_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// What is saved under one name.
#[derive(Debug, Clone)]
pub struct Saved<'a> {
    /// The image; several are one image for several platforms. Readers that know no platforms get the first.
    pub images: &'a [Image],
    /// Names it gets where it is loaded.
    pub references: &'a [Reference],
    /// Annotations of its manifests.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Writes images to `output`.
///
/// Returns the digest of what the archive names first: a manifest, or an index of platforms.
pub fn save(store: &Store, saved: &[Saved<'_>], output: &mut dyn Write) -> Result<Digest> {
    let mut archive = Archive {
        store,
        tar: tar::Builder::new(std::io::BufWriter::with_capacity(1 << 18, output)),
        done: BTreeSet::new(),
    };
    let (mut top, mut docker) = (Vec::new(), Vec::new());
    for saved in saved {
        let mut manifests = Vec::new();
        for (number, image) in saved.images.iter().enumerate() {
            let (descriptor, entry) = archive.image(image, saved)?;
            manifests.push(descriptor);
            // Docker's own manifest knows nothing of platforms.
            docker.extend(Some(entry).filter(|_| number == 0));
        }
        let descriptor = match manifests.as_slice() {
            [only] => only.clone(),
            several => archive.index(saved, several)?,
        };
        top.extend(named(&descriptor, saved.references));
    }
    let digest = top.first().and_then(|descriptor| descriptor["digest"].as_str()?.parse().ok());
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": top });
    archive.json("index.json", &index)?;
    archive.json("manifest.json", &Value::Array(docker))?;
    archive.json("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
    let mut buffer = archive.tar.into_inner().map_err(written)?;
    buffer.flush().map_err(written)?;
    digest.ok_or(Error::DamagedArchive { reason: "there is no image to save" })
}

/// The descriptor once for each name.
fn named(descriptor: &Value, references: &[Reference]) -> Vec<Value> {
    if references.is_empty() {
        return vec![descriptor.clone()];
    }
    let with_name = |reference: &Reference| {
        let mut descriptor = descriptor.clone();
        descriptor["annotations"] = json!({
            "io.containerd.image.name": reference.canonical(),
            "org.opencontainers.image.ref.name": reference.tag.clone().unwrap_or_default(),
        });
        descriptor
    };
    references.iter().map(with_name).collect()
}

struct Archive<'a, W: Write> {
    store: &'a Store,
    tar: tar::Builder<W>,
    done: BTreeSet<Digest>,
}

impl<W: Write> Archive<'_, W> {
    /// Writes the index of several platforms; returns its descriptor.
    fn index(&mut self, saved: &Saved<'_>, manifests: &[Value]) -> Result<Value> {
        let mut known = None;
        for reference in saved.references {
            known = known.or(self.store.images().index(reference)?.and_then(|index| index.document));
        }
        let (media_type, content) = index::document(self.store, known.as_ref(), manifests)?;
        let digest = Digest::of(&content);
        self.blob(&digest, content.len() as u64, &mut content.as_slice())?;
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": content.len() }))
    }

    /// Writes an image's blobs; returns its descriptor and its entry in Docker's manifest.
    fn image(&mut self, image: &Image, saved: &Saved<'_>) -> Result<(Value, Value)> {
        let mut layers = Vec::new();
        for layer in &image.layers {
            layers.push(self.layer(layer)?);
        }
        // The very bytes that the id is the digest of, where the store has them.
        let content = match self.store.blobs().exists(&image.id) {
            true => self.store.blobs().read(&image.id, 64 << 20)?,
            false => {
                serde_json::to_vec(&image.config).map_err(|source| Error::Document { what: "config".into(), source })?
            }
        };
        let size = content.len();
        self.blob(&image.id, size as u64, &mut content.as_slice())?;
        let digests: Vec<Option<Digest>> =
            layers.iter().map(|layer| layer["digest"].as_str().and_then(|digest| digest.parse().ok())).collect();
        let digests: Vec<Option<&Digest>> = digests.iter().map(Option::as_ref).collect();
        let kept = if saved.annotations.is_empty() { kept_manifest(self.store, image, &digests)? } else { None };
        let (media_type, manifest) = match kept {
            Some(kept) => kept,
            None => {
                let mut manifest = json!({
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": { "mediaType": CONFIG, "digest": image.id, "size": size },
                    "layers": layers,
                });
                if !saved.annotations.is_empty() {
                    manifest["annotations"] = json!(saved.annotations);
                }
                (MANIFEST.to_owned(), manifest.to_string().into_bytes())
            }
        };
        let digest = Digest::of(&manifest);
        self.blob(&digest, manifest.len() as u64, &mut manifest.as_slice())?;
        let descriptor = index::descriptor(image, &media_type, &digest, manifest.len() as u64);
        let path = |digest: &str| format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
        let names: Vec<String> = saved.references.iter().map(Reference::familiar).collect();
        let entry = json!({
            "Config": path(image.id.as_str()),
            "RepoTags": if names.is_empty() { Value::Null } else { json!(names) },
            "Layers": layers.iter().filter_map(|layer| layer["digest"].as_str()).map(path).collect::<Vec<_>>(),
        });
        Ok((descriptor, entry))
    }

    fn layer(&mut self, layer: &LayerRecord) -> Result<Value> {
        if let Some(blob) = kept_blob(self.store, layer)? {
            let mut file = self.store.blobs().open(&blob.digest)?;
            self.blob(&blob.digest, blob.size_bytes, &mut file)?;
            return Ok(json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.size_bytes }));
        }
        // Its size has to be known before it is written.
        let mut spool = self.store.blobs().begin()?;
        crate::store::write_archive(&self.store.layers().path(&layer.diff_id), &mut spool)?;
        if spool.digest() != layer.diff_id {
            let (expected, actual) = (layer.diff_id.clone(), spool.digest());
            return Err(crate::store::Error::DigestMismatch { expected, actual }.into());
        }
        self.blob(&layer.diff_id, spool.size_bytes(), &mut spool.reader()?)?;
        Ok(json!({ "mediaType": PLAIN_LAYER, "digest": layer.diff_id, "size": spool.size_bytes() }))
    }

    fn json(&mut self, name: &str, document: &Value) -> Result<()> {
        let content = document.to_string();
        self.file(name, content.len() as u64, &mut content.as_bytes())
    }

    fn blob(&mut self, digest: &Digest, size: u64, content: &mut dyn Read) -> Result<()> {
        if !self.done.insert(digest.clone()) {
            return Ok(());
        }
        self.file(&format!("blobs/sha256/{}", digest.hex()), size, content)
    }

    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        self.tar.append_data(&mut header, name, content).map_err(written)
    }
}

fn written(source: std::io::Error) -> Error {
    crate::base::fs::Error { operation: "write", path: "the archive".into(), source }.into()
}
