//! The embedded runtime: starts a container's first process and further ones, under its limits and with its view.
//!
//! ```text
//! caller (supervisor, builder, exec)            child
//!   Cgroup::create
//!   prepare: open every source, mount the root
//!     detached, resolve the user, compile the
//!     seccomp filter, then clone3 ────────────►  join cgroup, namespaces, mounts, pivot_root
//!   sets up the network of net_namespace()       (in parallel)
//!   start ─────────────── "go" ───────────────►  sysctls, masks, capabilities, seccomp, execve
//!   ◄──────── end of file, or {step, errno}
//! ```
//!
//! Invariants
//! - Synchronous. The runtime starts no thread and keeps no global state.
//! - The child of a clone neither allocates nor locks: all that it needs is a [`plan`] made before, so a caller
//!   with threads (the builder) is safe too.
//! - Nothing below a container's root is ever opened by a plain path: `openat2(RESOLVE_IN_ROOT)`, see [`root`].
//! - Everything is made by handle: detached mounts that are attached onto verified targets.
//!
//! It knows no images, stores, networks or supervisors: it is given host paths. It does not write logs, wait for
//! health or restart anything.

pub mod apparmor;
pub mod binfmt;
pub mod bundle;
pub mod capability;
pub mod cgroup;
mod child;
mod defaults;
mod error;
mod exec;
mod handle;
mod ids;
mod init;
mod launch;
mod layers;
mod mounts;
mod own_program;
mod plan;
mod process;
mod propagation;
pub mod root;
mod running;
pub mod seccomp;
pub mod user;

use cgroup::Hierarchy;
pub use cgroup::{Cgroup, Stats};
pub use defaults::{MASKED, READ_ONLY, sysctls};
pub use error::Error;
pub use exec::{ExecTarget, exec};
pub use launch::{
    EtcFiles, Joins, Launch, NetNamespace, ResolvedMount, ResolvedSource, RootFs, Stdio, UpperLayer, prepare,
};
pub use layers::mount_layers;
pub use mounts::mount_file_system;
pub use process::is_limit;
pub use running::{ExitStatus, Prepared, Running, identify, identity_of, is_alive, namespace_of, send_signal};

#[cfg(test)]
mod tests;
