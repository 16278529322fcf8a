//! An image from a registry.

use super::Result;
use crate::model::event::Progress;
use crate::model::image::Image;
use crate::model::reference::Reference;
use crate::store::Store;

/// When to ask the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always; what is here already is not fetched again.
    Always,
    /// Only when no image of that name is here.
    #[default]
    Missing,
    /// Never: an image that is not here is an error.
    Never,
}

/// How to pull.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// `linux/amd64`, `linux/arm64/v8`; the host's when `None`.
    pub platform: Option<String>,
    /// When to ask the registry.
    pub policy: PullPolicy,
}

/// Makes the image that `reference` names present in the store and returns it.
///
/// Reports one resource `Image <reference>` and one a layer below it (its digest's first 12 digits).
pub fn pull(_store: &Store, _reference: &Reference, _options: &PullOptions, _progress: &dyn Progress) -> Result<Image> {
    todo!()
}
