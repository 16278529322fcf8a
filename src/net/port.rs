//! Published ports: a reservation on the host and one element in a map of the packet filter.

use std::os::fd::OwnedFd;

use super::{Host, Result};
use crate::model::container::{PortBinding, PublishedPort};
use crate::model::network::Endpoint;

/// Ports that are reachable, and the sockets that keep others from taking them.
#[derive(Debug)]
pub struct Publication {
    /// The ports with the host addresses and ports that were chosen.
    pub ports: Vec<PublishedPort>,
    /// Held by the supervisor while the container lives; nothing is ever accepted or read from them.
    pub reservations: Vec<OwnedFd>,
}

/// Publishes ports of a container with these endpoints: reserves each on the host, then directs it inside.
///
/// A container that is only in internal networks is reachable on 127.0.0.1 alone. Without any endpoint nothing
/// is published. On error nothing stays behind.
/// Errors: `PortInUse` names the address and, where it can be found, the process that holds it.
pub fn publish(host: &Host, wished: &[PortBinding], endpoints: &[Endpoint]) -> Result<Publication> {
    let _ = (host, wished, endpoints);
    todo!()
}

/// Reserves ports again that are published already: for a supervisor that takes over from a dead one.
pub fn reserve_again(published: &[PublishedPort]) -> Result<Vec<OwnedFd>> {
    let _ = published;
    todo!()
}

/// Takes back what [`publish`] directed inside. To be called before the reservations are closed; what is gone
/// already is fine, and what another container has taken meanwhile stays.
pub fn unpublish(host: &Host, published: &[PublishedPort], endpoints: &[Endpoint]) -> Result<()> {
    let _ = (host, published, endpoints);
    todo!()
}
