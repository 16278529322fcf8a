//! Decisions as steps, in two passes: what is made, stopped and removed, then what is given its name and started.
//!
//! The first pass waits for nothing but the containers' own ends, so that a name or a port of the host can go from
//! any service to any other: whoever needs it comes after the one who has it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Fate, Planner, Replica, container_name, has_completed, host_ports, is_up, namespace_providers, remove_with, stop,
    volume_providers,
};
use crate::base::id::ContainerId;
use crate::graph::observed::ObservedContainer;
use crate::graph::plan::{Action, StepId, Target};
use crate::model::container::{HealthStatus, Status};
use crate::model::project::{Condition, Service};

/// A container that is to run.
pub(super) struct Start<'p> {
    pub(super) number: u32,
    pub(super) container: Target,
    name: String,
    pub(super) after: Vec<StepId>,
    why: String,
    /// The container as it is, if it exists.
    pub(super) existing: Option<&'p ObservedContainer>,
}

/// A container that is replaced when it is its turn; its successor is made in the first pass.
pub(super) struct Roll<'p> {
    pub(super) old: &'p ObservedContainer,
    pub(super) number: u32,
    /// The final name.
    pub(super) name: String,
    pub(super) why: String,
    /// What its start comes after, besides the turn: its creation, and its hooks.
    pub(super) ready: StepId,
    /// The stops of those that follow it.
    pub(super) followers: Vec<StepId>,
}

/// A container that gets its name once nobody else has it.
struct Rename<'p> {
    service: &'p str,
    /// Where its start stands among the starts of the service, if it is started.
    start: Option<usize>,
    container: Target,
    name: String,
    after: Vec<StepId>,
    why: &'static str,
}

/// What the first pass leaves to the second.
#[derive(Default)]
pub(super) struct Later<'p> {
    starts: BTreeMap<&'p str, Vec<Start<'p>>>,
    renames: Vec<Rename<'p>>,
    rolls: BTreeMap<&'p str, Vec<Roll<'p>>>,
    /// Services of which a container runs on.
    running: BTreeSet<&'p str>,
}

impl<'p> Planner<'p> {
    pub(super) fn write(&mut self) {
        let restarted = self.stop_those_that_follow();
        let mut later = Later::default();
        let fates = std::mem::take(&mut self.fates);
        for name in self.graph.order() {
            if let Some(replicas) = fates.get(name) {
                self.make(name, replicas, &restarted, &mut later);
            }
        }
        for rename in std::mem::take(&mut later.renames) {
            let mut after = rename.after;
            let holder = self.observed.containers.iter().find(|container| container.name == rename.name);
            after.extend(holder.and_then(|holder| self.removal_of(holder)));
            let action = Action::RenameContainer { container: rename.container, name: rename.name };
            let step = self.plan.push(action, after, rename.why);
            if let Some(index) = rename.start
                && let Some(start) = later.starts.get_mut(rename.service).and_then(|starts| starts.get_mut(index))
            {
                start.after.push(step);
            }
        }
        for name in self.graph.order() {
            let starts = later.starts.remove(name).unwrap_or_default();
            let rolls = later.rolls.remove(name).unwrap_or_default();
            self.start(name, starts, rolls, later.running.contains(name));
        }
    }

