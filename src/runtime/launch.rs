//! What a container's first process is started from, and the start itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use super::child::{self, Ends};
use super::handle::{self, Refused};
use super::ids::Ids;
use super::plan::{Channels, EntryPlan, FileStep, LaunchPlan, Names, SystemPath};
use super::process::{self as process_plan, OpenStdio};
use super::user::{self, User};
use super::{Cgroup, Error, Prepared, defaults, layers, mounts, running};
use crate::model::container::{ContainerSpec, InlineFile, NamespaceMode, ProcessIdentity};
use crate::sys::process::{self, Child};

/// Everything that [`prepare`] needs. Host paths only: volumes, layers and files are resolved by the caller.
pub struct Launch<'a> {
    /// What the container is. `mounts`, `files`, `layers` and `network` of it are not read here.
    pub spec: &'a ContainerSpec,
    /// Its root file system.
    pub root: RootFs,
    /// Its mounts in the order in which they are made. One at `/dev`, `/dev/shm`, `/sys`, … replaces ours.
    pub mounts: Vec<ResolvedMount>,
    /// Its files in /etc that change at run time.
    pub etc: EtcFiles,
    /// Configs and secrets with their content: written onto a tmpfs of the container's own.
    pub files: Vec<(InlineFile, Vec<u8>)>,
    /// Its network namespace.
    pub net: NetNamespace,
    /// The containers whose namespaces it shares (`NamespaceMode::Container` in the spec).
    pub joins: Joins,
    /// Its control group, made before.
    pub cgroup: &'a Cgroup,
    /// Its standard streams. The caller's copies are dropped with the `Launch`.
    pub stdio: Stdio,
    /// Kill it when the thread that called [`prepare`] ends: for steps of a build, which nobody takes over.
    pub dies_with_caller: bool,
}

/// A stack of layers.
#[derive(Debug, Clone, Default)]
pub struct RootFs {
    /// Read-only folders, top-most first, as overlayfs wants them. At most 500.
    pub lowers: Vec<PathBuf>,
    /// Where changes go. `None`: read-only.
    pub upper: Option<UpperLayer>,
}

/// The writable layer of a stack.
#[derive(Debug, Clone)]
pub struct UpperLayer {
    /// Where changes go.
    pub upper: PathBuf,
    /// Overlayfs's own folder on the same file system, empty.
    pub work: PathBuf,
    /// Never sync it: for layers that are thrown away (`--rm`) or synced once by their owner (build steps). What a
    /// crash of the host took from it is lost without a word.
    pub volatile: bool,
}

/// One mount of the spec, resolved.
#[derive(Debug)]
pub struct ResolvedMount {
    /// Absolute path inside; created when missing, as a folder or a file like its source.
    pub target: String,
    /// Whether it (with all its submounts) is read-only.
    pub read_only: bool,
    /// What is mounted.
    pub source: ResolvedSource,
}

/// What a resolved mount shows.
#[derive(Debug)]
pub enum ResolvedSource {
    /// A host file or folder (a bind mount or a volume's data folder). It must exist.
    Bind {
        /// Absolute host path.
        path: PathBuf,
        /// A path below it, resolved as if it were the root: no way out. For `subpath` of volumes.
        subpath: Option<String>,
        /// `rprivate`, `private`, `rslave`, `slave`, `rshared`, `shared`. Default `rprivate`.
        propagation: Option<String>,
        /// Whether submounts come along.
        recursive: bool,
        /// Whether its files have the ids of the container's user namespace, where it has one. Else they keep the
        /// host's: root inside may do what anybody may.
        map_owners: bool,
    },
    /// A fresh file system in memory.
    Tmpfs {
        /// Size limit.
        size_bytes: Option<u64>,
        /// Mode of its root, default 0o1777.
        mode: Option<u32>,
        /// Further mount options as typed (`noexec`, `uid=1000`).
        options: Vec<String>,
    },
    /// A file system of any kind that the kernel knows, such as `nfs`. It is mounted from the host's side: its network is
    /// the host's.
    FileSystem {
        /// Its kind.
        kind: String,
        /// What it is on: a device, `server:/path`; may be empty.
        device: String,
        /// Mount options, each `flag` or `key=value`.
        options: Vec<String>,
        /// A path inside it.
        subpath: Option<String>,
    },
    /// A stack of layers: an image, or the file system of another build stage.
    Layers {
        /// The stack.
        stack: RootFs,
        /// A path inside it.
        subpath: Option<String>,
    },
}

/// Host files that are bound over /etc inside, writable. `None` leaves what the image has.
#[derive(Debug, Clone, Default)]
pub struct EtcFiles {
    /// /etc/hosts.
    pub hosts: Option<PathBuf>,
    /// /etc/resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// /etc/hostname.
    pub hostname: Option<PathBuf>,
}

