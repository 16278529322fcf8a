//! Every image, layer and blob of the store proved by its digest, and what is broken made whole or removed.
//!
//! A blob is proved by reading it. An unpacked layer is no archive any more: the blob that it came from is unpacked
//! once more and both folders are compared; one that was made here and never compressed is archived again, which
//! gives its diff id.
//!
//! To repair, what is wrong is thrown away; layers are unpacked from their blobs, and what else is missing of an
//! image is fetched by a name that it has. An image that stays incomplete is removed, unless a container was made
//! from it. Nothing is taken from below a running container.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};

use sha2::Digest as _;

use super::layer::unpack_layer;
use super::pull::{Platforms, PullOptions, PullPolicy, pull};
use super::same::difference;
use super::{Error, Limits, Platform, Result};
use crate::base::fs::Context;
use crate::base::id::Digest;
use crate::model::event::Progress;
use crate::model::image::{BlobRecord, Image, ImageConfig};
use crate::model::reference::Reference;
use crate::store::{GcOptions, Store, write_archive};

/// Bytes hashed at once.
const PIECE_BYTES: usize = 1 << 20;
/// Largest config; the store keeps no larger records.
const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// Why a layer stays as it is.
const IN_USE: &str = "a running container uses it: stop that first";

/// A part of the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A manifest, a config or a compressed layer.
    Blob(Digest),
    /// An unpacked layer.
    Layer(Digest),
    /// The record of an image.
    Image(Digest),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob {}", digest.short()),
            Self::Layer(digest) => write!(f, "layer {}", digest.short()),
            Self::Image(digest) => write!(f, "image {}", digest.short()),
        }
    }
}

/// Something that is not what its name promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What.
    pub part: Part,
    /// A sentence fragment: "is missing".
    pub reason: String,
    /// Whether it may be as it should be, but nothing is left to prove it by.
    pub is_doubt: bool,
    /// The images that need it, each by a name.
    pub images: Vec<String>,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Image records that were read.
    pub images: usize,
    /// Layers that were proved.
    pub layers: usize,
    /// Blobs that were proved.
    pub blobs: usize,
    /// What is wrong.
    pub damages: Vec<Damage>,
}

/// What a repair did.
#[derive(Debug)]
pub enum Repair {
    /// Thrown away; nothing needs it now.
    Removed(Part),
    /// As it should be again.
    Restored(Part),
    /// Still as it was, and why.
    Kept(Part, String),
}

/// Proves everything. Takes as long as reading and unpacking the whole store does, and room for one layer.
pub fn check(store: &Store) -> Result<Checked> {
    let mut inventory = Inventory::read(store)?;
    let mut found = Checked { images: inventory.images.len(), ..Checked::default() };
    let mut sound = BTreeSet::new();
    for digest in store.blobs().list()? {
        store.lease()?.protect(&digest)?;
        match blob_digest(store, &digest)? {
            Some(actual) if actual == digest => {
                sound.insert(digest);
            }
            Some(actual) => inventory.note(Part::Blob(digest), format!("has the content of {}", actual.short()), false),
            // Collected meanwhile.
            None => {}
        }
    }
    found.blobs = sound.len();
    for diff_id in store.layers().list()? {
        store.lease()?.protect(&diff_id)?;
        match layer_fault(store, &diff_id, inventory.blob_of(&diff_id, &sound))? {
            None => found.layers += 1,
            Some(fault) => inventory.note(Part::Layer(diff_id), fault.reason, fault.is_doubt),
        }
    }
    for image in inventory.images.clone() {
        for (part, reason) in incomplete(store, &image) {
            inventory.note(part, reason, false);
        }
    }
    found.damages = inventory.damages();
    Ok(found)
}

