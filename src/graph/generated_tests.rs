//! Generated projects, changes and faults: after `up`, wherever it began and wherever it was killed, the next
//! plan is empty, and no step ran before one that it needs.
//!
//! The plan is carried out on an [`Observed`] value by a small model of what each action does.

use std::collections::BTreeMap;

use super::converge::{self, Wish};
use super::observed::{Observed, ObservedContainer, ObservedNetwork};
use super::plan::{Action, Plan, Target};
use super::{hash, teardown};
use crate::base::id::{ContainerId, Digest, NetworkId};
use crate::model::container::{HealthStatus, Status};
use crate::model::project::{Condition, Dependency, Network, Project, Service};

/// How many projects each test makes. Each sees several changes and faults.
const CASES: u64 = 400;

/// A small generator of numbers (SplitMix64): the same cases in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

fn random_project(random: &mut Random) -> Project {
    let mut project = Project { name: "p".into(), ..Project::default() };
    for key in ["default", "back"] {
        project.networks.insert(key.into(), Network { name: format!("p_{key}"), ..Network::default() });
    }
    let count = 1 + random.below(7);
    for index in 0..count {
        let name = format!("s{index}");
        let mut networks = BTreeMap::from([("default".to_owned(), None)]);
        if random.chance(40) {
            networks.insert("back".into(), None);
        }
        let mut service = Service {
            name: name.clone(),
            canonical: serde_json::json!({ "image": random.below(3) }),
            networks: Some(networks),
            scale: Some(random.below(4) as u32),
            ..Service::default()
        };
        for earlier in 0..index {
            if random.chance(35) {
                let condition =
                    [Condition::Started, Condition::Healthy, Condition::CompletedSuccessfully][random.below(3)];
                let dependency = Dependency { condition, restart: random.chance(30), required: true };
                service.depends_on.insert(format!("s{earlier}"), dependency);
            }
        }
        if index > 0 && random.chance(15) {
            let provider = format!("s{}", random.below(index));
            service.networks = None;
            service.network_mode = Some(format!("service:{provider}"));
            service.depends_on.insert(provider, Dependency { restart: true, required: true, ..Dependency::default() });
        }
        project.services.insert(name, service);
    }
    project
}

/// What a user may do to the file between two `up`s.
fn change(random: &mut Random, project: &mut Project) {
    let names: Vec<String> = project.services.keys().cloned().collect();
    let name = &names[random.below(names.len())];
    match random.below(5) {
        0 => {
            if let Some(service) = project.services.get_mut(name) {
                service.canonical = serde_json::json!({ "image": random.next() });
            }
        }
        1 => {
            if let Some(service) = project.services.get_mut(name) {
                service.scale = Some(random.below(5) as u32);
            }
        }
        2 => {
            if let Some(network) = project.networks.get_mut("back") {
                network.internal = !network.internal;
            }
        }
        3 if names.len() > 1 => {
            project.services.remove(name);
            for service in project.services.values_mut() {
                service.depends_on.remove(name);
                if service.network_mode.as_deref() == Some(&format!("service:{name}")) {
                    service.network_mode = Some("none".into());
                }
            }
        }
        _ => {}
    }
}

/// What may happen to the host between two `up`s.
fn disturb(random: &mut Random, observed: &mut Observed) {
    if observed.containers.is_empty() {
        return;
    }
    let index = random.below(observed.containers.len());
    match random.below(5) {
        0 => drop(observed.containers.remove(index)),
        1 => {
            observed.containers[index].status = Status::Exited;
            observed.containers[index].exit_code = random.below(3) as i32;
            observed.containers[index].stopped_by_user = random.chance(50);
        }
        2 => {
            let service = observed.containers[index].service.clone();
            observed.images.insert(service, Digest::of(&random.next().to_le_bytes()));
        }
        3 => observed.containers[index].health = Some(HealthStatus::Unhealthy),
        _ => {}
    }
}

