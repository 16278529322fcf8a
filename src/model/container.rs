//! One container: what it is ([`ContainerSpec`], replaced as a whole) and how it fares ([`ContainerState`]).
//!
//! The spec is complete: a container can be started again after the compose file, the image's tag or the
//! command that made it are gone. Durations are in milliseconds, sizes in bytes, times in RFC 3339.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::id::{ContainerId, Digest, NetworkId};
use crate::model::network::Attachment;

/// Everything that defines a container. Commands may change its limits, restart policy, networks and name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its identifier.
    pub id: ContainerId,
    /// Its unique name, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    pub name: String,
    /// When it was created.
    pub created: jiff::Timestamp,
    /// The image as the user named it.
    pub image: String,
    /// The image it was made from (digest of its config); `None` for one made without an image.
    pub image_id: Option<Digest>,
    /// Diff IDs of the image's layers, bottom first.
    pub layers: Vec<Digest>,
    /// Labels, the image's below the container's.
    pub labels: BTreeMap<String, String>,
    /// What runs.
    pub process: Process,
    /// Host name inside. Default: the first 12 digits of the id.
    pub hostname: String,
    /// Domain name inside.
    pub domainname: Option<String>,
    /// Whether the root file system is read-only.
    pub read_only: bool,
    /// Mounts in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Files of configs and secrets, made anew at each start on a tmpfs of the container's own.
    pub files: Vec<InlineFile>,
    /// Size of /dev/shm in bytes.
    pub shm_size_bytes: u64,
    /// How it sees the network.
    pub network: NetworkMode,
    /// Published ports, host ports as wished (`None`: any free one).
    pub ports: Vec<PortBinding>,
    /// Ports that the image or the user declares without publishing, `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `name:address` for /etc/hosts; the address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// Name servers instead of the host's.
    pub dns: Vec<String>,
    /// Search domains instead of the host's.
    pub dns_search: Vec<String>,
    /// Options of resolv.conf.
    pub dns_options: Vec<String>,
    /// Capabilities, seccomp, devices, namespaces shared with others.
    pub security: Security,
    /// Limits enforced by its cgroup.
    pub resources: Resources,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Resource limits of the process by name (`nofile`), soft and hard; -1 is unlimited.
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// Whether wharf's own init is PID 1.
    pub init: bool,
    /// Number of the signal for a graceful stop.
    pub stop_signal: i32,
    /// Time between that signal and SIGKILL.
    pub stop_timeout_ms: u64,
    /// What to do when it ends.
    pub restart: RestartPolicy,
    /// How to tell that it works.
    pub healthcheck: Option<Healthcheck>,
    /// How its output is kept.
    pub logging: Logging,
    /// Remove it (and its anonymous volumes) when it ends.
    pub auto_remove: bool,
    /// How many of the process's arguments are the entrypoint; the command follows them.
    #[serde(default)]
    pub entrypoint_length: usize,
    /// Ids inside to ids outside. Empty: the host's own (identity).
    pub uid_maps: Vec<IdMap>,
    /// The same for groups.
    pub gid_maps: Vec<IdMap>,
}

impl ContainerSpec {
    /// The arguments of the first process: those of the entrypoint, and the command's.
    pub fn entrypoint_and_command(&self) -> (&[String], &[String]) {
        self.process.args.split_at(self.entrypoint_length.min(self.process.args.len()))
    }
}

/// A process to start in a container, as its first or by `exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=value`, complete but for HOME, HOSTNAME and TERM defaults.
    pub env: Vec<String>,
    /// Working folder inside; created when missing.
    pub cwd: String,
    /// `user[:group]` by name or number, resolved inside the root. Empty: root.
    pub user: String,
    /// Further groups, by name or number.
    pub additional_groups: Vec<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether stdin is kept open for those who attach; else it is /dev/null.
    pub stdin_open: bool,
}

/// One mount inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside.
    pub target: String,
    /// Whether it is read-only.
    pub read_only: bool,
    /// What is mounted.
    pub source: MountSource,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute host path.
        path: PathBuf,
        /// Make a folder there when it is missing.
        create: bool,
        /// `rprivate`, `private`, `rslave`, `slave`, `rshared`, `shared`. Default `rprivate`.
        propagation: Option<String>,
        /// Whether submounts come along (`recursive: disabled` says no).
        recursive: bool,
        /// Whether a user namespace's ids are the host's own there (`idmap`): what its root writes is root's.
        #[serde(default)]
        idmap: bool,
    },
    /// A volume of the store.
    Volume {
        /// Its name.
        name: String,
        /// A folder inside it.
        subpath: Option<String>,
        /// Fill it from the image when it is empty.
        copy: bool,
        /// Made for this container alone; removed with it.
        anonymous: bool,
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
    /// The file system of an image, read-only.
    Image {
        /// Its layers, bottom first.
        layers: Vec<Digest>,
        /// A folder inside it.
        subpath: Option<String>,
    },
}

