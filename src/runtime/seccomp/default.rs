//! Docker's default profile: what is always allowed stands in the table, what depends on something stands here.
//!
//! Source: the facts of `seccomp/default.json` of github.com/moby/profiles, as of 2026-08.

use super::super::capability::{self, Set};
use super::{ALLOW, Comparison, Condition, Rule, Rules, fail, find, kernel_is_at_least, table};

/// System calls that a capability allows.
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("SYS_BOOT", &["reboot"]),
    ("SYS_CHROOT", &["chroot"]),
    ("SYS_MODULE", &["delete_module", "init_module", "finit_module"]),
    ("SYS_PACCT", &["acct"]),
    ("SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"]),
    ("SYS_RAWIO", &["iopl", "ioperm"]),
    ("SYS_TIME", &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    ("SYS_TTY_CONFIG", &["vhangup"]),
    ("SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("SYSLOG", &["syslog"]),
    ("BPF", &["bpf"]),
    ("PERFMON", &["perf_event_open"]),
];

/// Values of personality(2) that change nothing dangerous: Linux, Linux32, both with UNAME26, and asking.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// CLONE_NEW* bits of clone(2) that make a namespace.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Address families of socket(2) that reach kernel code without namespaces: the kernel's cryptography and VMs.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// The rules for a process with `capabilities`.
pub(super) fn rules(capabilities: Set) -> Rules {
    let mut list = List(Vec::with_capacity(420));
    for (call, row) in table::SYSCALLS.iter().enumerate() {
        if row.1 {
            list.0.push(Rule { call, verdict: ALLOW, conditions: Vec::new() });
        }
    }
    if kernel_is_at_least(4, 8) {
        list.allow(&["process_vm_readv", "process_vm_writev", "ptrace"]);
    }
    use Comparison::{Equal, Greater, Less, MaskedEqual};
    for (comparison, value) in [(Less, AF_ALG), (Equal, AF_ALG + 1), (Greater, AF_VSOCK)] {
        list.when("socket", Condition { argument: 0, comparison, value });
    }
    for value in PERSONALITIES {
        list.when("personality", Condition { argument: 0, comparison: Equal, value });
    }
    if cfg!(target_arch = "x86_64") {
        list.allow(&["arch_prctl", "modify_ldt"]);
    }
    for (name, calls) in BY_CAPABILITY {
        if capability::number(name).is_some_and(|number| capabilities.contains(number)) {
            list.allow(calls);
        }
    }
    if !capability::number("SYS_ADMIN").is_some_and(|number| capabilities.contains(number)) {
        let comparison = MaskedEqual(NEW_NAMESPACES);
        list.when("clone", Condition { argument: 0, comparison, value: 0 });
        // Its flags lie in memory, where a filter cannot look: programs fall back to clone.
        list.push("clone3", fail(libc::ENOSYS), Vec::new());
    }
    Rules { default: fail(libc::EPERM), compat: cfg!(target_arch = "x86_64"), rules: list.0 }
}

struct List(Vec<Rule>);

impl List {
    fn push(&mut self, name: &str, verdict: u32, conditions: Vec<Condition>) {
        // A call that is not in the table is one that this architecture does not have.
        self.0.extend(find(name).map(|call| Rule { call, verdict, conditions }));
    }

    fn allow(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.push(name, ALLOW, Vec::new()));
    }

    fn when(&mut self, name: &str, condition: Condition) {
        self.push(name, ALLOW, vec![condition]);
    }
}
