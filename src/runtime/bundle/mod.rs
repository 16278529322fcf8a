//! Containers from OCI bundles: a folder with `config.json` and a root file system, made by somebody else.
//!
//! ```text
//! config.rs      config.json; fields that cannot be carried out are errors that name them
//! options.rs     options of mounts                  ┐
//! mounts.rs      mounts, device nodes, paths        ├─► the child's plan, which prepare() makes for our own specs
//! process.rs     user, capabilities, limits, …      │
//! resources.rs   control group                      ┘
//! ```
//! Everything that is there is what the bundle says: no default of ours is added. The way of the child is that of every
//! container ([`super::child`]); it stops twice more, for hooks and until it is started by another process.
//!
//! Source: <https://github.com/opencontainers/runtime-spec/blob/v1.2.1/spec.md>.

mod config;
mod mounts;
mod options;
mod process;
mod resources;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::child::{self, Ends};
use super::launch::in_pid_namespace;
use super::plan::{Channels, EntryPlan, LaunchPlan, Names, SystemPath};
use super::process::{OpenStdio, open_pipes, open_terminal};
use super::{Cgroup, Prepared, Running, Stdio, defaults, exec};
use crate::base::error::Explain;
use crate::model::container::ProcessIdentity;
use crate::sys::mount::MountAttributes;
use crate::sys::process as sys_process;

pub use config::{Config, Hook, Hooks, Process};
pub use options::names as mount_options;

/// A bundle that is made a container.
#[derive(Debug)]
pub struct Bundle {
    /// Its folder, absolute.
    pub folder: PathBuf,
    /// What it says.
    pub config: Config,
    /// Do not give it a session keyring of its own.
    pub keeps_keyring: bool,
    /// Do not exchange roots, put one over the other.
    pub without_pivot: bool,
    /// How many descriptors behind the standard ones it inherits.
    pub preserved: u32,
}

/// An error of a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `config.json`, or the file of a process, is malformed.
    #[error("config.json is malformed")]
    Config {
        /// Where and what.
        source: serde_json::Error,
    },
    /// A field cannot be carried out.
    #[error("config.json: `{field}`: {problem}")]
    Field {
        /// Its path.
        field: String,
        /// Why not.
        problem: String,
    },
    /// The runtime's own.
    #[error(transparent)]
    Runtime(#[from] super::Error),
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Runtime(error) => error.hint(),
            _ => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Runtime(error) => error.exit_code(),
            _ => 1,
        }
    }
}

fn refused<T>(field: &str, problem: &str) -> Result<T, Error> {
    Err(Error::Field { field: field.to_owned(), problem: problem.to_owned() })
}

fn step(step: &str, errno: rustix::io::Errno) -> Error {
    Error::Runtime(super::Error::Step { step: step.into(), source: errno.into() })
}

/// The kinds of namespaces by name.
const NAMESPACES: [(&str, i32); 6] = [
    ("pid", libc::CLONE_NEWPID),
    ("network", libc::CLONE_NEWNET),
    ("mount", libc::CLONE_NEWNS),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
];

/// The names of the namespaces that a bundle can ask for.
pub fn namespaces() -> impl Iterator<Item = &'static str> {
    NAMESPACES.into_iter().map(|(name, ..)| name)
}

/// The namespaces of a bundle.
#[derive(Default)]
struct Namespaces {
    /// `CLONE_NEW*` of the new ones.
    new: i32,
    /// Those that exist.
    joins: Vec<(OwnedFd, i32)>,
    /// That of processes, joined before the clone.
    pid: Option<OwnedFd>,
}

impl Namespaces {
    fn of(config: &Config) -> Result<Self, Error> {
        let (mut found, mut seen) = (Self::default(), 0);
        for (number, wish) in config.linux.namespaces.iter().enumerate() {
            let field = format!("linux.namespaces[{number}]");
            let Some((_, kind)) = NAMESPACES.into_iter().find(|(name, ..)| *name == wish.kind) else {
                return refused(
                    &field,
                    &format!("namespaces of the type `{}` are not supported in bundles", wish.kind),
                );
            };
            if seen & kind != 0 {
                return refused(&field, &format!("`{}` is given twice", wish.kind));
            }
            seen |= kind;
            if wish.path.as_os_str().is_empty() {
                found.new |= kind;
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open(&wish.path, flags, Mode::empty())
                .map_err(|errno| step(&format!("open the namespace {}", wish.path.display()), errno))?;
            match kind {
                libc::CLONE_NEWNS => return refused(&field, "an existing mount namespace cannot be joined"),
                libc::CLONE_NEWPID => found.pid = Some(file),
                _ => found.joins.push((file, kind)),
            }
        }
        if found.new & libc::CLONE_NEWNS == 0 {
            return refused("linux.namespaces", "there is none of the type `mount`");
        }
        Ok(found)
    }

    fn is_own(&self, kind: i32) -> bool {
        self.new & kind != 0 || self.joins.iter().any(|(_, joined)| *joined == kind)
    }
}

impl Bundle {
    /// Makes the control group of the bundle at `path`, with its limits.
    pub fn make_cgroup(&self, path: &str) -> Result<Cgroup, Error> {
        let resources = &self.config.linux.resources;
        let rules = resources::devices(resources)?;
        let is_unified = super::cgroup::is_unified();
        let limits = resources::Limits::parse(resources, is_unified)?;
        Ok(Cgroup::create_at(path, &rules, |cgroup| limits.set(cgroup))?)
    }

