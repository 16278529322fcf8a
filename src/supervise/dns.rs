//! The container's name server: 127.0.0.11 inside its network namespace, answered by its supervisor.
//!
//! It owns one epoll descriptor that stands for all its sockets, so that the supervisor polls a single one:
//!
//! ```text
//! let mut dns = Server::bind(config)?;
//! loop { poll([.., dns.as_fd()], min(.., dns.next_deadline())); dns.process(); }
//! ```

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use crate::base::id::{ContainerId, NetworkId};
use crate::net::Result;

/// What a server needs to know.
#[derive(Debug)]
pub struct Config<'a> {
    /// The container's network namespace. Kept open (a duplicate) when `servers` are given.
    pub netns: BorrowedFd<'a>,
    /// `net::Host::run_folder`: the folder of the endpoint records.
    pub run_folder: PathBuf,
    /// The container.
    pub container: ContainerId,
    /// Its networks.
    pub networks: Vec<NetworkId>,
    /// Its own `dns:` servers, asked from inside; empty: the host's, asked from the host's side.
    pub servers: Vec<IpAddr>,
    /// Whether unknown names are asked for elsewhere: false when all its networks are internal.
    pub forward: bool,
    /// The port to bind, as an earlier [`Server::port`] said, when taking over from a dead supervisor.
    pub port: Option<u16>,
    /// Sockets that [`Server::sockets`] named before this process executed itself, in that order: used as they are,
    /// so that no query is lost in between. Empty: bind new ones.
    pub sockets: Vec<OwnedFd>,
}

/// A name server for one container. Never blocks, makes no thread.
pub struct Server {
    epoll: OwnedFd,
}

impl Server {
    /// Binds UDP and TCP on 127.0.0.11 inside and directs port 53 there.
    pub fn bind(config: Config<'_>) -> Result<Self> {
        let _ = config;
        todo!()
    }

    /// The port inside, for a successor.
    pub fn port(&self) -> u16 {
        todo!()
    }

    /// The bound sockets (UDP, TCP listener), to keep open through an exec and hand over as [`Config::sockets`].
    pub fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        todo!()
    }

    /// When [`Server::process`] must be called even if nothing is readable.
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Does what can be done without waiting; bounded, so that others get their turn.
    pub fn process(&mut self) {
        todo!()
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
