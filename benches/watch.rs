//! Measures how long a saved file takes to be seen inside a container that `watch` keeps.
//!
//! `cargo bench --bench watch` (as root). For wharf, for `docker compose` where it answers, and for the floor: a thread
//! of this process that waits in inotify and writes the same bytes to another folder. Prints the median and the
//! slowest twentieth of saves; nothing passes or fails, since machines differ.
//! `WHARF_PEER_DOCKER` names another command than `docker`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{Pid, Signal, kill_process};

/// Saves measured of each kind.
const SAVES: usize = 50;
/// What the design promises, in milliseconds.
const BUDGET_MS: f64 = 25.0;
/// Longer than any save takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// A source file of a usual size.
const FILE_BYTES: usize = 4 << 10;

const COMPOSE: &str = "services:
  web:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    network_mode: none
    develop:
      watch:
        - {path: ./src, action: sync, target: /app}
";

struct Tool {
    command: Vec<String>,
    environment: Vec<(String, String)>,
    folder: PathBuf,
}

impl Tool {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(arguments).current_dir(&self.folder);
        command
            .envs(self.environment.iter().cloned())
            .env("COMPOSE_PROJECT_NAME", "wharfbenchwatch")
            .stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Option<String> {
        let output = self.command(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// A `watch` that runs; ends as by Ctrl-C.
struct Watching(Child);

impl Watching {
    fn begin(tool: &Tool, arguments: &[&str]) -> Option<Self> {
        let mut child = tool.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
        let (sender, ready) = std::sync::mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] = [Box::new(child.stdout.take()?), Box::new(child.stderr.take()?)];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if line.contains("Watch enabled") {
                        let _listens = sender.send(());
                    }
                }
            });
        }
        let watching = Self(child);
        ready.recv_timeout(PATIENCE).ok()?;
        Some(watching)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // Ended already is as good.
            let _gone = kill_process(pid, Signal::INT);
        }
        drop(self.0.wait());
    }
}

/// Median and 95th percentile of the times from before a save until its bytes are at `seen`.
fn saves(source: &Path, seen: &Path, renamed: bool) -> Option<(Duration, Duration)> {
    let mut times = Vec::with_capacity(SAVES);
    for number in 0..=SAVES {
        let content = format!("{number:06}").repeat(FILE_BYTES / 6);
        let begin = Instant::now();
        if renamed {
            let beside = source.with_extension("new~");
            fs::write(&beside, &content).ok()?;
            fs::rename(&beside, source).ok()?;
        } else {
            fs::write(source, &content).ok()?;
        }
        while fs::read(seen).ok().as_deref() != Some(content.as_bytes()) {
            if begin.elapsed() > PATIENCE {
                return None;
            }
            // The machine has few cores: the one that copies needs them.
            std::thread::sleep(Duration::from_micros(100));
        }
        // The first one makes the file.
        if number > 0 {
            times.push(begin.elapsed());
        }
        // Out of step with any clock of the watcher's.
        std::thread::sleep(Duration::from_millis(10 + number as u64 % 7));
    }
    times.sort();
    Some((times[SAVES / 2], times[SAVES * 95 / 100]))
}

type Times = [Option<(Duration, Duration)>; 2];

fn measure(tool: &Tool, watch: &[&str], first_process: impl Fn() -> Option<String>) -> Option<Times> {
    let source = tool.folder.join("src");
    fs::create_dir_all(&source).ok()?;
    fs::write(tool.folder.join("compose.yaml"), COMPOSE).ok()?;
    let watching = Watching::begin(tool, watch)?;
    let seen = PathBuf::from(format!("/proc/{}/root/app", first_process()?));
    let times = [("in-place", false), ("renamed", true)]
        .map(|(name, renamed)| saves(&source.join(name), &seen.join(name), renamed));
    drop(watching);
    Some(times)
}

