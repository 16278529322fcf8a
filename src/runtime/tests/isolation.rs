//! What a container cannot see or do, and what it shares when told to.

use super::*;
use crate::base::id::ContainerId;
use crate::model::container::NamespaceMode;

fn namespaces(script_of_process: &str) -> String {
    ["mnt", "pid", "net", "ipc", "uts", "cgroup"]
        .map(|kind| std::fs::read_link(format!("/proc/{script_of_process}/ns/{kind}")).unwrap().display().to_string())
        .join("\n")
}

#[test]
fn every_namespace_is_its_own() {
    let output =
        Bench::shell("for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; hostname").output();
    for (inside, outside) in output.lines().zip(namespaces("self").lines()) {
        assert_ne!(inside, outside);
    }
    assert!(output.ends_with("box\n"));
}

#[test]
fn namespaces_of_the_host() {
    let mut bench =
        Bench::shell("for n in pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; ls /dev/shm | wc -l");
    let security = &mut bench.spec.security;
    (security.pid, security.ipc, security.uts, security.cgroup) =
        (NamespaceMode::Host, NamespaceMode::Host, NamespaceMode::Host, NamespaceMode::Host);
    bench.net = NetNamespace::Host;
    let output = bench.output();
    for (inside, outside) in output.lines().zip(namespaces("self").lines().skip(1)) {
        assert_eq!(inside, outside);
    }
}

#[test]
fn namespaces_of_another_container() {
    let mut first = Bench::shell("echo x > /dev/shm/shared; hostname first; echo; exec sleep 100");
    let first_cgroup = first.cgroup();
    first.spec.security.cap_add = vec!["SYS_ADMIN".into()];
    let (running, read) = first.start(&first_cgroup);
    std::fs::File::from(read.try_clone().unwrap()).read_exact(&mut [0]).unwrap();
    let mut second = Bench::shell(
        "for n in pid net ipc uts; do readlink /proc/self/ns/$n; done; hostname; cat /dev/shm/shared; cat /proc/1/comm; echo $$",
    );
    let other = NamespaceMode::Container(ContainerId::random());
    let security = &mut second.spec.security;
    (security.pid, security.ipc, security.uts) = (other.clone(), other.clone(), other);
    second.net = NetNamespace::Join(namespace_of(running.identity, "net").unwrap());
    let identity = Some(running.identity);
    second.joins = Joins { pid: identity, ipc: identity, uts: identity, user: None };
    let output = second.output();
    let theirs = namespaces(&running.identity.pid.to_string());
    let expected: Vec<&str> = theirs.lines().skip(1).take(4).collect();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..4], expected[..]);
    assert_eq!(lines[4..7], ["first", "x", "sleep"]);
    assert_ne!(lines[7], "1");
    // This process itself is where it was.
    let own = std::fs::read_link("/proc/self/ns/pid_for_children").unwrap();
    assert_eq!(own, std::fs::read_link("/proc/self/ns/pid").unwrap());
    running.signal(libc::SIGKILL).unwrap();
    assert_eq!(running.wait().unwrap(), ExitStatus { code: 137, signal: Some(9) });
    first_cgroup.remove().unwrap();
    drop(first);
    assert!(matches!(namespace_of(running.identity, "net"), Err(Error::NotRunning { .. })));
}

#[test]
fn no_descriptor_leaks_in() {
    // A descriptor that is inherited by programs, as a careless caller has them.
    let leak = std::fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    // ls has its own descriptor of the folder it lists: the fourth.
    for init in [false, true] {
        let mut bench = Bench::new(&["ls", "/proc/self/fd"]);
        bench.spec.init = init;
        assert_eq!(bench.output(), "0\n1\n2\n3\n");
    }
}

#[test]
fn masked_and_protected_paths() {
    let script = "for f in keys timer_list interrupts; do wc -c < /proc/$f; done; ls /sys/firmware; ls /proc/acpi; \
                  echo x > /proc/sys/kernel/core_pattern; echo x > /proc/irq/default_smp_affinity; \
                  echo x > /sys/power/state; mount -t tmpfs x /tmp; umount /proc";
    let outcome = Bench::shell(script).run().unwrap();
    assert_eq!(
        outcome.output,
        "0\n0\n0\nsh: can't create /proc/sys/kernel/core_pattern: Read-only file system\n\
         sh: can't create /proc/irq/default_smp_affinity: Read-only file system\n\
         sh: can't create /sys/power/state: Read-only file system\nmount: permission denied (are you root?)\n\
         umount: can't unmount /proc: Operation not permitted\n"
    );
    for (privileged, unmasked) in [(true, false), (false, true)] {
        let mut bench = Bench::shell("grep -E ' /(proc|sys/firmware)' /proc/self/mounts | wc -l");
        (bench.spec.security.privileged, bench.spec.security.unmasked) = (privileged, unmasked);
        assert_eq!(bench.output(), "1\n");
    }
}

