//! Links, addresses and routes: the messages of the `rtnetlink` crate over one blocking socket.

use super::Result;

/// A route netlink socket of the network namespace in which it was opened.
pub struct Socket {}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        todo!()
    }
}
