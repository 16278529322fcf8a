//! What can go wrong with a running container.

use std::io;

use crate::base::error::{Attribute, Explain};
use crate::base::id::ContainerId;
use crate::store;

/// An operation on a running container that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused something.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] crate::base::fs::Error),
    /// The runtime refused something.
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Error),
    /// The network refused something.
    #[error(transparent)]
    Network(#[from] crate::net::Error),
    /// A volume of a type that says nothing of what is to be mounted.
    #[error("volume `{volume}` is of type `{kind}` and does not say what to mount")]
    VolumeType {
        /// The volume.
        volume: String,
        /// Its `type` option.
        kind: String,
    },
    /// A system call on behalf of the container failed.
    #[error("cannot {operation} of container {id}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The container.
        id: ContainerId,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The supervisor could not start the container; told over its report pipe, with all causes.
    #[error("{message}")]
    Start {
        /// The container.
        id: ContainerId,
        /// The error.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// The attribute of the service that it is about.
        attribute: Option<Box<Attribute>>,
        /// 125, 126 or 127.
        exit_code: u8,
        /// The errors behind it, outermost first.
        #[source]
        source: Option<Box<Cause>>,
    },
    /// The supervisor ended without a report.
    #[error("the supervisor of container {id} ended before the container ran")]
    SupervisorLost {
        /// The container.
        id: ContainerId,
    },
    /// A process with several threads cannot fork safely.
    #[error("a process with {count} threads cannot start containers by itself")]
    Threads {
        /// How many there are.
        count: usize,
    },
    /// The launcher process, or a supervisor, cannot be made.
    #[error("cannot fork")]
    Launcher {
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The launcher process is gone.
    #[error("the launcher process ended")]
    LauncherLost,
    /// It runs already.
    #[error("container {id} is running already")]
    AlreadyRunning {
        /// The container.
        id: ContainerId,
    },
    /// It does not run.
    #[error("container {id} is not running")]
    NotRunning {
        /// The container.
        id: ContainerId,
    },
    /// It is frozen.
    #[error("container {id} is paused")]
    Paused {
        /// The container.
        id: ContainerId,
    },
    /// It is not frozen.
    #[error("container {id} is not paused")]
    NotPaused {
        /// The container.
        id: ContainerId,
    },
    /// It ended while something else was waited for.
    #[error("container {id} exited with code {code}")]
    Exited {
        /// The container.
        id: ContainerId,
        /// Its exit code.
        code: i32,
    },
    /// Its probes failed while it was waited for.
    #[error("container {id} is unhealthy")]
    Unhealthy {
        /// The container.
        id: ContainerId,
        /// The output of the last probe.
        output: String,
    },
    /// It has no health check to wait for.
    #[error("container {id} has no health check")]
    NoHealthcheck {
        /// The container.
        id: ContainerId,
    },
    /// What was waited for did not happen in time.
    #[error("container {id} did not get there in time")]
    Deadline {
        /// The container.
        id: ContainerId,
    },
}

/// An error that came from another process: its text and what was behind it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Cause {
    message: String,
    #[source]
    source: Option<Box<Cause>>,
}

impl Cause {
    /// Builds the chain from its texts, outermost first.
    pub(super) fn chain(messages: Vec<String>) -> Option<Box<Self>> {
        messages.into_iter().rev().fold(None, |source, message| Some(Box::new(Self { message, source })))
    }
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Runtime(error) => error.hint(),
            Self::Network(error) => error.hint(),
            Self::VolumeType { .. } => Some("set `o: bind` beside it".into()),
            Self::Start { hint, .. } => hint.clone(),
            Self::Paused { .. } => Some("let it go on first (`wharf unpause`)".into()),
            Self::NoHealthcheck { .. } => {
                Some("add a `healthcheck`, or wait for `service_started` instead of `service_healthy`".into())
            }
            Self::Unhealthy { output, .. } if !output.is_empty() => Some(format!("the probe said: {}", output.trim())),
            _ => None,
        }
    }

    fn attribute(&self) -> Option<Attribute> {
        match self {
            Self::Runtime(error) => error.attribute(),
            Self::Network(error) => error.attribute(),
            Self::Start { attribute, .. } => attribute.as_deref().cloned(),
            Self::VolumeType { volume, .. } => Some(Attribute::new(&["volumes"], volume)),
            _ => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Start { exit_code, .. } => *exit_code,
            Self::Runtime(error) => error.exit_code(),
            _ => 125,
        }
    }
}
