//! Published ports: a reservation on the host and one element in a map of the packet filter.
//!
//! The reservation is a socket that is bound (and for TCP listens) but never accepts: a filter drops what comes for
//! it, and nothing does, since the packet filter sends connections on to the container before they get to a socket.
//! It keeps others from taking the port, and makes ours fail with the reason when somebody has it already.
//!
//! What comes over IPv6 the packet filter cannot always send on: to a container without an IPv6 address, and to
//! [::1]. Such TCP connections do get to the reservation, and [`relay`] accepts them.
//!
//! Not done: UDP and SCTP over IPv6 to a container without IPv6, SCTP reservations where the kernel has no SCTP.

mod holder;
pub mod relay;
#[cfg(test)]
mod relay_tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use self::relay::{Listener, Relay};
use super::firewall::{self, elements};
use super::{Error, Host, PortHolder, Result, conntrack};
use crate::model::container::{PortBinding, Protocol, PublishedPort};
use crate::model::network::Endpoint;

/// Ports that are reachable, and the sockets that keep others from taking them.
#[derive(Debug)]
pub struct Publication {
    /// The ports with the host addresses and ports that were chosen.
    pub ports: Vec<PublishedPort>,
    /// Held by the supervisor while the container lives; what [`relay`] does not take of them is never read.
    pub reservations: Vec<OwnedFd>,
}

/// How often a free port is asked for that must be free for IPv6, too.
const FREE_PORT_TRIES: usize = 32;
/// Connections that may wait for the relay.
const BACKLOG: i32 = 128;

/// Publishes ports of a container with these endpoints: reserves each on the host, then directs it inside.
///
/// A container that is only in internal networks is reachable on 127.0.0.1 alone. Without any endpoint nothing
/// is published. On error nothing stays behind.
/// Errors: `PortInUse` names the address and, where it can be found, the process that holds it.
pub fn publish(host: &Host, wished: &[PortBinding], endpoints: &[Endpoint]) -> Result<Publication> {
    let mut publication = Publication { ports: Vec::new(), reservations: Vec::new() };
    let Some(target) = elements::target(endpoints) else { return Ok(publication) };
    for binding in wished {
        let addresses = host_addresses(binding, target)?;
        if addresses.is_empty() {
            continue;
        }
        let (port, sockets) = reserve_any(binding, &addresses)?;
        publication.reservations.extend(sockets);
        publication.ports.extend(addresses.iter().map(|address| PublishedPort {
            host_ip: *address,
            host_port: port,
            container_port: binding.container_port,
            protocol: binding.protocol,
        }));
    }
    let wanted: Vec<_> = publication.ports.iter().flat_map(|port| elements::of_port(port, endpoints)).collect();
    for part in wanted.chunks(firewall::BATCH_ELEMENTS) {
        if let Err(error) = firewall::add(host, part) {
            // The first error is the one to report.
            drop(unpublish(host, &publication.ports, endpoints));
            return Err(error);
        }
    }
    forget_udp(&publication.ports)?;
    Ok(publication)
}

/// Whether published ports lead to the same addresses with both lists of endpoints.
pub fn same_way(one: &[Endpoint], other: &[Endpoint]) -> bool {
    let addresses = |endpoint: &Endpoint| (endpoint.ipv4, endpoint.ipv6, endpoint.gateways.is_empty());
    elements::target(one).map(addresses) == elements::target(other).map(addresses)
}

/// The wish for the host ports that were chosen before, where any free one was wished.
pub fn as_published(wished: &[PortBinding], published: &[PublishedPort]) -> Vec<PortBinding> {
    let with_port = |binding: &PortBinding| {
        let chosen = published.iter().find(|port| {
            let is_wished = binding.host_port.is_none_or(|(from, to)| (from..=to).contains(&port.host_port));
            let is_there = binding.host_ip.is_none_or(|address| address == port.host_ip);
            (port.container_port, port.protocol) == (binding.container_port, binding.protocol) && is_wished && is_there
        });
        let host_port = chosen.map(|port| (port.host_port, port.host_port)).or(binding.host_port);
        PortBinding { host_port, ..binding.clone() }
    };
    wished.iter().map(with_port).collect()
}

