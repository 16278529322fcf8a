//! `down`, `stop`, `start`, `restart`, `kill` and `rm`: plans over containers that exist.
//!
//! Stopping goes against the dependencies: a container is stopped after all that depend on its service. The
//! order comes from the project where there is a file, else from the labels on the containers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::converge::remove_with;
use super::dependency::Graph;
use super::error::Error;
use super::observed::{Observed, ObservedContainer};
use super::plan::{Action, Plan, StepId, Target};
use crate::model::container::Status;
use crate::model::project::{Condition, Project};

/// What `down` was asked for.
#[derive(Debug, Clone, Default)]
pub struct Down {
    /// Services named on the command line; empty is the whole project with its networks.
    pub services: Vec<String>,
    /// Also named and anonymous volumes.
    pub volumes: bool,
    /// Also containers of services that are gone, and those of `run`.
    pub remove_orphans: bool,
    /// Also images.
    pub images: Images,
    /// Grace instead of the containers' own.
    pub timeout: Option<Duration>,
}

/// Which images `down` removes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Images {
    /// None.
    #[default]
    Keep,
    /// Those without a name of their own (built, and not named by `image:`).
    Local,
    /// All that services use.
    All,
}

/// Plans `down`. Without a project (no file), everything that carries the project's label goes.
pub fn down(project: Option<&Project>, observed: &Observed, wish: &Down) -> Plan {
    let mut plan = Plan::default();
    let known = |container: &ObservedContainer| {
        project.is_none_or(|project| {
            container.hook
                || !container.oneoff
                    && (project.services.contains_key(&container.service)
                        || project.disabled_services.contains_key(&container.service))
        })
    };
    let named = |container: &ObservedContainer| wish.services.is_empty() || wish.services.contains(&container.service);
    let (doomed, kept): (Vec<_>, Vec<_>) =
        observed.containers.iter().partition(|container| named(container) && (wish.remove_orphans || known(container)));
    if wish.services.is_empty() && !kept.is_empty() {
        let names: Vec<_> = kept.iter().map(|container| container.name.as_str()).collect();
        plan.warnings.push(format!(
            "containers of this project that the file does not know are kept: {} (--remove-orphans removes them)",
            names.join(", ")
        ));
    }
    let stops = stop_in_order(&mut plan, project, &doomed, wish.timeout, "down");
    let mut removals = Vec::new();
    for container in &doomed {
        let after: Vec<_> = stops.get(container.name.as_str()).copied().into_iter().collect();
        let id = container.id.clone();
        let action = Action::RemoveContainer { id, name: container.name.clone(), volumes: wish.volumes };
        removals.push((*container, plan.push(action, after, "down")));
    }
    for service in project.iter().flat_map(|project| project.services.values()) {
        let is_meant = wish.services.is_empty() || wish.services.contains(&service.name);
        if is_meant && service.provider.is_some() {
            let after = removals.iter().map(|(_, step)| *step).collect();
            plan.push(Action::Provide { service: service.name.clone(), command: "down" }, after, "down");
        }
    }
    if !wish.services.is_empty() {
        return plan;
    }
    remove_networks(&mut plan, project, observed, &removals, &kept);
    let removed: Vec<_> = removals.iter().map(|(_, step)| *step).collect();
    if wish.volumes {
        remove_volumes(&mut plan, project, observed, &removed);
    }
    if let Some(project) = project {
        remove_images(&mut plan, project, wish.images, &removed);
    }
    plan
}

fn remove_networks(
    plan: &mut Plan,
    project: Option<&Project>,
    observed: &Observed,
    removals: &[(&ObservedContainer, StepId)],
    kept: &[&ObservedContainer],
) {
    let external: BTreeSet<&str> = project
        .iter()
        .flat_map(|project| project.networks.values())
        .filter(|network| network.external)
        .map(|network| network.name.as_str())
        .collect();
    for (name, network) in &observed.networks {
        if external.contains(name.as_str()) || network.project.is_none() {
            continue;
        }
        let users =
            network.foreign_users + kept.iter().filter(|container| container.networks.contains(&network.id)).count();
        if users > 0 {
            plan.warnings.push(format!("network `{name}` is kept: containers are still connected to it"));
            continue;
        }
        let after = removals
            .iter()
            .filter(|(container, _)| container.networks.contains(&network.id))
            .map(|(_, step)| *step)
            .collect();
        plan.push(Action::RemoveNetwork { id: network.id.clone(), name: name.clone() }, after, "down");
    }
}

