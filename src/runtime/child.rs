//! What a cloned child does until it is the user's program: system calls in a fixed order, nothing else.
//!
//! ```text
//! first process                                   exec
//!   reset signals, umask, session, scheduling       the same
//!   join the control group                          the same
//!   namespaces: cgroup, keyring, joins              one setns of all
//!   host name
//!   mounts, nodes, files                            (staged: tells, waits)
//!   pivot_root, loopback, masks
//!   wait for "go"                                   (staged: looks for the program, tells before)
//!   sysctls; init stays here, its child goes on
//!   stdio, limits, no_new_privs, bounding set, user, seccomp, capabilities, close all, execve
//! ```
//! Invariants: nothing allocates, locks or panics (the parent may have had threads at the clone); no descriptor of
//! the host survives into the program; every path inside is resolved from a handle of the root.
//!
//! Source: the order is that of runc's init, for its reasons; credentials(7), pivot_root(2).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, UnmountFlags};

use super::plan::{
    Below, CREATED, EntryPlan, Failure, LaunchPlan, MOUNTED, MountAction, NewMount, ProcessPlan, READY, Stage,
    StdioPlan, SystemPath,
};
use super::root::{Wanted, make, open_beneath};
use super::{capability, init};
use crate::sys::{self, mount, process, security};

/// The program is there, and what its first line or its header names is not. execve(2) has one answer for both.
pub(super) const INTERPRETER_MISSING: Errno = Errno::LIBACC;

/// Exit code of a child that failed before its program; nobody but a debugger sees it.
const FAILED: i32 = 125;

type Outcome<T> = Result<T, Failure>;

/// Names the stage of a failed call.
trait At<T> {
    fn at(self, stage: Stage, index: usize) -> Outcome<T>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, stage: Stage, index: usize) -> Outcome<T> {
        self.map_err(|errno| Failure { stage, index: index as u32, errno })
    }
}

/// The child's ends of the channels, and the parent's that it must not hold.
pub(super) struct Ends<'a> {
    pub go: BorrowedFd<'a>,
    pub wait: BorrowedFd<'a>,
    pub listen: BorrowedFd<'a>,
    pub report: BorrowedFd<'a>,
}

/// Runs the child of a launch; its result is the exit code when the program could not be executed.
pub(super) fn launch(plan: &LaunchPlan, ends: &Ends<'_>) -> i32 {
    end(launch_steps(plan, ends), ends)
}

/// Runs the child of an exec into the namespaces `kinds` of `target`.
pub(super) fn join(entry: &EntryPlan, target: BorrowedFd<'_>, kinds: i32, plan: &ProcessPlan, ends: &Ends<'_>) -> i32 {
    end(join_steps(entry, target, kinds, plan, ends), ends)
}

fn end(outcome: Outcome<std::convert::Infallible>, ends: &Ends<'_>) -> i32 {
    let Err(failure) = outcome;
    report(ends.report, &failure.to_bytes());
    FAILED
}

/// Writes to the parent. Twelve bytes are written to a pipe at once or not at all; a parent that is gone reads
/// nothing, which changes nothing here.
fn report(pipe: BorrowedFd<'_>, bytes: &[u8]) {
    while rustix::io::write(pipe, bytes) == Err(Errno::INTR) {}
}

fn join_steps(
    entry: &EntryPlan,
    target: BorrowedFd<'_>,
    kinds: i32,
    plan: &ProcessPlan,
    ends: &Ends<'_>,
) -> Outcome<std::convert::Infallible> {
    let host_proc = enter(entry, plan, ends)?;
    security::new_session_keyring().or_else(without_support).at(Stage::Keyring, 0)?;
    if kinds & libc::CLONE_NEWUSER != 0 {
        process::raise_hard_limits(plan.limits.iter().map(|(resource, _, hard)| (*resource, *hard)));
    }
    process::set_namespace(target, kinds).at(Stage::Join, 0)?;
    if kinds & libc::CLONE_NEWUSER != 0 {
        become_root().at(Stage::User, 0)?;
    }
    let root = open_path(c"/").at(Stage::Join, 0)?;
    execute(plan, root.as_fd(), host_proc.as_ref(), ends)
}

