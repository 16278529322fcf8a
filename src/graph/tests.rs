//! Golden plans: what `up`, `down` and their kin decide for small projects, as text.

use std::collections::BTreeMap;

use super::converge::{self, Recreate, Wish};
use super::observed::{HostPort, Observed, ObservedContainer, ObservedNetwork};
use super::{Plan, hash, teardown};
use crate::base::id::{ContainerId, Digest, NetworkId};
use crate::model::container::{HealthStatus, Status};
use crate::model::project::{Condition, Dependency, Deploy, Network, Port, Project, Service};

/// A project from lines like `web: api, db healthy, seed completed` or `web x2: api restart`.
fn project(text: &str) -> Project {
    let mut project = Project { name: "p".into(), ..Project::default() };
    project.networks.insert("default".into(), Network { name: "p_default".into(), ..Network::default() });
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (head, dependencies) = line.split_once(':').unwrap_or((line, ""));
        let (name, count) = head.split_once(" x").map_or((head, None), |(name, count)| (name, count.parse().ok()));
        let depends_on =
            dependencies.split(',').map(str::trim).filter(|word| !word.is_empty()).map(dependency).collect();
        let service = Service {
            name: name.to_owned(),
            canonical: serde_json::json!({ "image": name }),
            networks: Some(BTreeMap::from([("default".to_owned(), None)])),
            scale: count,
            depends_on,
            ..Service::default()
        };
        project.services.insert(name.to_owned(), service);
    }
    project
}

fn dependency(text: &str) -> (String, Dependency) {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or_default().to_owned();
    let mut dependency = Dependency { required: true, ..Dependency::default() };
    for word in words {
        match word {
            "healthy" => dependency.condition = Condition::Healthy,
            "completed" => dependency.condition = Condition::CompletedSuccessfully,
            "restart" => dependency.restart = true,
            other => panic!("unknown word {other}"),
        }
    }
    (name, dependency)
}

/// The project as it is after `up`: every replica runs, jobs are done.
fn running(project: &Project) -> Observed {
    let mut observed = Observed::default();
    let id: NetworkId = "a".repeat(64).parse().unwrap_or_else(|error| panic!("{error}"));
    let network = ObservedNetwork {
        id: id.clone(),
        project: Some("p".into()),
        config_hash: Some(hash::network(&project.networks["default"])),
        foreign_users: 0,
    };
    observed.networks.insert("p_default".into(), network);
    for service in project.services.values() {
        for number in 1..=converge::replicas(service) {
            observed.containers.push(ObservedContainer {
                id: ContainerId::random(),
                name: converge::container_name(project, service, number),
                service: service.name.clone(),
                number,
                oneoff: false,
                hook: false,
                config_hash: hash::service(service, None),
                image: Some(Digest::of(b"image")),
                replaces: None,
                depends_on: service.depends_on.keys().cloned().collect(),
                networks: vec![id.clone()],
                volumes: Vec::new(),
                ports: Vec::new(),
                shares: Vec::new(),
                status: Status::Running,
                stopped_by_user: false,
                exit_code: 0,
                health: None,
                image_name: service.name.clone(),
            });
        }
    }
    observed
}

fn up(project: &Project, observed: &Observed, wish: &Wish) -> Plan {
    converge::up(project, observed, wish).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn check(plan: &Plan, expected: &str) {
    // Ids are random: a replacement's temporary name begins with one.
    let text: String =
        plan.to_string().lines().map(|line| line.split(' ').map(redact).collect::<Vec<_>>().join(" ") + "\n").collect();
    let expected: String =
        expected.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
    assert_eq!(text, expected, "\n{text}");
}

fn redact(word: &str) -> String {
    match word.split_once('_') {
        Some((id, rest)) if id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()) => format!("ID_{rest}"),
        _ => word.to_owned(),
    }
}

