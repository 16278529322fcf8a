//! Attacks from inside a container and by hostile images and callers, one line each, with what Docker 28 is known to
//! answer. A probe that gets through fails the test.
//!
//! System calls are made by this program itself, which is mounted into the container: see [`system_calls`].

use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::world::World;

/// What Docker's default container answers, as measured with Docker 28.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Docker {
    /// It refuses, too.
    Refuses,
    /// The attack gets through there.
    LetsThrough,
}
use Docker::{LetsThrough, Refuses};

/// Name, script, Docker's answer. A script prints `GOT-THROUGH` when the attack worked.
const SCRIPTS: [(&str, &str, Docker); 29] = [
    ("core-pattern", "echo x > /proc/sys/kernel/core_pattern && echo GOT-THROUGH", Refuses),
    ("sysrq", "echo h > /proc/sysrq-trigger && echo GOT-THROUGH", Refuses),
    ("modprobe-path", "echo /x > /proc/sys/kernel/modprobe && echo GOT-THROUGH", Refuses),
    ("binfmt", "echo x > /proc/sys/fs/binfmt_misc/register && echo GOT-THROUGH", Refuses),
    ("uevent-helper", "echo /x > /sys/kernel/uevent_helper && echo GOT-THROUGH", Refuses),
    ("irq-affinity", "echo 1 > /proc/irq/default_smp_affinity && echo GOT-THROUGH", Refuses),
    ("kcore", "[ -n \"$(head -c 1 /proc/kcore | tr '\\0' x)\" ] && echo GOT-THROUGH", Refuses),
    ("keys", "[ -s /proc/keys ] && [ -n \"$(cat /proc/keys)\" ] && echo GOT-THROUGH", Refuses),
    ("timer-list", "[ -n \"$(head -c 1 /proc/timer_list)\" ] && echo GOT-THROUGH", Refuses),
    ("interrupts", "[ -n \"$(head -c 1 /proc/interrupts)\" ] && echo GOT-THROUGH", Refuses),
    ("firmware", "[ -n \"$(ls /sys/firmware)\" ] && echo GOT-THROUGH", Refuses),
    ("thermal-throttle", "ls /sys/devices/system/cpu/cpu0/thermal_throttle/* && echo GOT-THROUGH", Refuses),
    ("sysfs-is-read-only", "echo 1 > /sys/kernel/mm/ksm/run && echo GOT-THROUGH", Refuses),
    (
        "release-agent",
        "for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent; do echo /x > $f && echo GOT-THROUGH; done",
        Refuses,
    ),
    (
        "cgroup-writes",
        "for f in $(find /sys/fs/cgroup -name 'memory.*limit_in_bytes' -o -name memory.max | head -4); do \
         echo 1000000000 > $f && echo GOT-THROUGH; done",
        Refuses,
    ),
    ("cgroup-tmpfs", "touch /sys/fs/cgroup/made && echo GOT-THROUGH", LetsThrough),
    ("host-cgroup-path", "grep -q wharf /proc/self/cgroup && echo GOT-THROUGH", LetsThrough),
    ("mount", "mount -t tmpfs x /mnt && echo GOT-THROUGH", Refuses),
    ("remount-proc", "mount -o remount,rw /proc/sys && echo GOT-THROUGH", Refuses),
    ("unmount-mask", "umount /proc/kcore && echo GOT-THROUGH", Refuses),
    ("raw-disk", "mknod /disk b 254 0 && head -c 1 /disk && echo GOT-THROUGH", Refuses),
    ("memory-device", "mknod /memory c 1 1 && head -c 1 /memory && echo GOT-THROUGH", Refuses),
    ("kernel-log", "mknod /log c 1 11 && echo x > /log && echo GOT-THROUGH", Refuses),
    ("fuse", "mknod /fuse c 10 229 && head -c 0 /fuse && echo GOT-THROUGH", Refuses),
    ("root-of-others", "ls -d /proc/*/root/var/tmp/wharf-e2e-* && echo GOT-THROUGH", Refuses),
    (
        "other-cgroup",
        "for f in $(find / -name cgroup.procs -o -name tasks 2>/dev/null | grep -v ^/proc | head -20); do \
         echo 1 > $f && echo GOT-THROUGH; done",
        Refuses,
    ),
    ("set-host-name", "hostname mine && echo GOT-THROUGH", Refuses),
    ("host-processes", "[ $(ls -d /proc/[0-9]* | wc -l) -gt 6 ] && echo GOT-THROUGH", Refuses),
    (
        "descriptors",
        "[ $(ls /proc/self/fd | wc -l) -gt 4 ] && echo GOT-THROUGH; ls -l /proc/1/fd | grep -v /std | grep -q wharf && echo GOT-THROUGH",
        Refuses,
    ),
];

