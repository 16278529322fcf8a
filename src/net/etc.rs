//! The content of a container's /etc/hosts and /etc/resolv.conf.

use super::Result;
use crate::model::container::ContainerSpec;
use crate::model::network::Endpoint;

/// The two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcFiles {
    /// /etc/hosts.
    pub hosts: String,
    /// /etc/resolv.conf. Both are bind mounts: rewrite in place, never rename.
    pub resolv_conf: String,
}

/// Returns both files for a container with these endpoints (those of [`super::endpoint::connect`]).
///
/// A container in networks asks 127.0.0.11 (its supervisor); one without or with the host's network gets the
/// host's servers, or those of its spec. `host-gateway` in `extra_hosts` is the gateway of its first network.
pub fn etc_files(spec: &ContainerSpec, endpoints: &[Endpoint]) -> Result<EtcFiles> {
    let _ = (spec, endpoints);
    todo!()
}
