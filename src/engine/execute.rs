//! Carries out a plan: each action becomes one call of a verb, reported as Compose words it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::images::ImageWish;
use super::rolling::Failures;
use super::service::Replica;
use super::{Cancelled, Engine, Error, Result};
use crate::base::id::ContainerId;
use crate::graph::dependency::Graph;
use crate::graph::plan::{Action, Plan, Step, StepId, Target, condition_words};
use crate::graph::{observed::label, schedule};
use crate::model::container::{ContainerSpec, MountSource};
use crate::model::event::Progress;
use crate::model::project::{Condition, Project, Service};
use crate::supervise::{self, StartOptions};

/// How many containers are started at once. The kernel's lock on network devices is the limit: more only wait
/// for each other (four are no faster than two on two cores, eight are slower).
const STARTS_AT_ONCE: usize = 4;
/// How long a wait may sleep before it looks whether the user pressed Ctrl-C. The condition itself wakes it at
/// once.
pub(super) const CANCEL_CHECK: Duration = Duration::from_millis(200);

/// Told before a container is started, so that its output can be followed from the first line.
pub type OnStart<'a> = &'a (dyn Fn(&ContainerSpec) + Sync);

/// What a plan's execution needs besides the plan.
pub struct Execution<'a> {
    /// The project, where there is a file.
    pub project: Option<&'a Project>,
    /// Hears what happens.
    pub progress: &'a dyn Progress,
    /// Set to end early.
    pub cancelled: &'a Cancelled,
    /// Told before each start.
    pub on_start: Option<OnStart<'a>>,
}

impl Engine {
    /// Carries out `plan`. Steps that do not depend on a failed one are finished.
    ///
    /// Errors: that of the one step that failed, or all of them; `Interrupted`.
    pub fn execute(&self, plan: &Plan, execution: &Execution<'_>) -> Result<()> {
        for warning in &plan.warnings {
            execution.progress.warning("", warning);
        }
        let runner = Runner {
            engine: self,
            execution,
            plan,
            made: Mutex::default(),
            replaced: self.replaced_specs(plan),
            update: Mutex::default(),
        };
        let outcome = schedule::run(plan, &runner, execution.cancelled);
        if execution.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Error::of_several(outcome.failed.into_iter().map(|(_, error)| error).collect())
    }

    /// The specs of containers that the plan replaces, read before any of them is removed.
    fn replaced_specs(&self, plan: &Plan) -> BTreeMap<ContainerId, ContainerSpec> {
        let replaced = plan.steps.iter().filter_map(|step| match &step.action {
            Action::CreateContainer { replaces: Some(id), .. } => Some(id),
            _ => None,
        });
        replaced.filter_map(|id| Some((id.clone(), self.store.containers().spec(id).ok()?))).collect()
    }
}

pub(super) struct Runner<'a> {
    pub(super) engine: &'a Engine,
    pub(super) execution: &'a Execution<'a>,
    pub(super) plan: &'a Plan,
    /// Containers made by this plan, by service and number.
    pub(super) made: Mutex<BTreeMap<(String, u32), ContainerId>>,
    replaced: BTreeMap<ContainerId, ContainerSpec>,
    /// What did not go well in updates so far.
    pub(super) update: Mutex<Failures>,
}

impl schedule::Runner for Runner<'_> {
    type Error = Error;

    fn run(&self, _: StepId, step: &Step) -> Result<()> {
        let (resource, doing, done) = self.words(&step.action);
        let progress = self.execution.progress;
        if let Some(doing) = doing {
            progress.working(&resource, doing);
        }
        match self.act(&step.action) {
            Ok(Reached::Done) => {
                if let Some(done) = done {
                    progress.done(&resource, done);
                }
            }
            Ok(Reached::Warned(text)) => progress.warning(&resource, &text),
            Err(error) => {
                progress.report(crate::model::event::Event::new(
                    &resource,
                    crate::model::event::EventStatus::Error,
                    "Error",
                ));
                return Err(error);
            }
        }
        Ok(())
    }

    fn limit(&self, step: &Step) -> Option<usize> {
        // What is waited for may need another step first.
        let waits = matches!(step.action, Action::Wait { .. } | Action::Settle { .. } | Action::Delay { .. });
        self.engine.parallel.filter(|_| !waits)
    }

    fn bound(&self, step: &Step) -> Option<usize> {
        matches!(step.action, Action::StartContainer { .. }).then_some(STARTS_AT_ONCE)
    }
}

