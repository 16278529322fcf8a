//! The start of a container, seen from both sides of the fork.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::attach::AttachStream;
use super::clients::{self, Kind};
use super::report::{self, Report};
use super::supervisor::{self, Supervisor};
use super::{AttachMode, Error, Result, StartOptions, Started, detach, last_words};
use crate::base::error::Explain;
use crate::base::id::ContainerId;
use crate::base::paths::Paths;
use crate::model::container::{ContainerState, Status};
use crate::store::{Lock, Store, Wish};
use crate::sys::daemon;

/// What a supervisor is made for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    root: PathBuf,
    run: PathBuf,
    pub(super) id: ContainerId,
    pub(super) attach: AttachMode,
    pub(super) size: Option<(u16, u16)>,
}

impl Request {
    pub(super) fn new(store: &Store, id: &ContainerId, options: StartOptions) -> Self {
        let (attach, size) = (options.attach, options.size);
        let Paths { root, run } = store.paths().clone();
        Self { root, run, id: id.clone(), attach, size }
    }

    fn paths(&self) -> Paths {
        Paths::new(&self.root, &self.run)
    }
}

/// The connections between a start's caller and the supervisor.
pub(super) struct Connections {
    report: OwnedFd,
    attach: Option<OwnedFd>,
}

impl Connections {
    /// The caller's ends and the supervisor's.
    pub(super) fn pair(id: &ContainerId, mode: AttachMode) -> Result<(Self, Self)> {
        let failed = |errno: rustix::io::Errno| Error::System {
            operation: "connect to the supervisor",
            id: id.clone(),
            source: errno.into(),
        };
        let (report, their_report) = clients::pair().map_err(failed)?;
        let attach = match mode {
            AttachMode::None => None,
            AttachMode::Droppable | AttachMode::Blocking => Some(clients::pair().map_err(failed)?),
        };
        let (attach, their_attach) = attach.unzip();
        Ok((Self { report, attach }, Self { report: their_report, attach: their_attach }))
    }

    /// The ends that came over a socket: the report, then the attachment.
    pub(super) fn received(mut fds: Vec<OwnedFd>) -> Option<Self> {
        let attach = (fds.len() == 2).then(|| fds.pop()).flatten();
        let report = fds.pop()?;
        fds.is_empty().then_some(Self { report, attach })
    }

    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        [Some(&self.report), self.attach.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect()
    }

    /// Waits until the supervisor says how it went.
    pub(super) fn wait(self, id: &ContainerId) -> Result<Started> {
        let (identity, ports) = Report::receive(&self.report, id)?;
        Ok(Started { identity, attach: self.attach.map(AttachStream::new), ports })
    }
}

/// See [`super::start`].
pub(super) fn start(store: &Store, id: &ContainerId, options: StartOptions) -> Result<Started> {
    single_thread()?;
    let (ours, theirs) = Connections::pair(id, options.attach)?;
    spawn(Request::new(store, id, options), theirs)?;
    ours.wait(id)
}

/// Refuses a process that cannot fork safely.
pub(super) fn single_thread() -> Result<()> {
    match daemon::thread_count() {
        Ok(1) => Ok(()),
        Ok(count) => Err(Error::Threads { count }),
        Err(source) => Err(Error::Launcher { source }),
    }
}

/// Forks the supervisor; returns at once.
pub(super) fn spawn(request: Request, connections: Connections) -> Result<()> {
    let keep: Vec<std::os::fd::RawFd> = connections.fds().iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
    let id = request.id.clone();
    let group = request.paths().instance();
    detach::spawn(&keep, &group, move || supervise(request, connections)).map_err(|source| Error::System {
        operation: "fork the supervisor",
        id,
        source,
    })
}

