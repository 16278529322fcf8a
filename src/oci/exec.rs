//! A further process in a container, and waiting for processes of the caller's.

use std::os::fd::AsFd;
use std::path::PathBuf;

use super::create::{check_preserved, write_pid};
use super::{Console, Create, Error, Runtime, Status};
use crate::runtime::bundle::{self, Process};
use crate::runtime::{self, Running};
use crate::sys::process;

/// A further process.
#[derive(Debug)]
pub struct Exec {
    /// The container's name.
    pub id: String,
    /// What runs; what it leaves out is not the container's.
    pub process: Process,
    /// Return when it runs instead of when it ended.
    pub detach: bool,
    /// Where its number is written to.
    pub pid_file: Option<PathBuf>,
    /// Who gets its terminal.
    pub console: Console,
    /// How many descriptors behind the standard ones it inherits.
    pub preserved: u32,
    /// Whether it may be started while the container is paused, to run when that ends.
    pub may_be_paused: bool,
}

impl Runtime {
    /// The process of a container's bundle, as the base of an exec.
    pub fn first_process(&self, id: &str) -> Result<Process, Error> {
        Ok(self.find(id)?.config()?.process.unwrap_or_default())
    }

    /// Starts a process in a container; its exit code, unless it is detached.
    pub fn exec(&self, exec: &Exec) -> Result<u8, Error> {
        check_preserved(exec.preserved)?;
        let container = self.find(&exec.id)?;
        let status = container.status();
        let is_up = matches!(status, Status::Running | Status::Created | Status::Paused);
        let (true, Some(first)) = (is_up, container.record.process) else {
            return Err(Error::Status { verb: "exec in", id: exec.id.clone(), status });
        };
        let config = container.config()?;
        let stdio = exec.console.stdio(&exec.process)?;
        let cgroup = container.cgroup()?;
        let mut running =
            bundle::enter(&config, first, &cgroup, &exec.process, &stdio, exec.preserved, exec.may_be_paused)?;
        exec.console.hand_over(running.console.take())?;
        write_pid(exec.pid_file.as_deref(), running.identity)?;
        if exec.detach { Ok(0) } else { wait(&running) }
    }

    /// Creates and starts a container; its exit code, with which it is removed, unless it is to be `detached`.
    pub fn run(&self, create: &Create, detach: bool) -> Result<u8, Error> {
        let identity = self.create(create)?;
        let started = self.start(&create.id);
        if detach && started.is_ok() {
            return Ok(0);
        }
        let code = started.and_then(|()| {
            let pidfd = runtime::identify(identity).ok_or(runtime::Error::Died)?;
            wait(&Running { identity, pidfd, console: None })
        });
        let deleted = self.delete(&create.id, true);
        let code = code?;
        deleted.map(|()| code)
    }
}

/// Waits for a child of ours and hands on to it what signals we get.
fn wait(running: &Running) -> Result<u8, Error> {
    process::block_signals();
    loop {
        if let Some(status) = running.try_wait()? {
            return Ok(u8::try_from(status.code).unwrap_or(u8::MAX));
        }
        match process::wait_signal() {
            Ok(libc::SIGCHLD) | Err(_) => {}
            Ok(signal) => runtime::send_signal(running.pidfd.as_fd(), signal)?,
        }
    }
}
