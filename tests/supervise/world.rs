//! A store of its own with one busybox layer, and the proof that nothing of it is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use wharf::base::id::{ContainerId, Digest, random_hex};
use wharf::base::paths::Paths;
use wharf::log::{self, ReadOptions};
use wharf::model::container::{
    ContainerSpec, ContainerState, Healthcheck, Logging, NetworkMode, Process, Resources, RestartPolicy, Security,
};
use wharf::store::Store;
use wharf::supervise::{self, AttachMode, AttachStream, Frame, StartOptions};

/// A host with nothing on it but an image.
pub struct World {
    folder: PathBuf,
    pub store: Store,
    layer: Digest,
    containers: Vec<ContainerId>,
}

impl World {
    pub fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("wharf-supervise-{}", random_hex(6)));
        fs::create_dir(&folder).unwrap();
        let store = Store::open(&Paths::new(folder.join("root"), folder.join("run"))).unwrap();
        let layer = busybox(&store);
        Self { folder, store, layer, containers: Vec::new() }
    }

    /// The spec of a container that runs a shell script.
    pub fn spec(&self, script: &str) -> ContainerSpec {
        let id = ContainerId::random();
        ContainerSpec {
            name: format!("test-{}", id.short()),
            created: jiff::Timestamp::now(),
            image: "busybox".into(),
            image_id: None,
            layers: vec![self.layer.clone()],
            labels: BTreeMap::new(),
            process: Process {
                args: vec!["/bin/sh".into(), "-c".into(), script.into()],
                env: vec!["PATH=/bin".into()],
                cwd: "/".into(),
                ..Process::default()
            },
            hostname: id.short().to_owned(),
            domainname: None,
            read_only: false,
            mounts: Vec::new(),
            files: Vec::new(),
            shm_size_bytes: 64 << 20,
            network: NetworkMode::None,
            ports: Vec::new(),
            exposed_ports: Vec::new(),
            extra_hosts: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            security: Security::default(),
            resources: Resources::default(),
            sysctls: BTreeMap::new(),
            ulimits: BTreeMap::new(),
            init: false,
            stop_signal: libc::SIGTERM,
            stop_timeout_ms: 10_000,
            restart: RestartPolicy::No,
            healthcheck: None,
            logging: Logging::default(),
            auto_remove: false,
            entrypoint_length: 0,
            uid_maps: Vec::new(),
            gid_maps: Vec::new(),
            id,
        }
    }

    pub fn create(&mut self, spec: &ContainerSpec) -> ContainerId {
        self.store.containers().create(spec).unwrap();
        self.containers.push(spec.id.clone());
        spec.id.clone()
    }

    /// Creates and starts; attached without loss when `attach`.
    pub fn run(&mut self, spec: &ContainerSpec, attach: AttachMode) -> (ContainerId, Option<AttachStream>) {
        let id = self.create(spec);
        let started = supervise::start(&self.store, &id, StartOptions { attach, size: Some((30, 100)) });
        let started = started.unwrap_or_else(|error| panic!("{}", chain(&error)));
        (id, started.attach)
    }

    /// Runs a script to its end in the background.
    pub fn script(&mut self, script: &str) -> ContainerId {
        let spec = self.spec(script);
        self.run(&spec, AttachMode::None).0
    }

    pub fn state(&self, id: &ContainerId) -> ContainerState {
        self.store.containers().state(id).unwrap()
    }

    /// Everything in the log of a container, both streams.
    pub fn log(&self, id: &ContainerId) -> Vec<u8> {
        let mut reader = log::read(&supervise::log_path(&self.store, id), ReadOptions::default()).unwrap();
        std::iter::from_fn(|| reader.next(|| true).unwrap()).flat_map(|line| line.bytes).collect()
    }

    /// The process id of a container's supervisor.
    pub fn supervisor(&self, id: &ContainerId) -> i32 {
        let card = self.store.containers().run_folder(id).join("supervisor.json");
        let card: serde_json::Value = serde_json::from_slice(&fs::read(card).unwrap()).unwrap();
        card["supervisor"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap()
    }
}

