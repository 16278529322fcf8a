//! A network on the host: its bridge, the bridge's addresses, its elements in the packet filter.
//!
//! Steps of [`ensure`]: elements of the packet filter; the bridge, down; its kernel parameters; addresses and up.
//! So a bridge that is up is complete, whenever an earlier attempt was killed.

use std::collections::BTreeMap;
use std::path::Path;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};

use super::firewall::{self, elements};
use super::rtnl::{Existing, Link, Step, address_message};
use super::subnet::{self, Families};
use super::{Error, Host, Result};
use crate::base::fs::{self, Context};
use crate::base::id::{NetworkId, random_hex};
use crate::model::network::NetworkRecord;
use crate::model::project::Ipam;

/// What a new network should be.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Its unique name.
    pub name: String,
    /// No way out, and none in but from the host.
    pub internal: bool,
    /// Addresses.
    pub ipam: Option<Ipam>,
    /// Families.
    pub families: Families,
    /// Driver options (`com.docker.network.driver.mtu`, `com.docker.network.bridge.name`).
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Name of the network that plain `run` uses.
pub const DEFAULT_NAME: &str = "bridge";
/// Bytes of an interface's name without the final zero (IFNAMSIZ, linux/if.h).
const INTERFACE_NAME_BYTES: usize = 15;

/// Returns the record of a new network, with free subnets and the MTU of the host's way out. Makes nothing.
///
/// `existing` are all networks of the store; the caller holds the lock under which the record will be stored.
/// Errors: those of [`subnet::choose`]; `InterfaceName` and `Invalid` for options.
pub fn record(host: &Host, existing: &[NetworkRecord], wish: Wish) -> Result<NetworkRecord> {
    let id = NetworkId::random();
    let bridge = match wish.options.get("com.docker.network.bridge.name") {
        Some(name) => {
            check_interface_name(name, &wish.name)?;
            if existing.iter().any(|network| network.bridge == *name) {
                let reason = "is the bridge of another network";
                return Err(Error::InterfaceName { name: name.clone(), network: wish.name, reason });
            }
            name.clone()
        }
        None => format!("wh-{}", &id.as_str()[..10]),
    };
    let mtu =
        match wish.options.get("com.docker.network.driver.mtu") {
            Some(text) => text.parse().ok().filter(|mtu| (68..=65_535).contains(mtu)).ok_or_else(|| {
                Error::Invalid { what: "mtu", text: text.clone(), reason: "it must be a number from 68 to 65535" }
            })?,
            None => subnet::mtu_of_way_out(host)?,
        };
    let size = if wish.name == DEFAULT_NAME { subnet::Size::Large } else { subnet::Size::Usual };
    let subnets = subnet::choose(host, existing, wish.ipam.as_ref(), wish.families, size)?;
    Ok(NetworkRecord {
        id,
        name: wish.name,
        created: jiff::Timestamp::now(),
        bridge,
        internal: wish.internal,
        subnets,
        mtu,
        link_group: random_group(),
        options: wish.options,
        labels: wish.labels,
    })
}

/// A number that no other tool's group is likely to have. Groups below a million are for people.
fn random_group() -> u32 {
    let random = u32::from_str_radix(&random_hex(4), 16).unwrap_or(u32::MAX);
    (random >> 1).max(1_000_000)
}

/// Makes or completes the network on the host: bridge, addresses, forwarding, packet filter elements.
/// Idempotent and cheap (about 20 µs) when nothing is missing.
///
/// [`super::firewall::ensure`] must have been called before in this boot.
pub fn ensure(host: &Host, network: &NetworkRecord) -> Result<()> {
    firewall::add(host, &elements::of_network(network))?;
    let found = host.links()?.link(&network.bridge)?;
    let link = match found {
        Some(link) => link,
        None => make_bridge(host, network)?,
    };
    if !link.up {
        set_parameters(network)?;
    }
    let mut steps: Vec<Step> = network
        .subnets
        .iter()
        .map(|subnet| Step {
            what: "give the gateway's address to bridge",
            message: RouteNetlinkMessage::NewAddress(address_message(link.index, subnet.gateway, subnet.prefix)),
            existing: Existing::Accept,
        })
        .collect();
    if !link.up {
        let up = LinkUnspec::new_with_index(link.index).up().build();
        let message = RouteNetlinkMessage::NewLink(up);
        steps.push(Step { what: "switch on bridge", message, existing: Existing::Change });
    }
    host.links()?.execute(&network.bridge, steps)
}

