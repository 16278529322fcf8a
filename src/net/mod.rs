//! Container networking: bridges, links, addresses, packet filter rules and published ports.
//!
//! ```text
//!   container netns            host netns
//!   eth0 ── veth ──────────── wh-3f…a1 ─┐
//!   eth0 ── veth ──────────── wh-77…02 ─┼─ bridge wh-<network> ── routing ── nftables `inet wharf` ── eth0
//!                                       ┘
//! ```
//!
//! The way of a start: [`firewall::ensure`] (base rules, once a boot), [`network::ensure`] (bridge and its set
//! elements), [`endpoint::connect`] (addresses, record, link), `supervise::dns`, [`port::publish`]. On the way
//! back: [`port::unpublish`] and [`endpoint::disconnect`]; links die with their network namespace.
//!
//! Invariants: every bridge and link of ours has a name that begins with `wh-` (unless the user named the
//! bridge); every change of the packet filter is one netlink batch on the table of the own wharf root
//! ([`Host::table`]); nothing foreign is changed but for two accepting rules at the head of a foreign FORWARD
//! chain that would drop our packets. A record of an endpoint is in the run folder before the container's
//! process starts, so that no query can miss it.
//!
//! Messages are those of the `rtnetlink` crate, sent over a blocking socket: no runtime, no thread.
//!
//! It does not answer DNS queries (`supervise::dns` does) and does not decide who may be in which network.

mod conntrack;
pub mod endpoint;
mod error;
pub mod etc;
pub mod firewall;
pub mod heal;
pub mod host;
pub mod lease;
mod netlink;
pub mod netns;
pub mod network;
pub mod nft;
pub mod port;
pub mod rtnl;
pub mod subnet;

pub use error::{ADDRESS_IN_USE, Error, PortHolder, Result};
pub use host::Host;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
