//! A container's place in its networks: address, record, link, route.
//!
//! Three requests make a link: one on the host (both ends, straight in their namespaces), two inside (number of the
//! interface; then addresses, up and routes at once).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoBridgePort, InfoData, InfoPortData, InfoPortKind, InfoVeth, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::network::{check_interface_name, no_link_local_address};
use super::rtnl::{self, Existing, Step, address_message};
use super::{Error, Host, Result, lease, netns};
use crate::base::id::{ContainerId, NetworkId, random_hex};
use crate::model::container::{ContainerSpec, NetworkMode};
use crate::model::network::{Attachment, Endpoint, NetworkRecord, Subnet};

/// Kernel parameters of a container's namespace that Docker sets, too: everybody may ping and bind low ports.
const PARAMETERS: [(&str, &str); 2] =
    [("ipv4/ping_group_range", "0 2147483647"), ("ipv4/ip_unprivileged_port_start", "0")];

/// Connects a container that has not started yet: leases addresses, writes the endpoint records to the run
/// folder, makes the links in `netns` with addresses and routes, brings up `lo`.
///
/// Returns one endpoint an attachment, in the same order; none for the modes `None` (only `lo` is brought up),
/// `Host` and `Container` (nothing is done). `networks` holds at least the records of its attachments, each
/// already ensured. `reserved` are the fixed addresses of other containers' specs in these networks (stopped
/// ones too), which are never leased. The `net.*` sysctls of the spec are the runtime's work. On error nothing
/// stays behind.
/// Errors: `AddressInUse`, `NoFreeAddress`, `FixedAddress`, `InterfaceName`, `Invalid`, `Link`.
pub fn connect(
    host: &Host,
    networks: &[NetworkRecord],
    spec: &ContainerSpec,
    netns: BorrowedFd<'_>,
    reserved: &[(NetworkId, IpAddr)],
) -> Result<Vec<Endpoint>> {
    let attachments = match &spec.network {
        NetworkMode::Networks { attachments } => attachments.as_slice(),
        NetworkMode::None => &[],
        NetworkMode::Host | NetworkMode::Container { .. } => return Ok(Vec::new()),
    };
    let plans = plan(networks, attachments, &[])?;
    let mut inside = netns::inside(netns, || -> Result<rtnl::Socket> {
        let mut socket = rtnl::Socket::open()?;
        let up = LinkUnspec::new_with_name("lo").up().build();
        socket.execute("lo", vec![change("switch on", up)])?;
        for (name, value) in PARAMETERS {
            // Kernels may be built without one; a program that needs it will say so.
            drop(std::fs::write(format!("/proc/sys/net/{name}"), value));
        }
        Ok(socket)
    })??;
    make(host, &plans.iter().collect::<Vec<_>>(), spec, netns, &mut inside, reserved)
}

/// Leases, records and links for `plans`: all of them or, on error, none.
fn make(
    host: &Host,
    plans: &[&Plan<'_>],
    spec: &ContainerSpec,
    netns: BorrowedFd<'_>,
    inside: &mut rtnl::Socket,
    reserved: &[(NetworkId, IpAddr)],
) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::with_capacity(plans.len());
    let mut linked = 0;
    let result = (|| {
        for plan in plans {
            endpoints.push(lease_addresses(host, plan, spec, reserved)?);
        }
        let store = host.store()?;
        for endpoint in &endpoints {
            store.endpoints().put(endpoint)?;
        }
        for (plan, endpoint) in plans.iter().zip(&endpoints) {
            linked += 1;
            make_link(host, plan.network, endpoint, netns, inside)?;
            lease::settle(host, &endpoint.network, &addresses(endpoint))?;
        }
        Ok(())
    })();
    match result {
        Ok(()) => Ok(endpoints),
        Err(error) => {
            undo(host, &endpoints, linked);
            Err(error)
        }
    }
}

