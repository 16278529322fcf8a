//! What the child of a clone does, written down before: every string, descriptor and number it needs.
//!
//! The child ([`super::child`]) only reads it; it neither allocates nor locks. What fails is told to the parent as
//! a [`Failure`] of twelve bytes, which [`Names`] turn into words.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Error;
use super::apparmor::Profile;
use super::own_program::OwnProgram;
use super::seccomp::Filter;
use crate::sys::process::StringVector;

/// A pipe to the child and one from it.
#[derive(Debug)]
pub(super) struct Channels {
    /// The parent's end: a byte lets the child go, the end of file ends it.
    pub go: OwnedFd,
    /// The child's end.
    pub wait: OwnedFd,
    /// The parent's end: [`READY`] and the end of file, or a [`Failure`].
    pub listen: OwnedFd,
    /// The child's end, closed by execve.
    pub report: OwnedFd,
}

/// What the child writes before its last step: without it, the end of file means that the child died.
pub(super) const READY: u8 = 1;
/// What the child writes, where it was asked to, when its mounts are made and its root is still the host's.
pub(super) const MOUNTED: u8 = 2;
/// What the child writes, where it was asked to, when everything is made and it waits to be let go.
pub(super) const CREATED: u8 = 3;

impl Channels {
    pub fn new() -> Result<Self, Error> {
        let pipe = || {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(|errno| Error::Step { step: "make a pipe".into(), source: errno.into() })?;
            // The child puts its standard streams on 0 to 2: nothing else may be there.
            Ok((above_stdio(read)?, above_stdio(write)?))
        };
        let (wait, go) = pipe()?;
        let (listen, report) = pipe()?;
        Ok(Self { go, wait, listen, report })
    }

    /// Channels through two named pipes, which another process than the child's parent may let it go by.
    ///
    /// The child holds both of its ends for reading and writing: it sees neither the end of its parent nor a broken
    /// pipe.
    pub fn named(go: &std::path::Path, report: &std::path::Path) -> Result<Self, Error> {
        let open = |path: &std::path::Path, flags| {
            let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
            above_stdio(opened.map_err(|errno| Error::Step {
                step: format!("open the pipe {}", path.display()),
                source: errno.into(),
            })?)
        };
        Ok(Self {
            wait: open(go, OFlags::RDWR)?,
            go: open(go, OFlags::WRONLY)?,
            report: open(report, OFlags::RDWR)?,
            listen: open(report, OFlags::RDONLY)?,
        })
    }
}

/// Moves a descriptor above the standard ones, should it be one of them (a caller started without them).
pub(super) fn above_stdio(file: OwnedFd) -> Result<OwnedFd, Error> {
    use std::os::fd::AsRawFd;
    if file.as_raw_fd() > 2 {
        return Ok(file);
    }
    rustix::io::fcntl_dupfd_cloexec(&file, 3)
        .map_err(|errno| Error::Step { step: "duplicate a descriptor".into(), source: errno.into() })
}

/// The umask of every process in a container that is not asked for another.
pub(super) const UMASK: u32 = 0o022;

/// The set-up of a container's first process.
#[derive(Debug)]
pub(super) struct LaunchPlan {
    pub entry: EntryPlan,
    /// Whether it is root of its user namespace from the start: it was made by nobody there.
    pub becomes_root: bool,
    /// Whether it tells when it is [`MOUNTED`] and [`CREATED`], and waits for a byte at each.
    pub staged: bool,
    /// Whether it gets a session keyring of its own.
    pub keyring: bool,
    /// Namespaces of others to join: file and kind (`CLONE_NEW*`).
    pub joins: Vec<(OwnedFd, i32)>,
    /// The mount namespace whose /dev/shm is shared.
    pub shared_memory: Option<OwnedFd>,
    /// Whether it gets a control group namespace, after it joined its group.
    pub cgroup_namespace: bool,
    /// Whether loopback is brought up.
    pub loopback: bool,
    /// The root, a detached mount.
    pub root: OwnedFd,
    /// The folder of the host that the root is attached to, where others look for it; `/` when it does not matter.
    pub root_place: CString,
    /// Move the root over the host's instead of exchanging them: for hosts that run from an initramfs.
    pub without_pivot: bool,
    /// Whether it is made read-only at the end.
    pub root_read_only: bool,
    /// Propagation of the root at the end: `MS_*` flags, 0 to leave it.
    pub root_propagation: u64,
    /// Whether /dev is made read-only when its nodes are there.
    pub dev_read_only: bool,
    pub mounts: Vec<MountStep>,
    /// Device nodes: default ones and those of the spec.
    pub nodes: Vec<Node>,
    /// Configs and secrets.
    pub files: Vec<FileStep>,
    /// The handle of /dev, when it was made by the parent: nodes are in it already.
    pub dev: Option<OwnedFd>,
    /// The slave of its terminal, bound on /dev/console.
    pub has_console: bool,
    pub hostname: Option<Vec<u8>>,
    pub domainname: Option<Vec<u8>>,
    /// Paths that are hidden.
    pub masked: Vec<SystemPath>,
    /// Paths that are made read-only.
    pub read_only: Vec<SystemPath>,
    /// Path below /proc/sys and value.
    pub sysctls: Vec<(CString, Vec<u8>)>,
    /// Whether our init stays as PID 1 and the program is its child.
    pub init: bool,
    pub process: ProcessPlan,
}

