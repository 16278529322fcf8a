//! What can go wrong with a container's network.

use std::net::IpAddr;

use crate::base::error::{Attribute, Explain};
use crate::base::fs;
use crate::model::container::Protocol;

/// The reason of [`Error::PortInUse`] where somebody else has the port.
pub const ADDRESS_IN_USE: &str = "address already in use";

/// Result of a network operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Who has a port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortHolder {
    /// `pid 4121, python3`.
    Process(String),
    /// The name of a container.
    Container(String),
}

impl std::fmt::Display for PortHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process(text) => f.write_str(text),
            Self::Container(name) => write!(f, "container {name}"),
        }
    }
}

/// An operation on the host's network that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused a link, an address or a route.
    #[error("cannot {operation}")]
    Link {
        /// What was tried, with the name of the link.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused a change of the packet filter.
    #[error("cannot {operation} in nftables")]
    Firewall {
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A namespace could not be entered or left.
    #[error("cannot enter the container's network namespace")]
    Namespace(#[source] std::io::Error),
    /// A file of the run folder or of /proc/sys.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// A record of the store.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// Text that should be an address or a range.
    #[error("`{text}` is not {expected}")]
    InvalidAddress {
        /// What was given.
        text: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// A wished range overlaps something that exists.
    #[error("subnet {subnet} overlaps {with}")]
    Overlap {
        /// The wished range.
        subnet: String,
        /// What it overlaps: a network's name or a route.
        with: String,
    },
    /// A gateway, pool or address outside its subnet.
    #[error("{what} {address} is not in subnet {subnet}")]
    OutsideSubnet {
        /// `gateway`, `ip_range`, `address`.
        what: &'static str,
        /// The stray.
        address: String,
        /// The subnet.
        subnet: String,
    },
    /// Every range that wharf may choose from is in use.
    #[error("no free subnet is left: {conflicts}")]
    NoFreeSubnet {
        /// What takes the pools, in words.
        conflicts: String,
    },
    /// Every address of a network is in use.
    #[error("network `{network}` has no free address in {subnet}")]
    NoFreeAddress {
        /// Its name.
        network: String,
        /// The range.
        subnet: String,
    },
    /// A fixed address is in use.
    #[error("address {address} in network `{network}` is in use by container {holder}")]
    AddressInUse {
        /// The address.
        address: IpAddr,
        /// The network's name.
        network: String,
        /// Who has it.
        holder: String,
    },
    /// A fixed address in a network whose subnet wharf chose, or without that family.
    #[error("network `{network}` cannot give the fixed address {address}: {reason}")]
    FixedAddress {
        /// The address.
        address: IpAddr,
        /// The network's name.
        network: String,
        /// Why not.
        reason: &'static str,
    },
    /// A host port that somebody else has.
    #[error("bind {address}:{port}/{protocol}: {reason}{}", holder.as_ref().map(|who| format!(" ({who})")).unwrap_or_default())]
    PortInUse {
        /// Host address, IPv6 in brackets.
        address: String,
        /// Host port; a range when none of it was free.
        port: String,
        /// Protocol.
        protocol: Protocol,
        /// The system's answer in words: `address already in use`.
        reason: String,
        /// Who has it, where that could be found.
        holder: Option<PortHolder>,
    },
    /// The names of interfaces that cannot be given.
    #[error("interface name `{name}` of network `{network}` {reason}")]
    InterfaceName {
        /// The name.
        name: String,
        /// The network's name.
        network: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A container names a network that is not among the records.
    #[error("network `{network}` does not exist")]
    UnknownNetwork {
        /// Its name.
        network: String,
    },
    /// Text in a spec that cannot be used.
    #[error("{what} `{text}` is not valid: {reason}")]
    Invalid {
        /// What it is: `mac address`, `sysctl`, `extra host`.
        what: &'static str,
        /// What was given.
        text: String,
        /// Why.
        reason: &'static str,
    },
}

impl Explain for Error {
    fn attribute(&self) -> Option<Attribute> {
        match self {
            Self::PortInUse { port, .. } => Some(Attribute::new(&["ports"], port)),
            Self::AddressInUse { address, .. } | Self::FixedAddress { address, .. } => {
                Some(Attribute::new(&["networks"], address.to_string()))
            }
            Self::OutsideSubnet { what: "address", address, .. } => Some(Attribute::new(&["networks"], address)),
            Self::InterfaceName { name, .. } => Some(Attribute::new(&["networks"], name)),
            Self::Invalid { what: "extra host", text, .. } => Some(Attribute::new(&["extra_hosts"], text)),
            Self::Invalid { what: "sysctl", text, .. } => Some(Attribute::new(&["sysctls"], text)),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::PortInUse { holder: Some(PortHolder::Container(name)), .. } => {
                Some(format!("stop that container (`wharf stop {name}`), or publish another port"))
            }
            Self::PortInUse { .. } => Some("stop what holds the port, or publish another one".into()),
            Self::Overlap { .. } => Some("choose another `subnet`, or leave it out".into()),
            Self::NoFreeSubnet { .. } => {
                Some("remove unused networks (`wharf network prune`) or give the network a `subnet`".into())
            }
            Self::NoFreeAddress { .. } => Some(
                "use another network for further containers, or one with a larger `subnet` (`ipam.config` in a compose file, --subnet)"
                    .into(),
            ),
            Self::FixedAddress { .. } => Some("give the network a `subnet` under `ipam`".into()),
            Self::File(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Link { source, .. } | Self::Firewall { source, .. } => match source.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => Some(fs::permission_hint().into()),
                Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT)
                    if matches!(self, Self::Firewall { .. }) =>
                {
                    Some(
                        "the kernel lacks a part of nftables: load it (`modprobe -a nf_tables nft_chain_nat nft_masq nft_ct`), \
                         or do without a network (`--network none`, `--network host`)"
                            .into(),
                    )
                }
                Some(libc::EXFULL) => Some("a bridge takes at most 1023 containers: use another network".into()),
                _ => None,
            },
            _ => None,
        }
    }
}
