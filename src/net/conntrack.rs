//! Forgets UDP connections to a host port, which the kernel would go on sending where they went before: to nobody
//! when the port was just published, to an address that may be another's when it no longer is.
//!
//! TCP needs none of this: a new connection is looked up anew, and an old one belongs to its end.
//!
//! Source: linux/netfilter/nfnetlink_conntrack.h; `CTA_FILTER` (Linux 5.8) lets the kernel choose.

use std::net::IpAddr;

use super::netlink::{self, ACK, Answer, DUMP, REQUEST, attribute};
use super::nft::{Attributes, begin, finish};
use super::{Error, Result};

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// `CTA_TUPLE_ORIG`: the connection as its first packet had it.
const ORIGINAL: u16 = 1;
const UDP: u8 = 17;
/// Length of `struct nfgenmsg`.
const GENERIC: usize = 4;

/// Forgets the UDP connections to this port of any host address of the family of `address`.
pub(super) fn forget_udp(address: IpAddr, port: u16) -> Result<()> {
    let failed = |source| Error::Firewall { operation: format!("forget UDP connections to port {port}"), source };
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let mut socket = netlink::Socket::open(Some(rustix::net::netlink::NETFILTER)).map_err(failed)?;
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut refused = None;
    socket
        .talk(&list(family, port), |answer| match answer {
            Answer::Message(_, payload) => {
                let tuple = attribute(payload.get(GENERIC..).unwrap_or_default(), ORIGINAL);
                found.extend(tuple.filter(|tuple| is_to(tuple, port)).map(<[u8]>::to_vec));
            }
            Answer::Result(_, error) => refused = error.or(refused.take()),
        })
        .map_err(failed)?;
    if let Some(error) = refused {
        return Err(failed(error));
    }
    for tuple in found {
        let mut request = Vec::with_capacity(128);
        let start = begin(&mut request, DELETE, REQUEST | ACK, 1, family, 0);
        Attributes::of(&mut request).nested(ORIGINAL, |inner| inner.raw(&tuple));
        finish(&mut request, start);
        // One that ended by itself meanwhile is as good as forgotten.
        socket.talk(&request, |_| {}).map_err(failed)?;
    }
    Ok(())
}

/// Asks for the UDP connections to a port.
fn list(family: u8, port: u16) -> Vec<u8> {
    /// `CTA_FILTER_F_CTA_PROTO_NUM` and `CTA_FILTER_F_CTA_PROTO_DST_PORT` (net/netfilter/nf_conntrack_netlink.c).
    const PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;
    let mut request = Vec::with_capacity(128);
    let start = begin(&mut request, GET, REQUEST | DUMP, 1, family, 0);
    let mut attributes = Attributes::of(&mut request);
    // CTA_TUPLE_PROTO {CTA_PROTO_NUM, CTA_PROTO_DST_PORT}.
    attributes.nested(ORIGINAL, |tuple| {
        tuple.nested(2, |protocol| {
            protocol.bytes(1, &[UDP]).bytes(3, &port.to_be_bytes());
        });
    });
    // CTA_FILTER {CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS}, in the host's byte order.
    attributes.nested(25, |filter| {
        filter.bytes(1, &PROTOCOL_AND_PORT.to_ne_bytes()).bytes(2, &0u32.to_ne_bytes());
    });
    finish(&mut request, start);
    request
}

fn is_to(tuple: &[u8], port: u16) -> bool {
    let Some(protocol) = attribute(tuple, 2) else { return false };
    attribute(protocol, 1) == Some(&[UDP]) && attribute(protocol, 3) == Some(&port.to_be_bytes()[..])
}
