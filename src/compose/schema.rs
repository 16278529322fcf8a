//! Which attributes exist and which forms each may have: the specification as tables.
//!
//! Order within a table is alphabetical. `validate` walks a tree against them and notes every mistake.
//!
//! Source: <https://github.com/compose-spec/compose-spec/blob/main/schema/compose-spec.json>.

use super::form::Form::{Any, Choice, Either, List, MapOf, Object, Scalar, Set, Word};
use super::form::scalars::{FLAG, NULL, NUMBER, TEXT, WHOLE};
use super::form::{
    Attributes, COMMAND, DRIVER_OPTIONS, DURATION, FILES, Form, HOSTS, Others, PAIRS, STRING, STRING_OR_FLAG,
    STRING_OR_NUMBER, STRING_OR_SET, STRING_OR_WHOLE, STRING_SET, STRINGS, ULIMITS, closed, is_container_name, is_name,
    is_not_empty, is_pull_policy, object, requiring,
};

/// A whole file.
pub(crate) static ROOT: Form = Object(&object(&[
    ("configs", MapOf(is_name, &Object(&CONFIG), Others::Refused)),
    ("include", List(&INCLUDE_ENTRY)),
    ("models", MapOf(is_name, &Object(&MODEL), Others::Unchecked)),
    ("name", STRING),
    ("networks", MapOf(is_name, &Either(&[Scalar(NULL), Object(&NETWORK)]), Others::Unchecked)),
    ("secrets", MapOf(is_name, &Object(&SECRET), Others::Refused)),
    ("services", MapOf(is_name, &Object(&SERVICE), Others::Refused)),
    ("version", STRING),
    ("volumes", MapOf(is_name, &Either(&[Scalar(NULL), Object(&VOLUME)]), Others::Refused)),
]));

/// `include`.
pub(crate) static INCLUDE: Form = List(&INCLUDE_ENTRY);
const INCLUDE_ENTRY: Form = Either(&[
    STRING,
    Object(&closed(&[("env_file", STRING_OR_SET), ("path", STRING_OR_SET), ("project_directory", STRING)])),
]);

