//! Our own processes killed at the worst moments.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{World, eventually, free_port};

const FILE: &str = "services:
  a: {image: busybox, command: sleep 1000, depends_on: [b]}
  b: {image: busybox, command: sleep 1000, volumes: [\"data:/data\"]}
  c: {image: busybox, command: sleep 1000}
volumes: {data: }
";

#[test]
fn up_killed_at_any_moment_is_finished_by_the_next() {
    let world = World::new();
    world.write("compose.yaml", FILE);
    for delay_ms in [1, 5, 10, 20, 30, 45, 60, 80, 120] {
        let mut up = world.command(&["up", "-d"]);
        let mut child = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("wharf can be run");
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        world.wharf(&["up", "-d"]).expect(0);
        assert_eq!(world.ok(&["ps", "-q"]).lines().count(), 3, "after {delay_ms} ms");
        world.wharf(&["down", "-t", "0"]).expect(0);
        world.expect_no_trace();
    }
    world.ok(&["down", "-v"]);
}

#[test]
fn a_container_outlives_its_supervisor() {
    let world = World::new();
    world.ok(&[
        "run",
        "-d",
        "--name",
        "tick",
        "busybox",
        "sh",
        "-c",
        "i=0; while [ $i -lt 40 ]; do echo tick $i; i=$((i+1)); sleep 0.05; done; exit 7",
    ]);
    eventually("the first line", || world.ok(&["logs", "tick"]).contains("tick 0").then_some(()));
    let supervisors = world.supervisors();
    assert_eq!(supervisors.len(), 1, "{supervisors:?}");
    signal(supervisors[0], Signal::KILL);
    // Any command heals.
    assert!(world.ok(&["ps", "-a"]).contains("tick"));
    assert_eq!(world.wharf(&["wait", "tick"]).expect(7).stdout, "7\n");
    let state = world.ok(&["ps", "-a", "--format", "{{.Status}}"]);
    assert!(state.contains("Exited (7)"), "{state}");
    let logs = world.ok(&["logs", "tick"]);
    let lines: Vec<_> = logs.lines().collect();
    // The line that the killed supervisor had read and not yet written may be missing, nothing else.
    assert!(lines.len() >= 39, "{logs}");
    world.ok(&["rm", "tick"]);
    world.expect_no_trace();
}

#[test]
fn a_container_that_dies_with_its_supervisor_leaves_nothing() {
    let world = World::new();
    let port = free_port();
    let publish = format!("127.0.0.1:{port}:80");
    world.ok(&["run", "-d", "--name", "web", "-p", &publish, "busybox", "httpd", "-f", "-p", "80"]);
    let supervisors = world.supervisors();
    assert_eq!(supervisors.len(), 1, "{supervisors:?}");
    let container = world.first_process("web");
    // It cannot see the end of its container: nobody writes down anything.
    signal(supervisors[0], Signal::STOP);
    signal(container, Signal::KILL);
    signal(supervisors[0], Signal::KILL);
    eventually("the end of both", || (world.supervisors().is_empty() && !is_alive(container)).then_some(()));
    // The first command heals; one whose process nobody has reaped yet is still seen to end.
    let listed = eventually("the end in the records", || {
        let listed = world.ok(&["ps", "-a", "--format", "{{.Name}} {{.Status}}"]);
        listed.contains("Exited").then_some(listed)
    });
    assert!(listed.starts_with("web Exited (255)") || listed.starts_with("web Exited (137)"), "{listed}");
    world.expect_no_trace();
    // The port is free again, and the container can be started.
    world.ok(&["start", "web"]);
    let body = eventually("an answer", || crate::world::get(("127.0.0.1", port), "/nothing"));
    assert!(body.contains("404"), "{body}");
    world.ok(&["rm", "-f", "web"]);
    world.expect_no_trace();
}

#[test]
fn a_policy_restarts_what_died_with_its_supervisor() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:
  always: {image: busybox, command: sleep 1000, restart: always}
  never: {image: busybox, command: sleep 1000}
",
    );
    world.ok(&["up", "-d"]);
    let names = ["always", "never"].map(|service| format!("{}-{service}-1", world.project_name()));
    let before = names.clone().map(|name| world.first_process(&name));
    let supervisors = world.supervisors();
    assert_eq!(supervisors.len(), 2, "{supervisors:?}");
    supervisors.iter().for_each(|pid| signal(*pid, Signal::STOP));
    before.iter().for_each(|pid| signal(*pid, Signal::KILL));
    supervisors.iter().for_each(|pid| signal(*pid, Signal::KILL));
    eventually("the end of all", || {
        (world.supervisors().is_empty() && !before.iter().any(|pid| is_alive(*pid))).then_some(())
    });
    eventually("one runs again, the other is marked", || {
        let listed = world.ok(&["ps", "-a", "--format", "{{.Service}} {{.Status}}"]);
        let mut lines = listed.lines();
        let runs = lines.next().is_some_and(|line| line.starts_with("always Up"));
        (runs && lines.next().is_some_and(|line| line.starts_with("never Exited"))).then_some(())
    });
    // A successor that sees the end of the old process shows it as up for a moment.
    eventually("a new process", || (world.wharf(&["exec", &names[0], "true"]).code == 0).then_some(()));
    assert_ne!(world.first_process(&names[0]), before[0]);
    // `up` makes the rest of it right.
    world.ok(&["up", "-d"]);
    assert_eq!(world.ok(&["ps", "--services"]), "always\nnever");
    world.ok(&["down", "-t", "0"]);
    world.expect_no_trace();
}