/// Repairs what [`check`] found. `in_use` tells whether a layer is below a container that runs.
pub fn repair(
    store: &Store,
    damages: &[Damage],
    in_use: &dyn Fn(&Digest) -> bool,
    progress: &dyn Progress,
) -> Result<Vec<Repair>> {
    let mut done = Vec::new();
    for damage in damages {
        match &damage.part {
            Part::Blob(digest) => store.blobs().remove(digest)?,
            Part::Image(id) if matches!(store.images().get(id), Err(crate::store::Error::Corrupt { .. })) => {
                store.images().remove(id)?;
            }
            Part::Layer(_) | Part::Image(_) => {}
        }
    }
    let inventory = Inventory::read(store)?;
    for damage in damages {
        let Part::Layer(diff_id) = &damage.part else { continue };
        if damage.is_doubt {
            continue;
        }
        if in_use(diff_id) {
            done.push(Repair::Kept(damage.part.clone(), IN_USE.into()));
            continue;
        }
        let sound: BTreeSet<Digest> = store.blobs().list()?.into_iter().collect();
        restore_layer(store, diff_id, inventory.blob_of(diff_id, &sound))?;
    }
    for image in &inventory.images {
        if incomplete(store, image).is_empty() {
            continue;
        }
        if let Err(error) = complete(store, image, progress) {
            let part = Part::Image(image.id.clone());
            let is_runnable = incomplete(store, image)
                .iter()
                .all(|(part, _)| matches!(part, Part::Blob(digest) if *digest != image.id));
            if is_runnable {
                done.push(Repair::Kept(part, format!("it runs, but cannot be pushed as it came: {error}")));
                continue;
            }
            match store.images().remove(&image.id) {
                Ok(()) => done.push(Repair::Removed(part)),
                Err(error) => done.push(Repair::Kept(part, error.to_string())),
            }
        }
    }
    // Archives that were fetched meanwhile may prove what was in doubt.
    for damage in damages.iter().filter(|damage| damage.is_doubt) {
        let Part::Layer(diff_id) = &damage.part else { continue };
        let sound: BTreeSet<Digest> = store.blobs().list()?.into_iter().collect();
        let blob = inventory.blob_of(diff_id, &sound);
        match layer_fault(store, diff_id, blob.clone())? {
            None => {}
            Some(fault) if fault.is_doubt => done.push(Repair::Kept(damage.part.clone(), "nothing proves it".into())),
            Some(_) if in_use(diff_id) => done.push(Repair::Kept(damage.part.clone(), IN_USE.into())),
            Some(_) => restore_layer(store, diff_id, blob)?,
        }
    }
    store.gc(&GcOptions::default())?;
    for damage in damages {
        let part = damage.part.clone();
        if done.iter().any(|repair| matches!(repair, Repair::Kept(kept, _) | Repair::Removed(kept) if *kept == part)) {
            continue;
        }
        let is_there = match &part {
            Part::Blob(digest) => store.blobs().exists(digest),
            Part::Layer(digest) => store.layers().exists(digest),
            Part::Image(id) => store.images().get(id).is_ok_and(|image| incomplete(store, &image).is_empty()),
        };
        done.push(if is_there { Repair::Restored(part) } else { Repair::Removed(part) });
    }
    Ok(done)
}

/// What is wrong with a part.
struct Fault {
    reason: String,
    is_doubt: bool,
}

/// What the records say of layers and blobs.
struct Inventory {
    images: Vec<Image>,
    /// Names of images by what they need.
    users: BTreeMap<Digest, BTreeSet<String>>,
    /// The blobs that a layer came as.
    blobs: BTreeMap<Digest, Vec<BlobRecord>>,
    faults: BTreeMap<Part, Fault>,
}

impl Inventory {
    fn read(store: &Store) -> Result<Self> {
        let mut found =
            Self { images: Vec::new(), users: BTreeMap::new(), blobs: BTreeMap::new(), faults: BTreeMap::new() };
        for id in store.images().ids()? {
            match store.images().get(&id) {
                Ok(image) => found.add(store, image)?,
                Err(crate::store::Error::Corrupt { .. }) => found.note(Part::Image(id), "cannot be read".into(), false),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        for step in store.cache().steps()? {
            for layer in step.layers {
                found.blobs.entry(layer.diff_id).or_default().extend(layer.blob);
            }
        }
        Ok(found)
    }

    fn add(&mut self, store: &Store, image: Image) -> Result<()> {
        let names = store.images().references(&image.id)?;
        let name = names.iter().find(|name| name.digest.is_none()).or(names.first());
        let name = name.map_or_else(|| image.id.short().to_owned(), ToString::to_string);
        let mut needs = vec![image.id.clone()];
        needs.extend(image.manifest.clone());
        for layer in &image.layers {
            needs.push(layer.diff_id.clone());
            needs.extend(layer.blob.as_ref().map(|blob| blob.digest.clone()));
            self.blobs.entry(layer.diff_id.clone()).or_default().extend(layer.blob.clone());
        }
        for digest in needs {
            store.lease()?.protect(&digest)?;
            self.users.entry(digest).or_default().insert(name.clone());
        }
        self.images.push(image);
        Ok(())
    }

    fn note(&mut self, part: Part, reason: String, is_doubt: bool) {
        self.faults.entry(part).or_insert(Fault { reason, is_doubt });
    }

    fn blob_of(&self, diff_id: &Digest, sound: &BTreeSet<Digest>) -> Option<Digest> {
        let mut blobs = self.blobs.get(diff_id)?.iter().map(|blob| &blob.digest);
        blobs.find(|digest| sound.contains(*digest)).cloned()
    }

    fn damages(self) -> Vec<Damage> {
        let Self { faults, users, .. } = self;
        let damage = |(part, Fault { reason, is_doubt })| {
            let (Part::Blob(digest) | Part::Layer(digest) | Part::Image(digest)) = &part;
            let images = users.get(digest).into_iter().flatten().cloned().collect();
            Damage { part, reason, is_doubt, images }
        };
        faults.into_iter().map(damage).collect()
    }
}

fn blob_digest(store: &Store, digest: &Digest) -> Result<Option<Digest>> {
    let path = store.blobs().path(digest);
    let mut file = match store.blobs().open(digest) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut hasher = sha2::Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).context("read", &path)? {
            0 => return Ok(Some(Digest::from_sha256(&hasher.finalize()))),
            length => hasher.update(&piece[..length]),
        }
    }
}

