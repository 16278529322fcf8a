//! What can go wrong with images from elsewhere.

use std::path::PathBuf;

use crate::base::error::Explain;
use crate::base::fs;
use crate::base::id::Digest;

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
    /// The settings of registries are not what they should be.
    #[error("cannot understand {}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// No image of that name is here, and the registry may not be asked.
    #[error("image {reference} is not here and may not be pulled")]
    NotHere {
        /// The image.
        reference: String,
    },
    /// The registry has no such repository or tag.
    #[error("image {reference} does not exist in its registry")]
    UnknownImage {
        /// The image.
        reference: String,
    },
    /// The registry's manifest refers to a blob that it does not have.
    #[error("the registry does not have {digest}, which the image refers to")]
    MissingBlob {
        /// The blob.
        digest: Digest,
    },
    /// No connection to the registry, or to where it sends us.
    #[error("cannot reach registry {registry}: {}", innermost(error))]
    Unreachable {
        /// The registry.
        registry: String,
        /// What happened. Not a source: between it and the kernel's word are the names of libraries only.
        error: reqwest::Error,
    },
    /// The connection broke in the middle of an answer.
    #[error("the connection to registry {registry} broke")]
    Broken {
        /// The registry.
        registry: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// Nothing came for a while.
    #[error("registry {registry} sent nothing for {seconds} s")]
    Stalled {
        /// The registry.
        registry: String,
        /// How long.
        seconds: u64,
    },
    /// The registry wants to know who asks, or does not like who does.
    #[error("registry {registry} denies access to {repository}: {reason}")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// Why.
        reason: String,
    },
    /// A program that keeps logins.
    #[error("{program} failed: {reason}")]
    CredentialHelper {
        /// The program.
        program: String,
        /// What it said.
        reason: String,
    },
    /// Too many requests.
    #[error("registry {registry} limits the number of requests")]
    RateLimited {
        /// The registry.
        registry: String,
        /// When to come back, if it said so.
        retry_after_seconds: Option<u64>,
    },
    /// The registry answered with an error.
    #[error("registry {registry} answered {status}: {message}")]
    Refused {
        /// The registry.
        registry: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The registry's answer makes no sense.
    #[error("registry {registry} answered with {what}")]
    BadAnswer {
        /// The registry.
        registry: String,
        /// What came.
        what: &'static str,
    },
    /// Content that is not what its digest promises.
    #[error("{digest} is not what the registry sent: {reason}")]
    WrongContent {
        /// What was asked for.
        digest: Digest,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A thread or a runtime could not be started.
    #[error("cannot start a thread")]
    Thread {
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

/// A registry's wish for a longer pause than this (seconds) is not waited for.
const PAUSE_SECONDS_MAX: u64 = 20;

impl Error {
    /// Whether the same request may succeed a little later.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Broken { .. } | Self::Stalled { .. } => true,
            Self::Unreachable { error, .. } => !error.is_connect() && !error.is_builder(),
            Self::Refused { status, .. } => *status >= 500 || *status == 408,
            Self::RateLimited { retry_after_seconds, .. } => retry_after_seconds.is_none_or(|s| s <= PAUSE_SECONDS_MAX),
            _ => false,
        }
    }

    /// Whether another endpoint (a mirror's registry) may have the image all the same.
    pub(super) fn is_of_the_endpoint(&self) -> bool {
        self.passes()
            || matches!(
                self,
                Self::Unreachable { .. }
                    | Self::UnknownImage { .. }
                    | Self::MissingBlob { .. }
                    | Self::Unauthorized { .. }
                    | Self::RateLimited { .. }
                    | Self::Refused { .. }
                    | Self::BadAnswer { .. }
                    | Self::WrongContent { .. }
                    | Self::Document { .. }
            )
    }
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::NoPlatform { offered, .. } => {
                offered.first().map(|platform| format!("choose one with --platform, such as {platform}"))
            }
            Self::UnknownImage { .. } => Some("check the spelling of the image and its tag".into()),
            Self::NotHere { reference } => Some(format!("pull it (`wharf pull {reference}`) or build it")),
            Self::Unreachable { registry, error } if is_about_certificates(error) => {
                Some(format!("name the certificate to trust as `ca` of {registry} in /etc/wharf/registries.json"))
            }
            Self::Unreachable { error, .. } if is_about_names(error) => {
                Some("check the name, and the network and its DNS".into())
            }
            Self::Unreachable { registry, .. } => Some(format!(
                "check the network and the name; if it has no HTTPS, set `insecure` for {registry} in \
                 /etc/wharf/registries.json"
            )),
            Self::Broken { .. } | Self::Stalled { .. } => {
                Some("run the command again: it goes on where it was cut off".into())
            }
            Self::Unauthorized { registry, .. } => {
                Some(format!("check that the image exists; if it is private, log in (`docker login {registry}`)"))
            }
            Self::RateLimited { registry, retry_after_seconds } => Some(match retry_after_seconds {
                Some(seconds) => format!("try again in {seconds} s, or log in (`docker login {registry}`)"),
                None => format!("log in (`docker login {registry}`), use a mirror, or try again later"),
            }),
            Self::SeveralNames { .. } => Some("remove one of the names, or all with --force".into()),
            _ => None,
        }
    }
}

/// The causes of an error, outermost first.
fn causes(error: &dyn std::error::Error) -> impl Iterator<Item = &dyn std::error::Error> {
    std::iter::successors(error.source(), |error| error.source())
}

/// What is behind an error of the HTTP library: the system's word.
fn innermost(error: &reqwest::Error) -> String {
    if is_about_names(error) && causes(error).any(|cause| cause.to_string().contains("no records found")) {
        // The resolver's own words show its structures.
        return "its name has no address".to_owned();
    }
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Whether the name of the host could not be resolved.
fn is_about_names(error: &dyn std::error::Error) -> bool {
    causes(error).any(|cause| cause.to_string().contains("dns error"))
}

/// Whether a connection failed for lack of trust, which only the text of its causes tells.
fn is_about_certificates(error: &dyn std::error::Error) -> bool {
    causes(error).any(|cause| cause.to_string().contains("certificate"))
}