    /// Makes the container's process, which goes on to [`Prepared::mounted`] by itself.
    ///
    /// `go` and `report` are named pipes that the process is let go and heard by, also by others than its parent.
    /// Errors: a field that cannot be carried out; what the runtime says.
    pub fn prepare(&self, cgroup: &Cgroup, stdio: &Stdio, go: &Path, report: &Path) -> Result<Prepared, Error> {
        let namespaces = Namespaces::of(&self.config)?;
        let (plan, names, console, namespaces) = self.plan(cgroup, stdio, namespaces)?;
        let channels = Channels::named(go, report)?;
        let ends = Ends {
            go: channels.go.as_fd(),
            wait: channels.wait.as_fd(),
            listen: channels.listen.as_fd(),
            report: channels.report.as_fd(),
        };
        // That of control groups comes when the process is in its group.
        let kinds = namespaces.new & !libc::CLONE_NEWCGROUP;
        let body = || child::launch(&plan, &ends);
        let clone = || sys_process::clone_process(kinds, cgroup.clone_target(), body);
        let cloned = match &namespaces.pid {
            Some(namespace) => in_pid_namespace(namespace.as_fd(), clone)?,
            None => clone(),
        };
        let child = cloned.map_err(|errno| step(crate::runtime::error::MAKE_PROCESS, errno))?;
        Ok(Prepared::new(child, channels, names, console)?)
    }

    fn plan(
        &self,
        cgroup: &Cgroup,
        stdio: &Stdio,
        mut namespaces: Namespaces,
    ) -> Result<(LaunchPlan, Names, Option<OwnedFd>, Namespaces), Error> {
        let config = &self.config;
        let linux = &config.linux;
        let Some(process) = &config.process else { return refused("process", "it is missing") };
        let Some(root) = &config.root else { return refused("root", "it is missing") };
        let root_path = self.folder.join(&root.path);
        let tree = self.open_root(&root_path)?;
        let made = mounts::plan(self, cgroup, tree.as_fd())?;
        let opened = open_stdio(stdio, made.mounts.terminals.as_ref())?;
        let has_console = opened.console.is_some() && made.mounts.own_dev;
        let mut names = process::names(process);
        let process_plan = process::plan(config, process, tree.as_fd(), opened.plan, self.preserved)?;
        let (nodes, node_names) = mounts::nodes(config, made.mounts.own_dev)?;
        let masked = mounts::system_paths(config, &linux.masked_paths)?;
        let read_only = mounts::system_paths(config, &linux.readonly_paths)?;
        let sysctls = self.sysctls(&namespaces)?;
        names.hidden = masked.iter().map(SystemPath::shown).collect();
        names.read_only = read_only.iter().map(SystemPath::shown).collect();
        names.sysctls = sysctls.iter().map(|(path, _)| path.replace('/', ".")).collect();
        names.nodes = node_names;
        names.mounts = made.mounts.names;
        let plan = LaunchPlan {
            entry: entry(process, cgroup)?,
            becomes_root: false,
            staged: true,
            keyring: !self.keeps_keyring,
            joins: std::mem::take(&mut namespaces.joins),
            shared_memory: None,
            cgroup_namespace: namespaces.new & libc::CLONE_NEWCGROUP != 0,
            loopback: namespaces.new & libc::CLONE_NEWNET != 0,
            root: tree,
            root_place: super::mounts::c_string(&root_path.to_string_lossy())?,
            without_pivot: self.without_pivot,
            root_read_only: root.readonly,
            root_propagation: self.root_propagation()?,
            dev_read_only: made.dev_read_only,
            dev: None,
            mounts: made.mounts.steps,
            nodes,
            files: Vec::new(),
            has_console,
            hostname: config.hostname.as_ref().map(|name| name.clone().into_bytes()),
            domainname: config.domainname.as_ref().map(|name| name.clone().into_bytes()),
            masked,
            read_only,
            sysctls: sysctls
                .into_iter()
                .map(|(path, value)| Ok((super::mounts::c_string(&path)?, value.into_bytes())))
                .collect::<Result<_, Error>>()?,
            init: false,
            process: process_plan,
        };
        Ok((plan, names, opened.console, namespaces))
    }

