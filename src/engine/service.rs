//! A service of a project as a container request.
//!
//! What it refers to by name (networks, other containers, images of image mounts) must exist by then: the
//! plan's order sees to that.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::request::{HealthWish, Request};
use super::{Engine, Error, Result, place};
use crate::base::error::{Attribute, Explain};
use crate::base::id::{ContainerId, random_hex};
use crate::base::units::{parse_bytes, parse_duration};
use crate::graph::observed::label;
use crate::model::container::{
    BlockLimits, DeviceMapping, InlineContent, InlineFile, Logging, Mount, MountSource, NamespaceMode, NetworkMode,
    PortBinding, Protocol, Resources, RestartPolicy, Seccomp, Security,
};
use crate::model::network::Attachment;
use crate::model::project::{
    BlkioRate, Condition, FileObject, Port, Project, Service, ServiceFile, ServiceNetwork, ServiceVolume, Ulimit,
};
use crate::model::reference::Reference;

/// What is said of a service whose image cannot be had.
pub(super) const HAS_NO_IMAGE: &str = "has no image";

/// What distinguishes one replica from another.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its number.
    pub number: u32,
    /// Its name for now.
    pub name: String,
    /// The hash to record.
    pub config_hash: String,
    /// A container of `run`: no ports, no aliases, no restart.
    pub oneoff: bool,
    /// The container it replaces.
    pub replaces: Option<ContainerId>,
}

/// The image that a service runs: its `image:`, or the name of its build.
pub fn image_name(project: &Project, service: &Service) -> String {
    service.image.clone().unwrap_or_else(|| project.name_of(&[&service.name]))
}

impl Engine {
    /// The request for one replica of a service.
    pub fn service_request(&self, project: &Project, service: &Service, replica: &Replica) -> Result<Request> {
        let fail = |source| in_service(project, service, "cannot be created", source);
        self.whole_request(project, service, replica).map_err(fail)
    }

    fn whole_request(&self, project: &Project, service: &Service, replica: &Replica) -> Result<Request> {
        let mut request = plain_request(project, service, replica)?;
        super::cdi::apply(service, &mut request)?;
        let devices_mounts = std::mem::take(&mut request.mounts).split_off(own_mounts(project, service)?.len());
        Ok(Request {
            mounts: self.mounts(project, service)?.into_iter().chain(devices_mounts).collect(),
            network: Some(self.network_mode(project, service, replica)?),
            security: self.namespaces(project, service, request.security)?,
            ..request
        })
    }

    /// Judges the values of services before anything is made for them.
    ///
    /// Errors: all that are wrong, each with its service and its place.
    pub fn check_services(&self, project: &Project, services: &[&Service]) -> Result<()> {
        let mut errors = Vec::new();
        for service in services {
            let fail = |error| in_service(project, service, "cannot be created", error);
            let replica = Replica {
                number: 1,
                name: service.container_name.clone().unwrap_or_default(),
                config_hash: String::new(),
                oneoff: false,
                replaces: None,
            };
            let wrong = match plain_request(project, service, &replica) {
                Ok(request) => request.check(),
                Err(error) => vec![error],
            };
            errors.extend(wrong.into_iter().chain(network_options(service).err()).map(fail));
        }
        Error::of_several(errors)
    }

    fn network_mode(&self, project: &Project, service: &Service, replica: &Replica) -> Result<NetworkMode> {
        match service.network_mode.as_deref() {
            None => {}
            Some("none") => return Ok(NetworkMode::None),
            Some("host") => return Ok(NetworkMode::Host),
            Some(mode) => {
                if let Some(id) = self.container_of(project, mode)? {
                    return Ok(NetworkMode::Container { id });
                }
                let network = self.network_by_name(if matches!(mode, "bridge" | "default") {
                    crate::net::network::DEFAULT_NAME
                } else {
                    mode
                })?;
                return Ok(NetworkMode::Networks { attachments: vec![attachment(&network, None, Vec::new())?] });
            }
        }
        let none = BTreeMap::new();
        let mut wanted: Vec<_> = service.networks.as_ref().unwrap_or(&none).iter().collect();
        // The first interface belongs to the highest priority; among equals the name decides.
        wanted.sort_by_key(|(key, options)| (-options.as_ref().map_or(0, |options| options.priority), key.as_str()));
        let mut attachments = Vec::new();
        for (key, options) in wanted {
            let name = project.networks.get(key).map_or(key.as_str(), |network| network.name.as_str());
            let network = self.network_by_name(name)?;
            let aliases = if replica.oneoff { Vec::new() } else { aliases(project, service) };
            attachments.push(attachment(&network, options.as_ref(), aliases)?);
        }
        Ok(NetworkMode::Networks { attachments })
    }

