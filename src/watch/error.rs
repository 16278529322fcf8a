use std::path::PathBuf;

use crate::base::error::Explain;
use crate::{build, graph};

/// Why watching cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to watch.
    #[error("no service has watch rules")]
    NoRules,
    /// The rules of a service are not what the loader promises.
    #[error("service `{service}`: the watch rules cannot be read")]
    Rules {
        /// The service.
        service: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// `rebuild` of a service that is not built.
    #[error("service `{service}` cannot be rebuilt: it has no `build`")]
    NoBuild {
        /// The service.
        service: String,
    },
    /// `sync+exec` without a command.
    #[error("service `{service}`: a watch rule with action sync+exec has no `exec.command`")]
    NoCommand {
        /// The service.
        service: String,
    },
    /// An `ignore` or `include` that is no pattern.
    #[error("the pattern `{pattern}` of a watch rule is malformed: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another process watches.
    #[error("project `{project}` is being watched already")]
    Watched {
        /// The project.
        project: String,
        /// The lock's file.
        lock: PathBuf,
    },
    /// The system refused what is needed to wait for events.
    #[error("cannot {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// An ignore file.
    #[error(transparent)]
    Build(#[from] build::Error),
    /// The services.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] crate::base::fs::Error),
}

impl Error {
    fn inner(&self) -> Option<&dyn Explain> {
        Some(match self {
            Self::Build(error) => error,
            Self::Graph(error) => error,
            Self::File(error) => error,
            _ => return None,
        })
    }
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        if let Some(inner) = self.inner() {
            return inner.hint();
        }
        match self {
            Self::NoRules => Some("give a service a `develop: watch:` section".into()),
            Self::NoBuild { .. } => Some("give it a `build`, or use another action".into()),
            Self::NoCommand { .. } => Some("say what to run: `exec: command:`".into()),
            Self::Watched { lock, .. } => Some(format!("end the other `watch`; it holds {}", lock.display())),
            _ => None,
        }
    }

    fn excerpts(&self) -> Vec<crate::base::error::Excerpt> {
        self.inner().map(Explain::excerpts).unwrap_or_default()
    }

    fn exit_code(&self) -> u8 {
        self.inner().map_or(1, Explain::exit_code)
    }
}