/// How an action ended.
pub(super) enum Reached {
    Done,
    Warned(String),
}

fn container_resource(name: &str) -> String {
    format!("Container {name}")
}

/// What progress says while an action runs and after it.
fn words(action: &Action) -> (&'static str, &'static str) {
    match action {
        Action::CreateNetwork { .. } | Action::CreateVolume { .. } | Action::CreateContainer { .. } => {
            ("Creating", "Created")
        }
        Action::RemoveNetwork { .. }
        | Action::RemoveVolume { .. }
        | Action::RemoveContainer { .. }
        | Action::RemoveImage { .. } => ("Removing", "Removed"),
        Action::RenameContainer { .. } => ("Recreate", "Recreated"),
        Action::StartContainer { .. } => ("Starting", "Started"),
        Action::UnpauseContainer { .. } => ("Unpausing", "Unpaused"),
        Action::StopContainer { .. } => ("Stopping", "Stopped"),
        Action::KillContainer { .. } => ("Killing", "Killed"),
        Action::Provide { command: "down", .. } => ("Removing", "Removed"),
        Action::Provide { .. } => ("Creating", "Created"),
        Action::GetImage { build: false, .. } => ("Pulling", "Pulled"),
        Action::GetImage { build: true, .. } => ("Building", "Built"),
        Action::PushImage { .. } => ("Pushing", "Pushed"),
        Action::RunHook { .. } => ("Running", "Exited"),
        Action::Settle { .. } => ("Waiting", "Updated"),
        Action::Delay { .. } => ("Waiting", "Waited"),
        Action::Wait { condition: Condition::CompletedSuccessfully, .. } => ("Waiting", "Exited"),
        Action::Wait { condition: Condition::Healthy, .. } => ("Waiting", "Healthy"),
        Action::Wait { condition: Condition::Started, .. } => ("Waiting", "Started"),
    }
}

