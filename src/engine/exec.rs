//! Runs further processes in a container.

use std::os::fd::OwnedFd;

use super::{Engine, Error, Result};
use crate::base::fs::Context;
use crate::base::id::{ContainerId, Digest};
use crate::model::container::{Process, Status};
use crate::model::journal::Entry;
use crate::model::project::OptionalMap;
use crate::runtime::{self, Cgroup, ExecTarget, Running, Stdio};

/// What to run. `None` and empty are the container's own.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Further environment.
    pub environment: OptionalMap,
    /// As whom.
    pub user: Option<String>,
    /// Where.
    pub working_dir: Option<String>,
    /// With all capabilities.
    pub privileged: bool,
    /// On a terminal.
    pub terminal: bool,
}

impl Engine {
    /// Starts a process in a running container. The caller waits for it.
    ///
    /// Errors: the container does not run; what the runtime refused (126, 127).
    pub fn exec(&self, id: &ContainerId, exec: &Exec, stdio: Stdio) -> Result<Running> {
        let spec = self.store.containers().spec(id)?;
        let state = self.store.containers().state(id)?;
        if state.status == Status::Paused {
            return Err(Error::Paused { name: spec.name });
        }
        let Some(identity) = state.process.filter(|_| state.status == Status::Running) else {
            return Err(Error::NotRunning { name: spec.name });
        };
        let cgroup = Cgroup::of(&self.store.paths().instance(), &spec)?;
        let mut env = spec.process.env.clone();
        env.retain(|entry| {
            let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
            !exec.environment.contains_key(key)
        });
        env.extend(exec.environment.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?))));
        let process = Process {
            args: exec.args.clone(),
            env,
            cwd: exec.working_dir.clone().unwrap_or_else(|| spec.process.cwd.clone()),
            user: exec.user.clone().unwrap_or_else(|| spec.process.user.clone()),
            additional_groups: spec.process.additional_groups.clone(),
            terminal: exec.terminal,
            stdin_open: true,
        };
        let target = ExecTarget { identity, spec: &spec, cgroup: &cgroup };
        let running = runtime::exec(&target, &process, exec.privileged, stdio)?;
        let action = format!("exec_start: {}", exec.args.join(" "));
        self.store.journal().note(&Entry::of_container(&spec, action).with("execID", exec_id(&running)));
        Ok(running)
    }

    /// Tells `events` how a process of [`Self::exec`] ended.
    pub fn exec_ended(&self, id: &ContainerId, running: &Running, code: i32) {
        if let Ok(spec) = self.store.containers().spec(id) {
            let entry = Entry::of_container(&spec, "exec_die").with("execID", exec_id(running));
            self.store.journal().note(&entry.with("exitCode", code.to_string()));
        }
    }
}

/// What `events` calls a process: nobody else on this host ever is the same.
fn exec_id(running: &Running) -> String {
    let identity = running.identity;
    Digest::of(format!("{} {}", identity.pid, identity.start_ticks).as_bytes()).hex().to_owned()
}

/// /dev/null three times.
pub fn no_stdio() -> Result<Stdio> {
    let null = || -> Result<OwnedFd> {
        let path = std::path::Path::new("/dev/null");
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).context("open", path)?;
        Ok(file.into())
    };
    Ok(Stdio::Pipes { stdin: null()?, stdout: null()?, stderr: null()? })
}
