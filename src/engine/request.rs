//! What somebody wants a container to be, before the image had its say.
//!
//! A service of a project and the flags of `run` both become a [`Request`]; together with an image it becomes
//! a [`ContainerSpec`]. The rules for what wins are Docker's: the request over the image, key by key for
//! environment and labels, as a whole for the command, the health check and the like.

use std::collections::{BTreeMap, BTreeSet};

use super::{Error, Result, signal};
use crate::base::id::{ContainerId, random_hex};
use crate::model::container::{
    ContainerSpec, Healthcheck, InlineFile, Logging, Mount, MountSource, NetworkMode, PortBinding, Process, Protocol,
    Resources, RestartPolicy, Security,
};
use crate::model::image::{Image, ImageHealthcheck};
use crate::model::project::OptionalMap;

/// Docker's PATH for a container whose image sets none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Docker's size of /dev/shm.
const SHM_SIZE_BYTES: u64 = 64 << 20;
/// Docker's grace between the stop signal and SIGKILL.
const STOP_TIMEOUT_MS: u64 = 10_000;

/// A wished container. `None` and empty leave it to the image or to Docker's default.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Its name; `None` makes one up.
    pub name: Option<String>,
    /// The image as the user named it.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Arguments, or the program where there is no entrypoint.
    pub command: Option<Vec<String>>,
    /// The program; `Some` of nothing clears the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Environment; an unset value removes the image's.
    pub environment: OptionalMap,
    /// Working folder.
    pub working_dir: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Further groups.
    pub additional_groups: Vec<String>,
    /// A terminal.
    pub terminal: bool,
    /// Keep stdin open.
    pub stdin_open: bool,
    /// Host name.
    pub hostname: Option<String>,
    /// Domain name.
    pub domainname: Option<String>,
    /// Read-only root.
    pub read_only: bool,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Configs and secrets.
    pub files: Vec<InlineFile>,
    /// Size of /dev/shm.
    pub shm_size_bytes: Option<u64>,
    /// Network.
    pub network: Option<NetworkMode>,
    /// Published ports.
    pub ports: Vec<PortBinding>,
    /// Publish every exposed port on a free host port.
    pub publish_all: bool,
    /// Declared ports.
    pub exposed_ports: Vec<String>,
    /// Lines for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Options of resolv.conf.
    pub dns_options: Vec<String>,
    /// Isolation.
    pub security: Security,
    /// Limits.
    pub resources: Resources,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Resource limits of the process.
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// An init as PID 1.
    pub init: bool,
    /// Signal for a graceful stop.
    pub stop_signal: Option<String>,
    /// Grace after it.
    pub stop_timeout_ms: Option<u64>,
    /// Restart policy.
    pub restart: RestartPolicy,
    /// Health check.
    pub healthcheck: HealthWish,
    /// Logging.
    pub logging: Option<Logging>,
    /// Remove it when it ends.
    pub auto_remove: bool,
    /// Anonymous volumes to take over, by target: those of a container that this one replaces.
    pub inherited_volumes: BTreeMap<String, String>,
}

/// What is wished of the health check. Fields that are `None` come from the image, then from Docker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthWish {
    /// None at all.
    pub disable: bool,
    /// `["CMD", …]`, `["CMD-SHELL", text]`; empty is the image's.
    pub test: Vec<String>,
    /// Between probes.
    pub interval_ms: Option<u64>,
    /// For one probe.
    pub timeout_ms: Option<u64>,
    /// In which failures do not count.
    pub start_period_ms: Option<u64>,
    /// Between probes in that period.
    pub start_interval_ms: Option<u64>,
    /// Failures in a row.
    pub retries: Option<u32>,
}

