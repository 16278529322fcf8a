//! The removal of names and images, as `docker rmi` does it.

use super::index::{self, platforms_of};
use super::{Error, Result};
use crate::base::id::Digest;
use crate::model::image::Image;
use crate::model::reference::Reference;
use crate::store::{GcOptions, Store};

/// What [`remove`] did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name no longer means the image.
    Untagged(Reference),
    /// The image is gone.
    Deleted(Digest),
}

/// Removes what `text` means: a name, and its images (of all platforms) with it where that was their last one; or an
/// image by id with all its names (`force` when it has several tags). With `platform` only that image of a name. What
/// only they used is collected.
///
/// Errors: `Store(ImageInUse)` while a container was made from it (with `force` it only loses its names);
/// `Store(NotFound)`; `SeveralNames`; `NoPlatform`.
pub fn remove(store: &Store, text: &str, platform: Option<&str>, force: bool) -> Result<Vec<Removed>> {
    let images = store.images();
    let image = index::find(store, text, platform)?;
    let references = images.references(&image.id)?;
    let named = text.parse::<Reference>().ok().filter(|reference| {
        references.iter().any(|known| match &reference.digest {
            Some(digest) => known.digest.as_ref() == Some(digest) && known.repository == reference.repository,
            None => known == reference,
        })
    });
    let tags = references.iter().filter(|reference| reference.digest.is_none()).count();
    let (mut leaving, mut untagged) = (vec![image], None);
    let has_others = |name: &Reference| Ok::<_, Error>(images.index(name)?.is_some_and(|index| index.images.len() > 1));
    let is_one_of_several = platform.is_some() && named.as_ref().map(has_others).transpose()?.unwrap_or(false);
    match named {
        // The name stays, without that platform.
        Some(name) if is_one_of_several && tags > 1 => {
            images.untag_platform(&name, &leaving[0].id)?;
            return Ok(Vec::new());
        }
        Some(_) if is_one_of_several => {}
        Some(name) if tags > 1 || (tags == 1 && name.digest.is_some()) => {
            images.untag(&name)?;
            return Ok(vec![Removed::Untagged(name)]);
        }
        Some(name) => {
            // Those of other platforms that other names have stay.
            let is_known_elsewhere = |image: &Image| -> Result<bool> {
                let known = images.references(&image.id)?;
                Ok(known.iter().any(|known| known.digest.is_none() && *known != name) && image.id != leaving[0].id)
            };
            let mut gone = Vec::new();
            for image in platforms_of(store, &name)? {
                if !is_known_elsewhere(&image)? {
                    gone.push(image);
                }
            }
            untagged = Some(name);
            leaving = gone;
        }
        None if tags > 1 && !force => {
            let names = references.iter().map(ToString::to_string).collect();
            return Err(Error::SeveralNames { image: leaving[0].id.short().to_owned(), names });
        }
        None => {}
    }
    let mut removed = Vec::new();
    for image in leaving {
        remove_image(store, text, &image.id, force, &mut removed)?;
    }
    if let Some(name) = untagged
        && images.untag(&name)?.is_some()
    {
        removed.push(Removed::Untagged(name));
    }
    store.gc(&GcOptions::default())?;
    Ok(removed)
}

/// Removes an image with its names; those that have other platforms stay.
fn remove_image(store: &Store, text: &str, id: &Digest, force: bool, removed: &mut Vec<Removed>) -> Result<()> {
    let images = store.images();
    let before = images.references(id)?;
    let in_use = images.container_using(id)?.is_some();
    if in_use && force {
        for reference in &before {
            if !images.untag_platform(reference, id)? {
                images.untag(reference)?;
            }
        }
    } else {
        images.remove(id).map_err(|error| match error {
            crate::store::Error::ImageInUse { container, .. } => {
                crate::store::Error::ImageInUse { image: text.to_owned(), container }
            }
            error => error,
        })?;
    }
    let names = images.meanings()?;
    let gone = before.into_iter().filter(|reference| names.iter().all(|(name, _)| name != reference));
    removed.extend(gone.map(Removed::Untagged));
    if !in_use {
        removed.push(Removed::Deleted(id.clone()));
    }
    Ok(())
}