/// What the kernel alone takes: an event, a read and a write, on the file system of the test.
fn floor(folder: &Path) -> Option<Times> {
    let (source, seen) = (folder.join("floor"), folder.join("floor-seen"));
    fs::create_dir_all(&source).ok()?;
    fs::create_dir_all(&seen).ok()?;
    let queue = inotify::init(CreateFlags::CLOEXEC).ok()?;
    inotify::add_watch(&queue, &source, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO).ok()?;
    let (from, to) = (source.clone(), seen.clone());
    std::thread::spawn(move || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&queue, &mut buffer);
        while let Ok(event) = events.next() {
            let Some(name) = event.file_name().and_then(|name| name.to_str().ok()) else { continue };
            if !name.ends_with('~') && fs::copy(from.join(name), to.join("unfinished")).is_ok() {
                drop(fs::rename(to.join("unfinished"), to.join(name)));
            }
        }
    });
    Some(
        [("in-place", false), ("renamed", true)]
            .map(|(name, renamed)| saves(&source.join(name), &seen.join(name), renamed)),
    )
}

fn print(what: &str, own: Option<Times>, others: &[(&str, Option<Times>)]) {
    for (index, how) in ["saved in place", "renamed into place"].into_iter().enumerate() {
        let of = |times: &Option<Times>| times.as_ref().and_then(|times| times[index]);
        let text = |time: Option<(Duration, Duration)>| {
            let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
            time.map_or("failed".to_owned(), |(median, slow)| {
                format!("{:.1} ms (95 %: {:.1})", milliseconds(median), milliseconds(slow))
            })
        };
        let mut line = format!("{:<44} wharf {} (budget {BUDGET_MS} ms)", format!("{what}, {how}"), text(of(&own)));
        for (name, times) in others {
            let ratio = of(&own).zip(of(times)).map_or(String::new(), |(own, other)| {
                format!(" = {:.2}x", other.0.as_secs_f64() / own.0.as_secs_f64())
            });
            line += &format!("   {name} {}{ratio}", text(of(times)));
        }
        println!("{line}");
    }
}

/// A root file system with busybox in it, as a tar.
fn busybox(base: &Path) -> PathBuf {
    let root = base.join("busybox");
    fs::create_dir_all(root.join("bin")).expect("the folder can be made");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    std::os::unix::fs::symlink("busybox", root.join("bin/sleep")).expect("links can be made");
    let archive = base.join("busybox.tar");
    let made = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
    assert!(made.is_ok_and(|status| status.success()), "tar is installed");
    archive
}

fn main() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("the benchmarks make containers: run them as root");
        std::process::exit(1);
    }
    let base = PathBuf::from(format!("/var/tmp/wharf-bench-watch-{}", std::process::id()));
    let run = format!("/run/wharf-bench-watch-{}", std::process::id());
    let folder = |name: &str| {
        let folder = base.join(name);
        fs::create_dir_all(&folder).expect("the folder can be made");
        folder
    };
    let environment =
        vec![("WHARF_ROOT".to_owned(), base.join("root").display().to_string()), ("WHARF_RUN".to_owned(), run.clone())];
    let wharf = Tool { command: vec![env!("CARGO_BIN_EXE_wharf").to_owned()], environment, folder: folder("wharf") };
    let archive = busybox(&base).display().to_string();
    assert!(wharf.output(&["image", "import", &archive, "busybox"]).is_some(), "the image can be imported");
    let own = measure(&wharf, &["watch"], || {
        wharf.output(&["docker", "inspect", "--format", "{{.State.Pid}}", "wharfbenchwatch-web-1"])
    });
    wharf.output(&["down"]);
    let text = std::env::var("WHARF_PEER_DOCKER").unwrap_or_else(|_| "docker".to_owned());
    let command = text.split_whitespace().map(str::to_owned).collect();
    let docker = Tool { command, environment: Vec::new(), folder: folder("docker") };
    let mut others = vec![("floor", floor(&base))];
    if docker.output(&["info"]).is_some() {
        docker.output(&["import", &archive, "busybox"]);
        others.push((
            "docker compose",
            measure(&docker, &["compose", "watch"], || {
                docker.output(&["inspect", "--format", "{{.State.Pid}}", "wharfbenchwatch-web-1"])
            }),
        ));
        docker.output(&["compose", "down"]);
    }
    print("saved to visible", own, &others);
    drop(fs::remove_dir_all(&base));
    drop(fs::remove_dir_all(&run));
}
