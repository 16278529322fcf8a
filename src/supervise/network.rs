//! A running container's place in the network, from its supervisor's side.
//!
//! It outlives restarts: namespace, addresses, ports and name server stay while the container starts again, so
//! those who share its namespace (`network_mode: service:…`) do not notice.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::{Error, Result, dns};
use crate::base::id::NetworkId;
use crate::model::container::{
    ContainerSpec, ContainerState, NetworkMode, PortBinding, Protocol, PublishedPort, Status,
};
use crate::model::journal::{Entry, Kind};
use crate::model::network::{Endpoint, NetworkRecord};
use crate::net::port::relay::Relay;
use crate::net::{self, firewall, port};
use crate::runtime::NetNamespace;
use crate::store::Store;

/// What one container has of the network.
#[derive(Default)]
pub(super) struct Network {
    /// Its namespace, when it is its own.
    pub(super) namespace: Option<OwnedFd>,
    /// Its addresses.
    pub(super) endpoints: Vec<Endpoint>,
    /// Its published ports.
    pub(super) ports: Vec<PublishedPort>,
    /// Sockets that keep others from taking the host's ports.
    pub(super) reservations: Vec<OwnedFd>,
    /// Those of them that connections get to.
    pub(super) relay: Option<Relay>,
    /// Its name server.
    pub(super) dns: Option<dns::Server>,
}

impl Network {
    /// The namespace that the next run gets.
    pub(super) fn for_launch(&self, store: &Store, spec: &ContainerSpec) -> Result<NetNamespace> {
        if let Some(namespace) = &self.namespace {
            return duplicate(spec, namespace).map(NetNamespace::Join);
        }
        match &spec.network {
            NetworkMode::Host => Ok(NetNamespace::Host),
            NetworkMode::Container { id } => super::namespace::network_of(store, id).map(NetNamespace::Join),
            NetworkMode::None | NetworkMode::Networks { .. } => Ok(NetNamespace::New),
        }
    }

    /// Furnishes a namespace that was just made. On error nothing stays behind.
    pub(super) fn connect(&mut self, store: &Store, spec: &ContainerSpec, namespace: OwnedFd) -> Result<()> {
        let records = networks(store, spec)?;
        if records.is_empty() {
            // The runtime has brought loopback up; there is nothing else.
            self.namespace = Some(namespace);
            return Ok(());
        }
        let host = net::Host::new(store.paths());
        firewall::ensure(&host, || contents(store))?;
        for record in &records {
            net::network::ensure(&host, record)?;
        }
        let reserved = reserved(store, spec, &records)?;
        self.endpoints = net::endpoint::connect(&host, &records, spec, namespace.as_fd(), &reserved)?;
        self.namespace = Some(namespace);
        let result = self.open(store, spec, &records, None, Vec::new()).and_then(|()| {
            let publication = publish(store, &host, &spec.ports, &self.endpoints)?;
            self.ports = publication.ports;
            self.reservations = publication.reservations;
            self.relay();
            Ok(())
        });
        match result {
            Ok(()) => note(store, "connect", &self.endpoints),
            // The first error is the one to report; what cannot be undone now is cleared by `net::heal`.
            Err(_) => drop(self.disconnect(store, spec)),
        }
        result
    }

    /// Brings the networks of a namespace that is in use to what `spec` says now. On error they are as they were.
    pub(super) fn adjust(&mut self, store: &Store, spec: &ContainerSpec) -> Result<()> {
        let Some(namespace) = self.namespace.as_ref().filter(|_| matches!(spec.network, NetworkMode::Networks { .. }))
        else {
            return Ok(());
        };
        let records = networks(store, spec)?;
        let host = net::Host::new(store.paths());
        firewall::ensure(&host, || contents(store))?;
        for record in &records {
            net::network::ensure(&host, record)?;
        }
        let reserved = reserved(store, spec, &records)?;
        let before = std::mem::take(&mut self.endpoints);
        let adjusted = net::endpoint::adjust(&host, &records, spec, namespace.as_fd(), &before, &reserved);
        let endpoints = match adjusted {
            Ok(endpoints) => endpoints,
            Err(error) => {
                self.endpoints = before;
                return Err(error.into());
            }
        };
        let same_way = port::same_way(&before, &endpoints);
        if !same_way {
            drop(port::unpublish(&host, &self.ports, &before));
            self.reservations.clear();
            self.relay = None;
        }
        self.endpoints = endpoints;
        let is_in = |list: &[Endpoint], one: &Endpoint| list.iter().any(|other| other.network == one.network);
        note(store, "connect", self.endpoints.iter().filter(|new| !is_in(&before, new)));
        note(store, "disconnect", before.iter().filter(|old| !is_in(&self.endpoints, old)));
        match &mut self.dns {
            Some(dns) => dns.set_networks(
                self.endpoints.iter().map(|endpoint| &endpoint.network),
                records.iter().any(|record| !record.internal),
            ),
            None => self.open(store, spec, &records, None, Vec::new())?,
        }
        if !same_way {
            // Ports that were chosen stay.
            let wished = port::as_published(&spec.ports, &std::mem::take(&mut self.ports));
            let publication = publish(store, &host, &wished, &self.endpoints)?;
            self.ports = publication.ports;
            self.reservations = publication.reservations;
            self.relay();
        }
        Ok(())
    }

