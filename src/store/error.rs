//! What can go wrong with the store.

use std::path::{Path, PathBuf};

use crate::base::error::Explain;
use crate::base::fs;
use crate::base::id::Digest;

/// Result of an operation on the store.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of object a name belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// An unpacked layer.
    Layer,
    /// A blob.
    Blob,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Layer => "layer",
            Self::Blob => "blob",
        })
    }
}

/// An operation on the store that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused a file operation.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// The caller may not use the store, or it cannot be made there.
    #[error("cannot use the store at {}", path.display())]
    Access {
        /// The store's folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: fs::Error,
    },
    /// The store was written by a newer wharf.
    #[error("the store at {} has format `{found}`, this wharf knows {known}", path.display())]
    NewerFormat {
        /// The store's folder.
        path: PathBuf,
        /// What its format file says.
        found: String,
        /// What this program can read.
        known: u32,
    },
    /// Nothing of that name or id.
    #[error("no such {kind}: {name}")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// The name or id.
        name: String,
    },
    /// The beginning of several ids.
    #[error("`{prefix}` is the beginning of {count} {kind} ids")]
    Ambiguous {
        /// What was looked for.
        kind: Kind,
        /// What was given.
        prefix: String,
        /// How many begin with it.
        count: usize,
    },
    /// The name belongs to another object.
    #[error("the {kind} name `{name}` is already in use by {kind} {holder}")]
    NameInUse {
        /// What kind of object.
        kind: Kind,
        /// The name.
        name: String,
        /// The id (or name) of the one that has it.
        holder: String,
    },
    /// The name has a character or a length that names do not have.
    #[error(
        "`{name}` is not a {kind} name: letters, digits, `_`, `.` and `-`, at most 240, the first a letter or digit"
    )]
    InvalidName {
        /// What kind of object.
        kind: Kind,
        /// The name.
        name: String,
    },
    /// A record that cannot be read.
    #[error("{} is damaged", path.display())]
    Corrupt {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Content that is not what its name says.
    #[error("content has digest {actual}, not {expected}")]
    DigestMismatch {
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// The image has containers.
    #[error("image {image} is used by container {container}")]
    ImageInUse {
        /// The image as named.
        image: String,
        /// The container's name.
        container: String,
    },
    /// Something in a layer's folder that an archive cannot hold.
    #[error("cannot archive {}: {reason}", path.display())]
    Archive {
        /// The entry.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
}

impl Error {
    pub(super) fn access(path: &Path, source: fs::Error) -> Self {
        Self::Access { path: path.to_owned(), source }
    }

    pub(super) fn not_found(kind: Kind, name: impl Into<String>) -> Self {
        Self::NotFound { kind, name: name.into() }
    }

    /// Whether the name belongs to another object.
    pub fn is_name_taken(&self) -> bool {
        matches!(self, Self::NameInUse { .. })
    }

    /// Whether it says that something does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::File(error) => error.is_not_found(),
            _ => false,
        }
    }
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) | Self::Access { source: error, .. } => error.hint(),
            Self::NewerFormat { .. } => Some("use the newer wharf, or set WHARF_ROOT to another folder".into()),
            Self::Ambiguous { .. } => Some("give more digits".into()),
            Self::NameInUse { kind: Kind::Container, name, .. } => {
                Some(format!("remove it (`wharf rm {name}`) or choose another name"))
            }
            Self::Corrupt { .. } => Some("run `wharf system check --repair`".into()),
            Self::ImageInUse { container, .. } => Some(format!("remove the container first (`wharf rm {container}`)")),
            _ => None,
        }
    }
}