/// Packets of UDP connections that began before must take the new way.
fn forget_udp(ports: &[PublishedPort]) -> Result<()> {
    let mut udp = ports.iter().filter(|port| port.protocol == Protocol::Udp);
    udp.try_for_each(|port| conntrack::forget_udp(port.host_ip, port.host_port))
}

/// Reserves ports again that are published already: for a supervisor that takes over from a dead one.
pub fn reserve_again(published: &[PublishedPort]) -> Result<Vec<OwnedFd>> {
    let mut reservations = Vec::with_capacity(published.len());
    for port in published {
        let address = SocketAddr::new(port.host_ip, port.host_port);
        match reserve(address, port.protocol) {
            Ok((socket, _)) => reservations.extend(socket),
            Err(errno) => return Err(in_use(port.host_ip, &port.host_port.to_string(), port.protocol, errno)),
        }
    }
    Ok(reservations)
}

/// Takes from `reservations` the sockets that connections get to, and begins to carry these to the container; `None`
/// when there are none.
pub fn relay(
    reservations: &mut Vec<OwnedFd>,
    published: &[PublishedPort],
    endpoints: &[Endpoint],
) -> std::io::Result<Option<Relay>> {
    let Some(target) = elements::target(endpoints) else { return Ok(None) };
    let addresses = target.ipv6.map(|(address, _)| IpAddr::from(address)).into_iter();
    let addresses: Vec<IpAddr> = addresses.chain(target.ipv4.map(|(address, _)| IpAddr::from(address))).collect();
    let mut listeners = Vec::new();
    for socket in std::mem::take(reservations) {
        let inside = relayed(&socket).and_then(|address| {
            published.iter().find(|port| {
                port.protocol == Protocol::Tcp && (port.host_ip, port.host_port) == (address.ip(), address.port())
            })
        });
        match inside {
            Some(port) => {
                let targets = addresses.iter().map(|address| SocketAddr::new(*address, port.container_port)).collect();
                listeners.push(Listener { socket, targets });
            }
            None => reservations.push(socket),
        }
    }
    if listeners.is_empty() { Ok(None) } else { Relay::new(listeners).map(Some) }
}

/// The address of a reservation that connections get to.
fn relayed(socket: &OwnedFd) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
    (address.is_ipv6() && sockopt::socket_type(socket) == Ok(SocketType::STREAM)).then_some(address)
}

/// Whether the kernel has IPv6.
fn has_ipv6() -> bool {
    rustix::net::socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None).is_ok()
}

/// Takes back what [`publish`] directed inside. To be called before the reservations are closed; what is gone
/// already is fine, and what another container has taken meanwhile stays.
pub fn unpublish(host: &Host, published: &[PublishedPort], endpoints: &[Endpoint]) -> Result<()> {
    let unwanted: Vec<_> = published.iter().flat_map(|port| elements::of_port(port, endpoints)).collect();
    firewall::delete(host, &unwanted)?;
    forget_udp(published)
}