    /// A copy of the mount of the root file system, with what is mounted below it.
    fn open_root(&self, path: &Path) -> Result<OwnedFd, Error> {
        let failed = |errno: rustix::io::Errno| step(&format!("open the root file system {}", path.display()), errno);
        let folder = super::root::open_root(path).map_err(failed)?;
        let tree = crate::sys::mount::clone_tree(folder.as_fd(), c"", true).map_err(failed)?;
        let private = MountAttributes { propagation: libc::MS_PRIVATE, ..Default::default() };
        crate::sys::mount::set_attributes(tree.as_fd(), private, true).map_err(failed)?;
        Ok(tree)
    }

    fn root_propagation(&self) -> Result<u64, Error> {
        match self.config.linux.rootfs_propagation.as_str() {
            "" => Ok(0),
            name => match options::propagation(name) {
                Some(flags) => Ok(flags),
                None => refused("linux.rootfsPropagation", &format!("`{name}` is not a kind of propagation")),
            },
        }
    }

    fn sysctls(&self, namespaces: &Namespaces) -> Result<Vec<(String, String)>, Error> {
        let (own_network, own_ipc) = (namespaces.is_own(libc::CLONE_NEWNET), namespaces.is_own(libc::CLONE_NEWIPC));
        if !namespaces.is_own(libc::CLONE_NEWUTS) {
            for (field, value) in [("hostname", &self.config.hostname), ("domainname", &self.config.domainname)] {
                if value.as_ref().is_some_and(|name| !name.is_empty()) {
                    return refused(field, "it needs a namespace of the type `uts`");
                }
            }
        }
        Ok(defaults::own_sysctls(&self.config.linux.sysctl, own_network, own_ipc)?.into_iter().collect())
    }
}

fn entry(process: &Process, cgroup: &Cgroup) -> Result<EntryPlan, Error> {
    let score = match process.oom_score_adj {
        Some(score @ -1000..=1000) => score.to_string().into_bytes(),
        Some(score) => return refused("process.oomScoreAdj", &format!("{score} is not from -1000 to 1000")),
        None => Vec::new(),
    };
    Ok(EntryPlan { cgroups: cgroup.join_files()?, oom_score_adj: score })
}

/// The standard streams; the first terminal of the container's own devpts.
fn open_stdio(stdio: &Stdio, terminals: Option<&OwnedFd>) -> Result<OpenStdio, Error> {
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => Ok(open_pipes(stdin, stdout, stderr)?),
        Stdio::Terminal { rows, cols } => {
            let Some(terminals) = terminals else {
                return refused("process.terminal", "there is no mount of the type devpts at /dev/pts");
            };
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let master = rustix::fs::openat(terminals, "ptmx", flags, Mode::empty())
                .map_err(|errno| step(crate::runtime::error::OPEN_TERMINAL, errno))?;
            Ok(open_terminal(master, *rows, *cols)?)
        }
    }
}

/// Starts `process` in a running container of a bundle and returns when its program runs, as a child of the caller.
///
/// Errors: a paused or ended container, unless it `may_be_paused`; those of [`Bundle::prepare`].
pub fn enter(
    config: &Config,
    identity: ProcessIdentity,
    cgroup: &Cgroup,
    process: &Process,
    stdio: &Stdio,
    preserved: u32,
    may_be_paused: bool,
) -> Result<Running, Error> {
    if cgroup.is_frozen() && !may_be_paused {
        return Err(super::Error::Paused.into());
    }
    let root = exec::open_root(identity)?;
    let opened = exec::open_stdio(stdio, &root)?;
    let plan = process::plan(config, process, root.as_fd(), opened.plan, preserved)?;
    let names = process::names(process);
    let entry = entry(process, cgroup)?;
    Ok(exec::enter(identity, cgroup, exec::NAMESPACES, &entry, &plan, names, opened.console)?.start()?)
}

/// Starts a program of the host's or the container's, whichever is found at its path from inside, in the namespaces of
/// the process `identity`, with all the caller's powers.
pub fn spawn_inside(
    identity: ProcessIdentity,
    mut command: std::process::Command,
) -> Result<std::process::Child, super::Error> {
    let not_running = super::Error::NotRunning { pid: identity.pid };
    let Some(pidfd) = super::running::identify(identity) else { return Err(not_running) };
    let namespace = super::running::namespace_of(identity, "pid")?;
    sys_process::enter_when_started(&mut command, pidfd, exec::NAMESPACES);
    in_pid_namespace(namespace.as_fd(), || command.spawn())?
        .map_err(|source| super::Error::Step { step: "run it in the container".into(), source })
}

/// Lets a container go that was made by another process, and returns when its program runs.
///
/// Errors: why it does not; the container's process ended.
pub fn start(config: &Config, go: &Path, report: &Path) -> Result<(), Error> {
    let names = config.process.as_ref().map(process::names).unwrap_or_default();
    let names = Names { sysctls: config.linux.sysctl.keys().cloned().collect(), ..names };
    Ok(super::running::start_named(go, report, &names)?)
}
