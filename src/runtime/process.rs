//! Turns a process of the model into the child's [`ProcessPlan`]: user, environment, limits, filter, candidates.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use super::mounts::c_string;
use super::own_program::OwnProgram;
use super::plan::{Capabilities, EntryPlan, Names, ProcessPlan, StdioPlan, UMASK, above_stdio};
use super::user::User;
use super::{Cgroup, Error, apparmor, capability, seccomp};
use crate::model::container::{ContainerSpec, Process, Seccomp};
use crate::sys::process::StringVector;

/// PATH where neither image nor user say otherwise: Docker's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Resource limits of every container: those of a fresh system, not the caller's. A daemonless tool must say them,
/// or what somebody typed in a shell (`ulimit -n 64`) would be part of the container.
const LIMITS: [(&str, i32, u64, u64); 15] = [
    ("as", libc::RLIMIT_AS as i32, INFINITE, INFINITE),
    ("core", libc::RLIMIT_CORE as i32, 0, INFINITE),
    ("cpu", libc::RLIMIT_CPU as i32, INFINITE, INFINITE),
    ("data", libc::RLIMIT_DATA as i32, INFINITE, INFINITE),
    ("fsize", libc::RLIMIT_FSIZE as i32, INFINITE, INFINITE),
    ("locks", libc::RLIMIT_LOCKS as i32, INFINITE, INFINITE),
    ("memlock", libc::RLIMIT_MEMLOCK as i32, 8 << 20, 8 << 20),
    ("msgqueue", libc::RLIMIT_MSGQUEUE as i32, 819_200, 819_200),
    ("nice", libc::RLIMIT_NICE as i32, 0, 0),
    ("nofile", libc::RLIMIT_NOFILE as i32, 1024, 524_288),
    ("nproc", libc::RLIMIT_NPROC as i32, INFINITE, INFINITE),
    ("rss", libc::RLIMIT_RSS as i32, INFINITE, INFINITE),
    ("rtprio", libc::RLIMIT_RTPRIO as i32, 0, 0),
    ("rttime", libc::RLIMIT_RTTIME as i32, INFINITE, INFINITE),
    ("stack", libc::RLIMIT_STACK as i32, 8 << 20, INFINITE),
];
/// Only set when asked for: its default depends on the machine's memory.
const SIGPENDING: (&str, i32) = ("sigpending", libc::RLIMIT_SIGPENDING as i32);
const INFINITE: u64 = u64::MAX;

/// Standard streams that were opened: what the child gets, and the terminal's master.
pub(super) struct OpenStdio {
    pub plan: StdioPlan,
    pub console: Option<OwnedFd>,
}

/// Takes three open files as standard streams.
pub(super) fn open_pipes(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<OpenStdio, Error> {
    let copy = |file: &OwnedFd| {
        // Above the numbers that the child puts them on.
        rustix::io::fcntl_dupfd_cloexec(file, 3)
            .map_err(|errno| Error::Step { step: "duplicate a descriptor".into(), source: errno.into() })
    };
    Ok(OpenStdio { plan: StdioPlan::Pipes([copy(stdin)?, copy(stdout)?, copy(stderr)?]), console: None })
}

/// Takes the terminal of `master`, sized.
pub(super) fn open_terminal(master: OwnedFd, rows: u16, cols: u16) -> Result<OpenStdio, Error> {
    let refused =
        |errno: rustix::io::Errno| Error::Step { step: super::error::OPEN_TERMINAL.into(), source: errno.into() };
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::pty::unlockpt(&master).map_err(refused)?;
    rustix::termios::tcsetwinsize(&master, size).map_err(refused)?;
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).map_err(refused)?;
    let (master, slave) = (above_stdio(master)?, above_stdio(slave)?);
    Ok(OpenStdio { plan: StdioPlan::Terminal(slave), console: Some(master) })
}

/// Gives pipes and the terminal to a user of a user namespace, who cannot be given them from inside: they belong to
/// the host's root.
pub(super) fn give_streams(stdio: &StdioPlan, uid: u32) -> Result<(), Error> {
    let files = match stdio {
        StdioPlan::Pipes(files) => files.as_slice(),
        StdioPlan::Terminal(slave) => std::slice::from_ref(slave),
    };
    let is_terminal = matches!(stdio, StdioPlan::Terminal(_));
    files.iter().try_for_each(|file| super::child::own_stream(file.as_fd(), uid, is_terminal)).map_err(|errno| {
        Error::Step { step: "give the standard streams to the container's user".into(), source: errno.into() }
    })
}

impl EntryPlan {
    /// The first steps of a process of `spec` in `cgroup`.
    pub(super) fn new(spec: &ContainerSpec, cgroup: &Cgroup) -> Result<Self, Error> {
        let score = spec.resources.oom_score_adj.unwrap_or(0).clamp(-1000, 1000);
        Ok(Self { cgroups: cgroup.join_files()?, oom_score_adj: score.to_string().into_bytes() })
    }
}

