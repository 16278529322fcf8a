//! A process of a bundle as the child's plan.

use std::os::fd::BorrowedFd;

use super::config::{Config, IoPriority, Personality, Process, Scheduler};
use super::{Error, refused};
use crate::model::container::Seccomp;
use crate::runtime::mounts::c_string;
use crate::runtime::own_program::OwnProgram;
use crate::runtime::plan::{Capabilities, Names, ProcessPlan, StdioPlan, UMASK};
use crate::runtime::process::{candidates, limit_number, vector};
use crate::runtime::{apparmor, capability, seccomp, user};
use crate::sys::process::Schedule;

/// The plan of `process`, which enters `root` (where its home is looked up) and gets `preserved` more descriptors.
pub(super) fn plan(
    config: &Config,
    process: &Process,
    root: BorrowedFd<'_>,
    stdio: StdioPlan,
    preserved: u32,
) -> Result<ProcessPlan, Error> {
    check(process)?;
    let capabilities = capabilities(process);
    let filter = match &config.linux.seccomp {
        Some(profile) => {
            seccomp::compile(&Seccomp::Profile(profile.to_string()), capability::Set(capabilities.bounding))?
        }
        None => None,
    };
    let environment = environment(process, root)?;
    let program = process.args.first().cloned().unwrap_or_default();
    Ok(ProcessPlan {
        stdio,
        limits: limits(process)?,
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids.iter().map(|gid| rustix::fs::Gid::from_raw(*gid)).collect(),
        capabilities,
        no_new_privileges: process.no_new_privileges,
        umask: process.user.umask.unwrap_or(UMASK),
        preserved,
        personality: config.linux.personality.as_ref().map(domain).transpose()?,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        schedule: process.scheduler.as_ref().map(schedule).transpose()?,
        profile: apparmor::wish(Some(process.apparmor_profile.as_str()).filter(|name| !name.is_empty()))?,
        dies_with_parent: false,
        filter,
        filter_flags: filter_flags(config)?,
        makes_folder: true,
        cwd: c_string(&process.cwd)?,
        candidates: candidates(&program, &environment)?,
        own_program: OwnProgram::find().map_err(|errno| crate::runtime::Error::Step {
            step: "look at /proc/self/exe".to_owned(),
            source: errno.into(),
        })?,
        arguments: vector(&process.args)?,
        environment: vector(&environment)?,
    })
}

/// The words for what the process's numbers in a failure mean.
pub(super) fn names(process: &Process) -> Names {
    Names {
        program: process.args.first().cloned().unwrap_or_default(),
        cwd: process.cwd.clone(),
        limits: process.rlimits.iter().map(|limit| limit.kind.clone()).collect(),
        ..Names::default()
    }
}

fn check(process: &Process) -> Result<(), Error> {
    if process.args.is_empty() {
        return refused("process.args", "there is no program to run");
    }
    if !process.cwd.starts_with('/') {
        return refused("process.cwd", &format!("`{}` is not an absolute path", process.cwd));
    }
    Ok(())
}

/// The sets by name. As the specification has it, what this kernel does not know, or this process may not hand on, is
/// left out.
fn capabilities(process: &Process) -> Capabilities {
    let available = capability::available();
    let set = |names: &[String]| {
        let numbers = names.iter().filter_map(|name| capability::number(name));
        numbers.fold(0u64, |set, number| set | 1 << number) & available.0
    };
    let sets = &process.capabilities;
    Capabilities {
        bounding: set(&sets.bounding),
        permitted: set(&sets.permitted),
        effective: set(&sets.effective),
        inheritable: set(&sets.inheritable),
        ambient: set(&sets.ambient),
    }
}

/// The environment as it is, with HOME where it has none.
fn environment(process: &Process, root: BorrowedFd<'_>) -> Result<Vec<String>, Error> {
    let mut environment = process.env.clone();
    if !environment.iter().any(|entry| entry.starts_with("HOME=")) {
        let user = user::resolve(root, &process.user.uid.to_string(), &[])?;
        environment.push(format!("HOME={}", user.home));
    }
    Ok(environment)
}

fn limits(process: &Process) -> Result<Vec<(i32, u64, u64)>, Error> {
    let mut limits: Vec<(i32, u64, u64)> = Vec::new();
    for limit in &process.rlimits {
        let name = limit.kind.strip_prefix("RLIMIT_").map(str::to_ascii_lowercase).unwrap_or_default();
        let number = limit_number(&name)
            .or_else(|_| refused("process.rlimits", &format!("`{}` is not a resource limit", limit.kind)))?;
        if limits.iter().any(|(known, ..)| *known == number) {
            return refused("process.rlimits", &format!("`{}` is given twice", limit.kind));
        }
        limits.push((number, limit.soft, limit.hard));
    }
    Ok(limits)
}

fn domain(personality: &Personality) -> Result<u64, Error> {
    if let Some(flag) = personality.flags.first() {
        return refused("linux.personality.flags", &format!("`{flag}` is not supported"));
    }
    match personality.domain.as_str() {
        "LINUX" => Ok(0),
        // PER_LINUX32 of linux/personality.h.
        "LINUX32" => Ok(8),
        other => refused("linux.personality.domain", &format!("`{other}` is neither LINUX nor LINUX32")),
    }
}

fn io_priority(wish: &IoPriority) -> Result<i32, Error> {
    let class = match wish.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return refused("process.ioPriority.class", &format!("`{other}` is not a class")),
    };
    if !(0..8).contains(&wish.priority) {
        return refused("process.ioPriority.priority", &format!("{} is not from 0 to 7", wish.priority));
    }
    // IOPRIO_PRIO_VALUE of linux/ioprio.h.
    Ok(class << 13 | wish.priority)
}

/// SCHED_* of linux/sched.h.
const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
/// SCHED_FLAG_* of linux/sched.h.
const SCHEDULE_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 1),
    ("SCHED_FLAG_RECLAIM", 2),
    ("SCHED_FLAG_DL_OVERRUN", 4),
    ("SCHED_FLAG_KEEP_POLICY", 8),
    ("SCHED_FLAG_KEEP_PARAMS", 16),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 32),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 64),
];

fn schedule(wish: &Scheduler) -> Result<Schedule, Error> {
    let Some((_, policy)) = POLICIES.into_iter().find(|(name, _)| *name == wish.policy) else {
        return refused("process.scheduler.policy", &format!("`{}` is not a policy", wish.policy));
    };
    let mut flags = 0;
    for wished in &wish.flags {
        match SCHEDULE_FLAGS.into_iter().find(|(name, _)| name == wished) {
            Some((_, bit)) => flags |= bit,
            None => return refused("process.scheduler.flags", &format!("`{wished}` is not a flag")),
        }
    }
    Ok(Schedule {
        policy,
        flags,
        nice: wish.nice,
        priority: wish.priority,
        runtime_ns: wish.runtime,
        deadline_ns: wish.deadline,
        period_ns: wish.period,
        ..Schedule::default()
    })
}

/// SECCOMP_FILTER_FLAG_* of linux/seccomp.h. One thread is always in step with itself.
fn filter_flags(config: &Config) -> Result<u64, Error> {
    let listed = config.linux.seccomp.as_ref().and_then(|profile| profile.get("flags")?.as_array());
    let mut flags = 0;
    for flag in listed.into_iter().flatten() {
        flags |= match flag.as_str().unwrap_or_default() {
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            other => return refused("linux.seccomp.flags", &format!("`{other}` is not supported")),
        };
    }
    Ok(flags)
}