/// The first steps of any process of a container.
#[derive(Debug)]
pub(super) struct EntryPlan {
    /// `tasks` files of cgroup v1 to write `0` to.
    pub cgroups: Vec<OwnedFd>,
    /// Content of /proc/self/oom_score_adj; empty leaves the caller's.
    pub oom_score_adj: Vec<u8>,
}

/// A process from its identity to its program.
#[derive(Debug)]
pub(super) struct ProcessPlan {
    pub stdio: StdioPlan,
    /// `RLIMIT_*`, soft and hard.
    pub limits: Vec<(i32, u64, u64)>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<rustix::fs::Gid>,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    /// The umask of the program.
    pub umask: u32,
    /// How many descriptors behind the standard ones the program inherits.
    pub preserved: u32,
    /// Execution domain (`personality(2)`); `None` leaves it.
    pub personality: Option<u64>,
    /// I/O class and priority as ioprio_set(2) takes them; `None` is the default.
    pub io_priority: Option<i32>,
    /// How the program is scheduled; `None` is the default.
    pub schedule: Option<crate::sys::process::Schedule>,
    /// Whether a working folder that is missing is made.
    pub makes_folder: bool,
    /// The AppArmor profile that it enters.
    pub profile: Option<Profile>,
    /// Whether it is killed when the thread that made it ends.
    pub dies_with_parent: bool,
    pub filter: Option<Filter>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub filter_flags: u64,
    /// Working folder, made when it is missing.
    pub cwd: CString,
    /// Paths that the program may be at, in order.
    pub candidates: Vec<CString>,
    /// What none of them may lead to.
    pub own_program: OwnProgram,
    pub arguments: StringVector,
    pub environment: StringVector,
}

/// The sets of capabilities of a program, bit n for capability n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Capabilities {
    pub bounding: u64,
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

impl Capabilities {
    /// Those of `uid` with `set` as its bound: only root holds them, and none is inherited (CVE-2022-24769).
    pub fn of_user(uid: u32, set: u64) -> Self {
        let held = if uid == 0 { set } else { 0 };
        Self { bounding: set, permitted: held, effective: held, inheritable: 0, ambient: 0 }
    }
}

/// Standard streams, all above 2.
#[derive(Debug)]
pub(super) enum StdioPlan {
    Pipes([OwnedFd; 3]),
    /// The slave of a terminal, which becomes the controlling one.
    Terminal(OwnedFd),
}

/// One step of the mounts.
#[derive(Debug)]
pub(super) struct MountStep {
    /// Absolute path inside.
    pub target: CString,
    pub action: MountAction,
}

#[derive(Debug)]
pub(super) enum MountAction {
    /// Attaches what the parent prepared, or a path inside it.
    Attach { mount: OwnedFd, is_folder: bool, subpath: Option<CString> },
    /// Changes the propagation of the mount at the target: `MS_*` flags.
    Propagate(u64),
    /// Makes a file system that depends on the child's namespaces, and attaches it.
    New(NewMount),
    /// Attaches the shared /dev/shm of another container.
    AttachSharedMemory,
    /// Makes a symbolic link in the folder that is the target; one that exists is fine.
    Link { name: CString, content: CString },
    /// Makes the mount at the target read-only.
    Protect,
}