/// Makes the plan of `process` as `user`; `privileged` lifts capabilities and seccomp.
pub(super) fn plan(
    spec: &ContainerSpec,
    process: &Process,
    privileged: bool,
    user: &User,
    stdio: StdioPlan,
) -> Result<(ProcessPlan, Names), Error> {
    let available = capability::available();
    let capabilities = if privileged { available } else { capability::of(&spec.security, available)? };
    let filter = if privileged || spec.security.privileged {
        match &spec.security.seccomp {
            // Docker: privileged lifts the default profile, not one that was asked for.
            profile @ Seccomp::Profile(_) if !privileged => seccomp::compile(profile, capabilities)?,
            _ => None,
        }
    } else {
        seccomp::compile(&spec.security.seccomp, capabilities)?
    };
    let environment = environment(spec, process, user);
    let limits = limits(spec)?;
    let program = process.args.first().cloned().unwrap_or_default();
    let names = Names {
        program: program.clone(),
        cwd: process.cwd.clone(),
        limits: limits.iter().map(|(name, ..)| name.clone()).collect(),
        ..Names::default()
    };
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    let plan = ProcessPlan {
        stdio,
        limits: limits.into_iter().map(|(_, resource, soft, hard)| (resource, soft, hard)).collect(),
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.iter().map(|gid| rustix::fs::Gid::from_raw(*gid)).collect(),
        capabilities: Capabilities::of_user(user.uid, capabilities.0),
        no_new_privileges: spec.security.no_new_privileges && !privileged,
        umask: UMASK,
        preserved: 0,
        personality: None,
        io_priority: None,
        schedule: None,
        profile: apparmor::of(&spec.security, privileged)?,
        dies_with_parent: false,
        filter,
        filter_flags: 0,
        makes_folder: true,
        cwd: c_string(cwd)?,
        candidates: candidates(&program, &environment)?,
        own_program: OwnProgram::find()
            .map_err(|errno| Error::Step { step: "look at /proc/self/exe".to_owned(), source: errno.into() })?,
        arguments: vector(&process.args)?,
        environment: vector(&environment)?,
    };
    Ok((plan, names))
}

pub(super) fn vector(strings: &[String]) -> Result<StringVector, Error> {
    Ok(StringVector::new(strings.iter().map(|string| c_string(string)).collect::<Result<_, _>>()?))
}

/// `process.env` with defaults below it; of two entries with one key the last wins, one without `=` is none.
pub(super) fn environment(spec: &ContainerSpec, process: &Process, user: &User) -> Vec<String> {
    let mut entries: Vec<(&str, &str)> = vec![("PATH", PATH), ("HOSTNAME", &spec.hostname)];
    if process.terminal {
        entries.push(("TERM", "xterm"));
    }
    for entry in &process.env {
        let Some((key, value)) = entry.split_once('=') else { continue };
        match entries.iter_mut().find(|(known, _)| *known == key) {
            Some(known) => known.1 = value,
            None => entries.push((key, value)),
        }
    }
    match entries.iter_mut().find(|(key, _)| *key == "HOME") {
        Some((_, home)) if home.is_empty() => *home = &user.home,
        Some(_) => {}
        None => entries.push(("HOME", &user.home)),
    }
    entries.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// The paths that `program` may be at: itself with a slash in it, else one in each folder of PATH.
pub(super) fn candidates(program: &str, environment: &[String]) -> Result<Vec<CString>, Error> {
    if program.is_empty() {
        return Ok(Vec::new());
    }
    if program.contains('/') {
        return Ok(vec![c_string(program)?]);
    }
    let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(PATH);
    path.split(':')
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| c_string(&format!("{folder}/{program}")))
        .collect()
}

/// Whether `name` is a resource limit that a container can be given.
pub fn is_limit(name: &str) -> bool {
    LIMITS.iter().any(|(known, ..)| *known == name) || SIGPENDING.0 == name
}

type Limit = (String, i32, u64, u64);

fn limits(spec: &ContainerSpec) -> Result<Vec<Limit>, Error> {
    let mut limits: Vec<Limit> =
        LIMITS.iter().map(|(name, resource, soft, hard)| ((*name).to_owned(), *resource, *soft, *hard)).collect();
    for (name, (soft, hard)) in &spec.ulimits {
        let resource = limit_number(name)?;
        let number = |limit: i64| u64::try_from(limit).unwrap_or(INFINITE);
        limits.retain(|(known, ..)| known != name);
        limits.push((name.clone(), resource, number(*soft), number(*hard)));
    }
    Ok(limits)
}

/// `RLIMIT_*` of a name. Errors: no kernel has it.
pub(super) fn limit_number(name: &str) -> Result<i32, Error> {
    let mut known = LIMITS.iter().map(|(name, resource, ..)| (*name, *resource)).chain([SIGPENDING]);
    let found = known.find(|(known, _)| *known == name);
    found.map(|(_, resource)| resource).ok_or_else(|| Error::Unknown { kind: "resource limit", name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_in_absolute_folders() {
        let check = |program: &str, path: &str| {
            let found = candidates(program, &[format!("PATH={path}")]).unwrap();
            found.into_iter().map(|path| path.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(check("sh", "/bin:relative::/usr/bin"), ["/bin/sh", "/usr/bin/sh"]);
        assert_eq!(check("./sh", "/bin"), ["./sh"]);
        assert!(check("", "/bin").is_empty());
    }
}
