//! Waits for a container's state, woken by what changes it.
//!
//! Three things wake a waiter: the state file is replaced (inotify), the supervisor says how it ended (a container
//! that removes itself has no file left to say it), the process ends (a supervisor that died writes nothing: then
//! the waiter calls for a successor).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::start::is_active;
use super::{AttachStream, Condition, Error, Frame, Result, control, heal};
use crate::base::folder_watch::{Changes, FolderWatch};
use crate::base::id::ContainerId;
use crate::model::container::{ContainerState, HealthStatus, ProcessIdentity, Status};
use crate::runtime;
use crate::store::Store;

/// Successors that go without having changed anything, until the end of a container counts as one that cannot be
/// written down.
const HEALS_MAX: u32 = 3;
/// Waits until a container has ended for good; its exit code.
pub(super) fn wait_exited(store: &Store, id: &ContainerId) -> Result<i32> {
    wait_until(store, id, Condition::Exited, None).map(|state| state.exit_code)
}

/// See [`super::wait_until`].
pub(super) fn wait_until(
    store: &Store,
    id: &ContainerId,
    condition: Condition,
    deadline: Option<Instant>,
) -> Result<ContainerState> {
    let watch = watch(store, id)?;
    let mut waiter = Waiter { store, id, watch, observer: None, process: None, last: None, told: None, heals: 0 };
    if condition == Condition::Healthy && store.containers().spec(id)?.healthcheck.is_none() {
        return Err(Error::NoHealthcheck { id: id.clone() });
    }
    loop {
        let state = match store.containers().state(id) {
            Ok(state) => state,
            Err(error) if error.is_not_found() => match waiter.after_removal() {
                Some(state) => return judge(id, &state, condition).unwrap_or(Ok(state)),
                None => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        if let Some(result) = judge(id, &state, condition) {
            return result;
        }
        if waiter.told.is_some() && is_active(&state) {
            // Told after it was written down, if it could be.
            let ended = waiter.unrecorded_end(state);
            return judge(id, &ended, condition).unwrap_or(Ok(ended));
        }
        waiter.follow(&state, condition)?;
        if waiter.heals >= HEALS_MAX {
            let ended = waiter.unrecorded_end(state);
            return judge(id, &ended, condition).unwrap_or(Ok(ended));
        }
        waiter.last = Some(state);
        if waiter.heals > 0 {
            // The successor lives, or has changed the state; neither would wake us any more.
            continue;
        }
        if !waiter.sleep(deadline)? {
            return Err(Error::Deadline { id: id.clone() });
        }
    }
}

/// What a state means for a wish; `None`: not decided yet.
fn judge(id: &ContainerId, state: &ContainerState, condition: Condition) -> Option<Result<ContainerState>> {
    let id = || id.clone();
    let exited = || Some(Err(Error::Exited { id: id(), code: state.exit_code }));
    match (condition, state.status) {
        (Condition::Running, Status::Running | Status::Paused) => Some(Ok(state.clone())),
        (Condition::Exited, Status::Exited | Status::Dead | Status::Created) => Some(Ok(state.clone())),
        (Condition::RunEnded { .. }, Status::Exited | Status::Dead | Status::Restarting) => Some(Ok(state.clone())),
        (Condition::RunEnded { restarts }, _) if state.restart_count != restarts => Some(Ok(state.clone())),
        (Condition::Running | Condition::Healthy, Status::Exited | Status::Dead) => exited(),
        (Condition::Healthy, Status::Running) => match state.health.as_ref()?.status {
            HealthStatus::Healthy => Some(Ok(state.clone())),
            HealthStatus::Unhealthy => {
                let output = state.health.as_ref()?.log.last().map(|result| result.output.clone());
                Some(Err(Error::Unhealthy { id: id(), output: output.unwrap_or_default() }))
            }
            HealthStatus::Starting => None,
        },
        _ => None,
    }
}

struct Waiter<'a> {
    store: &'a Store,
    id: &'a ContainerId,
    watch: FolderWatch,
    observer: Option<AttachStream>,
    process: Option<(ProcessIdentity, Option<OwnedFd>)>,
    last: Option<ContainerState>,
    /// The exit code that a supervisor told.
    told: Option<i32>,
    /// How often a successor was called for in vain.
    heals: u32,
}

impl Waiter<'_> {
    /// Makes sure that somebody will change the state, and that the change is seen.
    fn follow(&mut self, state: &ContainerState, condition: Condition) -> Result<()> {
        if is_active(state) && !self.store.containers().supervisor_alive(self.id)? {
            heal::one(self.store, self.id)?;
            self.heals += 1;
        } else {
            self.heals = 0;
        }
        if condition == Condition::Exited && self.observer.is_none() {
            // Not there: it just ended, or is about to be replaced; both change the state.
            self.observer = control::observe(self.store, self.id).ok();
        }
        if let Some(identity) = state.process
            && self.process.as_ref().is_none_or(|(known, _)| *known != identity)
        {
            self.process = Some((identity, runtime::identify(identity)));
        }
        Ok(())
    }

    /// Waits for a change; `false` when the deadline is over.
    fn sleep(&mut self, deadline: Option<Instant>) -> Result<bool> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let process = self.process.as_ref().and_then(|(_, pidfd)| pidfd.as_ref());
        let sources: Vec<BorrowedFd<'_>> =
            [Some(self.watch.as_fd()), self.observer.as_ref().map(AsFd::as_fd), process.map(AsFd::as_fd)]
                .into_iter()
                .flatten()
                .collect();
        let mut fds: Vec<PollFd<'_>> = sources.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                return Err(Error::System {
                    operation: "wait for the state",
                    id: self.id.clone(),
                    source: errno.into(),
                });
            }
        }
        self.digest();
        Ok(true)
    }

    /// Empties what woke us, so that it does not wake us again.
    fn digest(&mut self) {
        self.watch.drain();
        while let Some(observer) = &self.observer {
            match observer.try_receive() {
                Ok(Some(Frame::Exit(code))) => {
                    self.told = Some(code);
                    if let Some(last) = &mut self.last {
                        (last.status, last.exit_code, last.process) = (Status::Exited, code, None);
                    }
                    self.observer = None;
                }
                Ok(Some(_)) => {}
                Ok(None) => self.observer = None,
                Err(_) => break,
            }
        }
        if let Some((_, pidfd)) = &mut self.process
            && pidfd.as_ref().is_some_and(has_ended)
        {
            *pidfd = None;
        }
    }

    /// The state of a container that ended, and whose end nobody can write down: the disk is full.
    fn unrecorded_end(&self, state: ContainerState) -> ContainerState {
        let exit_code = self.told.unwrap_or(heal::EXIT_CODE_UNKNOWN);
        ContainerState { status: Status::Exited, exit_code, process: None, ..state }
    }

    /// The last state of a container that was removed, if its supervisor told how it ended.
    fn after_removal(&mut self) -> Option<ContainerState> {
        // The removal comes before the telling.
        while let Some(observer) = &self.observer
            && self.last.as_ref().is_some_and(is_active)
            && let Ok(Some(frame)) = observer.receive()
        {
            if let (Frame::Exit(code), Some(last)) = (frame, &mut self.last) {
                (last.status, last.exit_code, last.process) = (Status::Exited, code, None);
            }
        }
        self.last.take().filter(|last| !is_active(last))
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1))
}

/// Readable when the state is replaced or the container is removed.
fn watch(store: &Store, id: &ContainerId) -> Result<FolderWatch> {
    if !store.containers().exists(id) {
        // The store's own words for it.
        store.containers().state(id)?;
    }
    let changes = Changes::MOVED_TO | Changes::MOVE_SELF | Changes::DELETE_SELF;
    Ok(FolderWatch::new(&store.containers().folder(id), changes)?)
}