impl Runner<'_> {
    /// What progress shows of an action: the resource, what is said before it and after it. The steps that make a
    /// container anew are one change of that container, from `Recreate` to `Recreated`.
    fn words(&self, action: &Action) -> (String, Option<&'static str>, Option<&'static str>) {
        let (doing, done) = words(action);
        let old = match action {
            Action::CreateContainer { replaces: Some(id), .. }
            | Action::StopContainer { id, .. }
            | Action::RemoveContainer { id, .. } => self.replaced.get(id),
            _ => None,
        };
        match (old, action) {
            (Some(old), Action::CreateContainer { .. }) => (container_resource(&old.name), Some("Recreate"), None),
            (Some(old), _) => (container_resource(&old.name), None, None),
            (None, Action::RenameContainer { .. }) => (action.resource(), None, Some(done)),
            (None, _) => (action.resource(), Some(doing), Some(done)),
        }
    }

    fn act(&self, action: &Action) -> Result<Reached> {
        let engine = self.engine;
        match action {
            Action::CreateNetwork { key, .. } => {
                let project = self.project()?;
                if let Some(network) = project.networks.get(key) {
                    engine.create_project_network(project, key, network)?;
                    // Once, and in the words of the host's packet filter: here the user can still do something.
                    for obstacle in engine.network_obstacles() {
                        self.execution.progress.warning("", &obstacle);
                    }
                }
            }
            Action::RemoveNetwork { id, .. } => engine.remove_network(id)?,
            Action::CreateVolume { key, .. } => {
                let project = self.project()?;
                if let Some(volume) = project.volumes.get(key) {
                    engine.create_project_volume(project, key, volume)?;
                }
            }
            Action::RemoveVolume { name } => engine.remove_volume(name)?,
            Action::CreateContainer { service, number, name, replaces, config_hash } => {
                self.create(service, *number, name, replaces.as_ref(), config_hash)?;
            }
            Action::RenameContainer { container, name } => engine.rename(&self.resolve(container)?, name)?,
            Action::StartContainer { container, .. } => return self.start_or_note(container),
            Action::RunHook { service, index, container, number } => {
                self.run_pre_start(service, *index, container, *number)?;
            }
            Action::Settle { service, numbers, monitor, on_failure, failures_max } => {
                return self.settle(service, numbers, *monitor, *on_failure, *failures_max);
            }
            Action::Delay { delay, .. } => self.sleep(*delay)?,
            Action::UnpauseContainer { id, .. } => engine.unpause(id)?,
            Action::StopContainer { id, timeout, .. } => self.stop(id, *timeout)?,
            Action::KillContainer { id, signal, .. } => engine.kill(id, signal)?,
            Action::RemoveContainer { id, volumes, .. } => engine.remove(id, true, *volumes)?,
            Action::Wait { service, condition, required, wanted_by } => {
                return self.wait(service, *condition, *required, wanted_by);
            }
            Action::Provide { service, command } => {
                super::provider::run(self.project()?, self.service(service)?, command, self.execution.progress)?;
            }
            Action::GetImage { service, build, .. } => {
                let wish = ImageWish { build: *build, ..ImageWish::default() };
                let services = [self.service(service)?];
                engine.ensure_images(self.project()?, &services, &wish, self.execution.progress)?;
            }
            Action::PushImage { image } => {
                crate::image::push(&engine.store, &image.parse()?, None, self.execution.progress)?;
            }
            Action::RemoveImage { reference } => {
                if let Err(error) = engine.remove_image(reference) {
                    return Ok(Reached::Warned(error.to_string()));
                }
            }
        }
        Ok(Reached::Done)
    }

    pub(super) fn project(&self) -> Result<&Project> {
        self.execution
            .project
            .ok_or_else(|| Error::Unsupported { what: "creating things without a compose file".into() })
    }

    pub(super) fn service(&self, name: &str) -> Result<&Service> {
        let missing = || Error::NoContainer { service: name.to_owned() };
        self.project()?.services.get(name).ok_or_else(missing)
    }

    pub(super) fn resolve(&self, target: &Target) -> Result<ContainerId> {
        match target {
            Target::Existing(id) => Ok(id.clone()),
            Target::New { service, number } => {
                let made = self.made.lock().unwrap_or_else(|poison| poison.into_inner());
                made.get(&(service.clone(), *number))
                    .cloned()
                    .ok_or_else(|| Error::NoContainer { service: service.clone() })
            }
        }
    }

    fn create(
        &self,
        service: &str,
        number: u32,
        name: &str,
        replaces: Option<&ContainerId>,
        config_hash: &str,
    ) -> Result<()> {
        let (project, service) = (self.project()?, self.service(service)?);
        let replica = Replica {
            number,
            name: name.to_owned(),
            config_hash: config_hash.to_owned(),
            oneoff: false,
            replaces: replaces.cloned(),
        };
        let mut request = self.engine.service_request(project, service, &replica)?;
        if let Some(old) = replaces.and_then(|id| self.replaced.get(id)) {
            request.inherited_volumes = anonymous_volumes(old);
        }
        let fail = |error| super::service::in_service(project, service, "cannot be created", error);
        let image = self.engine.service_image(project, service).map_err(fail)?;
        self.engine.check_platform(&image).map_err(fail)?;
        let id = self.engine.create(request, &image).map_err(fail)?;
        self.made.lock().unwrap_or_else(|poison| poison.into_inner()).insert((service.name.clone(), number), id);
        Ok(())
    }

    pub(super) fn start(&self, id: &ContainerId) -> Result<()> {
        let spec = self.engine.store.containers().spec(id)?;
        if let Some(on_start) = self.execution.on_start {
            on_start(&spec);
        }
        let started = self.engine.start(id, StartOptions::default());
        let service = spec.labels.get(label::SERVICE).and_then(|name| self.service(name).ok());
        match (started, service) {
            (Ok(_), Some(service)) => self.engine.run_hooks(id, "post_start", &service.post_start),
            (Ok(_), None) => Ok(()),
            (Err(error), Some(service)) => {
                Err(super::service::in_service(self.project()?, service, "cannot be started", error))
            }
            (Err(error), None) => Err(error),
        }
    }

    fn stop(&self, id: &ContainerId, timeout: Option<Duration>) -> Result<()> {
        let spec = match self.engine.store.containers().spec(id) {
            // It removed itself, or somebody did.
            Err(error) if error.is_not_found() => return Ok(()),
            spec => spec?,
        };
        let service = spec.labels.get(label::SERVICE).and_then(|name| self.service(name).ok());
        if let Some(service) = service {
            self.drain(id, &service.name)?;
            self.engine.run_hooks(id, "pre_stop", &service.pre_stop)?;
        }
        self.engine.stop(id, timeout).map(drop)
    }

    /// Waits for every container of a service. A failure is an error that names who waits, or a warning.
    fn wait(&self, service: &str, condition: Condition, required: bool, wanted_by: &[String]) -> Result<Reached> {
        let project = self.project()?;
        let observed = self.engine.observe(&project.name, None)?;
        // One that is about to go, now that its successor runs, is not waited for.
        let is_replaced =
            |id: &ContainerId| observed.containers.iter().any(|other| other.replaces.as_ref() == Some(id));
        let ids: Vec<_> = observed
            .of_service(service)
            .filter(|container| !is_replaced(&container.id))
            .map(|container| (container.id.clone(), container.name.clone()))
            .collect();
        for (id, name) in ids {
            let Err(error) = self.wait_for(&id, condition) else { continue };
            if matches!(error, Error::Interrupted) {
                return Err(error);
            }
            if !required {
                return Ok(Reached::Warned(format!("optional dependency failed: {}", what_happened(&error))));
            }
            let found = what_happened(&error);
            let said =
                if found == super::error::NO_HEALTH_CHECK { Box::default() } else { self.engine.last_lines(&id) };
            return Err(Error::Dependency {
                service: service.to_owned(),
                condition: condition_words(condition),
                found,
                waiting: wanted_by.iter().map(|name| dependents_path(project, name, service)).collect(),
                container: name,
                said,
            });
        }
        Ok(Reached::Done)
    }

    pub(super) fn wait_for(&self, id: &ContainerId, condition: Condition) -> Result<()> {
        let wanted = match condition {
            Condition::Started => supervise::Condition::Running,
            Condition::Healthy => supervise::Condition::Healthy,
            Condition::CompletedSuccessfully => supervise::Condition::Exited,
        };
        loop {
            if self.execution.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            match self.engine.wait_until(id, wanted, Some(Instant::now() + CANCEL_CHECK)) {
                Err(Error::Supervise(supervise::Error::Deadline { .. })) => {}
                Ok(state) if condition == Condition::CompletedSuccessfully && state.exit_code != 0 => {
                    return Err(supervise::Error::Exited { id: id.clone(), code: state.exit_code }.into());
                }
                result => return result.map(drop),
            }
        }
    }
}

