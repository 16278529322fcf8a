//! Control groups of both versions: limits, devices, freezing, killing and figures of one container.
//!
//! ```text
//! v2:  /sys/fs/cgroup/<parent>/<name>                     one tree; with systemd in a unit of ours, see [`systemd`]
//! v1:  /sys/fs/cgroup/<controller>/<parent>/<name>        one a hierarchy
//!      …/<parent>/supervisors                             the processes of wharf that stay
//! ```
//! `parent` is the caller's: `wharf`, or another name for another run folder, so that two do not collide. A container
//! that names a parent of its own (`cgroup_parent`) has its group below that one instead.
//!
//! Invariants
//! - A process joins by itself or by birth, never by its number: on v1 a single-threaded process that writes `0`
//!   into `tasks` costs 25 µs a hierarchy, a number in `cgroup.procs` more than a millisecond; on v2
//!   clone3(CLONE_INTO_CGROUP) costs nothing.
//! - On a hybrid host (v1 controllers beside a v2 tree without any) the v1 hierarchies are used.
//! - What is read from a group may be gone at any moment; a missing figure is zero.
//!
//! Source: <https://docs.kernel.org/admin-guide/cgroup-v2.html>, <https://docs.kernel.org/admin-guide/cgroup-v1/>.

mod block;
mod bus;
mod devices;
mod legacy;
mod systemd;
mod unified;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Error;
use crate::model::container::{ContainerSpec, Resources};
pub(super) use devices::DeviceRules;
pub(super) use legacy::Hierarchy;

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// The group of supervisors below a parent.
const SUPERVISORS: &str = "supervisors";
/// How long to wait for the last process of a group to be gone, or for a group to freeze.
const PATIENCE: Duration = Duration::from_secs(1);
/// Depth of groups inside a container that are looked at; a bound on what its processes may make.
const DEPTH_MAX: u32 = 16;

/// The group of one container.
#[derive(Debug)]
pub struct Cgroup {
    tree: Tree,
    /// Keeps what the group is in, until it has processes itself.
    _holder: Option<systemd::Holder>,
}

/// Its folders.
#[derive(Debug)]
enum Tree {
    /// v2: the folder and a handle of it.
    Unified { path: PathBuf, folder: OwnedFd },
    /// v1: one folder a hierarchy.
    Legacy { hierarchies: Vec<Hierarchy>, relative: PathBuf },
}

/// Figures of a group. Sizes in bytes, times in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time used.
    pub cpu_ns: u64,
    /// CPU time in user mode.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel.
    pub cpu_system_ns: u64,
    /// Memory in use, without the page cache that can be dropped at once (as `docker stats` has it).
    pub memory_bytes: u64,
    /// Limit of memory; `None` without one.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Limit of them.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
}

impl Cgroup {
    /// Makes the group of `spec` (named by its id) below `parent`, with its limits and device rules. One that is
    /// left over from an earlier start is used again.
    pub fn create(parent: &str, spec: &ContainerSpec) -> Result<Self, Error> {
        Self::create_in(Path::new(ROOT), parent, spec)
    }

    fn create_in(root: &Path, parent: &str, spec: &ContainerSpec) -> Result<Self, Error> {
        let rules = DeviceRules::of(&spec.security)?;
        let (place, holder) = match &spec.resources.cgroup_parent {
            Some(own) => (own_place(root, own)?.join(spec.id.as_str()), None),
            None => place_for(root, parent, spec.id.as_str())?,
        };
        let cgroup = Self { tree: Tree::make(root, &place)?, _holder: holder };
        cgroup.prepared(&rules, |cgroup| cgroup.update(&spec.resources))
    }

    /// Makes the group `path` below the root of control groups, with these device rules and what `limit` sets.
    pub(super) fn create_at(
        path: &str,
        rules: &DeviceRules,
        limit: impl FnOnce(&Self) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        Self { tree: Tree::make(Path::new(ROOT), &plain(path)?)?, _holder: None }.prepared(rules, limit)
    }

