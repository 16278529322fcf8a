//! `up`: from what exists to what the project says, with the fewest steps.
//!
//! 1. [`resources`]: networks and volumes that are missing are made; those whose definition changed are made anew.
//! 2. [`fate`]: each container gets a [`Fate`], services in dependency order, so that what must follow is known.
//! 3. [`steps`]: steps are written down. A replacement is made under a name of its own before the old container is
//!    stopped, so that a crash at any point leaves either of them complete, and the next `up` goes on.
//! 4. [`rolling`]: replicas that are replaced some at a time (`deploy.update_config`).
//! 5. What a service waits for becomes an edge (`service_started`) or a wait step (the other conditions).
//!
//! Services that were not named are *bystanders*: they get no container more or less, but what breaks by what is
//! done to the others (a namespace or a network that goes away, `restart: true`) is made right.
//!
//! A job (a service whose completion others wait for, or that says that it is not to be restarted) that succeeded is
//! not run again while nothing changed.

mod fate;
mod hooks;
mod resources;
mod rolling;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dependency::Graph;
use super::error::Error;
use super::hash;
use super::observed::{HostPort, Observed, ObservedContainer};
use super::plan::{Action, Plan, StepId};
use crate::base::id::ContainerId;
use crate::model::container::Status;
use crate::model::project::{Condition, Project, Service};

/// What `up` was asked for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Services named on the command line; empty is all.
    pub services: Vec<String>,
    /// Leave the services they depend on alone.
    pub no_deps: bool,
    /// Replicas by service, instead of the file's.
    pub scale: BTreeMap<String, u32>,
    /// When to make containers anew.
    pub recreate: Recreate,
    /// `Recreate::Always` also for services that were not named.
    pub recreate_dependencies: bool,
    /// Do not take over anonymous volumes.
    pub renew_volumes: bool,
    /// Make volumes anew whose definition changed: what is in them is lost.
    pub replace_volumes: bool,
    /// Run services again that ended with success and are not to be restarted, unless others wait for that end.
    pub repeat_jobs: bool,
    /// Remove containers of services that are gone.
    pub remove_orphans: bool,
    /// Do not warn about them.
    pub ignore_orphans: bool,
    /// Create, but do not start.
    pub no_start: bool,
    /// Grace for containers that must be stopped.
    pub timeout: Option<Duration>,
}

/// When `up` makes containers anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recreate {
    /// When what they were made from changed.
    #[default]
    Changed,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The name of a replica's container.
pub fn container_name(project: &Project, service: &Service, number: u32) -> String {
    service.container_name.clone().unwrap_or_else(|| project.name_of(&[&service.name, &number.to_string()]))
}

/// The number of containers that `service` shall have: none where another program provides it.
pub fn replicas(service: &Service) -> u32 {
    if service.provider.is_some() {
        return 0;
    }
    service.deploy.as_ref().and_then(|deploy| deploy.replicas).or(service.scale).unwrap_or(1)
}

/// Plans `up`.
///
/// Errors: see [`Error`]; nothing has been done then.
pub fn up(project: &Project, observed: &Observed, wish: &Wish) -> Result<Plan, Error> {
    let graph = Graph::of(project)?;
    let selected = graph.select(project, &wish.services, wish.no_deps)?;
    for name in wish.scale.keys() {
        if !project.services.contains_key(name) {
            return Err(super::dependency::unknown(project, name));
        }
    }
    let mut planner = Planner {
        project,
        observed,
        wish,
        graph,
        selected,
        plan: Plan::default(),
        lost: BTreeMap::new(),
        resources: Vec::new(),
        fates: BTreeMap::new(),
        started: BTreeMap::new(),
        waits: BTreeMap::new(),
        doomed: BTreeSet::new(),
        settled: BTreeMap::new(),
    };
    planner.orphans();
    planner.networks()?;
    planner.volumes()?;
    planner.decide()?;
    planner.write();
    Ok(planner.plan)
}

/// What becomes of one replica.
#[derive(Debug)]
enum Fate<'p> {
    /// Stays as it is; started when it does not run, for the reason given.
    Keep { container: &'p ObservedContainer, start: Option<String> },
    /// Is replaced. `start`: the new one is to run.
    Recreate { container: &'p ObservedContainer, why: String, start: bool },
    /// Is removed.
    Remove { container: &'p ObservedContainer, why: String },
    /// Does not exist yet. `inherits`: one that is removed with its network, whose anonymous volumes stay.
    Create { why: String, inherits: Option<ContainerId>, start: bool },
}

struct Replica<'p> {
    number: u32,
    fate: Fate<'p>,
}

struct Planner<'p> {
    project: &'p Project,
    observed: &'p Observed,
    wish: &'p Wish,
    graph: Graph<'p>,
    selected: BTreeSet<&'p str>,
    plan: Plan,
    /// Containers that are removed together with a network or volume that is made anew, and why.
    lost: BTreeMap<&'p ContainerId, String>,
    /// Steps that every new container comes after.
    resources: Vec<StepId>,
    fates: BTreeMap<&'p str, Vec<Replica<'p>>>,
    /// Start steps by service.
    started: BTreeMap<&'p str, Vec<StepId>>,
    waits: BTreeMap<(&'p str, Condition, bool), StepId>,
    /// Containers that do not outlive the plan.
    doomed: BTreeSet<&'p ContainerId>,
    /// The steps after which a service's containers are the final ones.
    settled: BTreeMap<&'p str, Vec<StepId>>,
}

impl<'p> Planner<'p> {
    fn service(&self, name: &str) -> &'p Service {
        &self.project.services[name]
    }

    fn wanted(&self, service: &Service) -> u32 {
        self.wish.scale.get(&service.name).copied().unwrap_or_else(|| replicas(service))
    }

    fn hash_of(&self, service: &Service) -> String {
        hash::service(service, self.observed.contents.get(&service.name).map(String::as_str))
    }
}

/// The services whose namespaces `service` uses.
fn namespace_providers(service: &Service) -> impl Iterator<Item = &str> {
    let modes = [&service.network_mode, &service.pid, &service.ipc, &service.uts];
    modes.into_iter().flatten().filter_map(|mode| mode.strip_prefix("service:"))
}

/// The services whose volumes `service` uses.
fn volume_providers(service: &Service) -> impl Iterator<Item = &str> {
    service.volumes_from.iter().filter(|from| !from.starts_with("container:")).filter_map(|from| from.split(':').next())
}

/// The ports of the host that each container of `service` takes.
fn host_ports(service: &Service) -> Vec<HostPort> {
    service.ports.iter().filter_map(HostPort::of).collect()
}

fn is_up(container: &ObservedContainer) -> bool {
    matches!(container.status, Status::Running | Status::Paused | Status::Restarting)
}

fn has_completed(container: &ObservedContainer) -> bool {
    container.status == Status::Exited && container.exit_code == 0 && !container.stopped_by_user
}

fn stop(container: &ObservedContainer, timeout: Option<Duration>) -> Action {
    Action::StopContainer { id: container.id.clone(), name: container.name.clone(), timeout }
}

/// Stops where needed and removes. `volumes`: with its anonymous volumes.
pub(super) fn remove_with(
    plan: &mut Plan,
    container: &ObservedContainer,
    after: &[StepId],
    timeout: Option<Duration>,
    why: &str,
    volumes: bool,
) -> StepId {
    let mut after = after.to_vec();
    if is_up(container) {
        after = vec![plan.push(stop(container, timeout), after, why)];
    }
    let action = Action::RemoveContainer { id: container.id.clone(), name: container.name.clone(), volumes };
    plan.push(action, after, why)
}
