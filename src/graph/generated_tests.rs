//! Generated projects, changes and faults: after `up`, wherever it began and wherever it was killed, the next
//! plan is empty, and no step ran before one that it needs.
//!
//! The plan is carried out on an [`Observed`] value by a small model of what each action does, its steps in any order
//! that their edges allow. `WHARF_SEED` makes other cases; the seed stands in every failure.

use std::collections::{BTreeMap, BTreeSet};

use super::converge::{self, Wish};
use super::observed::{HostPort, Observed, ObservedContainer, ObservedNetwork, ObservedVolume};
use super::plan::{Action, Plan, Target};
use super::{hash, teardown};
use crate::base::id::{ContainerId, Digest, NetworkId};
use crate::model::container::{HealthStatus, Status};
use crate::model::project::{Condition, Dependency, Deploy, Network, Port, Project, Service, ServiceVolume, Volume};

/// How many projects each test makes. Each sees several changes and faults.
const CASES: u64 = 500;

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

/// The cases of one test, each with its own numbers.
fn cases(test: u64) -> impl Iterator<Item = (String, Random)> {
    let seed: u64 = std::env::var("WHARF_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    println!("WHARF_SEED={seed}");
    (0..CASES).map(move |case| {
        let start = seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ (test << 32) ^ case;
        (format!("seed {seed}, case {case}"), Random(start))
    })
}

fn random_project(random: &mut Random) -> Project {
    let mut project = Project { name: "p".into(), ..Project::default() };
    for key in ["default", "back"] {
        project.networks.insert(key.into(), Network { name: format!("p_{key}"), ..Network::default() });
    }
    for key in ["data", "cache"] {
        project.volumes.insert(key.into(), Volume { name: format!("p_{key}"), ..Volume::default() });
    }
    let count = 1 + random.below(7);
    for index in 0..count {
        let name = format!("s{index}");
        let mut service = random_service(random, &name);
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
        if index > 0 && random.chance(10) {
            let provider = format!("s{}", random.below(index));
            service.volumes_from.push(provider.clone());
            service.depends_on.entry(provider).or_insert(Dependency { required: true, ..Dependency::default() });
        }
        project.services.insert(name, service);
    }
    project
}

fn random_service(random: &mut Random, name: &str) -> Service {
    let mut networks = BTreeMap::from([("default".to_owned(), None)]);
    if random.chance(40) {
        networks.insert("back".into(), None);
    }
    let mut service = Service {
        name: name.to_owned(),
        networks: Some(networks),
        scale: Some(random.below(4) as u32),
        restart: random.chance(20).then(|| "no".to_owned()),
        ..Service::default()
    };
    if random.chance(30) {
        let source = Some(["data", "cache"][random.below(2)].to_owned());
        service.volumes.push(ServiceVolume {
            kind: "volume".into(),
            source,
            target: "/data".into(),
            ..ServiceVolume::default()
        });
    }
    if random.chance(35) {
        // Few ports and names, so that they change hands.
        service.scale = Some(1);
        service.ports.push(port(8080 + random.below(3)));
        if random.chance(50) {
            service.container_name = Some(format!("fixed{}", random.below(3)));
        }
    } else if random.chance(40) {
        service.deploy = Some(Deploy { update_config: Some(update(random)), ..Deploy::default() });
    }
    write_canonical(&mut service, random.below(3));
    service
}

fn update(random: &mut Random) -> serde_json::Value {
    let order = ["start-first", "stop-first"][random.below(2)];
    let action = ["pause", "continue", "rollback"][random.below(3)];
    serde_json::json!({ "parallelism": random.below(3), "order": order, "failure_action": action, "delay": "1s" })
}

fn port(number: usize) -> Port {
    Port { target: 80, published: Some(number.to_string()), protocol: Some("tcp".into()), ..Port::default() }
}

/// What the hash is made of; as the loader has it, ports and names are in it.
fn write_canonical(service: &mut Service, image: usize) {
    service.canonical = serde_json::json!({
        "image": image,
        "ports": service.ports.iter().map(|port| port.published.clone()).collect::<Vec<_>>(),
        "container_name": service.container_name,
    });
}

/// Makes names and ports unique again: the first service keeps what several have.
fn settle_conflicts(project: &mut Project) {
    let (mut names, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for service in project.services.values_mut() {
        if service.container_name.as_ref().is_some_and(|name| !names.insert(name.clone())) {
            service.container_name = None;
        }
        service.ports.retain(|port| ports.insert(port.published.clone()));
        let image = service.canonical["image"].as_u64().unwrap_or(0) as usize;
        write_canonical(service, image);
    }
}

/// What a user may do to the file between two `up`s.
fn change(random: &mut Random, project: &mut Project) {
    let names: Vec<String> = project.services.keys().cloned().collect();
    let name = names[random.below(names.len())].clone();
    let key = ["default", "back"][random.below(2)];
    let kind = random.below(11);
    let service = project.services.get_mut(&name).expect("it is there");
    match kind {
        0 => service.canonical["image"] = random.below(1000).into(),
        1 if service.container_name.is_none() && service.ports.is_empty() => {
            service.scale = Some(random.below(5) as u32);
        }
        2 => project.networks.get_mut(key).expect("it is there").internal ^= true,
        3 if names.len() > 1 => {
            project.services.remove(&name);
            for service in project.services.values_mut() {
                service.depends_on.remove(&name);
                service.volumes_from.retain(|from| *from != name);
                if service.network_mode.as_deref() == Some(&format!("service:{name}")) {
                    service.network_mode = Some("none".into());
                }
            }
        }
        4 => {
            // Another name for a service: as a new one, as far as anybody can tell.
            let mut service = project.services.remove(&name).expect("it is there");
            let new = format!("{name}r");
            service.name = new.clone();
            project.services.insert(new.clone(), service);
            for service in project.services.values_mut() {
                if let Some(options) = service.depends_on.remove(&name) {
                    service.depends_on.insert(new.clone(), options);
                }
                for from in service.volumes_from.iter_mut().filter(|from| **from == name) {
                    from.clone_from(&new);
                }
                if service.network_mode.as_deref() == Some(&format!("service:{name}")) {
                    service.network_mode = Some(format!("service:{new}"));
                }
            }
        }
        5 => project.networks.get_mut(key).expect("it is there").name = format!("p_other{}", random.below(3)),
        6 => {
            let volume = project.volumes.get_mut("data").expect("it is there");
            volume.name = format!("p_data{}", random.below(3));
        }
        7 => {
            let volume = project.volumes.get_mut("cache").expect("it is there");
            volume.driver_opts.insert("o".into(), random.below(100).to_string());
        }
        8 => {
            // Two services change places: ports and names.
            let other = names[random.below(names.len())].clone();
            let take = |service: &mut Service| {
                (std::mem::take(&mut service.ports), service.container_name.take(), service.scale)
            };
            let put = |service: &mut Service, (ports, name, scale)| {
                (service.ports, service.container_name, service.scale) = (ports, name, scale);
            };
            let first = take(service);
            let other = project.services.get_mut(&other).expect("it is there");
            let second = if other.name == name { first.clone() } else { take(other) };
            put(other, first);
            put(project.services.get_mut(&name).expect("it is there"), second);
        }
        9 if service.deploy.is_some() => {
            service.deploy = Some(Deploy { update_config: Some(update(random)), ..Deploy::default() });
            service.canonical["image"] = random.below(1000).into();
        }
        _ => {}
    }
    settle_conflicts(project);
    // A network that got the name of another one would be that one.
    if project.networks["default"].name == project.networks["back"].name {
        project.networks.get_mut("back").expect("it is there").name = "p_back".into();
    }
}

/// What may happen to the host between two `up`s.
fn disturb(random: &mut Random, observed: &mut Observed) {
    if observed.containers.is_empty() {
        return;
    }
    let index = random.below(observed.containers.len());
    let service = observed.containers[index].service.clone();
    match random.below(8) {
        0 => drop(observed.containers.remove(index)),
        1 => {
            observed.containers[index].status = Status::Exited;
            observed.containers[index].exit_code = random.below(3) as i32;
            observed.containers[index].stopped_by_user = random.chance(50);
        }
        2 => drop(observed.images.insert(service, Digest::of(&random.next().to_le_bytes()))),
        3 => observed.containers[index].health = Some(HealthStatus::Unhealthy),
        // The content of a secret or config.
        4 => drop(observed.contents.insert(service, random.next().to_string())),
        5 => {
            // Everything is gone, as after `docker rm -f` of all, with the networks and volumes.
            observed.containers.clear();
            observed.networks.clear();
            if random.chance(50) {
                observed.volumes.clear();
            }
        }
        6 if observed.containers[index].status == Status::Running => {
            observed.containers[index].status = Status::Paused;
        }
        _ => {}
    }
}

/// Carries out the first `limit` steps of a plan, in an order that its edges allow.
fn apply(random: &mut Random, plan: &Plan, project: &Project, observed: &mut Observed, limit: usize) {
    for (index, step) in plan.steps.iter().enumerate() {
        assert!(
            step.after.iter().all(|before| before.0 < index),
            "step {} stands before one it needs:\n{plan}",
            index + 1
        );
    }
    let mut done = BTreeSet::new();
    let limit = limit.min(plan.steps.len());
    while done.len() < limit {
        let is_ready = |index: &usize| {
            !done.contains(index) && plan.steps[*index].after.iter().all(|before| done.contains(&before.0))
        };
        let ready: Vec<usize> = (0..plan.steps.len()).filter(is_ready).collect();
        let index = ready[random.below(ready.len())];
        act(&plan.steps[index].action, plan, project, observed);
        done.insert(index);
    }
}

/// What one action does.
fn act(action: &Action, plan: &Plan, project: &Project, observed: &mut Observed) {
    match action {
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
        Action::CreateVolume { key, name } => {
            let hash = Some(hash::volume(&project.volumes[key]));
            let volume = ObservedVolume { project: Some("p".into()), config_hash: hash };
            assert!(observed.volumes.insert(name.clone(), volume).is_none(), "two volumes {name}:\n{plan}");
        }
        Action::RemoveVolume { name } => {
            let is_used = observed.containers.iter().any(|container| container.volumes.contains(name));
            assert!(!is_used, "volume {name} is removed below its containers:\n{plan}");
            observed.volumes.remove(name);
        }
        Action::CreateContainer { service, number, name, replaces, config_hash } => {
            assert!(
                observed.containers.iter().all(|container| container.name != *name),
                "two containers {name}:\n{plan}"
            );
            let container = made(&project.services[service], *number, observed, project, plan);
            let (name, replaces, config_hash) = (name.clone(), replaces.clone(), config_hash.clone());
            observed.containers.push(ObservedContainer { name, replaces, config_hash, ..container });
        }
        Action::RenameContainer { container, name } => {
            assert!(observed.containers.iter().all(|other| other.name != *name), "the name {name} is taken:\n{plan}");
            find(observed, container, plan).name = name.clone();
        }
        Action::StartContainer { container, .. } => start(container, plan, project, observed),
        Action::UnpauseContainer { id, .. } => {
            find(observed, &Target::Existing(id.clone()), plan).status = Status::Running;
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
        Action::Wait { .. } | Action::RunHook { .. } | Action::Settle { .. } | Action::Delay { .. } => {}
        other => panic!("`up` never does this: {other}"),
    }
}

fn made(service: &Service, number: u32, observed: &Observed, project: &Project, plan: &Plan) -> ObservedContainer {
    let network = |key: &String| {
        let name = &project.networks[key].name;
        observed.networks.get(name).unwrap_or_else(|| panic!("no network {name} yet:\n{plan}")).id.clone()
    };
    let volume = |mount: &ServiceVolume| {
        let name = project.volumes[mount.source.as_ref()?].name.clone();
        assert!(observed.volumes.contains_key(&name), "no volume {name} yet:\n{plan}");
        Some(name)
    };
    let provider = service.network_mode.as_deref().and_then(|mode| mode.strip_prefix("service:"));
    let is_replaced = |id: &ContainerId| observed.containers.iter().any(|other| other.replaces.as_ref() == Some(id));
    let shared = observed
        .containers
        .iter()
        .filter(|other| Some(other.service.as_str()) == provider && !is_replaced(&other.id))
        .min_by_key(|other| other.number);
    ObservedContainer {
        id: ContainerId::random(),
        name: String::new(),
        service: service.name.clone(),
        number,
        oneoff: false,
        hook: false,
        config_hash: String::new(),
        image: observed.images.get(&service.name).cloned(),
        replaces: None,
        depends_on: service.depends_on.keys().cloned().collect(),
        networks: service.networks.iter().flat_map(|networks| networks.keys()).map(network).collect(),
        volumes: service.volumes.iter().filter_map(volume).collect(),
        ports: service.ports.iter().filter_map(HostPort::of).collect(),
        shares: shared.map(|other| other.id.clone()).into_iter().collect(),
        status: Status::Created,
        stopped_by_user: false,
        exit_code: 0,
        health: None,
        image_name: service.name.clone(),
    }
}

fn start(target: &Target, plan: &Plan, project: &Project, observed: &mut Observed) {
    let started = find(observed, target, plan).clone();
    assert_ne!(started.status, Status::Running, "{} is started twice:\n{plan}", started.name);
    for other in observed.containers.iter().filter(|other| other.status == Status::Running) {
        let conflict = other.ports.iter().any(|port| started.ports.iter().any(|wanted| wanted.conflicts(port)));
        assert!(!conflict, "{} takes a port that {} has:\n{plan}", started.name, other.name);
    }
    let graph = super::dependency::Graph::of(project).expect("the project is sound");
    let ends = graph.is_job(&started.service)
        || project.services.get(&started.service).is_some_and(|service| service.restart.as_deref() == Some("no"));
    let container = find(observed, target, plan);
    container.status = if ends { Status::Exited } else { Status::Running };
    container.exit_code = 0;
    container.stopped_by_user = false;
    container.health = Some(HealthStatus::Healthy);
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
fn check_converged(case: &str, project: &Project, observed: &Observed) {
    let rest = up(project, observed);
    assert!(rest.is_empty(), "{case}: not converged:\n{rest}");
    for service in project.services.values() {
        let count = observed.of_service(&service.name).count();
        assert_eq!(count, converge::replicas(service) as usize, "{case}: replicas of {}", service.name);
        for container in observed.of_service(&service.name) {
            let name = converge::container_name(project, service, container.number);
            assert_eq!(container.name, name, "{case}: a name");
        }
    }
    // A job that is done needs nobody any more.
    for container in observed.containers.iter().filter(|container| container.status == Status::Running) {
        let exists = |id: &ContainerId| observed.containers.iter().any(|other| other.id == *id);
        assert!(container.shares.iter().all(exists), "{case}: {} shares a namespace of nobody", container.name);
    }
    let known = |container: &ObservedContainer| project.services.contains_key(&container.service);
    assert!(observed.containers.iter().all(known), "{case}: an orphan stayed");
}

#[test]
fn up_converges_from_anywhere() {
    for (case, mut random) in cases(1) {
        let mut project = random_project(&mut random);
        settle_conflicts(&mut project);
        let mut observed = Observed::default();
        for _ in 0..5 {
            let plan = up(&project, &observed);
            apply(&mut random, &plan, &project, &mut observed, usize::MAX);
            check_converged(&case, &project, &observed);
            change(&mut random, &mut project);
            disturb(&mut random, &mut observed);
        }
    }
}

#[test]
fn up_converges_after_being_killed_between_any_two_steps() {
    for (case, mut random) in cases(2) {
        let mut project = random_project(&mut random);
        settle_conflicts(&mut project);
        let mut observed = Observed::default();
        for _ in 0..4 {
            for _ in 0..3 {
                let plan = up(&project, &observed);
                let limit = random.below(plan.steps.len() + 1);
                apply(&mut random, &plan, &project, &mut observed, limit);
                if random.chance(30) {
                    change(&mut random, &mut project);
                }
            }
            let plan = up(&project, &observed);
            apply(&mut random, &plan, &project, &mut observed, usize::MAX);
            check_converged(&case, &project, &observed);
            change(&mut random, &mut project);
            disturb(&mut random, &mut observed);
        }
    }
}

#[test]
fn an_up_of_some_services_leaves_nothing_broken() {
    for (case, mut random) in cases(3) {
        let mut project = random_project(&mut random);
        settle_conflicts(&mut project);
        let mut observed = Observed::default();
        let plan = up(&project, &observed);
        apply(&mut random, &plan, &project, &mut observed, usize::MAX);
        let before: BTreeSet<(String, u32)> =
            observed.containers.iter().map(|container| (container.service.clone(), container.number)).collect();
        let name = format!("s{}", random.below(project.services.len()));
        let service = project.services.get_mut(&name).expect("it is there");
        service.canonical["image"] = 2000.into();
        // Who names a job wants it to run each time.
        service.restart = None;
        if random.chance(30) {
            project.networks.get_mut("default").expect("it is there").internal ^= true;
        }
        let wish = Wish { services: vec![name], no_deps: random.chance(50), ..Wish::default() };
        let plan = converge::up(&project, &observed, &wish).unwrap_or_else(|error| panic!("{error}"));
        apply(&mut random, &plan, &project, &mut observed, usize::MAX);
        let rest = converge::up(&project, &observed, &wish).unwrap_or_else(|error| panic!("{error}"));
        assert!(rest.is_empty(), "{case}: not converged:\n{rest}");
        let after: BTreeSet<(String, u32)> =
            observed.containers.iter().map(|container| (container.service.clone(), container.number)).collect();
        assert_eq!(before, after, "{case}:\n{plan}");
        for container in observed.containers.iter().filter(|container| container.status == Status::Running) {
            let exists = |id: &ContainerId| observed.containers.iter().any(|other| other.id == *id);
            assert!(container.shares.iter().all(exists), "{case}: {} is cut off:\n{plan}", container.name);
            let exists = |id: &NetworkId| observed.networks.values().any(|network| network.id == *id);
            assert!(container.networks.iter().all(exists), "{case}: {} is cut off:\n{plan}", container.name);
        }
    }
}

#[test]
fn down_leaves_nothing() {
    for (case, mut random) in cases(4) {
        let mut project = random_project(&mut random);
        settle_conflicts(&mut project);
        let mut observed = Observed::default();
        let plan = up(&project, &observed);
        let limit = random.below(plan.steps.len() + 1);
        apply(&mut random, &plan, &project, &mut observed, limit);
        let plan = teardown::down(Some(&project), &observed, &teardown::Down::default());
        apply(&mut random, &plan, &project, &mut observed, usize::MAX);
        assert!(observed.containers.is_empty() && observed.networks.is_empty(), "{case}:\n{plan}");
    }
}