#[derive(Debug)]
pub(super) struct NewMount {
    pub file_system: std::borrow::Cow<'static, std::ffi::CStr>,
    /// What /proc/mounts shows first; the file system's name when it is empty.
    pub source: CString,
    /// Options of the file system; without a value: a flag.
    pub options: Vec<(CString, Option<CString>)>,
    /// `MOUNT_ATTR_*`.
    pub attributes: u64,
    /// Whether a kernel without this file system is fine.
    pub optional: bool,
}

/// A device node.
#[derive(Debug)]
pub(super) struct Node {
    /// The folder inside that it is in, and its name there.
    pub folder: CString,
    pub name: CString,
    pub file_type: rustix::fs::FileType,
    pub mode: u32,
    pub device: u64,
    pub owner: (u32, u32),
}

/// A config or secret.
#[derive(Debug)]
pub(super) struct FileStep {
    /// Its name on the staging file system.
    pub name: CString,
    pub target: CString,
    pub content: Vec<u8>,
    pub owner: (u32, u32),
    pub mode: u32,
}

/// A path that is hidden or write-protected.
#[derive(Debug)]
pub(super) struct SystemPath {
    pub below: Below,
    pub path: CString,
}

/// Where a [`SystemPath`] begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    /// At our own /proc, without following a link.
    Proc,
    /// At our own /sys, without following a link.
    Sys,
    /// At the root, as a process inside would find it.
    Root,
}

impl SystemPath {
    /// The whole path, for errors.
    pub fn shown(&self) -> String {
        let before = match self.below {
            Below::Proc => "/proc",
            Below::Sys => "/sys",
            Below::Root => "",
        };
        format!("{before}/{}", self.path.to_string_lossy().trim_start_matches('/'))
    }
}

/// Where the child stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub stage: Stage,
    /// Which of several.
    pub index: u32,
    pub errno: Errno,
}

/// The stages of the child, in the order of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Stage {
    Signals = 1,
    Cgroup,
    CgroupNamespace,
    Keyring,
    Join,
    SharedMemory,
    Propagation,
    Staging,
    File,
    Root,
    Mount,
    Node,
    Console,
    Pivot,
    Hostname,
    Domainname,
    Loopback,
    Mask,
    ReadOnlyPath,
    Sysctl,
    Init,
    Stdio,
    Limit,
    WorkingFolder,
    User,
    Filter,
    Capabilities,
    Schedule,
    Profile,
    Program,
}

const STAGES: [Stage; 30] = [
    Stage::Signals,
    Stage::Cgroup,
    Stage::CgroupNamespace,
    Stage::Keyring,
    Stage::Join,
    Stage::SharedMemory,
    Stage::Propagation,
    Stage::Staging,
    Stage::File,
    Stage::Root,
    Stage::Mount,
    Stage::Node,
    Stage::Console,
    Stage::Pivot,
    Stage::Hostname,
    Stage::Domainname,
    Stage::Loopback,
    Stage::Mask,
    Stage::ReadOnlyPath,
    Stage::Sysctl,
    Stage::Init,
    Stage::Stdio,
    Stage::Limit,
    Stage::WorkingFolder,
    Stage::User,
    Stage::Filter,
    Stage::Capabilities,
    Stage::Schedule,
    Stage::Profile,
    Stage::Program,
];

impl Failure {
    /// Its form on the pipe.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (stage, rest) = bytes.split_at_mut(4);
        let (index, errno) = rest.split_at_mut(4);
        stage.copy_from_slice(&(self.stage as u32).to_ne_bytes());
        index.copy_from_slice(&self.index.to_ne_bytes());
        errno.copy_from_slice(&self.errno.raw_os_error().to_ne_bytes());
        bytes
    }

    /// Reads that form.
    pub fn from_bytes(bytes: &[u8; 12]) -> Option<Self> {
        let word = |start: usize| Some(u32::from_ne_bytes(bytes.get(start..start + 4)?.try_into().ok()?));
        let stage = STAGES.into_iter().find(|stage| Some(*stage as u32) == word(0))?;
        Some(Self { stage, index: word(4)?, errno: Errno::from_raw_os_error(word(8)? as i32) })
    }
}

