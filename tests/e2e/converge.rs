//! Random projects, changes and faults on real containers: `up` reaches what the file says, and then has nothing to do.
//!
//! `WHARF_SEED` makes other cases; the seed stands in every failure. The planner sees many more of them, in
//! `src/graph/generated_tests.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use crate::world::{World, free_port};

/// Cases in all, and worlds that share them: each world is worked on by one thread.
const CASES: u64 = 52;
const WORLDS: u64 = 4;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone)]
struct Service {
    value: u64,
    scale: usize,
    port: Option<u16>,
    fixed_name: bool,
    volume: bool,
    secret: bool,
    rolls: bool,
    depends_on: Option<(String, &'static str)>,
    network_of: Option<String>,
    is_job: bool,
}

/// What a case's file says.
#[derive(Debug, Clone)]
struct File {
    services: BTreeMap<String, Service>,
    internal: bool,
    network_name: usize,
    volume_name: usize,
    secret: u64,
    config: u64,
}

fn random_file(random: &mut Random, ports: [u16; 2]) -> File {
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    let mut ports = ports.to_vec();
    let count = 1 + random.below(3);
    for index in 0..count {
        let is_job = index == 0 && count > 1 && random.chance(40);
        let port = if !is_job && random.chance(40) { ports.pop() } else { None };
        let fixed_name = port.is_some() && random.chance(50);
        let scale = if port.is_none() && !is_job { 1 + random.below(2) } else { 1 };
        let earlier = (index > 0).then(|| format!("s{}", random.below(index)));
        let is_of_job = |name: &String| services[name].is_job;
        let network_of = earlier.clone().filter(|name| port.is_none() && !is_of_job(name) && random.chance(25));
        let depends_on = earlier.filter(|_| network_of.is_none()).map(|name| {
            let condition = match is_of_job(&name) {
                true => "service_completed_successfully",
                false => ["service_started", "service_healthy"][random.below(2)],
            };
            (name, condition)
        });
        services.insert(
            format!("s{index}"),
            Service {
                value: random.next(),
                scale,
                port,
                fixed_name,
                volume: random.chance(40),
                secret: random.chance(30),
                rolls: !is_job && random.chance(30),
                depends_on,
                network_of,
                is_job,
            },
        );
    }
    if count > 1 && services["s0"].is_job {
        // Somebody has to wait for it, or it is none.
        let waiting = services.get_mut("s1").expect("there are two");
        waiting.network_of = None;
        waiting.depends_on = Some(("s0".into(), "service_completed_successfully"));
    }
    File { services, internal: false, network_name: 0, volume_name: 0, secret: 1, config: 1 }
}

impl File {
    fn text(&self, case: u64) -> String {
        let mut text = String::from("services:\n");
        for (name, service) in &self.services {
            let command = match service.is_job {
                true => "[sh, -c, 'echo ran >> /log/jobs']",
                false => "sleep 1000",
            };
            let mut line = |key: &str, value: &str| text.push_str(&format!("    {key}: {value}\n"));
            line("image", "app");
            line("command", command);
            line("init", "true");
            line("environment", &format!("{{X: \"{}\"}}", service.value));
            line("healthcheck", "{test: [CMD, \"true\"], start_interval: 10ms, start_period: 10s}");
            let deploy = format!("replicas: {}", service.scale);
            match service.rolls {
                true => line("deploy", &format!("{{{deploy}, update_config: {{order: start-first, monitor: 50ms}}}}")),
                false => line("deploy", &format!("{{{deploy}}}")),
            }
            if let Some(port) = service.port {
                line("ports", &format!("[\"127.0.0.1:{port}:80\"]"));
            }
            if service.fixed_name {
                line("container_name", &format!("fixed{case}-{}", service.port.unwrap_or(0)));
            }
            let mut volumes = vec!["./log:/log"];
            if service.volume {
                volumes.push("data:/data");
            }
            line("volumes", &format!("{volumes:?}"));
            if service.secret {
                line("secrets", "[token]");
                line("configs", "[greeting]");
            }
            match (&service.network_of, &service.depends_on) {
                (Some(other), _) => line("network_mode", &format!("\"service:{other}\"")),
                (None, Some((other, condition))) => {
                    line("depends_on", &format!("{{{other}: {{condition: {condition}}}}}"));
                }
                (None, None) => {}
            }
            // The name goes above its lines.
            let at = text.rfind("    image: app\n").expect("it was just written");
            text.insert_str(at, &format!("  {name}:\n"));
        }
        let _infallible = write!(
            text,
            "networks: {{default: {{name: c{case}_net{}, internal: {}}}}}\nvolumes: {{data: {{name: c{case}_data{}}}}}\nsecrets: {{token: {{file: ./token.txt}}}}\nconfigs: {{greeting: {{content: \"{}\"}}}}\n",
            self.network_name, self.internal, self.volume_name, self.config
        );
        text
    }

    fn write(&self, world: &World, case: u64) {
        world.write("compose.yaml", &self.text(case));
        world.write("token.txt", &self.secret.to_string());
    }
}

struct Case<'a> {
    world: &'a World,
    number: u64,
    project: String,
    file: File,
    /// What was done, for a failure's message.
    history: Vec<String>,
}