    /// The container that `service:NAME` or `container:NAME` stands for; `None` for other texts.
    fn container_of(&self, project: &Project, mode: &str) -> Result<Option<ContainerId>> {
        if let Some(service) = mode.strip_prefix("service:") {
            return self.first_container(&project.name, service).map(Some);
        }
        match mode.strip_prefix("container:") {
            Some(name) => Ok(Some(self.store.containers().find(name)?)),
            None => Ok(None),
        }
    }

    /// The first replica of a service; one that is being replaced does not count.
    fn first_container(&self, project: &str, service: &str) -> Result<ContainerId> {
        let containers = self.store.containers().list()?;
        let replaced: Vec<&String> =
            containers.iter().filter_map(|(spec, _)| spec.labels.get(label::REPLACE)).collect();
        containers
            .iter()
            .filter(|(spec, _)| is_replica_of(&spec.labels, project, service))
            .filter(|(spec, _)| !replaced.iter().any(|id| id.as_str() == spec.id.as_str()))
            .min_by_key(|(spec, _)| spec.labels.get(label::NUMBER).and_then(|number| number.parse::<u32>().ok()))
            .map(|(spec, _)| spec.id.clone())
            .ok_or_else(|| Error::NoContainer { service: service.to_owned() })
    }

    fn namespace(&self, project: &Project, what: &str, mode: Option<&str>) -> Result<NamespaceMode> {
        match mode {
            None | Some("" | "private" | "shareable") => Ok(NamespaceMode::Private),
            Some("host") => Ok(NamespaceMode::Host),
            Some(mode) => match self.container_of(project, mode)? {
                Some(id) => Ok(NamespaceMode::Container(id)),
                None => Err(Error::Value {
                    what: what.to_owned(),
                    value: mode.to_owned(),
                    expected: "host, private, service:NAME or container:NAME".into(),
                }),
            },
        }
    }

    fn namespaces(&self, project: &Project, service: &Service, security: Security) -> Result<Security> {
        Ok(Security {
            pid: self.namespace(project, "pid", service.pid.as_deref())?,
            ipc: self.namespace(project, "ipc", service.ipc.as_deref())?,
            uts: self.namespace(project, "uts", service.uts.as_deref())?,
            cgroup: self.namespace(project, "cgroup", service.cgroup.as_deref())?,
            ..security
        })
    }

    fn mounts(&self, project: &Project, service: &Service) -> Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for from in &service.volumes_from {
            mounts.extend(self.mounts_from(project, from)?);
        }
        for volume in service.volumes.iter().filter(|volume| volume.kind == "image") {
            let source = self.image_mount(volume)?;
            mounts.push(Mount { target: volume.target.clone(), read_only: volume.read_only, source });
        }
        mounts.extend(own_mounts(project, service)?);
        Ok(mounts)
    }

    /// `service[:ro]` or `container:name[:ro]`: the volumes and binds of that container.
    fn mounts_from(&self, project: &Project, from: &str) -> Result<Vec<Mount>> {
        let (rest, read_only) = match from.rsplit_once(':') {
            Some((rest, "ro")) => (rest, true),
            Some((rest, "rw")) => (rest, false),
            _ => (from, false),
        };
        let id = match rest.strip_prefix("container:") {
            Some(name) => self.store.containers().find(name)?,
            None => self.first_container(&project.name, rest)?,
        };
        let mounts = self.store.containers().spec(&id)?.mounts.into_iter();
        Ok(mounts
            .filter(|mount| matches!(mount.source, MountSource::Bind { .. } | MountSource::Volume { .. }))
            .map(|mount| Mount { read_only: mount.read_only || read_only, ..mount })
            .collect())
    }

    fn image_mount(&self, volume: &ServiceVolume) -> Result<MountSource> {
        let name = volume.source.clone().unwrap_or_default();
        let reference: Reference = name.parse()?;
        let image = self.store.images().resolve(&reference)?;
        let image = image.ok_or(Error::ImageMissing { image: name, reason: "an image mount must be pulled before" })?;
        let subpath = volume.image.as_ref().and_then(|options| options.subpath.clone());
        Ok(MountSource::Image { layers: image.diff_ids(), subpath })
    }
}

