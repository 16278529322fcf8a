//! `config.json` of a bundle, as far as the runtime carries it out; what it does not is told by its field.
//!
//! Properties that nobody knows are ignored, as the specification demands; those that it defines for Linux are either
//! read here or refused by [`refuse`].
//!
//! Source: <https://github.com/opencontainers/runtime-spec/blob/v1.2.1/config.md>, config-linux.md.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, refused};

/// A bundle's configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// Version of the specification that it is written for.
    pub oci_version: String,
    /// The first process; needed when the container is started.
    pub process: Option<Process>,
    /// The root file system.
    pub root: Option<Root>,
    /// Host name inside.
    pub hostname: Option<String>,
    /// Domain name inside.
    pub domainname: Option<String>,
    /// Mounts, in this order.
    pub mounts: Vec<Mount>,
    /// Programs to run at the moments of a container's life.
    pub hooks: Hooks,
    /// What only Linux has.
    pub linux: Linux,
    /// Text for others, handed on in the state.
    pub annotations: BTreeMap<String, String>,
}

/// The root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: PathBuf,
    /// Whether it is read-only.
    pub readonly: bool,
}

/// A process, the first one or a further one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Size of that.
    pub console_size: Option<ConsoleSize>,
    /// Working folder, absolute.
    pub cwd: String,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// An AppArmor profile.
    pub apparmor_profile: String,
    /// Sets of capabilities.
    pub capabilities: Capabilities,
    /// No program gains privileges.
    pub no_new_privileges: bool,
    /// Whether the kernel takes it first when memory is out, -1000 to 1000. `None`: the caller's.
    pub oom_score_adj: Option<i32>,
    /// How it is scheduled.
    pub scheduler: Option<Scheduler>,
    /// I/O class and priority.
    #[serde(rename = "ioPriority")]
    pub io_priority: Option<IoPriority>,
    /// Who it runs as.
    pub user: User,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The limit.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

/// Names of capabilities (`CAP_CHOWN`) by set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// The bound of all.
    pub bounding: Vec<String>,
    /// In force.
    pub effective: Vec<String>,
    /// Kept by programs with file capabilities.
    pub inheritable: Vec<String>,
    /// What may be put in force.
    pub permitted: Vec<String>,
    /// Kept by every program.
    pub ambient: Vec<String>,
}

/// How a process is scheduled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    /// `SCHED_OTHER`, …
    pub policy: String,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// `SCHED_FLAG_RESET_ON_FORK`, …
    pub flags: Vec<String>,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// I/O class and priority.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `IOPRIO_CLASS_BE`, `IOPRIO_CLASS_IDLE`.
    pub class: String,
    /// 0 to 7.
    #[serde(default)]
    pub priority: i32,
}

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Default 0o022.
    pub umask: Option<u32>,
    /// Further groups.
    pub additional_gids: Vec<u32>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Absolute path inside.
    pub destination: String,
    /// File system; none for a bind mount.
    #[serde(rename = "type")]
    pub kind: String,
    /// A device, a name or a path of the host, there relative to the bundle.
    pub source: String,
    /// Options as mount(8) has them, with some more.
    pub options: Vec<String>,
}

/// Programs to run at the moments of a container's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Old name of the next.
    pub prestart: Vec<Hook>,
    /// Before the root is changed, in the caller's namespaces.
    pub create_runtime: Vec<Hook>,
    /// Before the root is changed, in the container's namespaces.
    pub create_container: Vec<Hook>,
    /// Before the program runs, inside.
    pub start_container: Vec<Hook>,
    /// When the program runs.
    pub poststart: Vec<Hook>,
    /// When the container was deleted.
    pub poststop: Vec<Hook>,
}

/// A program to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute path.
    pub path: PathBuf,
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
    /// Seconds after which it is killed and has failed.
    pub timeout: Option<u64>,
}

/// What only Linux has.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// Namespaces of its own or to join. A kind that is not named is the caller's.
    pub namespaces: Vec<Namespace>,
    /// Device nodes beside the usual ones.
    pub devices: Vec<Device>,
    /// Its control group.
    pub cgroups_path: String,
    /// Limits.
    pub resources: Value,
    /// `private`, `slave`, `shared`, `unbindable`, each also with an `r` before it.
    pub rootfs_propagation: String,
    /// A filter of system calls.
    pub seccomp: Option<Value>,
    /// Kernel parameters.
    pub sysctl: BTreeMap<String, String>,
    /// Paths to hide.
    pub masked_paths: Vec<String>,
    /// Paths to make read-only.
    pub readonly_paths: Vec<String>,
    /// Execution domain.
    pub personality: Option<Personality>,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Namespace {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup`, `time`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One that exists; none is a new one.
    #[serde(default)]
    pub path: PathBuf,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// `c`, `u`, `b`, `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Absolute path inside.
    pub path: String,
    /// Major number.
    #[serde(default)]
    pub major: i64,
    /// Minor number.
    #[serde(default)]
    pub minor: i64,
    /// Permission bits, default 0o666.
    pub file_mode: Option<u32>,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}

