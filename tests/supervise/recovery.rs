//! Supervisors that are killed.

use std::time::{Duration, Instant};

use wharf::base::id::ContainerId;
use wharf::model::container::{RestartPolicy, Status};
use wharf::supervise::{self, AttachMode};

use crate::world::{World, collect};

/// Kills the supervisor of a container and waits until it is gone.
pub fn kill_supervisor(world: &World, id: &ContainerId) {
    let pid = world.supervisor(id);
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    while world.store.containers().supervisor_alive(id).unwrap() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Makes a process that kills the first supervisor of this world that it finds after `delay`; to be waited for.
pub fn kill_any_supervisor(world: &World, delay: Duration) -> rustix::process::Pid {
    let instance = world.store.paths().instance();
    match wharf::sys::daemon::fork().unwrap() {
        wharf::sys::daemon::Fork::Parent { pid } => pid,
        wharf::sys::daemon::Fork::Child => {
            std::thread::sleep(delay);
            let deadline = Instant::now() + Duration::from_millis(100);
            while !kill_first(&instance) && Instant::now() < deadline {}
            wharf::sys::daemon::exit_now(0)
        }
    }
}

fn kill_first(instance: &str) -> bool {
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let text = |name: &str| std::fs::read_to_string(process.path().join(name)).unwrap_or_default();
        if text("comm").trim() == "wharf-supervise" && text("cgroup").contains(&format!("/{instance}/supervisors")) {
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
            return rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok();
        }
    }
    false
}

pub fn a_killed_supervisor_is_replaced() {
    let mut world = World::new();
    for delay_ms in [0, 150] {
        let id = world.script("i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; sleep 0.02; done; exit 33");
        // Before and after the supervisor executed itself.
        std::thread::sleep(Duration::from_millis(delay_ms));
        kill_supervisor(&world, &id);
        std::thread::sleep(Duration::from_millis(200));
        assert!(world.state(&id).process.is_some_and(wharf::runtime::is_alive), "the container goes on");
        supervise::heal(&world.store).unwrap();
        assert!(world.store.containers().supervisor_alive(&id).unwrap());
        assert_eq!(supervise::wait(&world.store, &id).unwrap(), 33);
        // What the killed one had read and not yet written is gone with it: a few microseconds a line.
        let log = String::from_utf8(world.log(&id)).unwrap();
        let written: Vec<&str> = log.lines().collect();
        let expected: Vec<String> = (1..=60).map(|number| format!("line {number}")).collect();
        let missing = expected.iter().filter(|line| !written.contains(&line.as_str())).count();
        assert!(missing <= 1, "{log}");
        assert!(expected.iter().filter(|line| written.contains(&line.as_str())).eq(written.iter()), "{log}");
        assert_eq!(world.state(&id).status, Status::Exited);
    }
}

pub fn an_end_while_nobody_watched_is_seen() {
    let mut world = World::new();
    let id = world.script("sleep 0.3; echo last words; exit 5");
    kill_supervisor(&world, &id);
    let process = world.state(&id).process.unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while wharf::runtime::is_alive(process) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    supervise::heal(&world.store).unwrap();
    let code = supervise::wait(&world.store, &id).unwrap();
    // Its zombie may or may not be there still: the code is the true one or the one for "unknown".
    assert!(code == 5 || code == 255, "{code}");
    let state = world.state(&id);
    assert_eq!((state.status, state.process), (Status::Exited, None));
}

pub fn a_waiter_replaces_a_supervisor_that_died() {
    let mut world = World::new();
    let id = world.script("sleep 0.5; exit 21");
    kill_supervisor(&world, &id);
    assert_eq!(supervise::wait(&world.store, &id).unwrap(), 21);
}

