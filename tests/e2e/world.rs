//! A wharf of a test's own, with a busybox image in it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The longest that anything here may take before the test is called hanging.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Folders of a wharf that nobody else uses, and a project folder.
pub struct World {
    /// `WHARF_ROOT`, `WHARF_RUN` and the project lie below it.
    base: PathBuf,
    run: PathBuf,
    name: String,
}

/// What a command said and returned.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    /// The answer, when the exit code is the expected one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

impl World {
    /// A fresh one with the image `busybox`.
    pub fn new() -> Self {
        let world = Self::empty();
        world.import_busybox();
        world
    }

    /// A fresh one without images.
    pub fn empty() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests make containers: run them as root (`make test`)");
        let name = wharf::base::id::random_hex(4);
        // Not below /tmp: that may be a tmpfs, which overlayfs does not take as an upper layer everywhere.
        let base = PathBuf::from(format!("/var/tmp/wharf-e2e-{name}"));
        let run = PathBuf::from(format!("/run/wharf-e2e-{name}"));
        fs::create_dir_all(base.join("project")).expect("the test's folder can be made");
        Self { base, run, name: format!("e2e{name}") }
    }

    /// The project's name: different in each world.
    pub fn project_name(&self) -> &str {
        &self.name
    }

    /// What this world's things outside of its folders are named by.
    pub fn instance(&self) -> String {
        wharf::base::paths::Paths::new(self.base.join("root"), &self.run).instance()
    }

    /// The project's folder.
    pub fn folder(&self) -> PathBuf {
        self.base.join("project")
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.folder().join(path);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder can be made");
        fs::write(path, content).expect("the file can be written");
    }

    /// A command of wharf in the project's folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
        command
            .args(arguments)
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.base)
            .env("WHARF_ROOT", self.base.join("root"))
            .env("WHARF_RUN", &self.run)
            .env("COMPOSE_PROJECT_NAME", &self.name);
        command
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn wharf(&self, arguments: &[&str]) -> Answer {
        self.wharf_with_input(arguments, b"")
    }

    /// Runs a command to its end, with something on its standard input.
    #[track_caller]
    pub fn wharf_with_input(&self, arguments: &[&str], input: &[u8]) -> Answer {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("wharf can be run");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        let input = input.to_vec();
        // A command that does not read its input closes the pipe: that is its right.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = wait_with_patience(child, arguments);
        writer.join().expect("the writer does not panic");
        Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed and returns its stdout without the last line break.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.wharf(arguments).expect(0).stdout.trim_end_matches('\n').to_owned()
    }

    /// Imports the image `busybox`.
    pub fn import_busybox(&self) {
        let root = self.base.join("busybox");
        for folder in ["bin", "etc", "tmp", "root", "var"] {
            fs::create_dir_all(root.join(folder)).expect("the root file system can be made");
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("modes can be set");
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("busybox-static is installed (`make test` does that)");
        let list = Command::new("/bin/busybox").arg("--list").output().expect("busybox runs");
        for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("links can be made");
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
            .expect("written");
        fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n").expect("written");
        let archive = self.base.join("busybox.tar");
        let made = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
        assert!(made.expect("tar is installed").success());
        let archive = archive.to_str().expect("the path is text");
        self.ok(&["image", "import", "--change", "CMD [\"sh\"]", archive, "busybox"]);
        fs::remove_dir_all(root).expect("the folder can be removed");
    }

    /// The archive that `busybox` was imported from.
    pub fn busybox_archive(&self) -> String {
        self.base.join("busybox.tar").display().to_string()
    }

    /// The number of files in a folder of this world.
    pub fn file_count(&self, folder: &str) -> usize {
        fs::read_dir(self.base.join(folder)).expect("the folder is there").count()
    }

    /// What of this world is still to be found on the machine: mounts, links, control groups, processes, rules.
    pub fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        let base = self.base.to_str().expect("the path is text");
        let run = self.run.to_str().expect("the path is text");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts can be listed");
        traces.extend(
            mounts
                .lines()
                .filter(|line| line.contains(base) || line.contains(run))
                .map(|line| format!("mount: {line}")),
        );
        let instance = self.instance();
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let groups = hierarchies.map(|hierarchy| hierarchy.path().join(&instance)).chain([
            Path::new("/sys/fs/cgroup").join(&instance),
            Path::new("/sys/fs/cgroup/wharf.slice").join(format!("{instance}.scope")),
        ]);
        for group in groups {
            for inner in fs::read_dir(&group).into_iter().flatten().flatten() {
                if inner.path().is_dir() && inner.file_name() != "supervisors" {
                    traces.push(format!("cgroup: {}", inner.path().display()));
                }
            }
        }
        for process in self.processes() {
            traces.push(format!("process: {process:?}"));
        }
        for network in fs::read_dir(self.run.join("net")).into_iter().flatten().flatten() {
            for lease in fs::read_dir(network.path()).into_iter().flatten().flatten() {
                if lease.file_name().len() == 64 + ".json".len() {
                    traces.push(format!("endpoint: {}", lease.path().display()));
                }
            }
            for lease in fs::read_dir(network.path().join("leases")).into_iter().flatten().flatten() {
                let content = fs::read_to_string(lease.path()).unwrap_or_default();
                traces.push(format!("lease: {} {content:?}", lease.path().display()));
            }
        }
        for folder in ["b", "c"] {
            for left in fs::read_dir(self.run.join(folder)).into_iter().flatten().flatten() {
                let content = fs::read_dir(left.path()).into_iter().flatten().flatten();
                // The locks of a container that exists stay.
                let names: Vec<_> = content
                    .map(|entry| entry.file_name().to_string_lossy().into_owned())
                    .filter(|name| !name.ends_with("lock"))
                    .collect();
                if folder == "b" || !names.is_empty() {
                    traces.push(format!("run folder: {} {names:?}", left.path().display()));
                }
            }
        }
        let rules = Command::new("nft").args(["list", "table", "inet", &instance]).output();
        let rules = String::from_utf8_lossy(&rules.expect("nft is installed").stdout).into_owned();
        let networks = fs::read_dir(self.base.join("root/networks")).into_iter().flatten().count();
        if networks == 0 && !rules.is_empty() {
            traces.push(format!("table: {instance}, without any network"));
        }
        traces.extend(
            rules.lines().filter(|line| line.contains("comment \"container ")).map(|line| format!("rule: {line}")),
        );
        traces
    }

    /// Processes that carry this world's folders in their environment or arguments: supervisors and commands.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let needle = self.run.to_str().expect("the path is text");
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc can be listed").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            if pid == std::process::id() as i32 {
                continue;
            }
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let links = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
            let holds = links.filter_map(|link| fs::read_link(link.path()).ok()).any(|path| path.starts_with(needle));
            let text = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            if holds || text.contains(needle) || String::from_utf8_lossy(&read("environ")).contains(needle) {
                found.push((pid, text));
            }
        }
        found
    }

    /// The number of a container's first process, as its record has it.
    #[track_caller]
    pub fn first_process(&self, name: &str) -> i32 {
        self.first_process_now(name).expect("it runs")
    }

    /// The same, `None` while it does not run.
    pub fn first_process_now(&self, name: &str) -> Option<i32> {
        let id = self.ok(&["ps", "-aq", "--no-trunc", name]);
        let state = fs::read(self.base.join("root/containers").join(&id).join("state.json")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
        state["process"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Whether a process in one of this world's control groups runs this command.
    pub fn has_process(&self, command: &str) -> bool {
        let instance = self.instance();
        let words = command.replace(' ', "\0") + "\0";
        fs::read_dir("/proc").expect("/proc can be listed").flatten().any(|entry| {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            read("cmdline") == words && read("cgroup").contains(&instance)
        })
    }

    /// What commands have not finished in the store.
    pub fn half_made(&self) -> Vec<String> {
        ["tmp", "trash", "lock/leases"]
            .iter()
            .flat_map(|folder| fs::read_dir(self.base.join("root").join(folder)).into_iter().flatten().flatten())
            .map(|entry| entry.path().display().to_string())
            .collect()
    }

    /// The names of what lies in a folder of the store.
    pub fn records(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.base.join("root").join(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Waits until nothing of this world is left, and fails with what is.
    #[track_caller]
    pub fn expect_no_trace(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let traces = self.traces();
            if traces.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind:\n{}", traces.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The processes that run our own program.
    pub fn supervisors(&self) -> Vec<i32> {
        let own = fs::metadata(env!("CARGO_BIN_EXE_wharf")).expect("the program is there");
        let is_ours = |pid: &i32| {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|exe| (exe.dev(), exe.ino()) == (own.dev(), own.ino()))
        };
        self.processes().into_iter().map(|(pid, _)| pid).filter(is_ours).collect()
    }

    /// Names of the links of bridges and containers on the host that belong to this world's networks.
    pub fn bridges(&self) -> Vec<String> {
        let mut bridges = Vec::new();
        for file in fs::read_dir(self.base.join("root/networks")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            if let Ok(record) = serde_json::from_str::<serde_json::Value>(&text)
                && let Some(bridge) = record["bridge"].as_str()
                && Path::new("/sys/class/net").join(bridge).exists()
            {
                bridges.push(bridge.to_owned());
            }
        }
        bridges
    }
}

impl Drop for World {
    /// Takes everything down, also after a failure, so that one test cannot disturb the next.
    fn drop(&mut self) {
        drop(self.command(&["down", "-v", "-t", "0", "--remove-orphans"]).output());
        if let Ok(output) = self.command(&["ps", "-aq"]).current_dir("/").env_remove("COMPOSE_PROJECT_NAME").output() {
            for id in String::from_utf8_lossy(&output.stdout).lines() {
                drop(self.command(&["rm", "-f", "-s", "-v", id]).output());
            }
        }
        for (pid, _) in self.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // Gone already is as good.
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for bridge in self.bridges() {
            drop(Command::new("ip").args(["link", "delete", &bridge]).output());
        }
        let table = self.instance();
        drop(Command::new("nft").args(["delete", "table", "inet", &table]).output());
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = controller.path().join(&table);
            for inner in fs::read_dir(&group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
                drop(fs::remove_dir(inner.path()));
            }
            drop(fs::remove_dir(&group));
        }
        drop(fs::remove_dir_all(&self.base));
        drop(fs::remove_dir_all(&self.run));
    }
}

#[track_caller]
fn wait_with_patience(child: Child, arguments: &[&str]) -> Output {
    let pid = rustix::process::Pid::from_child(&child);
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE).is_err() {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let started = Instant::now();
    let output = child.wait_with_output().expect("wharf can be waited for");
    let _fired = done.send(());
    watchdog.join().expect("the watchdog does not panic");
    assert!(started.elapsed() < PATIENCE, "wharf {} hangs", arguments.join(" "));
    output
}

/// Tries until `attempt` gives a value, or fails with what it was waiting for.
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port can be bound");
    listener.local_addr().expect("it has an address").port()
}

/// The body of an HTTP/1.0 answer.
pub fn get(address: (&str, u16), path: &str) -> Option<String> {
    use std::io::Read;
    let address = std::net::ToSocketAddrs::to_socket_addrs(&address).ok()?.next()?;
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}
