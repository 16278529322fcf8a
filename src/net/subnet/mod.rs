//! Ranges of addresses for networks: chosen from pools so that they collide with nothing, or checked as wished.
//!
//! Taken are: the networks of the store; the host's routes in all tables (so those of a VPN, too) and its
//! addresses; its name servers. A route of a very wide range (`0.0.0.0/1` of a VPN) takes nothing. When routes
//! through a gateway cover every pool (a VPN that claims 10/8, 172.16/12 and 192.168/16), a subnet inside such a
//! wide route is chosen after all: better than none, and it hides 256 addresses of it.

mod range;
mod taken;

use std::net::IpAddr;

pub use range::Range;
pub(super) use taken::mtu_of_way_out;
use taken::{Taken, Why};

use super::{Error, Host, Result};
use crate::base::id::Digest;
use crate::model::network::{NetworkRecord, Subnet};
use crate::model::project::{Ipam, IpamConfig};

/// Where IPv4 subnets come from, in this order: 832 of them. Away from what Docker (172.17.0.0 on), Podman
/// (10.88.0.0 on) and home routers (192.168.0.0 on) take first.
const POOLS: [&str; 4] = ["10.213.0.0/16", "10.214.0.0/16", "172.30.0.0/16", "192.168.192.0/18"];
/// Length of the prefix of a chosen IPv4 subnet: 253 containers.
const PREFIX4: u8 = 24;
/// The same for the network of containers that name none: as many as a bridge has ports, and more.
const PREFIX4_OF_DEFAULT: u8 = 21;
/// Length of the prefix of a chosen IPv6 subnet.
const PREFIX6: u8 = 64;

/// Which families a network speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// IPv4; on unless switched off.
    pub ipv4: bool,
    /// IPv6; off unless switched on or an IPv6 subnet is wished.
    pub ipv6: bool,
}

/// How many containers a network is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Those of a project.
    Usual,
    /// All that name no network.
    Large,
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
    size: Size,
) -> Result<Vec<Subnet>> {
    let taken = Taken::read(host, existing)?;
    let mut subnets = Vec::new();
    let mut bare = None;
    for config in wished.map_or(&[][..], |ipam| &ipam.config) {
        match &config.subnet {
            Some(subnet) => subnets.push(check(config, Range::parse(subnet)?, &taken, true)?),
            // Gateway or aux_addresses for a subnet that we choose cannot be right but by chance; checked below.
            None => bare = Some(config),
        }
    }
    let has = |subnets: &[Subnet], ipv4| subnets.iter().any(|subnet| subnet.address.is_ipv4() == ipv4);
    if families.ipv4 && !has(&subnets, true) {
        let range = match size {
            Size::Usual => free_ipv4(&taken, PREFIX4)?,
            // Where so much is not left in one piece, a usual one does.
            Size::Large => free_ipv4(&taken, PREFIX4_OF_DEFAULT).or_else(|_| free_ipv4(&taken, PREFIX4))?,
        };
        subnets.push(check(bare.unwrap_or(&IpamConfig::default()), range, &taken, false)?);
    }
    if families.ipv6 && !has(&subnets, false) {
        subnets.push(check(&IpamConfig::default(), free_ipv6(&taken)?, &taken, false)?);
    }
    subnets.sort_by_key(|subnet| !subnet.address.is_ipv4());
    Ok(subnets)
}

/// Checks a wish and fills in what it leaves open.
fn check(config: &IpamConfig, range: Range, taken: &Taken, chosen: bool) -> Result<Subnet> {
    let hardest = taken.overlapping(range).into_iter().find(|(_, why)| *why != Why::GatewayRoute);
    if let (true, Some((with, _))) = (chosen, hardest) {
        return Err(Error::Overlap { subnet: range.to_string(), with });
    }
    let inside = |what: &'static str, text: &str| -> Result<Range> {
        let found = Range::parse(text)?;
        if range.covers(&found) {
            Ok(found)
        } else {
            Err(Error::OutsideSubnet { what, address: text.to_owned(), subnet: range.to_string() })
        }
    };
    let address = |what: &'static str, text: &str| -> Result<IpAddr> {
        let plain = text.split('/').next().unwrap_or(text);
        Ok(inside(what, plain)?.first())
    };
    let pool = config.ip_range.as_deref().map(|text| inside("ip_range", text)).transpose()?;
    let reserved =
        config.aux_addresses.values().map(|text| address("aux_address", text)).collect::<Result<Vec<_>>>()?;
    let gateway = match &config.gateway {
        Some(text) => address("gateway", text)?,
        None => first_free(range, &reserved).ok_or_else(|| Error::NoFreeSubnet {
            conflicts: format!("{range} is too small for a gateway and a container"),
        })?,
    };
    Ok(Subnet {
        address: range.first(),
        prefix: range.prefix(),
        gateway,
        pool: pool.map(|pool| (pool.first(), pool.prefix())),
        reserved,
        chosen,
    })
}

/// The first address after the network's own that is not reserved; `None` when no container would fit in.
fn first_free(range: Range, reserved: &[IpAddr]) -> Option<IpAddr> {
    if range.last_offset() < 3 {
        return None;
    }
    (1..range.last_offset().min(70_000)).filter_map(|offset| range.nth(offset)).find(|found| !reserved.contains(found))
}