/// Brings a running container with `existing` endpoints to what its spec says now: makes the links that are missing,
/// then removes those that are not wished any more, then moves the default route and renews the names.
///
/// Arguments and result are those of [`connect`]. On error the container has the endpoints that it had.
pub fn adjust(
    host: &Host,
    networks: &[NetworkRecord],
    spec: &ContainerSpec,
    netns: BorrowedFd<'_>,
    existing: &[Endpoint],
    reserved: &[(NetworkId, IpAddr)],
) -> Result<Vec<Endpoint>> {
    let NetworkMode::Networks { attachments } = &spec.network else { return Ok(existing.to_vec()) };
    let plans = plan(networks, attachments, existing)?;
    let has = |plan: &&Plan<'_>| existing.iter().any(|endpoint| endpoint.network == plan.network.id);
    let missing: Vec<&Plan<'_>> = plans.iter().filter(|plan| !has(plan)).collect();
    let mut inside = netns::inside(netns, rtnl::Socket::open)??;
    for plan in &missing {
        forget(host, &plan.network.id, &spec.id)?;
    }
    // A default route that moves is set below, when the old one is gone.
    let waiting: Vec<Plan<'_>> = missing.iter().map(|plan| Plan { default_route: false, ..(*plan).clone() }).collect();
    let made = make(host, &waiting.iter().collect::<Vec<_>>(), spec, netns, &mut inside, reserved)?;
    for endpoint in existing.iter().filter(|old| plans.iter().all(|plan| plan.network.id != old.network)) {
        // Nobody asks for it any more; what cannot be removed now is healed.
        drop(forget(host, &endpoint.network, &spec.id));
    }
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(plans.len());
    let mut routes = Vec::new();
    for plan in &plans {
        let of_network = |endpoint: &Endpoint| endpoint.network == plan.network.id;
        let Some(old) = made.iter().chain(existing).find(|endpoint| of_network(endpoint)) else { continue };
        let new = Endpoint { names: names(spec, plan.attachment), default_route: plan.default_route, ..old.clone() };
        if new != *old {
            host.store()?.endpoints().put(&new)?;
        }
        if new.default_route != old.default_route {
            routes.push((new.default_route, endpoints.len()));
        }
        endpoints.push(new);
    }
    routes.sort_unstable();
    for (is_new, place) in routes {
        set_default_route(&endpoints[place], &mut inside, is_new)?;
    }
    Ok(endpoints)
}

/// Removes whatever a container has in a network: link, record, lease.
fn forget(host: &Host, network: &NetworkId, container: &ContainerId) -> Result<()> {
    if let Some(endpoint) = host.store()?.endpoints().get(network, container)? {
        undo(host, &[endpoint], 1);
    }
    Ok(())
}

/// Removes a container's records and leases from these networks. Its links die with its namespace.
pub fn disconnect<'a>(
    host: &Host,
    container: &ContainerId,
    networks: impl IntoIterator<Item = &'a NetworkId>,
) -> Result<()> {
    let store = host.store()?;
    let mut first_error = Ok(());
    for network in networks {
        let result = (|| {
            let Some(endpoint) = store.endpoints().get(network, container)? else { return Ok(()) };
            // In this order: the record says which addresses are to be given back.
            lease::release(host, network, container, &addresses(&endpoint))?;
            Ok(store.endpoints().remove(network, container)?)
        })();
        first_error = first_error.and(result);
    }
    first_error
}

fn addresses(endpoint: &Endpoint) -> Vec<IpAddr> {
    let ipv4 = endpoint.ipv4.map(|(address, _)| IpAddr::from(address));
    let ipv6 = endpoint.ipv6.map(|(address, _)| IpAddr::from(address));
    ipv4.into_iter().chain(ipv6).collect()
}