    /// Dependents with `restart: true` of what is replaced or started are stopped before and started after it, and
    /// so are those that follow them in turn.
    fn stop_those_that_follow(&mut self) -> BTreeMap<ContainerId, (StepId, String)> {
        let mut stopped = BTreeMap::new();
        if self.wish.no_start {
            return stopped;
        }
        let mut causes: BTreeMap<&str, &str> = BTreeMap::new();
        let mut following: BTreeSet<&str> = BTreeSet::new();
        for name in self.graph.order() {
            let replicas = self.fates.get(name).map_or(&[][..], Vec::as_slice);
            let is_affected = !self.wish.no_deps || self.selected.contains(name);
            let dependencies = self.graph.dependencies(name);
            let mut leaders = dependencies.iter().filter(|(_, options)| options.restart).map(|(leader, _)| *leader);
            let leader = leaders.find(|leader| causes.contains_key(leader)).filter(|_| is_affected);
            let is_new = replicas.iter().any(|replica| matches!(replica.fate, Fate::Recreate { start: true, .. }));
            let is_started = replicas.iter().any(|replica| matches!(replica.fate, Fate::Keep { start: Some(_), .. }));
            if is_new {
                causes.insert(name, "made anew");
            } else if is_started {
                causes.insert(name, "started");
            } else if leader.is_some() {
                causes.insert(name, "restarted");
            }
            if leader.is_some() {
                following.insert(name);
            }
        }
        // Dependents first.
        let mut before: BTreeMap<&str, Vec<StepId>> = BTreeMap::new();
        for name in self.graph.order().into_iter().rev().filter(|name| following.contains(name)) {
            let dependencies = self.graph.dependencies(name);
            let leader = dependencies.iter().find(|(leader, options)| options.restart && causes.contains_key(leader));
            let Some((leader, _)) = leader else { continue };
            let why = format!("{leader} is {}", causes[leader]);
            let after: Vec<StepId> = self
                .graph
                .dependents(name)
                .iter()
                .flat_map(|(other, _)| before.get(other).into_iter().flatten())
                .copied()
                .collect();
            for replica in &self.fates[name] {
                if let Fate::Keep { container, .. } = &replica.fate
                    && is_up(container)
                {
                    let step = self.plan.push(stop(container, self.wish.timeout), after.clone(), why.clone());
                    before.entry(name).or_default().push(step);
                    stopped.insert(container.id.clone(), (step, why.clone()));
                }
            }
        }
        stopped
    }

