//! Measures wharf beside Docker and Podman, where they answer, and beside the kernel's floor, in one run.
//!
//! `cargo bench` (as root). Prints medians and ratios; nothing here passes or fails, since machines differ.
//! `WHARF_PEER_DOCKER` and `WHARF_PEER_PODMAN` name other commands than `docker` and `podman`.
//! `cargo bench -- WORD` runs the parts whose name has the word.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One tool under measurement.
struct Tool {
    name: &'static str,
    command: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Tool {
    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(arguments).current_dir(folder).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn run(&self, folder: &Path, arguments: &[&str]) -> bool {
        self.command(folder, arguments).status().is_ok_and(|status| status.success())
    }

    fn is_wharf(&self) -> bool {
        self.name == "wharf"
    }

    /// The compose verbs: `wharf up`, `docker compose up`.
    fn compose<'a>(&self, arguments: &[&'a str]) -> Vec<&'a str> {
        if self.is_wharf() { arguments.to_vec() } else { [&["compose"], arguments].concat() }
    }
}

struct Bench {
    wharf: Tool,
    peers: Vec<Tool>,
    base: PathBuf,
    filter: Option<String>,
}

fn main() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("the benchmarks make containers: run them as root");
        std::process::exit(1);
    }
    let base = PathBuf::from(format!("/var/tmp/wharf-bench-{}", std::process::id()));
    let run = format!("/run/wharf-bench-{}", std::process::id());
    fs::create_dir_all(&base).expect("the folder can be made");
    let environment =
        vec![("WHARF_ROOT".to_owned(), base.join("root").display().to_string()), ("WHARF_RUN".to_owned(), run.clone())];
    let wharf = Tool { name: "wharf", command: vec![env!("CARGO_BIN_EXE_wharf").to_owned()], environment };
    let filter = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let bench = Bench { wharf, peers: peers(), base: base.clone(), filter };
    bench.prepare_image();
    bench.runs();
    bench.projects();
    bench.reading();
    bench.builds();
    bench.pulls();
    bench.supervisor();
    // The network of containers that name none stays as long as its store; this store goes.
    bench.wharf.run(&base, &["network", "rm", "bridge"]);
    drop(fs::remove_dir_all(&base));
    drop(fs::remove_dir_all(&run));
}

fn peers() -> Vec<Tool> {
    let tool = |name: &'static str, variable: &str| {
        let text = std::env::var(variable).unwrap_or_else(|_| name.to_owned());
        let command: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let tool = Tool { name, command, environment: Vec::new() };
        tool.run(Path::new("/"), &["info"]).then_some(tool)
    };
    [tool("docker", "WHARF_PEER_DOCKER"), tool("podman", "WHARF_PEER_PODMAN")].into_iter().flatten().collect()
}

/// Median of `count` runs of `action`, each after `before`.
fn median(count: usize, mut before: impl FnMut(), mut action: impl FnMut() -> bool) -> Option<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        before();
        let start = Instant::now();
        if !action() {
            return None;
        }
        times.push(start.elapsed());
    }
    times.sort();
    times.get(count / 2).copied()
}

fn print(what: &str, budget_ms: f64, own: Option<Duration>, others: &[(&str, Option<Duration>)]) {
    let text =
        |time: Option<Duration>| time.map_or("failed".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3));
    let mut line = format!("{what:<44} wharf {:>10} (budget {budget_ms} ms)", text(own));
    for (name, time) in others {
        let ratio = match (own, time) {
            (Some(own), Some(time)) => format!(" = {:.1}x", time.as_secs_f64() / own.as_secs_f64()),
            _ => String::new(),
        };
        line += &format!("   {name} {}{ratio}", text(*time));
    }
    println!("{line}");
    drop(std::io::stdout().flush());
}

impl Bench {
    fn wants(&self, part: &str) -> bool {
        self.filter.as_ref().is_none_or(|word| part.contains(word.as_str()))
    }