#[test]
fn attacks_from_inside() {
    let world = World::new();
    world.ok(&["docker", "run", "-d", "--name", "target", "busybox", "sleep", "1000"]);
    let mut through = Vec::new();
    for (name, script, docker) in SCRIPTS {
        // As the container's first process, and by exec.
        let first = world.wharf(&["docker", "run", "--rm", "busybox", "sh", "-c", script]);
        let second = world.wharf(&["docker", "exec", "target", "sh", "-c", script]);
        assert_ne!(first.code, 125, "{name}: {}", first.stderr);
        if first.stdout.contains("GOT-THROUGH") || second.stdout.contains("GOT-THROUGH") {
            through.push(format!("{name} (Docker: {docker:?})"));
        }
    }
    assert!(through.is_empty(), "{through:#?}");
    world.ok(&["docker", "rm", "-f", "target"]);
    world.expect_no_trace();
}

/// System calls that a default container must be refused, with harmless arguments: what is not filtered would fail in
/// another way than EPERM (or ENOSYS), or succeed.
#[allow(clippy::type_complexity, reason = "a table")]
fn system_call_table() -> Vec<(&'static str, Docker, libc::c_long, [libc::c_long; 4])> {
    let user = libc::c_long::from(libc::CLONE_NEWUSER);
    vec![
        ("unshare-user", Refuses, libc::SYS_unshare, [user, 0, 0, 0]),
        ("unshare-mount", Refuses, libc::SYS_unshare, [libc::c_long::from(libc::CLONE_NEWNS), 0, 0, 0]),
        ("setns", Refuses, libc::SYS_setns, [-1, 0, 0, 0]),
        ("mount", Refuses, libc::SYS_mount, [0, 0, 0, 0]),
        ("umount2", Refuses, libc::SYS_umount2, [0, 0, 0, 0]),
        ("pivot_root", Refuses, libc::SYS_pivot_root, [0, 0, 0, 0]),
        ("move_mount", Refuses, libc::SYS_move_mount, [-1, 0, -1, 0]),
        ("open_tree", Refuses, libc::SYS_open_tree, [-1, 0, 1, 0]),
        ("fsopen", Refuses, libc::SYS_fsopen, [0, 0, 0, 0]),
        ("mount_setattr", Refuses, libc::SYS_mount_setattr, [-1, 0, 0, 0]),
        ("keyctl", Refuses, libc::SYS_keyctl, [0, 0, 0, 0]),
        ("add_key", Refuses, libc::SYS_add_key, [0, 0, 0, 0]),
        ("request_key", Refuses, libc::SYS_request_key, [0, 0, 0, 0]),
        ("bpf", Refuses, libc::SYS_bpf, [0, 0, 0, 0]),
        ("perf_event_open", Refuses, libc::SYS_perf_event_open, [0, 0, -1, -1]),
        ("userfaultfd", Refuses, libc::SYS_userfaultfd, [0, 0, 0, 0]),
        ("io_uring_setup", Refuses, libc::SYS_io_uring_setup, [0, 0, 0, 0]),
        ("open_by_handle_at", Refuses, libc::SYS_open_by_handle_at, [-1, 0, 0, 0]),
        ("pidfd_getfd", Refuses, libc::SYS_pidfd_getfd, [-1, 0, 0, 0]),
        ("init_module", Refuses, libc::SYS_init_module, [0, 0, 0, 0]),
        ("finit_module", Refuses, libc::SYS_finit_module, [-1, 0, 0, 0]),
        ("delete_module", Refuses, libc::SYS_delete_module, [0, 0, 0, 0]),
        ("kexec_load", Refuses, libc::SYS_kexec_load, [0, 0, 0, 0]),
        ("reboot", Refuses, libc::SYS_reboot, [0, 0, 0, 0]),
        ("swapon", Refuses, libc::SYS_swapon, [0, 0, 0, 0]),
        ("acct", Refuses, libc::SYS_acct, [0, 0, 0, 0]),
        ("quotactl", Refuses, libc::SYS_quotactl, [0, 0, 0, 0]),
        ("clock_settime", Refuses, libc::SYS_clock_settime, [0, 0, 0, 0]),
        ("settimeofday", Refuses, libc::SYS_settimeofday, [0, 0, 0, 0]),
        ("mbind", Refuses, libc::SYS_mbind, [0, 0, 0, 0]),
        ("set_mempolicy", Refuses, libc::SYS_set_mempolicy, [0, 0, 0, 0]),
        ("move_pages", Refuses, libc::SYS_move_pages, [0, 0, 0, 0]),
        ("socket-vsock", Refuses, libc::SYS_socket, [40, libc::c_long::from(libc::SOCK_STREAM), 0, 0]),
        ("socket-alg", LetsThrough, libc::SYS_socket, [38, libc::c_long::from(libc::SOCK_SEQPACKET), 0, 0]),
        ("personality", Refuses, libc::SYS_personality, [0x0040_0000, 0, 0, 0]),
        ("terminal-input", Refuses, libc::SYS_ioctl, [0, 0x5412, 0, 0]),
    ]
}

