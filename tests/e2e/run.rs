//! Single containers.

use std::time::Instant;

use crate::world::{World, eventually, free_port, get};

#[test]
fn exit_codes_are_dockers() {
    let world = World::new();
    world.wharf(&["run", "--rm", "busybox", "true"]).expect(0);
    world.wharf(&["run", "--rm", "busybox", "sh", "-c", "exit 42"]).expect(42);
    world.wharf(&["run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$"]).expect(137);
    let missing = world.wharf(&["run", "--rm", "busybox", "no-such-program"]).expect(127);
    assert!(missing.stderr.contains("no-such-program"), "{}", missing.stderr);
    world.wharf(&["run", "--rm", "busybox", "/etc"]).expect(126);
    let flag = world.wharf(&["run", "--no-such-flag", "busybox"]).expect(125);
    assert!(flag.stderr.contains("--no-such-flag"), "{}", flag.stderr);
    let image = world.wharf(&["run", "--rm", "--pull", "never", "nothing-of-this-name"]).expect(125);
    assert!(image.stderr.contains("nothing-of-this-name"), "{}", image.stderr);
    assert_eq!(world.ok(&["ps", "-aq"]), "");
    world.expect_no_trace();
}

#[test]
fn streams_are_binary_clean_and_apart() {
    let world = World::new();
    let answer = world.wharf_with_input(&["run", "--rm", "-i", "busybox", "cat"], b"line\nand no end").expect(0);
    assert_eq!(answer.stdout, "line\nand no end");
    let answer = world.wharf(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]).expect(0);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("out\n", "err\n"));
    // However fast a process ends, its last byte arrives.
    for _ in 0..20 {
        assert_eq!(world.ok(&["run", "--rm", "--network", "none", "busybox", "echo", "quick"]), "quick");
    }
    let answer =
        world.wharf(&["run", "--rm", "busybox", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"]).expect(0);
    assert_eq!(answer.stdout.len(), 3_000_000);
}

#[test]
fn flags_reach_the_process() {
    let world = World::new();
    let script =
        "echo $X; id -u; pwd; hostname; cat /proc/self/status | grep -E '^(CapEff|NoNewPrivs|Seccomp):' | tr '\\t' ' '";
    let flags = [
        "run",
        "--rm",
        "-e",
        "X=y z",
        "-u",
        "user",
        "-w",
        "/tmp/new",
        "--hostname",
        "box",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let lines = world.ok(&flags);
    let expected = ["y z", "1000", "/tmp/new", "box", "CapEff: 0000000000000000", "NoNewPrivs: 0", "Seccomp: 2"];
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    assert!(world.ok(&["run", "--rm", "busybox", "grep", "CapEff", "/proc/self/status"]).ends_with("00000000a80425fb"));
    let limits =
        world.ok(&["run", "--rm", "--memory", "64m", "--pids-limit", "50", "busybox", "cat", "/proc/self/cgroup"]);
    assert!(!limits.is_empty());
}

#[test]
fn images_are_described_as_docker_does() {
    let world = World::new();
    let text = world.ok(&["image", "inspect", "busybox"]);
    let found: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(found[0]["RepoTags"][0], "busybox:latest");
    assert_eq!(found[0]["Config"]["Cmd"][0], "sh");
    world.wharf(&["image", "inspect", "nothing"]).expect(1);
}

#[test]
fn volumes_binds_and_tmpfs() {
    let world = World::new();
    world.ok(&["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept > /data/file"]);
    assert_eq!(world.ok(&["run", "--rm", "-v", "data:/data:ro", "busybox", "cat", "/data/file"]), "kept");
    world.wharf(&["run", "--rm", "-v", "data:/data:ro", "busybox", "touch", "/data/x"]).expect(1);
    world.write("host/file", "from the host\n");
    let bind = format!("{}/host:/host", world.folder().display());
    assert_eq!(world.ok(&["run", "--rm", "-v", &bind, "busybox", "cat", "/host/file"]), "from the host");
    assert_eq!(
        world.ok(&["run", "--rm", "--tmpfs", "/scratch", "busybox", "stat", "-f", "-c", "%T", "/scratch"]),
        "tmpfs"
    );
    // A new volume gets what the image has there, with owners.
    assert!(!world.ok(&["run", "--rm", "-v", "etc:/etc", "busybox", "stat", "-c", "%s", "/etc/group"]).is_empty());
    let read_only = world.wharf(&["run", "--rm", "--read-only", "busybox", "touch", "/x"]).expect(1);
    assert!(read_only.stderr.contains("Read-only"), "{}", read_only.stderr);
}

#[test]
fn a_detached_container_lives_on_its_own() {
    let world = World::new();
    let port = free_port();
    let publish = format!("{port}:80");
    world.write("www/index.html", "hello\n");
    let bind = format!("{}/www:/www:ro", world.folder().display());
    let id = world
        .ok(&["run", "-d", "--name", "server", "-p", &publish, "-v", &bind, "busybox", "httpd", "-f", "-h", "/www"]);
    assert_eq!(id.len(), 64);
    let body = eventually("the server answers", || get(("127.0.0.1", port), "/"));
    assert_eq!(body, "hello\n");
    // The network has no IPv6, and `localhost` may be [::1] all the same.
    assert_eq!(eventually("the relay answers", || get(("::1", port), "/")), "hello\n");
    assert_eq!(world.ok(&["port", "server", "80"]), format!("0.0.0.0:{port}\n[::]:{port}"));
    let shown = world.ok(&["ps", "--format", "{{.Ports}}"]);
    assert_eq!(shown, format!("0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp"));
    for supervisor in world.supervisors() {
        let pid = rustix::process::Pid::from_raw(supervisor).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    }
    world.ok(&["ps"]);
    assert_eq!(eventually("the successor relays", || get(("::1", port), "/")), "hello\n");
    assert_eq!(world.ok(&["exec", "server", "cat", "/www/index.html"]), "hello");
    world.wharf(&["exec", "server", "sh", "-c", "exit 5"]).expect(5);
    world.wharf(&["exec", "server", "no-such-program"]).expect(127);
    let taken = world.wharf(&["run", "--rm", "-p", &publish, "busybox", "true"]).expect(125);
    assert!(taken.stderr.contains(&port.to_string()) && taken.stderr.contains("in use"), "{}", taken.stderr);
    let name = world.wharf(&["run", "-d", "--name", "server", "busybox", "true"]).expect(125);
    assert!(name.stderr.contains("server"), "{}", name.stderr);
    let started = Instant::now();
    world.ok(&["stop", "server"]);
    // busybox httpd does not handle SIGTERM as PID 1: there is nothing to wait for.
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    world.ok(&["rm", "server"]);
    world.expect_no_trace();
}

#[test]
fn logs_are_kept_and_followed() {
    let world = World::new();
    world.ok(&[
        "run",
        "-d",
        "--name",
        "talker",
        "busybox",
        "sh",
        "-c",
        "echo one; echo two >&2; sleep 0.3; echo three",
    ]);
    let logs = world.wharf(&["logs", "-f", "talker"]).expect(0);
    assert!(logs.stdout.contains("one\n") && logs.stdout.contains("three\n"), "{logs:?}");
    assert!(logs.stderr.contains("two\n"), "{logs:?}");
    let tail = world.wharf(&["logs", "--tail", "1", "talker"]).expect(0);
    assert!(tail.stdout.contains("three") && !tail.stdout.contains("one"), "{tail:?}");
}

#[test]
fn restart_policies_work_without_a_command_line() {
    let world = World::new();
    world.ok(&[
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "on-failure:2",
        "-v",
        "n:/n",
        "busybox",
        "sh",
        "-c",
        "echo x >> /n/runs; exit 1",
    ]);
    eventually("three runs", || {
        let runs = world.ok(&["run", "--rm", "-v", "n:/n", "busybox", "cat", "/n/runs"]);
        (runs.lines().count() == 3).then_some(())
    });
    eventually("the end", || world.ok(&["ps", "-a"]).contains("Exited (1)").then_some(()));
}