pub fn policies_survive_the_supervisor() {
    let mut world = World::new();
    let mut spec = world.spec("echo run >> /runs; sleep 0.4; exit 2");
    spec.restart = RestartPolicy::OnFailure(1);
    let (id, _) = world.run(&spec, AttachMode::None);
    kill_supervisor(&world, &id);
    supervise::heal(&world.store).unwrap();
    let attached = supervise::attach(&world.store, &id).unwrap();
    assert_eq!(collect(&attached).2, Some(2));
    assert_eq!(world.state(&id).restart_count, 1);
    let runs = std::fs::read_to_string(world.store.containers().upper_folder(&id).join("runs")).unwrap();
    assert_eq!(runs, "run\nrun\n");
}

pub fn a_dead_pair_is_cleared_away() {
    let mut world = World::new();
    let id = world.script("exec sleep 1000");
    let process = world.state(&id).process.unwrap();
    kill_supervisor(&world, &id);
    let pid = rustix::process::Pid::from_raw(process.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while wharf::runtime::is_alive(process) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    supervise::heal(&world.store).unwrap();
    let code = supervise::wait(&world.store, &id).unwrap();
    assert!(code == 137 || code == 255, "{code}");
    // It can be started again.
    supervise::start(&world.store, &id, supervise::StartOptions::default()).unwrap();
    assert_eq!(world.state(&id).status, Status::Running);
}

pub fn a_terminal_outlives_the_supervisor() {
    let mut world = World::new();
    let mut spec = world.spec("read line; echo \"got $line\"; exit 12");
    spec.process.terminal = true;
    spec.process.stdin_open = true;
    let (id, _) = world.run(&spec, AttachMode::None);
    // The keeper is made when the supervisor has executed itself.
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..2 {
        kill_supervisor(&world, &id);
        supervise::heal(&world.store).unwrap();
    }
    let stream = supervise::attach(&world.store, &id).unwrap();
    stream.write_stdin(b"it\n").unwrap();
    let (stdout, _, code) = collect(&stream);
    assert_eq!(String::from_utf8(stdout).unwrap(), "it\r\ngot it\r\n");
    assert_eq!(code, Some(12));
}

pub fn an_open_input_outlives_the_supervisor() {
    let mut world = World::new();
    let mut spec = world.spec("cat; exit 13");
    spec.process.stdin_open = true;
    let (id, _) = world.run(&spec, AttachMode::None);
    std::thread::sleep(Duration::from_millis(300));
    kill_supervisor(&world, &id);
    std::thread::sleep(Duration::from_millis(50));
    supervise::heal(&world.store).unwrap();
    let stream = supervise::attach(&world.store, &id).unwrap();
    stream.write_stdin(b"still open\n").unwrap();
    stream.close_stdin().unwrap();
    assert_eq!(collect(&stream), (b"still open\n".to_vec(), Vec::new(), Some(13)));
}

pub fn after_a_reboot_policies_start_again() {
    let mut world = World::new();
    let mut ids = Vec::new();
    for (restart, stopped) in [
        (RestartPolicy::Always, false),
        (RestartPolicy::Always, true),
        (RestartPolicy::UnlessStopped, false),
        (RestartPolicy::UnlessStopped, true),
        (RestartPolicy::No, false),
    ] {
        let mut spec = world.spec("exec sleep 1000");
        spec.restart = restart;
        let (id, _) = world.run(&spec, AttachMode::None);
        supervise::stop(&world.store, &id, None).unwrap();
        let wish = if stopped { wharf::store::Wish::Stopped } else { wharf::store::Wish::Running };
        world.store.containers().set_wish(&id, wish).unwrap();
        // As the boot before would have left it.
        let path = world.store.containers().state_path(&id);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
        state["boot_id"] = "another".into();
        state["status"] = "running".into();
        std::fs::write(&path, state.to_string()).unwrap();
        ids.push(id);
    }
    assert_eq!(supervise::boot(&world.store).len(), 0);
    let running: Vec<bool> = ids.iter().map(|id| world.state(id).status == Status::Running).collect();
    assert_eq!(running, [true, true, true, false, false]);
    // A second time nothing is left to do.
    supervise::stop(&world.store, &ids[0], None).unwrap();
    assert_eq!(supervise::boot(&world.store).len(), 0);
    assert_eq!(world.state(&ids[0]).status, Status::Exited);
}
