//! A compose project as the rest of wharf sees it: merged, interpolated, canonical (every short form
//! written out), with absolute paths and defaults filled in. Made by `compose`, never changed afterwards.
//!
//! The field names and forms are those of `docker compose config --format json`, so a `Service` can be
//! read from the canonical tree by serde. Fields that the engine does not know stay in
//! [`Service::canonical`], which is what the config hash is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::error::Location;

/// A loaded project.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Normalised name: lower case, digits, `-` and `_`.
    pub name: String,
    /// The folder that relative paths were resolved against, absolute.
    pub working_dir: PathBuf,
    /// The files it was read from, absolute, in merge order.
    pub compose_files: Vec<PathBuf>,
    /// The `--env-file`s, or the `.env` that was found.
    pub env_files: Vec<PathBuf>,
    /// What interpolation saw: `.env` and files below the caller's environment.
    pub environment: BTreeMap<String, String>,
    /// Active profiles.
    pub profiles: Vec<String>,
    /// Services of the active profiles.
    pub services: BTreeMap<String, Service>,
    /// Services that no active profile enables: not orphans, not started.
    pub disabled_services: BTreeMap<String, Service>,
    /// Networks that some enabled service uses (including the implicit `default`).
    pub networks: BTreeMap<String, Network>,
    /// Volumes declared at the top level.
    pub volumes: BTreeMap<String, Volume>,
    /// Configs declared at the top level.
    pub configs: BTreeMap<String, FileObject>,
    /// Models declared at the top level.
    pub models: BTreeMap<String, Model>,
    /// Secrets declared at the top level.
    pub secrets: BTreeMap<String, FileObject>,
    /// Where things stand in the files, for errors found after loading.
    pub locations: Locations,
    /// Names of containers and images are joined with `_`, as the first Compose did (`--compatibility`).
    pub underscores: bool,
}

impl Project {
    /// The name of something of this project: `demo-web-1`.
    pub fn name_of(&self, parts: &[&str]) -> String {
        let separator = if self.underscores { "_" } else { "-" };
        let parts: Vec<&str> = std::iter::once(self.name.as_str()).chain(parts.iter().copied()).collect();
        parts.join(separator)
    }
}

/// Where each element of the project was written, by its dotted path (`services.web.depends_on.redis`).
#[derive(Debug, Clone, Default)]
pub struct Locations(pub BTreeMap<String, Location>);

impl Locations {
    /// The location of `path`, else of the nearest element above it.
    pub fn of(&self, path: &str) -> Option<&Location> {
        let mut path = path;
        loop {
            if let Some(location) = self.0.get(path) {
                return Some(location);
            }
            path = &path[..path.rfind('.')?];
        }
    }
}

/// A map of strings whose value may be unset (`environment: [KEY]`).
pub type OptionalMap = BTreeMap<String, Option<String>>;