#[test]
fn privileged_has_what_there_is() {
    let mut bench =
        Bench::shell("grep -E 'Cap(Eff|Bnd)|NoNew|Seccomp:' /proc/self/status; ls /dev/loop-control /dev/mem");
    bench.spec.security.privileged = true;
    let all = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = all.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap().to_owned();
    let outcome = bench.run().unwrap();
    let expected = format!("CapEff:\t{all}\nCapBnd:\t{all}\nNoNewPrivs:\t0\nSeccomp:\t0\n");
    assert!(outcome.output.starts_with(&expected), "{}", outcome.output);
    assert_eq!(outcome.output.contains("/dev/mem\n"), Path::new("/dev/mem").exists());
}

#[test]
fn sysctls() {
    let mut bench = Bench::shell(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
    );
    bench.spec.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
    bench.spec.sysctls.insert("kernel.msgmax".into(), "4096".into());
    assert_eq!(bench.output(), "0\n1\n4096\n");
    let mut bench = Bench::new(&["true"]);
    bench.spec.sysctls.insert("net.ipv4.no_such".into(), "1".into());
    assert_eq!(bench.run().unwrap_err().to_string(), "cannot set the kernel parameter `net.ipv4.no_such`");
}

#[test]
fn loopback_is_up_and_the_caller_can_furnish_the_network() {
    let mut bench = Bench::shell("ip addr show lo");
    let cgroup = bench.cgroup();
    let (prepared, read) = bench.prepare(&cgroup).unwrap();
    let namespace = prepared.net_namespace().unwrap();
    let kind = rustix::fs::fstatfs(&namespace).unwrap().f_type;
    assert_eq!(kind, 0x6e73_6673, "a file of nsfs");
    let running = prepared.start().unwrap();
    let output = read_all(read);
    assert!(output.contains("UP,LOWER_UP") && output.contains("127.0.0.1/8"), "{output}");
    assert_eq!(running.wait().unwrap().code, 0);
    cgroup.remove().unwrap();
}

#[test]
fn devices_are_refused_and_mapped() {
    // /dev/loop-control: 10:237. Its node can be made, but not opened.
    let script = "mknod /k c 10 237 && head -c 0 /k; ls /dev/mapped && head -c 0 /dev/mapped && echo ok";
    let outcome = Bench::shell(script).run().unwrap();
    assert!(outcome.output.contains("/k: Operation not permitted") && outcome.code != 0, "{}", outcome.output);
    let mut bench = Bench::shell(script);
    bench.spec.security.devices = vec![crate::model::container::DeviceMapping {
        source: "/dev/loop-control".into(),
        target: "/dev/mapped".into(),
        permissions: "r".into(),
    }];
    let outcome = bench.run().unwrap();
    assert!(outcome.output.ends_with("/dev/mapped\nok\n"), "{}", outcome.output);
}

#[test]
fn no_new_privileges() {
    let mut bench = Bench::new(&["grep", "NoNewPrivs", "/proc/self/status"]);
    bench.spec.security.no_new_privileges = true;
    assert_eq!(bench.output(), "NoNewPrivs:\t1\n");
    assert_eq!(Bench::new(&["grep", "NoNewPrivs", "/proc/self/status"]).output(), "NoNewPrivs:\t0\n");
}

#[test]
fn nothing_is_left_on_the_host() {
    let before = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mut bench = Bench::new(&["true"]);
    let cgroup = bench.cgroup();
    assert_eq!(bench.run_in(&cgroup).unwrap().code, 0);
    cgroup.remove().unwrap();
    let after = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert_eq!(before, after);
    let id = bench.spec.id.as_str();
    let folders = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    assert!(folders.into_iter().all(|folder| !folder.path().join(&bench.parent).join(id).exists()));
}

#[test]
fn system_calls_are_filtered() {
    let script =
        "grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp; busybox unshare -U true; busybox unshare -n true";
    let outcome = Bench::shell(script).run().unwrap();
    assert_eq!(
        outcome.output,
        "Seccomp:\t2\nmount: permission denied (are you root?)\nunshare: unshare(0x10000000): Operation not permitted\n\
         unshare: unshare(0x40000000): Operation not permitted\n"
    );
    for no_new_privileges in [false, true] {
        let mut bench = Bench::shell("mkdir /x; id -u");
        std::os::unix::fs::symlink("busybox", bench.root().join("bin/mkdir")).unwrap();
        bench.spec.security.seccomp = crate::model::container::Seccomp::Profile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":22}]}"#.into(),
        );
        bench.spec.security.no_new_privileges = no_new_privileges;
        bench.spec.process.user = "bob".into();
        assert_eq!(bench.output(), "mkdir: can't create directory '/x': Invalid argument\n1000\n");
    }
    let mut bench = Bench::new(&["grep", "Seccomp:", "/proc/self/status"]);
    bench.spec.security.seccomp = crate::model::container::Seccomp::Unconfined;
    assert_eq!(bench.output(), "Seccomp:\t0\n");
}