/// The words for what a plan's numbers mean; kept by the parent after the clone.
#[derive(Debug, Default, Clone)]
pub(super) struct Names {
    /// What is mounted, and where.
    pub mounts: Vec<(String, String)>,
    pub files: Vec<String>,
    pub nodes: Vec<String>,
    pub sysctls: Vec<String>,
    pub limits: Vec<String>,
    pub hidden: Vec<String>,
    pub read_only: Vec<String>,
    pub program: String,
    pub cwd: String,
}

impl Names {
    /// The error that a failure is.
    pub fn explain(&self, failure: Failure) -> Error {
        let index = failure.index as usize;
        let name = |names: &[String]| names.get(index).cloned().unwrap_or_default();
        let source = failure.errno.into();
        let step = match failure.stage {
            Stage::Mount => return self.mount_error(index, failure.errno),
            Stage::Program => return self.program_error(failure.errno),
            Stage::WorkingFolder => return Error::WorkingFolder { path: self.cwd.clone(), source },
            Stage::File => format!("write the file `{}`", name(&self.files)),
            Stage::Node => format!("make the device `{}`", name(&self.nodes)),
            Stage::Sysctl => format!("set the kernel parameter `{}`", name(&self.sysctls)),
            Stage::Limit => format!("set the resource limit `{}`", name(&self.limits)),
            Stage::Mask => format!("hide `{}`", name(&self.hidden)),
            Stage::ReadOnlyPath => format!("make `{}` read-only", name(&self.read_only)),
            other => other.words().to_owned(),
        };
        Error::Step { step, source }
    }

    fn mount_error(&self, index: usize, errno: Errno) -> Error {
        let (what, target) = self.mounts.get(index).cloned().unwrap_or_default();
        match errno {
            Errno::NOTDIR => Error::MountKind { target },
            _ => Error::Mount { what, target, source: errno.into() },
        }
    }

    fn program_error(&self, errno: Errno) -> Error {
        let program = self.program.clone();
        match errno {
            Errno::NOENT if program.contains('/') => Error::ProgramMissing { program },
            Errno::NOENT => Error::ProgramNotFound { program },
            Errno::NOTDIR => Error::ProgramMissing { program },
            super::child::INTERPRETER_MISSING => Error::InterpreterMissing { program },
            Errno::ACCESS | Errno::PERM => Error::ProgramRefused { program, reason: "permission denied".into() },
            Errno::ISDIR => Error::ProgramRefused { program, reason: "is a directory".into() },
            Errno::NOEXEC => Error::ProgramRefused { program, reason: "exec format error".into() },
            _ => Error::ProgramRefused { program, reason: std::io::Error::from(errno).to_string() },
        }
    }
}

impl Stage {
    /// What is tried in this stage, where it names nothing further.
    fn words(self) -> &'static str {
        match self {
            Self::Signals => "reset what was inherited from the caller",
            Self::Cgroup => "join the control group",
            Self::CgroupNamespace => "make a control group namespace",
            Self::Keyring => "make a session keyring",
            Self::Join => "join the namespace of another container",
            Self::SharedMemory => "share /dev/shm with another container",
            Self::Propagation => "detach the mounts from the host's",
            Self::Staging => "make a file system for configs and secrets",
            Self::Root => "attach the root file system",
            Self::Console => "make /dev/console",
            Self::Pivot => "change the root",
            Self::Hostname => "set the host name",
            Self::Domainname => "set the domain name",
            Self::Loopback => "bring the loopback interface up",
            Self::Init => "start the process below init",
            Self::Stdio => "set up the standard streams",
            Self::User => "change the user",
            Self::Filter => "install the seccomp filter",
            Self::Capabilities => "set the capabilities",
            Self::Schedule => "set how the process is scheduled",
            Self::Profile => "enter the AppArmor profile",
            _ => "set up the container",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_pipe() {
        for stage in STAGES {
            let failure = Failure { stage, index: 7, errno: Errno::NOTDIR };
            assert_eq!(Failure::from_bytes(&failure.to_bytes()), Some(failure));
        }
        assert_eq!(Failure::from_bytes(&[0; 12]), None);
    }
}