#[test]
fn the_first_up_makes_everything_in_order() {
    let project = project("web: api, db healthy\n api: db healthy\n db");
    check(
        &up(&project, &Observed::default(), &Wish::default()),
        "1. create network p_default: no network yet
         2. create container p-db-1 (after 1): no container yet
         3. create container p-api-1 (after 1): no container yet
         4. create container p-web-1 (after 1): no container yet
         5. start container p-db-1 (after 2): no container yet
         6. wait for db: healthy (after 5): others wait for it
         7. start container p-api-1 (after 3, 6): no container yet
         8. start container p-web-1 (after 4, 6, 7): no container yet",
    );
}

#[test]
fn a_second_up_does_nothing() {
    let project = project("web x3: api\n api");
    check(&up(&project, &running(&project), &Wish::default()), "");
}

#[test]
fn only_what_changed_is_replaced_and_what_must_follow_is_restarted() {
    let before = project("web: api restart\n api\n other: api");
    let observed = running(&before);
    let mut after = before.clone();
    if let Some(api) = after.services.get_mut("api") {
        api.canonical = serde_json::json!({ "image": "api:2" });
    }
    check(
        &up(&after, &observed, &Wish::default()),
        "1. stop container p-web-1: api is made anew
         2. create container ID_p-api-1: its configuration changed
         3. stop container p-api-1 (after 1, 2): its configuration changed
         4. remove container p-api-1 (after 2, 3): its configuration changed
         5. rename container to p-api-1 (after 4): the old one is gone
         6. start container p-api-1 (after 5): its configuration changed
         7. start container p-web-1 (after 1, 6): api is made anew",
    );
}

#[test]
fn a_change_of_the_image_behind_a_tag_counts() {
    let project = project("web");
    let mut observed = running(&project);
    observed.images.insert("web".into(), Digest::of(b"newer"));
    let plan = up(&project, &observed, &Wish::default());
    assert_eq!(plan.steps[0].why, "its image changed");
}

#[test]
fn scaling_removes_the_highest_numbers_and_fills_gaps() {
    let project = project("web x3");
    let mut observed = running(&project);
    let wish = Wish { scale: BTreeMap::from([("web".to_owned(), 1)]), ..Wish::default() };
    check(
        &up(&project, &observed, &wish),
        "1. stop container p-web-3: scaled to 1
         2. remove container p-web-3 and its volumes (after 1): scaled to 1
         3. stop container p-web-2: scaled to 1
         4. remove container p-web-2 and its volumes (after 3): scaled to 1",
    );
    observed.containers.remove(1);
    check(
        &up(&project, &observed, &Wish::default()),
        "1. create container p-web-2: replica 2 of 3 is missing
         2. start container p-web-2 (after 1): replica 2 of 3 is missing",
    );
}

#[test]
fn a_job_that_succeeded_is_not_run_again() {
    let project = project("web: seed completed\n seed");
    let mut observed = running(&project);
    observed.containers[0].status = Status::Exited;
    check(&up(&project, &observed, &Wish::default()), "");
    observed.containers[0].exit_code = 3;
    check(&up(&project, &observed, &Wish::default()), "1. start container p-seed-1: it exited with code 3");
}

#[test]
fn a_stopped_service_is_started_and_what_is_healthy_is_not_waited_for() {
    let project = project("web: db healthy\n db");
    let mut observed = running(&project);
    observed.containers[0].health = Some(HealthStatus::Healthy);
    observed.containers[1].status = Status::Exited;
    observed.containers[1].stopped_by_user = true;
    check(&up(&project, &observed, &Wish::default()), "1. start container p-web-1: it was stopped");
    observed.containers[0].health = Some(HealthStatus::Starting);
    check(
        &up(&project, &observed, &Wish::default()),
        "1. wait for db: healthy: others wait for it
         2. start container p-web-1 (after 1): it was stopped",
    );
}

#[test]
fn an_interrupted_replacement_is_finished() {
    let project = project("web");
    let observed = running(&project);
    let old = observed.containers[0].clone();
    let replacement = ObservedContainer {
        id: ContainerId::random(),
        name: format!("{}_p-web-1", old.id.short()),
        replaces: Some(old.id.clone()),
        status: Status::Created,
        ..old.clone()
    };
    // Killed before the old one was removed: the new one is thrown away.
    let mut both = observed.clone();
    both.containers.insert(0, replacement.clone());
    check(
        &up(&project, &both, &Wish::default()),
        "1. remove container ID_p-web-1 and its volumes: an interrupted `up` left it",
    );
    // Killed after that: the new one takes its place.
    let mut only_new = observed;
    only_new.containers = vec![replacement];
    check(
        &up(&project, &only_new, &Wish::default()),
        "1. rename container to p-web-1: an interrupted `up` left another name
         2. start container p-web-1 (after 1): it was never started",
    );
}

