//! What can go wrong with a container of a bundle.

use std::io;
use std::path::PathBuf;

use super::Status;
use crate::base::error::Explain;
use crate::base::fs;
use crate::runtime::{self, bundle};

/// An error of the front end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the name of a container.
    #[error("`{id}` is not a container id: letters, digits and `_+-.` are allowed")]
    Id {
        /// As typed.
        id: String,
    },
    /// The name is taken.
    #[error("a container with the id `{id}` exists already")]
    Exists {
        /// Its name.
        id: String,
    },
    /// There is no such container.
    #[error("container `{id}` does not exist")]
    Missing {
        /// Its name.
        id: String,
    },
    /// The container is not in a state in which this can be done.
    #[error("cannot {verb} container `{id}`: it is {status}")]
    Status {
        /// `start`, `kill`.
        verb: &'static str,
        /// Its name.
        id: String,
        /// What it is.
        status: Status,
    },
    /// Not a signal.
    #[error("`{name}` is not a signal")]
    Signal {
        /// As typed.
        name: String,
    },
    /// A terminal without anybody to hand it to, or the reverse.
    #[error("{problem}")]
    Console {
        /// What is wrong.
        problem: &'static str,
    },
    /// The master of a terminal could not be handed over.
    #[error("cannot hand the terminal over to the socket {}", path.display())]
    ConsoleSocket {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A descriptor that the program should inherit is not open.
    #[error("descriptor {number} is to be preserved and is not open")]
    Preserved {
        /// Its number.
        number: i32,
    },
    /// A hook failed.
    #[error("the {moment} hook {} {problem}", path.display())]
    Hook {
        /// `createRuntime`.
        moment: &'static str,
        /// Its program.
        path: PathBuf,
        /// What it did.
        problem: String,
    },
    /// The bundle cannot be made a container.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The runtime's own.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] fs::Error),
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle(error) => error.hint(),
            Self::Runtime(error) => error.hint(),
            Self::Status { verb: "delete", .. } => Some("`--force` kills it before".into()),
            _ => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Bundle(error) => error.exit_code(),
            Self::Runtime(error) => error.exit_code(),
            _ => 1,
        }
    }
}
