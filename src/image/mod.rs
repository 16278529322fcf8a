//! Images from elsewhere: registries, `docker save` and OCI archives, plain tars; and their removal.
//!
//! ```text
//! registry --HTTPS--> spool file --> inflate --> unpack (openat2) --> layer folder
//!                 \-> sha256 = blob digest   \-> sha256 = diff id        | one syncfs, then
//! archive --------------------------------------^                        v image record, tag
//! ```
//!
//! Nothing is visible before it is verified, and no image before all its layers survive a power cut.

mod archive;
mod error;
mod pull;

use std::io::Read;

pub use archive::{ImportOptions, Loaded, import, load};
pub use error::{Error, Result};
pub use pull::{PullOptions, PullPolicy, pull};

use crate::model::reference::Reference;
use crate::store::Store;

/// What [`remove`] did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name no longer means the image.
    Untagged(Reference),
    /// The image is gone.
    Deleted(crate::base::id::Digest),
}

/// Removes what `text` means: a name, and the image with it when that was its last one; or an image by id with all
/// its names (`force` when it has several). What only it used goes with the next collection, run here.
///
/// Errors: `Store(ImageInUse)` while a container was made from it; `Store(NotFound)`; `SeveralNames`.
pub fn remove(_store: &Store, _text: &str, _force: bool) -> Result<Vec<Removed>> {
    todo!()
}

/// Unpacks an uncompressed layer archive into `folder` and returns the sum of the sizes of its files in bytes.
///
/// `folder` is a [`crate::store::LayerWriter`]'s. Whiteouts become overlayfs' marks. On an error the content of
/// `folder` is undefined: drop the writer.
pub fn unpack(_archive: &mut dyn Read, _folder: &std::path::Path) -> Result<u64> {
    todo!()
}