/// One service.
pub(crate) static SERVICE: Attributes = object(&[
    ("annotations", PAIRS),
    ("attach", STRING_OR_FLAG),
    ("blkio_config", Object(&BLKIO)),
    ("build", Either(&[STRING, Object(&BUILD)])),
    ("cap_add", STRING_SET),
    ("cap_drop", STRING_SET),
    ("cgroup", Choice(&["host", "private"])),
    ("cgroup_parent", STRING),
    ("command", COMMAND),
    ("configs", FILES),
    ("container_name", Word(is_container_name, "a name of letters, digits, `_`, `.` and `-`, two at least")),
    ("cpu_count", Form::Bounded(0, i64::MAX)),
    ("cpu_percent", Form::Bounded(0, 100)),
    ("cpu_period", STRING_OR_NUMBER),
    ("cpu_quota", STRING_OR_NUMBER),
    ("cpu_rt_period", STRING_OR_NUMBER),
    ("cpu_rt_runtime", STRING_OR_NUMBER),
    ("cpu_shares", STRING_OR_NUMBER),
    ("cpus", STRING_OR_NUMBER),
    ("cpuset", STRING),
    ("credential_spec", Object(&object(&[("config", STRING), ("file", STRING), ("registry", STRING)]))),
    ("depends_on", Either(&[STRING_SET, MapOf(is_name, &Object(&DEPENDENCY), Others::Refused)])),
    ("deploy", Either(&[Scalar(NULL), Object(&DEPLOY)])),
    ("develop", Either(&[Scalar(NULL), Object(&object(&[("watch", List(&Object(&WATCH)))]))])),
    ("device_cgroup_rules", STRING_SET),
    ("devices", List(&Either(&[STRING, Object(&DEVICE)]))),
    ("dns", STRING_OR_SET),
    ("dns_opt", STRING_SET),
    ("dns_search", STRING_OR_SET),
    ("domainname", STRING),
    ("entrypoint", COMMAND),
    ("env_file", Either(&[STRING, List(&Either(&[STRING, Object(&ENV_FILE)]))])),
    ("environment", PAIRS),
    ("expose", Set(&STRING_OR_NUMBER)),
    ("extends", Either(&[STRING, Object(&requiring(closed(&[("file", STRING), ("service", STRING)]), &["service"]))])),
    ("external_links", STRING_SET),
    ("extra_hosts", HOSTS),
    ("gpus", Either(&[Choice(&["all"]), List(&Object(&GPU))])),
    ("group_add", Set(&STRING_OR_NUMBER)),
    ("healthcheck", Object(&HEALTHCHECK)),
    ("hostname", STRING),
    ("image", STRING),
    ("init", STRING_OR_FLAG),
    ("ipc", STRING),
    ("isolation", STRING),
    ("label_file", Either(&[STRING, STRINGS])),
    ("labels", PAIRS),
    ("links", STRING_SET),
    ("logging", Object(&LOGGING)),
    ("mac_address", STRING),
    ("mem_limit", STRING_OR_NUMBER),
    ("mem_reservation", STRING_OR_WHOLE),
    ("mem_swappiness", STRING_OR_WHOLE),
    ("memswap_limit", STRING_OR_NUMBER),
    (
        "models",
        Either(&[STRING_SET, MapOf(is_name, &Either(&[Scalar(NULL), Object(&SERVICE_MODEL)]), Others::Unchecked)]),
    ),
    ("network_mode", STRING),
    (
        "networks",
        Either(&[STRING_SET, MapOf(is_name, &Either(&[Scalar(NULL), Object(&SERVICE_NETWORK)]), Others::Refused)]),
    ),
    ("oom_kill_disable", STRING_OR_FLAG),
    ("oom_score_adj", Form::Bounded(-1000, 1000)),
    ("pid", Scalar(TEXT | NULL)),
    ("pids_limit", STRING_OR_NUMBER),
    ("platform", STRING),
    ("ports", Set(&Either(&[Scalar(NUMBER | TEXT), Object(&PORT)]))),
    ("post_start", List(&Object(&HOOK))),
    ("pre_start", List(&Object(&PRE_START))),
    ("pre_stop", List(&Object(&HOOK))),
    ("privileged", STRING_OR_FLAG),
    ("profiles", STRING_SET),
    (
        "provider",
        Object(&requiring(
            object(&[("options", MapOf(is_not_empty, &PROVIDER_OPTION, Others::Unchecked)), ("type", STRING)]),
            &["type"],
        )),
    ),
    (
        "pull_policy",
        Word(is_pull_policy, "always, missing, if_not_present, never, build, daily, weekly or every_DURATION"),
    ),
    ("pull_refresh_after", STRING),
    ("read_only", STRING_OR_FLAG),
    ("restart", STRING),
    ("runtime", STRING),
    ("scale", STRING_OR_WHOLE),
    ("secrets", FILES),
    ("security_opt", STRING_SET),
    ("shm_size", STRING_OR_NUMBER),
    ("stdin_open", STRING_OR_FLAG),
    ("stop_grace_period", DURATION),
    ("stop_signal", STRING),
    ("storage_opt", MapOf(|_| true, &Any, Others::Unchecked)),
    ("sysctls", PAIRS),
    ("tmpfs", STRING_OR_SET),
    ("tty", STRING_OR_FLAG),
    ("ulimits", ULIMITS),
    ("use_api_socket", Scalar(FLAG)),
    ("user", STRING),
    ("userns_mode", STRING),
    ("uts", STRING),
    ("volumes", Set(&Either(&[STRING, Object(&MOUNT)]))),
    ("volumes_from", STRING_SET),
    ("working_dir", STRING),
]);

const PROVIDER_OPTION: Form = Either(&[Scalar(TEXT | NUMBER | FLAG), List(&Scalar(TEXT | NUMBER | FLAG))]);

/// `build`.
pub(crate) static BUILD: Attributes = object(&[
    ("additional_contexts", PAIRS),
    ("args", PAIRS),
    ("cache_from", STRINGS),
    ("cache_to", STRINGS),
    ("context", STRING),
    ("dockerfile", STRING),
    ("dockerfile_inline", STRING),
    ("entitlements", STRINGS),
    ("extra_hosts", HOSTS),
    ("isolation", STRING),
    ("labels", PAIRS),
    ("network", STRING),
    ("no_cache", STRING_OR_FLAG),
    ("no_cache_filter", STRING_OR_SET),
    ("platforms", STRINGS),
    ("privileged", STRING_OR_FLAG),
    ("provenance", STRING_OR_FLAG),
    ("pull", STRING_OR_FLAG),
    ("sbom", STRING_OR_FLAG),
    ("secrets", FILES),
    ("shm_size", STRING_OR_WHOLE),
    ("ssh", PAIRS),
    ("tags", STRINGS),
    ("target", STRING),
    ("ulimits", ULIMITS),
]);

