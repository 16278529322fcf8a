//! `up --wait` and `start --wait`: what counts as up, and what is said of what is not.

use std::time::{Duration, Instant};

use crate::world::World;

#[test]
fn what_ends_at_once_is_not_up_and_its_last_words_are_shown() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:
  # Waited for first by name, and never healthy: the other one must be told at once all the same.
  a:
    image: busybox
    command: sleep 1000
    healthcheck: {test: \"false\", interval: 100s, retries: 1000}
  web: {image: busybox, command: \"sh -c 'echo no database; exit 3'\"}
",
    );
    let begin = Instant::now();
    let answer = world.wharf(&["up", "--wait"]).expect(1);
    assert!(begin.elapsed() < Duration::from_secs(50), "{:?}", begin.elapsed());
    for expected in ["service `web` is not up", "exited with code 3", "no database", "hint:"] {
        assert!(answer.stderr.contains(expected), "no `{expected}` in\n{}", answer.stderr);
    }
    assert!(!answer.stderr.contains("service `a`"), "{}", answer.stderr);
}

#[test]
fn a_failing_health_check_is_told_with_what_it_said() {
    let world = World::new();
    let file = |retries: u32| {
        format!(
            "services:
  db:
    image: busybox
    command: sh -c 'echo recovering; exec sleep 1000'
    healthcheck: {{test: \"echo not yet; exit 4\", interval: 50ms, retries: {retries}}}
"
        )
    };
    world.write("compose.yaml", &file(2));
    let answer = world.wharf(&["up", "--wait"]).expect(1);
    for expected in ["service `db` is not up", "is unhealthy (not yet)", "recovering"] {
        assert!(answer.stderr.contains(expected), "no `{expected}` in\n{}", answer.stderr);
    }
    world.write("compose.yaml", &file(100_000));
    let answer = world.wharf(&["up", "--wait", "--wait-timeout", "4"]).expect(1);
    let expected = "is not healthy in time; its last probe exited with code 4 (not yet)";
    assert!(answer.stderr.contains(expected), "{}", answer.stderr);
    let answer = world.wharf(&["start", "--wait", "--wait-timeout", "4"]).expect(1);
    assert!(answer.stderr.contains(expected), "{}", answer.stderr);
}

#[test]
fn what_runs_on_or_is_done_is_up() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:
  runs: {image: busybox, command: sleep 1000}
  done: {image: busybox, command: \"true\"}
  healthy: {image: busybox, command: sleep 1000, healthcheck: {test: \"true\", interval: 50ms}}
  # Ends once, and stays the second time.
  second: {image: busybox, restart: on-failure, command: \"sh -c 'test -e /x && exec sleep 1000; touch /x; exit 1'\"}
",
    );
    world.wharf(&["up", "--wait"]).expect(0);
    assert_eq!(world.ok(&["ps", "--services", "--status", "running"]), "healthy\nruns\nsecond");
}

#[test]
fn what_is_restarted_again_and_again_is_not_up() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:\n  web: {image: busybox, restart: always, command: \"sh -c 'echo broken; exit 1'\"}\n",
    );
    let answer = world.wharf(&["up", "--wait"]).expect(1);
    for expected in ["service `web` is not up", "keeps ending", "broken"] {
        assert!(answer.stderr.contains(expected), "no `{expected}` in\n{}", answer.stderr);
    }
}