    /// Opens the name server; at `port` when it was there before, with `sockets` that came through an exec.
    pub(super) fn open(
        &mut self,
        store: &Store,
        spec: &ContainerSpec,
        records: &[NetworkRecord],
        port: Option<u16>,
        sockets: Vec<OwnedFd>,
    ) -> Result<()> {
        let Some(namespace) = self.namespace.as_ref().filter(|_| !self.endpoints.is_empty()) else { return Ok(()) };
        self.dns = Some(dns::Server::bind(dns::Config {
            netns: namespace.as_fd(),
            run_folder: net::Host::new(store.paths()).run_folder().to_owned(),
            container: spec.id.clone(),
            networks: self.endpoints.iter().map(|endpoint| endpoint.network.clone()).collect(),
            servers: spec.dns.iter().filter_map(|server| server.parse().ok()).collect(),
            forward: records.iter().any(|record| !record.internal),
            port,
            sockets,
        })?);
        Ok(())
    }

    /// Begins to accept at those reservations that connections get to.
    pub(super) fn relay(&mut self) {
        // Without it, connections over IPv6 wait in vain; all others do not depend on it.
        self.relay = port::relay(&mut self.reservations, &self.ports, &self.endpoints).unwrap_or_default();
    }

    /// Gives everything back. Goes on after an error and returns the first.
    pub(super) fn disconnect(&mut self, store: &Store, spec: &ContainerSpec) -> Result<()> {
        self.dns = None;
        let host = net::Host::new(store.paths());
        let unpublished = match self.ports.is_empty() {
            true => Ok(()),
            false => port::unpublish(&host, &self.ports, &self.endpoints),
        };
        self.reservations.clear();
        self.relay = None;
        self.ports.clear();
        let disconnected = match self.endpoints.is_empty() {
            true => Ok(()),
            false => net::endpoint::disconnect(&host, &spec.id, spec.network.networks()),
        };
        note(store, "disconnect", &self.endpoints);
        self.endpoints.clear();
        self.namespace = None;
        unpublished.and(disconnected).map_err(Error::from)
    }
}

/// Tells `events`.
fn note<'a>(store: &Store, action: &str, endpoints: impl IntoIterator<Item = &'a Endpoint>) {
    for endpoint in endpoints {
        let entry = Entry::new(Kind::Network, action, endpoint.network.as_str()).with("type", "bridge");
        let entry = entry.with("name", &endpoint.network_name).with("container", endpoint.container.as_str());
        store.journal().note(&entry);
    }
}

/// Publishes ports; a port that another container has is told with its name, which the network cannot know.
fn publish(
    store: &Store,
    host: &net::Host,
    ports: &[PortBinding],
    endpoints: &[Endpoint],
) -> Result<port::Publication> {
    port::publish(host, ports, endpoints).map_err(|mut error| {
        if let net::Error::PortInUse { address, port, protocol, reason, holder } = &mut error
            && reason == net::ADDRESS_IN_USE
            && let Some(name) = publisher(store, address, port, *protocol)
        {
            *holder = Some(net::PortHolder::Container(name));
        }
        error.into()
    })
}

/// The name of the container that has a port of the host's `address`.
fn publisher(store: &Store, address: &str, port: &str, protocol: Protocol) -> Option<String> {
    let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
    let port: u16 = port.parse().ok()?;
    let is_it = |ours: &PublishedPort| {
        (ours.host_port, ours.protocol) == (port, protocol) && are_in_each_others_way(ours.host_ip, address)
    };
    let has_it = |state: &ContainerState| super::start::is_active(state) && state.ports.iter().any(is_it);
    let containers = store.containers().list().ok()?;
    containers.into_iter().find(|(_, state)| has_it(state)).map(|(spec, _)| spec.name)
}

/// Whether a port of the one cannot be bound while that of the other is.
fn are_in_each_others_way(one: IpAddr, other: IpAddr) -> bool {
    one == other || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
}

/// The records of a container's networks.
pub(super) fn networks(store: &Store, spec: &ContainerSpec) -> Result<Vec<NetworkRecord>> {
    spec.network.networks().map(|id| store.networks().get(id).map_err(Error::from)).collect()
}

fn duplicate(spec: &ContainerSpec, fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().map_err(|source| Error::System {
        operation: "duplicate the network namespace",
        id: spec.id.clone(),
        source,
    })
}

/// What the packet filter must hold when it has to be built anew.
fn contents(store: &Store) -> firewall::Contents {
    let running = |(_, state): (ContainerSpec, ContainerState)| {
        matches!(state.status, Status::Running | Status::Paused | Status::Restarting)
            .then_some((state.ports, state.addresses))
    };
    firewall::Contents {
        networks: store.networks().list().unwrap_or_default(),
        running: store.containers().list().unwrap_or_default().into_iter().filter_map(running).collect(),
    }
}

/// Fixed addresses of other containers in these networks. Only networks whose subnet the user chose can have any,
/// so that a start seldom reads other containers' records.
fn reserved(store: &Store, spec: &ContainerSpec, records: &[NetworkRecord]) -> Result<Vec<(NetworkId, IpAddr)>> {
    if !records.iter().any(|record| record.subnets.iter().any(|subnet| subnet.chosen)) {
        return Ok(Vec::new());
    }
    let mut reserved = Vec::new();
    for (other, _) in store.containers().list()? {
        let NetworkMode::Networks { attachments } = &other.network else { continue };
        if other.id == spec.id {
            continue;
        }
        for attachment in attachments {
            let addresses = attachment.ipv4.map(IpAddr::V4).into_iter().chain(attachment.ipv6.map(IpAddr::V6));
            reserved.extend(addresses.map(|address| (attachment.network.clone(), address)));
        }
    }
    Ok(reserved)
}