    /// The same busybox for everybody.
    fn prepare_image(&self) {
        let root = self.base.join("busybox");
        fs::create_dir_all(root.join("bin")).expect("the folder can be made");
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for applet in ["sh", "true", "sleep", "test", "cat", "echo", "touch"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("links can be made");
        }
        let tar = self.base.join("busybox.tar");
        Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().expect("tar is installed");
        let tar_text = tar.to_str().expect("the path is text");
        assert!(
            self.wharf.run(&self.base, &["image", "import", "-c", "CMD [\"sh\"]", tar_text, "wharf-bench"]),
            "import failed"
        );
        for peer in &self.peers {
            // The peer may live in another root: hand the archive over by a pipe.
            let mut command = peer.command(&self.base, &["import", "-c", "CMD [\"sh\"]", "-", "wharf-bench"]);
            command.stdin(fs::File::open(&tar).expect("it was just made"));
            drop(command.status());
        }
    }

    fn compare(&self, what: &str, budget_ms: f64, count: usize, arguments: impl Fn(&Tool) -> Vec<String>) {
        if !self.wants(what) {
            return;
        }
        let measure = |tool: &Tool| {
            let arguments = arguments(tool);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            tool.run(&self.base, &arguments);
            median(count, || {}, || tool.run(&self.base, &arguments))
        };
        let others: Vec<_> = self.peers.iter().map(|peer| (peer.name, measure(peer))).collect();
        print(what, budget_ms, measure(&self.wharf), &others);
    }

    fn runs(&self) {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        self.compare("run --rm true, bridge", 12.0, 30, |_| words("run --rm wharf-bench true"));
        self.compare("run --rm true, no network", 10.0, 30, |_| words("run --rm --network none wharf-bench true"));
        if self.wants("run floor") {
            let floor = median(
                30,
                || {},
                || {
                    Command::new("unshare")
                        .args(["-m", "-p", "-n", "-f", "/bin/busybox", "true"])
                        .status()
                        .is_ok_and(|status| status.success())
                },
            );
            print("run floor: unshare -mpnf true", 12.0, floor, &[]);
        }
        if !self.wants("exec") {
            return;
        }
        for tool in std::iter::once(&self.wharf).chain(&self.peers) {
            tool.run(&self.base, &["run", "-d", "--name", "wharf-bench-exec", "wharf-bench", "sleep", "1000"]);
        }
        self.compare("exec true", 4.0, 30, |_| words("exec wharf-bench-exec true"));
        for tool in std::iter::once(&self.wharf).chain(&self.peers) {
            let group: &[&str] = if tool.is_wharf() {
                &["container", "rm", "-f", "wharf-bench-exec"]
            } else {
                &["rm", "-f", "wharf-bench-exec"]
            };
            tool.run(&self.base, group);
        }
    }

    fn project(&self, name: &str, text: &str) -> PathBuf {
        let folder = self.base.join(name);
        fs::create_dir_all(&folder).expect("the folder can be made");
        fs::write(folder.join("compose.yaml"), text).expect("the file can be written");
        folder
    }

    /// Docker only: what Podman runs compose files with is another program.
    fn compose_tools(&self) -> impl Iterator<Item = &Tool> {
        self.peers.iter().filter(|peer| peer.name == "docker")
    }

    fn projects(&self) {
        let two = "services:\n  web: {image: wharf-bench, command: sleep 1000, depends_on: [redis], ports: [\"18990:80\"]}\n  redis: {image: wharf-bench, command: sleep 1000, volumes: [\"data:/data\"]}\nvolumes: {data: }\n";
        let folder = self.project("two", two);
        self.up("up -d, two services", 50.0, &folder, 10);
        if self.wants("up -d, nothing to do") {
            let measure = |tool: &Tool| {
                tool.run(&folder, &tool.compose(&["up", "-d"]));
                let time = median(10, || {}, || tool.run(&folder, &tool.compose(&["up", "-d"])));
                tool.run(&folder, &tool.compose(&["down", "-t", "0", "-v"]));
                time
            };
            let others: Vec<_> = self.compose_tools().map(|peer| (peer.name, measure(peer))).collect();
            print("up -d, nothing to do", 12.0, measure(&self.wharf), &others);
        }
        let mut fifty = String::from("services:\n");
        for index in 0..50 {
            let after = if index == 0 { String::new() } else { format!(", depends_on: [s{}]", (index - 1) / 3) };
            fifty += &format!("  s{index}: {{image: wharf-bench, command: sleep 1000{after}}}\n");
        }
        let folder = self.project("fifty", &fifty);
        self.up("up -d, 50 services", 400.0, &folder, 3);
        if self.wants("down -t 1, 50 services") {
            let measure = |tool: &Tool| {
                median(
                    3,
                    || _ = tool.run(&folder, &tool.compose(&["up", "-d"])),
                    || tool.run(&folder, &tool.compose(&["down", "-t", "1"])),
                )
            };
            let others: Vec<_> = self.compose_tools().map(|peer| (peer.name, measure(peer))).collect();
            print("down -t 1, 50 services", 300.0, measure(&self.wharf), &others);
        }
    }

