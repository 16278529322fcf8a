//! Limits are what the kernel has, and are enforced; on either version of control groups.

use crate::world::{World, eventually};

fn docker(world: &World, words: &[&str]) -> String {
    world.ok(&[&["docker"], words].concat())
}

/// A file of the container's own group, as its process sees it.
fn group_file(world: &World, container: &str, legacy: &str, unified: &str) -> String {
    let command = format!("cat /sys/fs/cgroup/{unified} 2>/dev/null || cat /sys/fs/cgroup/{legacy}");
    docker(world, &["exec", container, "sh", "-c", &command])
}

#[test]
fn limits_are_the_kernels() {
    let world = World::new();
    docker(
        &world,
        &[
            "run",
            "-d",
            "--name",
            "one",
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "40",
            "--cpuset-cpus",
            "0",
            "busybox",
            "sleep",
            "1000",
        ],
    );
    assert_eq!(group_file(&world, "one", "memory/memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(group_file(&world, "one", "pids/pids.max", "pids.max"), "40");
    assert_eq!(group_file(&world, "one", "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    let quota = group_file(&world, "one", "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    docker(&world, &["update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "1.5", "one"]);
    assert_eq!(group_file(&world, "one", "memory/memory.limit_in_bytes", "memory.max"), "100663296");
    let quota = group_file(&world, "one", "cpu/cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "150000" || quota == "150000 100000", "{quota}");
    docker(&world, &["rm", "-f", "one"]);
    world.expect_no_trace();
}

#[test]
fn a_process_that_takes_too_much_memory_is_killed_and_said_to_be() {
    let world = World::new();
    let hungry = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo survived";
    let words = ["docker", "run", "--name", "hungry", "--memory", "16m", "--memory-swap", "16m", "busybox", "sh", "-c"];
    let answer = world.wharf(&[&words[..], &[hungry]].concat());
    assert_eq!((answer.code, answer.stdout.as_str()), (137, ""), "{}", answer.stderr);
    assert_eq!(docker(&world, &["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hungry"]), "true 137");
    let told = docker(&world, &["events", "--since", "1h", "--until", "0s", "--filter", "event=oom"]);
    assert!(told.contains("container oom"), "{told}");
    docker(&world, &["rm", "hungry"]);
    world.expect_no_trace();
}

#[test]
fn no_more_processes_than_allowed() {
    let world = World::new();
    let forks = "for i in $(seq 30); do sleep 5 & done; wait";
    let answer = world.wharf(&["docker", "run", "--rm", "--pids-limit", "10", "busybox", "sh", "-c", forks]);
    assert!(answer.stderr.contains("fork"), "{} {}", answer.code, answer.stderr);
    world.expect_no_trace();
}

#[test]
fn devices_that_were_not_given_cannot_be_opened() {
    let world = World::new();
    // One that needs no capability: what refuses it can only be the filter.
    let device = "/dev/cpu_dma_latency";
    let number = std::os::unix::fs::MetadataExt::rdev(&std::fs::metadata(device).expect("every kernel has it"));
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let made = format!("mknod /node c {major} {minor} && : < /node");
    let answer = world.wharf(&["docker", "run", "--rm", "busybox", "sh", "-c", &made]);
    assert!(answer.code != 0 && answer.stderr.contains("Operation not permitted"), "{}", answer.stderr);
    let given = format!("{device}:/dev/given:r");
    let words = ["docker", "run", "--rm", "--device", &given, "busybox", "sh", "-c"];
    let answer = world.wharf(&[&words[..], &[": < /dev/given && echo read; : > /dev/given"]].concat());
    assert_eq!(answer.stdout, "read\n", "{}", answer.stderr);
    assert!(answer.code != 0 && answer.stderr.contains("Operation not permitted"), "{}", answer.stderr);
    world.expect_no_trace();
}

#[test]
fn a_frozen_container_stands_still_and_dies_at_once() {
    let world = World::new();
    docker(&world, &["run", "-d", "--name", "clock", "busybox", "sh", "-c", "while :; do echo x; sleep 0.02; done"]);
    let lines = || docker(&world, &["logs", "clock"]).lines().count();
    eventually("output", || (lines() > 2).then_some(()));
    docker(&world, &["pause", "clock"]);
    let before = lines();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(lines(), before);
    docker(&world, &["unpause", "clock"]);
    eventually("more output", || (lines() > before).then_some(()));
    docker(&world, &["pause", "clock"]);
    docker(&world, &["rm", "-f", "clock"]);
    world.expect_no_trace();
}

#[test]
fn a_container_lies_in_the_group_that_it_names() {
    let world = World::new();
    let name = format!("wharftest{}", world.project_name());
    let is_slice = std::path::Path::new("/run/systemd/system").is_dir();
    let parent = if is_slice { format!("{name}.slice") } else { format!("/{name}/below") };
    docker(
        &world,
        &["run", "-d", "--name", "one", "--cgroup-parent", &parent, "--memory", "64m", "busybox", "sleep", "1000"],
    );
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", world.first_process("one"))).expect("it runs");
    assert!(groups.lines().filter(|line| *line != "0::/").all(|line| line.contains(&parent)), "{groups}");
    assert_eq!(group_file(&world, "one", "memory/memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(docker(&world, &["inspect", "-f", "{{.HostConfig.CgroupParent}}", "one"]), parent);
    assert!(docker(&world, &["top", "one"]).contains("sleep 1000"));
    docker(&world, &["pause", "one"]);
    docker(&world, &["unpause", "one"]);
    docker(&world, &["stats", "--no-stream", "one"]);
    docker(&world, &["rm", "-f", "one"]);
    for (parent, told) in [("/../x", "cgroup_parent"), ("a//b", "cgroup_parent")] {
        let answer = world.wharf(&["docker", "run", "--cgroup-parent", parent, "busybox", "true"]).expect(125);
        assert!(answer.stderr.contains(told), "{parent}: {}", answer.stderr);
    }
    // The group of the container is gone; that of the user stays.
    let mut left = Vec::new();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("mounted").flatten() {
        for folder in [hierarchy.path().join(&name).join("below"), hierarchy.path().join(&name)] {
            if folder.is_dir() {
                left.push(std::fs::remove_dir(&folder));
            }
        }
    }
    assert!(left.iter().all(Result::is_ok), "{left:?}");
    world.expect_no_trace();
}

#[test]
fn a_group_has_time_for_real_time_tasks() {
    let world = World::new();
    let run = ["docker", "run", "--rm", "--cpu-rt-period", "500000", "--cpu-rt-runtime", "1000", "busybox"];
    let command = ["cat", "/sys/fs/cgroup/cpu/cpu.rt_period_us", "/sys/fs/cgroup/cpu/cpu.rt_runtime_us"];
    let answer = world.wharf(&[&run[..], &command].concat());
    match std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
        true => assert_eq!(answer.expect(0).stdout, "500000\n1000\n"),
        false => assert!(answer.expect(125).stderr.contains("the kernel gives groups no time for real-time tasks")),
    }
    let wrong = ["docker", "run", "--cpu-rt-period", "1000", "--cpu-rt-runtime", "2000", "busybox", "true"];
    assert!(world.wharf(&wrong).expect(125).stderr.contains("cpu_rt_runtime"));
    world.expect_no_trace();
}