/// One service in canonical form.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Its key in the file. Filled by the loader.
    #[serde(skip)]
    pub name: String,
    /// The service as `config` prints it: what the config hash is computed from.
    #[serde(skip)]
    pub canonical: serde_json::Value,
    /// Image to run, or to tag the build with.
    pub image: Option<String>,
    /// How to build the image.
    pub build: Option<Build>,
    /// Overrides the image's CMD. `None`: the image's.
    pub command: Option<Vec<String>>,
    /// Overrides the image's ENTRYPOINT. `None`: the image's; empty: none.
    pub entrypoint: Option<Vec<String>>,
    /// Environment with `env_file` merged in. `None` values are removed from the container.
    pub environment: OptionalMap,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Ports that only other services see.
    pub expose: Vec<String>,
    /// Mounts.
    pub volumes: Vec<ServiceVolume>,
    /// Networks by key, `None` for one without options.
    pub networks: Option<BTreeMap<String, Option<ServiceNetwork>>>,
    /// `none`, `host`, `service:NAME`, `container:NAME`, or a network.
    pub network_mode: Option<String>,
    /// Services that must be there first.
    pub depends_on: BTreeMap<String, Dependency>,
    /// How to tell that it works.
    pub healthcheck: Option<Healthcheck>,
    /// `no`, `always`, `on-failure[:max]`, `unless-stopped`.
    pub restart: Option<String>,
    /// Working folder of the process.
    pub working_dir: Option<String>,
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Domain name.
    pub domainname: Option<String>,
    /// Labels on the container.
    pub labels: BTreeMap<String, String>,
    /// Run an init that reaps and forwards signals.
    pub init: Option<bool>,
    /// Signal for a graceful stop.
    pub stop_signal: Option<String>,
    /// Time between that signal and SIGKILL, Go style (`10s`).
    pub stop_grace_period: Option<String>,
    /// tmpfs mounts, `path[:options]`.
    pub tmpfs: Vec<String>,
    /// Mount the root file system read-only.
    pub read_only: bool,
    /// Capabilities to add.
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// All capabilities, all devices, nothing masked.
    pub privileged: bool,
    /// `no-new-privileges:true`, `seccomp:…`, `apparmor:…`, `label:…`.
    pub security_opt: Vec<String>,
    /// Host devices.
    pub devices: Vec<Device>,
    /// Raw device cgroup rules.
    pub device_cgroup_rules: Vec<String>,
    /// `host=address` lines for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// resolv.conf options.
    pub dns_opt: Vec<String>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Resource limits of the process.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Size of /dev/shm in bytes, as decimal text.
    pub shm_size: Option<String>,
    /// Memory limit in bytes, as decimal text.
    pub mem_limit: Option<String>,
    /// Soft memory limit.
    pub mem_reservation: Option<String>,
    /// Memory and swap together; `-1` is unlimited.
    pub memswap_limit: Option<String>,
    /// Swappiness, 0 to 100.
    pub mem_swappiness: Option<serde_json::Value>,
    /// CPUs, may be a fraction.
    pub cpus: Option<f64>,
    /// Relative CPU weight.
    pub cpu_shares: Option<serde_json::Value>,
    /// CFS quota in microseconds.
    pub cpu_quota: Option<serde_json::Value>,
    /// CFS period in microseconds.
    pub cpu_period: Option<serde_json::Value>,
    /// Period of real-time tasks in microseconds.
    pub cpu_rt_period: Option<serde_json::Value>,
    /// How long they may run in it, in microseconds.
    pub cpu_rt_runtime: Option<serde_json::Value>,
    /// CPUs to run on (`0-2,4`).
    pub cpuset: Option<String>,
    /// Limits on block devices.
    pub blkio_config: Option<Blkio>,
    /// GPUs.
    pub gpus: Vec<DeviceRequest>,
    /// Most processes.
    pub pids_limit: Option<i64>,
    /// Score by which the kernel picks a victim when memory is out.
    pub oom_score_adj: Option<i64>,
    /// Never kill it when memory is out.
    pub oom_kill_disable: Option<bool>,
    /// Extra groups of the process.
    pub group_add: Vec<serde_json::Value>,
    /// Replicas, resources and restart policy in Swarm's words.
    pub deploy: Option<Deploy>,
    /// Profiles that enable it.
    pub profiles: Vec<String>,
    /// `always`, `missing`, `never`, `build`, `daily`, `weekly`, `every_…`.
    pub pull_policy: Option<String>,
    /// A fixed container name.
    pub container_name: Option<String>,
    /// Configs it sees.
    pub configs: Vec<ServiceFile>,
    /// Secrets it sees.
    pub secrets: Vec<ServiceFile>,
    /// How its output is kept.
    pub logging: Option<Logging>,
    /// Keep stdin open.
    pub stdin_open: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Whether `up` shows its output.
    pub attach: Option<bool>,
    /// Replicas (the same as `deploy.replicas`).
    pub scale: Option<u32>,
    /// `os/arch[/variant]`.
    pub platform: Option<String>,
    /// PID namespace: `host`, `service:…`, `container:…`.
    pub pid: Option<String>,
    /// IPC namespace.
    pub ipc: Option<String>,
    /// UTS namespace: `host`.
    pub uts: Option<String>,
    /// User namespace: `host`.
    pub userns_mode: Option<String>,
    /// cgroup namespace: `host` or `private`.
    pub cgroup: Option<String>,
    /// Parent cgroup.
    pub cgroup_parent: Option<String>,
    /// Something else than a container, made by another program.
    pub provider: Option<Provider>,
    /// Models it uses, by key, `None` for one without options.
    pub models: BTreeMap<String, Option<ModelUse>>,
    /// Mount the volumes of other services or containers.
    pub volumes_from: Vec<String>,
    /// Legacy links: `service[:alias]`.
    pub links: Vec<String>,
    /// Links to containers of elsewhere: `container[:alias]`.
    pub external_links: Vec<String>,
    /// Commands run in containers of their own before it is started.
    pub pre_start: Vec<Hook>,
    /// Commands run inside after it started.
    pub post_start: Vec<Hook>,
    /// Commands run inside before it is stopped.
    pub pre_stop: Vec<Hook>,
    /// Rules of `watch`.
    pub develop: Option<serde_json::Value>,
    /// MAC address.
    pub mac_address: Option<String>,
}