    fn up(&self, what: &str, budget_ms: f64, folder: &Path, count: usize) {
        if !self.wants(what) {
            return;
        }
        let measure = |tool: &Tool| {
            let down = || _ = tool.run(folder, &tool.compose(&["down", "-t", "0", "-v"]));
            let time = median(count, down, || tool.run(folder, &tool.compose(&["up", "-d"])));
            down();
            time
        };
        let others: Vec<_> = self.compose_tools().map(|peer| (peer.name, measure(peer))).collect();
        print(what, budget_ms, measure(&self.wharf), &others);
    }

    fn reading(&self) {
        let folder = self.base.join("fifty");
        for (what, budget_ms, arguments) in
            [("config -q, 50 services", 5.0, ["config", "-q"]), ("ps -a, nothing running", 6.0, ["ps", "-a"])]
        {
            if self.wants(what) {
                let measure = |tool: &Tool| median(20, || {}, || tool.run(&folder, &tool.compose(&arguments)));
                let others: Vec<_> = self.compose_tools().map(|peer| (peer.name, measure(peer))).collect();
                print(what, budget_ms, measure(&self.wharf), &others);
            }
        }
    }

    fn builds(&self) {
        let small = self.base.join("small");
        fs::create_dir_all(&small).expect("the folder can be made");
        fs::write(small.join("compose.yaml"), "services: {app: {build: .}}\n").expect("written");
        fs::write(small.join("Dockerfile"), "FROM wharf-bench\nCOPY . /app\nRUN touch /made\n").expect("written");
        self.build("build, cached, small", 20.0, &small, |_| {});
        if !self.wants("build, 20 000 files") {
            return;
        }
        let large = self.base.join("large");
        fs::create_dir_all(&large).expect("the folder can be made");
        fs::write(large.join("compose.yaml"), "services: {app: {build: .}}\n").expect("written");
        fs::write(large.join("Dockerfile"), "FROM wharf-bench\nCOPY . /app\n").expect("written");
        for folder in 0..200 {
            let inner = large.join(format!("src/{folder}"));
            fs::create_dir_all(&inner).expect("the folder can be made");
            for file in 0..100 {
                fs::write(inner.join(format!("{file}.txt")), vec![b'x'; 200 + (folder * 100 + file) * 37 % 7800])
                    .expect("written");
            }
        }
        self.build("build, 20 000 files, cached", 60.0, &large, |_| {});
        self.build("build, 20 000 files, one changed", 400.0, &large, |round| {
            fs::write(large.join("src/0/0.txt"), format!("{round} {:?}", Instant::now())).expect("written");
        });
    }

    fn build(&self, what: &str, budget_ms: f64, folder: &Path, change: impl Fn(usize)) {
        if !self.wants(what) {
            return;
        }
        let measure = |tool: &Tool| {
            tool.run(folder, &tool.compose(&["build"]));
            let mut round = 0;
            median(
                5,
                || {
                    round += 1;
                    change(round)
                },
                || tool.run(folder, &tool.compose(&["build"])),
            )
        };
        let others: Vec<_> = self.compose_tools().map(|peer| (peer.name, measure(peer))).collect();
        print(what, budget_ms, measure(&self.wharf), &others);
    }

