//! Where a service is in networks, and which ports of the host are its.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::engine::{Error, Result};
use crate::model::container::{PortBinding, Protocol};
use crate::model::network::Attachment;
use crate::model::project::{Port, Project, Service, ServiceNetwork};

/// The aliases of a service in its networks: its name, and what the links of others call it.
pub(super) fn aliases(project: &Project, service: &Service) -> Vec<String> {
    std::iter::once(service.name.clone()).chain(link_aliases(project, service)).collect()
}

/// What the links of other services call a service.
pub(in crate::engine) fn link_aliases(project: &Project, service: &Service) -> Vec<String> {
    let links = project.services.values().flat_map(|other| &other.links);
    let aliases = links.filter_map(|link| link.split_once(':')).filter(|(target, _)| *target == service.name);
    aliases.map(|(_, alias)| alias.to_owned()).collect()
}

/// The fixed addresses of a service in one network.
///
/// Errors: one that is none, or not of the family.
pub(super) fn addresses(options: &ServiceNetwork) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    fn read<A: std::str::FromStr>(text: &Option<String>, expected: &str) -> Result<Option<A>> {
        let Some(text) = text else { return Ok(None) };
        let invalid = |_| Error::Value { what: "networks".into(), value: text.clone(), expected: expected.to_owned() };
        text.parse().map(Some).map_err(invalid)
    }
    Ok((read(&options.ipv4_address, "an IPv4 address")?, read(&options.ipv6_address, "an IPv6 address")?))
}

/// The option of an endpoint that names its interface.
const INTERFACE_OPTION: &str = "com.docker.network.endpoint.ifname";

/// The further addresses of a service in one network.
fn link_local(options: &ServiceNetwork) -> Result<Vec<IpAddr>> {
    let read = |text: &String| {
        let invalid = |expected: &str| Error::Value {
            what: "link_local_ips".into(),
            value: text.clone(),
            expected: expected.to_owned(),
        };
        let address: IpAddr = text.parse().map_err(|_| invalid("an address"))?;
        let is_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if is_local { Ok(address) } else { Err(invalid("an address of 169.254.0.0/16 or fe80::/10")) }
    };
    options.link_local_ips.iter().map(read).collect()
}

/// What a service calls containers of elsewhere: `CONTAINER[:ALIAS]`.
pub(super) fn external_links(service: &Service) -> BTreeMap<String, String> {
    let links = service.external_links.iter();
    links
        .filter_map(|link| link.split_once(':'))
        .map(|(name, alias)| (alias.to_lowercase(), name.to_lowercase()))
        .collect()
}

/// Judges what a service says of its networks.
pub(super) fn network_options(service: &Service) -> Result<()> {
    let options = service.networks.iter().flat_map(BTreeMap::values).flatten();
    for options in options {
        addresses(options)?;
        link_local(options)?;
    }
    Ok(())
}

pub(super) fn attachment(
    network: &crate::model::network::NetworkRecord,
    options: Option<&ServiceNetwork>,
    mut aliases: Vec<String>,
) -> Result<Attachment> {
    let options = options.cloned().unwrap_or_default();
    let (ipv4, ipv6) = addresses(&options)?;
    let link_local = link_local(&options)?;
    // Docker's older way to name an interface.
    let interface = options.interface_name.or_else(|| options.driver_opts.get(INTERFACE_OPTION).cloned());
    aliases.extend(options.aliases);
    Ok(Attachment {
        network: network.id.clone(),
        network_name: network.name.clone(),
        aliases,
        ipv4,
        ipv6,
        mac: options.mac_address,
        interface,
        gateway_priority: options.gw_priority,
        link_local,
        links: BTreeMap::new(),
    })
}

/// Reads the published ports of a service.
pub(super) fn ports(ports: &[Port]) -> Result<Vec<PortBinding>> {
    ports.iter().map(port).collect()
}

pub(super) fn port(port: &Port) -> Result<PortBinding> {
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
