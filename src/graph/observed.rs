//! One reading of what exists on the host for a project. The planner asks nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::base::id::{ContainerId, Digest, NetworkId};
use crate::model::container::{HealthStatus, PortBinding, Protocol, Status};
use crate::model::project::Port;

/// Labels by which a project's objects are known. The names are Compose's, so that tools that look for
/// them find ours.
pub mod label {
    /// The project's name.
    pub const PROJECT: &str = "com.docker.compose.project";
    /// The service's name.
    pub const SERVICE: &str = "com.docker.compose.service";
    /// The replica's number, from 1.
    pub const NUMBER: &str = "com.docker.compose.container-number";
    /// `True` for a container of `run`, `False` for one of `up`.
    pub const ONEOFF: &str = "com.docker.compose.oneoff";
    /// What the container, network or volume was made from.
    pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
    /// `name:condition:restart`, separated by commas.
    pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
    /// The image's id.
    pub const IMAGE: &str = "com.docker.compose.image";
    /// The project's folder.
    pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
    /// The project's files, separated by commas.
    pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
    /// The project's env files, separated by commas.
    pub const ENVIRONMENT_FILE: &str = "com.docker.compose.project.environment_file";
    /// The container that this one was made to replace.
    pub const REPLACE: &str = "com.docker.compose.replace";
    /// The network's key in the file.
    pub const NETWORK: &str = "com.docker.compose.network";
    /// The volume's key in the file.
    pub const VOLUME: &str = "com.docker.compose.volume";
    /// The hook that a container was made for.
    pub const HOOK: &str = "com.docker.compose.hook";
    /// The tool's version.
    pub const VERSION: &str = "com.docker.compose.version";
}

/// What exists for one project.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Containers that carry the project's label, in name order.
    pub containers: Vec<ObservedContainer>,
    /// Networks by name: the project's own and those that it refers to.
    pub networks: BTreeMap<String, ObservedNetwork>,
    /// Volumes by name: the project's own and those that it refers to.
    pub volumes: BTreeMap<String, ObservedVolume>,
    /// The image that each service's reference stands for now.
    pub images: BTreeMap<String, Digest>,
    /// A digest over the content of the configs and secrets of each service that has any.
    pub contents: BTreeMap<String, String>,
}

/// A container of the project.
#[derive(Debug, Clone)]
pub struct ObservedContainer {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Its service.
    pub service: String,
    /// Its number.
    pub number: u32,
    /// Made by `run`, or for a hook.
    pub oneoff: bool,
    /// Made for a hook that failed or was cut off: nobody needs it any more.
    pub hook: bool,
    /// What it was made from.
    pub config_hash: String,
    /// The image it was made from.
    pub image: Option<Digest>,
    /// The container it was made to replace.
    pub replaces: Option<ContainerId>,
    /// Names of its dependencies, as recorded when it was made.
    pub depends_on: Vec<String>,
    /// Networks it is connected to.
    pub networks: Vec<NetworkId>,
    /// Names of the volumes it has, but for anonymous ones.
    pub volumes: Vec<String>,
    /// The ports of the host that it takes while it runs.
    pub ports: Vec<HostPort>,
    /// Containers whose namespaces it uses.
    pub shares: Vec<ContainerId>,
    /// Where it is in its life.
    pub status: Status,
    /// A command stopped it: it did not end by itself.
    pub stopped_by_user: bool,
    /// Exit code of its last run.
    pub exit_code: i32,
    /// What the probes say.
    pub health: Option<HealthStatus>,
    /// The image reference it was made from, as written.
    pub image_name: String,
}

/// A port of the host that was asked for by its number. One of a range, or any free one, is in nobody's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// Address; `None` is every one.
    pub address: Option<IpAddr>,
    /// Number.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl HostPort {
    /// The port that a service publishes; `None` for a range, any free one, or what is none.
    pub fn of(port: &Port) -> Option<Self> {
        let protocol = match port.protocol.as_deref() {
            None | Some("tcp") => Protocol::Tcp,
            Some("udp") => Protocol::Udp,
            Some("sctp") => Protocol::Sctp,
            Some(_) => return None,
        };
        let number = port.published.as_deref()?.parse().ok().filter(|number| *number != 0)?;
        let address = port.host_ip.as_deref().and_then(|text| text.parse().ok());
        Some(Self { address, port: number, protocol })
    }

    /// The same of a container.
    pub fn of_binding(binding: &PortBinding) -> Option<Self> {
        let (port, last) = binding.host_port?;
        (port == last).then_some(Self { address: binding.host_ip, port, protocol: binding.protocol })
    }

    /// Whether both cannot be had at the same time.
    pub fn conflicts(&self, other: &Self) -> bool {
        let every = |address: Option<IpAddr>| address.is_none_or(|address| address.is_unspecified());
        self.port == other.port
            && self.protocol == other.protocol
            && (every(self.address) || every(other.address) || self.address == other.address)
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", std::net::SocketAddr::new(address, self.port)),
            None => write!(f, "{}", self.port),
        }
    }
}

/// A network.
#[derive(Debug, Clone)]
pub struct ObservedNetwork {
    /// Its id.
    pub id: NetworkId,
    /// The project that made it.
    pub project: Option<String>,
    /// What it was made from.
    pub config_hash: Option<String>,
    /// Containers connected to it that are not of this project.
    pub foreign_users: usize,
}

/// A volume.
#[derive(Debug, Clone)]
pub struct ObservedVolume {
    /// The project that made it.
    pub project: Option<String>,
    /// What it was made from.
    pub config_hash: Option<String>,
}

impl Observed {
    /// The containers of `service` that `up` made, by number.
    pub fn of_service<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a ObservedContainer> {
        self.containers.iter().filter(move |container| container.service == service && !container.oneoff)
    }
}
