//! The commands of services at points of their containers' lives: `pre_start` in containers of their own, `post_start`
//! and `pre_stop` inside. One that fails is an error, and keeps what comes after it from happening.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

use super::exec::Exec;
use super::execute::Runner;
use super::service::Replica;
use super::{Engine, Error, Result};
use crate::base::fs::Context;
use crate::base::id::ContainerId;
use crate::graph::observed::label;
use crate::graph::plan::Target;
use crate::model::project::{Condition, Hook};
use crate::runtime::{ExitStatus, Stdio};
use crate::supervise::{self, StartOptions};

/// How much of a hook's output is kept for an error, in bytes, and how many lines are shown.
const OUTPUT_BYTES_MAX: usize = 8 << 10;
const OUTPUT_LINES_MAX: usize = 10;

impl Engine {
    /// Runs the hooks of a service in one of its containers, in order.
    pub(super) fn run_hooks(&self, id: &ContainerId, hook: &'static str, hooks: &[Hook]) -> Result<()> {
        for command in hooks {
            let exec = Exec {
                args: command.command.clone(),
                environment: command.environment.clone(),
                user: command.user.clone(),
                working_dir: command.working_dir.clone(),
                privileged: command.privileged,
                terminal: false,
            };
            let (status, output) = match self.exec_and_read(id, &exec) {
                // A container that ended has nothing to be prepared for its stop.
                Err(Error::NotRunning { .. }) if hook == "pre_stop" => return Ok(()),
                ended => ended?,
            };
            if status.code != 0 {
                let container = self.store.containers().spec(id)?.name;
                let text = String::from_utf8_lossy(&output);
                let lines: Vec<&str> = text.lines().collect();
                let said = lines[lines.len().saturating_sub(OUTPUT_LINES_MAX)..].iter().map(|line| (*line).to_owned());
                return Err(Error::Hook { hook, container, code: status.code, said: said.collect() });
            }
        }
        Ok(())
    }

    /// Runs a process to its end and returns the last of its output. That goes to a file without a name, not to a pipe:
    /// what a hook leaves running may go on writing.
    fn exec_and_read(&self, id: &ContainerId, exec: &Exec) -> Result<(ExitStatus, Vec<u8>)> {
        let path = Path::new("the output of a hook");
        let null = Path::new("/dev/null");
        let stdin: OwnedFd = File::open(null).context("open", null)?.into();
        let output = memfd_create(c"hook", MemfdFlags::CLOEXEC).context("make a file for", path)?;
        let duplicate = || output.try_clone().context("duplicate the file for", path);
        let running = self.exec(id, exec, Stdio::Pipes { stdin, stdout: duplicate()?, stderr: duplicate()? })?;
        let status = running.wait()?;
        self.exec_ended(id, &running, status.code);
        let output = File::from(output);
        let length = output.metadata().context("read", path)?.len();
        let start = length.saturating_sub(OUTPUT_BYTES_MAX as u64);
        let mut text = vec![0; (length - start) as usize];
        output.read_exact_at(&mut text, start).context("read", path)?;
        Ok((status, text))
    }
}

impl Runner<'_> {
    /// Runs a `pre_start` hook of a service in a container of its own: the service's, with the volumes of `target`.
    ///
    /// Errors: it ended with another code than 0; its container is kept until the next try, or `down`.
    pub(super) fn run_pre_start(&self, service: &str, index: usize, target: &Target, number: u32) -> Result<()> {
        let (project, service, engine) = (self.project()?, self.service(service)?, self.engine);
        let Some(hook) = service.pre_start.get(index) else { return Ok(()) };
        let fail = |error| super::service::in_service(project, service, "cannot be prepared", error);
        let name = project.name_of(&[&service.name, "pre_start", &number.to_string(), &(index + 1).to_string()]);
        self.remove_failed_hook(&name)?;
        let replica = Replica { number, name: name.clone(), config_hash: String::new(), oneoff: true, replaces: None };
        let mut request = engine.service_request(project, service, &replica)?;
        request.labels.insert(label::HOOK.to_owned(), "pre_start".to_owned());
        request.mounts = engine.store().containers().spec(&self.resolve(target)?)?.mounts;
        request.command = Some(hook.command.clone());
        request.entrypoint = Some(Vec::new());
        request.environment.extend(hook.environment.clone());
        request.user = hook.user.clone().or(request.user);
        request.working_dir = hook.working_dir.clone().or(request.working_dir);
        request.security.privileged |= hook.privileged;
        request.healthcheck.disable = true;
        let image = match &hook.image {
            Some(name) => {
                let found = engine.store().images().resolve(&name.parse()?)?;
                let reason = "the image of a hook must be pulled before";
                found.ok_or_else(|| Error::ImageMissing { image: name.clone(), reason })
            }
            None => engine.service_image(project, service),
        };
        let id = engine.create(request, &image.map_err(fail)?).map_err(fail)?;
        engine.start(&id, StartOptions::default()).map_err(fail)?;
        match self.wait_for(&id, Condition::CompletedSuccessfully) {
            Ok(()) => engine.remove(&id, true, false),
            Err(Error::Supervise(supervise::Error::Exited { code, .. })) => {
                Err(Error::Hook { hook: "pre_start", container: name, code, said: engine.last_lines(&id) })
            }
            Err(error) => {
                // Ctrl-C: it has nobody left to work for.
                engine.remove(&id, true, false)?;
                Err(error)
            }
        }
    }

    /// Removes what an earlier try left under this name.
    fn remove_failed_hook(&self, name: &str) -> Result<()> {
        let containers = self.engine.store().containers();
        let Ok(id) = containers.find(name) else { return Ok(()) };
        match containers.spec(&id)?.labels.contains_key(label::HOOK) {
            true => self.engine.remove(&id, true, false),
            false => Ok(()),
        }
    }
}
