//! Limits that hold, figures, killing, and the group of supervisors.

use super::*;
use crate::model::container::Resources;

/// Where a controller's file of this container is, on either version.
fn control(bench: &Bench, controller: &str, name: &str) -> String {
    let legacy = Path::new("/sys/fs/cgroup").join(controller);
    let root = if legacy.is_dir() { legacy } else { "/sys/fs/cgroup".into() };
    let path = root.join(&bench.parent).join(bench.spec.id.as_str()).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn is_legacy() -> bool {
    !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn limits(bench: &Bench) -> Vec<String> {
    let files: &[(&str, &str)] = if is_legacy() {
        &[
            ("memory", "memory.limit_in_bytes"),
            ("memory", "memory.soft_limit_in_bytes"),
            ("cpu", "cpu.cfs_quota_us"),
            ("cpu", "cpu.shares"),
            ("cpuset", "cpuset.cpus"),
            ("pids", "pids.max"),
        ]
    } else {
        &[
            ("memory", "memory.max"),
            ("memory", "memory.low"),
            ("cpu", "cpu.max"),
            ("cpu", "cpu.weight"),
            ("cpuset", "cpuset.cpus"),
            ("pids", "pids.max"),
        ]
    };
    files.iter().map(|(controller, name)| control(bench, controller, name)).collect()
}

#[test]
fn limits_are_written_and_changed() {
    let mut bench = Bench::new(&["true"]);
    bench.spec.resources = Resources {
        memory_bytes: Some(64 << 20),
        memory_reservation_bytes: Some(32 << 20),
        cpus: Some(0.5),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0".into()),
        pids: Some(20),
        ..Resources::default()
    };
    let cgroup = bench.cgroup();
    let (cpu, weight) = if is_legacy() { ("50000", "512") } else { ("50000 100000", "20") };
    assert_eq!(limits(&bench), ["67108864", "33554432", cpu, weight, "0", "20"]);
    cgroup
        .update(&Resources { memory_bytes: Some(256 << 20), cpus: Some(2.0), pids: Some(-1), ..Resources::default() })
        .unwrap();
    let cpu = if is_legacy() { "200000" } else { "200000 100000" };
    assert_eq!(limits(&bench), ["268435456", "33554432", cpu, weight, "0", "max"]);
    // Lowering below what memory and swap were is the other order.
    cgroup.update(&Resources { memory_bytes: Some(16 << 20), ..Resources::default() }).unwrap();
    assert_eq!(limits(&bench)[0], "16777216");
    let error = cgroup.update(&Resources { cpuset_cpus: Some("999".into()), ..Resources::default() }).unwrap_err();
    assert!(error.to_string().contains("write `999` to the control group file /sys/fs/cgroup/"), "{error}");
    cgroup.remove().unwrap();
    cgroup.remove().unwrap();
}

#[test]
fn too_many_processes_are_refused() {
    let mut bench = Bench::shell("sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait");
    bench.spec.resources.pids = Some(3);
    let outcome = bench.run().unwrap();
    assert!(outcome.output.contains("can't fork: Resource temporarily unavailable"), "{}", outcome.output);
}

#[test]
fn memory_is_limited_and_a_kill_is_counted() {
    let mut bench = Bench::new(&["dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1"]);
    bench.spec.resources.memory_bytes = Some(16 << 20);
    bench.spec.resources.memory_swap_bytes = Some(16 << 20);
    let cgroup = bench.cgroup();
    assert_eq!(cgroup.oom_kill_count(), 0);
    let outcome = bench.run_in(&cgroup).unwrap();
    assert_eq!(outcome.code, 137, "{}", outcome.output);
    assert_eq!(cgroup.oom_kill_count(), 1);
    assert_eq!(cgroup.stats().memory_limit_bytes, Some(16 << 20));
    cgroup.remove().unwrap();
}

#[test]
fn figures_processes_and_killing() {
    let mut bench =
        Bench::shell("sleep 100 & sleep 100 & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo; wait");
    bench.spec.resources.pids = Some(50);
    let cgroup = bench.cgroup();
    let (running, read) = bench.start(&cgroup);
    std::fs::File::from(read.try_clone().unwrap()).read_exact(&mut [0]).unwrap();
    let pids = cgroup.pids().unwrap();
    assert_eq!(pids.len(), 3);
    assert!(pids.contains(&running.identity.pid));
    let stats = cgroup.stats();
    assert_eq!((stats.pids, stats.pids_limit, stats.memory_limit_bytes), (3, Some(50), None));
    assert!(stats.cpu_ns > 1_000_000 && stats.memory_bytes > 4096, "{stats:?}");
    let again = Cgroup::open(&bench.parent, bench.spec.id.as_str()).unwrap();
    again.kill_all().unwrap();
    assert_eq!(running.wait().unwrap().code, 137);
    cgroup.remove().unwrap();
    assert_eq!(cgroup.pids().unwrap(), Vec::<i32>::new());
    cgroup.kill_all().unwrap();
}

#[test]
fn a_group_is_used_again_with_new_rules() {
    let mut bench = Bench::new(&["head", "-c", "0", "/dev/loop-control"]);
    bench.spec.security.devices = vec![crate::model::container::DeviceMapping {
        source: "/dev/loop-control".into(),
        target: "/dev/loop-control".into(),
        permissions: "rwm".into(),
    }];
    let cgroup = bench.cgroup();
    assert_eq!(bench.run_in(&cgroup).unwrap().code, 0);
    bench.spec.security.devices[0].permissions = "m".into();
    let cgroup = bench.cgroup();
    assert_ne!(bench.run_in(&cgroup).unwrap().code, 0);
    cgroup.remove().unwrap();
}

#[test]
fn names_are_no_way_out() {
    for (parent, name) in
        [("..", "x"), ("a/../../b", "x"), ("", "x"), ("a", "../x"), ("a", ""), ("/a", "x"), ("a", ".x")]
    {
        assert!(matches!(Cgroup::open(parent, name), Err(Error::Unknown { .. })), "{parent} {name}");
    }
}

#[test]
fn groups_inside_a_container_go_with_it() {
    // As systemd or Docker in a container make them.
    let mut bench = Bench::shell(
        "d=/sys/fs/cgroup; [ -d $d/pids ] && d=$d/pids; mkdir -p $d/inner/deep && echo 0 > $d/inner/deep/cgroup.procs; \
         sleep 100 & echo; wait",
    );
    std::os::unix::fs::symlink("busybox", bench.root().join("bin/mkdir")).unwrap();
    bench.spec.security.privileged = true;
    let cgroup = bench.cgroup();
    let (running, read) = bench.start(&cgroup);
    std::fs::File::from(read.try_clone().unwrap()).read_exact(&mut [0]).unwrap();
    assert_eq!(cgroup.pids().unwrap().len(), 2);
    cgroup.kill_all().unwrap();
    running.wait().unwrap();
    cgroup.remove().unwrap();
}
