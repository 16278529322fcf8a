//! The programs, run by an interpreter of their own against what the rules say.

use super::*;
use crate::runtime::capability::DEFAULT;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const EPERM: u32 = fail(libc::EPERM);
const ENOSYS: u32 = fail(libc::ENOSYS);

/// Runs a program on one system call. Source: <https://docs.kernel.org/networking/filter.html>.
fn run(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend([0; 8]);
    arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut accumulator, mut position) = (0u32, 0usize);
    loop {
        let step = filter.0[position];
        position += 1;
        let mut branch = |holds: bool| position += usize::from(if holds { step.jt } else { step.jf });
        match step.code {
            0x20 => {
                let offset = step.k as usize;
                accumulator = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
            }
            0x54 => accumulator &= step.k,
            0x05 => position += step.k as usize,
            0x15 => branch(accumulator == step.k),
            0x25 => branch(accumulator > step.k),
            0x35 => branch(accumulator >= step.k),
            0x06 => return step.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}

fn default(capabilities: Set) -> Filter {
    compile(&Seccomp::Default, capabilities).unwrap().unwrap()
}

fn with(capability: &str) -> Filter {
    let number = crate::runtime::capability::number(capability).unwrap();
    default(Set(DEFAULT.0 | 1 << number))
}

fn json(text: &str) -> Filter {
    compile(&Seccomp::Profile(text.into()), DEFAULT).unwrap().unwrap()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_table_is_sorted_and_has_the_kernels_numbers() {
    assert!(table::SYSCALLS.is_sorted_by(|a, b| a.0 < b.0));
    let check = |name: &str, number: i64| assert_eq!(i64::from(table::SYSCALLS[find(name).unwrap()].2), number);
    for (name, number) in [
        ("read", libc::SYS_read),
        ("clone3", libc::SYS_clone3),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("fchmodat2", libc::SYS_fchmodat2),
        ("mseal", libc::SYS_mseal),
        ("ptrace", libc::SYS_ptrace),
    ] {
        check(name, number);
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_call_gets_the_verdict_of_the_table() {
    let filter = default(DEFAULT);
    // Calls whose verdict depends on arguments or capabilities are tested below.
    let special = [
        "socket",
        "personality",
        "clone",
        "clone3",
        "chroot",
        "arch_prctl",
        "modify_ldt",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
    ];
    for row in table::SYSCALLS.iter().filter(|row| !special.contains(&row.0)) {
        for (architecture, number) in [(X86_64, row.2), (I386, row.3)] {
            if number != table::X {
                let verdict = run(&filter, architecture, number.into(), [0; 6]);
                let newest = number > 466;
                let expected = if row.1 {
                    ALLOW
                } else if newest {
                    ENOSYS
                } else {
                    EPERM
                };
                assert_eq!(verdict, expected, "{} ({architecture:#x})", row.0);
            }
        }
    }
    for number in [600, 0x4000_0000, 0x4000_0000 + 1, u32::MAX] {
        assert_eq!(run(&filter, X86_64, number, [0; 6]), ENOSYS, "{number:#x}");
    }
    // 100 is times, which is in; 222 and 223 have never been anything on i386.
    assert_eq!(run(&filter, I386, 223, [0; 6]), EPERM);
    assert_eq!(run(&filter, 0xc000_00b7, 0, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn arguments_decide() {
    let filter = default(DEFAULT);
    let first = |number: i64, value: u64| run(&filter, X86_64, number as u32, [value, 0, 0, 0, 0, 0]);
    for (family, verdict) in [
        (0, ALLOW),
        (2, ALLOW),
        (37, ALLOW),
        (38, EPERM),
        (39, ALLOW),
        (40, EPERM),
        (41, ALLOW),
        (1 << 32, ALLOW),
        ((1 << 32) + 38, ALLOW),
        (u64::MAX, ALLOW),
    ] {
        assert_eq!(first(libc::SYS_socket, family), verdict, "{family}");
    }
    for (persona, verdict) in
        [(0, ALLOW), (8, ALLOW), (0x20008, ALLOW), (0xffff_ffff, ALLOW), (1, EPERM), (0x40000, EPERM), (1 << 32, EPERM)]
    {
        assert_eq!(first(libc::SYS_personality, persona), verdict, "{persona:#x}");
    }
    assert_eq!(first(libc::SYS_clone, libc::SIGCHLD as u64), ALLOW);
    for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWCGROUP] {
        assert_eq!(first(libc::SYS_clone, flag as u64), EPERM);
    }
    assert_eq!(first(libc::SYS_clone3, 0), ENOSYS);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn capabilities_decide() {
    let check = |capability: &str, number: i64| {
        let before = run(&default(DEFAULT), X86_64, number as u32, [u64::from(u32::MAX); 6]);
        let after = run(&with(capability), X86_64, number as u32, [u64::from(u32::MAX); 6]);
        assert_ne!(before, ALLOW, "{capability}");
        assert_eq!(after, ALLOW, "{capability}");
    };
    check("SYS_ADMIN", libc::SYS_mount);
    check("SYS_ADMIN", libc::SYS_clone);
    check("SYS_ADMIN", libc::SYS_clone3);
    check("SYS_MODULE", libc::SYS_init_module);
    check("SYS_TIME", libc::SYS_settimeofday);
    check("SYSLOG", libc::SYS_syslog);
    check("DAC_READ_SEARCH", libc::SYS_open_by_handle_at);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_comparison() {
    let values = [
        0u64,
        1,
        5,
        6,
        7,
        u64::from(u32::MAX),
        1 << 32,
        (1 << 32) + 5,
        (1 << 32) + 6,
        (1 << 32) + 7,
        (2 << 32) + 6,
        u64::MAX,
    ];
    type Holds = fn(u64, u64) -> bool;
    let comparisons: [(&str, Holds); 6] = [
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
    ];
    for (operation, holds) in comparisons {
        for value in values {
            let filter = json(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                    {{"names":["read","write"],"action":"SCMP_ACT_ALLOW","args":[
                        {{"index":1,"value":7,"op":"SCMP_CMP_EQ"}},
                        {{"index":2,"value":{value},"op":"SCMP_CMP_{operation}"}}]}},
                    {{"name":"read","action":"SCMP_ACT_TRAP","args":[{{"index":1,"value":9,"op":"SCMP_CMP_EQ"}}]}}]}}"#
            ));
            for argument in values {
                let verdict = |second| run(&filter, X86_64, 0, [0, second, argument, 0, 0, 0]);
                assert_eq!(verdict(7) == ALLOW, holds(argument, value), "{argument:#x} {operation} {value:#x}");
                assert_eq!(verdict(8), EPERM);
                assert_eq!(verdict(9), libc::SECCOMP_RET_TRAP);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn profiles_of_users() {
    let filter = json(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[
            {"names":["mkdir","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":22,"args":null},
            {"names":["chmod"],"action":"SCMP_ACT_KILL","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["chown"],"action":"SCMP_ACT_KILL","excludes":{"arches":["amd64"]}},
            {"names":["link"],"action":"SCMP_ACT_LOG","includes":{"minKernel":"999.1"}},
            {"names":["dup2"],"action":"SCMP_ACT_ERRNO","args":[
                {"index":0,"value":255,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"},
                {"index":0,"value":7,"op":"SCMP_CMP_EQ"}]}]}"#,
    );
    let verdict = |number: i64, first| run(&filter, X86_64, number as u32, [first, 0, 0, 0, 0, 0]);
    assert_eq!(verdict(libc::SYS_mkdir, 0), fail(22));
    for number in [libc::SYS_chmod, libc::SYS_chown, libc::SYS_link, 5000] {
        assert_eq!(verdict(number, 0), ALLOW, "{number}");
    }
    for (first, expected) in [(2, EPERM), (0x102, EPERM), (7, EPERM), (3, ALLOW)] {
        assert_eq!(verdict(libc::SYS_dup2, first), expected, "{first}");
    }
    assert_eq!(run(&filter, I386, 39, [0; 6]), fail(22), "mkdir of i386");
    for (text, message) in [
        ("{", "the seccomp profile is malformed"),
        (r#"{"defaultAction":"SCMP_ACT_NOTHING"}"#, "`SCMP_ACT_NOTHING` is not a seccomp action"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"read","action":"SCMP_ACT_KILL","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            "`6` is not a system call argument",
        ),
    ] {
        assert_eq!(compile(&Seccomp::Profile(text.into()), DEFAULT).unwrap_err().to_string(), message);
    }
}

#[test]
fn the_program_is_small() {
    assert_eq!(compile(&Seccomp::Unconfined, DEFAULT).unwrap(), None);
    let length = default(DEFAULT).0.len();
    assert!(length < 600, "{length} instructions");
}