fn make_bridge(host: &Host, network: &NetworkRecord) -> Result<Link> {
    // Without snooping a port is added faster, and containers' multicast is flooded as on a plain switch.
    let message = LinkMessageBuilder::<LinkBridge>::new(&network.bridge)
        .mcast_snooping(false)
        .mtu(network.mtu)
        .link_group(network.link_group)
        .build();
    let step =
        Step { what: "create bridge", message: RouteNetlinkMessage::NewLink(message), existing: Existing::Accept };
    let named = LinkUnspec::new_with_name(&network.bridge);
    host.links()?.execute(&network.bridge, vec![step, no_link_local_address(named)])?;
    host.links()?.link(&network.bridge)?.ok_or_else(|| Error::Link {
        operation: format!("create bridge `{}`", network.bridge),
        source: std::io::Error::from_raw_os_error(libc::ENODEV),
    })
}

/// Kernel parameters of a bridge: 127.0.0.0/8 may be routed through it (that is how 127.0.0.1:port reaches a
/// container; the packet filter drops such packets when they come from one), and router advertisements of
/// containers are not believed.
fn set_parameters(network: &NetworkRecord) -> Result<()> {
    let set = |family: &str, name: &str, value: &str| -> fs::Result<()> {
        let path = format!("/proc/sys/net/{family}/conf/{}/{name}", network.bridge);
        std::fs::write(&path, value).context("write", Path::new(&path))
    };
    set("ipv4", "route_localnet", "1")?;
    let ipv6 = network.subnets.iter().any(|subnet| subnet.address.is_ipv6());
    // A kernel without IPv6 has no such file; it cannot have such a network either.
    match set("ipv6", "accept_ra", "0") {
        Err(error) if error.is_not_found() && !ipv6 => {}
        other => other?,
    }
    if ipv6 { firewall::forward_ipv6() } else { Ok(()) }
}

/// Interfaces of ours need no link-local IPv6 address of their own making. The kernel takes this only after it made
/// the link, and it must be before the link is up.
pub(super) fn no_link_local_address(link: LinkMessageBuilder<LinkUnspec>) -> Step {
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let attribute = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]);
    let message = RouteNetlinkMessage::NewLink(link.append_extra_attribute(attribute).build());
    Step { what: "take the link-local address from", message, existing: Existing::ChangeIpv6 }
}

/// Removes the network from the host: one message deletes the bridge and all links of its group. A network
/// that is not there is fine.
pub fn remove(host: &Host, network: &NetworkRecord) -> Result<()> {
    delete_group(host, network)?;
    firewall::delete(host, &elements::of_network(network))
}

fn delete_group(host: &Host, network: &NetworkRecord) -> Result<()> {
    // Group 0 is that of every link which has none: never.
    if network.link_group == 0 || host.links()?.link(&network.bridge)?.is_none() {
        return Ok(());
    }
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(network.link_group));
    let step =
        Step { what: "remove bridge", message: RouteNetlinkMessage::DelLink(message), existing: Existing::Change };
    match host.links()?.execute(&network.bridge, vec![step]) {
        Err(Error::Link { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Checks a name as the kernel does (`dev_valid_name`, net/core/dev.c).
pub(super) fn check_interface_name(name: &str, network: &str) -> Result<()> {
    let reason = if name.is_empty() || name.len() > INTERFACE_NAME_BYTES {
        "must have 1 to 15 characters"
    } else if name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace())
    {
        "has characters that no interface can have"
    } else if name == "lo" || name == "all" || name == "default" {
        "is reserved"
    } else {
        return Ok(());
    };
    Err(Error::InterfaceName { name: name.to_owned(), network: network.to_owned(), reason })
}
