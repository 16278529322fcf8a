//! The attributes of the canonical form with their types, in the order in which Compose prints them.

use Kind::{
    Always, Bytes, Command, Cpus, DeviceCount, Duration, FileMode, Flag, Hosts, Int, Labels, ListOf, ManyOptions,
    MapOf, MaybeDuration, MaybeFlag, MaybeInt, MaybeUnsigned, NumberTexts, OptOut, Short, Ssh, Struct, Test, Text,
    TextMap, Texts, Ulimit, Unsigned, Variables, Yes,
};

/// What an attribute holds, and when it is left out.
pub(crate) enum Kind {
    /// Text; left out when empty.
    Text,
    /// A boolean; left out when false.
    Flag,
    /// A boolean; left out when absent.
    MaybeFlag,
    /// A boolean that is printed as it is.
    Yes,
    /// A boolean that is true unless it says otherwise.
    OptOut,
    /// A whole number; left out when 0.
    Int,
    /// A whole number; left out when absent.
    MaybeInt,
    /// A whole number up to a bound, not below 0; left out when 0.
    Unsigned(u64),
    /// The same; left out when absent.
    MaybeUnsigned,
    /// A number of 32 bits; left out when 0.
    Short,
    /// The same, also from text.
    Cpus,
    /// A size, printed as text in bytes; left out when 0.
    Bytes,
    /// A duration; left out when 0.
    Duration,
    /// A duration; left out when absent.
    MaybeDuration,
    /// A list of texts; left out when empty.
    Texts,
    /// A list of texts or numbers, as text.
    NumberTexts,
    /// A command: `null` when absent, words when text.
    Command,
    /// The test of a health check.
    Test,
    /// Variables, which may be unset.
    Variables,
    /// Texts by key; `null` is empty.
    TextMap,
    /// The same from a list too; a key without `=` has an empty value.
    Labels,
    /// Lists of texts by key.
    ManyOptions,
    /// `host=address` lines.
    Hosts,
    /// Agent sockets.
    Ssh,
    /// A number of devices; `all` is -1.
    DeviceCount,
    /// An octal mode as text.
    FileMode,
    /// One limit, or two.
    Ulimit,
    /// A mapping; left out when absent.
    Struct(&'static [Attribute]),
    /// A mapping that JSON shows even when it is absent.
    Always(&'static [Attribute]),
    /// A list; left out when empty.
    ListOf(&'static Kind),
    /// A mapping from free keys; left out when empty. `null` stays.
    MapOf(&'static Kind),
}

/// A name and what stands there.
pub(crate) type Attribute = (&'static str, Kind);

const COUNT: Kind = Unsigned(u64::MAX);

pub(crate) static SERVICE: &[Attribute] = &[
    ("profiles", Texts),
    ("annotations", Labels),
    ("attach", MaybeFlag),
    ("build", Struct(BUILD)),
    ("develop", Struct(&[("watch", ListOf(&Struct(WATCH)))])),
    ("blkio_config", Struct(BLKIO)),
    ("cap_add", Texts),
    ("cap_drop", Texts),
    ("cgroup_parent", Text),
    ("cgroup", Text),
    ("cpu_count", Int),
    ("cpu_percent", Short),
    ("cpu_period", Int),
    ("cpu_quota", Int),
    ("cpu_rt_period", Int),
    ("cpu_rt_runtime", Int),
    ("cpus", Short),
    ("cpuset", Text),
    ("cpu_shares", Int),
    ("command", Command),
    ("configs", ListOf(&Struct(FILE))),
    ("container_name", Text),
    ("credential_spec", Struct(&[("config", Text), ("file", Text), ("registry", Text)])),
    ("depends_on", MapOf(&Struct(&[("condition", Text), ("restart", Flag), ("required", Yes)]))),
    ("deploy", Struct(DEPLOY)),
    ("device_cgroup_rules", Texts),
    ("devices", ListOf(&Struct(&[("source", Text), ("target", Text), ("permissions", Text)]))),
    ("dns", Texts),
    ("dns_opt", Texts),
    ("dns_search", Texts),
    ("domainname", Text),
    ("entrypoint", Command),
    ("provider", Struct(&[("type", Text), ("options", ManyOptions)])),
    ("environment", Variables),
    ("env_file", ListOf(&Struct(&[("path", Text), ("required", OptOut), ("format", Text)]))),
    ("expose", NumberTexts),
    ("extends", Struct(&[("file", Text), ("service", Text)])),
    ("external_links", Texts),
    ("extra_hosts", Hosts),
    ("group_add", NumberTexts),
    ("gpus", ListOf(&Struct(DEVICE_REQUEST))),
    ("hostname", Text),
    ("healthcheck", Struct(HEALTHCHECK)),
    ("image", Text),
    ("init", MaybeFlag),
    ("ipc", Text),
    ("isolation", Text),
    ("labels", Labels),
    ("label_file", Texts),
    ("links", Texts),
    ("logging", Struct(&[("driver", Text), ("options", TextMap)])),
    ("mem_limit", Bytes),
    ("mem_reservation", Bytes),
    ("memswap_limit", Bytes),
    ("mem_swappiness", Bytes),
    ("mac_address", Text),
    ("models", MapOf(&Struct(&[("endpoint_var", Text), ("model_var", Text)]))),
    ("network_mode", Text),
    ("networks", MapOf(&Struct(SERVICE_NETWORK))),
    ("oom_kill_disable", Flag),
    ("oom_score_adj", Int),
    ("pid", Text),
    ("pids_limit", Int),
    ("platform", Text),
    ("ports", ListOf(&Struct(PORT))),
    ("privileged", Flag),
    ("pull_policy", Text),
    ("read_only", Flag),
    ("restart", Text),
    ("runtime", Text),
    ("scale", MaybeInt),
    ("secrets", ListOf(&Struct(FILE))),
    ("security_opt", Texts),
    ("shm_size", Bytes),
    ("stdin_open", Flag),
    ("stop_grace_period", MaybeDuration),
    ("stop_signal", Text),
    ("storage_opt", TextMap),
    ("sysctls", Labels),
    ("tmpfs", Texts),
    ("tty", Flag),
    ("ulimits", MapOf(&Ulimit)),
    ("use_api_socket", Flag),
    ("user", Text),
    ("userns_mode", Text),
    ("uts", Text),
    ("volumes", ListOf(&Struct(MOUNT))),
    ("volumes_from", Texts),
    ("working_dir", Text),
    ("pre_start", ListOf(&Struct(HOOK))),
    ("post_start", ListOf(&Struct(HOOK))),
    ("pre_stop", ListOf(&Struct(HOOK))),
];

static BUILD: &[Attribute] = &[
    ("context", Text),
    ("dockerfile", Text),
    ("dockerfile_inline", Text),
    ("entitlements", Texts),
    ("args", Variables),
    ("provenance", Text),
    ("sbom", Text),
    ("ssh", Ssh),
    ("labels", Labels),
    ("cache_from", Texts),
    ("cache_to", Texts),
    ("no_cache", Flag),
    ("no_cache_filter", Texts),
    ("additional_contexts", TextMap),
    ("pull", Flag),
    ("extra_hosts", Hosts),
    ("isolation", Text),
    ("network", Text),
    ("target", Text),
    ("secrets", ListOf(&Struct(FILE))),
    ("shm_size", Bytes),
    ("tags", Texts),
    ("ulimits", MapOf(&Ulimit)),
    ("platforms", Texts),
    ("privileged", Flag),
];

static FILE: &[Attribute] = &[("source", Text), ("target", Text), ("uid", Text), ("gid", Text), ("mode", FileMode)];

static WATCH: &[Attribute] = &[
    ("path", Text),
    ("action", Text),
    ("target", Text),
    ("exec", Always(HOOK)),
    ("include", Texts),
    ("ignore", Texts),
    ("initial_sync", Flag),
];

static HOOK: &[Attribute] = &[
    ("command", Command),
    ("image", Text),
    ("user", Text),
    ("privileged", Flag),
    ("working_dir", Text),
    ("environment", Variables),
    ("per_replica", Flag),
];

static BLKIO: &[Attribute] = &[
    ("weight", Unsigned(u16::MAX as u64)),
    ("weight_device", ListOf(&Struct(&[("path", Text), ("weight", Unsigned(u16::MAX as u64))]))),
    ("device_read_bps", ListOf(&Struct(RATE))),
    ("device_read_iops", ListOf(&Struct(RATE))),
    ("device_write_bps", ListOf(&Struct(RATE))),
    ("device_write_iops", ListOf(&Struct(RATE))),
];
static RATE: &[Attribute] = &[("path", Text), ("rate", Bytes)];

static DEPLOY: &[Attribute] = &[
    ("mode", Text),
    ("replicas", MaybeInt),
    ("labels", Labels),
    ("update_config", Struct(UPDATE)),
    ("rollback_config", Struct(UPDATE)),
    ("resources", Always(&[("limits", Struct(RESOURCE)), ("reservations", Struct(RESOURCE))])),
    (
        "restart_policy",
        Struct(&[
            ("condition", Text),
            ("delay", MaybeDuration),
            ("max_attempts", MaybeUnsigned),
            ("window", MaybeDuration),
        ]),
    ),
    (
        "placement",
        Always(&[
            ("constraints", Texts),
            ("preferences", ListOf(&Struct(&[("spread", Text)]))),
            ("max_replicas_per_node", COUNT),
        ]),
    ),
    ("endpoint_mode", Text),
];

static UPDATE: &[Attribute] = &[
    ("parallelism", MaybeUnsigned),
    ("delay", Duration),
    ("failure_action", Text),
    ("monitor", Duration),
    ("max_failure_ratio", Short),
    ("order", Text),
];

static RESOURCE: &[Attribute] = &[
    ("cpus", Cpus),
    ("memory", Bytes),
    ("pids", Int),
    ("devices", ListOf(&Struct(DEVICE_REQUEST))),
    ("generic_resources", ListOf(&Struct(&[("discrete_resource_spec", Struct(&[("kind", Text), ("value", Int)]))]))),
];

static DEVICE_REQUEST: &[Attribute] =
    &[("capabilities", Texts), ("driver", Text), ("count", DeviceCount), ("device_ids", Texts), ("options", Labels)];

static HEALTHCHECK: &[Attribute] = &[
    ("test", Test),
    ("timeout", MaybeDuration),
    ("interval", MaybeDuration),
    ("retries", MaybeUnsigned),
    ("start_period", MaybeDuration),
    ("start_interval", MaybeDuration),
    ("disable", Flag),
];

static SERVICE_NETWORK: &[Attribute] = &[
    ("aliases", Texts),
    ("driver_opts", TextMap),
    ("gw_priority", Int),
    ("interface_name", Text),
    ("ipv4_address", Text),
    ("ipv6_address", Text),
    ("link_local_ips", Texts),
    ("mac_address", Text),
    ("priority", Int),
];

static PORT: &[Attribute] = &[
    ("name", Text),
    ("mode", Text),
    ("host_ip", Text),
    ("target", Unsigned(u32::MAX as u64)),
    ("published", Text),
    ("protocol", Text),
    ("app_protocol", Text),
];

static MOUNT: &[Attribute] = &[
    ("type", Text),
    ("source", Text),
    ("target", Text),
    ("read_only", Flag),
    ("consistency", Text),
    ("bind", Struct(&[("selinux", Text), ("propagation", Text), ("create_host_path", OptOut), ("recursive", Text)])),
    ("volume", Struct(&[("labels", Labels), ("nocopy", Flag), ("subpath", Text)])),
    ("tmpfs", Struct(&[("size", Bytes), ("mode", Unsigned(u32::MAX as u64))])),
    ("image", Struct(&[("subpath", Text)])),
];

pub(crate) static NETWORK: &[Attribute] = &[
    ("name", Text),
    ("driver", Text),
    ("driver_opts", TextMap),
    ("ipam", Always(&[("driver", Text), ("config", ListOf(&Struct(POOL))), ("options", TextMap)])),
    ("external", Flag),
    ("internal", Flag),
    ("attachable", Flag),
    ("labels", Labels),
    ("enable_ipv4", MaybeFlag),
    ("enable_ipv6", MaybeFlag),
];
static POOL: &[Attribute] = &[("subnet", Text), ("gateway", Text), ("ip_range", Text), ("aux_addresses", TextMap)];

pub(crate) static VOLUME: &[Attribute] =
    &[("name", Text), ("driver", Text), ("driver_opts", TextMap), ("external", Flag), ("labels", Labels)];

pub(crate) static FILE_OBJECT: &[Attribute] = &[
    ("name", Text),
    ("file", Text),
    ("environment", Text),
    ("content", Text),
    ("external", Flag),
    ("labels", Labels),
    ("driver", Text),
    ("driver_opts", TextMap),
    ("template_driver", Text),
];

pub(crate) static MODEL: &[Attribute] =
    &[("name", Text), ("model", Text), ("context_size", Int), ("runtime_flags", Texts)];
