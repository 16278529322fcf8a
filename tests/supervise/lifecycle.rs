//! Starts, ends, restarts, health.

use std::fs;
use std::time::{Duration, Instant};

use wharf::base::error::Explain;
use wharf::model::container::{HealthStatus, Mount, MountSource, NamespaceMode, NetworkMode, RestartPolicy, Status};
use wharf::model::volume::VolumeRecord;
use wharf::supervise::{self, AttachMode, Condition, Error, Launcher, StartOptions};

use crate::world::{World, chain, collect, healthcheck};

pub fn exit_codes_are_told() {
    let mut world = World::new();
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("kill -9 $$; sleep 5; exit 1", 1)] {
        let begun = Instant::now();
        // PID 1 of a namespace cannot kill itself: the last one sleeps no five seconds only if it is not first.
        let script = script.replace("sleep 5", "true");
        let id = world.script(&script);
        assert_eq!(supervise::wait(&world.store, &id).unwrap(), code, "{script}");
        let state = world.state(&id);
        assert_eq!((state.status, state.process, state.oom_killed), (Status::Exited, None, false));
        assert!(state.started_at.unwrap() <= state.finished_at.unwrap());
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    // The same container once more.
    let id = world.script("exit 9");
    supervise::wait(&world.store, &id).unwrap();
    supervise::start(&world.store, &id, StartOptions::default()).unwrap();
    assert_eq!(supervise::wait(&world.store, &id).unwrap(), 9);
}

pub fn a_program_that_is_not_there_leaves_nothing() {
    let mut world = World::new();
    let mut spec = world.spec("");
    spec.process.args = vec!["/no/such/program".into()];
    let id = world.create(&spec);
    let error = supervise::start(&world.store, &id, StartOptions::default()).unwrap_err();
    assert_eq!(error.exit_code(), 127, "{}", chain(&error));
    assert!(chain(&error).contains("/no/such/program"), "{}", chain(&error));
    let state = world.state(&id);
    assert_eq!((state.status, state.exit_code, state.process), (Status::Created, 127, None));
    assert!(state.error.unwrap().contains("/no/such/program"));
    assert!(!world.store.containers().run_folder(&id).join("stdout").exists());
}

pub fn what_writes_to_the_log_can_be_read() {
    let mut world = World::new();
    let id = world.script("echo one; printf two; sleep 0.3; echo three; echo oops >&2; printf end");
    supervise::wait(&world.store, &id).unwrap();
    assert_eq!(String::from_utf8(world.log(&id)).unwrap(), "one\ntwothree\noops\nend");
}

pub fn a_failing_container_is_restarted_by_its_policy() {
    let mut world = World::new();
    let mut spec = world.spec("echo run >> /runs; echo out; exit 3");
    spec.restart = RestartPolicy::OnFailure(2);
    let (id, _) = world.run(&spec, AttachMode::None);
    assert_eq!(supervise::wait(&world.store, &id).unwrap(), 3);
    assert_eq!(world.state(&id).restart_count, 2);
    let runs = fs::read_to_string(world.store.containers().upper_folder(&id).join("runs")).unwrap();
    assert_eq!(runs, "run\nrun\nrun\n");
    assert_eq!(world.log(&id), b"out\nout\nout\n");
}

pub fn a_stop_ends_the_wait_for_a_restart() {
    let mut world = World::new();
    let mut spec = world.spec("exit 1");
    spec.restart = RestartPolicy::Always;
    let (id, _) = world.run(&spec, AttachMode::None);
    // Until it waits long enough for the stop to come in between.
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.state(&id).restart_count < 5 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    let begun = Instant::now();
    // 137 when it comes just while the container starts again.
    assert!([1, 137].contains(&supervise::stop(&world.store, &id, None).unwrap()));
    // The wait it ends is one of 3.2 s; the wish itself is synced to the disk.
    assert!(begun.elapsed() < Duration::from_millis(3_000), "{:?}", begun.elapsed());
    assert_eq!(world.state(&id).status, Status::Exited);
}