/// The network namespace of a container.
#[derive(Debug)]
pub enum NetNamespace {
    /// A new one, with loopback up and nothing else: the caller furnishes it between [`prepare`] and `start`.
    New,
    /// The host's.
    Host,
    /// An existing one: another container's, or a pinned one.
    Join(OwnedFd),
}

/// First processes of the containers whose namespaces are shared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Joins {
    /// Whose PID namespace.
    pub pid: Option<ProcessIdentity>,
    /// Whose IPC namespace and /dev/shm.
    pub ipc: Option<ProcessIdentity>,
    /// Whose UTS namespace.
    pub uts: Option<ProcessIdentity>,
    /// Whose user namespace, where the spec has ranges of ids: that container's.
    pub user: Option<ProcessIdentity>,
}

/// Standard streams of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Three files, handed to the process's user by fchown where they are pipes or FIFOs.
    Pipes {
        /// Read end for stdin, or /dev/null.
        stdin: OwnedFd,
        /// Write end for stdout.
        stdout: OwnedFd,
        /// Write end for stderr.
        stderr: OwnedFd,
    },
    /// A terminal in the container's own devpts; its master is returned by `take_console`.
    Terminal {
        /// Height.
        rows: u16,
        /// Width.
        cols: u16,
    },
}

/// Makes the container's process and lets it build its namespaces and mounts; it then waits for
/// [`Prepared::start`].
///
/// Returns as soon as the process exists: its set-up goes on while the caller furnishes the network. Errors: what
/// can be known before, such as a missing source of a mount or an unknown user; the child's own come from `start`.
pub fn prepare(launch: &Launch<'_>) -> Result<Prepared, Error> {
    let ids = user_namespace(launch)?;
    let (plan, names, console) = make_plan(launch, ids.as_ref())?;
    let channels = Channels::new()?;
    let ends = Ends {
        go: channels.go.as_fd(),
        wait: channels.wait.as_fd(),
        listen: channels.listen.as_fd(),
        report: channels.report.as_fd(),
    };
    let namespaces = own_namespaces(launch);
    let target = launch.cgroup.clone_target();
    let body = || child::launch(&plan, &ends);
    let child = match (launch.joins.pid, &ids) {
        (pid, Some(ids)) => {
            let pid = pid.map(|other| running::namespace_of(other, "pid")).transpose()?;
            let way = UserWay { ids: ids.as_fd(), pid: pid.as_ref().map(AsFd::as_fd), plan: &plan };
            way.clone(namespaces, target, body)
        }
        (Some(other), None) => in_pid_namespace(running::namespace_of(other, "pid")?.as_fd(), || {
            process::clone_process(namespaces, target, body)
        })?,
        (None, None) => process::clone_process(namespaces, target, body),
    };
    let child = child.map_err(|errno| step(super::error::MAKE_PROCESS, errno))?;
    Prepared::new(child, channels, names, console)
}

/// The way to a process in a user namespace: one in between enters it and makes the process there, as its sibling.
struct UserWay<'a> {
    ids: BorrowedFd<'a>,
    /// A PID namespace that is joined.
    pid: Option<BorrowedFd<'a>>,
    plan: &'a LaunchPlan,
}

impl UserWay<'_> {
    fn clone(
        &self,
        namespaces: i32,
        target: Option<BorrowedFd<'_>>,
        body: impl FnOnce() -> i32,
    ) -> rustix::io::Result<Child> {
        let (ours, theirs) = handle::pair()?;
        let between = process::clone_process(0, None, || {
            // Dropped there, where nobody is left to tell.
            process::close_inherited(ours.as_fd());
            let made = self.enter().and_then(|()| process::clone_sibling(namespaces, target, body));
            let made = made.as_ref().map(|child| (child.pidfd.as_fd(), child.pid));
            handle::send(theirs.as_fd(), made.map_err(|errno| Refused { step: 0, errno: *errno }))
        })?;
        drop(theirs);
        let received = handle::receive(ours.as_fd());
        running::reap(between.pidfd.as_fd()).map_err(|_| rustix::io::Errno::CHILD)?;
        let (pidfd, pid) = received.map_err(|refused| refused.errno)?;
        Ok(Child { pid, pidfd })
    }

    /// Does what only the host's root may, then enters the user namespace.
    fn enter(&self) -> rustix::io::Result<()> {
        process::reset_scheduling();
        child::adjust_oom_score(&self.plan.entry);
        process::raise_hard_limits(self.plan.process.limits.iter().map(|(resource, _, hard)| (*resource, *hard)));
        if let Some(pid) = self.pid {
            process::set_namespace(pid, libc::CLONE_NEWPID)?;
        }
        process::set_namespace(self.ids, libc::CLONE_NEWUSER)
    }
}

