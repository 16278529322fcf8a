//! The front end for those who drive a runtime: containers from bundles of our own making.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::world::{Answer, World, eventually};

/// A bundle with a busybox root, and a runtime of its own.
struct Bundle {
    world: World,
    config: Value,
}

impl Bundle {
    /// One whose program is `script`.
    fn new(script: &str) -> Self {
        let world = World::empty();
        let root = world.folder().join("bundle/rootfs");
        for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "full"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "id", "sleep", "ls", "grep", "mount", "stat", "touch", "readlink", "tty", "stty", "hostname",
            "sort",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:\n")
            .unwrap();
        std::fs::write(root.join("full/file"), "copied").unwrap();
        let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
        let config = json!({
            "ociVersion": "1.2.0",
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["sh", "-c", script],
                "env": ["PATH=/bin"], "capabilities": {},
            },
            "root": {"path": "rootfs"},
            "mounts": [
                mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=64k"]),
                mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
                mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
                "cgroupsPath": format!("wharf-oci-{}/c1", world.project_name()),
            },
            "annotations": {"org.example": "text"},
        });
        Self { world, config }
    }

    fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = self.config.pointer_mut(parent).expect(pointer);
        parent.as_object_mut().unwrap().insert(name.to_owned(), value);
        self
    }

    fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        self.config.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(value);
        self
    }

    fn folder(&self) -> PathBuf {
        self.world.folder().join("bundle")
    }

    fn oci(&self, arguments: &[&str]) -> Answer {
        std::fs::write(self.folder().join("config.json"), self.config.to_string()).unwrap();
        let root = self.world.folder().join("containers");
        self.world.wharf(&[&["oci", "--root", root.to_str().unwrap()], arguments].concat())
    }

    /// Runs a verb that leaves a container behind, which holds its streams: not ours, or we would wait for it.
    fn leave(&self, arguments: &[&str]) {
        std::fs::write(self.folder().join("config.json"), self.config.to_string()).unwrap();
        let mut command =
            self.world.command(&["oci", "--root", self.world.folder().join("containers").to_str().unwrap()]);
        let errors = self.world.folder().join("errors");
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&errors).unwrap());
        let status = command.status().unwrap();
        assert!(status.success(), "{arguments:?}: {}", std::fs::read_to_string(errors).unwrap());
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.oci(&["state", "c1"]).expect(0).stdout).unwrap()
    }

    /// Runs it to its end.
    fn run(&self) -> Answer {
        let answer = self.oci(&["run", "--bundle", "bundle", "c1"]);
        self.expect_nothing_left();
        answer
    }

    /// No container, no control group.
    fn expect_nothing_left(&self) {
        assert_eq!(self.oci(&["list", "-q"]).expect(0).stdout.trim(), "");
        let group = format!("wharf-oci-{}/c1", self.world.project_name());
        let places = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path().join(&group));
        let left: Vec<_> = places.filter(|path| path.exists()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // Also of a test that failed in the middle.
        self.oci(&["delete", "--force", "c1"]);
        drop(wharf::runtime::cgroup::remove_parent(&format!("wharf-oci-{}", self.world.project_name())));
    }
}

