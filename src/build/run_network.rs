//! The network of a RUN step: an endpoint in the default network with NAT and names, the host's, or none.
//!
//! Names are asked for at the host's own servers. Those on the host's loopback cannot be reached from inside: then
//! a name server as containers have it answers on 127.0.0.11, served by the thread that waits for the command.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::dockerfile::instruction::RunNetwork;
use super::error::Error;
use super::interpret::RunAction;
use super::request::{BuildNetwork, BuildRequest};
use crate::base::fs::Context;
use crate::model::container::{ContainerSpec, NetworkMode, Status};
use crate::model::network::{Attachment, Endpoint, NetworkRecord};
use crate::net::{self, firewall};
use crate::runtime::{EtcFiles, NetNamespace, Prepared};
use crate::store::Store;
use crate::supervise::dns;

/// The network of one step.
pub struct RunNet<'a> {
    store: &'a Store,
    network: Option<NetworkRecord>,
    kind: BuildNetwork,
    etc: EtcFiles,
    endpoints: Vec<Endpoint>,
    namespace: Option<OwnedFd>,
    dns: Option<dns::Server>,
}

impl<'a> RunNet<'a> {
    /// Finds out what the step is to have; makes the default network when there is none yet.
    pub fn new(store: &'a Store, request: &BuildRequest, action: &RunAction) -> Result<Self, Error> {
        let kind = match action.network {
            RunNetwork::Default => request.network,
            RunNetwork::None => BuildNetwork::None,
            RunNetwork::Host => BuildNetwork::Host,
        };
        let network = match kind {
            BuildNetwork::Default => Some(default_network(store)?),
            _ => None,
        };
        let etc = EtcFiles::default();
        Ok(Self { store, network, kind, etc, endpoints: Vec::new(), namespace: None, dns: None })
    }

    /// As a container's spec says it.
    pub fn mode(&self) -> NetworkMode {
        match (&self.network, self.kind) {
            (Some(network), _) => NetworkMode::Networks {
                attachments: vec![Attachment {
                    network: network.id.clone(),
                    network_name: network.name.clone(),
                    aliases: Vec::new(),
                    ipv4: None,
                    ipv6: None,
                    mac: None,
                    interface: None,
                    gateway_priority: 0,
                    link_local: Vec::new(),
                    links: Default::default(),
                }],
            },
            (None, BuildNetwork::Host) => NetworkMode::Host,
            (None, _) => NetworkMode::None,
        }
    }

    /// The namespace that the step starts in.
    pub fn namespace(&self) -> NetNamespace {
        match self.kind {
            BuildNetwork::Host => NetNamespace::Host,
            _ => NetNamespace::New,
        }
    }

    /// Makes the files for /etc, empty until addresses are known.
    pub fn prepare_etc(&mut self, folder: &Path) -> Result<EtcFiles, Error> {
        let file = |name: &str| {
            let path = folder.join(name);
            std::fs::write(&path, "").context("write", &path)?;
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
                .context("change the mode of", &path)?;
            Ok::<_, crate::base::fs::Error>(Some(path))
        };
        self.etc = EtcFiles { hosts: file("hosts")?, resolv_conf: file("resolv.conf")?, hostname: None };
        Ok(self.etc.clone())
    }

    /// Furnishes the namespace of a step that waits for its start, and writes its files.
    pub fn connect(&mut self, spec: &ContainerSpec, prepared: &Prepared) -> Result<(), Error> {
        let host = net::Host::new(self.store.paths());
        if self.kind != BuildNetwork::Host {
            let namespace = prepared.net_namespace().map_err(Error::Runtime)?;
            let records: Vec<NetworkRecord> = self.network.iter().cloned().collect();
            if let Some(network) = &self.network {
                firewall::ensure(&host, || contents(self.store))?;
                net::network::ensure(&host, network)?;
            }
            self.endpoints = net::endpoint::connect(&host, &records, spec, namespace.as_fd(), &[])?;
            self.namespace = Some(namespace);
        }
        let files = net::etc::etc_files(spec, &self.endpoints)?;
        // Without endpoints the host's own servers are written.
        let mut resolv_conf = net::etc::etc_files(spec, &[])?.resolv_conf;
        if !self.endpoints.is_empty() && asks_loopback(&resolv_conf) {
            resolv_conf = files.resolv_conf;
            self.start_dns(&host, spec)?;
        }
        for (path, text) in [(&self.etc.hosts, &files.hosts), (&self.etc.resolv_conf, &resolv_conf)] {
            if let Some(path) = path {
                // In place: the file is bound into the container already.
                std::fs::write(path, text).context("write", path)?;
            }
        }
        Ok(())
    }

    fn start_dns(&mut self, host: &net::Host, spec: &ContainerSpec) -> Result<(), Error> {
        let Some(namespace) = &self.namespace else { return Ok(()) };
        let config = dns::Config {
            netns: namespace.as_fd(),
            run_folder: host.run_folder().to_owned(),
            container: spec.id.clone(),
            networks: self.endpoints.iter().map(|endpoint| endpoint.network.clone()).collect(),
            servers: Vec::new(),
            forward: true,
            port: None,
            sockets: Vec::new(),
        };
        self.dns = Some(dns::Server::bind(config)?);
        Ok(())
    }

    /// What to poll for the name server.
    pub fn dns_fd(&self) -> Option<BorrowedFd<'_>> {
        self.dns.as_ref().map(AsFd::as_fd)
    }

    /// Answers what is there to be answered.
    pub fn serve_dns(&mut self) {
        if let Some(dns) = &mut self.dns {
            dns.process();
        }
    }

    /// Gives the address back; the link goes with the namespace.
    pub fn disconnect(&mut self, spec: &ContainerSpec) -> Result<(), Error> {
        self.dns = None;
        self.namespace = None;
        if self.endpoints.is_empty() {
            return Ok(());
        }
        self.endpoints.clear();
        let host = net::Host::new(self.store.paths());
        Ok(net::endpoint::disconnect(&host, &spec.id, spec.network.networks())?)
    }
}

fn asks_loopback(resolv_conf: &str) -> bool {
    let servers: Vec<IpAddr> = resolv_conf
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .filter_map(|address| address.trim().parse().ok())
        .collect();
    servers.is_empty() || servers.iter().any(IpAddr::is_loopback)
}

/// The network of plain `run`, made when it is first asked for.
fn default_network(store: &Store) -> Result<NetworkRecord, Error> {
    let name = net::network::DEFAULT_NAME;
    match store.networks().find(name) {
        Err(error) if error.is_not_found() => {}
        result => return Ok(result?),
    }
    let _lock = store.networks().lock_all()?;
    if let Ok(record) = store.networks().find(name) {
        return Ok(record);
    }
    let host = net::Host::new(store.paths());
    let wish = net::network::Wish { name: name.to_owned(), ..Default::default() };
    let record = net::network::record(&host, &store.networks().list()?, wish)?;
    store.networks().create(&record)?;
    Ok(record)
}

/// What the packet filter must hold when it has to be built anew.
fn contents(store: &Store) -> firewall::Contents {
    let containers = store.containers().list().unwrap_or_default().into_iter();
    let running = containers.filter_map(|(_, state)| {
        matches!(state.status, Status::Running | Status::Paused | Status::Restarting)
            .then_some((state.ports, state.addresses))
    });
    firewall::Contents { networks: store.networks().list().unwrap_or_default(), running: running.collect() }
}
