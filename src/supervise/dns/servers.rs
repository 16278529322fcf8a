//! The name servers that are asked for names which are not of the container's networks.
//!
//! Without servers of the container's own these are the host's, asked from the host's side (so that 127.0.0.53 of
//! systemd-resolved works, with all that it knows of VPNs). Its file is read again when it has changed. The
//! container's own servers are asked from inside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::net::etc::ResolvConf;
use crate::net::netns;

/// What resolv.conf(5) allows; more are not asked.
const SERVERS_MAX: usize = 3;
const PORT: u16 = 53;
/// Where we answer ourselves: asking there would ask for ever.
const OURSELVES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Where to ask.
pub(super) struct Servers {
    list: Vec<SocketAddr>,
    /// The container's namespace, when the servers are its own.
    inside: Option<OwnedFd>,
    /// Change of the host's file: modification in seconds and nanoseconds, inode, size.
    stamp: Option<(i64, i64, u64, u64)>,
}

impl Servers {
    /// The host's, read when the first name is asked for.
    pub(super) fn of_host() -> Self {
        Self { list: Vec::new(), inside: None, stamp: None }
    }

    /// The container's own, asked from inside `netns`.
    pub(super) fn of_container(servers: &[IpAddr], netns: OwnedFd) -> Self {
        Self { list: usable(servers), inside: Some(netns), stamp: None }
    }

    #[cfg(test)]
    pub(super) fn fixed(list: Vec<SocketAddr>) -> Self {
        Self { list, inside: None, stamp: Some((0, 0, 0, 0)) }
    }

    /// The servers in the order in which they are asked.
    pub(super) fn list(&mut self) -> &[SocketAddr] {
        if self.inside.is_none() && self.stamp != Some((0, 0, 0, 0)) {
            let stamp = std::fs::metadata(ResolvConf::PATH)
                .map(|data| (data.mtime(), data.mtime_nsec(), data.ino(), data.size()))
                .ok();
            if stamp != self.stamp || stamp.is_none() {
                self.stamp = stamp;
                self.list = usable(&ResolvConf::of_host().servers);
            }
        }
        &self.list
    }

    /// A socket that is connected, or connecting, to a server; it never blocks.
    pub(super) fn connect(&self, server: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
        let connect = || -> io::Result<OwnedFd> {
            let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(family, kind, flags, None)?;
            match rustix::net::connect(&socket, &server) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
                Err(errno) => Err(errno.into()),
            }
        };
        match &self.inside {
            Some(netns) => netns::inside(netns.as_fd(), connect).map_err(io::Error::other)?,
            None => connect(),
        }
    }
}

fn usable(servers: &[IpAddr]) -> Vec<SocketAddr> {
    let others = servers.iter().filter(|server| **server != OURSELVES);
    others.take(SERVERS_MAX).map(|server| SocketAddr::new(*server, PORT)).collect()
}
