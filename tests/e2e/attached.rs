//! `up` in the foreground, and what progress says.

use crate::world::World;

#[test]
fn an_earlier_run_aborts_nothing() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:
  job:
    image: busybox
    command: [sh, -c, 'sleep 0.4; test -e /again && exit 4; touch /again; exit 3']
  server:
    image: busybox
    command: sleep 1000
",
    );
    let first = world.wharf(&["up", "--exit-code-from", "job"]).expect(3);
    assert!(first.stdout.contains("job-1 exited with code 3"), "{first:?}");
    // Both containers are stopped now, with codes of their own: these are no news.
    let second = world.wharf(&["up", "--exit-code-from", "job"]).expect(4);
    assert!(!second.stdout.contains("exited with code 3"), "{second:?}");
    let ends = second.stdout.matches("exited with").count();
    assert_eq!(ends, 2, "one end of each: {second:?}");
    world.wharf(&["up", "--abort-on-container-failure"]).expect(4);
    world.ok(&["down"]);
}

#[test]
fn progress_says_running_and_recreate() {
    let world = World::new();
    let file = |label: &str| {
        format!(
            "services:\n  web: {{image: busybox, command: sleep 1000, labels: {{l: {label}}}, stop_grace_period: 0s}}\n"
        )
    };
    world.write("compose.yaml", &file("one"));
    world.ok(&["up", "-d"]);
    let name = format!(" Container {}-web-1  ", world.project_name());
    let again = world.wharf(&["up", "-d"]).expect(0);
    assert_eq!(again.stderr, format!("{name}Running\n"));
    world.write("compose.yaml", &file("two"));
    let changed = world.wharf(&["up", "-d"]).expect(0);
    let lines = ["Recreate", "Recreated", "Starting", "Started"].map(|word| format!("{name}{word}\n"));
    assert_eq!(changed.stderr, lines.concat());
    world.ok(&["down"]);
}

#[test]
fn a_project_without_containers_cannot_be_started() {
    let world = World::new();
    world.write("compose.yaml", "services:\n  web: {image: busybox, command: sleep 1000}\n");
    let start = world.wharf(&["start"]).expect(1);
    assert!(start.stderr.contains("`web`"), "{}", start.stderr);
    world.ok(&["create"]);
    world.ok(&["start"]);
    assert_eq!(world.ok(&["ps", "--format", "{{.Service}} {{.ExitCode}}"]), "web 0");
    world.ok(&["restart", "-t", "0"]);
    assert_eq!(world.ok(&["ps", "--format", "{{.Service}} {{.ExitCode}}"]), "web 0", "what runs has no exit code");
    let one_off = world.wharf(&["run", "--rm", "--entrypoint", "echo 'a b'", "web", "c"]).expect(0);
    assert_eq!(one_off.stdout, "a b c\n");
    world.ok(&["down"]);
}