fn launch_steps(plan: &LaunchPlan, ends: &Ends<'_>) -> Outcome<std::convert::Infallible> {
    let host_proc = enter(&plan.entry, &plan.process, ends)?;
    if plan.cgroup_namespace {
        process::unshare(libc::CLONE_NEWCGROUP).at(Stage::CgroupNamespace, 0)?;
    }
    if plan.becomes_root {
        become_root().at(Stage::User, 0)?;
    }
    if plan.keyring {
        security::new_session_keyring().or_else(without_support).at(Stage::Keyring, 0)?;
    }
    for (index, (namespace, kind)) in plan.joins.iter().enumerate() {
        process::set_namespace(namespace.as_fd(), *kind).at(Stage::Join, index)?;
    }
    if let Some(hostname) = &plan.hostname {
        rustix::system::sethostname(hostname).at(Stage::Hostname, 0)?;
    }
    if let Some(domainname) = &plan.domainname {
        rustix::system::setdomainname(domainname).at(Stage::Domainname, 0)?;
    }
    let handles = build_root(plan, ends)?;
    if plan.loopback {
        mount::loopback_up().at(Stage::Loopback, 0)?;
    }
    // Opened before /proc/sys is covered by its read-only self.
    let proc_sys = handles.proc.as_ref().and_then(|proc| open_system(proc.as_fd(), c"sys").ok());
    protect_system_paths(plan, &handles)?;
    if plan.staged {
        look_for_program(&plan.process).at(Stage::Program, 0)?;
        report(ends.report, &[CREATED]);
    }
    wait_for_go(ends.wait)?;
    set_sysctls(plan, proc_sys.as_ref())?;
    if plan.init {
        process::block_signals();
        let child = process::fork_in_child().at(Stage::Init, 0)?;
        if child != 0 {
            if let (Some(profile), Some(proc)) = (&plan.process.profile, &host_proc) {
                // The program may send signals to what has its own profile. Without it, init is only less reachable.
                let _: Result<(), Errno> = ask_for_profile(&profile.file_now, &profile.request_now, proc.as_fd());
            }
            init::run(child);
        }
        process::reset_signals();
        rustix::process::setsid().at(Stage::Init, 0)?;
    }
    execute(&plan.process, plan.root.as_fd(), host_proc.as_ref(), ends)
}

/// Leaves behind what the caller's shell gave, and joins the control group. Returns the host's /proc if it is needed.
fn enter(entry: &EntryPlan, process: &ProcessPlan, ends: &Ends<'_>) -> Outcome<Option<OwnedFd>> {
    // Were these kept, the child would never see the parent die.
    process::close_inherited(ends.go);
    process::close_inherited(ends.listen);
    process::reset_signals();
    rustix::process::umask(Mode::empty());
    rustix::process::setsid().at(Stage::Signals, 0)?;
    process::reset_scheduling();
    security::set_parent_death_signal(0).at(Stage::Signals, 0)?;
    // From here to execve the processes of the container may see this one; its program file is ours (CVE-2019-5736).
    security::set_not_dumpable().at(Stage::Signals, 0)?;
    adjust_oom_score(entry);
    for (index, tasks) in entry.cgroups.iter().enumerate() {
        // "0" is the writer. Moving itself, a single-threaded process needs none of the waiting that a number in
        // cgroup.procs costs.
        rustix::io::write(tasks, b"0").at(Stage::Cgroup, index)?;
    }
    // The container's own /proc may be anything (CVE-2019-16884).
    match &process.profile {
        Some(_) => open_path(c"/proc").map(Some).at(Stage::Profile, 0),
        None => Ok(None),
    }
}

/// Only lowering needs a privilege; without it the caller's score is as good as it gets.
pub(super) fn adjust_oom_score(entry: &EntryPlan) {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if !entry.oom_score_adj.is_empty()
        && let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())
    {
        let _: Result<usize, Errno> = rustix::io::write(file, &entry.oom_score_adj);
    }
}