#[test]
fn a_container_is_created_started_entered_killed_and_deleted_with_its_hooks() {
    let mut bundle = Bundle::new("echo up >/tmp/up; exec sleep 1000");
    let log = bundle.world.folder().join("log");
    let note = |name: &str| {
        // Where it runs shows by its host name; the state comes on stdin.
        let script = format!("echo {name} $(hostname) $(grep -o '\"status\":\"[a-z]*\"') >>{}", log.display());
        json!([{"path": "/bin/busybox", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 20}])
    };
    let inside = json!([{"path": "/bin/busybox", "args": ["sh", "-c", "echo $(hostname) >/tmp/hook"]}]);
    bundle.set("/hooks", json!({
        "prestart": note("prestart"), "createRuntime": note("createRuntime"), "createContainer": note("createContainer"),
        "startContainer": inside, "poststart": note("poststart"), "poststop": note("poststop"),
    }));
    bundle.set("/hostname", json!("box"));
    let pid_file = bundle.world.folder().join("pid");
    bundle.leave(&["create", "--bundle", "bundle", "--pid-file", pid_file.to_str().unwrap(), "c1"]);
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"].to_string(), std::fs::read_to_string(&pid_file).unwrap());
    assert_eq!(state["annotations"]["org.example"], "text");
    let up = bundle.folder().join("rootfs/tmp/up");
    assert!(!up.exists(), "the program ran before it was started");
    assert!(bundle.oci(&["create", "--bundle", "bundle", "c1"]).expect(1).stderr.contains("exists already"));

    bundle.oci(&["start", "c1"]).expect(0);
    eventually("the program runs", || up.exists().then_some(()));
    assert_eq!(bundle.state()["status"], "running");
    assert!(bundle.oci(&["start", "c1"]).expect(1).stderr.contains("it is running"));
    assert_eq!(std::fs::read_to_string(bundle.folder().join("rootfs/tmp/hook")).unwrap(), "box\n");
    let entered =
        bundle.oci(&["exec", "-u", "1000:1000", "c1", "sh", "-c", "id -u; hostname; cat /proc/1/comm; exit 7"]);
    assert_eq!(entered.expect(7).stdout, "1000\nbox\nsleep\n");
    bundle.oci(&["exec", "c1", "nosuch"]).expect(127);

    bundle.oci(&["pause", "c1"]).expect(0);
    assert_eq!(bundle.state()["status"], "paused");
    assert!(bundle.oci(&["exec", "c1", "id"]).expect(125).stderr.contains("paused"));
    bundle.oci(&["resume", "c1"]).expect(0);
    assert!(bundle.oci(&["delete", "c1"]).expect(1).stderr.contains("it is running"));
    bundle.oci(&["kill", "c1", "KILL"]).expect(0);
    eventually("it stops", || (bundle.state()["status"] == "stopped").then_some(()));
    assert!(bundle.oci(&["kill", "c1", "TERM"]).expect(1).stderr.contains("it is stopped"));
    bundle.oci(&["delete", "c1"]).expect(0);
    bundle.expect_nothing_left();
    assert!(bundle.oci(&["state", "c1"]).expect(1).stderr.contains("does not exist"));

    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let expected = [
        ("prestart", host.as_str(), "created"),
        ("createRuntime", &host, "creating"),
        ("createContainer", "box", "creating"),
        ("poststart", &host, "running"),
        ("poststop", &host, "stopped"),
    ];
    let expected: String =
        expected.iter().map(|(name, host, status)| format!("{name} {host} \"status\":\"{status}\"\n")).collect();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), expected);
}

#[test]
fn a_bundle_gets_what_it_says() {
    let script = "id; umask; ulimit -n; hostname; cat /proc/sys/net/ipv4/ip_forward /proc/self/oom_score_adj; \
        grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; cat /secret; ls /proc/bus; touch /x; touch /proc/sys/kernel/x; \
        cat /full/file; mount | grep ' /full ' | sort; ls -l /dev/mine; cat /dev/mine; echo $A $HOME; ls /fd";
    let mut bundle = Bundle::new(script);
    std::fs::write(bundle.folder().join("rootfs/secret"), "secret").unwrap();
    std::fs::create_dir_all(bundle.folder().join("rootfs/fd")).unwrap();
    std::fs::write(bundle.world.folder().join("shown"), "").unwrap();
    let set = json!(["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_FROM_THE_FUTURE"]);
    bundle
        .set("/process/user", json!({"uid": 1000, "gid": 1001, "umask": 63, "additionalGids": [5, 7]}))
        .set("/process/env", json!(["PATH=/bin", "A=b"]))
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]))
        .set("/process/oomScoreAdj", json!(77))
        .set("/process/noNewPrivileges", json!(true))
        .set("/process/capabilities", json!({
            "bounding": set, "permitted": set, "effective": ["CAP_CHOWN"], "inheritable": set, "ambient": ["CAP_CHOWN"],
        }))
        .set("/root/readonly", json!(true))
        .set("/hostname", json!("box"))
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}))
        .set("/linux/maskedPaths", json!(["/secret", "/proc/bus", "/missing"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys"]))
        .set("/linux/devices", json!([{"type": "c", "path": "/dev/mine", "major": 1, "minor": 1, "fileMode": 384, "uid": 1000}]))
        .set("/linux/resources", json!({"devices": [
            {"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
        ], "pids": {"limit": 20}, "memory": {"limit": 64 << 20}}))
        .set("/linux/seccomp", json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}],
        }))
        .push("/mounts", json!({"destination": "/full", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro", "nosuid"]}))
        .push("/mounts", json!({"destination": "/fd", "type": "bind", "source": "../shown", "options": ["rbind", "ro"]}));
    // A file cannot be mounted onto a folder: told with both.
    assert!(bundle.oci(&["run", "--bundle", "bundle", "c1"]).expect(125).stderr.contains("/fd"));
    bundle.expect_nothing_left();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.last_mut().unwrap()["destination"] = json!("/tmp/shown");
    let capability = |numbers: &[u32]| format!("{:016x}", numbers.iter().fold(0u64, |set, number| set | 1 << number));
    let answer = bundle.run();
    let expected = format!(
        "uid=1000(bob) gid=1001 groups=5,7,1001\n0077\n100\nbox\n1\n77\nCapInh:\t{both}\nCapPrm:\t{one}\nCapEff:\t{one}\n\
         CapBnd:\t{both}\nCapAmb:\t{one}\nNoNewPrivs:\t1\nSeccomp:\t2\ncopiedtmpfs on /full type tmpfs (ro,nosuid",
        both = capability(&[0, 10]),
        one = capability(&[0]),
    );
    let stdout =
        answer.stdout.replace("groups=1001,5,7", "groups=5,7,1001").replace("groups=5,7\n", "groups=5,7,1001\n");
    assert!(stdout.starts_with(&expected), "{stdout}\n{}\nexpected: {expected}", answer.stderr);
    assert!(
        stdout.contains("crw-------    1 1000     root        1,   1") || stdout.contains("crw-------    1 bob "),
        "{stdout}"
    );
    assert!(stdout.contains("b /home/bob\n"), "{stdout}");
    for refused in [
        "touch: /x: Read-only file system",
        "touch: /proc/sys/kernel/x: ",
        "can't open '/dev/mine': Operation not permitted",
    ] {
        assert!(answer.stderr.contains(refused), "{refused}: {}", answer.stderr);
    }
}

#[test]
fn what_a_bundle_cannot_have_is_told_and_leaves_nothing() {
    let wrong: [(&str, Value, &str); 9] = [
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt"),
        ("/linux/namespaces", json!([{"type": "pid"}]), "linux.namespaces"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
        ("/linux/sysctl", json!({"vm.swappiness": "1"}), "vm.swappiness"),
        ("/linux/resources", json!({"memory": {"sometimes": 1}}), "linux.resources.memory.sometimes"),
        ("/process/rlimits", json!([{"type": "RLIMIT_X", "soft": 1, "hard": 1}]), "process.rlimits"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/args", json!(["/bin/nosuch"]), "no such file or directory"),
        ("/process/terminal", json!(true), "--console-socket"),
    ];
    for (pointer, value, field) in wrong {
        let mut bundle = Bundle::new("true");
        bundle.set(pointer, value);
        let log = bundle.world.folder().join("log.json");
        let answer =
            bundle.oci(&["--log", log.to_str().unwrap(), "--log-format", "json", "create", "--bundle", "bundle", "c1"]);
        assert!(answer.code == 1 && answer.stderr.contains(field), "{pointer}: {answer:?}");
        let line: Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
        assert!(line["level"] == "error" && line["msg"].as_str().unwrap().contains(field), "{line}");
        bundle.expect_nothing_left();
    }
    let mut bundle = Bundle::new("true");
    bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 0}]}));
    assert!(bundle.run().stderr.contains("createRuntime hook /bin/sleep took longer"));
}

