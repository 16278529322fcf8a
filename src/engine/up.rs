//! `up`: images (a phase of its own), then a reading of what exists, then the plan, then its execution.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::execute::{Execution, OnStart};
use super::images::ImageWish;
use super::{Cancelled, Engine, Result};
use crate::graph::converge;
use crate::graph::dependency::Graph;
use crate::graph::observed::{Observed, ObservedContainer};
use crate::graph::plan::{Action, Plan};
use crate::model::container::Status;
use crate::model::event::Progress;
use crate::model::project::{Project, Service};

/// What `up` was asked for.
#[derive(Debug, Clone, Default)]
pub struct Up {
    /// What to converge to.
    pub wish: converge::Wish,
    /// How images are to be had.
    pub images: ImageWish,
    /// `--wait`: return once everything runs (or is healthy, or has completed).
    pub wait: bool,
    /// `--wait-timeout`.
    pub wait_timeout: Option<Duration>,
    /// Only plan.
    pub dry_run: bool,
}

impl Engine {
    /// Judges the services that [`Engine::up`] will make and gets the images that it needs. A phase of its own: it may be ended at any moment, and the next
    /// command goes on from there.
    pub fn get_images(&self, project: &Project, up: &Up, progress: &dyn Progress) -> Result<()> {
        let services = selected(project, &up.wish)?;
        self.check_services(project, &services)?;
        if up.dry_run {
            return Ok(());
        }
        self.ensure_images(project, &services, &up.images, progress)
    }

    /// Brings the project up and returns the plan that did it. Its images are there: see [`Engine::get_images`].
    pub fn up(
        &self,
        project: &Project,
        up: &Up,
        progress: &dyn Progress,
        cancelled: &Cancelled,
        on_start: Option<OnStart<'_>>,
    ) -> Result<Plan> {
        let deadline = up.wait_timeout.map(|timeout| Instant::now() + timeout);
        let chosen = chosen(project, &up.wish)?;
        let with_provided = super::provider::bring_up(project, &chosen, up.dry_run, progress)?;
        let project = with_provided.as_ref();
        let selected = selected(project, &up.wish)?;
        let observed = self.observe(&project.name, Some(project))?;
        let mut plan = converge::up(project, &observed, &up.wish)?;
        if up.dry_run {
            let provided = chosen.iter().filter(|service| service.provider.is_some());
            let provide = |service: &&&Service| Action::Provide { service: service.name.clone(), command: "up" };
            plan.prepend(provided.map(|service| (provide(&service), "it is not a container".to_owned())).collect());
            plan.prepend(self.plan_images(project, &selected, &up.images)?);
            return Ok(plan);
        }
        report_running(&observed, &selected, &plan, progress);
        self.execute(&plan, &Execution { project: Some(project), progress, cancelled, on_start })?;
        if up.wait {
            let names: BTreeSet<&str> = selected.iter().map(|service| service.name.as_str()).collect();
            self.wait_for_services(project, &names, deadline, progress, cancelled)?;
        }
        Ok(plan)
    }
}

/// Says which containers run already and stay as they are.
fn report_running(observed: &Observed, selected: &[&Service], plan: &Plan, progress: &dyn Progress) {
    let changed: BTreeSet<String> = plan.steps.iter().map(|step| step.action.resource()).collect();
    let is_selected = |container: &ObservedContainer| {
        !container.oneoff && selected.iter().any(|service| service.name == container.service)
    };
    for container in
        observed.containers.iter().filter(|container| container.status == Status::Running && is_selected(container))
    {
        let resource = format!("Container {}", container.name);
        if !changed.contains(&resource) {
            progress.done(&resource, "Running");
        }
    }
}

/// The services that the wish concerns, with their dependencies, in the order of these.
fn chosen<'p>(project: &'p Project, wish: &converge::Wish) -> Result<Vec<&'p Service>> {
    let graph = Graph::of(project)?;
    let names = graph.select(project, &wish.services, wish.no_deps)?;
    Ok(graph.order().into_iter().filter(|name| names.contains(name)).map(|name| &project.services[name]).collect())
}

/// Those of them that have containers.
fn selected<'p>(project: &'p Project, wish: &converge::Wish) -> Result<Vec<&'p Service>> {
    let graph = Graph::of(project)?;
    let names = graph.select(project, &wish.services, wish.no_deps)?;
    let scaled_to_none =
        |service: &Service| wish.scale.get(&service.name).copied().unwrap_or_else(|| converge::replicas(service)) == 0;
    Ok(project
        .services
        .values()
        .filter(|service| names.contains(service.name.as_str()) && !scaled_to_none(service))
        .collect())
}
