//! Our own processes killed at the worst moments.

use std::process::Stdio;
use std::time::Duration;

use crate::world::{World, eventually};

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
    let pid = rustix::process::Pid::from_raw(supervisors[0]).expect("a process number");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it can be killed");
    // Any command heals.
    assert!(world.ok(&["ps", "-a"]).contains("tick"));
    assert_eq!(world.wharf(&["wait", "tick"]).expect(7).stdout, "7\n");
    let state = world.ok(&["ps", "-a", "--format", "{{.Status}}"]);
    assert!(state.contains("Exited (7)"), "{state}");
    let logs = world.ok(&["logs", "tick"]);
    let lines: Vec<_> = logs.lines().collect();
    assert_eq!(lines.len(), 40, "{logs}");
    world.ok(&["rm", "tick"]);
    world.expect_no_trace();
}