fn free_ipv4(taken: &Taken, prefix: u8) -> Result<Range> {
    let candidates = || POOLS.iter().filter_map(|pool| Range::parse(pool).ok()).flat_map(|pool| pool.cut(prefix));
    let mut conflicts: Vec<String> = Vec::new();
    for lenient in [false, true] {
        for candidate in candidates() {
            let overlapping = taken.overlapping(candidate);
            let tolerable = |why: Why| lenient && why == Why::GatewayRoute;
            if overlapping.iter().all(|(_, why)| tolerable(*why)) {
                return Ok(candidate);
            }
            for (with, _) in overlapping {
                if !conflicts.contains(&with) {
                    conflicts.push(with);
                }
            }
        }
    }
    const SHOWN: usize = 5;
    let rest = conflicts.len().saturating_sub(SHOWN);
    conflicts.truncate(SHOWN);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    Err(Error::NoFreeSubnet { conflicts: format!("{} overlap {}{more}", POOLS.join(", "), conflicts.join(", ")) })
}

/// The first free /64 of the host's own unique local /48 (RFC 4193), derived from its machine id.
fn free_ipv6(taken: &Taken) -> Result<Range> {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let digest = Digest::of(&machine);
    let hex = digest.hex();
    let prefix = format!("fd{}:{}:{}::/48", &hex[0..2], &hex[2..6], &hex[6..10]);
    let pool = Range::parse(&prefix)?;
    pool.cut(PREFIX6)
        .find(|candidate| taken.overlapping(*candidate).is_empty())
        .ok_or_else(|| Error::NoFreeSubnet { conflicts: format!("{prefix} is used up") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn taken(ranges: &[(&str, Why)]) -> Taken {
        Taken::of(ranges.iter().map(|(text, why)| (Range::parse(text).unwrap(), format!("<{text}>"), *why)).collect())
    }

    #[test]
    fn a_chosen_subnet_avoids_what_is_taken() {
        let free_ipv4 = |taken: &Taken| free_ipv4(taken, PREFIX4);
        assert_eq!(free_ipv4(&taken(&[])).unwrap().to_string(), "10.213.0.0/24");
        let used = taken(&[("10.213.0.0/24", Why::Network)]);
        assert_eq!(super::free_ipv4(&used, PREFIX4_OF_DEFAULT).unwrap().to_string(), "10.213.8.0/21");
        let own = taken(&[("10.213.0.0/24", Why::Network), ("10.213.1.128/25", Why::OnLink)]);
        assert_eq!(free_ipv4(&own).unwrap().to_string(), "10.213.2.0/24");
        let vpn = taken(&[("10.0.0.0/8", Why::GatewayRoute)]);
        assert_eq!(free_ipv4(&vpn).unwrap().to_string(), "172.30.0.0/24");
        let server = taken(&[("10.213.0.53/32", Why::NameServer)]);
        assert_eq!(free_ipv4(&server).unwrap().to_string(), "10.213.1.0/24");
    }

    #[test]
    fn a_vpn_over_all_private_ranges_leaves_a_way() {
        let free_ipv4 = |taken: &Taken| free_ipv4(taken, PREFIX4);
        let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].map(|text| (text, Why::GatewayRoute));
        assert_eq!(free_ipv4(&taken(&all)).unwrap().to_string(), "10.213.0.0/24");
        let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].map(|text| (text, Why::OnLink));
        let error = free_ipv4(&taken(&all)).unwrap_err().to_string();
        assert!(error.contains("<10.0.0.0/8>, <172.16.0.0/12>, <192.168.0.0/16>"), "{error}");
    }

    #[test]
    fn a_wish_is_checked() {
        let config = |gateway: Option<&str>, pool: Option<&str>, aux: &[&str]| IpamConfig {
            subnet: None,
            ip_range: pool.map(str::to_owned),
            gateway: gateway.map(str::to_owned),
            aux_addresses: aux.iter().map(|text| ((*text).to_owned(), (*text).to_owned())).collect::<BTreeMap<_, _>>(),
        };
        let range = Range::parse("172.28.5.0/24").unwrap();
        let free = taken(&[]);
        let subnet = check(&config(None, Some("172.28.5.128/25"), &["172.28.5.1"]), range, &free, true).unwrap();
        assert_eq!(subnet.gateway.to_string(), "172.28.5.2", "the first one that is not reserved");
        assert_eq!(subnet.pool.map(|(first, prefix)| (first.to_string(), prefix)), Some(("172.28.5.128".into(), 25)));
        for wrong in [config(Some("172.28.6.1"), None, &[]), config(None, Some("172.28.0.0/16"), &[])] {
            assert!(matches!(check(&wrong, range, &free, true), Err(Error::OutsideSubnet { .. })));
        }
        let used = taken(&[("172.28.0.0/16", Why::OnLink)]);
        let error = check(&IpamConfig::default(), range, &used, true).unwrap_err();
        assert_eq!(error.to_string(), "subnet 172.28.5.0/24 overlaps <172.28.0.0/16>");
        let tiny = Range::parse("10.9.9.0/31").unwrap();
        assert!(check(&IpamConfig::default(), tiny, &free, true).is_err());
    }
}