/// The request of a service without what must be looked up in the store: networks, namespaces and mounts of others,
/// images.
fn plain_request(project: &Project, service: &Service, replica: &Replica) -> Result<Request> {
    let limits = service.deploy.as_ref().and_then(|deploy| deploy.resources.as_ref());
    Ok(Request {
        name: Some(replica.name.clone()),
        image: image_name(project, service),
        labels: labels(project, service, replica),
        command: service.command.clone(),
        entrypoint: service.entrypoint.clone(),
        environment: service.environment.clone(),
        working_dir: service.working_dir.clone(),
        user: service.user.clone(),
        additional_groups: service.group_add.iter().map(plain).collect(),
        terminal: service.tty,
        stdin_open: service.stdin_open,
        hostname: service.hostname.clone(),
        domainname: service.domainname.clone(),
        read_only: service.read_only,
        mounts: own_mounts(project, service)?,
        files: inline_files(project, service)?,
        shm_size_bytes: service.shm_size.as_deref().map(|text| bytes("shm_size", text)).transpose()?,
        network: None,
        ports: if replica.oneoff { Vec::new() } else { ports(&service.ports)? },
        publish_all: false,
        exposed_ports: service.expose.clone(),
        extra_hosts: service.extra_hosts.iter().map(|entry| entry.replacen('=', ":", 1)).collect(),
        dns: service.dns.clone(),
        dns_search: service.dns_search.clone(),
        dns_options: service.dns_opt.clone(),
        security: security(service)?,
        resources: resources(service, limits)?,
        sysctls: service.sysctls.clone(),
        ulimits: service.ulimits.iter().map(|(name, limit)| (name.clone(), pair(limit))).collect(),
        init: service.init.unwrap_or(false),
        stop_signal: service.stop_signal.clone(),
        stop_timeout_ms: service
            .stop_grace_period
            .as_deref()
            .map(|text| milliseconds("stop_grace_period", text))
            .transpose()?,
        restart: if replica.oneoff { RestartPolicy::No } else { restart(service)? },
        healthcheck: health(service)?,
        logging: logging(service)?,
        auto_remove: false,
        inherited_volumes: BTreeMap::new(),
    })
}

fn security(service: &Service) -> Result<Security> {
    let mut security = Security {
        privileged: service.privileged,
        cap_add: service.cap_add.clone(),
        cap_drop: service.cap_drop.clone(),
        devices: service
            .devices
            .iter()
            .map(|device| DeviceMapping {
                source: PathBuf::from(&device.source),
                target: PathBuf::from(device.target.as_ref().unwrap_or(&device.source)),
                permissions: device.permissions.clone().unwrap_or_else(|| "rwm".into()),
            })
            .collect(),
        device_cgroup_rules: service.device_cgroup_rules.clone(),
        ..Security::default()
    };
    for option in &service.security_opt {
        apply_security_option(&mut security, option)?;
    }
    Ok(security)
}

/// The mounts that a service names itself, without those of images.
fn own_mounts(project: &Project, service: &Service) -> Result<Vec<Mount>> {
    let volumes = service.volumes.iter().filter(|volume| volume.kind != "image");
    let mounts = volumes.map(|volume| mount(project, volume));
    mounts.chain(service.tmpfs.iter().map(|entry| tmpfs(entry))).collect()
}

fn mount(project: &Project, volume: &ServiceVolume) -> Result<Mount> {
    let source = match volume.kind.as_str() {
        "bind" => {
            let options = volume.bind.clone().unwrap_or_default();
            MountSource::Bind {
                path: PathBuf::from(volume.source.as_deref().unwrap_or_default()),
                create: options.create_host_path.unwrap_or(true),
                propagation: options.propagation,
                recursive: options.recursive.as_deref() != Some("disabled"),
            }
        }
        "tmpfs" => {
            let options = volume.tmpfs.clone().unwrap_or_default();
            MountSource::Tmpfs {
                size_bytes: options.size.as_ref().map(|size| bytes("tmpfs size", &plain(size))).transpose()?,
                mode: options.mode.as_ref().and_then(|mode| plain(mode).parse().ok()),
                options: Vec::new(),
            }
        }
        _ => volume_mount(project, volume),
    };
    Ok(Mount { target: volume.target.clone(), read_only: volume.read_only, source })
}