pub fn stop_does_not_wait_for_who_cannot_react() {
    let mut world = World::new();
    let mut spec = world.spec("");
    spec.process.args = vec!["/bin/sleep".into(), "1000".into()];
    let (id, _) = world.run(&spec, AttachMode::None);
    let begun = Instant::now();
    assert_eq!(supervise::stop(&world.store, &id, None).unwrap(), 137);
    println!("stop of a first process without a handler: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

pub fn stop_waits_for_who_reacts() {
    let mut world = World::new();
    let id = world.script("trap 'sleep 0.3; echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    wait_for_log(&world, &id, "ready");
    assert_eq!(supervise::stop(&world.store, &id, None).unwrap(), 7);
    assert_eq!(world.log(&id), b"ready\nbye\n");
}

pub fn stop_kills_who_ignores_it() {
    let mut world = World::new();
    let id = world.script("trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done");
    wait_for_log(&world, &id, "ready");
    let begun = Instant::now();
    assert_eq!(supervise::stop(&world.store, &id, Some(Duration::from_millis(300))).unwrap(), 137);
    assert!((300..9000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(world.log(&id), b"ready\nno\n");
}

fn wait_for_log(world: &World, id: &wharf::base::id::ContainerId, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !String::from_utf8_lossy(&world.log(id)).contains(text) {
        assert!(Instant::now() < deadline, "{text} never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn health_becomes_healthy_soon() {
    let mut world = World::new();
    let mut spec = world.spec("sleep 0.4; touch /ok; exec sleep 1000");
    spec.healthcheck = Some(healthcheck("echo probing; test -f /ok", 30_000, 3));
    let (id, _) = world.run(&spec, AttachMode::None);
    let begun = Instant::now();
    let deadline = Some(Instant::now() + Duration::from_secs(10));
    let state = supervise::wait_until(&world.store, &id, Condition::Healthy, deadline).unwrap();
    println!("healthy after {:?}, ready after 400 ms, interval 30 s", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let health = state.health.unwrap();
    assert_eq!((health.status, health.failing_streak), (HealthStatus::Healthy, 0));
    assert!(health.log.len() > 1 && health.log.iter().all(|result| result.output == "probing\n"), "{:?}", health.log);
    assert_eq!(health.log.last().unwrap().exit_code, 0);
}

pub fn health_becomes_unhealthy() {
    let mut world = World::new();
    let mut spec = world.spec("exec sleep 1000");
    let mut check = healthcheck("echo waiting; sleep 20", 150, 2);
    check.timeout_ms = 100;
    spec.healthcheck = Some(check);
    let (id, _) = world.run(&spec, AttachMode::None);
    let error = supervise::wait_until(&world.store, &id, Condition::Healthy, None).unwrap_err();
    assert!(matches!(error, Error::Unhealthy { .. }), "{error}");
    let health = world.state(&id).health.unwrap();
    let last = health.log.last().unwrap();
    assert_eq!(last.exit_code, -1);
    assert!(last.output.starts_with("Health check exceeded timeout (100ms)"), "{}", last.output);
    // Without a check the wait makes no sense, and says so.
    let plain = world.script("sleep 1000");
    let error = supervise::wait_until(&world.store, &plain, Condition::Healthy, None).unwrap_err();
    assert!(matches!(error, Error::NoHealthcheck { .. }), "{error}");
    let soon = Some(Instant::now() + Duration::from_millis(50));
    let error = supervise::wait_until(&world.store, &plain, Condition::Exited, soon).unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
}

pub fn a_paused_container_goes_on() {
    let mut world = World::new();
    let id = world.script("i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done");
    wait_for_log(&world, &id, "3\n");
    supervise::pause(&world.store, &id).unwrap();
    assert_eq!(world.state(&id).status, Status::Paused);
    std::thread::sleep(Duration::from_millis(100));
    let frozen = world.log(&id).len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(world.log(&id).len(), frozen);
    assert!(matches!(supervise::pause(&world.store, &id), Err(Error::Paused { .. })));
    supervise::unpause(&world.store, &id).unwrap();
    assert_eq!(world.state(&id).status, Status::Running);
    let deadline = Instant::now() + Duration::from_secs(2);
    while world.log(&id).len() == frozen {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn a_paused_container_can_be_killed() {
    let mut world = World::new();
    let id = world.script("while :; do sleep 0.02; done");
    supervise::pause(&world.store, &id).unwrap();
    supervise::kill(&world.store, &id, libc::SIGKILL).unwrap();
    assert_eq!(supervise::wait(&world.store, &id).unwrap(), 137);
}

pub fn one_that_removes_itself_is_gone() {
    let mut world = World::new();
    let volume = VolumeRecord {
        name: "f".repeat(64),
        created: jiff::Timestamp::now(),
        anonymous: true,
        options: Default::default(),
        labels: Default::default(),
    };
    world.store.volumes().create(&volume).unwrap();
    let mut spec = world.spec("echo hi; exit 8");
    spec.auto_remove = true;
    let source = MountSource::Volume { name: volume.name.clone(), subpath: None, copy: true, anonymous: true };
    spec.mounts.push(Mount { target: "/volume".into(), read_only: false, source });
    let (id, stream) = world.run(&spec, AttachMode::Blocking);
    assert_eq!(collect(&stream.unwrap()), (b"hi\n".to_vec(), Vec::new(), Some(8)));
    assert!(!world.store.containers().exists(&id));
    assert!(!world.store.containers().run_folder(&id).exists());
    assert!(world.store.volumes().get(&volume.name).is_err());
    // A waiter learns the code of what is gone.
    let mut spec = world.spec("sleep 0.3; exit 11");
    spec.auto_remove = true;
    let (id, _) = world.run(&spec, AttachMode::None);
    assert_eq!(supervise::wait(&world.store, &id).unwrap(), 11);
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.store.containers().exists(&id) {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn a_volume_is_filled_from_the_image() {
    let mut world = World::new();
    let volume = VolumeRecord {
        name: "content".into(),
        created: jiff::Timestamp::now(),
        anonymous: false,
        options: Default::default(),
        labels: Default::default(),
    };
    world.store.volumes().create(&volume).unwrap();
    let mut spec = world.spec(
        "stat -c '%n %u:%g %F' /data /data/file /data/inner/file /data/link; cat /data/link; echo new > /data/file",
    );
    let source = MountSource::Volume { name: "content".into(), subpath: None, copy: true, anonymous: false };
    spec.mounts.push(Mount { target: "/data".into(), read_only: false, source: source.clone() });
    let (id, _) = world.run(&spec, AttachMode::None);
    supervise::wait(&world.store, &id).unwrap();
    let expected = "/data 1000:1000 directory\n/data/file 0:0 regular file\n/data/inner/file 1000:7 regular file\n\
                    /data/link 0:0 symbolic link\ndeeper\n";
    assert_eq!(String::from_utf8(world.log(&id)).unwrap(), expected);
    // Its content stays; the image's is not copied again.
    let mut spec = world.spec("cat /data/file");
    spec.mounts.push(Mount { target: "/data".into(), read_only: true, source });
    let (id, _) = world.run(&spec, AttachMode::None);
    supervise::wait(&world.store, &id).unwrap();
    assert_eq!(world.log(&id), b"new\n");
}

pub fn starts_go_in_parallel_from_threads() {
    let mut world = World::new();
    let launcher = Launcher::spawn().unwrap();
    let ids: Vec<_> = (0..8)
        .map(|number| {
            let spec = world.spec(&format!("exit {number}"));
            world.create(&spec)
        })
        .collect();
    let store = world.store.clone();
    std::thread::scope(|scope| {
        for id in &ids {
            let (store, launcher) = (&store, &launcher);
            scope.spawn(move || launcher.start(store, id, StartOptions::default()).unwrap());
        }
        // A process with threads must not fork by itself.
        let refused = supervise::start(&store, &ids[0], StartOptions::default());
        assert!(matches!(refused, Err(Error::Threads { .. })));
    });
    for (number, id) in (0..).zip(&ids) {
        assert_eq!(supervise::wait(&store, id).unwrap(), number);
    }
    let missing = wharf::base::id::ContainerId::random();
    assert!(launcher.start(&store, &missing, StartOptions::default()).is_err());
}

pub fn a_network_namespace_outlives_a_restart() {
    let mut world = World::new();
    let mut spec = world.spec("readlink /proc/self/ns/net; sleep 0.2; exit 1");
    spec.restart = RestartPolicy::OnFailure(2);
    let (owner, _) = world.run(&spec, AttachMode::None);
    let mut spec = world.spec("readlink /proc/self/ns/net");
    spec.network = NetworkMode::Container { id: owner.clone() };
    let (guest, _) = world.run(&spec, AttachMode::None);
    supervise::wait(&world.store, &guest).unwrap();
    assert_eq!(supervise::wait(&world.store, &owner).unwrap(), 1);
    let log = String::from_utf8(world.log(&owner)).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert!(lines.len() == 3 && lines.iter().all(|line| *line == lines[0]), "{lines:?}");
    assert_eq!(String::from_utf8(world.log(&guest)).unwrap().trim(), lines[0]);
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(host.to_str(), Some(lines[0]));
}

pub fn nothing_of_the_caller_reaches_the_container() {
    let mut world = World::new();
    // A caller with an ignored and a blocked signal, an open file, a mask and a working folder of its own.
    wharf::sys::daemon::ignore_broken_pipes();
    nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGUSR1).thread_block().unwrap();
    let _file = fs::File::open("/etc/hostname").unwrap();
    std::env::set_current_dir(std::env::temp_dir()).unwrap();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut spec = world.spec(
        "umask; ls /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign)' /proc/self/status; cat /proc/self/oom_score_adj; pwd; env | sort",
    );
    spec.security.pid = NamespaceMode::Private;
    let (id, _) = world.run(&spec, AttachMode::None);
    supervise::wait(&world.store, &id).unwrap();
    let log = String::from_utf8(world.log(&id)).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    // Three standard streams and the folder that ls reads.
    assert_eq!(lines[..2], ["0022", "4"], "{log}");
    assert_eq!(lines[2..4], ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"], "{log}");
    assert_eq!(lines[4..6], ["0", "/"], "{log}");
    assert!(
        lines[6..]
            .iter()
            .all(|line| ["PATH", "HOME", "HOSTNAME", "PWD", "SHLVL"].contains(&line.split('=').next().unwrap())),
        "{log}"
    );
}

pub fn a_supervisor_is_small() {
    let mut world = World::new();
    let ids: Vec<_> = (0..5).map(|_| world.script("exec sleep 1000")).collect();
    std::thread::sleep(Duration::from_millis(400));
    for id in &ids {
        let pid = world.supervisor(id);
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(command.starts_with("wharf-supervisor\0resume\0"), "{command:?}");
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let value = |name: &str| -> u64 {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim_end_matches("kB").trim().parse().unwrap()
        };
        let own = value("Private_Clean") + value("Private_Dirty");
        println!("supervisor {pid}: Rss {} kB, Pss {} kB, own {own} kB", value("Rss"), value("Pss"));
        // This program is not optimised and larger than the product; its share of the program file varies with it.
        assert!(value("Private_Dirty") < 600, "{rollup}");
    }
}
