//! What goes wrong outside of the files: each ends with a message that says which service, why and what to do, the
//! right exit code, and nothing half made.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::world::{World, eventually};

#[track_caller]
fn expect_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn a_port_in_use_stops_its_service_alone() {
    let world = World::new();
    let holder = std::net::TcpListener::bind(("0.0.0.0", 0)).expect("a port can be bound");
    let port = holder.local_addr().expect("it has an address").port();
    world.write(
        "compose.yaml",
        &format!(
            "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    ports:\n      - \"{port}:80\"\n  \
             db:\n    image: busybox\n    command: sleep 1000\n"
        ),
    );
    let answer = world.wharf(&["up", "-d"]).expect(1);
    let process = format!("pid {}", std::process::id());
    let said = ["service `web` cannot be started", "address already in use", &process, "compose.yaml:6:10", "hint:"];
    expect_all(&answer.stderr, &said);
    assert_eq!(world.ok(&["ps", "-a", "--format", "{{.Service}} {{.State}}"]), "db running\nweb created");
    drop(holder);
    // What another test has just forked may hold it a moment longer.
    eventually("the port is free", || (world.wharf(&["up", "-d"]).code == 0).then_some(()));
    assert_eq!(world.ok(&["ps", "-a", "--format", "{{.Service}} {{.State}}"]), "db running\nweb running");
    world.ok(&["down", "-t", "0"]);
    world.expect_no_trace();
}

#[test]
fn a_port_of_another_container_is_told_with_its_name() {
    let world = World::new();
    let port = format!("{}:80", crate::world::free_port());
    world.ok(&["docker", "run", "-d", "--name", "first", "-p", &port, "busybox", "sleep", "1000"]);
    let answer = world.wharf(&["docker", "run", "--rm", "-p", &port, "busybox", "true"]).expect(125);
    for expected in ["address already in use (container first)", "hint: stop that container (`wharf stop first`)"] {
        assert!(answer.stderr.contains(expected), "no `{expected}` in\n{}", answer.stderr);
    }
    world.ok(&["docker", "rm", "-f", "first"]);
    world.ok(&["docker", "run", "--rm", "-p", &port, "busybox", "true"]);
    // The same port of another address is not in its way.
    for (name, address) in [("here", "127.0.0.2"), ("there", "127.0.0.3")] {
        world.ok(&[
            "docker",
            "run",
            "-d",
            "--name",
            name,
            "-p",
            &format!("{address}:{port}"),
            "busybox",
            "sleep",
            "1000",
        ]);
    }
    let there = format!("127.0.0.3:{port}");
    let answer = world.wharf(&["docker", "run", "--rm", "-p", &there, "busybox", "true"]).expect(125);
    assert!(answer.stderr.contains("address already in use (container there)"), "{}", answer.stderr);
    world.ok(&["docker", "rm", "-f", "here", "there"]);
    world.expect_no_trace();
}

#[test]
fn a_program_that_cannot_be_executed_says_why() {
    let world = World::new();
    world.write("script", "#!/bin/no-such-shell\necho hello\n");
    world.write("windows", "#!/bin/sh\r\necho hello\r\n");
    world.write("text", "hello\n");
    // The head of a program for another processor (EM_AARCH64).
    let mut program = fs::read("/bin/busybox").expect("busybox-static is installed");
    program[18..20].copy_from_slice(&[183, 0]);
    fs::write(world.folder().join("arm"), program).expect("written");
    for (name, code, said) in [
        ("script", 127, "exec /script: no such file or directory: its interpreter is missing"),
        ("windows", 127, "one that ends as on Windows"),
        ("text", 126, "exec format error"),
        ("arm", 126, "exec format error"),
        ("missing", 127, "stat /missing: no such file or directory"),
    ] {
        let path = world.folder().join(name);
        let bound = path.exists();
        let mount = if bound { format!("{}:/{name}", path.display()) } else { "data:/data".to_owned() };
        if bound {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("modes can be set");
        }
        let program = format!("/{name}");
        let answer = world.wharf(&["docker", "run", "--rm", "-v", &mount, "busybox", &program]);
        // An emulator that the host has registered runs it.
        if name == "arm"
            && answer.code != code
            && fs::exists("/proc/sys/fs/binfmt_misc/qemu-aarch64").is_ok_and(|is| is)
        {
            continue;
        }
        expect_all(&answer.expect(code).stderr, &[said]);
    }
    world.ok(&["docker", "volume", "prune", "-af"]);
    world.expect_no_trace();
}