/// Runs inside a container, started by [`system_calls_from_inside`]: prints the calls that were not refused.
#[test]
#[ignore = "makes sense in a container only"]
#[allow(unsafe_code, reason = "the arguments are invalid on purpose; none of the calls writes to memory")]
fn system_calls() {
    for (name, docker, number, [a, b, c, d]) in system_call_table() {
        // SAFETY: null pointers and invalid descriptors: the kernel refuses what it does not filter.
        let result = unsafe { libc::syscall(number, a, b, c, d, 0) };
        let error = std::io::Error::last_os_error().raw_os_error();
        // An ioctl on what is no terminal fails before anything else.
        let is_no_terminal = name == "terminal-input" && error == Some(libc::ENOTTY);
        let is_refused = result == -1 && matches!(error, Some(libc::EPERM | libc::ENOSYS));
        if !(is_refused || is_no_terminal) {
            println!("GOT-THROUGH {name} (Docker: {docker:?}): {result} {error:?}");
        }
    }
    println!("probed");
}

#[test]
fn system_calls_from_inside() {
    let world = World::new();
    let program = format!("{}:/probe:ro", std::env::current_exe().expect("a test knows its program").display());
    let answer = world.wharf(&[
        "docker",
        "run",
        "--rm",
        "-v",
        &program,
        "busybox",
        "/probe",
        "--exact",
        "probes::system_calls",
        "--ignored",
        "--nocapture",
    ]);
    assert!(answer.stdout.contains("probed"), "{}{}", answer.stdout, answer.stderr);
    assert!(!answer.stdout.contains("GOT-THROUGH"), "{}", answer.stdout);
    // The probe can tell: without the filter it does see calls get through.
    let answer = world.wharf(&[
        "docker",
        "run",
        "--rm",
        "--security-opt",
        "seccomp=unconfined",
        "-v",
        &program,
        "busybox",
        "/probe",
        "--exact",
        "probes::system_calls",
        "--ignored",
        "--nocapture",
    ]);
    assert!(answer.stdout.contains("GOT-THROUGH unshare-user"), "{}{}", answer.stdout, answer.stderr);
    world.expect_no_trace();
}

#[test]
fn hostile_images_lead_nowhere() {
    let world = World::new();
    let host = world.folder().join("host");
    std::fs::create_dir_all(host.join("etc")).expect("it can be made");
    std::fs::write(host.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("it can be written");
    // Folders that the start mounts on or writes to, as links to the host's.
    for name in ["dev", "proc", "sys", "etc", "tmp", "work"] {
        let image = world.folder().join(format!("image-{name}"));
        std::fs::create_dir_all(image.join("bin")).expect("it can be made");
        std::fs::copy("/bin/busybox", image.join("bin/busybox")).expect("busybox-static is installed");
        symlink("busybox", image.join("bin/sh")).expect("a link can be made");
        symlink(&host, image.join(name)).expect("a link can be made");
        let archive = world.folder().join(format!("{name}.tar"));
        let packed = std::process::Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&archive).arg(".").status();
        assert!(packed.expect("tar is there").success());
        world.ok(&["image", "import", &archive.to_string_lossy(), name]);
        let before = listing(&host);
        let answer = world.wharf(&[
            "docker",
            "run",
            "--rm",
            "-w",
            "/work/made",
            "-v",
            "v:/tmp/data",
            name,
            "sh",
            "-c",
            "echo x > /etc/made",
        ]);
        assert!(answer.code != 101, "{}", answer.stderr);
        assert_eq!(listing(&host), before, "{name}: {}", answer.stderr);
    }
    world.ok(&["docker", "volume", "prune", "-af"]);
    world.expect_no_trace();
}