impl Request {
    /// Joins the request with its image.
    ///
    /// Errors: no command, a stop signal or health check that means nothing.
    pub fn into_spec(self, image: &Image, created: jiff::Timestamp) -> Result<ContainerSpec> {
        let defaults = &image.config.config;
        let id = ContainerId::random();
        let (args, entrypoint_length) = self.arguments(image)?;
        let env = merge_environment(&defaults.env, &self.environment);
        let healthcheck = self.healthcheck(image)?;
        let stop_signal = match self.stop_signal.as_ref().or(defaults.stop_signal.as_ref()) {
            Some(text) => stop_signal(text)?,
            None => libc::SIGTERM,
        };
        let exposed_ports: BTreeSet<String> = defaults
            .exposed_ports
            .keys()
            .map(|port| with_protocol(port))
            .chain(self.exposed_ports.iter().map(|port| with_protocol(port)))
            .collect();
        let mut ports = self.ports;
        if self.publish_all {
            ports.extend(exposed_ports.iter().filter_map(|port| any_host_port(port)));
        }
        let mut labels = defaults.labels.clone();
        labels.extend(self.labels);
        let mut mounts = self.mounts;
        add_anonymous_volumes(&mut mounts, defaults.volumes.keys(), &self.inherited_volumes);
        // A mount inside another one must come after it.
        mounts.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
        let cwd = self.working_dir.unwrap_or_else(|| defaults.working_dir.clone());
        let process = Process {
            args,
            env,
            cwd: if cwd.is_empty() { "/".into() } else { cwd },
            user: self.user.unwrap_or_else(|| defaults.user.clone()),
            additional_groups: self.additional_groups,
            terminal: self.terminal,
            stdin_open: self.stdin_open,
        };
        Ok(ContainerSpec {
            name: self.name.unwrap_or_else(|| made_up_name(0)),
            created,
            image: self.image,
            image_id: Some(image.id.clone()),
            layers: image.diff_ids(),
            labels,
            process,
            hostname: self.hostname.unwrap_or_else(|| id.short().to_owned()),
            domainname: self.domainname,
            read_only: self.read_only,
            mounts,
            files: self.files,
            shm_size_bytes: self.shm_size_bytes.unwrap_or(SHM_SIZE_BYTES),
            network: self.network.unwrap_or(NetworkMode::None),
            ports,
            exposed_ports: exposed_ports.into_iter().collect(),
            extra_hosts: self.extra_hosts,
            dns: self.dns,
            dns_search: self.dns_search,
            dns_options: self.dns_options,
            security: self.security,
            resources: self.resources,
            sysctls: self.sysctls,
            ulimits: self.ulimits,
            init: self.init,
            stop_signal,
            stop_timeout_ms: self.stop_timeout_ms.unwrap_or(STOP_TIMEOUT_MS),
            restart: self.restart,
            healthcheck,
            logging: self.logging.unwrap_or_default(),
            auto_remove: self.auto_remove,
            entrypoint_length,
            uid_maps: Vec::new(),
            gid_maps: Vec::new(),
            id,
        })
    }

    /// The arguments, and how many of them are the entrypoint.
    fn arguments(&self, image: &Image) -> Result<(Vec<String>, usize)> {
        let defaults = &image.config.config;
        let (entrypoint, default_command) = match &self.entrypoint {
            // An entrypoint of one's own means that the image's CMD was written for another program.
            Some(own) => (own.clone(), None),
            None => (defaults.entrypoint.clone().unwrap_or_default(), defaults.cmd.clone()),
        };
        let entrypoint_length = entrypoint.len();
        let mut args = entrypoint;
        args.extend(self.command.clone().or(default_command).unwrap_or_default());
        if args.is_empty() {
            return Err(Error::NoCommand { image: self.image.clone() });
        }
        Ok((args, entrypoint_length))
    }

    fn healthcheck(&self, image: &Image) -> Result<Option<Healthcheck>> {
        let wish = &self.healthcheck;
        let none = ImageHealthcheck::default();
        let default = image.config.config.healthcheck.as_ref().unwrap_or(&none);
        let test = if wish.test.is_empty() { &default.test } else { &wish.test };
        if wish.disable {
            return Ok(None);
        }
        let shell = || image.config.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        let args = match test.split_first().map(|(kind, rest)| (kind.as_str(), rest)) {
            None | Some(("NONE", _)) => return Ok(None),
            Some(("CMD", args)) if !args.is_empty() => args.to_vec(),
            Some(("CMD-SHELL", [text, ..])) => [shell(), vec![text.clone()]].concat(),
            Some(_) => {
                let expected = "CMD with a program, CMD-SHELL with a command, or NONE".to_owned();
                return Err(Error::Value { what: "healthcheck.test".into(), value: test.join(" "), expected });
            }
        };
        let duration = |own: Option<u64>, image_ns: u64, default_ms: u64| {
            own.filter(|ms| *ms > 0).unwrap_or(if image_ns > 0 { image_ns / 1_000_000 } else { default_ms })
        };
        Ok(Some(Healthcheck {
            args,
            interval_ms: duration(wish.interval_ms, default.interval, 30_000),
            timeout_ms: duration(wish.timeout_ms, default.timeout, 30_000),
            start_period_ms: duration(wish.start_period_ms, default.start_period, 0),
            start_interval_ms: duration(wish.start_interval_ms, default.start_interval, 5_000),
            retries: wish
                .retries
                .filter(|retries| *retries > 0)
                .or(u32::try_from(default.retries).ok().filter(|retries| *retries > 0))
                .unwrap_or(3),
        }))
    }
}

