//! Many commands at once, and our own processes killed at random moments: afterwards everything is as it should be.

use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{PATIENCE, World, eventually, free_port};

const WORKERS: u64 = 5;
const ROUNDS_PER_WORKER: u64 = 40;
/// Every so many rounds a worker leaves its container behind.
const ROUNDS_PER_SURVIVOR: u64 = 10;

/// Numbers that look random and come again with the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// Runs a command. One in four is killed on its way; of the others the exit code and the error text are returned.
fn try_it(world: &World, dice: &mut Dice, arguments: &[&str]) -> Option<(i32, String)> {
    let mut command = world.command(arguments);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("wharf can be run");
    if dice.one_in(4) {
        std::thread::sleep(Duration::from_micros(dice.below(60_000)));
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        return None;
    }
    // A supervisor has no hand on stderr once the start was reported, so its end is the command's end.
    let mut text = String::new();
    let mut stderr = child.stderr.take().expect("stderr is a pipe");
    let started = Instant::now();
    std::io::Read::read_to_string(&mut stderr, &mut text).expect("stderr is text");
    let code = child.wait().expect("it can be waited for").code();
    assert!(started.elapsed() < PATIENCE, "{arguments:?} hung");
    assert!(!text.contains("panicked"), "{arguments:?}: {text}");
    // Without a code it was killed by the other one who kills.
    code.map(|code| (code, text))
}

/// The life of one container under fire.
fn round(world: &World, dice: &mut Dice, name: &str, keep: bool) {
    let port = format!("127.0.0.1:{}:80", free_port());
    let mut run = vec!["run", "-d", "--name", name];
    match dice.below(6) {
        0 => run.extend(["--rm"]),
        1 => run.extend(["--restart", "always"]),
        2 => run.extend(["-p", &port]),
        3 => run.extend(["--network", "none"]),
        4 => run.extend(["-v", "/data"]),
        _ => run.extend(["--init"]),
    }
    run.extend(["busybox", "sleep", "1000"]);
    try_it(world, dice, &run);
    for _ in 0..2 {
        match dice.below(6) {
            0 | 1 => try_it(world, dice, &["exec", name, "true"]),
            2 => try_it(world, dice, &["kill", name]),
            3 => try_it(world, dice, &["stop", "-t", "0", name]),
            4 => try_it(world, dice, &["start", name]),
            _ => try_it(world, dice, &["restart", "-t", "0", name]),
        };
    }
    if keep {
        return;
    }
    // What a killed removal left is removed by the next.
    loop {
        if let Some((code, text)) = try_it(world, dice, &["rm", "-f", "-s", "-v", name]) {
            assert!(code == 0 || text.contains("o such container"), "rm of {name}: {code}: {text}");
            return;
        }
    }
}

/// Kills supervisors (and commands that it meets) until told to stop; with one in three goes its container, so that nobody sees the end.
fn kill_supervisors(world: &World, dice: &mut Dice, done: &AtomicBool) -> usize {
    let signal = |pid: i32, signal| {
        let _gone = kill_process(Pid::from_raw(pid).expect("a process number"), signal);
    };
    let mut killed = 0;
    while !done.load(Ordering::Relaxed) {
        let supervisors = world.supervisors();
        if let Some(victim) = supervisors.get(dice.below(supervisors.len().max(1) as u64) as usize) {
            let children = std::fs::read_to_string(format!("/proc/{victim}/task/{victim}/children"));
            if dice.one_in(3) {
                signal(*victim, Signal::STOP);
                let children = children.unwrap_or_default();
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                    .for_each(|pid| signal(pid, Signal::KILL));
            }
            signal(*victim, Signal::KILL);
            killed += 1;
        }
        std::thread::sleep(Duration::from_millis(40 + dice.below(80)));
    }
    killed
}

#[test]
fn commands_under_fire_leave_nothing_behind() {
    let world = World::new();
    // With `WHARF_STRESS_SEED=N` the same commands come again.
    let seed = std::env::var("WHARF_STRESS_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("WHARF_STRESS_SEED={seed}");
    let done = AtomicBool::new(false);
    let failures = Mutex::new(Vec::new());
    let killed = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_supervisors(&world, &mut Dice(seed + 1), &done));
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (world, failures) = (&world, &failures);
                scope.spawn(move || {
                    let mut dice = Dice((seed + 2 + worker).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
                    for number in 0..ROUNDS_PER_WORKER {
                        let name = format!("c{worker}-{number}");
                        let keep = number % ROUNDS_PER_SURVIVOR == 0;
                        let attempt = std::panic::AssertUnwindSafe(|| round(world, &mut dice, &name, keep));
                        if std::panic::catch_unwind(attempt).is_err() {
                            failures.lock().expect("nobody panics with it").push(name);
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("rounds are caught");
        }
        done.store(true, Ordering::Relaxed);
        killer.join().expect("the killer does not panic")
    });
    let failures = failures.into_inner().expect("nobody panicked with it");
    assert!(failures.is_empty(), "seed {seed}: {failures:?}");
    assert!(killed > 20, "only {killed} supervisors were killed");
    survivors_obey(&world);
    world.expect_no_trace();
    assert_eq!(world.half_made(), Vec::<String>::new(), "seed {seed}");
    for folder in ["containers", "names/containers"] {
        assert_eq!(world.records(folder), Vec::<String>::new(), "seed {seed}");
    }
    for bridge in world.bridges() {
        let ports = || std::fs::read_dir(format!("/sys/class/net/{bridge}/brif")).into_iter().flatten().count();
        // The kernel takes links down some time after their namespace.
        eventually("the end of all links", || (ports() == 0).then_some(()));
    }
}

/// Every container that is left can be started (which is fine if it runs), entered, stopped and removed.
fn survivors_obey(world: &World) {
    let listed = world.ok(&["ps", "-a", "--format", "{{.Names}}"]);
    for name in listed.lines() {
        world.wharf(&["start", name]).expect(0);
        // One whose process was killed at the very end is started again by its policy first.
        let mut last = String::new();
        eventually("the container to be entered", || {
            let answer = world.wharf(&["exec", name, "true"]);
            if answer.code != 0 && answer.stderr != last {
                println!("{}{}", answer.stderr, world.ok(&["docker", "inspect", "-f", "{{json .State}}", name]));
                last = answer.stderr;
            }
            (answer.code == 0).then_some(())
        });
        world.wharf(&["stop", "-t", "0", name]).expect(0);
        // One that was made with `--rm` is gone by then.
        let removal = world.wharf(&["rm", "-f", "-s", "-v", name]);
        assert!(removal.code == 0 || removal.stderr.contains("o such container"), "{name}: {removal:?}");
    }
    assert_eq!(world.ok(&["ps", "-aq"]), "");
}