    /// An image of 132 MB of this host's programs from a registry on loopback, in one layer and in eight. Each pull of
    /// wharf goes into a store of its own: what was just deleted slows the file system down.
    fn pulls(&self) {
        const IMAGE_BYTES: u64 = 132 << 20;
        if !self.wants("pull") {
            return;
        }
        let Some(registry) = Registry::start(&self.base) else {
            println!("{:<44} docker-registry is not installed", "pull");
            return;
        };
        for (layers, budget_ms) in [(1, 800.0), (8, 600.0)] {
            let folder = self.base.join(format!("pull-{layers}"));
            collect_files(&folder, layers, IMAGE_BYTES);
            let copies: String = (0..layers).map(|layer| format!("COPY {layer} /{layer}\n")).collect();
            fs::write(folder.join("Dockerfile"), format!("FROM wharf-bench\n{copies}")).expect("written");
            let name = format!("127.0.0.1:{}/bench/pull:{layers}", registry.port);
            assert!(self.wharf.run(&folder, &["docker", "build", "-q", "-t", &name, "."]), "build failed");
            assert!(self.wharf.run(&folder, &["docker", "push", "-q", &name]), "push failed");
            let mut round = 0;
            let own = median(
                5,
                || {},
                || {
                    round += 1;
                    let root = self.base.join(format!("pull-root-{layers}-{round}"));
                    let mut command = self.wharf.command(&folder, &["docker", "pull", "-q", &name]);
                    command.env("WHARF_ROOT", root).status().is_ok_and(|status| status.success())
                },
            );
            let others: Vec<_> = self
                .peers
                .iter()
                .map(|peer| {
                    let plain: &[&str] = if peer.name == "podman" { &["--tls-verify=false"] } else { &[] };
                    let pull = [&["pull", "-q"], plain, &[&name]].concat();
                    let time = median(3, || _ = peer.run(&folder, &["rmi", "-f", &name]), || peer.run(&folder, &pull));
                    peer.run(&folder, &["rmi", "-f", &name]);
                    (peer.name, time)
                })
                .collect();
            print(&format!("pull 132 MB, {layers} gzip layers"), budget_ms, own, &others);
        }
    }

    /// Proportional set size of a supervisor: with 20 of them, what they share is shared.
    fn supervisor(&self) {
        if !self.wants("supervisor") {
            return;
        }
        for index in 0..20 {
            self.wharf
                .run(&self.base, &["run", "-d", "--name", &format!("idle{index}"), "wharf-bench", "sleep", "1000"]);
        }
        std::thread::sleep(Duration::from_millis(500));
        let run = self.wharf.environment[1].1.clone();
        let mut sizes = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc can be listed").flatten() {
            let holds = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
            let ours = holds.filter_map(|link| fs::read_link(link.path()).ok()).any(|path| path.starts_with(&run));
            let rollup = fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
            let pss = rollup
                .lines()
                .find_map(|line| line.strip_prefix("Pss:"))
                .and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
            if let (true, Some(pss)) = (ours, pss) {
                sizes.push(pss);
            }
        }
        sizes.sort_unstable();
        match sizes.get(sizes.len() / 2) {
            Some(pss) => {
                println!("{:<44} wharf {pss:>7} kB PSS, median of {} (budget 300 kB)", "supervisor", sizes.len())
            }
            None => println!("{:<44} no supervisor found", "supervisor"),
        }
        for index in 0..20 {
            self.wharf.run(&self.base, &["container", "rm", "-f", &format!("idle{index}")]);
        }
    }
}

/// Debian's docker-registry on a free port of loopback; ended when dropped.
struct Registry {
    process: std::process::Child,
    port: u16,
}

impl Registry {
    fn start(base: &Path) -> Option<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").ok()?;
        let port = listener.local_addr().ok()?.port();
        drop(listener);
        let config = base.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            base.join("registry").display()
        );
        fs::write(&config, text).ok()?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { process: command.spawn().ok()?, port };
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Copies programs and libraries of this host, `bytes` in all, into `parts` folders.
fn collect_files(folder: &Path, parts: usize, bytes: u64) {
    for part in 0..parts {
        fs::create_dir_all(folder.join(part.to_string())).expect("the folder can be made");
    }
    let (mut total, mut count) = (0, 0);
    let mut folders = vec![PathBuf::from("/usr/lib"), PathBuf::from("/usr/bin")];
    while let Some(source) = folders.pop() {
        for entry in fs::read_dir(&source).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() && metadata.len() < 8 << 20 {
                let target = folder.join((count % parts).to_string()).join(count.to_string());
                if fs::copy(entry.path(), target).is_ok() {
                    (total, count) = (total + metadata.len(), count + 1);
                }
                if total >= bytes {
                    return;
                }
            }
        }
    }
}
