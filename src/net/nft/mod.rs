//! nftables over netlink, without the nft program.

use super::Result;

/// An nftables netlink socket of the network namespace in which it was opened.
pub struct Socket {}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        todo!()
    }
}
