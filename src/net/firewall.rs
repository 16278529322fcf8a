//! The packet filter: one table with fixed rules whose sets and maps hold all that changes.

use super::{Host, Result};
use crate::model::container::PublishedPort;
use crate::model::network::{Endpoint, NetworkRecord};

/// What the table must hold: read from the store when the table has to be built.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// All networks of the store.
    pub networks: Vec<NetworkRecord>,
    /// Published ports and endpoints of each running container.
    pub running: Vec<(Vec<PublishedPort>, Vec<Endpoint>)>,
}

/// Makes sure that the table and its rules are there; fills it from `contents` when it had to be made (first
/// use in this boot, `nft flush ruleset`, another version of wharf). About 20 µs when it is there.
///
/// Also switches on forwarding and makes room in a foreign FORWARD chain that would drop our packets.
pub fn ensure(host: &Host, contents: impl FnOnce() -> Contents) -> Result<()> {
    let _ = (host, contents());
    todo!()
}

/// Removes the table of this root.
pub fn remove(host: &Host) -> Result<()> {
    let _ = host;
    todo!()
}
