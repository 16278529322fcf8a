//! Containers with users of their own: root inside is nobody on the host, and images and volumes need no chown.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{World, eventually};

fn docker(world: &World, words: &[&str]) -> String {
    world.ok(&[&["docker"], words].concat())
}

/// The host's id of root, and how many ids there are, as the kernel has it.
fn map_of(world: &World, container: &str) -> (u32, u32) {
    let map = docker(world, &["exec", container, "cat", "/proc/self/uid_map"]);
    let numbers: Vec<u32> = map.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    assert_eq!(numbers[0], 0, "{map}");
    assert_ne!(numbers[1], 0, "{map}");
    (numbers[1], numbers[2])
}

#[test]
fn root_inside_is_nobody_outside() {
    let world = World::new();
    let bound = world.folder().join("bound");
    fs::create_dir(&bound).expect("made");
    fs::write(bound.join("open"), "for all").expect("written");
    fs::write(bound.join("secret"), "for root").expect("written");
    fs::set_permissions(bound.join("secret"), fs::Permissions::from_mode(0o600)).expect("set");
    let bind = format!("{}:/bound", bound.display());
    docker(&world, &["volume", "create", "data"]);
    let run = ["run", "-d", "--userns=auto", "-v", "data:/data", "-v", &bind, "--restart", "always"];
    let script = "id >/data/root; touch /data/user; chown user /data/user; sleep 1000";
    let more = ["--tmpfs", "/scratch", "--ulimit", "nofile=500:600", "--name", "one", "busybox", "sh", "-c", script];
    docker(&world, &[&run[..], &more[..]].concat());
    let (root, count) = map_of(&world, "one");
    assert_eq!(count, 65_536);
    let process = world.first_process("one");
    assert_eq!(fs::metadata(format!("/proc/{process}/environ")).expect("it runs").uid(), root);
    assert_eq!(docker(&world, &["inspect", "-f", "{{.HostConfig.UsernsMode}}", "one"]), "auto");

    // On disk everything has the ids that it has inside.
    let data = docker(&world, &["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]);
    eventually("the volume's files", || (fs::metadata(format!("{data}/user")).ok()?.uid() == 1000).then_some(()));
    assert_eq!(fs::metadata(format!("{data}/root")).expect("it is there").uid(), 0);
    let exec = |words: &[&str]| world.wharf(&[&["docker", "exec"], words].concat());
    let look =
        exec(&["one", "stat", "-c", "%u:%g %n", "/bin/busybox", "/data/root", "/data/user", "/dev/null", "/etc"]);
    assert_eq!(look.expect(0).stdout, "0:0 /bin/busybox\n0:0 /data/root\n1000:0 /data/user\n0:0 /dev/null\n0:0 /etc\n");

    // What only root of the host may do, root inside may not.
    assert_eq!(exec(&["one", "cat", "/bound/open"]).expect(0).stdout, "for all");
    for refused in [
        "cat /bound/secret",
        "echo x >/bound/secret",
        "echo x >/bound/open",
        "touch /bound/new",
        "mknod /tmp/disk b 8 0",
        "mount -t proc proc /tmp",
        "echo 1 >/proc/sys/kernel/panic",
    ] {
        let answer = exec(&["one", "sh", "-c", refused]);
        assert_ne!(answer.code, 0, "{refused}: {}", answer.stdout);
    }
    assert_eq!(fs::read_to_string(bound.join("secret")).expect("it is there"), "for root");
    // What root of a container may, it may.
    for allowed in [
        "echo x >/etc/new && chown user /etc/new && chmod 4711 /etc/new",
        "touch /scratch/x && chown 5:6 /scratch/x",
        "echo x >/dev/shm/x",
        "hostname >/dev/null",
        "echo out >/dev/stdout",
        "echo '1.2.3.4 x' >>/etc/hosts",
        "su user -c 'touch /tmp/mine'",
    ] {
        exec(&["one", "sh", "-c", allowed]).expect(0);
    }
    assert_eq!(exec(&["-u", "user", "one", "id", "-u"]).expect(0).stdout, "1000\n");
    assert_eq!(exec(&["one", "sh", "-c", "ulimit -n; ulimit -Hn"]).expect(0).stdout, "500\n600\n");

    // The same users, also in another process and after the end of the supervisor.
    for pid in world.supervisors() {
        kill_process(Pid::from_raw(pid).expect("a number"), Signal::KILL).expect("it lives");
    }
    assert_eq!(map_of(&world, "one"), (root, count));
    docker(&world, &["ps"]);
    kill_process(Pid::from_raw(world.first_process("one")).expect("a number"), Signal::KILL).expect("it lives");
    eventually("the next start", || (world.first_process_now("one")? != process).then_some(()));
    eventually("a process to look at", || (world.wharf(&["docker", "exec", "one", "true"]).code == 0).then_some(()));
    assert_eq!(map_of(&world, "one"), (root, count));
    docker(&world, &["rm", "-f", "one"]);
    world.expect_no_trace();
}

#[test]
fn files_of_such_a_container_are_as_those_of_any_other() {
    let world = World::new();
    world.write("file", "content");
    let script =
        "mkdir /own && touch /own/user && chown user:user /own/user && rm /etc/group && touch /ready; sleep 1000";
    docker(
        &world,
        &["run", "-d", "--name", "one", "--userns=private", "-v", "data:/data", "busybox", "sh", "-c", script],
    );
    eventually("the files", || {
        (world.wharf(&["docker", "exec", "one", "test", "-e", "/ready"]).code == 0).then_some(())
    });
    let file = world.folder().join("file");
    std::os::unix::fs::chown(&file, Some(1000), Some(2000)).expect("root may");
    let file = file.to_str().expect("text");
    docker(&world, &["cp", file, "one:/own/plain"]);
    docker(&world, &["cp", "-a", file, "one:/own/kept"]);
    docker(&world, &["cp", "-a", file, "one:/data/kept"]);
    let owners = ["stat", "-c", "%u:%g %n", "/own", "/own/kept", "/own/plain", "/own/user", "/data/kept"];
    let expected = "0:0 /own\n1000:2000 /own/kept\n0:0 /own/plain\n1000:1000 /own/user\n1000:2000 /data/kept";
    assert_eq!(docker(&world, &[&["exec", "one"], &owners[..]].concat()), expected);
    // Out of it, running and not, and with what it became.
    let list = |archive: &[u8]| {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().expect("an archive").map(|entry| {
            let entry = entry.expect("an entry");
            let header = entry.header();
            let owner = format!("{}:{}", header.uid().expect("a number"), header.gid().expect("a number"));
            format!("{owner} {}", entry.path().expect("a path").display())
        });
        entries.filter(|line| line.contains("own/")).collect::<BTreeSet<_>>()
    };
    let copied = |words: &[&str]| {
        let output = world.command(&[&["docker"], words].concat()).output().expect("wharf can be run");
        assert!(output.status.success());
        list(&output.stdout)
    };
    let expected =
        BTreeSet::from(["0:0 own/", "1000:2000 own/kept", "0:0 own/plain", "1000:1000 own/user"].map(str::to_owned));
    assert_eq!(copied(&["cp", "one:/own", "-"]), expected);
    let changes = docker(&world, &["diff", "one"]);
    assert_eq!(changes, "C /etc\nD /etc/group\nA /own\nA /own/kept\nA /own/plain\nA /own/user\nA /ready");
    docker(&world, &["commit", "one", "made"]);
    docker(&world, &["stop", "-t", "0", "one"]);
    assert_eq!(copied(&["cp", "one:/own", "-"]), expected);
    assert_eq!(copied(&["export", "one"]), expected);
    // Without users of its own, and with others.
    for users in ["--userns=host", "--userns=auto:size=5000"] {
        let all = [&["run", "--rm", users, "made"], &owners[..owners.len() - 1]].concat();
        assert_eq!(docker(&world, &all), "0:0 /own\n1000:2000 /own/kept\n0:0 /own/plain\n1000:1000 /own/user");
    }
}

#[test]
fn each_has_its_own_and_shares_only_with_its_like() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    init: true\n    userns_mode: auto\n    command: httpd -f -p 80 -h /etc\n    \
         healthcheck: {test: wget -qO- 127.0.0.1/passwd, interval: 1s}\n    configs: [{source: text, uid: '1000', mode: 0400}]\n  \
         side:\n    image: busybox\n    userns_mode: auto\n    network_mode: service:web\n    \
         command: sh -c 'wget -qO- 127.0.0.1/passwd && sleep 1000'\n    depends_on: {web: {condition: service_healthy}}\n  \
         other:\n    image: busybox\n    userns_mode: auto\n    user: user\n    command: sh -c 'wget -qO- web/passwd && sleep 1000'\n    depends_on: [side]\n\
         configs: {text: {content: words}}\n",
    );
    world.ok(&["up", "-d"]);
    let name = |service: &str| format!("{}-{service}-1", world.project_name());
    for service in ["side", "other"] {
        eventually("the page", || world.ok(&["logs", service]).contains("user:x:1000").then_some(()));
    }
    let maps: Vec<_> = ["web", "side", "other"].map(|service| map_of(&world, &name(service))).into();
    assert_eq!(maps[0], maps[1], "who shares a network shares the users");
    assert!(maps[0].0.abs_diff(maps[2].0) >= 65_536, "{maps:?}");
    assert_eq!(world.ok(&["exec", "web", "stat", "-c", "%u %a", "/text"]), "1000 400");

    let refused = |words: &[&str], reason: &str| {
        let answer = world.wharf(&[&["docker", "run", "--rm"], words, &["busybox", "true"]].concat()).expect(125);
        assert!(answer.stderr.contains(reason), "{words:?}: {}", answer.stderr);
    };
    refused(&["--userns=auto", "--privileged"], "privileged mode is incompatible with user namespaces");
    refused(&["--userns=auto", "--network=host"], "cannot share the host's network namespace when user namespaces");
    refused(&["--userns=auto", "--pid=host"], "cannot share the host PID namespace when user namespaces");
    refused(&["--userns=auto", "-u", "70000"], "user 70000 is not in the container's user namespace");
    refused(&["--userns=auto:size=4294967295"], "no 4294967295 ids are free");
    refused(&["--userns=keep-id"], "`keep-id` is not host, auto, auto:size=NUMBER or container:NAME");
    docker(&world, &["run", "-d", "--name", "plain", "busybox", "sleep", "1000"]);
    refused(&["--userns=auto", "--network=container:plain"], "the container plain has the host's users");
    // Its own only terminal, a namespace of another, and that of nobody.
    let joined = docker(
        &world,
        &["run", "--rm", "--userns", &format!("container:{}", name("web")), "busybox", "cat", "/proc/self/uid_map"],
    );
    assert!(joined.contains(&maps[0].0.to_string()), "{joined}");
    let all = docker(&world, &["run", "--rm", "--userns=host", "busybox", "cat", "/proc/self/uid_map"]);
    assert_eq!(all.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"]);
    world.ok(&["down", "-t", "0"]);
    docker(&world, &["rm", "-f", "plain"]);
    world.expect_no_trace();
}