fn remove_volumes(plan: &mut Plan, project: Option<&Project>, observed: &Observed, after: &[StepId]) {
    let external: BTreeSet<&str> = project
        .iter()
        .flat_map(|project| project.volumes.values())
        .filter(|volume| volume.external)
        .map(|volume| volume.name.as_str())
        .collect();
    for (name, volume) in &observed.volumes {
        if !external.contains(name.as_str()) && volume.project.is_some() {
            plan.push(Action::RemoveVolume { name: name.clone() }, after.to_vec(), "down -v");
        }
    }
}

fn remove_images(plan: &mut Plan, project: &Project, images: Images, after: &[StepId]) {
    let mut seen = BTreeSet::new();
    for service in project.services.values().chain(project.disabled_services.values()) {
        let reference = match (&service.image, images) {
            (_, Images::Keep) | (Some(_), Images::Local) => continue,
            (Some(image), Images::All) => image.clone(),
            (None, _) => project.name_of(&[&service.name]),
        };
        if seen.insert(reference.clone()) {
            plan.push(Action::RemoveImage { reference }, after.to_vec(), "down --rmi");
        }
    }
}

/// Plans `stop` of the named services (all when empty).
pub fn stop(
    project: Option<&Project>,
    observed: &Observed,
    services: &[String],
    timeout: Option<Duration>,
) -> Result<Plan, Error> {
    check(project, services)?;
    let mut plan = Plan::default();
    let containers = chosen(observed, services);
    stop_in_order(&mut plan, project, &containers, timeout, "asked for");
    Ok(plan)
}

/// Plans `kill`: a signal to each running container, in no order.
pub fn kill(project: Option<&Project>, observed: &Observed, services: &[String], signal: &str) -> Result<Plan, Error> {
    check(project, services)?;
    let mut plan = Plan::default();
    for container in chosen(observed, services).into_iter().filter(|container| is_up(container)) {
        let action =
            Action::KillContainer { id: container.id.clone(), name: container.name.clone(), signal: signal.to_owned() };
        plan.push(action, Vec::new(), "asked for");
    }
    Ok(plan)
}

/// Plans `rm`: removes stopped containers, and with `stop` also running ones.
pub fn remove(
    project: Option<&Project>,
    observed: &Observed,
    services: &[String],
    stop: bool,
    volumes: bool,
) -> Result<Plan, Error> {
    check(project, services)?;
    let mut plan = Plan::default();
    for container in chosen(observed, services) {
        if stop || !is_up(container) {
            remove_with(&mut plan, container, &[], None, "asked for", volumes);
        }
    }
    Ok(plan)
}

/// Plans `start`: existing containers in dependency order, with the waits that the file asks for.
pub fn start(project: &Project, observed: &Observed, services: &[String]) -> Result<Plan, Error> {
    let graph = Graph::of(project)?;
    let selected = graph.select(project, services, false)?;
    let mut plan = Plan::default();
    start_in_order(&mut plan, &graph, &selected, observed, &BTreeMap::new(), "asked for");
    Ok(plan)
}

/// Plans `restart`: the named services, and the dependents that asked to follow.
pub fn restart(
    project: &Project,
    observed: &Observed,
    services: &[String],
    no_deps: bool,
    timeout: Option<Duration>,
) -> Result<Plan, Error> {
    let graph = Graph::of(project)?;
    let mut selected = graph.select(project, services, true)?;
    let mut open: Vec<&str> = if no_deps { Vec::new() } else { selected.iter().copied().collect() };
    while let Some(name) = open.pop() {
        for (dependent, options) in graph.dependents(name) {
            if options.restart && selected.insert(dependent) {
                open.push(dependent);
            }
        }
    }
    let mut plan = Plan::default();
    let containers: Vec<_> = observed
        .containers
        .iter()
        .filter(|container| !container.oneoff && selected.contains(container.service.as_str()))
        .collect();
    let stops = stop_in_order(&mut plan, Some(project), &containers, timeout, "restart");
    start_in_order(&mut plan, &graph, &selected, observed, &stops, "restart");
    Ok(plan)
}