/// What is wrong with a layer, if anything.
fn layer_fault(store: &Store, diff_id: &Digest, blob: Option<Digest>) -> Result<Option<Fault>> {
    let wrong = |reason| Ok(Some(Fault { reason, is_doubt: false }));
    if !store.layers().exists(diff_id) {
        return wrong("is not complete".into());
    }
    let folder = store.layers().path(diff_id);
    let Some(blob) = blob else {
        let mut hash = Hash(sha2::Sha256::new());
        write_archive(&folder, &mut hash)?;
        let is_ours = Digest::from_sha256(&hash.0.finalize()) == *diff_id;
        let reason = "is not what was built here, or the archive that it was unpacked from is gone";
        return Ok((!is_ours).then(|| Fault { reason: reason.into(), is_doubt: true }));
    };
    let unpacked = match unpack_layer(store, store.blobs().open(&blob)?, &Limits::default()) {
        Ok(unpacked) => unpacked,
        Err(error @ (Error::File(_) | Error::Store(_))) => return Err(error),
        Err(error) => return wrong(format!("cannot be unpacked from its archive: {error}")),
    };
    if unpacked.diff_id != *diff_id {
        return wrong(format!("has an archive of {}", unpacked.diff_id.short()));
    }
    match difference(&folder, unpacked.writer.folder())? {
        Some(found) => wrong(format!("differs from its archive: /{} {}", found.path.display(), found.how)),
        None => Ok(None),
    }
}

/// Hashes what is written to it.
struct Hash(sha2::Sha256);

impl Write for Hash {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.update(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What an image lacks of what it needs, its config's agreement included.
fn incomplete(store: &Store, image: &Image) -> Vec<(Part, String)> {
    let mut lacks = Vec::new();
    let missing = || "is missing".to_owned();
    match store.blobs().read(&image.id, CONFIG_BYTES_MAX) {
        Err(_) => lacks.push((Part::Blob(image.id.clone()), missing())),
        Ok(content) if Digest::of(&content) == image.id => {
            if serde_json::from_slice::<ImageConfig>(&content).ok().as_ref() != Some(&image.config) {
                lacks.push((Part::Image(image.id.clone()), "says something else than its config".into()));
            }
        }
        // Found when blobs were proved.
        Ok(_) => {}
    }
    if image.config.rootfs.diff_ids != image.diff_ids() {
        lacks.push((Part::Image(image.id.clone()), "names other layers than its config".into()));
    }
    let manifest = image.manifest.iter().filter(|digest| !store.blobs().exists(digest));
    lacks.extend(manifest.map(|digest| (Part::Blob(digest.clone()), missing())));
    for layer in &image.layers {
        if !store.layers().exists(&layer.diff_id) {
            lacks.push((Part::Layer(layer.diff_id.clone()), missing()));
        }
        let blob = layer.blob.as_ref().filter(|blob| !store.blobs().exists(&blob.digest));
        lacks.extend(blob.map(|blob| (Part::Blob(blob.digest.clone()), missing())));
    }
    lacks
}

/// Throws a layer away and unpacks it anew where its blob is there.
fn restore_layer(store: &Store, diff_id: &Digest, blob: Option<Digest>) -> Result<()> {
    let _one_at_a_time = store.lock_digest(diff_id)?;
    let unpacked = match blob {
        Some(blob) => Some(unpack_layer(store, store.blobs().open(&blob)?, &Limits::default())?),
        None => None,
    };
    store.layers().remove(diff_id)?;
    if let Some(unpacked) = unpacked.filter(|unpacked| unpacked.diff_id == *diff_id) {
        unpacked.writer.commit(diff_id, unpacked.size_bytes)?;
        store.layers().make_durable([diff_id])?;
    }
    Ok(())
}

/// Makes an image complete: its config from its record, the rest from the registry that a name of it tells.
fn complete(store: &Store, image: &Image, progress: &dyn Progress) -> Result<()> {
    if !store.blobs().exists(&image.id)
        && let Ok(content) = serde_json::to_vec(&image.config)
        && Digest::of(&content) == image.id
    {
        store.blobs().put(&content)?;
    }
    if incomplete(store, image).is_empty() {
        return Ok(());
    }
    let mut names: Vec<Reference> = store.images().references(&image.id)?;
    // What a tag meant when it was pulled, rather than what it means today.
    names.sort_by_key(|name| name.digest.is_none());
    let platform = Platform::of(&image.config);
    let platforms = Platforms::Of(vec![platform.to_string()]);
    let options = PullOptions { platforms, policy: PullPolicy::Always, blobs: true };
    let mut last = Error::NotHere { reference: image.id.short().to_owned() };
    for name in names.iter().filter(|name| name.digest.is_some()) {
        match pull(store, name, &options, progress) {
            Ok(_) if incomplete(store, &store.images().get(&image.id)?).is_empty() => return Ok(()),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}
