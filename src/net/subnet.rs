//! Ranges of addresses for networks: chosen from pools so that they collide with nothing, or checked as wished.

use super::{Host, Result};
use crate::model::network::{NetworkRecord, Subnet};
use crate::model::project::Ipam;

/// Which families a network speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4; on unless switched off.
    pub ipv4: bool,
    /// IPv6; off unless switched on or an IPv6 subnet is wished.
    pub ipv6: bool,
}

impl Default for Families {
    fn default() -> Self {
        Self { ipv4: true, ipv6: false }
    }
}

/// Returns the subnets of a new network, IPv4 first: the wished ones, checked, and for a family without a wish
/// a free one.
///
/// `existing` are all networks of the store. The caller holds a lock that keeps others from choosing meanwhile.
/// Errors: `InvalidAddress`, `OutsideSubnet`, `Overlap` for wishes; `NoFreeSubnet` names what takes the pools.
pub fn choose(
    host: &Host,
    existing: &[NetworkRecord],
    wished: Option<&Ipam>,
    families: Families,
) -> Result<Vec<Subnet>> {
    let _ = (host, existing, wished, families);
    todo!()
}
