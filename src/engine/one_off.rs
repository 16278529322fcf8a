//! What `run` needs besides `create` and `start`: the request for a one-off of a service, and networks by name.

use super::service::Replica;
use super::{Engine, Result};
use crate::base::id::random_hex;
use crate::graph::hash;
use crate::model::container::NetworkMode;
use crate::model::network::Attachment;
use crate::model::project::{Project, Service};
use crate::net;

use super::request::Request;

/// What of a service a one-off takes over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OneOff {
    /// `--service-ports`: publish the service's ports.
    pub service_ports: bool,
    /// `--use-aliases`: answer to the service's names.
    pub use_aliases: bool,
}

impl Engine {
    /// The request for a one-off container of a service. Its networks must exist.
    pub fn one_off_request(&self, project: &Project, service: &Service, options: OneOff) -> Result<Request> {
        let replica = |oneoff| Replica {
            number: 1,
            name: project.name_of(&[&service.name, "run", &random_hex(6)]),
            config_hash: hash::service(service, None),
            oneoff,
            replaces: None,
        };
        let mut request = self.service_request(project, service, &replica(true))?;
        if options.service_ports || options.use_aliases {
            let regular = self.service_request(project, service, &replica(false))?;
            if options.service_ports {
                request.ports = regular.ports;
            }
            if options.use_aliases {
                request.network = regular.network;
            }
        }
        Ok(request)
    }

    /// What `--network` says: `none`, `host`, `container:NAME`, a network, or nothing (the default one).
    pub fn network_mode_by_name(&self, name: Option<&str>, aliases: &[String]) -> Result<NetworkMode> {
        let name = match name {
            Some("none") => return Ok(NetworkMode::None),
            Some("host") => return Ok(NetworkMode::Host),
            None | Some("" | "default") => net::network::DEFAULT_NAME,
            Some(name) => name,
        };
        if let Some(container) = name.strip_prefix("container:") {
            return Ok(NetworkMode::Container { id: self.store().containers().find(container)? });
        }
        let network = self.network_by_name(name)?;
        let attachment = Attachment {
            network: network.id,
            network_name: network.name,
            aliases: aliases.to_vec(),
            ipv4: None,
            ipv6: None,
            mac: None,
            interface: None,
            gateway_priority: 0,
            link_local: Vec::new(),
            links: Default::default(),
        };
        Ok(NetworkMode::Networks { attachments: vec![attachment] })
    }
}
