//! The elements that a network and a published port have in the sets and maps of [`super::rules`].

use std::net::IpAddr;

use crate::model::container::{Protocol, PublishedPort};
use crate::model::network::{Endpoint, NetworkRecord};
use crate::net::nft::{Element, Key};
use crate::net::subnet::Range;

/// Whether an option of the network is switched off.
fn is_off(network: &NetworkRecord, option: &str) -> bool {
    network.options.get(option).is_some_and(|value| matches!(value.as_str(), "false" | "0"))
}

/// The elements of a network.
pub(in crate::net) fn of_network(network: &NetworkRecord) -> Vec<Element> {
    let bridge = || Key::Interface(network.bridge.clone());
    let element = |set, key: &[Key]| Element {
        set,
        key: Key::bytes(key),
        key_end: None,
        value: None,
        comment: format!("network {}", network.id.short()),
    };
    let mut elements = vec![element("bridges", &[bridge()])];
    if network.internal {
        elements.push(element("closed", &[bridge()]));
    } else if !is_off(network, "com.docker.network.bridge.enable_ip_masquerade") {
        elements.push(element("outward", &[bridge()]));
    }
    if !is_off(network, "com.docker.network.bridge.enable_icc") {
        elements.push(element("same", &[bridge(), bridge()]));
    }
    for subnet in &network.subnets {
        let range = Range::new(subnet.address, subnet.prefix);
        let set = if range.first().is_ipv4() { "own4" } else { "own6" };
        let pair = |address| Key::bytes(&[Key::Address(address), Key::Address(address)]);
        let mut own = element(set, &[]);
        own.key = pair(range.first());
        own.key_end = Some(pair(range.last()));
        elements.push(own);
    }
    elements
}

/// The elements of a published port: the way in, and the leave to pass. None for a container without the family
/// of the port's address.
pub(in crate::net) fn of_port(port: &PublishedPort, endpoints: &[Endpoint]) -> Vec<Element> {
    let Some(endpoint) = target(endpoints) else { return Vec::new() };
    let inside = match port.host_ip {
        IpAddr::V4(_) => endpoint.ipv4.map(|(address, _)| IpAddr::from(address)),
        IpAddr::V6(_) => endpoint.ipv6.map(|(address, _)| IpAddr::from(address)),
    };
    let Some(inside) = inside else { return Vec::new() };
    let protocol = Key::Protocol(number(port.protocol));
    let outer = Key::Port(port.host_port);
    let inner = Key::Port(port.container_port);
    let comment = format!("container {}", endpoint.container.short());
    let element = |set, key: &[Key], value: Option<&[Key]>| Element {
        set,
        key: Key::bytes(key),
        key_end: None,
        value: value.map(Key::bytes),
        comment: comment.clone(),
    };
    let (any, on, open) =
        if inside.is_ipv4() { ("ports4", "ports4_on", "open4") } else { ("ports6", "ports6_on", "open6") };
    let to = [Key::Address(inside), inner.clone()];
    let mut elements = vec![element(open, &[Key::Address(inside), protocol.clone(), inner], None)];
    if port.host_ip.is_unspecified() {
        elements.push(element(any, &[protocol, outer], Some(&to)));
    } else {
        elements.push(element(on, &[Key::Address(port.host_ip), protocol, outer], Some(&to)));
    }
    elements
}

/// The endpoint that ports lead to: that of the default route, else the first.
pub(in crate::net) fn target(endpoints: &[Endpoint]) -> Option<&Endpoint> {
    endpoints.iter().find(|endpoint| endpoint.default_route).or(endpoints.first())
}

/// The protocol's number (IANA).
pub(in crate::net) fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