/// Execution domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Personality {
    /// `LINUX`, `LINUX32`.
    pub domain: String,
    /// None are defined.
    pub flags: Vec<String>,
}

/// Fields of the specification that are not carried out, as JSON pointers, with the reason.
const NOT_CARRIED_OUT: [(&str, &str); 15] = [
    ("/process/selinuxLabel", "SELinux labels are not supported"),
    ("/process/execCPUAffinity", "not supported"),
    ("/process/commandLine", "only Windows has it"),
    ("/linux/mountLabel", "SELinux labels are not supported"),
    ("/linux/intelRdt", "not supported"),
    ("/linux/memoryPolicy", "not supported"),
    ("/linux/netDevices", "not supported"),
    ("/linux/timeOffsets", "time namespaces are not supported"),
    ("/linux/uidMappings", "user namespaces are not supported in bundles"),
    ("/linux/gidMappings", "user namespaces are not supported in bundles"),
    ("/linux/seccomp/listenerPath", "notifications of system calls are not supported"),
    ("/linux/seccomp/listenerMetadata", "notifications of system calls are not supported"),
    ("/vm", "virtual machines are not supported"),
    ("/windows", "this is Linux"),
    ("/solaris", "this is Linux"),
];

/// The same for each mount.
const NOT_OF_MOUNTS: [&str; 2] = ["uidMappings", "gidMappings"];

impl Config {
    /// Reads a configuration. Errors: what is not JSON, a field of another type, or one that cannot be carried out.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let mut value: Value = serde_json::from_slice(text).map_err(|source| Error::Config { source })?;
        without_nulls(&mut value);
        refuse(&value)?;
        let config: Self = serde_json::from_value(value).map_err(|source| Error::Config { source })?;
        match config.oci_version.split('.').next() {
            Some("1") => Ok(config),
            _ => refused("ociVersion", &format!("`{}` is not a version 1 of the specification", config.oci_version)),
        }
    }
}

impl Process {
    /// Reads the process of an exec. Errors: as of [`Config::parse`].
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let mut value: Value = serde_json::from_slice(text).map_err(|source| Error::Config { source })?;
        without_nulls(&mut value);
        refuse(&serde_json::json!({ "process": value }))?;
        serde_json::from_value(value).map_err(|source| Error::Config { source })
    }
}

/// Takes out what is `null`: Go writes its empty lists so.
pub(super) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Refuses what the specification defines and the runtime does not carry out.
fn refuse(config: &Value) -> Result<(), Error> {
    for (pointer, reason) in NOT_CARRIED_OUT {
        if config.pointer(pointer).is_some_and(is_something) {
            return refused(&pointer[1..].replace('/', "."), reason);
        }
    }
    let mounts = config.get("mounts").and_then(Value::as_array);
    for (number, mount) in mounts.into_iter().flatten().enumerate() {
        for field in NOT_OF_MOUNTS {
            if mount.get(field).is_some_and(is_something) {
                return refused(&format!("mounts[{number}].{field}"), "mapped mounts are not supported in bundles");
            }
        }
    }
    Ok(())
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_told_by_its_field() {
        for (text, expected) in [
            (r#"{"ociVersion":"1.2.0","linux":{"intelRdt":{"closID":"x"}}}"#, "linux.intelRdt"),
            (r#"{"ociVersion":"1.2.0","process":{"selinuxLabel":"x"}}"#, "process.selinuxLabel"),
            (r#"{"ociVersion":"1.2.0","mounts":[{},{"uidMappings":[{}]}]}"#, "mounts[1].uidMappings"),
            (r#"{"ociVersion":"2.0.0"}"#, "ociVersion"),
            (r#"{"ociVersion":"1.0.2","mounts":5}"#, "invalid type"),
            ("{", "config.json"),
        ] {
            let error = Config::parse(text.as_bytes()).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(format!("{error} {source}").contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn nulls_and_unknown_properties_are_nothing() {
        let text = r#"{"ociVersion":"1.2.0","mounts":null,"hooks":{"prestart":null},"linux":{"intelRdt":null,
            "mountLabel":"","seccomp":{"syscalls":[{"args":null}]}},"com.example":{"x":1}}"#;
        let config = Config::parse(text.as_bytes()).unwrap();
        assert_eq!(config.mounts, []);
        assert!(config.linux.seccomp.is_some());
    }
}
