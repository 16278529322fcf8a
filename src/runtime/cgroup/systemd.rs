//! Our groups on a host whose first process is systemd.
//!
//! It owns the tree, and what it does not know it may take controllers from. So it is asked for a unit of our own with
//! everything below delegated (`Delegate=yes`): one scope for all containers, which is there as long as any of their
//! processes or supervisors is, whatever becomes of the session or service that a command was typed in.
//!
//! ```text
//! /sys/fs/cgroup/wharf.slice/wharf.scope/<container>
//!                                       /supervisors
//! ```
//! systemd ends a scope that it finds without a process, some time after it has: it then removes all groups in there
//! that are empty at that moment, also those of a container that is about to start. So nobody makes a group in a scope
//! but those who have a process beside the supervisors, and know that the scope was not without one before they came:
//! another is there and stays while they enter, or systemd says so. They do it one after the other.
//!
//! The bus is only spoken to when nobody else is there: the first container's start pays two milliseconds. Where that
//! fails the groups are made at the top of the tree, as on other hosts.
//!
//! Source: <https://systemd.io/CGROUP_DELEGATION/>, org.freedesktop.systemd1(5).

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::bus::{Body, Bus, Message, Method, Variant};
use super::{SUPERVISORS, make_folder, read, write};
use crate::runtime::{Error, running};
use crate::sys::process::{self, Child};

/// Where systemd listens for root; no message bus is between.
const SOCKET: &str = "/run/systemd/private";
/// The lock of those who enter a scope; it stays, like others of its kind in that folder.
const TURN: &str = "/run/wharf-scope.lock";
/// All our scopes; who administrates the host may limit it by a unit file of that name.
const SLICE: &str = "wharf.slice";
/// The longest that a scope may take to come; after it the groups are made without.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the host may take to stop all containers when it goes down.
const STOP_US: u64 = 10_000_000;

const START: Method = Method {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "StartTransientUnit",
    signature: "ssa(sv)a(sa(sv))",
};

/// Whether systemd is the first process. Source: sd_booted(3).
pub(super) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The name of the scope of `parent`.
fn unit(parent: &str) -> String {
    format!("{parent}.scope")
}

/// Where the scope of `parent` is, if it is, below the root of control groups.
pub(super) fn place(parent: &str) -> PathBuf {
    Path::new(SLICE).join(unit(parent))
}

/// Where a slice is below the root of control groups: `a-b.slice` lies in `a.slice`.
pub(super) fn slice_path(slice: &str) -> PathBuf {
    let stem = slice.trim_end_matches(".slice");
    let above = stem.match_indices('-').map(|(at, _)| format!("{}.slice", &stem[..at]));
    above.chain([slice.to_owned()]).collect()
}

/// Whether a name is one of a slice. Source: systemd.slice(5), systemd.unit(5).
pub(super) fn is_slice(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.\\@".contains(&byte))
    };
    name.len() < 250 && name.strip_suffix(".slice").is_some_and(|stem| stem.split('-').all(is_part))
}

/// Whether a group is in a scope of ours.
pub(super) fn is_ours(relative: &Path) -> bool {
    relative.starts_with(SLICE)
}

/// A process in a scope for those who have none of their own there: commands.
#[derive(Debug)]
pub(super) struct Holder {
    child: Child,
    /// Its end is the holder's, should we be killed.
    _go: OwnedFd,
}