/// Reads `stop_signal`.
pub(super) fn stop_signal(text: &str) -> Result<i32> {
    signal::parse(text).map_err(|error| match error {
        Error::Value { value, expected, .. } => Error::Value { what: "stop_signal".into(), value, expected },
        other => other,
    })
}

/// The image's environment below the request's. The image's order is kept, new keys follow in name order.
fn merge_environment(image: &[String], own: &OptionalMap) -> Vec<String> {
    let key = |entry: &str| entry.split_once('=').map_or(entry, |(key, _)| key).to_owned();
    let mut merged: Vec<String> = Vec::new();
    if !own.contains_key("PATH") && !image.iter().any(|entry| key(entry) == "PATH") {
        merged.push(PATH.to_owned());
    }
    merged.extend(image.iter().filter(|entry| !own.contains_key(&key(entry))).cloned());
    merged.extend(own.iter().filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}"))));
    merged
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

/// The binding that publishes an exposed port (`80/tcp`) on any free host port.
fn any_host_port(exposed: &str) -> Option<PortBinding> {
    let (port, protocol) = exposed.split_once('/')?;
    let protocol = match protocol {
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    Some(PortBinding { host_ip: None, host_port: None, container_port: port.parse().ok()?, protocol })
}

/// The image's VOLUMEs that nothing else is mounted at; those of a replaced container are taken over.
fn add_anonymous_volumes<'i>(
    mounts: &mut Vec<Mount>,
    image: impl Iterator<Item = &'i String>,
    inherited: &BTreeMap<String, String>,
) {
    let trim = |path: &str| path.trim_end_matches('/').to_owned();
    for mount in mounts.iter_mut() {
        if let MountSource::Volume { name, anonymous: true, .. } = &mut mount.source
            && let Some(old) = inherited.get(&trim(&mount.target))
        {
            *name = old.clone();
        }
    }
    for target in image {
        if mounts.iter().any(|mount| trim(&mount.target) == trim(target)) {
            continue;
        }
        let name = inherited.get(&trim(target)).cloned().unwrap_or_else(|| random_hex(32));
        let source = MountSource::Volume { name, subpath: None, copy: true, anonymous: true };
        mounts.push(Mount { target: trim(target), read_only: false, source });
    }
}

/// A name for a container that was given none: a quality and a harbour word, `calm_lantern`. From the second
/// attempt on a digit follows.
pub fn made_up_name(attempt: u32) -> String {
    const QUALITIES: [&str; 32] = [
        "amber", "bold", "brisk", "calm", "clear", "daring", "eager", "early", "fair", "fleet", "gentle", "glad",
        "keen", "kind", "lively", "lucid", "mellow", "merry", "noble", "placid", "proud", "quick", "quiet", "ready",
        "sharp", "silver", "steady", "sunny", "swift", "tidy", "warm", "wise",
    ];
    const NOUNS: [&str; 32] = [
        "anchor",
        "beacon",
        "bollard",
        "bowline",
        "breeze",
        "buoy",
        "captain",
        "cargo",
        "compass",
        "crane",
        "current",
        "deck",
        "dory",
        "ferry",
        "galley",
        "gull",
        "harbour",
        "helm",
        "jetty",
        "keel",
        "lantern",
        "lighthouse",
        "mast",
        "pilot",
        "quay",
        "rudder",
        "sail",
        "schooner",
        "skiff",
        "tide",
        "trawler",
        "winch",
    ];
    let random = random_hex(2);
    let pick = |from: usize| usize::from_str_radix(&random[from..from + 2], 16).unwrap_or(0) % 32;
    let suffix = if attempt == 0 { String::new() } else { (attempt % 10).to_string() };
    format!("{}_{}{suffix}", QUALITIES[pick(0)], NOUNS[pick(2)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Digest;
    use crate::model::image::{ContainerDefaults, ImageConfig};

    fn image(config: ContainerDefaults) -> Image {
        Image {
            id: Digest::of(b"image"),
            manifest: None,
            config: ImageConfig { config, ..ImageConfig::default() },
            layers: Vec::new(),
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_follows_dockers_rules() {
        let image = image(ContainerDefaults {
            entrypoint: Some(words("run")),
            cmd: Some(words("default args")),
            ..Default::default()
        });
        for (entrypoint, command, expected) in [
            (None, None, Some("run default args")),
            (None, Some("own"), Some("run own")),
            (Some("other"), None, Some("other")),
            (Some("other"), Some("x y"), Some("other x y")),
            (Some(""), Some("x"), Some("x")),
            (Some(""), None, None),
        ] {
            let request =
                Request { entrypoint: entrypoint.map(words), command: command.map(words), ..Request::default() };
            let arguments = request.arguments(&image).ok();
            // What is not given is the image's.
            let length = entrypoint.map_or(1, |text| words(text).len());
            assert_eq!(arguments, expected.map(|text| (words(text), length)), "{entrypoint:?} {command:?}");
        }
    }

    #[test]
    fn environment_is_merged_by_key() {
        let own =
            OptionalMap::from([("A".into(), Some("2".into())), ("B".into(), None), ("C".into(), Some(String::new()))]);
        let image = ["PATH=/bin", "A=1", "B=1", "D=x=y"].map(str::to_owned);
        assert_eq!(merge_environment(&image, &own), ["PATH=/bin", "D=x=y", "A=2", "C="]);
        assert_eq!(merge_environment(&[], &OptionalMap::new()), [PATH]);
    }

    #[test]
    fn health_checks_inherit_what_is_not_said() {
        let check =
            ImageHealthcheck { test: words("CMD probe"), interval: 5_000_000_000, retries: 7, ..Default::default() };
        let image = image(ContainerDefaults { healthcheck: Some(check), ..Default::default() });
        let with = |healthcheck| {
            Request { healthcheck, ..Request::default() }.healthcheck(&image).unwrap_or_else(|error| panic!("{error}"))
        };
        let inherited = with(HealthWish { timeout_ms: Some(100), ..HealthWish::default() })
            .map(|check| (check.args, check.interval_ms, check.timeout_ms, check.retries));
        assert_eq!(inherited, Some((words("probe"), 5_000, 100, 7)));
        assert_eq!(with(HealthWish { disable: true, ..HealthWish::default() }), None);
        assert_eq!(with(HealthWish { test: words("NONE"), ..HealthWish::default() }), None);
        let shell = with(HealthWish { test: vec!["CMD-SHELL".into(), "a | b".into()], ..HealthWish::default() });
        assert_eq!(shell.map(|check| check.args), Some(vec!["/bin/sh".into(), "-c".into(), "a | b".into()]));
    }

    #[test]
    fn volumes_of_the_image_do_not_hide_mounts_and_come_after_their_parents() {
        let volumes = ["/data/", "/data/inner", "/own"].map(|path| (path.to_owned(), serde_json::json!({})));
        let image = image(ContainerDefaults { cmd: Some(words("x")), volumes: volumes.into(), ..Default::default() });
        let bind =
            MountSource::Bind { path: "/host".into(), create: false, propagation: None, recursive: true, idmap: false };
        let request = Request {
            mounts: vec![Mount { target: "/own".into(), read_only: false, source: bind.clone() }],
            inherited_volumes: BTreeMap::from([("/data".into(), "old".into())]),
            ..Request::default()
        };
        let spec = request.into_spec(&image, jiff::Timestamp::UNIX_EPOCH).unwrap_or_else(|error| panic!("{error}"));
        let targets: Vec<_> = spec.mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/own", "/data", "/data/inner"]);
        assert!(matches!(&spec.mounts[1].source, MountSource::Volume { name, anonymous: true, .. } if name == "old"));
    }
}