fn inline_files(project: &Project, service: &Service) -> Result<Vec<InlineFile>> {
    let mut files = Vec::new();
    let config = |file: &ServiceFile| format!("/{}", file.source);
    let secret = |file: &ServiceFile| format!("/run/secrets/{}", file.source);
    for file in &service.configs {
        files.push(inline_file(project, "config", &project.configs, file, config(file), "/")?);
    }
    for file in &service.secrets {
        files.push(inline_file(project, "secret", &project.secrets, file, secret(file), "/run/secrets/")?);
    }
    Ok(files)
}

/// Whether labels are those of a replica (not a one-off) of a service.
pub(super) fn is_replica_of(labels: &BTreeMap<String, String>, project: &str, service: &str) -> bool {
    labels.get(label::PROJECT).is_some_and(|value| value == project)
        && labels.get(label::SERVICE).is_some_and(|value| value == service)
        && labels.get(label::ONEOFF).is_none_or(|value| value != "True")
}

/// Says for which service something failed, and where the file says what could not be.
pub(super) fn in_service(project: &Project, service: &Service, action: &'static str, source: Error) -> Error {
    if let Error::Interrupted = source {
        return source;
    }
    let image = || (action == HAS_NO_IMAGE).then(|| Attribute::new(&["image", "build"], ""));
    let attribute = source.attribute().or_else(image);
    let place = attribute.and_then(|attribute| place::of(project, service, &attribute)).map(Box::new);
    Error::Service { service: service.name.clone(), action, place, source: Box::new(source) }
}

/// The aliases of a service in its networks: its name, and what the links of others call it.
fn aliases(project: &Project, service: &Service) -> Vec<String> {
    std::iter::once(service.name.clone()).chain(link_aliases(project, service)).collect()
}

/// What the links of other services call a service.
pub(super) fn link_aliases(project: &Project, service: &Service) -> Vec<String> {
    let links = project.services.values().flat_map(|other| &other.links);
    let aliases = links.filter_map(|link| link.split_once(':')).filter(|(target, _)| *target == service.name);
    aliases.map(|(_, alias)| alias.to_owned()).collect()
}

/// The fixed addresses of a service in one network.
///
/// Errors: one that is none, or not of the family.
fn addresses(options: &ServiceNetwork) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    fn read<A: std::str::FromStr>(text: &Option<String>, expected: &str) -> Result<Option<A>> {
        let Some(text) = text else { return Ok(None) };
        let invalid = |_| Error::Value { what: "networks".into(), value: text.clone(), expected: expected.to_owned() };
        text.parse().map(Some).map_err(invalid)
    }
    Ok((read(&options.ipv4_address, "an IPv4 address")?, read(&options.ipv6_address, "an IPv6 address")?))
}

/// Judges what a service says of its networks.
fn network_options(service: &Service) -> Result<()> {
    let options = service.networks.iter().flat_map(BTreeMap::values).flatten();
    options.map(addresses).try_for_each(|read| read.map(drop))
}

fn attachment(
    network: &crate::model::network::NetworkRecord,
    options: Option<&ServiceNetwork>,
    mut aliases: Vec<String>,
) -> Result<Attachment> {
    let options = options.cloned().unwrap_or_default();
    let (ipv4, ipv6) = addresses(&options)?;
    aliases.extend(options.aliases);
    Ok(Attachment {
        network: network.id.clone(),
        network_name: network.name.clone(),
        aliases,
        ipv4,
        ipv6,
        mac: options.mac_address,
        interface: options.interface_name,
        gateway_priority: options.gw_priority,
    })
}