    /// The existing group `path` below the root of control groups.
    pub fn open_at(path: &str) -> Result<Self, Error> {
        Ok(Self { tree: Tree::open(Path::new(ROOT), &plain(path)?)?, _holder: None })
    }

    fn prepared(self, rules: &DeviceRules, limit: impl FnOnce(&Self) -> Result<(), Error>) -> Result<Self, Error> {
        let cgroup = self;
        if let Err(error) = cgroup.set_devices(rules).and_then(|()| limit(&cgroup)) {
            // The first error is the one to tell; a group that stays is used again by the next start.
            let _: Result<(), Error> = cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }

    fn set_devices(&self, rules: &DeviceRules) -> Result<(), Error> {
        match &self.tree {
            Tree::Unified { folder, path } => unified::set_devices(path, folder.as_fd(), rules),
            Tree::Legacy { hierarchies, relative } => legacy::set_devices(hierarchies, relative, rules),
        }
    }

    /// The existing group of `spec`, wherever it is.
    pub fn of(parent: &str, spec: &ContainerSpec) -> Result<Self, Error> {
        let root = Path::new(ROOT);
        match &spec.resources.cgroup_parent {
            Some(own) => {
                let place = own_place(root, own)?.join(spec.id.as_str());
                Ok(Self { tree: Tree::open(root, &place)?, _holder: None })
            }
            None => Self::open(parent, spec.id.as_str()),
        }
    }

    /// The existing group `name` (a container's id) below `parent`.
    pub fn open(parent: &str, name: &str) -> Result<Self, Error> {
        let root = Path::new(ROOT);
        Ok(Self { tree: Tree::open(root, &place_of(root, parent, name)?)?, _holder: None })
    }

    /// Files to write `0` to, which makes the writer a member; none on v2.
    pub(super) fn join_files(&self) -> Result<Vec<OwnedFd>, Error> {
        match &self.tree {
            Tree::Unified { .. } => Ok(Vec::new()),
            Tree::Legacy { hierarchies, relative } => legacy::join_files(hierarchies, relative),
        }
    }

    /// The folder for CLONE_INTO_CGROUP; none on v1.
    pub(super) fn clone_target(&self) -> Option<BorrowedFd<'_>> {
        match &self.tree {
            Tree::Unified { folder, .. } => Some(folder.as_fd()),
            Tree::Legacy { .. } => None,
        }
    }

    /// The hierarchies to mount inside; `None` on v2.
    pub(super) fn hierarchies(&self) -> Option<&[Hierarchy]> {
        match &self.tree {
            Tree::Unified { .. } => None,
            Tree::Legacy { hierarchies, .. } => Some(hierarchies),
        }
    }

    /// Its own folders with the names of their hierarchies; one without a name on v2.
    pub(super) fn folders(&self) -> Vec<(PathBuf, Option<&Hierarchy>)> {
        match &self.tree {
            Tree::Unified { path, .. } => vec![(path.clone(), None)],
            Tree::Legacy { hierarchies, relative } => {
                hierarchies.iter().map(|one| (one.mount_point.join(relative), Some(one))).collect()
            }
        }
    }

    /// The file `name` of the group: on v1 in the hierarchy of `controller`.
    pub(super) fn file(&self, controller: &str, name: &str) -> Option<PathBuf> {
        match &self.tree {
            Tree::Unified { path, .. } => Some(path.join(name)),
            Tree::Legacy { hierarchies, relative } => {
                let hierarchy = hierarchies.iter().find(|hierarchy| hierarchy.has(controller))?;
                Some(hierarchy.mount_point.join(relative).join(name))
            }
        }
    }