#[test]
fn namespaces_are_joined_and_a_terminal_is_handed_over() {
    let first = Bundle::new("exec sleep 1000");
    first.leave(&["run", "--detach", "--bundle", "bundle", "c1"]);
    let pid = first.state()["pid"].to_string();
    let mut second = Bundle::new(
        "readlink /proc/self/ns/net; readlink /proc/self/ns/uts; cat /proc/1/comm; tty; stty size; ls -l /dev/console",
    );
    let namespace = |kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let (net, uts) = (namespace("net"), namespace("uts"));
    second
        .set(
            "/linux/namespaces",
            json!([
                {"type": "mount"}, {"type": "ipc"},
                {"type": "network", "path": format!("/proc/{pid}/ns/net")},
                {"type": "uts", "path": format!("/proc/{pid}/ns/uts")},
                {"type": "pid", "path": format!("/proc/{pid}/ns/pid")},
            ]),
        )
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({"height": 33, "width": 99}));
    let path = second.world.folder().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    let receiver = std::thread::spawn(move || receive(&listener));
    second.leave(&["create", "--bundle", "bundle", "--console-socket", path.to_str().unwrap(), "c1"]);
    let mut terminal = std::fs::File::from(receiver.join().unwrap());
    second.oci(&["start", "c1"]).expect(0);
    let mut said = Vec::new();
    let mut buffer = [0u8; 4096];
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        said.extend_from_slice(&buffer[..length]);
    }
    let said = String::from_utf8_lossy(&said).replace('\r', "");
    let expected = format!("{}\n{}\nsleep\n/dev/pts/0\n33 99\n", net.display(), uts.display());
    assert!(said.starts_with(&expected) && said.contains("/dev/console"), "{said}");
    second.oci(&["delete", "--force", "c1"]).expect(0);
    second.expect_nothing_left();
    first.oci(&["delete", "--force", "c1"]).expect(0);
    first.expect_nothing_left();
}

/// Takes a descriptor that comes through a socket.
fn receive(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut name = [0u8; 64];
    let mut parts = [std::io::IoSliceMut::new(&mut name)];
    let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(stream.as_fd(), &mut parts, &mut control, flags).unwrap();
    for message in control.drain() {
        if let rustix::net::RecvAncillaryMessage::ScmRights(mut files) = message {
            return files.next().expect("one descriptor");
        }
    }
    panic!("no descriptor came");
}