fn labels(project: &Project, service: &Service, replica: &Replica) -> BTreeMap<String, String> {
    let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(",");
    let depends_on: Vec<_> = service
        .depends_on
        .iter()
        .map(|(name, options)| {
            let condition = match options.condition {
                Condition::Started => "service_started",
                Condition::Healthy => "service_healthy",
                Condition::CompletedSuccessfully => "service_completed_successfully",
            };
            format!("{name}:{condition}:{}", options.restart)
        })
        .collect();
    let mut labels = service.labels.clone();
    let mut set = |key: &str, value: String| labels.insert(key.to_owned(), value);
    set(label::PROJECT, project.name.clone());
    set(label::SERVICE, service.name.clone());
    set(label::NUMBER, replica.number.to_string());
    set(label::ONEOFF, if replica.oneoff { "True" } else { "False" }.to_owned());
    set(label::CONFIG_HASH, replica.config_hash.clone());
    set(label::DEPENDS_ON, depends_on.join(","));
    set(label::WORKING_DIR, project.working_dir.display().to_string());
    set(label::CONFIG_FILES, paths(&project.compose_files));
    set(label::VERSION, env!("CARGO_PKG_VERSION").to_owned());
    if !project.env_files.is_empty() {
        set(label::ENVIRONMENT_FILE, paths(&project.env_files));
    }
    if let Some(old) = &replica.replaces {
        set(label::REPLACE, old.to_string());
    }
    labels
}

fn volume_mount(project: &Project, volume: &ServiceVolume) -> MountSource {
    let options = volume.volume.clone().unwrap_or_default();
    let (subpath, copy) = (options.subpath, !options.nocopy);
    match volume.source.as_deref().filter(|source| !source.is_empty()) {
        None => MountSource::Volume { name: random_hex(32), subpath, copy, anonymous: true },
        Some(key) => {
            let name = project.volumes.get(key).map_or(key, |volume| volume.name.as_str()).to_owned();
            MountSource::Volume { name, subpath, copy, anonymous: false }
        }
    }
}

/// Reads `path[:option,option]`.
pub(super) fn tmpfs(entry: &str) -> Result<Mount> {
    let (target, list) = entry.split_once(':').unwrap_or((entry, ""));
    let mut source = (None, None, Vec::new());
    let mut read_only = false;
    for option in list.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", text)) => source.0 = Some(bytes("tmpfs size", text)?),
            Some(("mode", text)) => source.1 = Some(octal("tmpfs mode", text)?),
            _ if option == "ro" => read_only = true,
            _ if option == "rw" => read_only = false,
            _ => source.2.push(option.to_owned()),
        }
    }
    let (size_bytes, mode, options) = source;
    Ok(Mount { target: target.to_owned(), read_only, source: MountSource::Tmpfs { size_bytes, mode, options } })
}

fn inline_file(
    project: &Project,
    kind: &'static str,
    objects: &BTreeMap<String, FileObject>,
    file: &ServiceFile,
    default_target: String,
    folder: &str,
) -> Result<InlineFile> {
    let fail = |reason: String| Error::FileObject { kind, name: file.source.clone(), reason };
    let object = objects.get(&file.source).ok_or_else(|| fail("it is not defined".into()))?;
    let content = match (&object.file, &object.content, &object.environment) {
        _ if object.external => {
            return Err(fail("external ones need a cluster's store, which one host does not have".into()));
        }
        (Some(path), _, _) => InlineContent::HostFile(PathBuf::from(path)),
        (_, Some(text), _) => InlineContent::Text(text.clone()),
        (_, _, Some(variable)) => match project.environment.get(variable) {
            Some(text) => InlineContent::Text(text.clone()),
            None => return Err(fail(format!("environment variable {variable} is not set"))),
        },
        _ => return Err(fail("it has neither file, content nor environment".into())),
    };
    let target = match file.target.as_deref() {
        None => default_target,
        Some(target) if target.starts_with('/') => target.to_owned(),
        Some(target) => format!("{folder}{target}"),
    };
    let number = |what: &str, text: &Option<String>| match text {
        None => Ok(0),
        Some(text) => text.parse::<u32>().map_err(|_| fail(format!("{what} `{text}` is not a number"))),
    };
    let mode = file.mode.as_deref().map(|text| octal("mode", text)).transpose()?.unwrap_or(0o444);
    Ok(InlineFile { target, uid: number("uid", &file.uid)?, gid: number("gid", &file.gid)?, mode, content })
}

/// Reads the published ports of a service.
fn ports(ports: &[Port]) -> Result<Vec<PortBinding>> {
    ports.iter().map(port).collect()
}