/// `build:` in canonical form.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Context folder, absolute.
    pub context: String,
    /// Dockerfile, relative to the context or absolute.
    pub dockerfile: Option<String>,
    /// The Dockerfile's text.
    pub dockerfile_inline: Option<String>,
    /// Build arguments; an unset one that the environment does not have is absent.
    pub args: OptionalMap,
    /// Stage to build.
    pub target: Option<String>,
    /// Labels on the image.
    pub labels: BTreeMap<String, String>,
    /// Further names for the result.
    pub tags: Vec<String>,
    /// Build without the cache.
    pub no_cache: bool,
    /// Always pull base images.
    pub pull: bool,
    /// Network of RUN steps.
    pub network: Option<String>,
    /// Size of /dev/shm in RUN steps.
    pub shm_size: Option<String>,
    /// `host=address` for RUN steps.
    pub extra_hosts: Vec<String>,
    /// Named contexts.
    pub additional_contexts: BTreeMap<String, String>,
    /// Platforms to build for.
    pub platforms: Vec<String>,
    /// Secrets that RUN steps may mount.
    pub secrets: Vec<ServiceFile>,
    /// Agent sockets that RUN steps may mount.
    pub ssh: Vec<String>,
    /// Images whose cache may be used.
    pub cache_from: Vec<String>,
    /// Where to keep the cache.
    pub cache_to: Vec<String>,
    /// What RUN steps may do besides: `network.host`, `security.insecure`.
    pub entitlements: Vec<String>,
    /// RUN steps may be insecure.
    pub privileged: bool,
    /// Limits of RUN steps.
    pub ulimits: BTreeMap<String, Ulimit>,
}

/// A published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Port {
    /// Name for people.
    pub name: Option<String>,
    /// `ingress` or `host`; without meaning on one host.
    pub mode: Option<String>,
    /// Host address; `None` is all.
    pub host_ip: Option<String>,
    /// Port inside.
    pub target: u16,
    /// Port outside, or a range `8000-8010`; `None` is any free one.
    pub published: Option<String>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Option<String>,
}

/// A mount of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceVolume {
    /// `bind`, `volume`, `tmpfs`, `image`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Host path, volume key, or image. `None`: an anonymous volume or tmpfs.
    pub source: Option<String>,
    /// Path inside.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
    /// Options of a bind.
    pub bind: Option<BindOptions>,
    /// Options of a volume.
    pub volume: Option<VolumeOptions>,
    /// Options of a tmpfs.
    pub tmpfs: Option<TmpfsOptions>,
    /// Options of an image mount.
    pub image: Option<ImageMountOptions>,
}

/// Options of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BindOptions {
    /// `rprivate`, `rshared`, ….
    pub propagation: Option<String>,
    /// Make the host folder when it is missing. `None` counts as `true`.
    pub create_host_path: Option<bool>,
    /// SELinux relabelling: `z` or `Z`.
    pub selinux: Option<String>,
    /// `enabled`, `disabled`, `writable`, `readonly`.
    pub recursive: Option<String>,
    /// Our own: whether a user namespace's ids are the host's own there (`idmap` in the short form).
    #[serde(rename = "x-idmap")]
    pub idmap: Option<serde_json::Value>,
}

/// Options of a volume mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VolumeOptions {
    /// Do not fill an empty volume from the image.
    pub nocopy: bool,
    /// Mount this folder of the volume.
    pub subpath: Option<String>,
    /// Labels for an anonymous volume.
    pub labels: BTreeMap<String, String>,
}