/// Plans the replacement of three replicas.
fn update(config: serde_json::Value) -> Plan {
    let before = project("web x3");
    let observed = running(&before);
    let mut after = before.clone();
    let web = after.services.get_mut("web").expect("it is there");
    web.canonical = serde_json::json!({ "image": "web:2" });
    web.deploy = Some(Deploy { update_config: Some(config), ..Deploy::default() });
    up(&after, &observed, &Wish::default())
}

#[test]
fn replicas_are_replaced_some_at_a_time() {
    check(
        &update(serde_json::json!({ "parallelism": 2, "delay": "5s" })),
        "1. create container ID_p-web-1: its configuration changed
         2. create container ID_p-web-2: its configuration changed
         3. create container ID_p-web-3: its configuration changed
         4. stop container p-web-1 (after 1): its configuration changed
         5. start container p-web-1 (after 1, 4): its configuration changed
         6. stop container p-web-2 (after 2): its configuration changed
         7. start container p-web-2 (after 2, 6): its configuration changed
         8. wait until web 1, 2 runs well (after 5, 7): the next containers come after that
         9. remove container p-web-1 (after 8): its configuration changed
         10. rename container to p-web-1 (after 9): the old one is gone
         11. remove container p-web-2 (after 8): its configuration changed
         12. rename container to p-web-2 (after 11): the old one is gone
         13. wait 5s before more of web is replaced (after 8, 10, 12): update_config.delay
         14. stop container p-web-3 (after 3, 13): its configuration changed
         15. start container p-web-3 (after 3, 13, 14): its configuration changed
         16. wait until web 3 runs well (after 15): the update ends with that
         17. remove container p-web-3 (after 16): its configuration changed
         18. rename container to p-web-3 (after 17): the old one is gone",
    );
}

#[test]
fn old_ones_stay_until_new_ones_work_and_until_nothing_can_be_rolled_back() {
    check(
        &update(serde_json::json!({ "parallelism": 0, "order": "start-first", "failure_action": "rollback" })),
        "1. create container ID_p-web-1: its configuration changed
         2. create container ID_p-web-2: its configuration changed
         3. create container ID_p-web-3: its configuration changed
         4. start container p-web-1 (after 1): its configuration changed
         5. start container p-web-2 (after 2): its configuration changed
         6. start container p-web-3 (after 3): its configuration changed
         7. wait until web 1, 2, 3 runs well (after 4, 5, 6): the update ends with that
         8. stop container p-web-1 (after 7): its configuration changed
         9. stop container p-web-2 (after 7): its configuration changed
         10. stop container p-web-3 (after 7): its configuration changed
         11. remove container p-web-1 (after 7, 8, 9, 10): its configuration changed
         12. rename container to p-web-1 (after 11): the old one is gone
         13. remove container p-web-2 (after 7, 8, 9, 10): its configuration changed
         14. rename container to p-web-2 (after 13): the old one is gone
         15. remove container p-web-3 (after 7, 8, 9, 10): its configuration changed
         16. rename container to p-web-3 (after 15): the old one is gone",
    );
}

#[test]
fn orphans_are_named_or_removed() {
    let before = project("web\n old");
    let observed = running(&before);
    let mut after = before.clone();
    after.services.remove("old");
    let plan = up(&after, &observed, &Wish::default());
    assert!(plan.is_empty());
    assert!(plan.warnings[0].contains("p-old-1"), "{:?}", plan.warnings);
    let wish = Wish { remove_orphans: true, ..Wish::default() };
    check(
        &up(&after, &observed, &wish),
        "1. stop container p-old-1: its service is not in the project any more
         2. remove container p-old-1 and its volumes (after 1): its service is not in the project any more",
    );
}