static BLKIO: Attributes = closed(&[
    ("device_read_bps", List(&BLKIO_RATE)),
    ("device_read_iops", List(&BLKIO_RATE)),
    ("device_write_bps", List(&BLKIO_RATE)),
    ("device_write_iops", List(&BLKIO_RATE)),
    ("weight", STRING_OR_WHOLE),
    ("weight_device", List(&Object(&closed(&[("path", STRING), ("weight", STRING_OR_WHOLE)])))),
]);
const BLKIO_RATE: Form = Object(&closed(&[("path", STRING), ("rate", STRING_OR_WHOLE)]));

static DEPENDENCY: Attributes = requiring(
    object(&[
        ("condition", Choice(&["service_started", "service_healthy", "service_completed_successfully"])),
        ("required", Scalar(FLAG)),
        ("restart", STRING_OR_FLAG),
    ]),
    &["condition"],
);

static DEVICE: Attributes =
    requiring(object(&[("permissions", STRING), ("source", STRING), ("target", STRING)]), &["source"]);

static ENV_FILE: Attributes =
    requiring(closed(&[("format", STRING), ("path", STRING), ("required", STRING_OR_FLAG)]), &["path"]);

const DEVICE_REQUEST: &[(&str, Form)] = &[
    ("capabilities", STRING_SET),
    ("count", STRING_OR_WHOLE),
    ("device_ids", STRING_SET),
    ("driver", STRING),
    ("options", PAIRS),
];
static GPU: Attributes =
    Attributes { known: DEVICE_REQUEST, required: &[], extensions: true, others: Others::Unchecked };
static RESERVED_DEVICE: Attributes = requiring(object(DEVICE_REQUEST), &["capabilities"]);

/// `healthcheck`.
pub(crate) static HEALTHCHECK: Attributes = object(&[
    ("disable", STRING_OR_FLAG),
    ("interval", DURATION),
    ("retries", STRING_OR_NUMBER),
    ("start_interval", DURATION),
    ("start_period", DURATION),
    ("test", Either(&[STRING, STRINGS])),
    ("timeout", DURATION),
]);

/// `logging`.
pub(crate) static LOGGING: Attributes =
    object(&[("driver", STRING), ("options", MapOf(is_not_empty, &Scalar(TEXT | NUMBER | NULL), Others::Unchecked))]);

static SERVICE_MODEL: Attributes = object(&[("endpoint_var", STRING), ("model_var", STRING)]);

static SERVICE_NETWORK: Attributes = object(&[
    ("aliases", STRING_SET),
    ("driver_opts", DRIVER_OPTIONS),
    ("gw_priority", Scalar(NUMBER)),
    ("interface_name", STRING),
    ("ipv4_address", STRING),
    ("ipv6_address", STRING),
    ("link_local_ips", STRING_SET),
    ("mac_address", STRING),
    ("priority", Scalar(NUMBER)),
]);

static PORT: Attributes = object(&[
    ("app_protocol", STRING),
    ("host_ip", STRING),
    ("mode", STRING),
    ("name", STRING),
    ("protocol", STRING),
    ("published", STRING_OR_WHOLE),
    ("target", STRING_OR_WHOLE),
]);

static HOOK: Attributes = requiring(
    object(&[
        ("command", COMMAND),
        ("environment", PAIRS),
        ("privileged", STRING_OR_FLAG),
        ("user", STRING),
        ("working_dir", STRING),
    ]),
    &["command"],
);

static PRE_START: Attributes = object(&[
    ("command", COMMAND),
    ("environment", PAIRS),
    ("image", STRING),
    ("per_replica", STRING_OR_FLAG),
    ("privileged", STRING_OR_FLAG),
    ("user", STRING),
    ("working_dir", STRING),
]);

