//! A container's place in its networks: address, record, link, route.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::{Host, Result};
use crate::base::id::{ContainerId, NetworkId};
use crate::model::container::ContainerSpec;
use crate::model::network::{Endpoint, NetworkRecord};

/// Connects a container that has not started yet: leases addresses, writes the endpoint records to the run
/// folder, makes the links in `netns` with addresses and routes, brings up `lo`, sets the `net.*` sysctls.
///
/// Returns one endpoint an attachment, in the same order; none for the modes `None` (only `lo` is brought up),
/// `Host` and `Container` (nothing is done). `networks` holds at least the records of its attachments, each
/// already ensured. `reserved` are the fixed addresses of other containers' specs in these networks (stopped
/// ones too), which are never leased. On error nothing stays behind.
/// Errors: `AddressInUse`, `NoFreeAddress`, `FixedAddress`, `InterfaceName`, `Invalid`, `Link`.
pub fn connect(
    host: &Host,
    networks: &[NetworkRecord],
    spec: &ContainerSpec,
    netns: BorrowedFd<'_>,
    reserved: &[(NetworkId, IpAddr)],
) -> Result<Vec<Endpoint>> {
    let _ = (host, networks, spec, netns, reserved);
    todo!()
}

/// Removes a container's records and leases from these networks. Its links die with its namespace.
pub fn disconnect<'a>(
    host: &Host,
    container: &ContainerId,
    networks: impl IntoIterator<Item = &'a NetworkId>,
) -> Result<()> {
    for network in networks {
        let _ = (host, container, network);
    }
    todo!()
}