/// A file with content of its own: a config or a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineFile {
    /// Absolute path inside.
    pub target: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Where the content comes from at each start.
    pub content: InlineContent,
}

/// The content of an [`InlineFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InlineContent {
    /// Read from this host file at start.
    HostFile(PathBuf),
    /// Text known at creation.
    Text(String),
}

/// How a container sees the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum NetworkMode {
    /// Loopback only.
    None,
    /// The host's own.
    Host,
    /// Another container's.
    Container {
        /// The other one.
        id: ContainerId,
    },
    /// Interfaces in these networks, in order: `eth0` first.
    Networks {
        /// One entry an interface. Empty is loopback only.
        attachments: Vec<Attachment>,
    },
}

impl NetworkMode {
    /// The networks it is connected to.
    pub fn networks(&self) -> impl Iterator<Item = &NetworkId> {
        let attachments = match self {
            Self::Networks { attachments } => attachments.as_slice(),
            _ => &[],
        };
        attachments.iter().map(|attachment| &attachment.network)
    }
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Host address; `None` is every address, IPv4 and IPv6.
    pub host_ip: Option<std::net::IpAddr>,
    /// Host port or range to choose from; `None` is any free one.
    pub host_port: Option<(u16, u16)>,
    /// Port inside.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// What a container may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// All capabilities, all devices, nothing masked, no seccomp.
    pub privileged: bool,
    /// Capabilities added to Docker's fourteen (`NET_ADMIN`, `ALL`).
    pub cap_add: Vec<String>,
    /// Capabilities taken from them.
    pub cap_drop: Vec<String>,
    /// No setuid or file capability has an effect.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// AppArmor profile; `unconfined` is none, `None` the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<String>,
    /// Do not mask or write-protect paths of /proc and /sys (`systempaths=unconfined`).
    pub unmasked: bool,
    /// Host devices.
    pub devices: Vec<DeviceMapping>,
    /// Raw rules of the device cgroup, `c 1:3 rwm`.
    pub device_cgroup_rules: Vec<String>,
    /// PID namespace.
    pub pid: NamespaceMode,
    /// IPC namespace.
    pub ipc: NamespaceMode,
    /// UTS namespace.
    pub uts: NamespaceMode,
    /// cgroup namespace. Default private, on both cgroup versions.
    pub cgroup: NamespaceMode,
    /// User namespace.
    #[serde(default)]
    pub user: UserNamespaceMode,
}

/// Whose users a container's are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserNamespaceMode {
    /// The host's.
    #[default]
    Host,
    /// Its own: root inside is nobody outside. Its ids are chosen when it is created.
    Auto {
        /// Number of ids; `None` is [`IDS_DEFAULT`].
        size: Option<u32>,
    },
    /// Another container's.
    Container(ContainerId),
}

/// How many ids a user namespace has by default: as many as there were when ids were 16 bits.
pub const IDS_DEFAULT: u32 = 1 << 16;

/// Which system calls are filtered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Docker's profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON form.
    Profile(String),
}

/// Whose namespace a container uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(ContainerId),
}

/// A host device inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host.
    pub source: PathBuf,
    /// Path inside.
    pub target: PathBuf,
    /// `r`, `w`, `m`.
    pub permissions: String,
}

/// Limits of a container's cgroup. `None` is unlimited or the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Memory below which it is not reclaimed first.
    pub memory_reservation_bytes: Option<u64>,
    /// Memory and swap together; -1 is unlimited. Default: twice the memory.
    pub memory_swap_bytes: Option<i64>,
    /// Swappiness, 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// Never kill when memory is out (cgroup v1).
    pub oom_kill_disable: bool,
    /// Score adjustment, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// CPUs, may be a fraction.
    pub cpus: Option<f64>,
    /// Relative weight, 2 to 262144 (cgroup v1's scale).
    pub cpu_shares: Option<u64>,
    /// CFS quota in microseconds; overrides `cpus`.
    pub cpu_quota_us: Option<i64>,
    /// CFS period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Period of real-time tasks in microseconds (cgroup v1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_rt_period_us: Option<u64>,
    /// How long they may run in it, in microseconds; -1 is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_rt_runtime_us: Option<i64>,
    /// The group that the container's is made in, instead of wharf's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    /// CPUs to run on.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use.
    pub cpuset_mems: Option<String>,
    /// Most processes; -1 is unlimited.
    pub pids: Option<i64>,
    /// Limits on block devices.
    #[serde(default)]
    pub block: BlockLimits,
}