#[test]
fn who_depends_on_what_starts_again_by_itself_follows() {
    let world = World::new();
    let service =
        |name: &str, rest: &str| format!("  {name}: {{image: busybox, init: true, command: sleep 1000{rest}}}\n");
    let probe = "healthcheck: {test: [CMD, \"true\"], start_interval: 10ms, start_period: 10s}";
    world.write(
        "compose.yaml",
        &[
            "services:\n".to_owned(),
            service("db", &format!(", restart: always, {probe}")),
            service("web", ", depends_on: {db: {condition: service_healthy, restart: true}}"),
            service("next", ", depends_on: {web: {condition: service_started, restart: true}}"),
            service("other", ", depends_on: {db: {condition: service_started}}"),
            service("side", ", network_mode: \"service:other\""),
        ]
        .concat(),
    );
    world.ok(&["up", "-d"]);
    let process = |name: &str| world.first_process(&format!("{}-{name}-1", world.project_name()));
    let [db, web, next, other] = ["db", "web", "next", "other"].map(process);
    signal(db, Signal::KILL);
    for (name, before) in [("db", db), ("web", web), ("next", next)] {
        eventually(&format!("another run of {name}"), || {
            (world.wharf(&["exec", name, "true"]).code == 0 && process(name) != before).then_some(())
        });
    }
    assert_eq!(process("other"), other);
    // A network that went with its container is joined again when there is another one.
    let side = process("side");
    world.ok(&["stop", "-t", "0", &format!("{}-other-1", world.project_name())]);
    world.ok(&["start", &format!("{}-other-1", world.project_name())]);
    let network = |name: &str| world.wharf(&["exec", name, "readlink", "/proc/self/ns/net"]);
    eventually("the same network again", || {
        let (other, side) = (network("other"), network("side"));
        (other.code == 0 && other.stdout == side.stdout).then_some(())
    });
    assert_ne!(process("side"), side);
    assert!(world.ok(&["--dry-run", "up", "-d"]).contains("nothing to do"));
    world.ok(&["down", "-t", "0"]);
    world.expect_no_trace();
}

#[test]
fn logs_follow_containers_that_are_made_later() {
    let world = World::new();
    let service = |name: &str| {
        format!("  {name}: {{image: busybox, command: [sh, -c, 'echo {name} speaks; exec sleep 1000']}}\n")
    };
    world.write("compose.yaml", &format!("services:\n{}", service("first")));
    world.ok(&["up", "-d"]);
    let mut command = world.command(&["logs", "-f"]);
    let mut logs = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("wharf can be run");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(logs.stdout.take().expect("a pipe")));
    let mut next = || lines.next().expect("a line comes").expect("it is text");
    assert!(next().contains("first speaks"));
    world.write("compose.yaml", &format!("services:\n{}{}", service("first"), service("second")));
    world.ok(&["up", "-d"]);
    assert!(next().contains("second speaks"));
    // A container that is made anew is one more.
    world.ok(&["up", "-d", "--force-recreate", "-t", "0", "second"]);
    while !next().contains("second speaks") {}
    world.ok(&["down", "-t", "0"]);
    // Nothing is left to follow.
    let status = eventually("the end of logs", || logs.try_wait().expect("it is our child"));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_build_killed_in_a_command_is_cleared_away() {
    let world = World::new();
    world.write("compose.yaml", "services: {never: {build: .}}\n");
    world.write("Dockerfile", "FROM busybox\nRUN touch /half; sleep 1000; true\n");
    let mut build = world.command(&["build"]);
    let mut child = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("wharf can be run");
    eventually("the command's group", || {
        world.traces().iter().any(|trace| trace.starts_with("cgroup: ") && trace.contains("pids")).then_some(())
    });
    eventually("the command", || world.has_process("sleep 1000").then_some(()));
    child.kill().expect("it can be killed");
    child.wait().expect("it can be waited for");
    assert!(!world.traces().is_empty(), "nothing to heal: the test shows nothing");
    world.ok(&["ps"]);
    world.expect_no_trace();
    assert_eq!(world.half_made(), Vec::<String>::new());
}

#[test]
fn ctrl_c_ends_a_build_of_up_at_once() {
    let world = World::new();
    world.write("compose.yaml", "services: {app: {build: ., command: sleep 1000}}\n");
    world.write("Dockerfile", "FROM busybox\nRUN touch /half; sleep 1000; true\n");
    for arguments in [&["up", "-d"][..], &["up"], &["create"], &["run", "app"], &["build"]] {
        let mut command = world.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("wharf can be run");
        eventually("the command", || world.has_process("sleep 1000").then_some(()));
        signal(i32::try_from(child.id()).expect("a process number"), Signal::INT);
        let started = std::time::Instant::now();
        let status = child.wait().expect("it can be waited for");
        assert_eq!(status.code(), Some(130), "{arguments:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{arguments:?} took {:?}", started.elapsed());
        assert_eq!(world.ok(&["ps", "-aq"]), "");
        world.expect_no_trace();
        assert_eq!(world.half_made(), Vec::<String>::new(), "{arguments:?}");
    }
}

#[test]
fn ctrl_c_ends_a_pull_of_up_at_once() {
    let world = World::empty();
    // A registry that takes connections and never answers.
    let registry = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port can be bound");
    let address = registry.local_addr().expect("it has an address");
    world.write("compose.yaml", &format!("services: {{app: {{image: \"{address}/slow\"}}}}\n"));
    let mut up = world.command(&["up", "-d"]);
    let mut child = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("wharf can be run");
    let _connection = registry.accept().expect("the registry is asked");
    let started = std::time::Instant::now();
    signal(i32::try_from(child.id()).expect("a process number"), Signal::INT);
    assert_eq!(child.wait().expect("it can be waited for").code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(20), "it took {:?}", started.elapsed());
    world.expect_no_trace();
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process number"), signal).expect("it can be signalled");
}

fn is_alive(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}
