//! Files of containers from outside: `cp`, `diff`, `commit`, `export`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use crate::world::World;

fn docker(world: &World, words: &[&str]) -> String {
    world.ok(&[&["docker"], words].concat())
}

fn read(world: &World, path: &str) -> String {
    fs::read_to_string(world.folder().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn cp_follows_dockers_rules_both_ways() {
    let world = World::new();
    world.write("file", "content\n");
    world.write("tree/a", "a\n");
    world.write("tree/sub/b", "b\n");
    fs::set_permissions(world.folder().join("tree/a"), fs::Permissions::from_mode(0o750)).expect("a mode");
    symlink("a", world.folder().join("tree/link")).expect("a link");
    docker(&world, &["run", "-d", "--name", "up", "-v", "vol:/vol", "busybox", "sleep", "1000"]);
    docker(&world, &["create", "--name", "off", "-v", "vol:/vol", "busybox", "true"]);
    for name in ["up", "off"] {
        let to = |path: &str| format!("{name}:{path}");
        docker(&world, &["cp", "-q", "file", &to("/new")]);
        docker(&world, &["cp", "-q", "file", &to("/etc/")]);
        docker(&world, &["cp", "-q", "file", &to("vol/from-host")]);
        docker(&world, &["cp", "-q", "tree", &to("/made")]);
        docker(&world, &["cp", "-q", "tree", &to("/made")]);
        docker(&world, &["cp", "-q", "tree/.", &to("/etc")]);
        for (source, target, reason) in [
            ("file", "/no/such/folder/x", "o such file"),
            ("file", "/not-there/", "o such file"),
            ("tree", "/new", "over the file"),
            ("file", "/new/", "ot a directory"),
            ("no-such-file", "/x", "o such file"),
        ] {
            let answer = world.wharf(&["docker", "cp", source, &to(target)]).expect(1);
            assert!(answer.stderr.contains(reason), "{source} {target}: {}", answer.stderr);
        }
        // Back again, in all forms.
        for (source, target, file, content) in [
            ("/new", "back", "back", "content\n"),
            ("/etc/file", "back", "back", "content\n"),
            ("/vol/from-host", "from-volume", "from-volume", "content\n"),
            ("/made", "out", "out/a", "a\n"),
            ("/made/tree", "out", "out/tree/sub/b", "b\n"),
            ("/made/sub/.", "out", "out/b", "b\n"),
            ("/etc/link", "out/the-link", "out/a", "a\n"),
        ] {
            docker(&world, &["cp", "-q", &to(source), target]);
            assert_eq!(read(&world, file), content, "{name}:{source} -> {target}");
        }
        assert!(fs::symlink_metadata(world.folder().join("out/the-link")).expect("it is there").is_symlink());
        docker(&world, &["cp", "-q", "-L", &to("/etc/link"), "followed"]);
        assert_eq!(read(&world, "followed"), "a\n");
        assert_eq!(fs::metadata(world.folder().join("out/a")).expect("it is there").mode() & 0o7777, 0o750);
        fs::remove_dir_all(world.folder().join("out")).expect("it goes");
    }
    // As a stream.
    let script = "cd / && tar cf - made";
    let tar = std::process::Command::new("sh").arg("-c").arg("tar cf - tree").current_dir(world.folder()).output();
    world.wharf_with_input(&["docker", "cp", "-", "up:/tmp"], &tar.expect("tar runs").stdout).expect(0);
    assert_eq!(docker(&world, &["exec", "up", "cat", "/tmp/tree/sub/b"]), "b");
    let inside = docker(&world, &["exec", "up", "sh", "-c", &format!("{script} | tar t | sort")]);
    let mut command = world.command(&["docker", "cp", "up:/made", "-"]);
    let answer = command.output().expect("it runs");
    fs::write(world.folder().join("x.tar"), answer.stdout).expect("written");
    let listed =
        std::process::Command::new("sh").arg("-c").arg("tar tf x.tar | sort").current_dir(world.folder()).output();
    assert_eq!(String::from_utf8_lossy(&listed.expect("tar runs").stdout).trim(), inside);
    docker(&world, &["rm", "-f", "up", "off"]);
    docker(&world, &["volume", "rm", "vol"]);
    world.expect_no_trace();
}

/// An archive with the link `l` and a file of this name.
fn archive(link: &str, name: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    builder.append_link(&mut header, "l", link).expect("memory takes everything");
    let mut header = tar::Header::new_gnu();
    // The library would refuse the name.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(1);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, &b"x"[..]).expect("memory takes everything");
    builder.into_inner().expect("memory takes everything")
}

#[test]
fn links_in_a_container_lead_nowhere_else() {
    let world = World::new();
    let secret = world.folder().join("secret");
    fs::create_dir(&secret).expect("made");
    fs::write(secret.join("key"), "host\n").expect("written");
    world.write("evil", "overwritten\n");
    let outside = secret.display().to_string();
    let script =
        format!("ln -s {outside} /out; ln -s {outside}/key /key; mkdir /d; ln -s ../../../../../{outside} /d/up");
    docker(&world, &["run", "--name", "evil", "busybox", "sh", "-c", &script]);
    for path in ["/out/key", "/d/up/key"] {
        world.wharf(&["docker", "cp", &format!("evil:{path}"), "stolen"]).expect(1);
        world.wharf(&["docker", "cp", "evil", &format!("evil:{path}")]).expect(1);
    }
    world.wharf(&["docker", "cp", "-L", "evil:/key", "stolen"]).expect(1);
    assert_eq!(fs::read_to_string(secret.join("key")).expect("still there"), "host\n");
    assert!(!world.folder().join("stolen").exists());
    // An archive that makes a link and writes through it, and one that climbs.
    world.wharf_with_input(&["docker", "cp", "-", "evil:/d"], &archive(&outside, "l/written")).expect(0);
    assert!(!secret.join("written").exists());
    let climbing =
        world.wharf_with_input(&["docker", "cp", "-", "evil:/d"], &archive(&outside, "../climbed")).expect(1);
    assert!(climbing.stderr.contains(".."), "{}", climbing.stderr);
    docker(&world, &["rm", "evil"]);
    world.expect_no_trace();
}

#[test]
fn changes_are_shown_committed_and_exported() {
    let world = World::new();
    let script = "echo new > /tmp/new; echo more >> /etc/passwd; rm /bin/touch; mkdir /made; mkfifo /made/pipe";
    docker(&world, &["run", "--name", "one", "-e", "KEPT=yes", "-w", "/tmp", "busybox", "sh", "-c", script]);
    let expected = "D /bin/touch\nC /etc\nC /etc/passwd\nA /made\nA /made/pipe\nC /tmp\nA /tmp/new";
    let shown: Vec<String> =
        docker(&world, &["diff", "one"]).lines().filter(|line| *line != "C /bin").map(str::to_owned).collect();
    assert_eq!(shown.join("\n"), expected);
    let id = docker(&world, &["commit", "-a", "me", "-m", "a remark", "-c", "CMD [\"cat\", \"new\"]", "one", "made:1"]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(docker(&world, &["run", "--rm", "made:1"]), "new");
    assert_eq!(
        docker(&world, &["run", "--rm", "made:1", "sh", "-c", "echo $KEPT; test ! -e /bin/touch && pwd"]),
        "yes\n/tmp"
    );
    // A second commit without changes has a layer of the same content as one below.
    docker(&world, &["run", "-d", "--name", "two", "made:1", "sleep", "1000"]);
    docker(&world, &["commit", "two", "made:2"]);
    docker(&world, &["run", "--name", "three", "made:2", "true"]);
    docker(&world, &["commit", "three", "made:3"]);
    assert_eq!(docker(&world, &["run", "--rm", "made:3", "cat", "/tmp/new"]), "new");
    docker(&world, &["export", "-o", "one.tar", "one"]);
    let list = std::process::Command::new("tar").arg("tf").arg(world.folder().join("one.tar")).output();
    let list = String::from_utf8_lossy(&list.expect("tar runs").stdout).into_owned();
    let has = |name: &str| list.lines().any(|line| line == name);
    assert!(has("tmp/new") && has("made/pipe") && has("etc/passwd") && has("bin/busybox"), "{list}");
    assert!(!has("bin/touch"), "{list}");
    docker(&world, &["rm", "-f", "one", "two", "three"]);
    docker(&world, &["rmi", "made:1", "made:2", "made:3"]);
    world.expect_no_trace();
}

#[test]
fn a_device_is_written_to_and_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let world = World::new();
    world.write("Dockerfile", "FROM busybox\nCMD true\n");
    // A null device of our own: the host needs its.
    let null = world.folder().join("null");
    let made = std::process::Command::new("mknod").arg(&null).args(["c", "1", "3"]).status();
    assert!(made.expect("mknod is there").success());
    world.ok(&["run", "--name", "one", "busybox", "true"]);
    for words in [
        &["image", "save", "-o", "null", "busybox"][..],
        &["export", "-o", "null", "one"],
        &["docker", "build", "--iidfile", "null", "--metadata-file", "null", "-o", "type=tar,dest=null", "."],
    ] {
        world.ok(words);
        let kind = std::fs::symlink_metadata(&null).expect("it is there").file_type();
        assert!(kind.is_char_device(), "{words:?} replaced it");
    }
}

#[test]
fn a_volume_in_memory_is_one_for_all_who_use_it() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:\n  one: {image: busybox, command: sleep 1000, volumes: ['memory:/m'], init: true}\n  \
         two: {image: busybox, command: sleep 1000, volumes: ['memory:/m'], init: true}\n\
         volumes: {memory: {driver_opts: {type: tmpfs, device: tmpfs, o: 'size=1m,uid=1000'}}}",
    );
    world.ok(&["up", "-d"]);
    world.ok(&["exec", "one", "sh", "-c", "echo shared >/m/x"]);
    assert_eq!(world.ok(&["exec", "two", "cat", "/m/x"]), "shared");
    assert_eq!(world.ok(&["exec", "two", "stat", "-c", "%u", "/m"]), "1000");
    // It stays while one of them runs, and comes back to the other.
    world.ok(&["stop", "one"]);
    world.ok(&["start", "one"]);
    assert_eq!(world.ok(&["exec", "one", "cat", "/m/x"]), "shared");
    let mounted = || read_mounts().contains(&format!("{}_memory/_data", world.project_name()));
    assert!(mounted());
    world.ok(&["stop"]);
    crate::world::eventually("nobody uses it", || (!mounted()).then_some(()));
    // What was in it is gone, as memory is.
    world.ok(&["start"]);
    assert_eq!(world.ok(&["exec", "two", "ls", "/m"]), "");
    world.ok(&["down", "-v"]);
    assert!(!mounted());
    world.expect_no_trace();
}

fn read_mounts() -> String {
    fs::read_to_string("/proc/self/mounts").expect("Linux has it")
}
