//! The namespaces of other containers that one joins.

use std::os::fd::OwnedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::keeper::Kept;
use super::{Error, Result};
use crate::base::fs::{self, Durability};
use crate::base::id::ContainerId;
use crate::model::container::{ContainerSpec, NamespaceMode, ProcessIdentity, UserNamespaceMode};
use crate::runtime::{self, Joins};
use crate::store::Store;

/// What a supervisor leaves in the run folder for others and for its successor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    /// The supervisor.
    pub(super) supervisor: ProcessIdentity,
    /// Number of its descriptor of the container's network namespace.
    pub(super) namespace: Option<i32>,
    /// Port of the name server inside.
    pub(super) dns_port: Option<u16>,
    /// Who keeps the container's terminal or input open.
    pub(super) kept: Option<Kept>,
}

impl Card {
    /// Writes it down.
    pub(super) fn write(&self, run_folder: &Path) -> fs::Result<()> {
        let content = serde_json::to_vec(self).unwrap_or_default();
        fs::write_atomic(&run_folder.join("supervisor.json"), &content, Durability::Volatile)
    }

    /// The card of the last supervisor.
    pub(super) fn read(run_folder: &Path) -> Option<Self> {
        let content = fs::read_optional(&run_folder.join("supervisor.json")).ok()??;
        serde_json::from_slice(&content).ok()
    }
}

/// The network namespace of a container: its process's, else the one that its supervisor keeps between two runs.
pub(super) fn network_of(store: &Store, id: &ContainerId) -> Result<OwnedFd> {
    let state = store.containers().state(id)?;
    if let Some(identity) = state.process
        && let Some(namespace) = of_process(identity, "net")
    {
        return Ok(namespace);
    }
    let not_running = || Error::NotRunning { id: id.clone() };
    let card = Card::read(&store.containers().run_folder(id)).ok_or_else(not_running)?;
    let number = card.namespace.ok_or_else(not_running)?;
    let supervisor = runtime::identify(card.supervisor).ok_or_else(not_running)?;
    rustix::process::pidfd_getfd(&supervisor, number, rustix::process::PidfdGetfdFlags::empty())
        .map_err(|_| not_running())
}

/// The namespaces of other containers that `spec` asks for.
pub(super) fn joins(store: &Store, spec: &ContainerSpec) -> Result<Joins> {
    let process = |mode: &NamespaceMode| match mode {
        NamespaceMode::Private | NamespaceMode::Host => Ok(None),
        NamespaceMode::Container(id) => {
            let process = store.containers().state(id)?.process;
            process.map(Some).ok_or_else(|| Error::NotRunning { id: id.clone() })
        }
    };
    let security = &spec.security;
    let user = match &security.user {
        UserNamespaceMode::Container(id) => process(&NamespaceMode::Container(id.clone()))?,
        UserNamespaceMode::Host | UserNamespaceMode::Auto { .. } => None,
    };
    Ok(Joins { pid: process(&security.pid)?, ipc: process(&security.ipc)?, uts: process(&security.uts)?, user })
}

/// A namespace of a process; `None` when the process is gone.
pub(super) fn of_process(identity: ProcessIdentity, kind: &str) -> Option<OwnedFd> {
    runtime::namespace_of(identity, kind).ok()
}