    /// Stops all its processes until [`Self::thaw`]; returns when they stand still.
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true)
    }

    /// Lets frozen processes go on.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let (name, value) = match (&self.tree, frozen) {
            (Tree::Unified { .. }, true) => ("cgroup.freeze", "1"),
            (Tree::Unified { .. }, false) => ("cgroup.freeze", "0"),
            (Tree::Legacy { .. }, true) => ("freezer.state", "FROZEN"),
            (Tree::Legacy { .. }, false) => ("freezer.state", "THAWED"),
        };
        let file = self.file("freezer", name).ok_or(Error::Unsupported { feature: "pausing without a freezer" })?;
        write(&file, value)?;
        let deadline = Instant::now() + PATIENCE;
        while self.is_frozen() != frozen {
            if Instant::now() > deadline {
                if frozen {
                    // It would freeze later, when nobody knows of it.
                    self.set_frozen(false)?;
                }
                let source = io::Error::from(io::ErrorKind::TimedOut);
                return Err(Error::Cgroup { operation: format!("write `{value}` to"), path: file, source });
            }
            if frozen {
                // v1 may stay in FREEZING when a process was forked meanwhile; writing again goes on.
                write(&file, value)?;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        match &self.tree {
            Tree::Unified { path, .. } => keyed(&read(&path.join("cgroup.events")), "frozen") == Some(1),
            Tree::Legacy { .. } => {
                self.file("freezer", "freezer.state").is_some_and(|file| read(&file).trim() == "FROZEN")
            }
        }
    }

    /// Kills every process in it with SIGKILL; a frozen one too.
    pub fn kill_all(&self) -> Result<(), Error> {
        match &self.tree {
            Tree::Unified { path, .. } => match write(&path.join("cgroup.kill"), "1") {
                Ok(()) => Ok(()),
                // Missing before Linux 5.14, or when the group is gone.
                Err(error) if error_is_not_found(&error) => self.kill_frozen(),
                Err(error) => Err(error),
            },
            Tree::Legacy { .. } => self.kill_frozen(),
        }
    }

    /// Freezes, kills and thaws: nobody can fork away, and no number can be given to another process.
    fn kill_frozen(&self) -> Result<(), Error> {
        // A group that does not freeze in time is killed all the same.
        let _: Result<(), Error> = self.freeze();
        for pid in self.pids()? {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // Gone already is as good.
                let _: Result<(), rustix::io::Errno> =
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        match self.thaw() {
            Err(error) if !error_is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// The processes in it and the groups below it, in the caller's PID namespace. None when it is gone.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let folder = match &self.tree {
            Tree::Unified { path, .. } => path.clone(),
            Tree::Legacy { hierarchies, relative } => {
                let freezer = hierarchies.iter().find(|hierarchy| hierarchy.has("freezer"));
                let Some(hierarchy) = freezer.or(hierarchies.first()) else { return Err(Error::NoCgroups) };
                hierarchy.mount_point.join(relative)
            }
        };
        let mut pids = Vec::new();
        collect_pids(&folder, 0, &mut pids);
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// How many processes of it the kernel killed for lack of memory.
    pub fn oom_kill_count(&self) -> u64 {
        let name = if self.is_unified() { "memory.events" } else { "memory.oom_control" };
        self.file("memory", name).and_then(|file| keyed(&read(&file), "oom_kill")).unwrap_or(0)
    }

    /// Whether it is one of version 2.
    pub(super) fn is_unified(&self) -> bool {
        matches!(self.tree, Tree::Unified { .. })
    }

    /// Its figures; those that the kernel does not give are zero.
    pub fn stats(&self) -> Stats {
        if self.is_unified() { unified::stats(self) } else { legacy::stats(self) }
    }

    /// Sets the limits that `resources` has, leaving the others.
    pub fn update(&self, resources: &Resources) -> Result<(), Error> {
        if self.is_unified() { unified::update(self, resources) } else { legacy::update(self, resources) }
    }

    /// Removes it once it is empty, waiting up to a second for its last process to be gone. A missing one is fine.
    pub fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        match &self.tree {
            Tree::Unified { path, .. } => remove(path, deadline),
            Tree::Legacy { hierarchies, relative } => {
                hierarchies.iter().try_for_each(|hierarchy| remove(&hierarchy.mount_point.join(relative), deadline))
            }
        }
    }

    /// Writes `value` into a file of the group.
    pub(super) fn set(&self, controller: &str, name: &str, value: &str) -> Result<(), Error> {
        match self.file(controller, name) {
            Some(file) => write(&file, value),
            None => Err(Error::Cgroup {
                operation: format!("write `{value}` to"),
                path: PathBuf::from(name),
                source: io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("the kernel has no control group controller `{controller}`"),
                ),
            }),
        }
    }
}