/// Paths of all that is in a folder.
pub fn listing(folder: &std::path::Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        names.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            names.extend(listing(&entry.path()));
        }
    }
    names.sort();
    names
}

#[test]
fn who_and_what_is_run_is_read_strictly() {
    let world = World::new();
    for user in ["1000foo", "-1", "4294967296", "0x0", "1000:1000foo", "root:4294967295"] {
        let answer = world.wharf(&["docker", "run", "--rm", "-u", user, "busybox", "id"]);
        assert!(answer.code == 125 && !answer.stdout.contains("uid="), "{user}: {} {}", answer.code, answer.stdout);
    }
    for program in ["/proc/self/exe", "/proc/1/exe", "/proc/self/fd/3", "/dev/fd/4"] {
        let answer = world.wharf(&["docker", "run", "--rm", "--entrypoint", program, "busybox", "version"]);
        assert!(matches!(answer.code, 126 | 127), "{program}: {} {}", answer.code, answer.stdout);
    }
    for folder in ["/proc/self/fd/5", "/proc/self/fd/8/..", "/proc/1/root/../.."] {
        let script = "ls -d /proc/1/cwd/../../../../../../../var/tmp/wharf* ; pwd; cat ../../../../etc/hostname";
        let answer = world.wharf(&["docker", "run", "--rm", "-w", folder, "busybox", "sh", "-c", script]);
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        assert!(!answer.stdout.contains("wharf-e2e"), "{folder}: {}", answer.stdout);
        assert!(host.trim().is_empty() || !answer.stdout.contains(host.trim()), "{folder}: {}", answer.stdout);
    }
    for name in ["../x", "a/b", "-x", ".x", "a b", ""] {
        let answer = world.wharf(&["docker", "run", "--rm", &format!("--name={name}"), "busybox", "true"]);
        assert_eq!(answer.code, 125, "{name}: {}", answer.stderr);
    }
    world.expect_no_trace();
}

#[test]
fn the_callers_surroundings_stay_outside() {
    let world = World::new();
    let script = "env; umask; ulimit -n; ulimit -c; cat /proc/self/oom_score_adj; nice; grep -E 'SigIgn|SigBlk' /proc/self/status; \
                  ls -l /proc/self/fd; grep Cpus_allowed: /proc/self/status";
    let words = ["docker", "run", "--rm", "busybox", "sh", "-c", script];
    let quiet = world.wharf(&words).expect(0).stdout;
    // The same from a caller with an environment, limits, priority, signals, descriptors and an affinity of its own.
    let program = env!("CARGO_BIN_EXE_wharf");
    let loud = format!(
        "export SECRET=caller; umask 077; ulimit -S -n 100; ulimit -S -c 0; echo 500 > /proc/self/oom_score_adj; trap '' INT USR1; \
         exec 7</etc/passwd; exec nice -n 5 taskset 1 {program} \"$@\""
    );
    let mut command = world.command(&[]);
    let environment: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    let folder = command.get_current_dir().map(ToOwned::to_owned);
    command = std::process::Command::new("/bin/busybox");
    command.args(["sh", "-c", &loud, "sh"]).args(words).stdin(Stdio::null());
    for (key, value) in environment {
        command.env(key, value.unwrap_or_default());
    }
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("SECRET"), "{text}");
    let plain = |text: &str| -> Vec<String> {
        let is_own = |line: &&str| !line.starts_with("HOSTNAME=") && !line.starts_with("total");
        // Descriptors show their times.
        text.lines()
            .filter(is_own)
            .map(|line| line.rsplit("  ").next().unwrap_or(line).to_owned())
            .map(strip_times)
            .collect()
    };
    assert_eq!(plain(&text), plain(&quiet));
    world.expect_no_trace();
}

/// A line of `ls -l` without times and numbers of processes.
fn strip_times(line: String) -> String {
    match line.split_once(" -> ") {
        Some((before, after)) => {
            let number = before.rsplit(' ').next().unwrap_or_default();
            let target = after.rsplit('/').next().unwrap_or_default();
            format!("{number} -> {}", target.trim_end_matches(|c: char| c.is_ascii_digit()))
        }
        None => line,
    }
}