/// The host addresses of a wish: every one that the container can be reached at, or the one that was named.
fn host_addresses(binding: &PortBinding, target: &Endpoint) -> Result<Vec<IpAddr>> {
    let internal = target.gateways.is_empty();
    let any4 = if internal { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let mut addresses = Vec::with_capacity(2);
    match binding.host_ip {
        None => {
            addresses.extend(target.ipv4.map(|_| IpAddr::V4(any4)));
            let is_reached = target.ipv6.is_some() || (binding.protocol == Protocol::Tcp && has_ipv6());
            addresses.extend((!internal && is_reached).then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        }
        // From elsewhere nothing gets into an internal network.
        Some(address) if internal && !address.is_loopback() && !address.is_unspecified() => {}
        Some(IpAddr::V4(address)) if target.ipv4.is_some() => {
            addresses.push(if address.is_unspecified() { any4 } else { address }.into());
        }
        Some(IpAddr::V6(address)) if target.ipv6.is_some() || binding.protocol == Protocol::Tcp => {
            addresses.push(address.into());
        }
        // `[::]` for a container with IPv4 only: what it can have of it.
        Some(address) if address.is_unspecified() && target.ipv4.is_some() => addresses.push(any4.into()),
        Some(address) => {
            return Err(Error::Invalid {
                what: "host address",
                text: address.to_string(),
                reason: "the container has no address of that family to lead to",
            });
        }
    }
    Ok(addresses)
}

/// Reserves one port on all of these addresses: the wished one, the first free one of a range, or any.
fn reserve_any(binding: &PortBinding, addresses: &[IpAddr]) -> Result<(u16, Vec<OwnedFd>)> {
    let protocol = binding.protocol;
    let Some((first, last)) = binding.host_port else {
        let mut refused = None;
        for _ in 0..FREE_PORT_TRIES {
            match reserve_all(0, addresses, protocol) {
                Ok(reserved) => return Ok(reserved),
                Err(error) => refused = Some(error),
            }
        }
        let (address, errno) = refused.unwrap_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), Errno::ADDRINUSE));
        return Err(in_use(address, "any", protocol, errno));
    };
    let mut refused = None;
    for port in first..=last {
        match reserve_all(port, addresses, protocol) {
            Ok(reserved) => return Ok(reserved),
            Err(error) => refused = Some(error),
        }
    }
    let (address, errno) = refused.unwrap_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), Errno::INVAL));
    let text = if first == last { first.to_string() } else { format!("{first}-{last}") };
    Err(in_use(address, &text, protocol, errno))
}

fn reserve_all(
    wished: u16,
    addresses: &[IpAddr],
    protocol: Protocol,
) -> std::result::Result<(u16, Vec<OwnedFd>), (IpAddr, Errno)> {
    let mut port = wished;
    let mut sockets = Vec::with_capacity(addresses.len());
    for address in addresses {
        let (socket, bound) = reserve(SocketAddr::new(*address, port), protocol).map_err(|errno| (*address, errno))?;
        sockets.extend(socket);
        port = bound;
    }
    Ok((port, sockets))
}

/// Binds one address; returns the socket and its port. No socket where the kernel does not know the protocol.
fn reserve(address: SocketAddr, protocol: Protocol) -> std::result::Result<(Option<OwnedFd>, u16), Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if protocol == Protocol::Sctp && address.port() != 0 => {
            return Ok((None, address.port()));
        }
        other => other?,
    };
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // A former server's connections in TIME_WAIT do not matter; a listening one still does.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    let is_relayed = address.is_ipv6() && protocol == Protocol::Tcp;
    if is_relayed {
        rustix::io::ioctl_fionbio(&socket, true)?;
    } else {
        crate::sys::socket::drop_everything(socket.as_fd())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    }
    rustix::net::bind(&socket, &address)?;
    if protocol != Protocol::Udp {
        rustix::net::listen(&socket, if is_relayed { BACKLOG } else { 1 })?;
    }
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?).map_err(|_| Errno::AFNOSUPPORT)?;
    Ok((Some(socket), bound.port()))
}

fn in_use(address: IpAddr, port: &str, protocol: Protocol, errno: Errno) -> Error {
    let reason = match errno {
        Errno::ADDRINUSE => crate::net::error::ADDRESS_IN_USE.to_owned(),
        Errno::ADDRNOTAVAIL => "the host does not have this address".to_owned(),
        other => std::io::Error::from(other).to_string(),
    };
    let number = port.parse().ok().filter(|_| errno == Errno::ADDRINUSE);
    Error::PortInUse {
        address: match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        },
        port: port.to_owned(),
        protocol,
        reason,
        holder: number.and_then(|port| holder::find(address, port, protocol)).map(PortHolder::Process),
    }
}
