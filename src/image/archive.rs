//! Images from archives.

use std::io::Read;

use super::Result;
use crate::model::event::Progress;
use crate::model::image::Image;
use crate::model::reference::Reference;
use crate::store::Store;

/// How to make an image from a plain tar.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The name it gets.
    pub reference: Option<Reference>,
    /// Dockerfile instructions for its config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME,
    /// WORKDIR, HEALTHCHECK NONE.
    pub changes: Vec<String>,
    /// Remark in its history.
    pub message: Option<String>,
    /// `linux/amd64`; the host's when `None`.
    pub platform: Option<String>,
}

/// Reads an archive of `docker save` or an OCI image layout, also compressed, and returns the names of its images;
/// one without a name is returned by its id.
pub fn load(_store: &Store, _reader: &mut (dyn Read + Send), _progress: &dyn Progress) -> Result<Vec<Loaded>> {
    todo!()
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
pub fn import(_store: &Store, _reader: &mut (dyn Read + Send), _options: &ImportOptions) -> Result<Image> {
    todo!()
}