/// Becomes root of the user namespace that was entered: the host's root is nobody there, and nobody makes no files.
fn become_root() -> Result<(), Errno> {
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Accepts that a kernel has been built without a feature.
fn without_support(errno: Errno) -> Result<(), Errno> {
    if errno == Errno::NOSYS { Ok(()) } else { Err(errno) }
}

fn open_path(path: &CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Handles of the mounts that later steps work on.
#[derive(Default)]
struct Handles {
    proc: Option<OwnedFd>,
    sys: Option<OwnedFd>,
    dev: Option<OwnedFd>,
}

/// Builds the tree of mounts and makes it the root.
fn build_root(plan: &LaunchPlan, ends: &Ends<'_>) -> Outcome<Handles> {
    let shared_memory = match &plan.shared_memory {
        Some(namespace) => Some(borrow_shared_memory(namespace.as_fd()).at(Stage::SharedMemory, 0)?),
        None => None,
    };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", private).at(Stage::Propagation, 0)?;
    let host = open_path(c"/").at(Stage::Root, 0)?;
    // What must be attached somewhere for a moment goes to a side of the host's tree, never onto its root: there
    // it would lie between the old root and the new one, and taking off the topmost mount after pivot_root would
    // leave the old root behind, one `..` away.
    let aside = open_path(c"/proc").at(Stage::Root, 0)?;
    let staging = stage_files(plan, aside.as_fd())?;
    let place =
        if plan.root_place.as_bytes() == b"/" { host } else { open_path(&plan.root_place).at(Stage::Root, 0)? };
    mount::attach(plan.root.as_fd(), place.as_fd()).at(Stage::Root, 0)?;

    let root = plan.root.as_fd();
    let mut handles = Handles::default();
    for (index, step) in plan.mounts.iter().enumerate() {
        if let MountAction::Attach { mount, subpath: Some(subpath), .. } = &step.action {
            narrow(mount.as_fd(), subpath, aside.as_fd()).at(Stage::Mount, index)?;
        }
        let made = mount_step(root, &step.target, &step.action, shared_memory.as_ref()).at(Stage::Mount, index)?;
        remember(&mut handles, &step.target, made).at(Stage::Mount, index)?;
    }
    make_nodes(plan)?;
    if plan.dev_read_only {
        let dev = open_beneath(root, c"/dev", OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        dev.and_then(|dev| protect(dev.as_fd())).at(Stage::Root, 1)?;
    }
    if let Some(staging) = &staging {
        bind_files(plan, staging.as_fd())?;
    }
    if let (StdioPlan::Terminal(slave), true) = (&plan.process.stdio, plan.has_console) {
        bind_console(root, slave.as_fd()).at(Stage::Console, 0)?;
    }
    if plan.root_read_only {
        // The last chance for what can only be made on a writable root.
        folder(root, &plan.process.cwd).at(Stage::WorkingFolder, 0)?;
        protect(root).at(Stage::Root, 0)?;
    }
    if plan.staged {
        report(ends.report, &[MOUNTED]);
        wait_for_go(ends.wait)?;
    }
    if plan.without_pivot { move_over(root) } else { pivot(root) }.at(Stage::Pivot, 0)?;
    if plan.root_propagation != 0 {
        let flags = MountPropagationFlags::from_bits_retain(plan.root_propagation as _);
        rustix::mount::mount_change(c"/", flags).at(Stage::Propagation, 1)?;
    }
    Ok(handles)
}

/// Takes a detached copy of the /dev/shm of another mount namespace.
fn borrow_shared_memory(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let own = rustix::fs::open(c"/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    process::set_namespace(namespace, libc::CLONE_NEWNS)?;
    let root = open_path(c"/")?;
    let place = open_beneath(root.as_fd(), c"/dev/shm", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let copy = mount::clone_tree(place.as_fd(), c"", false)?;
    process::set_namespace(own.as_fd(), libc::CLONE_NEWNS)?;
    Ok(copy)
}

/// Makes the descriptor of a detached mount one of a path inside it.
///
/// Kernels before 6.15 copy only mounts of their own namespace: it is attached in the host's tree (`aside`), which
/// goes away with pivot_root.
fn narrow(whole: BorrowedFd<'_>, subpath: &CStr, aside: BorrowedFd<'_>) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    mount::attach(whole, aside)?;
    let place = open_beneath(whole, subpath, OFlags::PATH, Mode::empty())?;
    let copy = mount::clone_tree(place.as_fd(), c"", true)?;
    process::duplicate_to(copy.as_fd(), whole.as_raw_fd(), true)
}

fn mount_step(
    root: BorrowedFd<'_>,
    target: &CStr,
    action: &MountAction,
    shared_memory: Option<&OwnedFd>,
) -> Result<Option<OwnedFd>, Errno> {
    match action {
        MountAction::Attach { mount, is_folder, subpath: _ } => {
            let place = if *is_folder { folder(root, target)? } else { file(root, target)? };
            mount::attach(mount.as_fd(), place.as_fd())?;
            Ok(None)
        }
        MountAction::AttachSharedMemory => {
            let place = folder(root, target)?;
            let copy = shared_memory.ok_or(Errno::INVAL)?;
            mount::attach(copy.as_fd(), place.as_fd())?;
            Ok(None)
        }
        MountAction::New(new) => match new_mount(new) {
            Err(Errno::NODEV) if new.optional => Ok(None),
            made => {
                let made = made?;
                mount::attach(made.as_fd(), folder(root, target)?.as_fd())?;
                Ok(Some(made))
            }
        },
        MountAction::Link { name, content } => {
            match rustix::fs::symlinkat(content.as_c_str(), folder(root, target)?, name.as_c_str()) {
                Ok(()) | Err(Errno::EXIST) => Ok(None),
                Err(errno) => Err(errno),
            }
        }
        MountAction::Propagate(flags) => {
            let place = open_beneath(root, target, OFlags::PATH, Mode::empty())?;
            let recursive = flags & libc::MS_REC != 0;
            let attributes = mount::MountAttributes { propagation: flags & !libc::MS_REC, ..Default::default() };
            mount::set_attributes(place.as_fd(), attributes, recursive)?;
            Ok(None)
        }
        MountAction::Protect => {
            let place = open_beneath(root, target, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            protect(place.as_fd())?;
            Ok(None)
        }
    }
}

fn folder(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    make(root, path.to_bytes(), Wanted::Folder { mode: Mode::from_raw_mode(0o755), owner: None })
}

fn file(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    make(root, path.to_bytes(), Wanted::File { mode: Mode::from_raw_mode(0o755) })
}

fn protect(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    mount::set_attributes(mount, mount::MountAttributes { set: mount::RDONLY, ..Default::default() }, false)
}

/// Makes a file system, detached.
fn new_mount(new: &NewMount) -> Result<OwnedFd, Errno> {
    let file_system: &CStr = &new.file_system;
    let context = rustix::mount::fsopen(file_system, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What mount(8) and /proc/mounts show first.
    let source = if new.source.is_empty() { file_system } else { new.source.as_c_str() };
    rustix::mount::fsconfig_set_string(context.as_fd(), c"source", source)?;
    for (key, value) in &new.options {
        match value {
            Some(value) => {
                rustix::mount::fsconfig_set_string(context.as_fd(), key.as_c_str(), value.as_c_str())?;
            }
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), key.as_c_str())?,
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain(new.attributes as u32);
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Keeps a handle of what is at /proc, /sys and /dev now.
fn remember(handles: &mut Handles, target: &CStr, made: Option<OwnedFd>) -> Result<(), Errno> {
    let slot = match target.to_bytes() {
        b"/proc" => &mut handles.proc,
        b"/sys" => &mut handles.sys,
        b"/dev" => &mut handles.dev,
        _ => return Ok(()),
    };
    // Only of our own file systems: what a user mounted there is theirs.
    *slot = made;
    Ok(())
}

fn make_nodes(plan: &LaunchPlan) -> Outcome<()> {
    for (index, node) in plan.nodes.iter().enumerate() {
        make_node(plan.root.as_fd(), node).at(Stage::Node, index)?;
    }
    Ok(())
}

fn make_node(root: BorrowedFd<'_>, node: &super::plan::Node) -> Result<(), Errno> {
    let place = folder(root, &node.folder)?;
    let mode = Mode::from_raw_mode(node.mode);
    match rustix::fs::mknodat(&place, node.name.as_c_str(), node.file_type, mode, node.device) {
        Err(Errno::EXIST) => return Ok(()),
        result => result?,
    }
    if node.owner == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(node.owner.0), rustix::fs::Gid::from_raw(node.owner.1));
    rustix::fs::chownat(&place, node.name.as_c_str(), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Writes configs and secrets onto a file system of their own. It hangs in the host's tree, which goes away with
/// pivot_root; the files bound into the container keep it alive.
fn stage_files(plan: &LaunchPlan, aside: BorrowedFd<'_>) -> Outcome<Option<OwnedFd>> {
    if plan.files.is_empty() {
        return Ok(None);
    }
    let new = NewMount {
        file_system: c"tmpfs".into(),
        source: std::ffi::CString::default(),
        options: Vec::new(),
        attributes: mount::NOSUID | mount::NODEV | mount::NOEXEC,
        optional: false,
    };
    let staging = new_mount(&new).at(Stage::Staging, 0)?;
    for (index, step) in plan.files.iter().enumerate() {
        write_file(staging.as_fd(), step).at(Stage::File, index)?;
    }
    mount::attach(staging.as_fd(), aside).at(Stage::Staging, 0)?;
    Ok(Some(staging))
}

fn write_file(staging: BorrowedFd<'_>, step: &super::plan::FileStep) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(staging, step.name.as_c_str(), flags, Mode::from_raw_mode(0o600))?;
    let mut rest = step.content.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    let (uid, gid) = (rustix::fs::Uid::from_raw(step.owner.0), rustix::fs::Gid::from_raw(step.owner.1));
    rustix::fs::fchown(&file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(step.mode))
}

fn bind_files(plan: &LaunchPlan, staging: BorrowedFd<'_>) -> Outcome<()> {
    for (index, step) in plan.files.iter().enumerate() {
        let bind = || {
            let copy = mount::clone_tree(staging, &step.name, false)?;
            mount::attach(copy.as_fd(), file(plan.root.as_fd(), &step.target)?.as_fd())
        };
        bind().at(Stage::File, index)?;
    }
    Ok(())
}

fn bind_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<(), Errno> {
    let copy = mount::clone_tree(slave, c"", false)?;
    mount::attach(copy.as_fd(), file(root, c"/dev/console")?.as_fd())
}

fn pivot(root: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    // The old root is stacked on the new one and taken off again: no folder is needed for it.
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")?;
    // Nothing may lie on the new root: `..` of the root, and whoever enters the namespace later, would get there.
    if is_same_mount(c"/", c"/..")? { Ok(()) } else { Err(Errno::XDEV) }
}

/// Puts the root over the host's and enters it: what pivot_root(2) cannot do for a root in initramfs.
fn move_over(root: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    rustix::mount::mount_move(c".", c"/")?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")
}

/// Whether two paths end on one folder of one mount, compared by what lies on top there.
fn is_same_mount(first: &CStr, second: &CStr) -> Result<bool, Errno> {
    let look = |path: &CStr| {
        rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, rustix::fs::StatxFlags::BASIC_STATS)
            .map(|found| (found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
    };
    Ok(look(first)? == look(second)?)
}

/// Opens a path of /proc or /sys without following any link.
fn open_system(file_system: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(file_system, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn protect_system_paths(plan: &LaunchPlan, handles: &Handles) -> Outcome<()> {
    let find = |path: &SystemPath| {
        let file_system = match path.below {
            Below::Proc => &handles.proc,
            Below::Sys => &handles.sys,
            Below::Root => return open_beneath(plan.root.as_fd(), &path.path, OFlags::PATH, Mode::empty()).ok(),
        };
        file_system.as_ref().and_then(|file_system| open_system(file_system.as_fd(), &path.path).ok())
    };
    for (index, path) in plan.read_only.iter().enumerate() {
        let Some(place) = find(path) else { continue };
        let cover = || {
            let copy = mount::clone_tree(place.as_fd(), c"", true)?;
            let attributes = mount::MountAttributes { set: mount::RDONLY, ..Default::default() };
            mount::set_attributes(copy.as_fd(), attributes, true)?;
            mount::attach(copy.as_fd(), place.as_fd())
        };
        cover().at(Stage::ReadOnlyPath, index)?;
    }
    let mut empty_folder = None;
    for (index, path) in plan.masked.iter().enumerate() {
        let Some(place) = find(path) else { continue };
        mask(place.as_fd(), handles.dev.as_ref().or(plan.dev.as_ref()), &mut empty_folder).at(Stage::Mask, index)?;
    }
    Ok(())
}

/// Covers a file with /dev/null and a folder with one empty, read-only file system for all.
fn mask(place: BorrowedFd<'_>, dev: Option<&OwnedFd>, empty_folder: &mut Option<OwnedFd>) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(place)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Directory {
        let null = null_device(dev)?;
        let copy = mount::clone_tree(null.as_fd(), c"", false)?;
        return mount::attach(copy.as_fd(), place);
    }
    if let Some(empty) = empty_folder {
        let copy = mount::clone_tree(empty.as_fd(), c"", false)?;
        return mount::attach(copy.as_fd(), place);
    }
    let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [(c"nr_blocks", c"1"), (c"nr_inodes", c"1"), (c"mode", c"555")] {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    let made = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    mount::attach(made.as_fd(), place)?;
    *empty_folder = Some(made);
    Ok(())
}

/// The null device, from our own /dev and verified: an image cannot put another file in its place
/// (CVE-2025-31133).
fn null_device(dev: Option<&OwnedFd>) -> Result<OwnedFd, Errno> {
    let null = match dev {
        Some(dev) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(dev, c"null", flags, Mode::empty())?
        }
        None => rustix::fs::open(c"/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?,
    };
    let stat = rustix::fs::fstat(&null)?;
    let is_device = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    if is_device && stat.st_rdev == rustix::fs::makedev(1, 3) { Ok(null) } else { Err(Errno::NXIO) }
}

fn wait_for_go(pipe: BorrowedFd<'_>) -> Outcome<()> {
    let mut byte = [0u8; 1];
    loop {
        match rustix::io::read(pipe, &mut byte) {
            Ok(0) => process::exit(FAILED),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).at(Stage::Signals, 1),
        }
    }
}

fn set_sysctls(plan: &LaunchPlan, proc_sys: Option<&OwnedFd>) -> Outcome<()> {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    let proc_sys = proc_sys.ok_or(Errno::NOENT).at(Stage::Sysctl, 0)?;
    for (index, (path, value)) in plan.sysctls.iter().enumerate() {
        let write = || {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat2(proc_sys, path.as_c_str(), flags, Mode::empty(), resolve)?;
            // Only procfs takes kernel parameters (CVE-2025-52881).
            if rustix::fs::fstatfs(&file)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
                return Err(Errno::XDEV);
            }
            rustix::io::write(&file, value).map(drop)
        };
        write().at(Stage::Sysctl, index)?;
    }
    Ok(())
}

/// Becomes the user's program.
fn execute(
    plan: &ProcessPlan,
    root: BorrowedFd<'_>,
    host_proc: Option<&OwnedFd>,
    ends: &Ends<'_>,
) -> Outcome<std::convert::Infallible> {
    if let (Some(profile), Some(proc)) = (&plan.profile, host_proc) {
        ask_for_profile(&profile.file, &profile.request, proc.as_fd()).at(Stage::Profile, 0)?;
    }
    set_stdio(plan).at(Stage::Stdio, 0)?;
    for (index, (resource, soft, hard)) in plan.limits.iter().enumerate() {
        process::set_resource_limit(*resource, *soft, *hard).at(Stage::Limit, index)?;
    }
    let cwd = enter_folder(plan, root);
    // Every descriptor but the standard streams and the report goes, for good: a handle of the host that a program
    // finds is a way out (CVE-2024-21626).
    let report_end = keep_report(ends.report, plan.preserved).at(Stage::Stdio, 1)?;
    rustix::process::umask(Mode::from_raw_mode(plan.umask));
    // Looked at with all powers: what the user may not read may be executed all the same.
    let leads_to_us = plan.candidates.iter().any(|candidate| plan.own_program.is_meant_by(candidate));
    let outcome = match leads_to_us {
        true => Err(Errno::NOENT).at(Stage::Program, 0),
        false => become_user(plan, cwd, report_end),
    };
    let Err(failure) = outcome;
    report(report_end, &failure.to_bytes());
    process::exit(FAILED)
}

/// Asks for an AppArmor profile, at the next execve or now.
fn ask_for_profile(file: &CStr, request: &[u8], proc: BorrowedFd<'_>) -> Result<(), Errno> {
    let file = rustix::fs::openat(proc, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    if rustix::fs::fstatfs(&file)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(Errno::XDEV);
    }
    rustix::io::write(&file, request).map(drop)
}

/// Moves the report behind the standard streams and what the program inherits, and closes all above.
fn keep_report(pipe: BorrowedFd<'_>, preserved: u32) -> Result<BorrowedFd<'static>, Errno> {
    use std::os::fd::AsRawFd;
    let number = 3 + preserved as i32;
    if pipe.as_raw_fd() != number {
        process::duplicate_to(pipe, number, true)?;
    }
    process::close_from(number as u32 + 1)?;
    Ok(process::borrow_number(number))
}

fn set_stdio(plan: &ProcessPlan) -> Result<(), Errno> {
    let files: [BorrowedFd<'_>; 3] = match &plan.stdio {
        StdioPlan::Pipes([input, output, error]) => [input.as_fd(), output.as_fd(), error.as_fd()],
        StdioPlan::Terminal(slave) => [slave.as_fd(), slave.as_fd(), slave.as_fd()],
    };
    let is_terminal = matches!(plan.stdio, StdioPlan::Terminal(_));
    for (number, file) in files.into_iter().enumerate() {
        process::duplicate_to(file, number as i32, false)?;
        own_stream(file, plan.uid, is_terminal)?;
    }
    if let StdioPlan::Terminal(slave) = &plan.stdio {
        rustix::process::ioctl_tiocsctty(slave)?;
    }
    Ok(())
}

/// Gives a stream to the process's user, so that /dev/stdout can be opened by it. Files and devices of the host
/// (/dev/null) stay as they are.
pub(super) fn own_stream(file: BorrowedFd<'_>, uid: u32, is_terminal: bool) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(file)?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    let is_pipe = matches!(kind, rustix::fs::FileType::Fifo | rustix::fs::FileType::Socket);
    if !(is_pipe || is_terminal) || stat.st_uid == uid {
        return Ok(());
    }
    match rustix::fs::fchown(file, Some(rustix::fs::Uid::from_raw(uid)), None) {
        Err(Errno::PERM | Errno::INVAL | Errno::ROFS) => Ok(()),
        result => result,
    }
}

/// Enters the working folder, making it when it is missing and the plan says so.
fn enter_folder(plan: &ProcessPlan, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let place = match plan.makes_folder {
        true => folder(root, &plan.cwd)?,
        false => {
            let resolve = rustix::fs::ResolveFlags::IN_ROOT | rustix::fs::ResolveFlags::NO_MAGICLINKS;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat2(root, plan.cwd.as_c_str(), flags, Mode::empty(), resolve)?
        }
    };
    rustix::process::fchdir(place)
}

fn become_user(
    plan: &ProcessPlan,
    cwd: Result<(), Errno>,
    report_end: BorrowedFd<'_>,
) -> Outcome<std::convert::Infallible> {
    // A folder that root without its usual powers cannot enter may be open to the user: tried again below.
    let try_again = cwd == Err(Errno::ACCESS);
    if !try_again {
        cwd.at(Stage::WorkingFolder, 0)?;
    }
    let sets = plan.capabilities;
    let capabilities = capability::Set(sets.bounding);
    schedule(plan).at(Stage::Schedule, 0)?;
    for number in 0..capability::COUNT {
        if !capabilities.contains(number) {
            match security::drop_from_bounding_set(number) {
                // A capability that this kernel does not know is not there either.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno).at(Stage::Capabilities, 0),
            }
        }
    }
    security::keep_capabilities().at(Stage::User, 0)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(plan.uid), rustix::fs::Gid::from_raw(plan.gid));
    rustix::thread::set_thread_groups(&plan.groups).at(Stage::User, 0)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Stage::User, 0)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Stage::User, 0)?;
    security::clear_ambient_set()
        .or_else(|errno| if errno == Errno::INVAL { Ok(()) } else { Err(errno) })
        .at(Stage::Capabilities, 0)?;
    if try_again {
        rustix::process::chdir(plan.cwd.as_c_str()).at(Stage::WorkingFolder, 0)?;
    }
    verify_folder().at(Stage::WorkingFolder, 0)?;
    if plan.dies_with_parent {
        // A change of the user clears it, so it comes after that. Until now the end of the pipe did its work.
        security::set_parent_death_signal(libc::SIGKILL).at(Stage::Signals, 0)?;
    }
    report(report_end, &[READY]);
    if plan.no_new_privileges {
        security::set_no_new_privileges().at(Stage::Capabilities, 0)?;
        set_capabilities(plan).at(Stage::Capabilities, 0)?;
        install(plan)?;
    } else {
        // Without no_new_privs the filter needs CAP_SYS_ADMIN, which change of user left in the permitted set only.
        sys::security::raise_permitted().at(Stage::Filter, 0)?;
        install(plan)?;
        set_capabilities(plan).at(Stage::Capabilities, 0)?;
    }
    execute_first(plan).at(Stage::Program, 0)
}

fn set_capabilities(plan: &ProcessPlan) -> Result<(), Errno> {
    let sets = plan.capabilities;
    security::set_capabilities(sets.permitted, sets.effective, sets.inheritable)?;
    for number in (0..capability::COUNT).filter(|number| sets.ambient & (1 << number) != 0) {
        security::raise_ambient(number)?;
    }
    Ok(())
}

/// What of the machine's time the program gets, and as which machine it sees it.
fn schedule(plan: &ProcessPlan) -> Result<(), Errno> {
    if let Some(priority) = plan.io_priority {
        process::set_io_priority(priority)?;
    }
    if let Some(schedule) = &plan.schedule {
        process::set_schedule(schedule)?;
    }
    match plan.personality {
        Some(domain) => process::set_personality(domain),
        None => Ok(()),
    }
}

fn install(plan: &ProcessPlan) -> Outcome<()> {
    match &plan.filter {
        Some(filter) => security::install_filter(&filter.0, plan.filter_flags).at(Stage::Filter, 0),
        None => Ok(()),
    }
}

/// Refuses a working folder that is not below the root: the kernel says so in its path.
fn verify_folder() -> Result<(), Errno> {
    let mut path = [0u8; 4096];
    match process::current_folder(&mut path) {
        Ok(()) if path.first() == Some(&b'/') => Ok(()),
        // A path too long to be told is one below the root.
        Err(Errno::RANGE) => Ok(()),
        Ok(()) => Err(Errno::NOENT),
        Err(errno) => Err(errno),
    }
}

/// Executes the first candidate that is there, as execvp(3) chooses; returns why none was.
fn execute_first(plan: &ProcessPlan) -> Result<std::convert::Infallible, Errno> {
    let (mut denied, mut is_there) = (false, false);
    for candidate in &plan.candidates {
        match process::execute(candidate, &plan.arguments, &plan.environment) {
            Errno::NOENT => is_there |= rustix::fs::stat(candidate.as_c_str()).is_ok(),
            Errno::NOTDIR => {}
            Errno::ACCESS => denied = true,
            errno => return Err(errno),
        }
        if denied && is_folder(candidate) && plan.candidates.len() == 1 {
            return Err(Errno::ISDIR);
        }
    }
    Err(match (denied, is_there) {
        (true, _) => Errno::ACCESS,
        (false, true) => INTERPRETER_MISSING,
        (false, false) => Errno::NOENT,
    })
}

/// Whether there is anything to execute, known before the program may be.
fn look_for_program(plan: &ProcessPlan) -> Result<(), Errno> {
    let mut outcome = Err(Errno::NOENT);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = rustix::fs::open(plan.cwd.as_c_str(), flags, Mode::empty()) else { return Ok(()) };
    for candidate in &plan.candidates {
        let Ok(stat) = rustix::fs::statat(&folder, candidate.as_c_str(), AtFlags::empty()) else { continue };
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
            outcome = Err(Errno::ISDIR);
        } else if stat.st_mode & 0o111 == 0 {
            outcome = Err(Errno::ACCESS);
        } else {
            return Ok(());
        }
    }
    outcome
}

fn is_folder(path: &CStr) -> bool {
    let stat = rustix::fs::statat(rustix::fs::CWD, path, AtFlags::empty());
    stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}