fn port(port: &Port) -> Result<PortBinding> {
    let invalid = |value: &str, expected: &str| Error::Value {
        what: "ports".into(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    };
    let host_port = match port.published.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let number = |text: &str| text.parse::<u16>().map_err(|_| invalid(text, "a port"));
            // Port 0 is any free one, as for bind(2).
            Some((number(first)?, number(last)?)).filter(|range| *range != (0, 0))
        }
    };
    let host_ip = match port.host_ip.as_deref().filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| invalid(text, "an address"))?),
    };
    let protocol = match port.protocol.as_deref() {
        None | Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some("sctp") => Protocol::Sctp,
        Some(other) => return Err(invalid(other, "tcp, udp or sctp")),
    };
    Ok(PortBinding { host_ip, host_port, container_port: port.target, protocol })
}

fn restart(service: &Service) -> Result<RestartPolicy> {
    if let Some(policy) = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref()) {
        let attempts = u32::try_from(policy.max_attempts.unwrap_or(0)).unwrap_or(0);
        return Ok(match policy.condition.as_deref() {
            Some("none") => RestartPolicy::No,
            Some("on-failure") => RestartPolicy::OnFailure(attempts),
            _ => RestartPolicy::Always,
        });
    }
    restart_policy(service.restart.as_deref().unwrap_or("no"))
}

/// Reads `no`, `always`, `on-failure[:max]`, `unless-stopped`.
pub fn restart_policy(text: &str) -> Result<RestartPolicy> {
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    Ok(match (name, count) {
        ("" | "no", None) => RestartPolicy::No,
        ("always", None) => RestartPolicy::Always,
        ("unless-stopped", None) => RestartPolicy::UnlessStopped,
        ("on-failure", None) => RestartPolicy::OnFailure(0),
        ("on-failure", Some(count)) if count.parse::<u32>().is_ok() => {
            RestartPolicy::OnFailure(count.parse().unwrap_or(0))
        }
        _ => {
            let expected = "no, always, on-failure[:max-retries] or unless-stopped".to_owned();
            return Err(Error::Value { what: "restart".into(), value: text.to_owned(), expected });
        }
    })
}

fn health(service: &Service) -> Result<HealthWish> {
    let Some(check) = &service.healthcheck else { return Ok(HealthWish::default()) };
    let time = |what: &str, text: &Option<String>| text.as_deref().map(|text| milliseconds(what, text)).transpose();
    Ok(HealthWish {
        disable: check.disable,
        test: check.test.clone(),
        interval_ms: time("healthcheck.interval", &check.interval)?,
        timeout_ms: time("healthcheck.timeout", &check.timeout)?,
        start_period_ms: time("healthcheck.start_period", &check.start_period)?,
        start_interval_ms: time("healthcheck.start_interval", &check.start_interval)?,
        retries: check.retries.and_then(|retries| u32::try_from(retries).ok()),
    })
}

fn logging(service: &Service) -> Result<Option<Logging>> {
    let Some(wish) = &service.logging else { return Ok(None) };
    let options = wish.options.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_deref()?)));
    log_options(wish.driver.as_deref().unwrap_or("json-file"), options).map(Some)
}

/// Reads a log driver with its options. Drivers that send logs elsewhere are not there: the log stays on disk.
pub fn log_options<'a>(driver: &str, options: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Logging> {
    let mut logging = Logging { enabled: driver != "none", ..Logging::default() };
    for (key, value) in options {
        match key {
            "max-size" => logging.max_size_bytes = bytes("logging.options.max-size", value)?,
            "max-file" => {
                let invalid = || Error::Value {
                    what: "logging.options.max-file".into(),
                    value: value.to_owned(),
                    expected: "a number above 0".into(),
                };
                logging.max_files = value.parse().ok().filter(|files| *files > 0).ok_or_else(invalid)?;
            }
            _ => {}
        }
    }
    Ok(logging)
}

/// Applies one `security_opt`. AppArmor and SELinux options are for hosts that have them.
pub fn apply_security_option(security: &mut Security, option: &str) -> Result<()> {
    let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        ("no-new-privileges", "false") => security.no_new_privileges = false,
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("seccomp", "" | "builtin") => security.seccomp = Seccomp::Default,
        ("seccomp", path) => {
            const PROFILE_SIZE_MAX: u64 = 4 << 20;
            let profile = crate::base::fs::read_limited(path.as_ref(), PROFILE_SIZE_MAX)?;
            security.seccomp = Seccomp::Profile(String::from_utf8_lossy(&profile).into_owned());
        }
        ("systempaths", "unconfined") => security.unmasked = true,
        ("apparmor" | "label", _) => {}
        _ => {
            let expected = "no-new-privileges, seccomp=…, apparmor=…, label=… or systempaths=unconfined".to_owned();
            return Err(Error::Value { what: "security_opt".into(), value: option.to_owned(), expected });
        }
    }
    Ok(())
}

