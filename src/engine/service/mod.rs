//! A service of a project as a container request.
//!
//! What it refers to by name (networks, other containers, images of image mounts) must exist by then: the
//! plan's order sees to that.

mod files;
mod limits;
mod network;
mod policy;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use files::{inline_files, own_mounts};
use limits::{pair, resources, security};
use network::{aliases, attachment, network_options, ports};
use policy::{health, logging, restart};
use values::{bytes, milliseconds, plain};

use super::request::Request;
use super::{Engine, Error, Result, place, users};
use crate::base::error::{Attribute, Explain};
use crate::base::id::ContainerId;
use crate::graph::observed::label;
use crate::model::container::{
    Mount, MountSource, NamespaceMode, NetworkMode, RestartPolicy, Security, UserNamespaceMode,
};
use crate::model::network::Attachment;
use crate::model::project::{Condition, Project, Service, ServiceVolume};
use crate::model::reference::Reference;

pub use limits::apply_security_option;
pub(super) use network::link_aliases;
pub use policy::{log_options, restart_policy};

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
            let own_name = service.hostname.as_ref().filter(|_| service.uts.as_deref() == Some("host"));
            let renamed = own_name.map(|name| Error::Refused {
                what: "hostname".into(),
                value: name.clone(),
                reason: "with `uts: host` the name is the host's".into(),
            });
            errors.extend(wrong.into_iter().chain(network_options(service).err()).chain(renamed).map(fail));
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
                return Ok(NetworkMode::Networks {
                    attachments: finish(service, vec![attachment(&network, None, Vec::new())?]),
                });
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
        Ok(NetworkMode::Networks { attachments: finish(service, attachments) })
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
            user: match service.userns_mode.as_deref() {
                None => UserNamespaceMode::Host,
                Some(mode) => users::parse(mode, |mode| self.container_of(project, mode))?,
            },
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

/// What holds for a service and not for one of its networks: its MAC address is the first interface's, and what it calls
/// others it does everywhere.
fn finish(service: &Service, mut attachments: Vec<Attachment>) -> Vec<Attachment> {
    if let Some(first) = attachments.first_mut().filter(|first| first.mac.is_none()) {
        first.mac.clone_from(&service.mac_address);
    }
    let links = network::external_links(service);
    for attachment in &mut attachments {
        attachment.links.clone_from(&links);
    }
    attachments
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
