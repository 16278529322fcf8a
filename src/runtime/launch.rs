//! What a container's first process is started from, and the start itself.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::{Cgroup, Error, Prepared};
use crate::model::container::{ContainerSpec, InlineFile, ProcessIdentity};

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
    /// Never sync it: for layers that are thrown away (`--rm`) or synced once by their owner (build steps). After
    /// a crash the folder cannot be mounted again until `work/work/incompat/volatile` is removed.
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
/// Returns as soon as the process exists: its set-up goes on while the caller furnishes the network.
pub fn prepare(launch: &Launch<'_>) -> Result<Prepared, Error> {
    let _ = launch;
    todo!()
}
