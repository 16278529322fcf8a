//! What a new subnet must not overlap.

use std::collections::HashMap;
use std::net::IpAddr;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use super::Range;
use crate::model::network::NetworkRecord;
use crate::net::{Host, Result};

/// Why a range is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A network of the store.
    Network,
    /// An address of the host, or a route straight to a link.
    OnLink,
    /// A route through a gateway.
    GatewayRoute,
    /// A name server.
    NameServer,
}

/// Routes of wider ranges say where everything goes, not where something is (`0.0.0.0/1` of a VPN).
const WIDEST_PREFIX4: u8 = 8;
/// The same for IPv6: `2000::/3`, `fc00::/7`.
const WIDEST_PREFIX6: u8 = 16;

/// All ranges that are taken, with what they are in words.
pub(super) struct Taken(Vec<(Range, String, Why)>);

impl Taken {
    /// Reads the host's routes, addresses and name servers.
    pub(super) fn read(host: &Host, existing: &[NetworkRecord]) -> Result<Self> {
        let mut taken = Vec::new();
        for network in existing {
            for subnet in &network.subnets {
                let range = Range::new(subnet.address, subnet.prefix);
                taken.push((range, format!("network `{}`", network.name), Why::Network));
            }
        }
        let names = link_names(host)?;
        let messages = host.links()?.dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()))?;
        for message in messages {
            let RouteNetlinkMessage::NewRoute(route) = message else { continue };
            taken.extend(read_route(&route, &names));
        }
        for server in host_name_servers() {
            taken.push((Range::new(server, 128), format!("the name server {server}"), Why::NameServer));
        }
        Ok(Self(taken))
    }

    #[cfg(test)]
    pub(super) fn of(taken: Vec<(Range, String, Why)>) -> Self {
        Self(taken)
    }

    /// What overlaps this range.
    pub(super) fn overlapping(&self, range: Range) -> Vec<(String, Why)> {
        let overlapping = self.0.iter().filter(|(other, ..)| other.overlaps(&range));
        overlapping.map(|(_, name, why)| (name.clone(), *why)).collect()
    }
}

fn link_names(host: &Host) -> Result<HashMap<u32, String>> {
    Ok(host.links()?.list_links()?.into_iter().map(|link| (link.index, link.name)).collect())
}

fn read_route(route: &RouteMessage, links: &HashMap<u32, String>) -> Option<(Range, String, Why)> {
    let mut destination = None;
    let mut link = None;
    let mut gateway = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Oif(index) => link = links.get(index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => gateway = destination,
            _ => {}
        }
    }
    let range = Range::new(destination?, route.header.destination_prefix_length);
    if range.prefix() < if range.is_ipv4() { WIDEST_PREFIX4 } else { WIDEST_PREFIX6 } {
        return None;
    }
    let device = link.map(|name| format!(" on {name}")).unwrap_or_default();
    match route.header.kind {
        RouteType::Local => Some((range, format!("the host's address {range}{device}"), Why::OnLink)),
        RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => None,
        _ if gateway.is_some() => Some((range, format!("the host's route {range}{device}"), Why::GatewayRoute)),
        _ => Some((range, format!("the host's route {range}{device}"), Why::OnLink)),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The servers of the host's resolv.conf.
fn host_name_servers() -> Vec<IpAddr> {
    crate::net::etc::ResolvConf::of_host().servers
}

/// MTU of the link of the host's default route; 1500 without one.
pub(in crate::net) fn mtu_of_way_out(host: &Host) -> Result<u32> {
    const ETHERNET: u32 = 1500;
    let routes = host.links()?.dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()))?;
    let link = routes.iter().find_map(|message| {
        let RouteNetlinkMessage::NewRoute(route) = message else { return None };
        let is_default = route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast;
        let link = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        link.filter(|_| is_default)
    });
    let Some(index) = link else { return Ok(ETHERNET) };
    let links = host.links()?.list_links()?;
    let mtu = links.into_iter().find(|link| link.index == index).map_or(ETHERNET, |link| link.mtu);
    // IPv6 needs 1280; a link of 64 KiB (a tunnel in user space) would slow down what crosses the bridge.
    Ok(mtu.clamp(1280, 9000))
}
