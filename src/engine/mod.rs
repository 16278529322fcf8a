//! Verbs on containers, images, networks and volumes, one file each, and the carrying out of plans.
//!
//! ```text
//! cli ──► up / down …  ──► observe ──► graph::plan ──► execute ──┐
//!     ──► run (image)  ──► request ──► create ──► start          ├──► store, net, supervise, image, build
//!     ──► exec, top, remove …  ──────────────────────────────────┘
//! ```
//!
//! There is one way to a container: a [`request::Request`] (from a service by [`service`], or from flags)
//! and an image make a `ContainerSpec` ([`create`]); starting, stopping and healing are the supervisor's.
//!
//! Nothing here prints: progress goes to a `Progress`, errors are returned.

pub mod archive;
mod build_request;
pub mod cdi;
mod change;
mod check;
pub mod commit;
mod contexts;
pub mod create;
pub mod diff;
pub mod disk_usage;
pub mod down;
mod error;
pub mod exec;
pub mod execute;
pub mod files;
mod hooks;
pub mod images;
pub mod network;
pub mod observe;
pub mod one_off;
mod owners;
mod place;
pub mod processes;
mod provider;
mod readiness;
pub mod remove;
pub mod request;
mod rolling;
pub mod service;
pub mod signal;
pub mod start;
pub mod stats;
pub mod sync;
pub mod up;
pub mod users;
pub mod volume;

use std::sync::atomic::AtomicBool;

use crate::base::paths::Paths;
use crate::store::Store;
use crate::supervise::{self, Launcher};

pub use error::Error;

/// Result of a verb.
pub type Result<T> = std::result::Result<T, Error>;

/// Set by Ctrl-C: nothing new is begun, waits end.
pub type Cancelled = AtomicBool;

/// The store, and the means to start containers.
#[derive(Debug)]
pub struct Engine {
    store: Store,
    launcher: Option<Launcher>,
    /// How many things are done at once; `None` is no limit.
    parallel: Option<usize>,
}

impl Engine {
    /// Opens the store and heals what a killed process left.
    ///
    /// Containers are started by forking this process, which must keep to one thread until then: for `run`,
    /// `exec`, `ps` and the like.
    pub fn open(paths: &Paths) -> Result<Self> {
        let store = Store::open(paths)?;
        supervise::heal(&store)?;
        Ok(Self { store, launcher: None, parallel: None })
    }

    /// Like [`Engine::open`], for verbs that work with several threads (`up`, `start`, `restart`): containers are
    /// started by a launcher process that is made here, while there is one thread.
    pub fn open_with_launcher(paths: &Paths) -> Result<Self> {
        let launcher = Launcher::spawn()?;
        let store = Store::open(paths)?;
        supervise::heal(&store)?;
        Ok(Self { store, launcher: Some(launcher), parallel: None })
    }

    /// The same, doing no more than `parallel` things at once (`--parallel`); waits are not counted.
    pub fn limited(self, parallel: Option<usize>) -> Self {
        Self { parallel, ..self }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
