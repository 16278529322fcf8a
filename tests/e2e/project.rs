//! Projects.

use std::time::{Duration, Instant};

use crate::world::{World, eventually, free_port, get};

const SLEEP: &str = "command: [\"sh\", \"-c\", \"trap 'exit 0' TERM; while :; do sleep 1 & wait $$!; done\"]";

#[test]
fn a_project_comes_up_and_goes_down() {
    let world = World::new();
    let port = free_port();
    world.write("www/index.html", "page\n");
    world.write(
        "compose.yaml",
        &format!(
            "services:
  web:
    image: busybox
    command: httpd -f -h /www
    volumes: [\"./www:/www:ro\", \"data:/data\"]
    ports: [\"{port}:80\"]
    depends_on: {{db: {{condition: service_healthy}}}}
  db:
    image: busybox
    {SLEEP}
    healthcheck: {{test: [CMD, test, -e, /etc/passwd], start_interval: 50ms, start_period: 5s}}
volumes:
  data:
"
        ),
    );
    let up = world.wharf(&["up", "-d"]).expect(0);
    for word in ["Network", "Volume", "Container", "Started"] {
        assert!(up.stderr.contains(word), "{}", up.stderr);
    }
    assert_eq!(eventually("the page", || get(("127.0.0.1", port), "/")), "page\n");
    let name = world.project_name().to_owned();
    assert_eq!(world.ok(&["ps", "--services"]), "db\nweb");
    let address = world.ok(&["exec", "web", "nslookup", "db"]);
    assert!(address.contains("Name:"), "{address}");
    assert_eq!(world.ok(&["exec", "web", "wget", "-q", "-O", "-", "http://web/"]), "page");
    world.ok(&["exec", "web", "sh", "-c", "echo kept > /data/file"]);

    let again = world.wharf(&["up", "-d"]).expect(0);
    assert!(!again.stderr.contains("Created") && !again.stderr.contains("Started"), "{}", again.stderr);

    world.ok(&["down"]);
    assert_eq!(world.ok(&["ps", "-aq"]), "");
    assert_eq!(world.bridges(), Vec::<String>::new());
    world.expect_no_trace();
    let volume = format!("{name}_data:/data");
    assert_eq!(world.ok(&["run", "--rm", "-v", &volume, "busybox", "cat", "/data/file"]), "kept");
    world.ok(&["down", "-v"]);
    world.wharf(&["run", "--rm", "-v", &volume, "busybox", "cat", "/data/file"]).expect(1);
}

#[test]
fn only_what_changed_is_made_anew() {
    let world = World::new();
    let file = |value: &str| {
        format!(
            "services:\n  a: {{image: busybox, {SLEEP}, environment: {{X: {value}}}}}\n  b: {{image: busybox, {SLEEP}}}\n"
        )
    };
    let ids = || world.ok(&["ps", "-q", "--no-trunc"]).lines().map(str::to_owned).collect::<Vec<_>>();
    world.write("compose.yaml", &file("one"));
    world.ok(&["up", "-d"]);
    let before = ids();
    assert_eq!(before.len(), 2);
    world.write("compose.yaml", &file("two"));
    world.ok(&["up", "-d"]);
    let after = ids();
    assert_eq!(after.len(), 2);
    assert_eq!(before.iter().filter(|id| after.contains(id)).count(), 1, "{before:?} {after:?}");
    assert_eq!(world.ok(&["exec", "a", "sh", "-c", "echo $X"]), "two");

    world.write("compose.yaml", &format!("services:\n  a: {{image: busybox, {SLEEP}, environment: {{X: two}}}}\n"));
    let orphan = world.wharf(&["up", "-d"]).expect(0);
    assert!(orphan.stderr.contains("orphan"), "{}", orphan.stderr);
    world.ok(&["up", "-d", "--remove-orphans"]);
    assert_eq!(ids().len(), 1);
}

#[test]
fn replicas_share_a_name_and_scale() {
    let world = World::new();
    world.write(
        "compose.yaml",
        &format!("services:\n  web: {{image: busybox, {SLEEP}}}\n  client: {{image: busybox, {SLEEP}}}\n"),
    );
    world.ok(&["up", "-d", "--scale", "web=3"]);
    let answer = world.ok(&["exec", "client", "nslookup", "web"]);
    let addresses: std::collections::BTreeSet<_> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("Address"))
        .filter(|line| !line.contains("127.0.0.11"))
        .collect();
    assert_eq!(addresses.len(), 3, "{answer}");
    world.ok(&["up", "-d", "--scale", "web=1"]);
    assert_eq!(world.ok(&["ps", "-q", "web"]).lines().count(), 1);
}

#[test]
fn waits_are_woken_by_events() {
    let world = World::new();
    // Each becomes healthy some 50 ms after its start: six of them one after the other.
    let mut file = String::from("services:\n");
    for index in 0..6 {
        let after = if index == 0 {
            String::new()
        } else {
            format!(", depends_on: {{s{}: {{condition: service_healthy}}}}", index - 1)
        };
        file += &format!(
            "  s{index}: {{image: busybox, init: true, command: [sh, -c, 'sleep 0.05; touch /tmp/ready; exec sleep 1000'], healthcheck: {{test: [CMD, test, -e, /tmp/ready], start_interval: 10ms, start_period: 10s, interval: 30s}}{after}}}\n"
        );
    }
    world.write("compose.yaml", &file);
    let started = Instant::now();
    world.ok(&["up", "-d"]);
    // Well below the interval; the bound leaves room for a loaded machine. How fast it is, the benchmarks say.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn a_failed_dependency_is_told_with_its_path() {
    let world = World::new();
    world.write(
        "compose.yaml",
        &format!(
            "services:
  web: {{image: busybox, {SLEEP}, depends_on: [api]}}
  api: {{image: busybox, {SLEEP}, depends_on: {{seed: {{condition: service_completed_successfully}}}}}}
  seed: {{image: busybox, command: [sh, -c, 'exit 3']}}
"
        ),
    );
    let failed = world.wharf(&["up", "-d"]).expect(1);
    assert!(failed.stderr.contains("web -> api -> seed"), "{}", failed.stderr);
    assert!(failed.stderr.contains("code 3"), "{}", failed.stderr);
    let states = world.ok(&["ps", "-a", "--format", "{{.Service}} {{.State}}"]);
    assert!(states.contains("seed exited") && !states.contains("running"), "{states}");
}

#[test]
fn attached_up_shows_the_logs_and_returns_codes() {
    let world = World::new();
    world.write("compose.yaml", &format!("services:\n  job: {{image: busybox, command: [sh, -c, 'echo working; exit 4']}}\n  web: {{image: busybox, {SLEEP}}}\n"));
    let answer = world.wharf(&["up", "--exit-code-from", "job"]).expect(4);
    assert!(answer.stdout.contains("job-1") && answer.stdout.contains("| working"), "{answer:?}");
    assert!(answer.stdout.contains("exited with code 4"), "{answer:?}");
    assert_eq!(world.ok(&["ps", "-q"]), "");
}

#[test]
fn configs_secrets_and_their_changes() {
    let world = World::new();
    world.write("token.txt", "s3cret");
    let file = format!(
        "services:
  app:
    image: busybox
    {SLEEP}
    secrets: [{{source: token, uid: \"1000\", mode: 0400}}]
    configs: [{{source: greeting, target: /etc/greeting}}]
secrets: {{token: {{file: ./token.txt}}}}
configs: {{greeting: {{content: hello}}}}
"
    );
    world.write("compose.yaml", &file);
    world.ok(&["up", "-d"]);
    assert_eq!(world.ok(&["exec", "app", "stat", "-c", "%u %a", "/run/secrets/token"]), "1000 400");
    assert_eq!(world.ok(&["exec", "app", "cat", "/run/secrets/token", "/etc/greeting"]), "s3crethello");
    // The files' own file system must not keep the host's root in reach.
    assert_eq!(world.ok(&["exec", "app", "ls", "/.."]), world.ok(&["exec", "app", "ls", "/"]));
    assert!(
        !world
            .ok(&["exec", "app", "cat", "/proc/1/mountinfo"])
            .lines()
            .any(|line| line.contains(" - ext4 ") && line.split(' ').nth(4) == Some("/"))
    );
    world.write("token.txt", "other");
    world.ok(&["up", "-d"]);
    assert_eq!(world.ok(&["exec", "app", "cat", "/run/secrets/token"]), "other");
}

#[test]
fn a_service_is_built_and_a_rebuild_does_nothing() {
    let world = World::new();
    world.write("compose.yaml", "services:\n  app: {build: ., command: [cat, /message]}\n");
    world.write("Dockerfile", "FROM busybox AS make\nARG WHO=world\nRUN echo \"hello $WHO\" > /message\nFROM busybox\nCOPY --from=make /message /message\n");
    let first = world.wharf(&["up"]).expect(0);
    assert!(first.stdout.contains("hello world"), "{first:?}");
    let id = world.ok(&["images", "-q"]);
    world.ok(&["build"]);
    assert_eq!(world.ok(&["images", "-q"]), id);
    world.write("Dockerfile", "FROM busybox\nRUN false\n");
    let failed = world.wharf(&["build"]).expect(1);
    assert!(failed.stderr.contains("Dockerfile:2"), "{}", failed.stderr);
}

#[test]
fn two_projects_do_not_see_each_other() {
    let world = World::new();
    world.write("compose.yaml", &format!("services:\n  app: {{image: busybox, {SLEEP}}}\n"));
    world.ok(&["-p", "first", "up", "-d"]);
    world.ok(&["-p", "second", "up", "-d"]);
    let address = world.ok(&["-p", "second", "exec", "app", "hostname", "-i"]);
    let reach = world.wharf(&["-p", "first", "exec", "app", "ping", "-c", "1", "-W", "1", address.trim()]);
    assert_ne!(reach.code, 0, "{reach:?}");
    let name = world.wharf(&["-p", "first", "exec", "app", "nslookup", "app"]).expect(0);
    assert!(!name.stdout.contains(address.trim()), "{name:?}");
    world.ok(&["-p", "first", "down"]);
    assert_eq!(world.ok(&["-p", "second", "ps", "-q"]).lines().count(), 1);
    world.ok(&["-p", "second", "down"]);
    world.expect_no_trace();
}

#[test]
fn a_shared_network_namespace_outlives_a_restart() {
    let world = World::new();
    world.write("compose.yaml", &format!("services:\n  main: {{image: busybox, {SLEEP}}}\n  side: {{image: busybox, {SLEEP}, network_mode: \"service:main\"}}\n"));
    world.ok(&["up", "-d"]);
    let before = world.ok(&["exec", "side", "hostname", "-i"]);
    let kill = world.ok(&["exec", "main", "readlink", "/proc/self/ns/net"]);
    assert_eq!(world.ok(&["exec", "side", "readlink", "/proc/self/ns/net"]), kill);
    assert!(!before.is_empty());
}

#[test]
fn compatible_names_and_a_limit_of_one_thing_at_once() {
    let world = World::new();
    let service = |name: &str| format!("  {name}: {{image: busybox, command: sleep 1000}}\n");
    world.write("compose.yaml", &format!("services:\n{}{}{}", service("a"), service("b"), service("c")));
    world.ok(&["--compatibility", "--parallel", "1", "up", "-d"]);
    let names = world.ok(&["ps", "--format", "{{.Name}}"]);
    let wanted: Vec<String> = ["a", "b", "c"].map(|name| format!("{}_{name}_1", world.project_name())).into();
    let mut found: Vec<&str> = names.lines().collect();
    found.sort_unstable();
    assert_eq!(found, wanted);
    // Nothing has changed for the next one.
    let again = world.ok(&["--compatibility", "--dry-run", "up", "-d"]);
    assert!(again.contains("nothing to do"), "{again}");
    let wrong = world.wharf(&["--parallel", "0", "ps"]);
    assert!(wrong.code != 0 && wrong.stderr.contains("--parallel"), "{wrong:?}");
    world.ok(&["--compatibility", "down", "-t", "0"]);
    world.expect_no_trace();
}

#[test]
fn limits_on_block_devices_reach_the_kernel() {
    let world = World::new();
    let named = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = std::path::Path::new("/dev").join(entry.ok()?.file_name());
        path.exists().then_some(path)
    };
    let mut devices = std::fs::read_dir("/sys/block").expect("there is a list").filter_map(named);
    let device = devices.next().expect("the host has a block device");
    let file = |rate: &str, device: &std::path::Path| {
        format!(
            "services: {{app: {{image: busybox, init: true, command: sleep 1000, blkio_config: {{weight: 300, device_read_bps: [{{path: {}, rate: {rate}}}]}}}}}}\n",
            device.display()
        )
    };
    world.write("compose.yaml", &file("1mb", &device));
    world.ok(&["up", "-d"]);
    let read = "cat /sys/fs/cgroup/blkio/blkio.throttle.read_bps_device /sys/fs/cgroup/io.max 2>/dev/null; true";
    let limits = world.ok(&["exec", "app", "sh", "-c", read]);
    assert!(limits.contains("1048576"), "{limits}");
    world.write("compose.yaml", &file("1mb", std::path::Path::new("/dev/null")));
    let wrong = world.wharf(&["up", "-d", "-t", "0"]).expect(1);
    assert!(wrong.stderr.contains("/dev/null") && wrong.stderr.contains("not a block device"), "{wrong:?}");
    world.ok(&["down", "-t", "0"]);
    world.expect_no_trace();
}

#[test]
fn a_gpu_that_the_host_does_not_describe_is_an_error_that_says_what_to_do() {
    let world = World::new();
    world.write("compose.yaml", "services: {app: {image: busybox, command: \"true\", gpus: [{driver: no-such, capabilities: [gpu], count: 1}]}}\n");
    let failed = world.wharf(&["up", "-d"]).expect(1);
    assert!(
        failed.stderr.contains("could not select device driver") && failed.stderr.contains("nvidia-ctk"),
        "{failed:?}"
    );
    let words = ["docker", "run", "--rm", "--gpus", "driver=no-such,count=2", "busybox", "true"];
    let flag = world.wharf(&words).expect(125);
    let expected = "could not select device driver \"no-such\" with capabilities: [[gpu]]";
    assert!(flag.stderr.contains(expected) && flag.stderr.contains("nvidia-ctk"), "{flag:?}");
}

#[test]
fn a_profile_of_apparmor_that_is_not_there_is_an_error_and_labels_mean_nothing_without_selinux() {
    let world = World::new();
    let profile = "security_opt: [\"label=type:svirt\", \"apparmor:wharf-no-such-profile\"]";
    world.write(
        "compose.yaml",
        &format!("services:\n  app:\n    image: busybox\n    command: \"true\"\n    {profile}\n"),
    );
    let failed = world.wharf(&["up", "-d"]).expect(1);
    assert!(failed.stderr.contains("wharf-no-such-profile") && failed.stderr.contains("compose.yaml:5:"), "{failed:?}");
    let words = ["docker", "run", "--rm", "--security-opt", "apparmor=unconfined", "--security-opt", "label=disable"];
    assert_eq!(world.ok(&[&words[..], &["busybox", "echo", "fine"]].concat()), "fine");
    world.ok(&["down"]);
    world.expect_no_trace();
}

#[test]
fn a_dry_run_of_any_verb_does_nothing() {
    let world = World::new();
    world.write("compose.yaml", "services:\n  web: {image: busybox, command: sleep 1000, stop_grace_period: 0s}\n");
    world.write("f", "file\n");
    world.ok(&["up", "-d"]);
    let look = || {
        let files = world.ok(&["exec", "web", "ls", "/"]);
        let ends = world.ok(&["ps", "-a", "--format", "{{.Name}} {{.State}}"]);
        let on_host = std::fs::read_dir(world.folder()).expect("a folder").count();
        (files, ends, on_host, world.ok(&["image", "ls", "-q"]))
    };
    let before = look();
    for verb in [
        "down",
        "stop",
        "restart",
        "kill",
        "pause",
        "rm -sf",
        "scale web=2",
        "run --rm web true",
        "exec web touch /x",
        "cp f web:/f",
        "cp web:/etc/passwd .",
        "commit web made",
        "export web -o x.tar",
        "wait --down-project web",
        "attach web",
        "up --force-recreate",
        "create --force-recreate",
    ] {
        let words: Vec<&str> = std::iter::once("--dry-run").chain(verb.split(' ')).collect();
        let answer = world.wharf(&words).expect(0);
        assert!(answer.stdout.starts_with("1. ") && answer.stdout.contains(": "), "{verb}: {answer:?}");
        assert_eq!(look(), before, "{verb}");
    }
    for verb in ["watch", "tag busybox other", "image rm busybox", "volume prune -f", "system prune -f"] {
        let words: Vec<&str> = std::iter::once("--dry-run").chain(verb.split(' ')).collect();
        world.wharf(&words).expect(1);
        assert_eq!(look(), before, "{verb}");
    }
    world.ok(&["down"]);
}