impl Tree {
    fn make(root: &Path, relative: &Path) -> Result<Self, Error> {
        if unified::is_mounted(root) {
            let path = unified::make(root, relative, PATIENCE)?;
            return Self::unified(path);
        }
        let hierarchies = legacy::hierarchies()?;
        legacy::make(&hierarchies, relative)?;
        Ok(Self::Legacy { hierarchies, relative: relative.to_owned() })
    }

    fn open(root: &Path, relative: &Path) -> Result<Self, Error> {
        if unified::is_mounted(root) {
            return Self::unified(root.join(relative));
        }
        Ok(Self::Legacy { hierarchies: legacy::hierarchies()?, relative: relative.to_owned() })
    }

    fn unified(path: PathBuf) -> Result<Self, Error> {
        let folder = super::root::open_root(&path).map_err(|errno| Error::Cgroup {
            operation: "open".into(),
            path: path.clone(),
            source: errno.into(),
        })?;
        Ok(Self::Unified { path, folder })
    }
}

/// Where the group `name` of `parent` is to be made, and who keeps that place: in a unit of ours where systemd owns the
/// tree.
fn place_for(root: &Path, parent: &str, name: &str) -> Result<(PathBuf, Option<systemd::Holder>), Error> {
    let plain = relative(parent, name)?;
    if !has_units(root) {
        return Ok((plain, None));
    }
    let place = systemd::place(parent).join(name);
    if systemd::is_inside(parent) {
        return Ok((place, None));
    }
    // Without the unit limits hold all the same, as long as systemd lets them.
    Ok(systemd::Holder::new(root, parent).map_or((plain, None), |holder| (place, Some(holder))))
}

/// Whether systemd owns the tree, and it is the one that units can be delegated in.
fn has_units(root: &Path) -> bool {
    unified::is_mounted(root) && systemd::is_booted()
}

/// The folder of the parent that a container names. Where systemd owns the tree it is a slice; the group in it is no
/// unit, so that limits hold as long as systemd lets them.
fn own_place(root: &Path, own: &str) -> Result<PathBuf, Error> {
    check_parent(own)?;
    match has_units(root) {
        true => Ok(systemd::slice_path(own_slice(own))),
        false => plain(own.trim_matches('/')),
    }
}

fn own_slice(own: &str) -> &str {
    own.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default()
}

/// Checks the name of a parent for containers: a path below the root of control groups, or a slice where systemd is.
///
/// Errors: `Unknown` for one that leads out, or that systemd would not let be.
pub fn check_parent(own: &str) -> Result<(), Error> {
    let path = own.trim_matches('/');
    plain(path)?;
    if has_units(Path::new(ROOT)) && !systemd::is_slice(own_slice(own)) {
        return Err(Error::Unknown { kind: "slice of systemd (`NAME.slice`)", name: own.to_owned() });
    }
    Ok(())
}

/// Whether the kernel has time for real-time tasks to give to groups: version 1 with CONFIG_RT_GROUP_SCHED.
pub fn has_realtime() -> bool {
    !is_unified() && legacy::has_realtime()
}

/// Where that group is.
fn place_of(root: &Path, parent: &str, name: &str) -> Result<PathBuf, Error> {
    let plain = relative(parent, name)?;
    let delegated = systemd::place(parent).join(name);
    Ok(if systemd::is_booted() && root.join(&delegated).is_dir() { delegated } else { plain })
}

/// `parent/name`, neither of them a way out.
fn relative(parent: &str, name: &str) -> Result<PathBuf, Error> {
    let path = format!("{parent}/{name}");
    if name.contains('/') { Err(Error::Unknown { kind: "control group name", name: path }) } else { plain(&path) }
}

/// A path below the root of control groups without a way out.
fn plain(path: &str) -> Result<PathBuf, Error> {
    let is_plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\0');
    match path.split('/').all(is_plain) {
        true => Ok(PathBuf::from(path)),
        false => Err(Error::Unknown { kind: "control group name", name: path.to_owned() }),
    }
}