/// Options of a tmpfs mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Size in bytes, as decimal text or a number.
    pub size: Option<serde_json::Value>,
    /// Mode, as a number.
    pub mode: Option<serde_json::Value>,
}

/// Options of an image mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageMountOptions {
    /// Mount this folder of the image.
    pub subpath: Option<String>,
}

/// A service's place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceNetwork {
    /// Further names in this network.
    pub aliases: Vec<String>,
    /// Fixed address.
    pub ipv4_address: Option<String>,
    /// Fixed IPv6 address.
    pub ipv6_address: Option<String>,
    /// Further link-local addresses.
    pub link_local_ips: Vec<String>,
    /// MAC address.
    pub mac_address: Option<String>,
    /// Interface name.
    pub interface_name: Option<String>,
    /// Higher is connected first.
    pub priority: i64,
    /// Highest gives the default route.
    pub gw_priority: i64,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
}

/// What a dependency must have reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Condition {
    /// Its container runs.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// Its health check passes.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ended with exit code 0.
    #[serde(rename = "service_completed_successfully")]
    CompletedSuccessfully,
}

/// One entry of `depends_on`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// What it waits for.
    pub condition: Condition,
    /// Restart this service when the dependency was recreated or restarted.
    pub restart: bool,
    /// A missing or failed one is an error; else a warning.
    #[serde(default = "yes")]
    pub required: bool,
}

fn yes() -> bool {
    true
}

/// `healthcheck:` in canonical form. Durations are Go style.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", text]` or `["NONE"]`; empty: the image's.
    pub test: Vec<String>,
    /// Time between probes.
    pub interval: Option<String>,
    /// Time one probe may take.
    pub timeout: Option<String>,
    /// Failures in a row until unhealthy.
    pub retries: Option<u64>,
    /// Time in which failures do not count.
    pub start_period: Option<String>,
    /// Time between probes in that period.
    pub start_interval: Option<String>,
    /// No health check, also not the image's.
    pub disable: bool,
}

/// A device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Path on the host.
    pub source: String,
    /// Path inside.
    pub target: Option<String>,
    /// `r`, `w`, `m`.
    pub permissions: Option<String>,
}

/// `blkio_config:`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Blkio {
    /// Share among containers, 10 to 1000.
    pub weight: Option<u16>,
    /// Shares on single devices.
    pub weight_device: Vec<BlkioWeight>,
    /// Bytes a second.
    pub device_read_bps: Vec<BlkioRate>,
    /// Bytes a second.
    pub device_write_bps: Vec<BlkioRate>,
    /// Operations a second.
    pub device_read_iops: Vec<BlkioRate>,
    /// Operations a second.
    pub device_write_iops: Vec<BlkioRate>,
}

/// A share on a block device. Compose's JSON writes these keys with capitals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BlkioWeight {
    /// The device.
    #[serde(alias = "Path")]
    pub path: String,
    /// The share.
    #[serde(alias = "Weight")]
    pub weight: u16,
}

/// A limit on a block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BlkioRate {
    /// The device.
    #[serde(alias = "Path")]
    pub path: String,
    /// So much a second, as decimal text or a number.
    #[serde(alias = "Rate")]
    pub rate: serde_json::Value,
}

/// Devices of a kind: `gpus`, `deploy.resources.reservations.devices`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DeviceRequest {
    /// What they can do: `gpu`.
    pub capabilities: Vec<String>,
    /// `nvidia`, `amd`, `cdi`; empty is whatever is there.
    pub driver: Option<String>,
    /// How many; -1 is all.
    pub count: Option<serde_json::Value>,
    /// Which.
    pub device_ids: Vec<String>,
}

/// A resource limit: one value for both, or two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Ulimit {
    /// Soft and hard.
    Single(i64),
    /// Each its own.
    Pair {
        /// Soft limit. A limit of 0 is absent in the canonical form.
        #[serde(default)]
        soft: i64,
        /// Hard limit.
        #[serde(default)]
        hard: i64,
    },
}

/// `deploy:`, as far as one host gives it a meaning.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Deploy {
    /// `replicated` or `global`.
    pub mode: Option<String>,
    /// Number of containers.
    pub replicas: Option<u32>,
    /// Limits and reservations.
    pub resources: Option<Resources>,
    /// Overrides `restart`.
    pub restart_policy: Option<RestartPolicy>,
    /// How replicas are replaced.
    pub update_config: Option<serde_json::Value>,
}

