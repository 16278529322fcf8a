//! The fixed rules of the table, as `nft list table inet wharf` shows them:
//!
//! ```text
//! chain early   { type filter hook prerouting priority raw;
//!     iifname @bridges ip daddr 127.0.0.0/8 drop }                  # bridges route 127/8, containers must not use it
//! chain arrive  { type nat hook prerouting priority dstnat;
//!     ip daddr & 255.0.0.0 != 127.0.0.0 fib daddr type local jump publish
//!     ip6 …                             fib daddr type local jump publish }
//! chain local   { type nat hook output priority -100;
//!     fib daddr type local jump publish }
//! chain publish {
//!     dnat ip to ip daddr . meta l4proto . th dport map @ports4_on  # published on one address
//!     dnat ip to meta l4proto . th dport map @ports4                # published on every address
//!     … the same for IPv6 }
//! chain leave   { type nat hook postrouting priority srcnat;
//!     ip saddr 127.0.0.0/8 oifname @bridges masquerade              # host -> 127.0.0.1:port -> container
//!     ct status dnat ip saddr . ip daddr @own4 masquerade           # container -> host:port -> same network
//!     iifname @outward oifname != @bridges masquerade }             # container -> world
//! chain pass    { type filter hook forward priority filter;
//!     ct state established,related accept
//!     iifname . oifname @same accept                                # inside one network (bridge-nf-call-iptables)
//!     iifname @closed drop; oifname @closed drop                    # internal networks
//!     oifname @bridges jump inward }
//! chain inward  { ct status dnat <address . l4proto . dport> @open4 accept; …6; drop }
//! ```
//!
//! [::1] cannot be translated (the kernel has no route_localnet for IPv6): such a connection gets to the port's
//! reservation, which relays it.

use crate::net::nft::expression::{Conntrack, Expression, FIRST, Meta};
use crate::net::nft::{Batch, Chain, Hook, Set, SetKind};

/// Comment of the table. To be changed with every change of this file.
pub(super) const VERSION: &str = "rules 2";

/// nft's numbers of types and their lengths in bytes (nftables, datatype.h).
const ADDRESS4: (u32, u32) = (7, 4);
const ADDRESS6: (u32, u32) = (8, 16);
const PROTOCOL: (u32, u32) = (12, 1);
const PORT: (u32, u32) = (13, 2);
const INTERFACE: (u32, u32) = (41, 16);

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

const SETS: &[Set] = &[
    set("bridges", &[INTERFACE]),
    set("closed", &[INTERFACE]),
    set("outward", &[INTERFACE]),
    set("same", &[INTERFACE, INTERFACE]),
    set("open4", &[ADDRESS4, PROTOCOL, PORT]),
    set("open6", &[ADDRESS6, PROTOCOL, PORT]),
    Set { name: "own4", key: &[ADDRESS4, ADDRESS4], value: None, ranges: true },
    Set { name: "own6", key: &[ADDRESS6, ADDRESS6], value: None, ranges: true },
    map("ports4", &[PROTOCOL, PORT], &[ADDRESS4, PORT]),
    map("ports4_on", &[ADDRESS4, PROTOCOL, PORT], &[ADDRESS4, PORT]),
    map("ports6", &[PROTOCOL, PORT], &[ADDRESS6, PORT]),
    map("ports6_on", &[ADDRESS6, PROTOCOL, PORT], &[ADDRESS6, PORT]),
];

const CHAINS: &[Chain] = &[
    Chain { name: "publish", base: None },
    Chain { name: "inward", base: None },
    Chain { name: "early", base: Some(("filter", Hook::Prerouting, -300)) },
    Chain { name: "arrive", base: Some(("nat", Hook::Prerouting, -100)) },
    Chain { name: "local", base: Some(("nat", Hook::Output, -100)) },
    Chain { name: "leave", base: Some(("nat", Hook::Postrouting, 100)) },
    Chain { name: "pass", base: Some(("filter", Hook::Forward, 0)) },
];

const fn set(name: &'static str, key: SetKind) -> Set {
    Set { name, key, value: None, ranges: false }
}

const fn map(name: &'static str, key: SetKind, value: SetKind) -> Set {
    Set { name, key, value: Some(value), ranges: false }
}

/// Writes the table with its sets, chains and rules; EEXIST when there is one.
pub(super) fn write(batch: &mut Batch) {
    batch.add_table(VERSION, true);
    SETS.iter().for_each(|set| batch.add_set(*set));
    CHAINS.iter().for_each(|chain| batch.add_chain(*chain));
    publish(batch);
    inward(batch);
    early_and_local(batch);
    leave(batch);
    pass(batch);
}

use Expression::{
    Accept, Conntrack as Track, DestinationNat, DestinationPort, DestinationType, Drop, Equal, In, Jump, Map, Mask,
    Masquerade, Meta as Load, Network, NotEqual,
};

/// `meta nfproto`.
fn family(number: u8) -> [Expression; 2] {
    [Load(Meta::Family, FIRST), Equal(vec![number])]
}