/// The user namespace of a container that does not have the host's: that of the namespaces which it joins, else a
/// new one.
fn user_namespace(launch: &Launch<'_>) -> Result<Option<Ids>, Error> {
    let (uids, gids) = (&launch.spec.uid_maps, &launch.spec.gid_maps);
    if uids.is_empty() || gids.is_empty() {
        return Ok(None);
    }
    let mut joined = Vec::new();
    if let NetNamespace::Join(namespace) = &launch.net {
        joined.push(
            namespace.try_clone().map_err(|source| Error::Step { step: "duplicate a descriptor".into(), source })?,
        );
    }
    let others =
        [(launch.joins.pid, "pid"), (launch.joins.ipc, "ipc"), (launch.joins.uts, "uts"), (launch.joins.user, "user")];
    for (other, kind) in others {
        let Some(other) = other else { continue };
        joined.push(running::namespace_of(other, if kind == "user" { "mnt" } else { kind })?);
    }
    let mut joined = joined.into_iter();
    let Some(first) = joined.next() else { return Ids::make(uids, gids).map(Some) };
    let ids = Ids::of_owner(first.as_fd(), uids, gids)?;
    joined.try_for_each(|namespace| ids.check_owner(namespace.as_fd()))?;
    Ok(Some(ids))
}

fn step(step: &str, errno: rustix::io::Errno) -> Error {
    Error::Step { step: step.into(), source: errno.into() }
}

/// Makes clones of this thread land in a PID namespace while `clone` runs.
pub(super) fn in_pid_namespace<T>(namespace: BorrowedFd<'_>, clone: impl FnOnce() -> T) -> Result<T, Error> {
    let refused = |errno| step("join the PID namespace", errno);
    let own =
        rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(refused)?;
    process::set_namespace(namespace, libc::CLONE_NEWPID).map_err(refused)?;
    let result = clone();
    // Joining one's own active namespace is always permitted.
    process::set_namespace(own.as_fd(), libc::CLONE_NEWPID).map_err(refused)?;
    Ok(result)
}

/// The namespaces that the child is born into. That of control groups comes later, when it is in its group.
fn own_namespaces(launch: &Launch<'_>) -> i32 {
    let security = &launch.spec.security;
    let mut kinds = libc::CLONE_NEWNS;
    for (mode, kind) in
        [(&security.pid, libc::CLONE_NEWPID), (&security.ipc, libc::CLONE_NEWIPC), (&security.uts, libc::CLONE_NEWUTS)]
    {
        if *mode == NamespaceMode::Private {
            kinds |= kind;
        }
    }
    if matches!(launch.net, NetNamespace::New) {
        kinds |= libc::CLONE_NEWNET;
    }
    kinds
}

fn make_plan(launch: &Launch<'_>, ids: Option<&Ids>) -> Result<(LaunchPlan, Names, Option<OwnedFd>), Error> {
    let spec = launch.spec;
    let root = layers::layers(&launch.root, "/", ids)?;
    let mounts = mounts::plan(launch, ids)?;
    let user = resolve_user(launch, &root)?;
    let opened = open_stdio(&launch.stdio, mounts.terminals.as_ref())?;
    if let Some(ids) = ids {
        process_plan::give_streams(&opened.plan, ids.check(&user)?)?;
    }
    let has_console = opened.console.is_some();
    let (mut process, mut names) = process_plan::plan(spec, &spec.process, false, &user, opened.plan)?;
    process.dies_with_parent = launch.dies_with_caller;
    let (masked, read_only) = defaults::system_paths(&spec.security)?;
    let (mut nodes, node_names) = defaults::nodes(&spec.security, mounts.own_dev)?;
    if let Some(ids) = ids {
        // None is left for the child, which may make none.
        defaults::make_nodes(std::mem::take(&mut nodes), mounts.dev.as_ref(), ids)?;
    }
    let own_network = !matches!(launch.net, NetNamespace::Host);
    let sysctls = defaults::sysctls(&spec.sysctls, own_network, &spec.security.ipc, ids.map(Ids::last_group))?;
    names.hidden = masked.iter().map(SystemPath::shown).collect();
    names.read_only = read_only.iter().map(SystemPath::shown).collect();
    names.sysctls = sysctls.iter().map(|(path, _)| path.replace('/', ".")).collect();
    names.nodes = node_names;
    names.files = launch.files.iter().map(|(file, _)| file.target.clone()).collect();
    names.mounts = mounts.names;
    let (joins, shared_memory) = open_joins(launch)?;
    let own_uts = spec.security.uts == NamespaceMode::Private;
    let plan = LaunchPlan {
        entry: EntryPlan::new(spec, launch.cgroup)?,
        becomes_root: ids.is_some(),
        staged: false,
        keyring: true,
        joins,
        shared_memory,
        cgroup_namespace: spec.security.cgroup == NamespaceMode::Private,
        loopback: matches!(launch.net, NetNamespace::New),
        root,
        root_place: c"/".into(),
        without_pivot: false,
        root_read_only: spec.read_only,
        root_propagation: 0,
        dev_read_only: false,
        mounts: mounts.steps,
        nodes,
        files: file_steps(launch)?,
        dev: mounts.dev,
        has_console,
        hostname: own_uts.then(|| spec.hostname.clone().into_bytes()),
        domainname: spec.domainname.as_ref().filter(|_| own_uts).map(|name| name.clone().into_bytes()),
        masked,
        read_only,
        sysctls: sysctls
            .into_iter()
            .map(|(path, value)| Ok((mounts::c_string(&path)?, value.into_bytes())))
            .collect::<Result<_, Error>>()?,
        init: spec.init,
        process,
    };
    Ok((plan, names, opened.console))
}