/// Why a wait ended badly, without the container's id.
pub(super) fn what_happened(error: &Error) -> String {
    match error {
        Error::Supervise(supervise::Error::NoHealthcheck { .. }) => super::error::NO_HEALTH_CHECK.into(),
        Error::Supervise(error @ (supervise::Error::Exited { .. } | supervise::Error::Unhealthy { .. })) => {
            format!("it {}", what_it_did(error))
        }
        other => other.to_string(),
    }
}

/// What a container did that a wait did not want: `exited with code 3`.
pub(super) fn what_it_did(error: &supervise::Error) -> String {
    match error {
        supervise::Error::Exited { code, .. } => format!("exited with code {code}"),
        supervise::Error::Unhealthy { output, .. } if !output.trim().is_empty() => {
            format!("is unhealthy ({})", output.trim())
        }
        supervise::Error::Unhealthy { .. } => "is unhealthy".into(),
        other => other.to_string(),
    }
}

/// The way from a service that nobody waits for down to `dependency`, through `waiting`: `web -> api -> db`.
fn dependents_path(project: &Project, waiting: &str, dependency: &str) -> String {
    let mut path = vec![dependency.to_owned(), waiting.to_owned()];
    if let Ok(graph) = Graph::of(project) {
        while let Some((above, _)) = graph.dependents(&path[path.len() - 1]).into_iter().next() {
            path.push(above.to_owned());
        }
    }
    path.reverse();
    path.join(" -> ")
}

/// The anonymous volumes of a container, by target.
fn anonymous_volumes(spec: &ContainerSpec) -> BTreeMap<String, String> {
    let volumes = spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { name, anonymous: true, .. } => {
            Some((mount.target.trim_end_matches('/').to_owned(), name.clone()))
        }
        _ => None,
    });
    volumes.collect()
}