impl Case<'_> {
    fn wharf(&self, arguments: &[&str]) -> crate::world::Answer {
        let arguments: Vec<&str> = ["-p", &self.project].into_iter().chain(arguments.iter().copied()).collect();
        self.world.wharf(&arguments)
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.wharf(arguments);
        assert_eq!(answer.code, 0, "{arguments:?}\n{}{}\n{}", answer.stdout, answer.stderr, self.describe());
        answer.stdout
    }

    fn describe(&self) -> String {
        format!("{}\nafter: {}", self.file.text(self.number), self.history.join(", "))
    }

    /// Something changes in the file, or happens to what runs.
    fn disturb(&mut self, random: &mut Random) {
        let names: Vec<String> = self.file.services.keys().cloned().collect();
        let name = names[random.below(names.len())].clone();
        let container = format!("{}-{name}-1", self.project);
        let service = self.file.services.get_mut(&name).expect("it is there");
        let container = match service.fixed_name {
            true => format!("fixed{}-{}", self.number, service.port.unwrap_or(0)),
            false => container,
        };
        let what = random.below(14);
        self.history.push(format!("{what} of {name}"));
        match what {
            0 => service.value = random.next(),
            1 if service.port.is_none() && !service.is_job => service.scale = 1 + random.below(3),
            2 => self.file.internal ^= true,
            3 => self.file.network_name += 1,
            4 => self.file.volume_name += 1,
            5 => self.file.secret += 1,
            6 => self.file.config += 1,
            7 => {
                let service = self.file.services.remove(&name).expect("it is there");
                let new = format!("{name}r");
                for other in self.file.services.values_mut() {
                    other.depends_on.iter_mut().filter(|(on, _)| *on == name).for_each(|(on, _)| on.clone_from(&new));
                    other.network_of.iter_mut().filter(|of| **of == name).for_each(|of| of.clone_from(&new));
                }
                self.file.services.insert(new, service);
            }
            8 => drop(self.ok(&["rm", "-f", "-s", &name])),
            9 => drop(self.ok(&["kill", &name])),
            10 => drop(self.ok(&["stop", "-t", "0"])),
            11 => drop(self.world.wharf(&["pause", &container])),
            12 => {
                let image = ["busybox", "other"][random.below(2)];
                drop(self.ok(&["tag", image, "app"]));
            }
            13 => {
                drop(self.ok(&["down", "-t", "0"]));
                drop(self.world.wharf(&["volume", "rm", &format!("c{}_data{}", self.number, self.file.volume_name)]));
            }
            _ => {}
        }
        self.file.write(self.world, self.number);
    }

    /// `up`, now and then killed on the way.
    fn up(&mut self, random: &mut Random) {
        if random.chance(40) {
            let delay = random.below(150) as u64;
            self.history.push(format!("up killed after {delay} ms"));
            let mut command = self.world.command(&["-p", &self.project, "up", "-d", "-t", "0"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("wharf can be run");
            std::thread::sleep(Duration::from_millis(delay));
            child.kill().expect("it can be killed");
            child.wait().expect("it can be waited for");
        }
        self.ok(&["up", "-d", "-t", "0", "--remove-orphans"]);
    }

    fn check(&self) {
        let plan = self.ok(&["--dry-run", "up", "-d", "--remove-orphans"]);
        assert!(plan.contains("nothing to do"), "{plan}\n{}", self.describe());
        let listed = self.ok(&["ps", "--format", "{{.Service}} {{.State}}"]);
        for (name, service) in self.file.services.iter().filter(|(_, service)| !service.is_job) {
            let count = listed.lines().filter(|line| *line == format!("{name} running")).count();
            assert_eq!(count, service.scale, "{name} in\n{listed}\n{}", self.describe());
        }
        let (name, service) = self.file.services.iter().next_back().expect("there is one");
        let value = self.ok(&["exec", name, "sh", "-c", "echo $X"]);
        assert_eq!(value.trim(), service.value.to_string(), "{}", self.describe());
        if service.secret {
            let files = self.ok(&["exec", name, "cat", "/run/secrets/token", "/greeting"]);
            assert_eq!(files.trim(), format!("{}{}", self.file.secret, self.file.config), "{}", self.describe());
        }
    }

    fn run(&mut self, random: &mut Random) {
        self.file.write(self.world, self.number);
        self.up(random);
        self.check();
        for _ in 0..2 {
            self.disturb(random);
            let jobs = || std::fs::read_to_string(self.world.folder().join("log/jobs")).unwrap_or_default();
            let before = jobs();
            if self.history.last().is_some_and(|last| last.starts_with("5 ") || last.starts_with("6 ")) {
                // Only what has the secret is made anew: not the job, unless it has it.
                let has = self.file.services.values().any(|service| service.is_job && service.secret);
                self.ok(&["up", "-d", "-t", "0"]);
                assert!(has || jobs() == before, "a job ran again\n{}", self.describe());
            }
            self.up(random);
            self.check();
        }
        self.ok(&["down", "-v", "-t", "0", "--remove-orphans"]);
        self.world.expect_no_trace();
    }
}

#[test]
fn up_converges_after_random_changes_and_faults() {
    let seed: u64 = std::env::var("WHARF_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    println!("WHARF_SEED={seed}");
    let work = |first: u64| {
        let world = World::new();
        world.ok(&["tag", "busybox", "app"]);
        world.write("Dockerfile", "FROM busybox\nLABEL other=1\n");
        world.ok(&["image", "build", "-q", "-t", "other", "."]);
        let ports = [free_port(), free_port()];
        for number in (first..CASES).step_by(WORLDS as usize) {
            println!("seed {seed}, case {number}");
            let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ number);
            let file = random_file(&mut random, ports);
            let project = format!("case{number}");
            Case { world: &world, number, project, file, history: vec![format!("seed {seed}, case {number}")] }
                .run(&mut random);
        }
    };
    std::thread::scope(|scope| {
        for first in 0..WORLDS {
            scope.spawn(move || work(first));
        }
    });
}
