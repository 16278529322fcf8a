//! The removal of names and images, as `docker rmi` does it.

use super::{Error, Result};
use crate::model::reference::Reference;
use crate::store::{GcOptions, Store};

/// What [`remove`] did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name no longer means the image.
    Untagged(Reference),
    /// The image is gone.
    Deleted(crate::base::id::Digest),
}

/// Removes what `text` means: a name, and the image with it when that was its last one; or an image by id with all
/// its names (`force` when it has several tags). What only it used is collected.
///
/// Errors: `Store(ImageInUse)` while a container was made from it (with `force` it only loses its names);
/// `Store(NotFound)`; `SeveralNames`.
pub fn remove(store: &Store, text: &str, force: bool) -> Result<Vec<Removed>> {
    let images = store.images();
    let image = images.find(text)?;
    let references = images.references(&image.id)?;
    let named = text.parse::<Reference>().ok().filter(|reference| {
        references.iter().any(|known| match &reference.digest {
            Some(digest) => known.digest.as_ref() == Some(digest) && known.repository == reference.repository,
            None => known == reference,
        })
    });
    let tags = references.iter().filter(|reference| reference.digest.is_none()).count();
    let mut removed = Vec::new();
    match named {
        Some(name) if tags > 1 || (tags == 1 && name.digest.is_some()) => {
            images.untag(&name)?;
            return Ok(vec![Removed::Untagged(name)]);
        }
        None if tags > 1 && !force => {
            let names = references.iter().map(ToString::to_string).collect();
            return Err(Error::SeveralNames { image: image.id.short().to_owned(), names });
        }
        _ => {}
    }
    let in_use = images.container_using(&image.id)?.is_some();
    if in_use && force {
        for reference in references {
            images.untag(&reference)?;
            removed.push(Removed::Untagged(reference));
        }
        return Ok(removed);
    }
    images.remove(&image.id).map_err(|error| match error {
        crate::store::Error::ImageInUse { container, .. } => {
            crate::store::Error::ImageInUse { image: text.to_owned(), container }
        }
        error => error,
    })?;
    removed.extend(references.into_iter().map(Removed::Untagged));
    removed.push(Removed::Deleted(image.id));
    store.gc(&GcOptions::default())?;
    Ok(removed)
}