static MOUNT: Attributes = requiring(
    object(&[
        (
            "bind",
            Object(&object(&[
                ("create_host_path", STRING_OR_FLAG),
                ("propagation", STRING),
                ("recursive", Choice(&["enabled", "disabled", "writable", "readonly"])),
                ("selinux", Choice(&["z", "Z"])),
            ])),
        ),
        ("consistency", STRING),
        ("image", Object(&object(&[("subpath", STRING)]))),
        ("read_only", STRING_OR_FLAG),
        ("source", STRING),
        ("target", STRING),
        ("tmpfs", Object(&object(&[("mode", STRING_OR_NUMBER), ("size", Form::Bounded(0, i64::MAX))]))),
        ("type", Choice(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        ("volume", Object(&object(&[("labels", PAIRS), ("nocopy", STRING_OR_FLAG), ("subpath", STRING)]))),
    ]),
    &["type"],
);

static WATCH: Attributes = requiring(
    object(&[
        ("action", Choice(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
        ("exec", Object(&HOOK)),
        ("ignore", STRING_OR_SET),
        ("include", STRING_OR_SET),
        ("initial_sync", Scalar(FLAG)),
        ("path", STRING),
        ("target", STRING),
    ]),
    &["path", "action"],
);

/// `deploy`.
pub(crate) static DEPLOY: Attributes = object(&[
    ("endpoint_mode", STRING),
    ("labels", PAIRS),
    ("mode", STRING),
    ("placement", Object(&PLACEMENT)),
    ("replicas", STRING_OR_WHOLE),
    ("resources", Object(&RESOURCES)),
    ("restart_policy", Object(&RESTART_POLICY)),
    ("rollback_config", Object(&UPDATE)),
    ("update_config", Object(&UPDATE)),
]);

static PLACEMENT: Attributes = object(&[
    ("constraints", STRINGS),
    ("max_replicas_per_node", STRING_OR_WHOLE),
    ("preferences", List(&Object(&object(&[("spread", STRING)])))),
]);

static RESOURCES: Attributes = object(&[
    ("limits", Object(&object(&[("cpus", STRING_OR_NUMBER), ("memory", STRING), ("pids", STRING_OR_WHOLE)]))),
    (
        "reservations",
        Object(&object(&[
            ("cpus", STRING_OR_NUMBER),
            ("devices", List(&Object(&RESERVED_DEVICE))),
            ("generic_resources", List(&Object(&GENERIC_RESOURCE))),
            ("memory", STRING),
        ])),
    ),
]);

static GENERIC_RESOURCE: Attributes =
    object(&[("discrete_resource_spec", Object(&object(&[("kind", STRING), ("value", STRING_OR_NUMBER)])))]);

static RESTART_POLICY: Attributes =
    object(&[("condition", STRING), ("delay", DURATION), ("max_attempts", STRING_OR_WHOLE), ("window", DURATION)]);

static UPDATE: Attributes = object(&[
    ("delay", DURATION),
    ("failure_action", STRING),
    ("max_failure_ratio", STRING_OR_NUMBER),
    ("monitor", DURATION),
    ("order", Choice(&["start-first", "stop-first"])),
    ("parallelism", STRING_OR_WHOLE),
]);

const EXTERNAL: Form = Either(&[STRING_OR_FLAG, Object(&object(&[("name", STRING)]))]);
const EXTERNAL_OPEN: Form = Either(&[
    STRING_OR_FLAG,
    Object(&Attributes { known: &[("name", STRING)], required: &[], extensions: true, others: Others::Unchecked }),
]);

static NETWORK: Attributes = object(&[
    ("attachable", STRING_OR_FLAG),
    ("driver", STRING),
    ("driver_opts", DRIVER_OPTIONS),
    ("enable_ipv4", STRING_OR_FLAG),
    ("enable_ipv6", STRING_OR_FLAG),
    ("external", EXTERNAL),
    ("internal", STRING_OR_FLAG),
    ("ipam", Object(&IPAM)),
    ("labels", PAIRS),
    ("name", STRING),
]);

static IPAM: Attributes = object(&[
    (
        "config",
        List(&Object(&object(&[
            ("aux_addresses", MapOf(is_not_empty, &STRING, Others::Refused)),
            ("gateway", STRING),
            ("ip_range", STRING),
            ("subnet", STRING),
        ]))),
    ),
    ("driver", STRING),
    ("options", MapOf(is_not_empty, &STRING, Others::Refused)),
]);

static VOLUME: Attributes = object(&[
    ("driver", STRING),
    ("driver_opts", DRIVER_OPTIONS),
    ("external", EXTERNAL),
    ("labels", PAIRS),
    ("name", STRING),
]);

static SECRET: Attributes = object(&[
    ("driver", STRING),
    ("driver_opts", DRIVER_OPTIONS),
    ("environment", STRING),
    ("external", EXTERNAL_OPEN),
    ("file", STRING),
    ("labels", PAIRS),
    ("name", STRING),
    ("template_driver", STRING),
]);

static CONFIG: Attributes = object(&[
    ("content", STRING),
    ("environment", STRING),
    ("external", EXTERNAL_OPEN),
    ("file", STRING),
    ("labels", PAIRS),
    ("name", STRING),
    ("template_driver", STRING),
]);

static MODEL: Attributes = requiring(
    object(&[("context_size", Scalar(WHOLE)), ("model", STRING), ("name", STRING), ("runtime_flags", STRINGS)]),
    &["model"],
);