impl Holder {
    /// One in the scope of `parent`, which is started where it is not there.
    pub(super) fn new(root: &Path, parent: &str) -> io::Result<Self> {
        let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let child = process::clone_process(0, None, || {
            // Nothing of the caller's may stay open as long as this lives.
            let Ok(()) = process::duplicate_to(wait.as_fd(), 0, false) else { return 1 };
            let Ok(()) = process::close_from(1) else { return 1 };
            let mut byte = [0u8; 1];
            while rustix::io::read(process::borrow_number(0), &mut byte) == Err(rustix::io::Errno::INTR) {}
            0
        })?;
        let holder = Self { child, _go: go };
        enter(root, parent, holder.child.pid.unsigned_abs())?;
        Ok(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Nobody else reaps it. Its pipe may be open elsewhere: a thread may just have made a process.
        let _: Result<(), Error> = running::send_signal(self.child.pidfd.as_fd(), libc::SIGKILL);
        let _: Result<(), Error> = running::reap(self.child.pidfd.as_fd());
    }
}

/// Whether this process is in the scope of `parent`, among the supervisors.
pub(super) fn is_inside(parent: &str) -> bool {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Path::new(own) == place(parent).join(SUPERVISORS)
}

/// Puts the process `pid` among the supervisors in the scope of `parent`, which is started where it is not there.
pub(super) fn enter(root: &Path, parent: &str, pid: u32) -> io::Result<()> {
    let _turn = Turn::take()?;
    let supervisors = root.join(place(parent)).join(SUPERVISORS);
    let join =
        || make_folder(&supervisors).and_then(|()| write(&supervisors.join("cgroup.procs"), &pid.to_string())).is_ok();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut others = members(&supervisors);
        others.remove(&pid);
        let is_inside = join();
        if is_inside && !others.is_disjoint(&members(&supervisors)) {
            return Ok(());
        }
        match start(&unit(parent), pid) {
            // Controllers are handed on only where no process is.
            Ok(()) if join() => return Ok(()),
            Ok(()) => return Err(io::ErrorKind::NotFound.into()),
            // What it had heard of an empty scope it has acted upon before it answered: with us in there it stays.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_inside => return Ok(()),
            // It is just going.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The processes of a group.
fn members(group: &Path) -> HashSet<u32> {
    read(&group.join("cgroup.procs")).lines().filter_map(|line| line.parse().ok()).collect()
}

/// Held by the one who enters a scope.
struct Turn(File);

impl Turn {
    fn take() -> io::Result<Self> {
        let flags = libc::O_NOFOLLOW;
        // Nobody but root can open it, and so lock it.
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(TURN)?;
        file.lock()?;
        Ok(Self(file))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // A process that another thread just made may have it open.
        drop(self.0.unlock());
    }
}

/// Starts the scope `unit` with the process `pid` and returns when it is there. Errors: `AlreadyExists`.
fn start(unit: &str, pid: u32) -> io::Result<()> {
    let mut body = Body::default();
    body.text(unit);
    body.text("fail");
    body.structures(|properties| {
        properties.property("Description", Variant::Text("Containers of wharf"));
        properties.property("Slice", Variant::Text(SLICE));
        properties.property("Delegate", Variant::Flag(true));
        // Limits are each container's; the default is a share of the host for all of them.
        properties.property("TasksMax", Variant::Long(u64::MAX));
        properties.property("TimeoutStopUSec", Variant::Long(STOP_US));
        properties.property("CollectMode", Variant::Text("inactive-or-failed"));
        properties.property("PIDs", Variant::Numbers(&[pid]));
    });
    // No further units.
    body.structures(|_| {});
    let mut bus = Bus::connect(Path::new(SOCKET), PATIENCE)?;
    let call = bus.call(START, &body)?;
    let deadline = Instant::now() + PATIENCE;
    let (mut answered, mut result) = (false, None);
    while Instant::now() < deadline {
        match bus.receive()? {
            Message::Return { to } if to == call => answered = true,
            Message::Error { to, name, text } if to == call => {
                let exists = name == "org.freedesktop.systemd1.UnitExists";
                let kind = if exists { io::ErrorKind::AlreadyExists } else { io::ErrorKind::Other };
                return Err(io::Error::new(kind, format!("systemd does not start {unit}: {text} ({name})")));
            }
            // Job, unit, result.
            Message::Signal { member, texts }
                if member == "JobRemoved" && texts.get(1).is_some_and(|of| of == unit) =>
            {
                result = texts.into_iter().nth(2);
            }
            _ => {}
        }
        match (&result, answered) {
            (Some(result), true) if result == "done" => return Ok(()),
            (Some(result), true) => return Err(io::Error::other(format!("the start of {unit} ended with `{result}`"))),
            _ => {}
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}