/// The life of a supervisor; returns its exit code.
fn supervise(request: Request, connections: Connections) -> i32 {
    let Connections { report, attach } = connections;
    let store = match Store::open(&request.paths()) {
        Ok(store) => store,
        Err(error) => {
            Report::of_error(&error.into()).send(&report);
            return 1;
        }
    };
    last_words::on_panic(store.containers().run_folder(&request.id));
    match begin(&store, &request, attach) {
        Ok(supervisor) => {
            if let Some(run) = &supervisor.run {
                let ports = supervisor.network.ports.clone();
                Report::Started { identity: run.process.identity, ports }.send(&report);
            }
            drop(report);
            supervisor.work()
        }
        Err(Error::AlreadyRunning { .. }) => {
            Report::AlreadyRunning.send(&report);
            1
        }
        Err(error) => {
            Report::of_error(&error).send(&report);
            // Only now: the caller holds the container's lock while it waits for the report.
            if let Ok(spec) = store.containers().spec(&request.id)
                && spec.auto_remove
            {
                drop(super::remove(&store, &spec));
            }
            1
        }
    }
}

fn begin(store: &Store, request: &Request, attach: Option<OwnedFd>) -> Result<Supervisor> {
    let containers = store.containers();
    let id = &request.id;
    let lock = take_lock(store, id)?;
    let spec = containers.spec(id)?;
    let state = containers.state(id)?;
    containers.set_wish(id, Wish::Running)?;
    let mut supervisor = Supervisor::new(store.clone(), spec, state, lock)?;
    supervisor.state.restart_count = 0;
    supervisor.exec_at = Some(Instant::now());
    if let Some(socket) = attach {
        let kind = if request.attach == AttachMode::Blocking { Kind::Blocking } else { Kind::Droppable };
        supervisor.add_first_client(socket, kind);
    }
    supervisor.size = request.size;
    let before = supervisor.state.clone();
    match supervisor.begin() {
        Ok(()) => {
            // One that never ran has nobody in its network.
            if before.started_at.is_some() && supervisor::has_own_network(&supervisor.spec) {
                supervisor.tell_sharers();
            }
            Ok(supervisor)
        }
        Err(error) => {
            supervisor.state = before;
            failed(&mut supervisor, &error);
            Err(error)
        }
    }
}

/// Takes the supervisor's lock: at once, or as soon as one that has nothing left to do but to give it back did so.
///
/// A supervisor whose command was killed may be starting the container at this moment: then it runs soon, or the
/// lock becomes free. That is the one case in which neither is true yet; it lasts some milliseconds and is looked
/// at again and again, since it has no event of its own.
fn take_lock(store: &Store, id: &ContainerId) -> Result<Lock> {
    const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(2);
    /// For the supervisor of a process that has just died to say so.
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
    let begun = Instant::now();
    let containers = store.containers();
    let already = || Error::AlreadyRunning { id: id.clone() };
    let lock = loop {
        match containers.supervisor_lock(id)? {
            Some(lock) => break lock,
            None => {
                let state = containers.state(id)?;
                let lives = state.process.is_none_or(crate::runtime::is_alive) || begun.elapsed() > PATIENCE;
                if is_active(&state) && lives {
                    return Err(already());
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
    };
    if !containers.exists(id) {
        // Removed after its command was killed: the lock's file is all that there is.
        drop(crate::base::fs::remove_dir_all(&containers.run_folder(id)));
    }
    let state = containers.state(id)?;
    // Its supervisor died and it lives: `heal` is what it needs.
    if is_active(&state) && state.process.is_some_and(crate::runtime::is_alive) {
        return Err(already());
    }
    Ok(lock)
}

/// Whether a container runs or is about to run again by its policy.
pub(super) fn is_active(state: &ContainerState) -> bool {
    matches!(state.status, Status::Running | Status::Paused | Status::Restarting)
}

/// Writes down why a container did not start.
fn failed(supervisor: &mut Supervisor, error: &Error) {
    supervisor.run = None;
    drop(supervisor.network.disconnect(&supervisor.store, &supervisor.spec));
    let status = if supervisor.state.started_at.is_some() { Status::Exited } else { Status::Created };
    supervisor.state = ContainerState {
        status,
        process: None,
        exit_code: i32::from(error.exit_code()),
        error: Some(report::messages(error).join(": ")),
        health: None,
        ports: Vec::new(),
        addresses: Vec::new(),
        ..supervisor.state.clone()
    };
    // The error goes to the caller anyway.
    drop(supervisor.save());
    supervisor::clear_run_folder(&supervisor.store, supervisor.id());
}
