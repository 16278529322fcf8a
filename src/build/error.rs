//! What can go wrong in a build, with the line of the Dockerfile that it is about.

use std::path::PathBuf;

use crate::base::error::{Excerpt, Explain, Location};
use crate::base::fs;

/// A build that ended without an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Dockerfile does not follow the language.
    #[error("{}: {message}", mark.location)]
    Syntax {
        /// Where.
        mark: Box<Mark>,
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The Dockerfile holds no instruction.
    #[error("{}: the Dockerfile has no instructions", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The results of the steps could not be written to where they were wanted.
    #[error("cannot export the cache to {place}")]
    CacheExport {
        /// Where to.
        place: String,
        /// Why.
        #[source]
        source: crate::image::Error,
    },
    /// There is no such Dockerfile.
    #[error("cannot find the Dockerfile {}", path.display())]
    DockerfileMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The ignore file holds a malformed pattern.
    #[error("{}: {message}", location)]
    Ignore {
        /// Its line.
        location: Location,
        /// What is wrong.
        message: String,
    },
    /// Something that this version cannot do.
    #[error("{}: {what} is not supported yet", mark.location)]
    Unsupported {
        /// Where it is asked for.
        mark: Box<Mark>,
        /// What it is.
        what: String,
    },
    /// Files cannot be copied.
    #[error("{}: cannot copy", mark.location)]
    Copy {
        /// The instruction.
        mark: Box<Mark>,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A URL of ADD cannot be fetched.
    #[error("{}: cannot fetch {url}", mark.location)]
    Fetch {
        /// The instruction.
        mark: Box<Mark>,
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: super::fetch::FetchError,
    },
    /// A git repository of ADD cannot be had.
    #[error("{}: cannot fetch {address}", mark.location)]
    Git {
        /// The instruction.
        mark: Box<Mark>,
        /// The repository.
        address: String,
        /// Why.
        #[source]
        source: super::git::GitError,
    },
    /// A user that the image does not have.
    #[error("{}: the user `{user}` is unknown in the image", mark.location)]
    User {
        /// The instruction.
        mark: Box<Mark>,
        /// As given.
        user: String,
        /// What the image says.
        #[source]
        source: crate::runtime::Error,
    },
    /// There is no SSH agent.
    #[error("{}: cannot make an SSH agent available", mark.location)]
    Agent {
        /// The instruction.
        mark: Box<Mark>,
        /// Why.
        #[source]
        source: super::agent::AgentError,
    },
    /// Build checks found something, and the Dockerfile says that this is an error.
    #[error("lint violation found for rules: {rules}")]
    Lint {
        /// Their names.
        rules: String,
    },
    /// A base image cannot be had.
    #[error("{}: cannot get the image {reference}", mark.location)]
    Image {
        /// Where it is named.
        mark: Box<Mark>,
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: crate::image::Error,
    },
    /// Images of several platforms could not be given their name.
    #[error(transparent)]
    Name(crate::image::Error),
    /// A command of RUN failed or could not be started.
    #[error("{}: the command of RUN failed", mark.location)]
    Run {
        /// The instruction.
        mark: Box<Mark>,
        /// How.
        #[source]
        source: Box<RunFailure>,
    },
    /// The runtime refused.
    #[error(transparent)]
    Runtime(crate::runtime::Error),
    /// The network refused.
    #[error(transparent)]
    Network(#[from] crate::net::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The wanted stage does not exist.
    #[error("the target stage `{target}` does not exist")]
    Target {
        /// What was asked for.
        target: String,
        /// The stage that was probably meant.
        near: Option<String>,
    },
    /// Text that is not a platform.
    #[error("`{platform}` is not a platform (os/arch[/variant])")]
    Platform {
        /// The text.
        platform: String,
    },
    /// An additional build context that cannot be used.
    #[error("the build context `{name}` cannot be used: {reason}")]
    Context {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fs::Error),
}

/// How a command of RUN failed.
#[derive(Debug, thiserror::Error)]
pub enum RunFailure {
    /// It never ran.
    #[error(transparent)]
    NotStarted(crate::runtime::Error),
    /// It ended with another code than 0.
    #[error("`{command}` ended with exit code {code}{}", shown(output))]
    Exit {
        /// The instruction.
        command: String,
        /// Its exit code; 128+n when killed by signal n.
        code: i32,
        /// The last lines of its output.
        output: Vec<String>,
    },
}

/// The last lines below the message.
fn shown(output: &[String]) -> String {
    if output.is_empty() {
        return ", without any output".to_owned();
    }
    output.iter().fold(", its last output:".to_owned(), |text, line| format!("{text}\n    {line}"))
}

/// A place in the Dockerfile together with its line, for the excerpt below the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Where the offending text begins.
    pub location: Location,
    /// Its length in characters.
    pub length: usize,
    /// The line of source.
    pub source: String,
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Syntax { hint, .. } | Self::Copy { hint, .. } => hint.clone(),
            Self::Image { source, .. } | Self::CacheExport { source, .. } => source.hint(),
            Self::Run { source, .. } => match source.as_ref() {
                RunFailure::NotStarted(error) => error.hint(),
                RunFailure::Exit { .. } => None,
            },
            Self::Runtime(error) => error.hint(),
            Self::Network(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::DockerfileMissing { .. } => {
                Some("name it with `--file`, or `build.dockerfile` in the compose file".into())
            }
            Self::Target { near: Some(near), .. } => Some(format!("did you mean {near}?")),
            Self::File(error) => error.hint(),
            _ => None,
        }
    }

    fn excerpts(&self) -> Vec<Excerpt> {
        match self {
            Self::Syntax { mark, .. }
            | Self::Unsupported { mark, .. }
            | Self::Copy { mark, .. }
            | Self::Fetch { mark, .. }
            | Self::Git { mark, .. }
            | Self::Agent { mark, .. }
            | Self::User { mark, .. }
            | Self::Run { mark, .. }
            | Self::Image { mark, .. } => vec![mark.excerpt(String::new())],
            _ => Vec::new(),
        }
    }

    fn exit_code(&self) -> u8 {
        1
    }
}

impl Mark {
    /// The excerpt with a label beside the caret.
    pub fn excerpt(&self, label: String) -> Excerpt {
        Excerpt { location: self.location.clone(), length: self.length, source: self.source.clone(), label }
    }
}
