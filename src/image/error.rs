//! What can go wrong with images from elsewhere.

use std::path::PathBuf;

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
    /// An archive that is not well-formed, or larger than anything sensible.
    #[error("the archive is damaged or not supported: {reason}")]
    DamagedArchive {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry of an archive that is not unpacked.
    #[error("refused to unpack `{}`: {reason}", entry.display())]
    RefusedEntry {
        /// Its name.
        entry: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The stream of an archive broke off or cannot be inflated.
    #[error("cannot read the archive")]
    Read {
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// A file that the archive's manifest names is not in it.
    #[error("the archive has no file `{name}`")]
    MissingFile {
        /// Its name.
        name: String,
    },
    /// A manifest, index or config that is not the JSON it should be.
    #[error("cannot understand the {what}")]
    Document {
        /// Which one.
        what: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Something that wharf does not do, with the reason.
    #[error("{what}")]
    Unsupported {
        /// A sentence fragment.
        what: String,
    },
    /// The index has no image for the platform.
    #[error("there is no image for {wanted}, only for {}", offered.join(", "))]
    NoPlatform {
        /// The platform.
        wanted: String,
        /// Those that there are.
        offered: Vec<String>,
    },
    /// Text that is not a platform.
    #[error("`{text}` is not a platform (such as linux/amd64)")]
    InvalidPlatform {
        /// What was given.
        text: String,
    },
    /// An instruction of `--change` that is wrong.
    #[error("cannot apply `{change}`: {reason}")]
    InvalidChange {
        /// The instruction.
        change: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An image named by its id has several names.
    #[error("image {image} has several names: {}", names.join(", "))]
    SeveralNames {
        /// Its id.
        image: String,
        /// Its names.
        names: Vec<String>,
    },
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::NoPlatform { offered, .. } => {
                offered.first().map(|platform| format!("choose one with --platform, such as {platform}"))
            }
            Self::SeveralNames { .. } => Some("remove one of the names, or all with --force".into()),
            _ => None,
        }
    }
}
