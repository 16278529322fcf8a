//! A network on the host: its bridge, the bridge's addresses, its elements in the packet filter.

use std::collections::BTreeMap;

use super::subnet::Families;
use super::{Host, Result};
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

/// Returns the record of a new network, with free subnets and the MTU of the host's way out. Makes nothing.
///
/// `existing` are all networks of the store; the caller holds the lock under which the record will be stored.
pub fn record(host: &Host, existing: &[NetworkRecord], wish: Wish) -> Result<NetworkRecord> {
    let _ = (host, existing, wish);
    todo!()
}

/// Makes or completes the network on the host: bridge, addresses, forwarding, packet filter elements.
/// Idempotent and cheap (about 20 µs) when nothing is missing.
///
/// [`super::firewall::ensure`] must have been called before in this boot.
pub fn ensure(host: &Host, network: &NetworkRecord) -> Result<()> {
    let _ = (host, network);
    todo!()
}

/// Removes the network from the host: one message deletes the bridge and all links of its group. A network
/// that is not there is fine.
pub fn remove(host: &Host, network: &NetworkRecord) -> Result<()> {
    let _ = (host, network);
    todo!()
}