#[test]
fn a_renamed_service_takes_over_the_port_that_nobody_else_needs() {
    let before = project("old");
    let mut observed = running(&before);
    let port = Port { target: 80, published: Some("8080".into()), ..Port::default() };
    observed.containers[0].ports = HostPort::of(&port).into_iter().collect();
    let mut after = project("new");
    after.services.get_mut("new").expect("it is there").ports.push(port);
    check(
        &up(&after, &observed, &Wish::default()),
        "1. stop container p-old-1: its service is not in the project any more, and new needs its port 8080
         2. remove container p-old-1 (after 1): its service is not in the project any more, and new needs its port 8080
         3. create container p-new-1: no container yet
         4. start container p-new-1 (after 1, 3): no container yet",
    );
}

#[test]
fn who_was_not_named_is_made_right_but_not_scaled_or_changed() {
    let before = project("web: api restart\n api x2\n other");
    let observed = running(&before);
    let mut after = before.clone();
    for service in after.services.values_mut() {
        service.canonical = serde_json::json!({ "image": "2" });
        service.scale = Some(1);
    }
    let wish = Wish { services: vec!["api".into()], ..Wish::default() };
    check(
        &up(&after, &observed, &wish),
        "1. stop container p-web-1: api is made anew
         2. stop container p-api-2: scaled to 1
         3. remove container p-api-2 and its volumes (after 2): scaled to 1
         4. create container ID_p-api-1: its configuration changed
         5. stop container p-api-1 (after 1, 4): its configuration changed
         6. remove container p-api-1 (after 4, 5): its configuration changed
         7. rename container to p-api-1 (after 6): the old one is gone
         8. start container p-api-1 (after 7): its configuration changed
         9. start container p-web-1 (after 1, 8): api is made anew",
    );
}

#[test]
fn a_changed_network_is_made_anew_with_its_containers() {
    let before = project("web");
    let observed = running(&before);
    let mut after = before.clone();
    if let Some(network) = after.networks.get_mut("default") {
        network.internal = true;
    }
    check(
        &up(&after, &observed, &Wish::default()),
        "1. stop container p-web-1: its network is made anew
         2. remove container p-web-1 (after 1): its network is made anew
         3. remove network p_default (after 2): its definition changed
         4. create network p_default (after 3): its definition changed
         5. create container p-web-1 (after 2, 4): its network is made anew
         6. start container p-web-1 (after 5): its network is made anew",
    );
}

#[test]
fn force_recreate_concerns_the_named_services() {
    let project = project("web: db\n db");
    let wish = Wish { services: vec!["web".into()], recreate: Recreate::Always, ..Wish::default() };
    let plan = up(&project, &running(&project), &wish);
    assert!(plan.steps.iter().all(|step| step.action.resource().contains("web")), "{plan}");
    assert_eq!(plan.steps.len(), 5);
}

#[test]
fn down_stops_dependents_first() {
    let project = project("web: api\n api: db\n db");
    let plan = teardown::down(Some(&project), &running(&project), &teardown::Down::default());
    check(
        &plan,
        "1. stop container p-web-1: down
         2. stop container p-api-1 (after 1): down
         3. stop container p-db-1 (after 2): down
         4. remove container p-api-1 (after 2): down
         5. remove container p-db-1 (after 3): down
         6. remove container p-web-1 (after 1): down
         7. remove network p_default (after 4, 5, 6): down",
    );
    // Without the file, the labels give the same order.
    let by_label = teardown::down(None, &running(&project), &teardown::Down::default());
    assert_eq!(plan.to_string(), by_label.to_string());
}

#[test]
fn restart_takes_the_dependents_that_asked_for_it() {
    let project = project("web: api restart\n api\n other: api");
    let plan = teardown::restart(&project, &running(&project), &["api".into()], false, None)
        .unwrap_or_else(|error| panic!("{error}"));
    check(
        &plan,
        "1. stop container p-web-1: restart
         2. stop container p-api-1 (after 1): restart
         3. start container p-api-1 (after 2): restart
         4. start container p-web-1 (after 1, 3): restart",
    );
}