/// Takes back what a failed [`connect`] made. Its error is the one to report: those here are dropped, and what
/// stays is taken over or healed.
fn undo(host: &Host, endpoints: &[Endpoint], linked: usize) {
    for endpoint in &endpoints[..linked.min(endpoints.len())] {
        let message = RouteNetlinkMessage::DelLink(LinkUnspec::new_with_name(&endpoint.host_link).build());
        let step = Step { what: "remove link", message, existing: Existing::Change };
        drop(host.links().and_then(|mut links| links.execute(&endpoint.host_link, vec![step])));
    }
    for endpoint in endpoints {
        drop(host.store().map(|store| store.endpoints().remove(&endpoint.network, &endpoint.container)));
        drop(lease::release(host, &endpoint.network, &endpoint.container, &addresses(endpoint)));
    }
}

/// What an attachment becomes.
#[derive(Clone)]
struct Plan<'a> {
    attachment: &'a Attachment,
    network: &'a NetworkRecord,
    interface: String,
    default_route: bool,
}

/// Interfaces that exist keep their names.
fn plan<'a>(
    networks: &'a [NetworkRecord],
    attachments: &'a [Attachment],
    existing: &[Endpoint],
) -> Result<Vec<Plan<'a>>> {
    let mut plans: Vec<Plan<'a>> = Vec::with_capacity(attachments.len());
    for attachment in attachments {
        let network = networks
            .iter()
            .find(|network| network.id == attachment.network)
            .ok_or_else(|| Error::UnknownNetwork { network: attachment.network_name.clone() })?;
        if let Some(name) = &attachment.interface {
            check_interface_name(name, &network.name)?;
            if plans.iter().any(|plan| plan.interface == *name) {
                let reason = "is that of another network, too";
                return Err(Error::InterfaceName { name: name.clone(), network: network.name.clone(), reason });
            }
        }
        let known = existing.iter().find(|endpoint| endpoint.network == network.id);
        let interface = known.map(|endpoint| endpoint.interface.clone()).or_else(|| attachment.interface.clone());
        let interface = interface.unwrap_or_default();
        plans.push(Plan { attachment, network, interface, default_route: false });
    }
    // eth0 and on, past the names that were wished.
    let mut number = 0;
    for index in 0..plans.len() {
        while plans[index].interface.is_empty() {
            let name = format!("eth{number}");
            number += 1;
            let is_free = existing.iter().all(|endpoint| endpoint.interface != name);
            if is_free && plans.iter().all(|plan| plan.interface != name) {
                plans[index].interface = name;
            }
        }
    }
    // The highest priority wins, then what speaks more families, then the name (moby, sandbox.go, `Less`).
    let best = plans.iter().enumerate().filter(|(_, plan)| !plan.network.internal).min_by_key(|(_, plan)| {
        let families = plan.network.subnets.len();
        (std::cmp::Reverse(plan.attachment.gateway_priority), std::cmp::Reverse(families), plan.network.name.as_str())
    });
    if let Some(index) = best.map(|(index, _)| index) {
        plans[index].default_route = true;
    }
    Ok(plans)
}

fn lease_addresses(
    host: &Host,
    plan: &Plan<'_>,
    spec: &ContainerSpec,
    reserved: &[(NetworkId, IpAddr)],
) -> Result<Endpoint> {
    let (attachment, network) = (plan.attachment, plan.network);
    let link = format!("wh-{}", random_hex(6));
    let tenant = lease::Tenant { container: &spec.id, name: &spec.name, link: &link };
    let subnet = |ipv4: bool| network.subnets.iter().find(|subnet| subnet.address.is_ipv4() == ipv4);
    let mut endpoint = Endpoint {
        container: spec.id.clone(),
        network: network.id.clone(),
        network_name: network.name.clone(),
        names: names(spec, attachment),
        interface: plan.interface.clone(),
        ipv4: None,
        ipv6: None,
        gateways: Vec::new(),
        default_route: plan.default_route,
        mac: String::new(),
        host_link: link.clone(),
        link_local: attachment.link_local.clone(),
        links: attachment.links.clone(),
    };
    let take = |subnet: Option<&Subnet>, fixed: Option<IpAddr>| match (subnet, fixed) {
        (Some(subnet), fixed) => {
            Ok(Some((lease::take(host, network, subnet, &tenant, fixed, reserved)?, subnet.prefix, subnet.gateway)))
        }
        (None, Some(address)) => Err(Error::FixedAddress {
            address,
            network: network.name.clone(),
            reason: "it has no subnet of that family",
        }),
        (None, None) => Ok(None),
    };
    let result = (|| {
        if let Some((IpAddr::V4(address), prefix, gateway)) = take(subnet(true), attachment.ipv4.map(IpAddr::from))? {
            endpoint.ipv4 = Some((address, prefix));
            endpoint.gateways.push(gateway);
        }
        if let Some((IpAddr::V6(address), prefix, gateway)) = take(subnet(false), attachment.ipv6.map(IpAddr::from))? {
            endpoint.ipv6 = Some((address, prefix));
            endpoint.gateways.push(gateway);
        }
        let mac = mac_of(attachment, &endpoint)?;
        endpoint.mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        Ok(())
    })();
    if network.internal {
        endpoint.gateways.clear();
    }
    match result {
        Ok(()) => Ok(endpoint),
        Err(error) => {
            undo(host, &[endpoint], 0);
            Err(error)
        }
    }
}