/// Carries out the first `limit` steps of a plan.
fn apply(plan: &Plan, project: &Project, observed: &mut Observed, limit: usize) {
    let jobs = super::dependency::Graph::of(project).expect("the project is sound");
    for (index, step) in plan.steps.iter().enumerate().take(limit) {
        assert!(
            step.after.iter().all(|before| before.0 < index),
            "step {} stands before one it needs:\n{plan}",
            index + 1
        );
        match &step.action {
            Action::CreateNetwork { key, name } => {
                let network = ObservedNetwork {
                    id: NetworkId::random(),
                    project: Some("p".into()),
                    config_hash: Some(hash::network(&project.networks[key])),
                    foreign_users: 0,
                };
                assert!(observed.networks.insert(name.clone(), network).is_none(), "two networks {name}:\n{plan}");
            }
            Action::RemoveNetwork { id, name } => {
                let users = observed.containers.iter().filter(|container| container.networks.contains(id)).count();
                assert_eq!(users, 0, "network {name} is removed below its containers:\n{plan}");
                observed.networks.remove(name);
            }
            Action::CreateContainer { service, number, name, replaces, config_hash } => {
                assert!(
                    observed.containers.iter().all(|container| container.name != *name),
                    "two containers {name}:\n{plan}"
                );
                let definition = &project.services[service];
                let keys = definition.networks.iter().flat_map(|networks| networks.keys());
                let networks = keys.map(|key| observed.networks[&project.networks[key].name].id.clone()).collect();
                let provider = definition.network_mode.as_deref().and_then(|mode| mode.strip_prefix("service:"));
                let shares = observed
                    .containers
                    .iter()
                    .filter(|other| Some(other.service.as_str()) == provider)
                    .min_by_key(|other| other.number)
                    .map(|other| other.id.clone())
                    .into_iter()
                    .collect();
                observed.containers.push(ObservedContainer {
                    id: ContainerId::random(),
                    name: name.clone(),
                    service: service.clone(),
                    number: *number,
                    oneoff: false,
                    config_hash: config_hash.clone(),
                    image: observed.images.get(service).cloned(),
                    replaces: replaces.clone(),
                    depends_on: definition.depends_on.keys().cloned().collect(),
                    networks,
                    shares,
                    status: Status::Created,
                    stopped_by_user: false,
                    exit_code: 0,
                    health: None,
                    image_name: service.clone(),
                });
            }
            Action::RenameContainer { container, name } => {
                assert!(
                    observed.containers.iter().all(|other| other.name != *name),
                    "the name {name} is taken:\n{plan}"
                );
                find(observed, container, plan).name = name.clone();
            }
            Action::StartContainer { container, .. } => {
                let container = find(observed, container, plan);
                assert_ne!(container.status, Status::Running, "{} is started twice:\n{plan}", container.name);
                let is_job = jobs.is_job(&container.service);
                container.status = if is_job { Status::Exited } else { Status::Running };
                container.exit_code = 0;
                container.stopped_by_user = false;
                container.health = Some(HealthStatus::Healthy);
            }
            Action::StopContainer { id, .. } => {
                let container = find(observed, &Target::Existing(id.clone()), plan);
                container.status = Status::Exited;
                container.stopped_by_user = true;
            }
            Action::RemoveContainer { id, name, .. } => {
                let container = find(observed, &Target::Existing(id.clone()), plan);
                assert_ne!(container.status, Status::Running, "{name} is removed while it runs:\n{plan}");
                observed.containers.retain(|container| container.id != *id);
            }
            Action::Wait { .. } => {}
            other => panic!("`up` never does this: {other}"),
        }
    }
}

fn find<'o>(observed: &'o mut Observed, target: &Target, plan: &Plan) -> &'o mut ObservedContainer {
    // Of a replica and its replacement, the replacement is the later one.
    let found = observed.containers.iter_mut().rev().find(|container| match target {
        Target::Existing(id) => container.id == *id,
        Target::New { service, number } => container.service == *service && container.number == *number,
    });
    found.unwrap_or_else(|| panic!("no container for {target:?}:\n{plan}"))
}

fn up(project: &Project, observed: &Observed) -> Plan {
    let wish = Wish { remove_orphans: true, ..Wish::default() };
    converge::up(project, observed, &wish).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn check_converged(case: u64, project: &Project, observed: &Observed) {
    let rest = up(project, observed);
    assert!(rest.is_empty(), "case {case}: not converged:\n{rest}");
    for service in project.services.values() {
        let count = observed.of_service(&service.name).count();
        assert_eq!(count, converge::replicas(service) as usize, "case {case}: replicas of {}", service.name);
    }
    for container in &observed.containers {
        let exists = |id: &ContainerId| observed.containers.iter().any(|other| other.id == *id);
        assert!(container.shares.iter().all(exists), "case {case}: {} shares a namespace of nobody", container.name);
    }
    let known = |container: &ObservedContainer| project.services.contains_key(&container.service);
    assert!(observed.containers.iter().all(known), "case {case}: an orphan stayed");
}

#[test]
fn up_converges_from_anywhere() {
    for case in 0..CASES {
        let mut random = Random(case);
        let mut project = random_project(&mut random);
        let mut observed = Observed::default();
        for _ in 0..5 {
            let plan = up(&project, &observed);
            apply(&plan, &project, &mut observed, usize::MAX);
            check_converged(case, &project, &observed);
            change(&mut random, &mut project);
            disturb(&mut random, &mut observed);
        }
    }
}

#[test]
fn up_converges_after_being_killed_between_any_two_steps() {
    for case in 0..CASES {
        let mut random = Random(case ^ 0xdead);
        let mut project = random_project(&mut random);
        let mut observed = Observed::default();
        for _ in 0..4 {
            for _ in 0..3 {
                let plan = up(&project, &observed);
                let limit = random.below(plan.steps.len() + 1);
                apply(&plan, &project, &mut observed, limit);
            }
            let plan = up(&project, &observed);
            apply(&plan, &project, &mut observed, usize::MAX);
            check_converged(case, &project, &observed);
            change(&mut random, &mut project);
            disturb(&mut random, &mut observed);
        }
    }
}

#[test]
fn down_leaves_nothing() {
    for case in 0..CASES {
        let mut random = Random(case ^ 0xbeef);
        let project = random_project(&mut random);
        let mut observed = Observed::default();
        let plan = up(&project, &observed);
        let limit = random.below(plan.steps.len() + 1);
        apply(&plan, &project, &mut observed, limit);
        let plan = teardown::down(Some(&project), &observed, &teardown::Down::default());
        apply(&plan, &project, &mut observed, usize::MAX);
        assert!(observed.containers.is_empty() && observed.networks.is_empty(), "case {case}:\n{plan}");
    }
}
