//! What can go wrong on the way to a container's program, in Docker's words where users grep for them.

use std::io;
use std::path::PathBuf;

use crate::base::error::{Attribute, Explain};

/// The step of [`Error::Step`] that clones the first process.
pub(super) const MAKE_PROCESS: &str = "make the container's process";
/// The step of [`Error::Step`] that opens the pair of a terminal.
pub(super) const OPEN_TERMINAL: &str = "open a terminal";

/// How the step of [`Error::Step`] begins that sends a signal.
pub(super) const SEND_SIGNAL: &str = "send signal";

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is in none of the folders of PATH.
    #[error("exec: \"{program}\": executable file not found in $PATH")]
    ProgramNotFound {
        /// As typed.
        program: String,
    },
    /// The program, given as a path, does not exist.
    #[error("exec: \"{program}\": stat {program}: no such file or directory")]
    ProgramMissing {
        /// As typed.
        program: String,
    },
    /// The interpreter of a script does not exist, or the loader of a program that is linked dynamically.
    #[error("exec {program}: no such file or directory: its interpreter is missing")]
    InterpreterMissing {
        /// As typed.
        program: String,
    },
    /// The program cannot be executed.
    #[error("exec: \"{program}\": {reason}")]
    ProgramRefused {
        /// As typed.
        program: String,
        /// Why: `permission denied`, `is a directory`, `exec format error`.
        reason: String,
    },
    /// The working folder cannot be entered.
    #[error("cannot enter the working folder `{path}`")]
    WorkingFolder {
        /// Inside the container.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A user is not in the container's /etc/passwd.
    #[error("unable to find user {user}: no matching entries in passwd file")]
    UnknownUser {
        /// As typed.
        user: String,
    },
    /// A group is not in the container's /etc/group.
    #[error("unable to find group {group}: no matching entries in group file")]
    UnknownGroup {
        /// As typed.
        group: String,
    },
    /// A user or group id is out of range.
    #[error("`{id}` is not a user or group id between 0 and 2147483647")]
    IdOutOfRange {
        /// As typed.
        id: String,
    },
    /// A file that users are looked up in cannot be read.
    #[error("cannot read {path} of the container")]
    UserFile {
        /// Inside the container.
        path: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The source of a mount cannot be opened.
    #[error("cannot use `{}` as the source of the mount at `{target}`", path.display())]
    MountSource {
        /// On the host.
        path: PathBuf,
        /// Inside the container.
        target: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Mounts that are made later were to come through a bind, and cannot.
    #[error("path {} is mounted on {} but it is not a {wanted} mount", path.display(), mounted_on.display())]
    Propagation {
        /// On the host.
        path: PathBuf,
        /// The mount that it lies on.
        mounted_on: PathBuf,
        /// What that would have to be: `shared`, `shared or slave`.
        wanted: &'static str,
    },
    /// A folder was to be mounted onto a file, or a file onto a folder.
    #[error(
        "cannot mount onto `{target}`: not a directory: are you trying to mount a directory onto a file (or vice-versa)?"
    )]
    MountKind {
        /// Inside the container.
        target: String,
    },
    /// A mount was refused.
    #[error("cannot mount {what} at `{target}`")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Inside the container.
        target: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A mount option that does not exist.
    #[error("`{option}` is not an option of the mount at `{target}`")]
    MountOption {
        /// As typed.
        option: String,
        /// Inside the container.
        target: String,
    },
    /// Another step of the set-up failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried, as a verb with its noun.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A control group could not be made, changed or read.
    #[error("cannot {operation} the control group file {}", path.display())]
    Cgroup {
        /// `write "64M" to`, `read`, `create`.
        operation: String,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No control groups are mounted.
    #[error("no control groups are mounted at /sys/fs/cgroup")]
    NoCgroups,
    /// A name that no kernel has.
    #[error("`{name}` is not a {kind}")]
    Unknown {
        /// `capability`, `resource limit`, `device`, `device rule`, `seccomp action`.
        kind: &'static str,
        /// As typed.
        name: String,
    },
    /// A device that the host does not have.
    #[error("the device {} does not exist", path.display())]
    DeviceMissing {
        /// On the host.
        path: PathBuf,
    },
    /// A kernel parameter that a container may not change.
    #[error("sysctl `{name}` is not in a namespace of the container's own")]
    Sysctl {
        /// As typed.
        name: String,
    },
    /// A seccomp profile that cannot be read.
    #[error("the seccomp profile is malformed")]
    SeccompProfile {
        /// Where and what.
        source: serde_json::Error,
    },
    /// A profile was asked for that this kernel cannot enforce.
    #[error("AppArmor is not enabled on this host: it cannot confine anything by the profile `{profile}`")]
    NoAppArmor {
        /// Its name.
        profile: String,
    },
    /// A profile was asked for that is not loaded.
    #[error("the AppArmor profile `{profile}` is not loaded")]
    AppArmorProfile {
        /// Its name.
        profile: String,
    },
    /// The container whose namespace is to be shared, or in which to exec, does not run.
    #[error("the container of process {pid} is not running")]
    NotRunning {
        /// Its first process, as last known.
        pid: i32,
    },
    /// A process cannot be started in a paused container.
    #[error("the container is paused")]
    Paused,
    /// The kernel makes no user namespace.
    #[error("cannot make a user namespace")]
    UserNamespace {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The ids of a file system cannot be shown shifted.
    #[error("cannot show the files of `{}` with the ids of the user namespace", path.display())]
    MapOwners {
        /// On the host.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A container shares the namespace of one whose users are others.
    #[error("a namespace can only be shared by containers of one user namespace")]
    UserNamespacesDiffer,
    /// An id that a user namespace does not have.
    #[error("{kind} {id} is not in the container's user namespace")]
    UnmappedId {
        /// `user` or `group`.
        kind: &'static str,
        /// Inside.
        id: u32,
    },
    /// What is planned but not there.
    #[error("{feature} is not supported yet")]
    Unsupported {
        /// `a device outside of /dev`.
        feature: &'static str,
    },
    /// The process was killed before its program ran.
    #[error("the container's process ended before its program ran")]
    Died,
    /// Text with a NUL byte where none can be.
    #[error("`{text}` contains a NUL byte")]
    Nul {
        /// The text.
        text: String,
    },
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Paused => Some("unpause the container first".into()),
            Self::UserNamespace { source } if source.raw_os_error() == Some(libc::ENOSPC) => {
                Some("raise the limit: sysctl user.max_user_namespaces".into())
            }
            Self::UserNamespace { .. } => Some("this kernel has none: leave --userns (userns_mode) out".into()),
            Self::MapOwners { .. } => Some(
                "the file system must know idmapped mounts: ext4, xfs or btrfs, tmpfs since Linux 6.3; layers need Linux 5.19".into(),
            ),
            Self::UserNamespacesDiffer => Some("give both the same: --userns=container:NAME, or --userns=host".into()),
            Self::UnmappedId { .. } => Some("give it more ids: --userns=auto:size=NUMBER".into()),
            Self::NoAppArmor { .. } => Some(
                "leave `apparmor=` out, or say `apparmor=unconfined`; a kernel has AppArmor when it was built with it \
                 and `lsm=` of its command line does not leave it out"
                    .into(),
            ),
            Self::AppArmorProfile { .. } => {
                Some("load it with `apparmor_parser -r FILE`; `aa-status` lists those that are loaded".into())
            }
            Self::NoCgroups => Some("mount them (systemd does), or run in an environment that has them".into()),
            Self::Sysctl { .. } => Some("only net.*, kernel.shm*, kernel.msg*, kernel.sem and fs.mqueue.* can be set, each with a namespace of its own".into()),
            Self::ProgramRefused { reason, .. } if reason == "exec format error" => {
                Some("the program is of another architecture, or a script without a `#!` line".into())
            }
            Self::InterpreterMissing { .. } => Some(
                "the image lacks what the first line of the script names (one that ends as on Windows, in CR LF, names \
                 another file), or the C library that the program was linked with"
                    .into(),
            ),
            Self::Propagation { mounted_on, .. } => {
                Some(format!("share it first (`mount --make-rshared {}`), or leave the propagation out", mounted_on.display()))
            }
            Self::DeviceMissing { .. } => {
                Some("`ls -l /dev` shows what there is; a driver that is not loaded has made none".into())
            }
            Self::Cgroup { path, .. } if path.file_name().is_some_and(|name| name == "cpuset.cpus") => {
                let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
                Some(format!("the host has the CPUs {}", online.trim()))
            }
            Self::Cgroup { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::ENOENT | libc::EROFS | libc::EACCES | libc::EPERM)
            )
            .then(|| {
                "the control groups at /sys/fs/cgroup must be mounted and writable; inside of another container that \
                 takes --privileged"
                    .into()
            }),
            Self::Step { step, source } => hint_of_step(step, source.raw_os_error()?),
            _ => None,
        }
    }

    fn attribute(&self) -> Option<Attribute> {
        let (names, value): (&[&str], &str) = match self {
            Self::ProgramNotFound { program }
            | Self::ProgramMissing { program }
            | Self::InterpreterMissing { program }
            | Self::ProgramRefused { program, .. } => (&["entrypoint", "command"], program),
            Self::WorkingFolder { path, .. } => (&["working_dir"], path),
            Self::UnknownUser { user } => (&["user"], user),
            Self::UnknownGroup { group } => (&["group_add", "user"], group),
            Self::IdOutOfRange { id } => (&["user", "group_add"], id),
            Self::MountSource { target, .. } | Self::MountKind { target } | Self::Mount { target, .. } => {
                (&["volumes", "tmpfs", "configs", "secrets"], target)
            }
            Self::Propagation { path, .. } => (&["volumes"], path.to_str().unwrap_or_default()),
            Self::MountOption { option, .. } => (&["tmpfs", "volumes"], option),
            Self::Sysctl { name } => (&["sysctls"], name),
            Self::NoAppArmor { profile } | Self::AppArmorProfile { profile } => (&["security_opt"], profile),
            Self::SeccompProfile { .. } => (&["security_opt"], ""),
            Self::UserNamespace { .. } | Self::UserNamespacesDiffer => (&["userns_mode"], ""),
            Self::MapOwners { .. } => (&["userns_mode"], ""),
            Self::UnmappedId { .. } => (&["user", "group_add", "userns_mode"], ""),
            Self::Unknown { kind: "capability", name } => (&["cap_add", "cap_drop"], name),
            Self::Unknown { kind: "resource limit", name } => (&["ulimits"], name),
            Self::Unknown { kind: "device" | "device permission", name } => (&["devices"], name),
            Self::DeviceMissing { path } => (&["devices"], path.to_str().unwrap_or_default()),
            Self::Unknown { kind: "device rule", name } => (&["device_cgroup_rules"], name),
            Self::Unknown { kind: "place for a mount", name } => (&["volumes", "tmpfs"], name),
            _ => return None,
        };
        Some(Attribute::new(names, value))
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::ProgramNotFound { .. }
            | Self::ProgramMissing { .. }
            | Self::InterpreterMissing { .. }
            | Self::MountKind { .. } => 127,
            Self::ProgramRefused { .. } => 126,
            Self::WorkingFolder { source, .. } => match source.raw_os_error() {
                Some(libc::EACCES | libc::ENOTDIR) => 126,
                // No folder is made for a further process; Docker counts it like a program that is not there.
                Some(libc::ENOENT) => 127,
                _ => 125,
            },
            _ => 125,
        }
    }
}

/// What to do where a limit of the host, whose name its answer does not tell, stopped a step.
fn hint_of_step(step: &str, errno: i32) -> Option<String> {
    let hint = match (step, errno) {
        (OPEN_TERMINAL, libc::ENOSPC) => "the host has no terminal left: raise the limit (sysctl kernel.pty.max)",
        (MAKE_PROCESS, libc::ENOSPC) => {
            "the host has no namespace left: raise the limits (sysctl user.max_net_namespaces and its like)"
        }
        (MAKE_PROCESS, libc::EAGAIN) => {
            "the host has no process left for this user or control group: end some, or raise the limit (`ulimit -u`, pids.max)"
        }
        (MAKE_PROCESS, libc::ENOMEM) => {
            "the host has no memory left: stop something, or raise the limit of the control group that this runs in"
        }
        (_, libc::EACCES) if step.starts_with(SEND_SIGNAL) => {
            "the AppArmor profile of the container keeps signals out: give it the rule `signal (receive) peer=unconfined,`"
        }
        _ => return None,
    };
    Some(hint.into())
}
