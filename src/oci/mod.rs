//! Containers from OCI bundles, for those who drive a runtime themselves: Podman, containerd, validation suites.
//!
//! ```text
//! create   control group, process (waits at a named pipe), hooks        state "created"
//! start    hooks, a byte into that pipe                                 state "running"
//! kill, exec, pause, resume, state, list
//! delete   control group, folder, hooks
//! ```
//! A container's folder below the runtime's root:
//!
//! ```text
//! ROOT/ID/state.json    what it is and how to find it; written before anything is made, so that all can be removed
//!         config.json   the bundle's, as it was at creation
//!         go            named pipe: exists until the container is started
//!         report        named pipe: what the process has to say
//! ```
//! No process stays: whoever called is the parent's heir. Streams are the caller's. Nothing here knows the store, images
//! or networks of our own containers.
//!
//! Source: <https://github.com/opencontainers/runtime-spec/blob/v1.2.1/runtime.md>; the grammar is runc's.

mod create;
mod end;
mod error;
mod exec;
mod features;
mod hooks;
mod state;

use std::path::{Path, PathBuf};

pub use create::{Console, Create};
pub use error::Error;
pub use exec::Exec;
pub use features::features;
pub use state::{Container, State, Status};

/// Version of the specification that is carried out.
pub const VERSION: &str = "1.2.1";
/// Where containers are kept when nobody says otherwise.
pub const ROOT: &str = "/run/wharf-oci";

/// A runtime with its containers.
#[derive(Debug)]
pub struct Runtime {
    root: PathBuf,
    /// Of hooks whose failure changes nothing.
    warnings: std::cell::RefCell<Vec<Error>>,
}

impl Runtime {
    /// The runtime whose containers lie in `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), warnings: std::cell::RefCell::default() }
    }

    /// What went wrong without an effect on what was asked for, since the last call.
    pub fn warnings(&self) -> Vec<Error> {
        self.warnings.take()
    }

    fn warn(&self, outcome: Result<(), Error>) {
        self.warnings.borrow_mut().extend(outcome.err());
    }

    /// The folder of a container. Errors: a name that is none.
    fn folder(&self, id: &str) -> Result<PathBuf, Error> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
        if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.bytes().all(is_plain) {
            return Err(Error::Id { id: id.to_owned() });
        }
        Ok(self.root.join(id))
    }

    /// Finds a container.
    pub fn find(&self, id: &str) -> Result<Container, Error> {
        Container::read(self.folder(id)?, id)
    }

    /// All containers, by name.
    pub fn list(&self) -> Vec<Container> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        // One that goes away meanwhile is none.
        names.iter().filter_map(|name| self.find(name).ok()).collect()
    }
}
