//! Signals, pausing and removal.

use super::{Container, Error, Runtime, Status, hooks};
use crate::runtime;

impl Runtime {
    /// Sends a signal to a container's first process, or to `all` of its processes.
    pub fn kill(&self, id: &str, signal: i32, all: bool) -> Result<(), Error> {
        let container = self.find(id)?;
        let status = container.status();
        if all {
            return container.signal_all(signal);
        }
        let process = container.record.process.filter(|_| status != Status::Stopped);
        let Some(pidfd) = process.and_then(runtime::identify) else {
            return Err(Error::Status { verb: "kill", id: id.to_owned(), status });
        };
        if signal == libc::SIGKILL && !container.record.own_pids {
            // No namespace takes the others along.
            return container.kill_all();
        }
        use std::os::fd::AsFd;
        runtime::send_signal(pidfd.as_fd(), signal)?;
        if signal == libc::SIGKILL && status == Status::Paused {
            // On version 1 a frozen process does not die.
            container.cgroup()?.thaw()?;
        }
        Ok(())
    }

    /// Stops or continues all processes of a container.
    pub fn pause(&self, id: &str, paused: bool) -> Result<(), Error> {
        let container = self.find(id)?;
        let (status, verb) = (container.status(), if paused { "pause" } else { "resume" });
        let expected = if paused { Status::Running } else { Status::Paused };
        if status != expected && !(paused && status == Status::Created) {
            return Err(Error::Status { verb, id: id.to_owned(), status });
        }
        let cgroup = container.cgroup()?;
        Ok(if paused { cgroup.freeze() } else { cgroup.thaw() }?)
    }

    /// Removes a container that has stopped; with `force` any, and one that does not exist is fine.
    pub fn delete(&self, id: &str, force: bool) -> Result<(), Error> {
        let container = match self.find(id) {
            Err(Error::Missing { .. }) if force => return Ok(()),
            container => container?,
        };
        let status = container.status();
        match status {
            Status::Stopped => {}
            _ if force => {}
            status => return Err(Error::Status { verb: "delete", id: id.to_owned(), status }),
        }
        container.kill_all()?;
        container.cgroup()?.remove()?;
        // What happened before it was whole needs no hook to be undone; the files are gone all the same.
        let config = container.config().ok();
        container.forget()?;
        if let Some(config) = config {
            self.warn(hooks::run("poststop", &config.hooks.poststop, &container, Status::Stopped));
        }
        Ok(())
    }
}

impl Container {
    /// Kills every process of it; none is fine.
    pub(super) fn kill_all(&self) -> Result<(), Error> {
        use std::os::fd::AsFd;
        if let Some(pidfd) = self.record.process.and_then(runtime::identify) {
            runtime::send_signal(pidfd.as_fd(), libc::SIGKILL)?;
        }
        match self.cgroup() {
            Ok(cgroup) => Ok(cgroup.kill_all()?),
            // It was removed by somebody else, with all that was in it.
            Err(_) => Ok(()),
        }
    }

    fn signal_all(&self, signal: i32) -> Result<(), Error> {
        if signal == libc::SIGKILL {
            return self.kill_all();
        }
        use std::os::fd::AsFd;
        for pid in self.pids()? {
            if let Some(pidfd) = runtime::identity_of(pid).and_then(runtime::identify) {
                runtime::send_signal(pidfd.as_fd(), signal)?;
            }
        }
        Ok(())
    }
}