/// Resolves the user as the container will see the files: a config or mount on /etc/passwd counts.
fn resolve_user(launch: &Launch<'_>, root: &OwnedFd) -> Result<User, Error> {
    let process = &launch.spec.process;
    let read = |path: &'static str| {
        if let Some((_, content)) = launch.files.iter().find(|(file, _)| file.target == path) {
            return Ok(String::from_utf8_lossy(content).into_owned());
        }
        let bound = launch.mounts.iter().find_map(|mount| match &mount.source {
            ResolvedSource::Bind { path: source, .. } if mount.target == path => Some(source),
            _ => None,
        });
        match bound.and_then(|source| Some((source.parent()?, source.file_name()?))) {
            Some((folder, name)) => {
                let refused = |errno: rustix::io::Errno| Error::UserFile { path, source: errno.into() };
                let folder = super::root::open_root(folder).map_err(refused)?;
                let content = super::root::read_in_root(folder.as_fd(), name.as_ref(), 1 << 20).map_err(refused)?;
                Ok(String::from_utf8_lossy(&content).into_owned())
            }
            None => user::read(root.as_fd(), path),
        }
    };
    user::resolve_from(read, &process.user, &process.additional_groups)
}

/// Opens the standard streams; a terminal comes from the container's own devpts.
fn open_stdio(stdio: &Stdio, terminals: Option<&OwnedFd>) -> Result<OpenStdio, Error> {
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => process_plan::open_pipes(stdin, stdout, stderr),
        Stdio::Terminal { rows, cols } => {
            let refused = |errno| step(super::error::OPEN_TERMINAL, errno);
            let terminals = terminals.ok_or(rustix::io::Errno::NODEV).map_err(refused)?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let master = rustix::fs::openat(terminals, "ptmx", flags, Mode::empty()).map_err(refused)?;
            process_plan::open_terminal(master, *rows, *cols)
        }
    }
}

/// A namespace and its kind (`CLONE_NEW*`).
type Join = (OwnedFd, i32);

/// Opens the namespaces of others that are joined, and the mount namespace whose /dev/shm is shared.
fn open_joins(launch: &Launch<'_>) -> Result<(Vec<Join>, Option<OwnedFd>), Error> {
    let security = &launch.spec.security;
    let mut joins = Vec::new();
    if let NetNamespace::Join(namespace) = &launch.net {
        let copy =
            namespace.try_clone().map_err(|source| Error::Step { step: "duplicate a descriptor".into(), source })?;
        joins.push((copy, libc::CLONE_NEWNET));
    }
    let mut shared_memory = None;
    if let (NamespaceMode::Container(_), Some(other)) = (&security.ipc, launch.joins.ipc) {
        joins.push((running::namespace_of(other, "ipc")?, libc::CLONE_NEWIPC));
        shared_memory = Some(running::namespace_of(other, "mnt")?);
    }
    if let (NamespaceMode::Container(_), Some(other)) = (&security.uts, launch.joins.uts) {
        joins.push((running::namespace_of(other, "uts")?, libc::CLONE_NEWUTS));
    }
    for (mode, join) in
        [(&security.ipc, launch.joins.ipc), (&security.uts, launch.joins.uts), (&security.pid, launch.joins.pid)]
    {
        if matches!(mode, NamespaceMode::Container(_)) && join.is_none() {
            return Err(Error::Unsupported { feature: "a shared namespace without the process to share it with" });
        }
    }
    Ok((joins, shared_memory))
}

fn file_steps(launch: &Launch<'_>) -> Result<Vec<FileStep>, Error> {
    let steps = launch.files.iter().enumerate().map(|(number, (file, content))| {
        Ok(FileStep {
            name: mounts::c_string(&number.to_string())?,
            target: mounts::c_string(&file.target)?,
            content: content.clone(),
            owner: (file.uid, file.gid),
            mode: file.mode & 0o7777,
        })
    });
    steps.collect()
}