/// Container name, short id, aliases and host name, each once.
fn names(spec: &ContainerSpec, attachment: &Attachment) -> Vec<String> {
    let mut names = vec![spec.name.clone()];
    let others = attachment.aliases.iter().map(String::as_str).chain([spec.id.short(), spec.hostname.as_str()]);
    for name in others {
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The wished MAC address, else one derived from the IP address: who gets an address again gets the same MAC, so
/// that no neighbour's cache is wrong.
fn mac_of(attachment: &Attachment, endpoint: &Endpoint) -> Result<[u8; 6]> {
    if let Some(text) = &attachment.mac {
        let invalid = |reason| Error::Invalid { what: "mac address", text: text.clone(), reason };
        let mut mac = [0u8; 6];
        let parts: Vec<&str> = text.split([':', '-']).collect();
        if parts.len() != mac.len() {
            return Err(invalid("it must look like 02:42:ac:11:00:02"));
        }
        for (byte, part) in mac.iter_mut().zip(parts) {
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid("it must look like 02:42:ac:11:00:02"))?;
        }
        if mac[0] & 1 == 1 || mac == [0; 6] {
            return Err(invalid("it is a group address or zero"));
        }
        return Ok(mac);
    }
    Ok(match (endpoint.ipv4, endpoint.ipv6) {
        (Some((address, _)), _) => {
            let [a, b, c, d] = address.octets();
            [0x02, 0x42, a, b, c, d]
        }
        (None, Some((address, _))) => {
            let octets = address.octets();
            [0x02, 0x43, octets[12], octets[13], octets[14], octets[15]]
        }
        (None, None) => {
            let random = random_hex(4);
            let byte = |place: usize| u8::from_str_radix(&random[place * 2..place * 2 + 2], 16).unwrap_or(0);
            [0x02, 0x44, byte(0), byte(1), byte(2), byte(3)]
        }
    })
}

fn change(what: &'static str, message: LinkMessage) -> Step {
    Step { what, message: RouteNetlinkMessage::NewLink(message), existing: Existing::Change }
}

/// Makes the pair of links, then addresses and routes inside.
fn make_link(
    host: &Host,
    network: &NetworkRecord,
    endpoint: &Endpoint,
    netns: BorrowedFd<'_>,
    inside: &mut rtnl::Socket,
) -> Result<()> {
    let mut links = host.links()?;
    let bridge = links.link(&network.bridge)?.ok_or_else(|| Error::Link {
        operation: format!("connect to bridge `{}`", network.bridge),
        source: std::io::Error::from_raw_os_error(libc::ENODEV),
    })?;
    let mac = endpoint.mac.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect::<Vec<u8>>();
    // The peer cannot be made up: its other half does not exist yet (ENOTCONN).
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(endpoint.interface.as_str())
        .address(mac)
        .mtu(network.mtu)
        .setns_by_fd(netns.as_raw_fd())
        .build();
    let pair = LinkVeth::new(&endpoint.host_link, &endpoint.interface)
        .mtu(network.mtu)
        .controller(bridge.index)
        .link_group(network.link_group)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    // A container may reach its own published port: the bridge must send the packet back where it came from.
    let named = || LinkUnspec::new_with_name(&endpoint.host_link);
    let hairpin = named()
        .up()
        .set_port_kind(InfoPortKind::Bridge)
        .set_port_data(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]))
        .build();
    links.execute(
        &endpoint.host_link,
        vec![
            Step { what: "create link", message: RouteNetlinkMessage::NewLink(pair), existing: Existing::Refuse },
            no_link_local_address(named()),
            change("switch on", hairpin),
        ],
    )?;
    furnish(endpoint, inside)?;
    // Asking makes the kernel bring up the carrier now instead of within a second; IPv6 inside waits for it, too.
    links.link(&endpoint.host_link)?;
    if endpoint.ipv6.is_some() {
        inside.link(&endpoint.interface)?;
    }
    links.link(&network.bridge)?;
    Ok(())
}

