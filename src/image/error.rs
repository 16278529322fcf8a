//! What can go wrong with images from elsewhere.

use crate::base::error::Explain;
use crate::base::fs;

/// Result of an operation on images.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on images that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] fs::Error),
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::File(error) => error.hint(),
        }
    }
}