    /// The first pass for one service.
    fn make(
        &mut self,
        name: &'p str,
        replicas: &[Replica<'p>],
        restarted: &BTreeMap<ContainerId, (StepId, String)>,
        later: &mut Later<'p>,
    ) {
        let service = self.service(name);
        let first_step = self.plan.steps.len();
        let before_creation = self.before_creation(service);
        let starts = later.starts.entry(name).or_default();
        for replica in replicas {
            let number = replica.number;
            let final_name = container_name(self.project, service, number);
            let new = Target::New { service: name.to_owned(), number };
            let mut start = |container: &Target, after: Vec<StepId>, why: &str, existing| {
                let start = Start {
                    number,
                    container: container.clone(),
                    name: final_name.clone(),
                    after,
                    why: why.to_owned(),
                    existing,
                };
                starts.push(start);
                Some(starts.len() - 1)
            };
            match &replica.fate {
                Fate::Remove { container, why } => {
                    remove_with(&mut self.plan, container, &[], self.wish.timeout, why, true);
                }
                Fate::Create { why, inherits, start: is_started } => {
                    // Somebody whose removal may come later still has the name.
                    let holder = self.holder_of_name(service, number);
                    let gone = holder.and_then(|holder| self.removal_of(holder));
                    let waits = holder.filter(|holder| gone.is_none() && self.doomed.contains(&holder.id));
                    let name_now = waits.map_or(final_name.clone(), |holder| temporary(holder, &final_name));
                    let action = self.create(service, number, name_now, inherits.clone());
                    let after = before_creation.iter().copied().chain(gone).collect();
                    let created = self.plan.push(action, after, why.clone());
                    let start = is_started.then(|| start(&new, vec![created], why, None)).flatten();
                    if waits.is_some() {
                        let why = "its name is free now";
                        let after = vec![created];
                        later.renames.push(Rename {
                            service: name,
                            start,
                            container: new,
                            name: final_name,
                            after,
                            why,
                        });
                    }
                }
                Fate::Recreate { container: old, why, start: is_started } => {
                    let followers = restarted.values().map(|(step, _)| *step);
                    let temporary = temporary(old, &final_name);
                    // An interrupted replacement of the same container has that name until it is removed.
                    let unfinished = self.observed.containers.iter().find(|container| container.name == temporary);
                    let gone = unfinished.and_then(|container| self.removal_of(container));
                    let create = self.create(service, number, temporary, Some(old.id.clone()));
                    let after = before_creation.iter().copied().chain(gone).collect();
                    let created = self.plan.push(create, after, why.clone());
                    if self.is_rolled(service, &replica.fate) {
                        let (old, name, why, followers) = (*old, final_name, why.clone(), followers.collect());
                        later.rolls.entry(&service.name).or_default().push(Roll {
                            old,
                            number,
                            name,
                            why,
                            ready: created,
                            followers,
                        });
                        continue;
                    }
                    let mut before_removal = vec![created];
                    if is_up(old) {
                        let after = followers.chain([created]).collect();
                        before_removal.push(self.plan.push(stop(old, self.wish.timeout), after, why.clone()));
                    }
                    let removal = Action::RemoveContainer {
                        id: old.id.clone(),
                        name: old.name.clone(),
                        volumes: self.wish.renew_volumes,
                    };
                    let removed = self.plan.push(removal, before_removal, why.clone());
                    let start = is_started.then(|| start(&new, Vec::new(), why, None)).flatten();
                    let (after, why) = (vec![removed], "the old one is gone");
                    later.renames.push(Rename { service: name, start, container: new, name: final_name, after, why });
                }
                Fate::Keep { container, start: reason } => {
                    let target = Target::Existing(container.id.clone());
                    if is_up(container) && !restarted.contains_key(&container.id) {
                        later.running.insert(&service.name);
                    }
                    let index = match (restarted.get(&container.id), reason) {
                        (Some((stopped, why)), _) => start(&target, vec![*stopped], why, None),
                        (None, Some(why)) => start(&target, self.resources.clone(), why, Some(*container)),
                        (None, None) => None,
                    };
                    if container.name != final_name && self.selected.contains(name) {
                        let why = "an interrupted `up` left another name";
                        let (service, after) = (name, Vec::new());
                        later.renames.push(Rename {
                            service,
                            start: index,
                            container: target,
                            name: final_name,
                            after,
                            why,
                        });
                    }
                }
            }
        }
        self.settled.insert(name, (first_step..self.plan.steps.len()).map(StepId).collect());
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

    /// The second pass for one service.
    fn start(&mut self, name: &'p str, mut starts: Vec<Start<'p>>, mut rolls: Vec<Roll<'p>>, is_running: bool) {
        if self.wish.no_start || (starts.is_empty() && rolls.is_empty()) {
            return;
        }
        let mut gates = self.gates(name);
        gates.extend(self.ports_given_up_for(self.service(name)));
        self.run_hooks(self.service(name), &mut starts, &mut rolls, &gates, is_running);
        for start in starts {
            if start.existing.is_some_and(|container| container.status == Status::Paused) {
                let container = start.existing.map(|container| container.id.clone());
                if let Some(id) = container {
                    let action = Action::UnpauseContainer { id, name: start.name };
                    self.plan.push(action, start.after, start.why);
                }
                continue;
            }
            let mut after = start.after;
            after.extend(&gates);
            let action = Action::StartContainer { container: start.container, name: start.name };
            let step = self.plan.push(action, after, start.why);
            self.started.entry(name).or_default().push(step);
        }
        self.roll(name, rolls, &gates);
    }

    /// The stops of containers that have a port of the host which `service` is to have.
    fn ports_given_up_for(&self, service: &Service) -> Vec<StepId> {
        let wanted = host_ports(service);
        if wanted.is_empty() {
            return Vec::new();
        }
        let gives_up = |id: &ContainerId| {
            let holder = self.observed.containers.iter().find(|container| container.id == *id);
            holder.is_some_and(|holder| {
                self.doomed.contains(&holder.id)
                    && holder.ports.iter().any(|port| wanted.iter().any(|wanted| wanted.conflicts(port)))
            })
        };
        let steps = self.plan.steps.iter().enumerate();
        steps
            .filter(|(_, step)| matches!(&step.action, Action::StopContainer { id, .. } if gives_up(id)))
            .map(|(index, _)| StepId(index))
            .collect()
    }

    /// The steps that a start of `name` comes after, because of its dependencies.
    fn gates(&mut self, name: &'p str) -> Vec<StepId> {
        let mut gates = Vec::new();
        for (dependency, options) in self.graph.dependencies(name) {
            let started = self.started.get(dependency).cloned().unwrap_or_default();
            if !self.selected.contains(dependency) && started.is_empty() {
                continue;
            }
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
        if self.wanted(self.service(dependency)) == 0 {
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

/// The name of a container while another one still has its own.
fn temporary(holder: &ObservedContainer, name: &str) -> String {
    format!("{}_{name}", holder.id.short())
}
