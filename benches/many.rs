//! Many containers at once: what a start, `ps` and `exec` cost among 50 and among 500, and what each one holds.
//!
//! `cargo bench --bench many` (as root; a minute). `cargo bench --bench many -- 200` takes another number. Prints
//! figures beside their budgets; nothing here passes or fails, since machines differ.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How many starts a median is taken of.
const WINDOW: usize = 25;
/// How often a command that only looks is measured.
const LOOKS: usize = 21;

/// A wharf of our own.
struct World {
    base: PathBuf,
    run: String,
}

fn main() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("the benchmarks make containers: run them as root");
        std::process::exit(1);
    }
    let count: usize = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(500);
    let world = World::new();
    world.import();
    let mut starts = Vec::with_capacity(count);
    let mut early = None;
    for number in 1..=count {
        let begin = Instant::now();
        let output = world.wharf(&["docker", "run", "-d", "--name", &format!("c{number}"), "many", "sleep", "100000"]);
        starts.push(begin.elapsed());
        assert!(output.status.success(), "start {number}: {}", String::from_utf8_lossy(&output.stderr));
        if [50, 100, count].contains(&number) {
            let start = median(&starts[number.saturating_sub(WINDOW)..]);
            let early = *early.get_or_insert(start);
            println!(
                "{number:>4} containers: start {:>6.1} ms ({:.2} times the 50th, budget 1.5)   ps {:>5.1} ms (budget {})   exec true {:>5.1} ms (budget 4 ms)",
                milliseconds(start),
                start.as_secs_f64() / early.as_secs_f64(),
                milliseconds(world.look(&["docker", "ps"])),
                if number == 100 { "8 ms" } else { "none" },
                milliseconds(world.look(&["docker", "exec", "c1", "true"])),
            );
        }
    }
    // A supervisor that has reported its start executes itself, and is small from then on.
    std::thread::sleep(Duration::from_secs(1));
    let (processes, pss_kb) = world.supervisors();
    println!(
        "{count:>4} containers: {processes} processes of wharf, {:.0} kB PSS a container (budget 300 kB)",
        pss_kb as f64 / count as f64
    );
    let begin = Instant::now();
    let names: Vec<String> = (1..=count).map(|number| format!("c{number}")).collect();
    let words: Vec<&str> = ["docker", "rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let removed = world.wharf(&words);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    println!("{count:>4} containers: removed in {:.1} s", begin.elapsed().as_secs_f64());
    world.wharf(&["network", "rm", "bridge"]);
    drop(fs::remove_dir_all(&world.base));
    drop(fs::remove_dir_all(&world.run));
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl World {
    fn new() -> Self {
        let base = PathBuf::from(format!("/var/tmp/wharf-many-{}", std::process::id()));
        fs::create_dir_all(base.join("image/bin")).expect("the folder can be made");
        Self { base, run: format!("/run/wharf-many-{}", std::process::id()) }
    }

    fn wharf(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
        command.args(words).env("WHARF_ROOT", self.base.join("root")).env("WHARF_RUN", &self.run);
        command.current_dir(&self.base).output().expect("wharf can be run")
    }

    /// The median of several runs of a command.
    fn look(&self, words: &[&str]) -> Duration {
        let times: Vec<Duration> = (0..LOOKS)
            .map(|_| {
                let begin = Instant::now();
                assert!(self.wharf(words).status.success(), "{words:?} failed");
                begin.elapsed()
            })
            .collect();
        median(&times)
    }

    fn import(&self) {
        let root = self.base.join("image");
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for applet in ["true", "sleep"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("links can be made");
        }
        let archive = self.base.join("image.tar");
        let tar = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
        assert!(tar.expect("tar is installed").success());
        let output = self.wharf(&["image", "import", archive.to_str().expect("the path is text"), "many"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// How many processes of ours there are, and their proportional share of memory in kB.
    fn supervisors(&self) -> (usize, u64) {
        let own = fs::canonicalize(env!("CARGO_BIN_EXE_wharf")).expect("the program is there");
        let holds = |process: &Path| {
            // The containers' own processes hold their streams, which lie there too.
            if fs::read_link(process.join("exe")).ok().as_deref() != Some(own.as_path()) {
                return false;
            }
            let links = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            links.filter_map(|link| fs::read_link(link.path()).ok()).any(|path| path.starts_with(&self.run))
        };
        let pss = |process: &Path| {
            let rollup = fs::read_to_string(process.join("smaps_rollup")).ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        let processes = fs::read_dir("/proc").expect("/proc can be listed").flatten().map(|entry| entry.path());
        let sizes: Vec<u64> = processes.filter(|process| holds(process)).filter_map(|process| pss(&process)).collect();
        (sizes.len(), sizes.iter().sum())
    }
}
