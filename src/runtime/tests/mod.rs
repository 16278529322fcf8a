//! Containers from a busybox root, started for real: these tests run as root and leave nothing behind.

mod cgroups;
mod exec;
mod isolation;
mod launch;
mod mounts;
mod users;

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::*;
use crate::model::container::{ContainerSpec, InlineContent, InlineFile, Process};

/// A container under test with everything that it needs on disk.
struct Bench {
    folder: PathBuf,
    /// The parent of its control group.
    parent: String,
    spec: ContainerSpec,
    mounts: Vec<ResolvedMount>,
    files: Vec<(InlineFile, Vec<u8>)>,
    etc: EtcFiles,
    net: NetNamespace,
    joins: Joins,
    terminal: bool,
}

/// What a container did.
#[derive(Debug)]
struct Outcome {
    code: i32,
    output: String,
}

impl Bench {
    fn new(args: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("wharf-runtime-{}", crate::base::id::random_hex(6)));
        for part in ["root/bin", "root/etc", "root/tmp", "upper", "work"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        std::fs::copy("/bin/busybox", folder.join("root/bin/busybox")).unwrap();
        for name in [
            "sh", "cat", "id", "env", "ls", "true", "sleep", "stat", "mount", "pwd", "grep", "kill", "ps", "tty",
            "touch", "echo", "readlink", "wc", "hostname", "sort", "stty", "ip", "mknod", "dd", "head", "umount",
            "test",
        ] {
            std::os::unix::fs::symlink("busybox", folder.join("root/bin").join(name)).unwrap();
        }
        std::fs::write(folder.join("root/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:\n")
            .unwrap();
        std::fs::write(folder.join("root/etc/group"), "root:x:0:\nbob:x:1000:\naudio:x:29:bob\n").unwrap();
        let parent = format!("wharf-test-{}", crate::base::id::random_hex(6));
        Self {
            folder,
            parent,
            spec: spec(args),
            mounts: Vec::new(),
            files: Vec::new(),
            etc: EtcFiles::default(),
            net: NetNamespace::New,
            joins: Joins::default(),
            terminal: false,
        }
    }

    fn shell(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    /// The lower layer on the host.
    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn cgroup(&self) -> Cgroup {
        Cgroup::create(&self.parent, &self.spec).unwrap()
    }

    /// Prepares the container; the read end of its output comes with it.
    fn prepare(&mut self, cgroup: &Cgroup) -> Result<(Prepared, OwnedFd), Error> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let stdio = if self.terminal { Stdio::Terminal { rows: 24, cols: 80 } } else { pipes(write) };
        let upper = UpperLayer { upper: self.folder.join("upper"), work: self.folder.join("work"), volatile: true };
        let launch = Launch {
            spec: &self.spec,
            root: RootFs { lowers: vec![self.root()], upper: Some(upper) },
            mounts: std::mem::take(&mut self.mounts),
            etc: self.etc.clone(),
            files: std::mem::take(&mut self.files),
            net: std::mem::replace(&mut self.net, NetNamespace::New),
            joins: self.joins,
            cgroup,
            stdio,
            dies_with_caller: false,
        };
        Ok((prepare(&launch)?, read))
    }

    /// Runs the container to its end.
    fn run(mut self) -> Result<Outcome, Error> {
        let cgroup = self.cgroup();
        let result = self.run_in(&cgroup);
        cgroup.remove().unwrap();
        result
    }

    fn run_in(&mut self, cgroup: &Cgroup) -> Result<Outcome, Error> {
        let (mut prepared, read) = self.prepare(cgroup)?;
        let console = prepared.take_console();
        let running = prepared.start()?;
        let output = read_all(console.unwrap_or(read));
        let status = running.wait()?;
        Ok(Outcome { code: status.code, output })
    }

    /// Starts the container and leaves it running.
    fn start(&mut self, cgroup: &Cgroup) -> (Running, OwnedFd) {
        let (prepared, read) = self.prepare(cgroup).unwrap();
        (prepared.start().unwrap(), read)
    }

    /// Its output, when it ends well.
    fn output(self) -> String {
        let outcome = self.run().unwrap();
        assert_eq!(outcome.code, 0, "{}", outcome.output);
        outcome.output
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
        drop(cgroup::remove_parent(&self.parent));
    }
}

/// /dev/null for stdin, one pipe for both outputs.
fn pipes(write: OwnedFd) -> Stdio {
    let stdin = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    Stdio::Pipes { stdin, stdout: write.try_clone().unwrap(), stderr: write }
}

/// Reads until the end of file; a terminal ends with an error.
fn read_all(file: OwnedFd) -> String {
    let (mut output, mut buffer) = (Vec::new(), [0u8; 4096]);
    let mut file = std::fs::File::from(file);
    while let Ok(length @ 1..) = file.read(&mut buffer) {
        output.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&output).into_owned()
}

fn spec(args: &[&str]) -> ContainerSpec {
    let strings: Vec<String> = args.iter().map(ToString::to_string).collect();
    let id = crate::base::id::ContainerId::random();
    let value = serde_json::json!({
        "id": id, "name": "test", "created": "2026-01-01T00:00:00Z", "image": "busybox", "image_id": null,
        "layers": [], "labels": {}, "process": Process { args: strings, cwd: "/".into(), ..Process::default() },
        "hostname": "box", "domainname": null, "read_only": false, "mounts": [], "files": [],
        "shm_size_bytes": 64 << 20, "network": {"mode": "none"}, "ports": [], "exposed_ports": [],
        "extra_hosts": [], "dns": [], "dns_search": [], "dns_options": [],
        "security": crate::model::container::Security::default(),
        "resources": crate::model::container::Resources::default(), "sysctls": {}, "ulimits": {}, "init": false,
        "stop_signal": 15, "stop_timeout_ms": 10000, "restart": "no", "healthcheck": null,
        "logging": crate::model::container::Logging::default(), "auto_remove": true, "uid_maps": [], "gid_maps": [],
    });
    serde_json::from_value(value).unwrap()
}

fn bind(path: &Path, target: &str, read_only: bool) -> ResolvedMount {
    ResolvedMount {
        target: target.into(),
        read_only,
        source: ResolvedSource::Bind {
            path: path.to_owned(),
            subpath: None,
            propagation: None,
            recursive: true,
            map_owners: false,
        },
    }
}

fn secret(target: &str, content: &str, owner: u32, mode: u32) -> (InlineFile, Vec<u8>) {
    let content_of_spec = InlineContent::Text(String::new());
    (InlineFile { target: target.into(), uid: owner, gid: owner, mode, content: content_of_spec }, content.into())
}
