//! The process that stays with a container.
//!
//! ```text
//! command line ──fork──> supervisor ──clone──> container's first process
//!      │  start(): waits for the report   │ poll loop: FIFOs or pty -> log + attached clients
//!      └──────────<─report─────────────┤            pidfd -> exit, restart by policy
//!                                        └ re-exec    timers -> health probes; DNS sockets
//! ```
//!
//! One supervisor a container: single thread, one poll loop, no async runtime. It is the container's parent and
//! owner of its output, log, health, restarts and name server. Its life is the container's *supervisor lock*, which
//! the kernel frees on kill -9; the container's stdio are FIFOs in the run folder that outlive it. Everything a
//! command wants to know stands in the store, so only [`attach`] talks to it. Killed, it takes with it at most the
//! output that it had read and not yet written to the log.
//!
//! Invariants: nothing here waits by polling; a client that reads slowly never stops the container unless it asked
//! for that ([`AttachMode::Blocking`]); state is written before those who wait are told.
//!
//! Not here: what a container may do (`runtime`), interfaces and rules (`net`), records and locks (`store`).

mod attach;
mod clients;
mod control;
mod detach;
pub mod dns;
mod error;
mod followers;
mod frame;
mod handover;
mod heal;
mod health;
mod keeper;
mod last_words;
mod launch;
mod launcher;
mod namespace;
mod network;
mod report;
mod restart;
mod run;
mod sessions;
mod start;
mod stdio;
mod supervisor;
mod volume;
mod wait;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use attach::AttachStream;
pub use detach::allow_open_files;
pub use error::Error;
pub use frame::Frame;
pub use heal::EXIT_CODE_UNKNOWN;
pub use launcher::Launcher;

use crate::base::id::ContainerId;
use crate::model::container::{ContainerSpec, ContainerState, MountSource, ProcessIdentity, PublishedPort};
use crate::store::Store;

/// Result of an operation on a running container.
pub type Result<T> = std::result::Result<T, Error>;

/// The file of a container's log, for [`crate::log::read`].
pub fn log_path(store: &Store, id: &ContainerId) -> PathBuf {
    store.containers().logs_folder(id).join("log.json")
}

/// Does what this process was executed for when that is a supervisor's role, and returns its exit code; `None` when
/// it is a command. To be called first of all in `main`, before any thread exists.
pub fn take_role(arguments: &[std::ffi::OsString]) -> Option<i32> {
    heal::role(arguments)
}

/// How [`start`] connects its caller to the container's stdio.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum AttachMode {
    /// Not at all.
    #[default]
    None,
    /// From the first byte on; a caller that falls more than a megabyte behind is dropped (it can go on with the log).
    Droppable,
    /// From the first byte on and without loss: output that the caller does not read blocks the container, as a pipe
    /// would. For `run` in the foreground.
    Blocking,
}

/// How to start a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct StartOptions {
    /// Whether the caller sees its output and may write its input.
    pub attach: AttachMode,
    /// First size of its terminal (rows, columns).
    pub size: Option<(u16, u16)>,
}

/// A container that runs.
#[derive(Debug)]
pub struct Started {
    /// Its first process.
    pub identity: ProcessIdentity,
    /// The caller's end, where it asked for one.
    pub attach: Option<AttachStream>,
    /// Its published ports with the host ports that were chosen.
    pub ports: Vec<PublishedPort>,
}

/// What [`wait_until`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Its process runs.
    Running,
    /// Its probes say that it works. A container without a health check never gets there: see [`Error::NoHealthcheck`].
    Healthy,
    /// It ended and will not be started again by its policy.
    Exited,
    /// The run that began after so many restarts ended, whatever comes after it.
    RunEnded {
        /// As the state counts them.
        restarts: u32,
    },
}

/// Starts a container and returns once its process runs; its supervisor stays.
///
/// The caller must have one thread only ([`Error::Threads`]); with more, use a [`Launcher`] made earlier. The caller
/// holds the container's lock. Starting one that runs is an error ([`Error::AlreadyRunning`]).
/// Errors: what the runtime or the network refused; then nothing is left behind and the state says `error`.
pub fn start(store: &Store, id: &ContainerId, options: StartOptions) -> Result<Started> {
    start::start(store, id, options)
}