impl World {
    fn end(&self, id: &ContainerId) -> Result<(), Box<dyn std::error::Error>> {
        supervise::stop(&self.store, id, Some(Duration::ZERO))?;
        let _lock = self.store.containers().lock(id)?;
        Ok(self.store.containers().remove(id)?)
    }
}

impl Drop for World {
    /// Ends what runs and asserts that nothing is left of it: process, mount, control group, link.
    fn drop(&mut self) {
        for id in &self.containers {
            // One that removes itself may go between any two of these.
            match self.end(id) {
                Ok(()) => {}
                Err(_) if !self.store.containers().exists(id) => {}
                Err(error) => panic!("{id}: {error}"),
            }
        }
        let instance = self.store.paths().instance();
        let marks = [self.folder.to_str().unwrap().to_owned(), instance];
        let deadline = Instant::now() + Duration::from_secs(3);
        while let left = leftovers(&marks)
            && !left.is_empty()
        {
            assert!(Instant::now() < deadline, "left behind: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        remove_groups(&marks[1]);
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Mounts, control groups and processes that have to do with a world.
fn leftovers(marks: &[String; 2]) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(&marks[0])).map(str::to_owned));
    for group in groups(&marks[1]) {
        let children = fs::read_dir(&group).unwrap().flatten().filter(|entry| entry.path().is_dir());
        left.extend(
            children
                .map(|child| child.path())
                .filter(|path| !path.ends_with("supervisors"))
                .map(|path| path.display().to_string()),
        );
    }
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let groups = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        if groups.contains(&marks[1]) {
            left.push(format!("process {} {}", process.path().display(), name.trim()));
        }
    }
    left
}

/// The folders of an instance in every hierarchy.
fn groups(instance: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path().join(instance));
    below.chain([root.join(instance)]).filter(|path| path.is_dir()).collect()
}

fn remove_groups(instance: &str) {
    for group in groups(instance) {
        let _none = fs::remove_dir(group.join("supervisors"));
        let _busy = fs::remove_dir(&group);
    }
}

fn busybox(store: &Store) -> Digest {
    let layer = store.layers().begin().unwrap();
    let root = layer.folder().to_owned();
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "data/inner"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for name in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nguest:x:1000:1000::/:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nguest:x:1000:\n").unwrap();
    fs::write(root.join("data/file"), "from the image\n").unwrap();
    fs::write(root.join("data/inner/file"), "deeper\n").unwrap();
    std::os::unix::fs::chown(root.join("data"), Some(1000), Some(1000)).unwrap();
    std::os::unix::fs::chown(root.join("data/inner/file"), Some(1000), Some(7)).unwrap();
    std::os::unix::fs::symlink("inner/file", root.join("data/link")).unwrap();
    layer.commit_by_content().unwrap().diff_id
}

/// A health check that runs a shell script.
pub fn healthcheck(script: &str, interval_ms: u64, retries: u32) -> Healthcheck {
    Healthcheck {
        args: vec!["/bin/sh".into(), "-c".into(), script.into()],
        interval_ms,
        timeout_ms: 30_000,
        start_period_ms: 0,
        start_interval_ms: 5_000,
        retries,
    }
}

/// Reads an attachment to its end: standard output, standard error, exit code.
pub fn collect(stream: &AttachStream) -> (Vec<u8>, Vec<u8>, Option<i32>) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(frame) = stream.receive().unwrap() {
        match frame {
            Frame::Stdout(bytes) => stdout.extend(bytes),
            Frame::Stderr(bytes) => stderr.extend(bytes),
            Frame::Exit(code) => return (stdout, stderr, Some(code)),
            Frame::Detached => break,
            _ => {}
        }
    }
    (stdout, stderr, None)
}

/// An error with all its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}
