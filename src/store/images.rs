//! Images and the names that refer to them.
//!
//! An image is one record named by its id (the digest of its config blob). A name is one small record more, so a
//! tag moves by replacing one file. Several names may mean one image; an image may have none ("dangling").
//! A name may stand for images of several platforms: it means one of them, and keeps the others.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::{Error, Kind, Result, Store, names};
use crate::base::fs::{self, Durability};
use crate::base::id::Digest;
use crate::model::image::{Image, Index};
use crate::model::journal::{self, Entry};
use crate::model::reference::Reference;

/// Access to images.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    store: &'a Store,
}

#[derive(Debug, Serialize, Deserialize)]
struct Name {
    reference: String,
    image: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    index: Option<Index>,
}

impl Name {
    fn images(&self) -> impl Iterator<Item = &Digest> {
        let others = self.index.iter().flat_map(|index| &index.images).filter(|id| **id != self.image);
        std::iter::once(&self.image).chain(others)
    }
}

impl<'a> Images<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Adds an image whose layers and config blob are in the store and known to survive a power cut.
    ///
    /// Errors: `NotFound` for a layer or a config that is missing.
    pub fn add(&self, image: &Image) -> Result<()> {
        let _collector_waits = self.store.lock_publish()?;
        for layer in &image.layers {
            if !self.store.layers().exists(&layer.diff_id) {
                return Err(Error::not_found(Kind::Layer, layer.diff_id.as_str()));
            }
        }
        if !self.store.blobs().exists(&image.id) {
            return Err(Error::not_found(Kind::Blob, image.id.as_str()));
        }
        super::write_record(&self.path(&image.id), image, Durability::Durable)
    }

    /// An image by its id.
    pub fn get(&self, id: &Digest) -> Result<Image> {
        super::read_record(&self.path(id))?.ok_or_else(|| Error::not_found(Kind::Image, id.as_str()))
    }

    /// All images with the names that each has, also among several platforms; newest first.
    pub fn list(&self) -> Result<Vec<(Image, Vec<Reference>)>> {
        let names = self.names()?;
        let mut images = Vec::new();
        for id in self.ids()? {
            match self.get(&id) {
                Ok(image) => {
                    let references = names.iter().filter(|(_, name)| name.images().any(|image| *image == id));
                    images.push((image, references.map(|(reference, _)| reference.clone()).collect()));
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        images.sort_by(|(a, _): &(Image, Vec<Reference>), (b, _)| b.config.created.cmp(&a.config.created));
        Ok(images)
    }

    /// The ids of all images.
    pub fn ids(&self) -> Result<Vec<Digest>> {
        let files = super::entries(&self.store.root("images"))?;
        let ids = files.iter().filter_map(|file| format!("sha256:{}", file.strip_suffix(".json")?).parse().ok());
        Ok(ids.collect())
    }

    /// The image that `reference` means here: by its name, else by its digits when it reads like the beginning of
    /// an id. Never asks a registry.
    ///
    /// Errors: `Ambiguous` for digits that begin several ids and name nothing.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Image>> {
        if let Some(id) = self.named(reference)? {
            return match self.get(&id) {
                Err(error) if error.is_not_found() => Ok(None),
                other => other.map(Some),
            };
        }
        let is_bare = reference.registry == "docker.io" && reference.digest.is_none();
        let digits = reference.repository.strip_prefix("library/").filter(|_| is_bare);
        match digits.filter(|_| reference.tag.as_deref() == Some("latest")) {
            Some(digits) => match self.by_digits(digits) {
                Ok(id) => self.get(&id).map(Some),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error),
            },
            None => Ok(None),
        }
    }

    /// The image that `text` means: a reference, an id with or without `sha256:`, or the beginning of one.
    pub fn find(&self, text: &str) -> Result<Image> {
        if let Some(digits) = text.strip_prefix("sha256:") {
            return self.get(&self.by_digits(digits)?);
        }
        if let Ok(reference) = text.parse::<Reference>()
            && let Some(image) = self.resolve(&reference)?
        {
            return Ok(image);
        }
        self.get(&self.by_digits(text)?)
    }

    /// Lets `reference` mean the image `id` from now on, whatever it meant before.
    pub fn tag(&self, reference: &Reference, id: &Digest) -> Result<()> {
        self.tag_index(reference, id, None)
    }

    /// [`Images::tag`] of an image that is one of several platforms; the name keeps all of `index`.
    pub fn tag_index(&self, reference: &Reference, id: &Digest, index: Option<Index>) -> Result<()> {
        let _collector_waits = self.store.lock_publish()?;
        let name = Name { reference: reference.familiar(), image: id.clone(), index };
        for image in name.images() {
            self.get(image)?;
        }
        super::write_record(&self.name_path(reference), &name, Durability::Durable)?;
        self.note("tag", id, &name.reference);
        Ok(())
    }

    /// When a name was last given: pulled, built or tagged. `None` for one that is not here.
    pub fn named_at(&self, reference: &Reference) -> Option<std::time::SystemTime> {
        std::fs::metadata(self.name_path(reference)).and_then(|metadata| metadata.modified()).ok()
    }

    /// Forgets a name and returns the image that it meant; the image stays, perhaps without any name.
    pub fn untag(&self, reference: &Reference) -> Result<Option<Digest>> {
        let image = self.named(reference)?;
        fs::remove_file(&self.name_path(reference))?;
        fs::sync_folder(&self.store.root("refs"))?;
        if let Some(id) = &image {
            self.note("untag", id, &reference.familiar());
        }
        Ok(image)
    }

    /// Removes an image's record and all its names. What only it used is taken by the next collection.
    ///
    /// Errors: `ImageInUse` while a container was made from it.
    pub fn remove(&self, id: &Digest) -> Result<()> {
        let _no_new_users = self.store.lock_collect()?;
        if let Some(container) = self.container_using(id)? {
            return Err(Error::ImageInUse { image: id.short().to_owned(), container });
        }
        self.remove_locked(id)
    }

    /// The names of an image: tags, and `name@digest` as it was pulled; also those that mean the same image for
    /// another platform.
    pub fn references(&self, id: &Digest) -> Result<Vec<Reference>> {
        let names = self.names()?.into_iter();
        Ok(names.filter(|(_, name)| name.images().any(|image| image == id)).map(|(reference, _)| reference).collect())
    }

    /// The image that each name means: of several platforms the one that is taken when none is asked for.
    pub fn meanings(&self) -> Result<Vec<(Reference, Digest)>> {
        Ok(self.names()?.into_iter().map(|(reference, name)| (reference, name.image)).collect())
    }

    /// The images of a name that stands for several platforms; `None` for any other.
    pub fn index(&self, reference: &Reference) -> Result<Option<Index>> {
        Ok(super::read_record::<Name>(&self.name_path(reference))?.and_then(|name| name.index))
    }

    /// Forgets the image `id` among the platforms of a name; `false` when the name has no other.
    pub fn untag_platform(&self, reference: &Reference, id: &Digest) -> Result<bool> {
        let _collector_waits = self.store.lock_publish()?;
        self.untag_platform_locked(reference, id)
    }

    fn untag_platform_locked(&self, reference: &Reference, id: &Digest) -> Result<bool> {
        let path = self.name_path(reference);
        let Some(mut name) = super::read_record::<Name>(&path)? else { return Ok(false) };
        let others: Vec<Digest> = name.images().filter(|image| *image != id).cloned().collect();
        let Some(first) = others.first().cloned() else { return Ok(false) };
        name.image = first;
        name.index = name.index.map(|index| Index { images: others, ..index });
        super::write_record(&path, &name, Durability::Durable)?;
        Ok(true)
    }

    /// The digests of the indexes that names came as.
    pub(super) fn documents(&self) -> Result<Vec<Digest>> {
        Ok(self.names()?.into_iter().filter_map(|(_, name)| name.index?.document).collect())
    }

    /// The name of a container made from this image.
    pub fn container_using(&self, id: &Digest) -> Result<Option<String>> {
        let containers = self.store.containers().list()?;
        Ok(containers.into_iter().find(|(spec, _)| spec.image_id.as_ref() == Some(id)).map(|(spec, _)| spec.name))
    }

    pub(super) fn remove_locked(&self, id: &Digest) -> Result<()> {
        for reference in self.references(id)? {
            if !self.untag_platform_locked(&reference, id)? {
                fs::remove_file(&self.name_path(&reference))?;
            }
        }
        fs::remove_file(&self.path(id))?;
        self.note("delete", id, id.as_str());
        Ok(fs::sync_folder(&self.store.root("images"))?)
    }

    fn note(&self, action: &str, id: &Digest, name: &str) {
        self.store.journal().note(&Entry::new(journal::Kind::Image, action, id.as_str()).with("name", name));
    }

    fn by_digits(&self, digits: &str) -> Result<Digest> {
        let ids = self.ids()?.into_iter().map(|id| id.hex().to_owned());
        let id = names::by_prefix(Kind::Image, digits, ids)?;
        format!("sha256:{id}").parse().map_err(|_| Error::not_found(Kind::Image, digits))
    }

    fn named(&self, reference: &Reference) -> Result<Option<Digest>> {
        let by_name = super::read_record::<Name>(&self.name_path(reference))?;
        Ok(by_name.map(|name| name.image))
    }

    fn names(&self) -> Result<Vec<(Reference, Name)>> {
        let folder = self.store.root("refs");
        let mut found = Vec::new();
        for file in super::entries(&folder)? {
            if let Some(name) = super::read_record::<Name>(&folder.join(file))?
                && let Ok(reference) = name.reference.parse::<Reference>()
            {
                found.push((reference, name));
            }
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    fn path(&self, id: &Digest) -> PathBuf {
        self.store.root("images").join(format!("{}.json", id.hex()))
    }

    /// A digest is what `name:tag@digest` means, so the tag is no part of such a name.
    fn name_path(&self, reference: &Reference) -> PathBuf {
        let name = match &reference.digest {
            Some(digest) => format!("{}@{digest}", reference.familiar_name()),
            None => reference.familiar(),
        };
        self.store.root("refs").join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }
}

impl Store {
    /// Held while a reference to layers or blobs is published.
    pub(super) fn lock_publish(&self) -> Result<Lock> {
        Ok(Lock::shared(&self.root("lock/gc"))?)
    }

    /// Held while things are collected.
    pub(super) fn lock_collect(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.root("lock/gc"))?)
    }
}