/// Stops a container: its stop signal, then SIGKILL after `timeout` (default: the container's own). Returns its exit
/// code; 0 changes when it does not run.
///
/// The wish *stopped* is written first, so no policy starts it again. A first process that neither handles nor
/// blocks the signal cannot react to it and is killed at once.
pub fn stop(store: &Store, id: &ContainerId, timeout: Option<Duration>) -> Result<i32> {
    control::stop(store, id, timeout, None)
}

/// The same with `signal` instead of the container's own.
pub fn stop_with(store: &Store, id: &ContainerId, timeout: Option<Duration>, signal: Option<i32>) -> Result<i32> {
    control::stop(store, id, timeout, signal)
}

/// Sends a signal to a container's first process. SIGKILL also reaches a paused one and, as Docker has it, counts
/// as a wish to stop.
pub fn kill(store: &Store, id: &ContainerId, signal: i32) -> Result<()> {
    control::kill(store, id, signal)
}

/// Freezes a container's processes.
pub fn pause(store: &Store, id: &ContainerId) -> Result<()> {
    control::freeze(store, id, true)
}

/// Lets a frozen container go on.
pub fn unpause(store: &Store, id: &ContainerId) -> Result<()> {
    control::freeze(store, id, false)
}

/// Has a running container follow its spec, which was replaced: limits, restart policy, networks, name. Nothing
/// happens to one that does not run. On error it is as it was.
pub fn reload(store: &Store, id: &ContainerId) -> Result<()> {
    control::reload(store, id)
}

/// Waits until a container has ended for good and returns its exit code; at once when it does not run.
pub fn wait(store: &Store, id: &ContainerId) -> Result<i32> {
    wait_until(store, id, Condition::Exited, None).map(|state| state.exit_code)
}

/// Waits until `condition` holds and returns the state in which it did.
///
/// Errors: `Exited` and `Unhealthy` at once when the condition can no longer come true; `NoHealthcheck`; `Deadline`.
pub fn wait_until(
    store: &Store,
    id: &ContainerId,
    condition: Condition,
    deadline: Option<Instant>,
) -> Result<ContainerState> {
    wait::wait_until(store, id, condition, deadline)
}

/// The layers of a container with its own on top, for those who look at its files while it does not run.
pub fn root_fs(store: &Store, spec: &ContainerSpec) -> crate::runtime::RootFs {
    launch::root_fs(store, spec)
}

/// Connects to a running container's stdio, from now on.
pub fn attach(store: &Store, id: &ContainerId) -> Result<AttachStream> {
    heal::one(store, id)?;
    let connection = control::observe(store, id).map_err(|_| Error::NotRunning { id: id.clone() })?;
    let failed = |source| Error::System { operation: "attach to the output", id: id.clone(), source };
    connection.send(&Frame::Attach).map_err(failed)?;
    Ok(connection)
}

/// Gives containers whose supervisor died a new one, or finishes them when they are gone. Cheap when all is well;
/// every command calls it before it looks.
pub fn heal(store: &Store) -> Result<()> {
    heal::all(store)
}

/// Removes a container that does not run, with whatever a supervisor that was killed in its start left. `false` when
/// it runs, starts or is just ending.
pub fn discard(store: &Store, id: &ContainerId) -> Result<bool> {
    heal::discard(store, id)
}

/// Why the last supervisor of a container ended before its time, as far as it could say.
pub fn last_words(store: &Store, id: &ContainerId) -> Option<String> {
    last_words::read(&store.containers().run_folder(id))
}

/// Whether nothing of a container runs, whatever its record could still be made to say.
pub fn has_ended(store: &Store, id: &ContainerId) -> Result<bool> {
    heal::has_ended(store, id)
}

/// After a reboot: starts what the restart policies want. Goes on after a failure and returns all of them.
pub fn boot(store: &Store) -> Vec<(ContainerId, Error)> {
    heal::boot(store)
}

/// Removes a container that removes itself, with the anonymous volumes that nobody else uses. Nothing happens when it
/// was started again meanwhile.
fn remove(store: &Store, spec: &ContainerSpec) -> Result<()> {
    let containers = store.containers();
    let lock = containers.lock(&spec.id)?;
    if start::is_active(&containers.state(&spec.id)?) || containers.supervisor_alive(&spec.id)? {
        return Ok(());
    }
    containers.remove(&spec.id)?;
    lock.release();
    for mount in &spec.mounts {
        if let MountSource::Volume { name, anonymous: true, .. } = &mount.source {
            let _lock = store.volumes().lock(name)?;
            if store.volumes().containers_using(name)?.is_empty() {
                store.volumes().remove(name)?;
            }
        }
    }
    Ok(())
}
