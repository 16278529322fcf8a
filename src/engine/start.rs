//! Starts and stops containers, and waits for them.

use std::time::{Duration, Instant};

use super::{Engine, Result};
use crate::base::id::ContainerId;
use crate::model::container::ContainerState;
use crate::model::journal::Entry;
use crate::supervise::{self, Condition, StartOptions, Started};

/// The longest that a kill waits for its effect, as in Docker.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// After a reboot: starts what the restart policies want; goes on after a failure and returns all of them.
    pub fn start_after_boot(&self) -> Vec<(ContainerId, supervise::Error)> {
        supervise::boot(&self.store)
    }

    /// Starts a container that exists. One that runs already is left alone: `None`.
    pub fn start(&self, id: &ContainerId, options: StartOptions) -> Result<Option<Started>> {
        let _lock = self.store.containers().lock(id)?;
        let started = match &self.launcher {
            Some(launcher) => launcher.start(&self.store, id, options),
            None => supervise::start(&self.store, id, options),
        };
        match started {
            Ok(started) => Ok(Some(started)),
            Err(supervise::Error::AlreadyRunning { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Stops a container with its signal and grace; `timeout` instead of its own. Returns its exit code: 255 of one
    /// that ended by itself at that moment and was removed, since nobody knows it any more.
    pub fn stop(&self, id: &ContainerId, timeout: Option<Duration>) -> Result<i32> {
        self.stop_with(id, timeout, None)
    }

    /// The same with another signal than the container's own.
    pub fn stop_with(&self, id: &ContainerId, timeout: Option<Duration>, signal: Option<&str>) -> Result<i32> {
        let signal = signal.map(super::signal::parse).transpose()?;
        match supervise::stop_with(&self.store, id, timeout, signal) {
            Err(supervise::Error::Store(error)) if error.is_not_found() && !self.store.containers().exists(id) => {
                Ok(supervise::EXIT_CODE_UNKNOWN)
            }
            code => Ok(code?),
        }
    }

    /// Stops a container as [`Self::stop_with`] does, and starts it.
    pub fn restart(&self, id: &ContainerId, timeout: Option<Duration>, signal: Option<&str>) -> Result<()> {
        self.stop_with(id, timeout, signal)?;
        self.start(id, StartOptions::default())?;
        self.store.journal().note(&Entry::of_container(&self.store.containers().spec(id)?, "restart"));
        Ok(())
    }

    /// Sends a signal by name or number. After SIGKILL, the end is waited for, so that the next command sees it.
    pub fn kill(&self, id: &ContainerId, signal: &str) -> Result<()> {
        let signal = super::signal::parse(signal)?;
        supervise::kill(&self.store, id, signal)?;
        if signal == libc::SIGKILL {
            // A process in uninterruptible sleep dies later; one that is removed at its end is gone by now.
            drop(self.wait_until(id, Condition::Exited, Some(Instant::now() + KILL_PATIENCE)));
        }
        Ok(())
    }

    /// Freezes a container.
    pub fn pause(&self, id: &ContainerId) -> Result<()> {
        Ok(supervise::pause(&self.store, id)?)
    }

    /// Lets a frozen container go on.
    pub fn unpause(&self, id: &ContainerId) -> Result<()> {
        Ok(supervise::unpause(&self.store, id)?)
    }

    /// Waits until a container ended for good and returns its exit code.
    pub fn wait(&self, id: &ContainerId) -> Result<i32> {
        Ok(supervise::wait(&self.store, id)?)
    }

    /// Waits for a condition until `deadline`.
    pub fn wait_until(
        &self,
        id: &ContainerId,
        condition: Condition,
        deadline: Option<Instant>,
    ) -> Result<ContainerState> {
        Ok(supervise::wait_until(&self.store, id, condition, deadline)?)
    }
}
