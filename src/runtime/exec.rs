//! Starts a further process in a running container.
//!
//! ```text
//! caller: pidfd of the first process, user and terminal looked up below /proc/PID/root
//!         its children go to the container's PID namespace; clone3 (v2: into the group)
//! child:  joins the group (v1), one setns(pidfd) for all other namespaces, then as every process
//! ```
//! Nothing of ours is executed inside, and the child cannot be looked into before its program runs.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::child::{self, Ends};
use super::ids::Ids;
use super::launch::in_pid_namespace;
use super::plan::{Channels, EntryPlan, Names, ProcessPlan};
use super::process::{self as process_plan, OpenStdio};
use super::{Cgroup, Error, Prepared, Running, Stdio, root, running, user};
use crate::model::container::{ContainerSpec, Process, ProcessIdentity};
use crate::sys::process as sys_process;

/// The container that a process is started in.
#[derive(Debug)]
pub struct ExecTarget<'a> {
    /// Its first process.
    pub identity: ProcessIdentity,
    /// What it is: capabilities, seccomp, limits and defaults come from it.
    pub spec: &'a ContainerSpec,
    /// Its control group.
    pub cgroup: &'a Cgroup,
}

/// Every namespace but that of PIDs, which clone3 gives.
pub(super) const NAMESPACES: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET | libc::CLONE_NEWCGROUP;

/// Starts `process` inside `target` and returns when its program runs, as a child of the caller.
///
/// `process.env` is complete (the container's and exec's own); HOME, PATH and TERM get their defaults here. An
/// empty `user` or `cwd` is the container's. `privileged` gives it all capabilities and no seccomp filter. Errors: a
/// paused or ended container; those of [`super::Prepared::start`].
pub fn exec(target: &ExecTarget<'_>, process: &Process, privileged: bool, stdio: Stdio) -> Result<Running, Error> {
    let not_running = Error::NotRunning { pid: target.identity.pid };
    if running::identify(target.identity).is_none() {
        return Err(not_running);
    }
    if target.cgroup.is_frozen() {
        // It would wait for ever, and so would we.
        return Err(Error::Paused);
    }
    let process = complete(process, &target.spec.process);
    let root = open_root(target.identity)?;
    let user = user::resolve(root.as_fd(), &process.user, &process.additional_groups)?;
    let opened = open_stdio(&stdio, &root)?;
    let (uids, gids) = (&target.spec.uid_maps, &target.spec.gid_maps);
    let kinds = if uids.is_empty() { NAMESPACES } else { NAMESPACES | libc::CLONE_NEWUSER };
    if !uids.is_empty() {
        let uid = Ids::check_in(uids, gids, &user)?;
        process_plan::give_streams(&opened.plan, uid)?;
    }
    let (mut plan, names) = process_plan::plan(target.spec, &process, privileged, &user, opened.plan)?;
    // A container gets the folder that it is to work in; a mistyped one of a further process is an error.
    plan.makes_folder = false;
    let entry = EntryPlan::new(target.spec, target.cgroup)?;
    enter(target.identity, target.cgroup, kinds, &entry, &plan, names, opened.console)?.start()
}

/// Makes the process of `plan` beside the first one, in its namespaces of these `kinds`.
pub(super) fn enter(
    identity: ProcessIdentity,
    cgroup: &Cgroup,
    kinds: i32,
    entry: &EntryPlan,
    plan: &ProcessPlan,
    names: Names,
    console: Option<OwnedFd>,
) -> Result<Prepared, Error> {
    let Some(pidfd) = running::identify(identity) else { return Err(Error::NotRunning { pid: identity.pid }) };
    let channels = Channels::new()?;
    let ends = Ends {
        go: channels.go.as_fd(),
        wait: channels.wait.as_fd(),
        listen: channels.listen.as_fd(),
        report: channels.report.as_fd(),
    };
    let body = || child::join(entry, pidfd.as_fd(), kinds, plan, &ends);
    let namespace = running::namespace_of(identity, "pid")?;
    let clone = || sys_process::clone_process(0, cgroup.clone_target(), body);
    let child = in_pid_namespace(namespace.as_fd(), clone)?
        .map_err(|errno| Error::Step { step: "make a process in the container".into(), source: errno.into() })?;
    Prepared::new(child, channels, names, console)
}

/// `process` with what it leaves to the container's own.
fn complete(process: &Process, first: &Process) -> Process {
    let mut process = process.clone();
    if process.user.is_empty() {
        process.user.clone_from(&first.user);
    }
    if process.cwd.is_empty() {
        process.cwd.clone_from(&first.cwd);
    }
    if process.additional_groups.is_empty() {
        process.additional_groups.clone_from(&first.additional_groups);
    }
    process
}

/// Opens the root that the container's first process sees.
pub(super) fn open_root(identity: ProcessIdentity) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{}/root", identity.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::SRCH => Error::NotRunning { pid: identity.pid },
        _ => Error::Step { step: "open the root of the container".into(), source: errno.into() },
    })?;
    // The number was used after the handle was checked: is it still the same process?
    if running::identify(identity).is_none() {
        return Err(Error::NotRunning { pid: identity.pid });
    }
    Ok(root)
}

pub(super) fn open_stdio(stdio: &Stdio, root: &OwnedFd) -> Result<OpenStdio, Error> {
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => process_plan::open_pipes(stdin, stdout, stderr),
        Stdio::Terminal { rows, cols } => {
            let master = open_master(root)
                .map_err(|errno| Error::Step { step: super::error::OPEN_TERMINAL.into(), source: errno.into() })?;
            process_plan::open_terminal(master, *rows, *cols)
        }
    }
}

/// Opens a terminal of the container's devpts. What is at the path belongs to the container: it is checked by
/// handle to be that device on that file system before it is opened.
fn open_master(root: &OwnedFd) -> Result<OwnedFd, Errno> {
    /// DEVPTS_SUPER_MAGIC of `linux/magic.h`.
    const DEVPTS: i64 = 0x1cd1;
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let place = root::open_in_root(root.as_fd(), "/dev/pts/ptmx".as_ref(), flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&place)?;
    let is_master = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(5, 2)
        && rustix::fs::fstatfs(&place)?.f_type == DEVPTS;
    if !is_master {
        return Err(Errno::NODEV);
    }
    let again = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::fs::open(again, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
}