fn start_in_order(
    plan: &mut Plan,
    graph: &Graph<'_>,
    selected: &BTreeSet<&str>,
    observed: &Observed,
    stops: &BTreeMap<&str, StepId>,
    why: &str,
) {
    let mut started: BTreeMap<&str, Vec<StepId>> = BTreeMap::new();
    for name in graph.order().into_iter().filter(|name| selected.contains(name)) {
        let containers: Vec<_> = observed
            .of_service(name)
            .filter(|container| !is_up(container) || stops.contains_key(container.name.as_str()))
            .collect();
        if containers.is_empty() {
            continue;
        }
        let mut gates = Vec::new();
        for (dependency, options) in graph.dependencies(name) {
            let Some(before) = started.get(dependency).cloned() else { continue };
            if options.condition == Condition::Started {
                gates.extend(before);
            } else {
                let action = Action::Wait {
                    service: dependency.to_owned(),
                    condition: options.condition,
                    required: options.required,
                    wanted_by: vec![name.to_owned()],
                };
                gates.push(plan.push(action, before, "others wait for it"));
            }
        }
        for container in containers {
            let mut after = gates.clone();
            after.extend(stops.get(container.name.as_str()));
            let target = Target::Existing(container.id.clone());
            let step =
                plan.push(Action::StartContainer { container: target, name: container.name.clone() }, after, why);
            started.entry(name).or_default().push(step);
        }
    }
}

/// Stops the running ones of `containers`, dependents first. Returns the stop step by container name.
fn stop_in_order<'o>(
    plan: &mut Plan,
    project: Option<&Project>,
    containers: &[&'o ObservedContainer],
    timeout: Option<Duration>,
    why: &str,
) -> BTreeMap<&'o str, StepId> {
    let running: Vec<_> = containers.iter().copied().filter(|container| is_up(container)).collect();
    let depends =
        |dependent: &ObservedContainer, service: &str| match project.and_then(|p| p.services.get(&dependent.service)) {
            Some(definition) => definition.depends_on.contains_key(service),
            None => dependent.depends_on.iter().any(|name| name == service),
        };
    let mut stops: BTreeMap<&str, StepId> = BTreeMap::new();
    let mut remaining = running.clone();
    while !remaining.is_empty() {
        // Those that nothing left to stop depends on. Labels may name a circle: then take all at once.
        let (mut now, mut later): (Vec<_>, Vec<_>) = remaining.iter().copied().partition(|container| {
            !remaining.iter().any(|other| {
                other.id != container.id && other.service != container.service && depends(other, &container.service)
            })
        });
        if now.is_empty() {
            now = std::mem::take(&mut later);
        }
        for container in &now {
            let after = running
                .iter()
                .filter(|other| other.service != container.service && depends(other, &container.service))
                .filter_map(|other| stops.get(other.name.as_str()).copied())
                .collect();
            let action = Action::StopContainer { id: container.id.clone(), name: container.name.clone(), timeout };
            stops.insert(&container.name, plan.push(action, after, why));
        }
        remaining = later;
    }
    stops
}

fn chosen<'o>(observed: &'o Observed, services: &[String]) -> Vec<&'o ObservedContainer> {
    observed
        .containers
        .iter()
        .filter(|container| !container.oneoff && (services.is_empty() || services.contains(&container.service)))
        .collect()
}

fn check(project: Option<&Project>, services: &[String]) -> Result<(), Error> {
    let Some(project) = project else { return Ok(()) };
    let unknown = services
        .iter()
        .find(|name| !project.services.contains_key(*name) && !project.disabled_services.contains_key(*name));
    match unknown {
        Some(name) => Err(super::dependency::unknown(project, name)),
        None => Ok(()),
    }
}

fn is_up(container: &ObservedContainer) -> bool {
    matches!(container.status, Status::Running | Status::Paused | Status::Restarting)
}
