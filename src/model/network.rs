//! Networks, a container's place in them, and the addresses it got.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::base::id::{ContainerId, NetworkId};

/// A network as it is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its identifier.
    pub id: NetworkId,
    /// Its unique name.
    pub name: String,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// Name of its bridge, `wh-` and 10 digits of the id unless an option names another.
    pub bridge: String,
    /// No way out, and none in but from the host.
    pub internal: bool,
    /// Subnets, IPv4 first.
    pub subnets: Vec<Subnet>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Interface group of its links, so that one message deletes them all.
    pub link_group: u32,
    /// Driver options as given.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// First address of the range.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// The bridge's address.
    pub gateway: IpAddr,
    /// Part of the range that free addresses are taken from (`ip_range`).
    pub pool: Option<(IpAddr, u8)>,
    /// Addresses never given out.
    pub reserved: Vec<IpAddr>,
    /// Whether the user chose it; fixed addresses need that.
    pub chosen: bool,
}

/// A container's wish to be in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network.
    pub network: NetworkId,
    /// Its name when the container was made, for messages.
    pub network_name: String,
    /// Names that resolve to the container there, besides its own name and short id.
    pub aliases: Vec<String>,
    /// Fixed IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Fixed IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Fixed MAC address, `02:42:…`.
    pub mac: Option<String>,
    /// Interface name; default `eth0` and on.
    pub interface: Option<String>,
    /// The highest gives the default route.
    pub gateway_priority: i64,
    /// Further addresses of its interface, which nothing else knows of.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// Names that only this container knows, and the names that they stand for (`external_links`).
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}

/// What a running container has in a network. Kept in the run folder: it is gone after a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The container.
    pub container: ContainerId,
    /// The network.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// All names that resolve to it: container name, short id, aliases, host name.
    pub names: Vec<String>,
    /// Interface inside.
    pub interface: String,
    /// Its IPv4 address and prefix length.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// Its IPv6 address and prefix length.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// Gateways, IPv4 and IPv6; none in an internal network.
    pub gateways: Vec<IpAddr>,
    /// Whether the container's default route leads through it; published ports do then, too.
    #[serde(default)]
    pub default_route: bool,
    /// MAC address.
    pub mac: String,
    /// Name of the host's end of the link.
    pub host_link: String,
    /// Further addresses of the interface.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    /// Names that only this container knows, and what they stand for.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}