/// `fib daddr type local`: RTN_LOCAL, in the host's byte order.
fn to_the_host() -> [Expression; 2] {
    [DestinationType, Equal(2u32.to_ne_bytes().to_vec())]
}

/// The destination address into the first register: offset 16 of an IPv4 header, 24 of an IPv6 one.
fn destination(number: u8) -> (Expression, u32) {
    if number == IPV4 { (Network(16, 4, FIRST), FIRST + 1) } else { (Network(24, 16, FIRST), FIRST + 4) }
}

/// `iifname @set` or `oifname @set`.
fn interface_in(meta: Meta, set: &'static str) -> [Expression; 2] {
    [Load(meta, FIRST), In(set, true)]
}

/// `ct status dnat`: IPS_DST_NAT is bit 5.
fn translated() -> [Expression; 3] {
    let bit = 32u32.to_ne_bytes().to_vec();
    [Track(Conntrack::Status), Mask(bit), NotEqual(vec![0; 4])]
}

fn publish(batch: &mut Batch) {
    for (number, on, any) in [(IPV4, "ports4_on", "ports4"), (IPV6, "ports6_on", "ports6")] {
        let (address, next) = destination(number);
        let nat = DestinationNat(number, next);
        let key = [address, Load(Meta::Protocol, next), DestinationPort(next + 1), Map(on), nat.clone()];
        batch.add_rule("publish", &[&family(number)[..], &key].concat());
        let key = [Load(Meta::Protocol, FIRST), DestinationPort(FIRST + 1), Map(any), nat];
        batch.add_rule("publish", &[&family(number)[..], &key].concat());
    }
}

fn inward(batch: &mut Batch) {
    for (number, open) in [(IPV4, "open4"), (IPV6, "open6")] {
        let (address, next) = destination(number);
        let key = [address, Load(Meta::Protocol, next), DestinationPort(next + 1), In(open, true), Accept];
        batch.add_rule("inward", &[&translated()[..], &family(number), &key].concat());
    }
    batch.add_rule("inward", &[Drop]);
}

fn early_and_local(batch: &mut Batch) {
    let loopback4 = [Network(16, 1, FIRST), Equal(vec![127])];
    let not_loopback4 = [Network(16, 1, FIRST), NotEqual(vec![127])];
    let mut one = vec![0u8; 16];
    one[15] = 1;
    let not_loopback6 = [Network(24, 16, FIRST), NotEqual(one)];
    // fe80::/10: an answer from inside could not find its way back.
    let not_link_local = [Network(24, 2, FIRST), Mask(vec![0xff, 0xc0]), NotEqual(vec![0xfe, 0x80])];
    let bridges = interface_in(Meta::InName, "bridges");
    let go = [Jump("publish")];
    batch.add_rule("early", &[&bridges[..], &family(IPV4), &loopback4, &[Drop]].concat());
    batch.add_rule("arrive", &[&family(IPV4)[..], &not_loopback4, &to_the_host(), &go].concat());
    batch.add_rule("arrive", &[&family(IPV6)[..], &not_link_local, &to_the_host(), &go].concat());
    batch.add_rule("local", &[&family(IPV4)[..], &to_the_host(), &go].concat());
    batch.add_rule("local", &[&family(IPV6)[..], &not_link_local, &not_loopback6, &to_the_host(), &go].concat());
}

fn leave(batch: &mut Batch) {
    let from_loopback = [Network(12, 1, FIRST), Equal(vec![127])];
    let to_bridge = interface_in(Meta::OutName, "bridges");
    batch.add_rule("leave", &[&family(IPV4)[..], &from_loopback, &to_bridge, &[Masquerade]].concat());
    // Source and destination stand side by side in both headers: one load takes both.
    for (number, own, offset, length) in [(IPV4, "own4", 12, 8), (IPV6, "own6", 8, 32)] {
        let both = [Network(offset, length, FIRST), In(own, true), Masquerade];
        batch.add_rule("leave", &[&family(number)[..], &translated(), &both].concat());
    }
    let to_others = [Load(Meta::OutName, FIRST), In("bridges", false), Masquerade];
    batch.add_rule("leave", &[&interface_in(Meta::InName, "outward")[..], &to_others].concat());
}

fn pass(batch: &mut Batch) {
    // Established (2) or related (4).
    let known = [Track(Conntrack::State), Mask(6u32.to_ne_bytes().to_vec()), NotEqual(vec![0; 4]), Accept];
    batch.add_rule("pass", &known);
    let same = [Load(Meta::InName, FIRST), Load(Meta::OutName, FIRST + 4), In("same", true), Accept];
    batch.add_rule("pass", &same);
    batch.add_rule("pass", &[&interface_in(Meta::InName, "closed")[..], &[Drop]].concat());
    batch.add_rule("pass", &[&interface_in(Meta::OutName, "closed")[..], &[Drop]].concat());
    batch.add_rule("pass", &[&interface_in(Meta::OutName, "bridges")[..], &[Jump("inward")]].concat());
}