/// Limits on reading from and writing to block devices of the host, each by the device's path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockLimits {
    /// Share among containers, 10 to 1000.
    pub weight: Option<u16>,
    /// Share on one device.
    pub weights: BTreeMap<PathBuf, u16>,
    /// Bytes a second.
    pub read_bytes: BTreeMap<PathBuf, u64>,
    /// Bytes a second.
    pub write_bytes: BTreeMap<PathBuf, u64>,
    /// Operations a second.
    pub read_operations: BTreeMap<PathBuf, u64>,
    /// Operations a second.
    pub write_operations: BTreeMap<PathBuf, u64>,
}

/// What to do when a container ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// Start it again when its exit code is not 0, at most so many times (0: no limit).
    OnFailure(u32),
    /// Start it again whatever it returned, also after a reboot.
    Always,
    /// Like `Always`, but a stopped one stays stopped after a reboot.
    UnlessStopped,
}

/// How to tell that a container works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// Program and arguments, run inside (`CMD-SHELL` already written as a shell call).
    pub args: Vec<String>,
    /// Time between probes. Default 30 s.
    pub interval_ms: u64,
    /// Time one probe may take. Default 30 s.
    pub timeout_ms: u64,
    /// Time in which failures do not count. Default 0.
    pub start_period_ms: u64,
    /// Time between probes in that period. Default 5 s.
    pub start_interval_ms: u64,
    /// Failures in a row until unhealthy. Default 3.
    pub retries: u32,
}

/// How output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// Whether output is written to disk (`json-file` and `local`) or not (`none`).
    pub enabled: bool,
    /// Size at which a file is rotated.
    pub max_size_bytes: u64,
    /// Number of files kept, the current one included.
    pub max_files: u32,
    /// Labels that `logs --details` shows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Variables that `logs --details` shows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
}

impl Default for Logging {
    fn default() -> Self {
        Self { enabled: true, max_size_bytes: 10 << 20, max_files: 3, labels: Vec::new(), env: Vec::new() }
    }
}

/// A range of ids inside a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// Number of ids.
    pub count: u32,
}

impl IdMap {
    /// The id outside that is `inside` in the ranges `maps`; without ranges it is the same.
    pub fn to_host(maps: &[Self], inside: u32) -> Option<u32> {
        if maps.is_empty() {
            return Some(inside);
        }
        maps.iter().find_map(|map| {
            let distance = inside.checked_sub(map.inside).filter(|distance| *distance < map.count)?;
            map.outside.checked_add(distance)
        })
    }

    /// The id inside that is `outside` on the host; without ranges it is the same.
    pub fn from_host(maps: &[Self], outside: u32) -> Option<u32> {
        let turned = |map: &Self| Self { inside: map.outside, outside: map.inside, count: map.count };
        Self::to_host(&maps.iter().map(turned).collect::<Vec<_>>(), outside)
    }
}

/// How a container fares. Written by its supervisor while there is one, else by a command that holds the
/// container's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Where it is in its life.
    pub status: Status,
    /// Its first process while it runs.
    pub process: Option<ProcessIdentity>,
    /// Exit code of the last run, 0 while it runs; 128+n when killed by signal n.
    pub exit_code: i32,
    /// Whether the kernel killed it for lack of memory.
    pub oom_killed: bool,
    /// Why it could not be started the last time.
    pub error: Option<String>,
    /// Start of the last run.
    pub started_at: Option<jiff::Timestamp>,
    /// End of the last run.
    pub finished_at: Option<jiff::Timestamp>,
    /// Restarts by policy since it was started by a command.
    pub restart_count: u32,
    /// What the probes say; `None` without a health check.
    pub health: Option<Health>,
    /// Published ports with the host ports that were chosen.
    pub ports: Vec<PublishedPort>,
    /// Addresses in its networks while it runs.
    pub addresses: Vec<crate::model::network::Endpoint>,
    /// Boot in which this was written (`/proc/sys/kernel/random/boot_id`): another one means that nothing runs.
    pub boot_id: String,
}

/// Where a container is in its life, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, never started.
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Waits for its next start by the restart policy.
    Restarting,
    /// Its process ended.
    Exited,
    /// It could not be started or removed.
    Dead,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        })
    }
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number in the host's PID namespace.
    pub pid: i32,
    /// Its start in clock ticks since boot (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
}

/// What the health probes say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The verdict.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last results, oldest first; at most five.
    pub log: Vec<HealthResult>,
}

/// The verdict of the health probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No verdict yet.
    Starting,
    /// The last probe passed.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

impl std::fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    /// Its start.
    pub start: jiff::Timestamp,
    /// Its end.
    pub end: jiff::Timestamp,
    /// 0 passed; -1 timed out.
    pub exit_code: i32,
    /// The first 4096 bytes of its output.
    pub output: String,
}

/// A port that is reachable from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// Host address; unspecified means every address.
    pub host_ip: std::net::IpAddr,
    /// Host port.
    pub host_port: u16,
    /// Port inside.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
}