/// `deploy.resources`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Hard limits.
    pub limits: Option<ResourceAmount>,
    /// Soft limits.
    pub reservations: Option<ResourceAmount>,
}

/// Amounts of resources.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ResourceAmount {
    /// CPUs, a number or text.
    pub cpus: Option<serde_json::Value>,
    /// Bytes, as decimal text.
    pub memory: Option<String>,
    /// Processes.
    pub pids: Option<i64>,
    /// Devices (reservations).
    pub devices: Vec<DeviceRequest>,
}

/// `deploy.restart_policy`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// `none`, `on-failure`, `any`.
    pub condition: Option<String>,
    /// Most restarts.
    pub max_attempts: Option<u64>,
}

/// A config or secret in a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServiceFile {
    /// Key at the top level.
    pub source: String,
    /// Path inside; relative ones lie in `/run/secrets` (secrets) or `/` (configs).
    pub target: Option<String>,
    /// Owner.
    pub uid: Option<String>,
    /// Group.
    pub gid: Option<String>,
    /// Mode, as octal text (`0440`).
    pub mode: Option<String>,
}

/// A config or secret at the top level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FileObject {
    /// Its name outside.
    pub name: Option<String>,
    /// Content from this file, absolute.
    pub file: Option<String>,
    /// Content from this variable.
    pub environment: Option<String>,
    /// Content itself (configs).
    pub content: Option<String>,
    /// Made by somebody else: an error here, since there is no Swarm.
    pub external: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// `logging:`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// `json-file`, `local`, `none`.
    pub driver: Option<String>,
    /// Options, such as `max-size`.
    pub options: BTreeMap<String, Option<String>>,
}

/// A command at a point of a container's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// What to run.
    pub command: Vec<String>,
    /// As whom.
    pub user: Option<String>,
    /// With all capabilities.
    pub privileged: bool,
    /// Where.
    pub working_dir: Option<String>,
    /// Further environment.
    pub environment: OptionalMap,
    /// Image of the hook's own container (`pre_start`), instead of the service's.
    pub image: Option<String>,
    /// Once for each container that is started (`pre_start`), instead of once before the first.
    pub per_replica: bool,
}

/// `provider:`: a program that makes what the service stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// The program: a plugin of Docker's, or one in PATH.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its options, each with one value or several.
    pub options: BTreeMap<String, serde_json::Value>,
}

/// A service's use of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ModelUse {
    /// Variable for the address of its runner; default `<KEY>_URL`.
    pub endpoint_var: Option<String>,
    /// Variable for its name; default `<KEY>_MODEL`.
    pub model_var: Option<String>,
}

/// A model at the top level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Model {
    /// Its name in a registry.
    pub model: String,
    /// Tokens that its runner looks at.
    pub context_size: Option<u64>,
    /// Flags of its runner.
    pub runtime_flags: Vec<String>,
}

/// A network at the top level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its name outside, `<project>_<key>` unless set.
    pub name: String,
    /// `bridge`, `host`, `none`.
    pub driver: Option<String>,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// Address management.
    pub ipam: Option<Ipam>,
    /// Made by somebody else.
    pub external: bool,
    /// No way out.
    pub internal: bool,
    /// Containers may join later.
    pub attachable: bool,
    /// IPv4, default yes.
    pub enable_ipv4: Option<bool>,
    /// IPv6, default no.
    pub enable_ipv6: Option<bool>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// `ipam:`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// `default`.
    pub driver: Option<String>,
    /// Subnets.
    pub config: Vec<IpamConfig>,
}

/// One subnet of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    /// `10.1.0.0/24`.
    pub subnet: Option<String>,
    /// Where free addresses are taken from.
    pub ip_range: Option<String>,
    /// The bridge's address.
    pub gateway: Option<String>,
    /// Addresses that are taken, by name.
    pub aux_addresses: BTreeMap<String, String>,
}

/// A volume at the top level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its name outside, `<project>_<key>` unless set.
    pub name: String,
    /// `local`.
    pub driver: Option<String>,
    /// Driver options (`type`, `o`, `device`).
    pub driver_opts: BTreeMap<String, String>,
    /// Made by somebody else.
    pub external: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}