/// Moves this process into the group of supervisors below `parent`: out of the caller's session and of any limit.
///
/// Must be called while single-threaded: on v1 only the calling thread moves.
pub fn enter_supervisors(parent: &str) -> Result<(), Error> {
    let root = Path::new(ROOT);
    if has_units(root) && systemd::enter(root, parent, std::process::id()).is_ok() {
        return Ok(());
    }
    match Tree::make(root, &relative(parent, SUPERVISORS)?)? {
        Tree::Unified { path, .. } => write(&path.join("cgroup.procs"), "0"),
        Tree::Legacy { hierarchies, relative } => hierarchies
            .iter()
            .try_for_each(|hierarchy| write(&hierarchy.mount_point.join(&relative).join("tasks"), "0")),
    }
}

/// Removes the group of supervisors and `parent` itself, as far as they are empty; for tests and uninstalling.
pub fn remove_parent(parent: &str) -> Result<(), Error> {
    let remove_one = |folder: PathBuf| {
        let deadline = Instant::now();
        for folder in [folder.join(SUPERVISORS), folder] {
            // A group that still has members stays.
            let _: Result<(), Error> = remove(&folder, deadline);
        }
    };
    let relative = relative(parent, SUPERVISORS)?;
    let parent = relative.parent().unwrap_or(Path::new(""));
    if unified::is_mounted(Path::new(ROOT)) {
        remove_one(Path::new(ROOT).join(parent));
        remove_one(Path::new(ROOT).join(systemd::place(&parent.to_string_lossy())));
        return Ok(());
    }
    for hierarchy in legacy::hierarchies()? {
        remove_one(hierarchy.mount_point.join(parent));
    }
    Ok(())
}

/// Whether this host has one tree of control groups (version 2) with the controllers.
pub fn is_unified() -> bool {
    unified::is_mounted(Path::new(ROOT))
}

fn error_is_not_found(error: &Error) -> bool {
    matches!(error, Error::Cgroup { source, .. } if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)))
}

/// Writes a value into a control file in one go, as the kernel wants it.
fn write(file: &Path, value: &str) -> Result<(), Error> {
    use std::io::Write;
    std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut open| open.write_all(value.as_bytes()))
        .map_err(|source| Error::Cgroup { operation: format!("write `{value}` to"), path: file.to_owned(), source })
}

/// The content of a control file; empty when it is not there.
fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// A file with one number; `None` for `max`, for v1's "no limit" and for a missing file.
fn number(file: Option<PathBuf>) -> Option<u64> {
    /// v1 writes "no limit" as the largest number of pages.
    const UNLIMITED: u64 = 1 << 62;
    read(&file?).trim().parse().ok().filter(|value| *value < UNLIMITED)
}

/// The value of `key` in a file of lines `key value`.
fn keyed(content: &str, key: &str) -> Option<u64> {
    content.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

/// Makes a folder below a control group root; one that exists is fine.
fn make_folder(path: &Path) -> Result<(), Error> {
    match std::fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::Cgroup { operation: "create".into(), path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn collect_pids(folder: &Path, depth: u32, pids: &mut Vec<i32>) {
    pids.extend(read(&folder.join("cgroup.procs")).lines().filter_map(|line| line.trim().parse::<i32>().ok()));
    if depth < DEPTH_MAX {
        for child in children(folder) {
            collect_pids(&child, depth + 1, pids);
        }
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes a group with those below it, waiting until `deadline` for dying processes.
fn remove(folder: &Path, deadline: Instant) -> Result<(), Error> {
    loop {
        match rustix::fs::rmdir(folder) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => {
                for child in children(folder) {
                    remove(&child, deadline)?;
                }
                match rustix::fs::rmdir(folder) {
                    Ok(()) => return Ok(()),
                    Err(_) => std::thread::sleep(Duration::from_micros(500)),
                }
            }
            Err(errno) => {
                let path = folder.to_owned();
                return Err(Error::Cgroup { operation: "remove".into(), path, source: errno.into() });
            }
        }
    }
}

#[cfg(test)]
mod tests;
