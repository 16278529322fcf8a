//! The child of a clone neither allocates nor waits for a lock: shown by an allocator that ends any other process
//! than this one, and by starts while other threads allocate.

#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use wharf::model::container::{ContainerSpec, Process};
use wharf::runtime::{
    Cgroup, EtcFiles, ExecTarget, Joins, Launch, NetNamespace, ResolvedMount, ResolvedSource, RootFs, Running, Stdio,
    UpperLayer, cgroup, exec, prepare,
};

/// The only process that may allocate; 0: any.
static ONLY: AtomicU32 = AtomicU32::new(0);

struct Watched;

fn check() {
    let only = ONLY.load(Ordering::Relaxed);
    if only != 0 && std::process::id() != only {
        // SAFETY: _exit has no preconditions; anything that unwinds or prints would allocate again.
        unsafe { libc::_exit(99) }
    }
}

// SAFETY: everything is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        check();
        // SAFETY: as above; the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn spec(args: &[&str], init: bool) -> ContainerSpec {
    let args = args.iter().map(ToString::to_string).collect();
    let value = serde_json::json!({
        "id": wharf::base::id::ContainerId::random(), "name": "test", "created": "2026-01-01T00:00:00Z",
        "image": "busybox", "image_id": null, "layers": [], "labels": {},
        "process": Process { args, cwd: "/made/here".into(), user: "7:8".into(), ..Process::default() },
        "hostname": "box", "domainname": "local", "read_only": true, "mounts": [], "files": [],
        "shm_size_bytes": 1 << 20, "network": {"mode": "none"}, "ports": [], "exposed_ports": [],
        "extra_hosts": [], "dns": [], "dns_search": [], "dns_options": [],
        "security": wharf::model::container::Security::default(),
        "resources": wharf::model::container::Resources::default(), "sysctls": {"net.ipv4.ip_forward": "1"},
        "ulimits": {"nofile": [100, 100]}, "init": init,
        "stop_signal": 15, "stop_timeout_ms": 10000, "restart": "no", "healthcheck": null,
        "logging": wharf::model::container::Logging::default(), "auto_remove": true, "uid_maps": [], "gid_maps": [],
    });
    serde_json::from_value(value).expect("the value has the fields of a spec")
}

fn null_streams() -> Stdio {
    let null = || OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/null").unwrap());
    Stdio::Pipes { stdin: null(), stdout: null(), stderr: null() }
}

fn start(folder: &Path, spec: &ContainerSpec, cgroup: &Cgroup, terminal: bool) -> Running {
    let upper = UpperLayer { upper: folder.join("upper"), work: folder.join("work"), volatile: true };
    let bind = |source: &str, target: &str| ResolvedMount {
        target: target.into(),
        read_only: true,
        source: ResolvedSource::Bind {
            path: source.into(),
            subpath: None,
            propagation: None,
            recursive: true,
            map_owners: false,
        },
    };
    let launch = Launch {
        spec,
        root: RootFs { lowers: vec![folder.join("root")], upper: Some(upper) },
        mounts: vec![bind("/etc", "/dangling/x"), bind("/etc/hostname", "/new/file")],
        etc: EtcFiles::default(),
        files: Vec::new(),
        net: NetNamespace::New,
        joins: Joins::default(),
        cgroup,
        stdio: if terminal { Stdio::Terminal { rows: 24, cols: 80 } } else { null_streams() },
        dies_with_caller: false,
    };
    prepare(&launch).expect("the plan is good").start().expect("the child allocated: exit code 99, or a step failed")
}

#[test]
fn a_child_never_allocates() {
    let parent = format!("wharf-test-{}", wharf::base::id::random_hex(6));
    let folder = Folder(std::env::temp_dir().join(&parent));
    for part in ["root/bin", "upper", "work"] {
        std::fs::create_dir_all(folder.0.join(part)).unwrap();
    }
    std::fs::copy("/bin/busybox", folder.0.join("root/bin/busybox")).unwrap();
    std::os::unix::fs::symlink("/elsewhere/deep", folder.0.join("root/dangling")).unwrap();

    // Threads that allocate, so that a lock of theirs is often held when a child is made.
    let stop = AtomicBool::new(false);
    ONLY.store(std::process::id(), Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut kept = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    kept.push(vec![0u8; 4096 + kept.len() % 64 * 1024]);
                    kept.truncate(100);
                }
            });
        }
        for round in 0..20 {
            let spec = spec(&["busybox", "sleep", "100"], round % 2 == 0);
            let cgroup = Cgroup::create(&parent, &spec).unwrap();
            let running = start(&folder.0, &spec, &cgroup, round % 3 == 0);
            let target = ExecTarget { identity: running.identity, spec: &spec, cgroup: &cgroup };
            let process = Process { args: vec!["busybox".into(), "true".into()], ..spec.process.clone() };
            let inside = exec(&target, &process, false, null_streams()).unwrap();
            assert_eq!(inside.wait().unwrap().code, 0);
            cgroup.kill_all().unwrap();
            assert_eq!(running.wait().unwrap().code, 137);
            cgroup.remove().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    ONLY.store(0, Ordering::Relaxed);
    cgroup::remove_parent(&parent).unwrap();
}