/// Prefixes of link-local addresses. Source: RFC 3927, RFC 4291.
const LINK_LOCAL_PREFIX_4: u8 = 16;
const LINK_LOCAL_PREFIX_6: u8 = 64;

fn furnish(endpoint: &Endpoint, inside: &mut rtnl::Socket) -> Result<()> {
    let link = inside.link(&endpoint.interface)?.ok_or_else(|| Error::Link {
        operation: format!("find `{}` inside", endpoint.interface),
        source: std::io::Error::from_raw_os_error(libc::ENODEV),
    })?;
    let mut steps = Vec::with_capacity(6);
    steps.push(no_link_local_address(LinkUnspec::new_with_index(link.index)));
    let mut address = |address: IpAddr, prefix| {
        steps.push(Step {
            what: "give the address to",
            message: RouteNetlinkMessage::NewAddress(address_message(link.index, address, prefix)),
            existing: Existing::Refuse,
        });
    };
    if let Some((ipv4, prefix)) = endpoint.ipv4 {
        address(ipv4.into(), prefix);
    }
    if let Some((ipv6, prefix)) = endpoint.ipv6 {
        address(ipv6.into(), prefix);
    }
    for further in &endpoint.link_local {
        address(*further, if further.is_ipv4() { LINK_LOCAL_PREFIX_4 } else { LINK_LOCAL_PREFIX_6 });
    }
    steps.push(change("switch on", LinkUnspec::new_with_index(link.index).up().build()));
    if endpoint.default_route {
        steps.extend(default_routes(endpoint, link.index, true));
    }
    inside.execute(&endpoint.interface, steps)
}

/// Adds or removes the default routes through an endpoint.
fn set_default_route(endpoint: &Endpoint, inside: &mut rtnl::Socket, add: bool) -> Result<()> {
    match inside.link(&endpoint.interface)? {
        Some(link) => inside.execute(&endpoint.interface, default_routes(endpoint, link.index, add).collect()),
        None => Ok(()),
    }
}

fn default_routes(endpoint: &Endpoint, link: u32, add: bool) -> impl Iterator<Item = Step> {
    endpoint.gateways.iter().map(move |gateway| {
        let route = match gateway {
            IpAddr::V4(gateway) => {
                RouteMessageBuilder::<Ipv4Addr>::new().gateway(*gateway).output_interface(link).build()
            }
            IpAddr::V6(gateway) => {
                RouteMessageBuilder::<Ipv6Addr>::new().gateway(*gateway).output_interface(link).build()
            }
        };
        if add {
            let (what, message) = ("set the default route of", RouteNetlinkMessage::NewRoute(route));
            Step { what, message, existing: Existing::Refuse }
        } else {
            let (what, message) = ("remove the default route of", RouteNetlinkMessage::DelRoute(route));
            Step { what, message, existing: Existing::Change }
        }
    })
}
