//! On a host whose first process is systemd: one scope for all containers, which nobody's session takes along.
//!
//! These are not run on the machine that tests, which may have another first process: `vm` runs them in its own.

use std::fs;
use std::process::Command;

use crate::world::{World, eventually};

fn docker(world: &World, words: &[&str]) -> String {
    world.ok(&[&["docker"], words].concat())
}

/// The scope of this world.
fn unit(world: &World) -> String {
    format!("{}.scope", world.instance())
}

/// What systemd says of a property of the scope.
fn property(world: &World, name: &str) -> String {
    let output = Command::new("systemctl").args(["show", "--value", "-p", name, &unit(world)]).output();
    String::from_utf8_lossy(&output.expect("systemctl is there").stdout).trim().to_owned()
}

/// The group of a process in the one tree.
fn group(pid: i32) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    groups.trim().strip_prefix("0::").expect("one tree").to_owned()
}

#[test]
#[ignore = "systemd has to be the first process: the virtual machine runs it"]
fn containers_are_in_a_scope_that_systemd_leaves_alone() {
    let world = World::new();
    let run = ["run", "-d", "--memory", "32m", "--pids-limit", "20", "--name"];
    docker(&world, &[&run[..], &["one", "busybox", "sleep", "1000"]].concat());
    let scope = format!("/wharf.slice/{}", unit(&world));
    let id = world.ok(&["ps", "-aq", "--no-trunc", "one"]);
    assert_eq!(group(world.first_process("one")), format!("{scope}/{id}"));
    for supervisor in world.supervisors() {
        assert_eq!(group(supervisor), format!("{scope}/supervisors"));
    }
    let says = ["ActiveState", "Delegate", "Slice", "TasksMax"].map(|name| property(&world, name));
    assert_eq!(says, ["active", "yes", "wharf.slice", "infinity"]);

    // It reads all units anew, and sets its own groups as they say.
    let reloaded = Command::new("systemctl").arg("daemon-reload").status();
    assert!(reloaded.expect("systemctl is there").success());
    let limit = |name: &str| {
        let file = format!("/sys/fs/cgroup{scope}/{}/{name}", world.ok(&["ps", "-aq", "--no-trunc", "one"]));
        fs::read_to_string(file).expect("the controller is there").trim().to_owned()
    };
    assert_eq!((limit("memory.max").as_str(), limit("pids.max").as_str()), ("33554432", "20"));
    let hungry = ["exec", "one", "sh", "-c", "x=$(head -c 60000000 /dev/zero | tr '\\0' x)"];
    assert_ne!(world.wharf(&[&["docker"], &hungry[..]].concat()).code, 0, "more memory than there is");

    // A service that ends takes its own processes along, and no container that was started in it.
    let started = world.command(&["docker", "run", "-d", "--name", "two", "busybox", "sleep", "1000"]);
    let text = |word: &std::ffi::OsStr| word.to_str().expect("text").to_owned();
    let environment: String = started
        .get_envs()
        .map(|(key, value)| format!("Environment={}={}\n", text(key), text(value.expect("set"))))
        .collect();
    let words = std::iter::once(started.get_program()).chain(started.get_args());
    let words: Vec<String> = words.map(text).collect();
    let service = format!("{}.service", world.instance());
    let file = format!("/run/systemd/system/{service}");
    fs::write(&file, format!("[Service]\nType=oneshot\n{environment}ExecStart={}\n", words.join(" ")))
        .expect("written");
    // Returns when the service has ended.
    let done = Command::new("systemctl").args(["start", &service]).status();
    assert!(done.expect("systemctl is there").success());
    fs::remove_file(file).expect("it can be removed");
    assert_eq!(world.ok(&["ps", "--format", "{{.Names}}"]).lines().count(), 2);
    assert!(group(world.first_process("two")).starts_with(&scope));

    docker(&world, &["rm", "-f", "one", "two"]);
    world.expect_no_trace();
    eventually("the end of the scope", || (property(&world, "ActiveState") == "inactive").then_some(()));
    assert!(!fs::exists(format!("/sys/fs/cgroup{scope}")).expect("it can be looked for"));
}

#[test]
#[ignore = "systemd has to be the first process: the virtual machine runs it"]
fn containers_that_are_started_at_once_all_get_their_limits() {
    let world = World::new();
    for _ in 0..6 {
        let file = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max";
        let run = ["docker", "run", "--rm", "--memory", "32m", "--pids-limit", "20", "busybox", "sh", "-c", file];
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| world.ok(&run))).collect();
            for one in all {
                assert_eq!(one.join().expect("it does not panic"), "33554432\n20");
            }
        });
    }
    world.expect_no_trace();
}
