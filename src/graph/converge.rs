//! `up`: from what exists to what the project says, with the fewest steps.
//!
//! 1. Networks and volumes that are missing are made; networks whose definition changed are made anew.
//! 2. Each container gets a [`Fate`], services in dependency order, so that what must follow is known.
//! 3. Steps are written down: a replacement is made under a name of its own before the old container is
//!    stopped, so that a crash at any point leaves either of them complete, and the next `up` goes on.
//! 4. What a service waits for becomes an edge (`service_started`) or a wait step (the other conditions).
//!
//! A job (a service whose completion others wait for) that succeeded is not run again while nothing changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dependency::Graph;
use super::error::Error;
use super::hash;
use super::observed::{Observed, ObservedContainer};
use super::plan::{Action, Plan, StepId, Target};
use crate::base::id::ContainerId;
use crate::model::container::{HealthStatus, Status};
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

/// The number of containers that `service` shall have.
pub fn replicas(service: &Service) -> u32 {
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
        renewed_networks: BTreeSet::new(),
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
    /// Is replaced.
    Recreate { container: &'p ObservedContainer, why: String },
    /// Is removed.
    Remove { container: &'p ObservedContainer, why: String },
    /// Does not exist yet. `inherits`: one that is removed with its network, whose anonymous volumes stay.
    Create { why: String, inherits: Option<ContainerId> },
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
    /// Keys of networks that are made anew.
    renewed_networks: BTreeSet<&'p str>,
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

    fn orphans(&mut self) {
        let known =
            |name: &str| self.project.services.contains_key(name) || self.project.disabled_services.contains_key(name);
        let orphans: Vec<_> = self
            .observed
            .containers
            .iter()
            .filter(|container| !known(&container.service) && !container.oneoff)
            .collect();
        if orphans.is_empty() {
            return;
        }
        if self.wish.remove_orphans {
            for container in orphans {
                self.doomed.insert(&container.id);
                remove(&mut self.plan, container, &[], self.wish.timeout, "its service is not in the project any more");
            }
        } else if !self.wish.ignore_orphans {
            let names: Vec<_> = orphans.iter().map(|container| container.name.as_str()).collect();
            self.plan.warnings.push(format!(
                "found orphan containers ({}) for this project: if you removed or renamed their services, remove them with --remove-orphans",
                names.join(", ")
            ));
        }
    }

    fn networks(&mut self) -> Result<(), Error> {
        let used: BTreeSet<&'p str> = self
            .selected
            .iter()
            .flat_map(|name| self.service(name).networks.iter().flat_map(|networks| networks.keys()))
            .map(String::as_str)
            .collect();
        for key in used {
            let Some(network) = self.project.networks.get(key) else { continue };
            let found = self.observed.networks.get(&network.name);
            let create = |key: &str| Action::CreateNetwork { key: key.to_owned(), name: network.name.clone() };
            match found {
                None if network.external => {
                    return Err(Error::ExternalMissing {
                        kind: "network",
                        name: network.name.clone(),
                        location: self.project.locations.of(&format!("networks.{key}")).cloned(),
                    });
                }
                None => {
                    let step = self.plan.push(create(key), Vec::new(), "no network yet");
                    self.resources.push(step);
                }
                Some(found)
                    if !network.external
                        && found.config_hash.as_ref().is_some_and(|old| *old != hash::network(network)) =>
                {
                    if found.foreign_users > 0 {
                        return Err(Error::NetworkInUse { name: network.name.clone(), users: found.foreign_users });
                    }
                    // Its containers are removed first: a bridge cannot change its subnet below them. They
                    // come back as `Create`, since nothing of them is left to keep.
                    let users: Vec<_> = self
                        .observed
                        .containers
                        .iter()
                        .filter(|container| container.networks.contains(&found.id))
                        .collect();
                    let mut removed = Vec::new();
                    for container in users {
                        removed.push(remove_keeping(
                            &mut self.plan,
                            container,
                            self.wish.timeout,
                            "its network is made anew",
                        ));
                    }
                    let name = network.name.clone();
                    let gone = self.plan.push(
                        Action::RemoveNetwork { id: found.id.clone(), name },
                        removed,
                        "its definition changed",
                    );
                    let step = self.plan.push(create(key), vec![gone], "its definition changed");
                    self.resources.push(step);
                    self.renewed_networks.insert(key);
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn volumes(&mut self) -> Result<(), Error> {
        let used: BTreeSet<&'p str> = self
            .selected
            .iter()
            .flat_map(|name| &self.service(name).volumes)
            .filter(|mount| mount.kind == "volume")
            .filter_map(|mount| mount.source.as_deref())
            .collect();
        for key in used {
            let Some(volume) = self.project.volumes.get(key) else { continue };
            match self.observed.volumes.get(&volume.name) {
                None if volume.external => {
                    return Err(Error::ExternalMissing {
                        kind: "volume",
                        name: volume.name.clone(),
                        location: self.project.locations.of(&format!("volumes.{key}")).cloned(),
                    });
                }
                None => {
                    let action = Action::CreateVolume { key: key.to_owned(), name: volume.name.clone() };
                    let step = self.plan.push(action, Vec::new(), "no volume yet");
                    self.resources.push(step);
                }
                Some(found)
                    if !volume.external
                        && found.config_hash.as_ref().is_some_and(|old| *old != hash::volume(volume)) =>
                {
                    self.plan.warnings.push(format!(
                        "volume `{}` was made with another definition and is kept as it is: remove it (`down -v`) to apply the new one",
                        volume.name
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn decide(&mut self) -> Result<(), Error> {
        for name in self.graph.order() {
            if self.selected.contains(name) {
                let replicas = self.decide_service(name)?;
                for replica in &replicas {
                    if let Fate::Remove { container, .. } | Fate::Recreate { container, .. } = &replica.fate {
                        self.doomed.insert(&container.id);
                    }
                }
                self.fates.insert(name, replicas);
            }
        }
        Ok(())
    }

    fn decide_service(&mut self, name: &'p str) -> Result<Vec<Replica<'p>>, Error> {
        let service = self.service(name);
        let wanted = self.wish.scale.get(name).copied().unwrap_or_else(|| replicas(service));
        if let (Some(fixed), true) = (&service.container_name, wanted > 1) {
            return Err(Error::FixedNameScaled { service: name.to_owned(), name: fixed.clone(), replicas: wanted });
        }
        let mut replicas = Vec::new();
        let mut existing: Vec<(&'p ObservedContainer, Option<String>)> = Vec::new();
        let mut lost: BTreeMap<u32, ContainerId> = BTreeMap::new();
        for container in self.observed.of_service(name) {
            if self.lost_its_network(container) {
                lost.insert(container.number, container.id.clone());
                self.doomed.insert(&container.id);
                continue;
            }
            if self.is_unfinished_replacement(container)
                || existing.iter().any(|(other, _)| other.number == container.number)
            {
                let why = "an interrupted `up` left it".to_owned();
                replicas.push(Replica { number: container.number, fate: Fate::Remove { container, why } });
            } else {
                existing.push((container, self.reason_to_recreate(service, container)));
            }
        }
        // The ones to lose first: those that would be replaced anyway, then the highest numbers.
        existing.sort_by_key(|(container, why)| (why.is_some(), container.number));
        while existing.len() > wanted as usize {
            if let Some((container, _)) = existing.pop() {
                let why = format!("scaled to {wanted}");
                replicas.push(Replica { number: container.number, fate: Fate::Remove { container, why } });
            }
        }
        existing.sort_by_key(|(container, _)| container.number);
        let mut used: BTreeSet<u32> = existing.iter().map(|(container, _)| container.number).collect();
        for (container, why) in existing {
            let fate = match why {
                Some(why) => Fate::Recreate { container, why },
                None => Fate::Keep { container, start: self.reason_to_start(name, container) },
            };
            replicas.push(Replica { number: container.number, fate });
        }
        while used.len() < wanted as usize {
            // The lowest free number, so that a container that was removed by hand comes back by its name.
            let number = (1..).find(|number| !used.contains(number)).unwrap_or(1);
            used.insert(number);
            let inherits = lost.remove(&number);
            let why = if inherits.is_some() {
                "its network is made anew".to_owned()
            } else if self.observed.of_service(name).next().is_none() {
                "no container yet".to_owned()
            } else {
                format!("replica {number} of {wanted} is missing")
            };
            replicas.push(Replica { number, fate: Fate::Create { why, inherits } });
        }
        Ok(replicas)
    }

    /// Whether the container is removed together with a network that is made anew.
    fn lost_its_network(&self, container: &ObservedContainer) -> bool {
        self.renewed_networks.iter().any(|key| {
            let network = &self.project.networks[*key];
            self.observed.networks.get(&network.name).is_some_and(|found| container.networks.contains(&found.id))
        })
    }

    /// Whether the container was made to replace one that still exists.
    fn is_unfinished_replacement(&self, container: &ObservedContainer) -> bool {
        container.replaces.as_ref().is_some_and(|old| self.observed.containers.iter().any(|other| other.id == *old))
    }

    fn reason_to_recreate(&self, service: &Service, container: &ObservedContainer) -> Option<String> {
        if self.wish.recreate == Recreate::Never {
            return None;
        }
        let named = self.wish.services.is_empty() || self.wish.services.contains(&service.name);
        if self.wish.recreate == Recreate::Always && (named || self.wish.recreate_dependencies) {
            return Some("asked for".into());
        }
        if self.wish.renew_volumes && named {
            return Some("its anonymous volumes are renewed".into());
        }
        if container.config_hash != self.hash_of(service) {
            return Some("its configuration changed".into());
        }
        if let (Some(now), Some(then)) = (self.observed.images.get(&service.name), &container.image)
            && now != then
        {
            return Some("its image changed".into());
        }
        for key in service.networks.iter().flat_map(|networks| networks.keys()) {
            let network = self.project.networks.get(key)?;
            if let Some(found) = self.observed.networks.get(&network.name)
                && !container.networks.contains(&found.id)
            {
                return Some(format!("it is not in network {}", network.name));
            }
        }
        let exists = |id: &ContainerId| self.observed.containers.iter().any(|other| other.id == *id);
        if container.shares.iter().any(|id| self.doomed.contains(id) || !exists(id)) {
            return Some("it shares a namespace of a container that is made anew or gone".into());
        }
        let provider = volume_providers(service).find(|provider| self.is_made_anew(provider))?;
        Some(format!("it uses the volumes of {provider}, which is made anew"))
    }

    fn is_made_anew(&self, service: &str) -> bool {
        self.fates.get(service).is_some_and(|replicas| {
            replicas.iter().any(|replica| matches!(replica.fate, Fate::Recreate { .. } | Fate::Create { .. }))
        })
    }

    fn reason_to_start(&self, name: &str, container: &ObservedContainer) -> Option<String> {
        match container.status {
            Status::Running | Status::Paused | Status::Restarting => None,
            Status::Created => Some("it was never started".into()),
            Status::Exited if self.graph.is_job(name) && has_completed(container) => None,
            Status::Exited if container.stopped_by_user => Some("it was stopped".into()),
            Status::Exited => Some(format!("it exited with code {}", container.exit_code)),
            Status::Dead => Some("it could not be started before".into()),
        }
    }

    fn hash_of(&self, service: &Service) -> String {
        hash::service(service, self.observed.contents.get(&service.name).map(String::as_str))
    }

    fn write(&mut self) {
        let restarted = self.stop_those_that_follow();
        for name in self.graph.order() {
            if let Some(replicas) = self.fates.remove(name) {
                self.write_service(name, &replicas, &restarted);
            }
        }
    }

    /// Dependents with `restart: true` of what is replaced are stopped before and started after it.
    fn stop_those_that_follow(&mut self) -> BTreeMap<ContainerId, (StepId, String)> {
        let mut stopped = BTreeMap::new();
        for (name, replicas) in &self.fates {
            for (dependency, options) in self.graph.dependencies(name) {
                let replaced = self.fates.get(dependency).is_some_and(|replicas| {
                    replicas.iter().any(|replica| matches!(replica.fate, Fate::Recreate { .. }))
                });
                if !options.restart || !replaced {
                    continue;
                }
                for replica in replicas {
                    if let Fate::Keep { container, .. } = &replica.fate
                        && is_up(container)
                        && !stopped.contains_key(&container.id)
                    {
                        let why = format!("{dependency} is made anew");
                        let step = self.plan.push(stop(container, self.wish.timeout), Vec::new(), why.clone());
                        stopped.insert(container.id.clone(), (step, why));
                    }
                }
            }
        }
        stopped
    }

    fn write_service(
        &mut self,
        name: &'p str,
        replicas: &[Replica<'p>],
        restarted: &BTreeMap<ContainerId, (StepId, String)>,
    ) {
        let service = self.service(name);
        let mut starts: Vec<(Target, String, Vec<StepId>, String)> = Vec::new();
        let first_step = self.plan.steps.len();
        let before_creation = self.before_creation(service);
        for replica in replicas {
            let final_name = container_name(self.project, service, replica.number);
            match &replica.fate {
                Fate::Remove { container, why } => {
                    remove(&mut self.plan, container, &[], self.wish.timeout, why);
                }
                Fate::Create { why, inherits } => {
                    let action = self.create(service, replica.number, final_name.clone(), inherits.clone());
                    let created = self.plan.push(action, before_creation.clone(), why.clone());
                    let target = Target::New { service: name.to_owned(), number: replica.number };
                    starts.push((target, final_name, vec![created], why.clone()));
                }
                Fate::Recreate { container, why } => {
                    let followers = restarted.values().map(|(step, _)| *step).collect();
                    let renamed = self.replace(service, replica.number, (container, why), &before_creation, followers);
                    let target = Target::New { service: name.to_owned(), number: replica.number };
                    starts.push((target, final_name, vec![renamed], why.clone()));
                }
                Fate::Keep { container, start } => {
                    let target = Target::Existing(container.id.clone());
                    let mut ready = Vec::new();
                    if container.name != final_name {
                        let action = Action::RenameContainer { container: target.clone(), name: final_name.clone() };
                        ready.push(self.plan.push(action, Vec::new(), "an interrupted `up` left another name"));
                    }
                    if let Some((stopped, why)) = restarted.get(&container.id) {
                        ready.push(*stopped);
                        starts.push((target, final_name, ready, why.clone()));
                    } else if let Some(why) = start {
                        starts.push((target, final_name, ready, why.clone()));
                    }
                }
            }
        }
        self.settled.insert(name, (first_step..self.plan.steps.len()).map(StepId).collect());
        if self.wish.no_start || starts.is_empty() {
            return;
        }
        let gates = self.gates(name);
        for (container, container_name, mut after, why) in starts {
            after.extend(&gates);
            let step = self.plan.push(Action::StartContainer { container, name: container_name }, after, why);
            self.started.entry(name).or_default().push(step);
        }
    }

    /// What a new container of `service` comes after: networks, volumes, and those whose namespaces and volumes
    /// it refers to by their containers.
    fn before_creation(&self, service: &Service) -> Vec<StepId> {
        let providers = namespace_providers(service).chain(volume_providers(service));
        let settled = providers.filter_map(|provider| self.settled.get(provider)).flatten();
        self.resources.iter().chain(settled).copied().collect()
    }

    fn create(&self, service: &Service, number: u32, name: String, replaces: Option<ContainerId>) -> Action {
        Action::CreateContainer {
            service: service.name.clone(),
            number,
            name,
            replaces,
            config_hash: self.hash_of(service),
        }
    }

    /// Make the new one, stop and remove the old one, give the new one its name.
    fn replace(
        &mut self,
        service: &Service,
        number: u32,
        (old, why): (&ObservedContainer, &str),
        before_creation: &[StepId],
        followers: Vec<StepId>,
    ) -> StepId {
        let name = container_name(self.project, service, number);
        let temporary = format!("{}_{name}", old.id.short());
        let create = self.create(service, number, temporary, Some(old.id.clone()));
        let created = self.plan.push(create, before_creation.to_vec(), why);
        let mut before_removal = vec![created];
        if is_up(old) {
            let mut after = followers;
            after.push(created);
            before_removal.push(self.plan.push(stop(old, self.wish.timeout), after, why));
        }
        let removal =
            Action::RemoveContainer { id: old.id.clone(), name: old.name.clone(), volumes: self.wish.renew_volumes };
        let removed = self.plan.push(removal, before_removal, why);
        let container = Target::New { service: service.name.clone(), number };
        self.plan.push(Action::RenameContainer { container, name }, vec![removed], "the old one is gone")
    }

    /// The steps that a start of `name` comes after, because of its dependencies.
    fn gates(&mut self, name: &'p str) -> Vec<StepId> {
        let mut gates = Vec::new();
        for (dependency, options) in self.graph.dependencies(name) {
            if !self.selected.contains(dependency) {
                continue;
            }
            let started = self.started.get(dependency).cloned().unwrap_or_default();
            if options.condition == Condition::Started {
                gates.extend(started);
                continue;
            }
            if started.is_empty() && self.is_fulfilled(dependency, options.condition) {
                continue;
            }
            let key = (dependency, options.condition, options.required);
            let step = match self.waits.get(&key) {
                Some(step) => *step,
                None => {
                    let action = Action::Wait {
                        service: dependency.to_owned(),
                        condition: options.condition,
                        required: options.required,
                        wanted_by: Vec::new(),
                    };
                    let step = self.plan.push(action, started, "others wait for it");
                    self.waits.insert(key, step);
                    step
                }
            };
            if let Action::Wait { wanted_by, .. } = &mut self.plan.steps[step.0].action {
                wanted_by.push(name.to_owned());
            }
            gates.push(step);
        }
        gates
    }

    /// Whether a dependency that no step touches has what is waited for already.
    fn is_fulfilled(&self, dependency: &str, condition: Condition) -> bool {
        let wanted = self.wish.scale.get(dependency).copied().unwrap_or_else(|| replicas(self.service(dependency)));
        if wanted == 0 {
            return true;
        }
        let mut containers = self.observed.of_service(dependency);
        match condition {
            Condition::Started => true,
            Condition::Healthy => {
                containers.all(|container| is_up(container) && container.health == Some(HealthStatus::Healthy))
            }
            Condition::CompletedSuccessfully => containers.all(has_completed),
        }
    }
}

/// The services whose namespaces `service` uses.
fn namespace_providers(service: &Service) -> impl Iterator<Item = &str> {
    let modes = [&service.network_mode, &service.pid, &service.ipc];
    modes.into_iter().flatten().filter_map(|mode| mode.strip_prefix("service:"))
}

/// The services whose volumes `service` uses.
fn volume_providers(service: &Service) -> impl Iterator<Item = &str> {
    service.volumes_from.iter().filter(|from| !from.starts_with("container:")).filter_map(|from| from.split(':').next())
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

/// Stops where needed and removes, with anonymous volumes.
pub(super) fn remove(
    plan: &mut Plan,
    container: &ObservedContainer,
    after: &[StepId],
    timeout: Option<Duration>,
    why: &str,
) -> StepId {
    remove_with(plan, container, after, timeout, why, true)
}

/// Stops where needed and removes, keeping anonymous volumes.
fn remove_keeping(plan: &mut Plan, container: &ObservedContainer, timeout: Option<Duration>, why: &str) -> StepId {
    remove_with(plan, container, &[], timeout, why, false)
}

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