fn resources(service: &Service, deploy: Option<&crate::model::project::Resources>) -> Result<Resources> {
    let limits = deploy.and_then(|resources| resources.limits.as_ref());
    let reservations = deploy.and_then(|resources| resources.reservations.as_ref());
    let memory = service.mem_limit.as_ref().or(limits.and_then(|limits| limits.memory.as_ref()));
    let reservation = service.mem_reservation.as_ref().or(reservations.and_then(|amount| amount.memory.as_ref()));
    let cpus =
        service.cpus.or(limits.and_then(|limits| limits.cpus.as_ref()).and_then(|cpus| plain(cpus).parse().ok()));
    let number = |value: &Option<serde_json::Value>| value.as_ref().and_then(|value| plain(value).parse().ok());
    Ok(Resources {
        memory_bytes: memory.map(|text| bytes("mem_limit", text)).transpose()?.filter(|bytes| *bytes > 0),
        memory_reservation_bytes: reservation
            .map(|text| bytes("mem_reservation", text))
            .transpose()?
            .filter(|bytes| *bytes > 0),
        memory_swap_bytes: match service.memswap_limit.as_deref() {
            None => None,
            Some("-1") => Some(-1),
            Some(text) => i64::try_from(bytes("memswap_limit", text)?).ok().filter(|bytes| *bytes != 0),
        },
        memory_swappiness: number(&service.mem_swappiness),
        oom_kill_disable: service.oom_kill_disable.unwrap_or(false),
        oom_score_adj: service.oom_score_adj.and_then(|score| i32::try_from(score).ok()),
        cpus: cpus.filter(|cpus| *cpus > 0.0),
        cpu_shares: number(&service.cpu_shares),
        cpu_quota_us: service.cpu_quota.as_ref().and_then(|value| plain(value).parse().ok()),
        cpu_period_us: number(&service.cpu_period),
        cpuset_cpus: service.cpuset.clone(),
        cpuset_mems: None,
        block: block_limits(service)?,
        pids: service.pids_limit.or(limits.and_then(|limits| limits.pids)).filter(|pids| *pids != 0),
    })
}

fn block_limits(service: &Service) -> Result<BlockLimits> {
    let Some(config) = &service.blkio_config else { return Ok(BlockLimits::default()) };
    let rates = |list: &[BlkioRate]| -> Result<BTreeMap<PathBuf, u64>> {
        list.iter().map(|limit| Ok((PathBuf::from(&limit.path), bytes("blkio_config", &plain(&limit.rate))?))).collect()
    };
    Ok(BlockLimits {
        weight: config.weight.filter(|weight| *weight > 0),
        weights: config.weight_device.iter().map(|device| (PathBuf::from(&device.path), device.weight)).collect(),
        read_bytes: rates(&config.device_read_bps)?,
        write_bytes: rates(&config.device_write_bps)?,
        read_operations: rates(&config.device_read_iops)?,
        write_operations: rates(&config.device_write_iops)?,
    })
}

fn pair(limit: &Ulimit) -> (i64, i64) {
    match limit {
        Ulimit::Single(both) => (*both, *both),
        Ulimit::Pair { soft, hard } => (*soft, *hard),
    }
}

/// A JSON scalar without quotes.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn bytes(what: &str, text: &str) -> Result<u64> {
    parse_bytes(text).map_err(|error| Error::Value {
        what: what.to_owned(),
        value: error.text,
        expected: error.expected.to_owned(),
    })
}

fn milliseconds(what: &str, text: &str) -> Result<u64> {
    let duration = parse_duration(text).map_err(|error| Error::Value {
        what: what.to_owned(),
        value: error.text,
        expected: error.expected.to_owned(),
    })?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn octal(what: &str, text: &str) -> Result<u32> {
    u32::from_str_radix(text.trim_start_matches("0o"), 8).map_err(|_| Error::Value {
        what: what.to_owned(),
        value: text.to_owned(),
        expected: "an octal mode".into(),
    })
}