#[test]
fn images_that_cannot_be_had_start_nothing() {
    let world = World::new();
    let second = "  other:\n    image: busybox\n    command: sleep 1000\n";
    for (service, said) in [
        ("image: 127.0.0.1:1/app", &["service `web` has no image", "refused", "compose.yaml:3:12", "hint:"][..]),
        ("image: nowhere.invalid/app", &["service `web` has no image", "its name has no address", "compose.yaml:3:12"]),
        ("image: app\n    pull_policy: never", &["must not be pulled", "compose.yaml:3:12", "hint:"]),
        ("image: Upper", &["is not an image reference", "compose.yaml:3:12"]),
        ("build: wrong", &["service `web` cannot be built", "wrong/Dockerfile:2:1", "did you mean RUN?"]),
        ("build: fails", &["service `web` cannot be built", "Dockerfile:2:1", "exit code 3", "no luck"]),
        ("build: nowhere", &["service `web` cannot be built", "nowhere"]),
    ] {
        world.write("wrong/Dockerfile", "FROM busybox\nRUNN true\n");
        world.write("fails/Dockerfile", "FROM busybox\nRUN echo no luck; exit 3\n");
        world.write("compose.yaml", &format!("services:\n  web:\n    {service}\n{second}"));
        let answer = world.wharf(&["up", "-d"]).expect(1);
        expect_all(&answer.stderr, said);
        assert_eq!(world.ok(&["ps", "-aq"]), "", "{service}");
        assert_eq!(world.half_made(), Vec::<String>::new(), "{service}");
    }
    world.expect_no_trace();
}

/// A small disk; taken away at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Self {
        fs::create_dir_all(&path).expect("a folder can be made");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&path).status();
        assert!(mounted.expect("mount is installed").success());
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_half_made() {
    // Dropped in this order: the world first, which clears what is on the disk.
    let (disk, world);
    world = World::empty();
    disk = SmallDisk::mount(world.folder().with_file_name("root"));
    world.import_busybox();
    world.write(
        "compose.yaml",
        "services:\n  web: {image: busybox, command: sleep 1000, volumes: [\"data:/data\"]}\nvolumes: {data: }\n",
    );
    world.write("Dockerfile", "FROM busybox\nCOPY big /\n");
    fs::write(world.folder().join("big"), vec![1; 10 << 20]).expect("it can be written");
    let answer = world.wharf(&["image", "build", "-t", "big", "."]).expect(1);
    expect_all(&answer.stderr, &["No space left on device", "hint: free disk space"]);
    assert_eq!(world.half_made(), Vec::<String>::new());
    let filler = disk.0.join("filler");
    // Ends when there is no space left.
    drop(fs::write(&filler, vec![1; 8 << 20]));
    let answer = world.wharf(&["up", "-d"]).expect(1);
    expect_all(&answer.stderr, &["No space left on device", "hint: free disk space"]);
    assert_eq!(world.ok(&["ps", "-aq"]), "");
    fs::remove_file(&filler).expect("it can be removed");
    world.ok(&["up", "-d"]);
    // A container that runs is not ended by a full disk, and can be stopped and removed on one.
    drop(fs::write(&filler, vec![1; 8 << 20]));
    assert_eq!(world.ok(&["exec", "web", "echo", "alive"]), "alive");
    world.ok(&["down", "-v", "-t", "0"]);
    let is_disk = |trace: &String| trace.contains(" - tmpfs ");
    eventually("the end of all but the disk", || world.traces().iter().all(is_disk).then_some(()));
    drop(world);
    drop(disk);
}

#[test]
fn who_is_not_root_is_told_in_one_line() {
    let world = World::empty();
    world.write("compose.yaml", "services: {web: {image: busybox}}\n");
    for (verb, code) in [("up", 1), ("ps", 1), ("run", 125), ("down", 1)] {
        let wharf = world.command(&[verb]);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(wharf.get_program());
        let output = command.args(wharf.get_args()).arg("busybox").env_clear().output();
        let output = output.expect("setpriv is installed (util-linux)");
        assert_eq!(output.status.code(), Some(code), "{verb}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("error: wharf {verb} needs root: run it with sudo\n")
        );
    }
}
