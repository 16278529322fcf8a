//! Links, addresses and routes: the messages of the `rtnetlink` crate over one blocking socket.
//!
//! Several messages go to the kernel in one system call; each is acknowledged by its own sequence number.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{AddressMessageBuilder, LinkUnspec};

use super::netlink::{self, ACK, Answer, CREATE, DUMP, EXCLUSIVE, REQUEST};
use super::{Error, Result};

/// `RTM_NEWLINK` (linux/rtnetlink.h).
const NEW_LINK: u16 = 16;
/// `IFF_UP` (linux/if.h).
const FLAG_UP: u32 = 1;

/// A route netlink socket of the network namespace in which it was opened.
pub struct Socket {
    socket: netlink::Socket,
    sequence: u32,
}

/// What is to be done with a message when its object exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// An error.
    Refuse,
    /// It may be there already.
    Accept,
    /// The message does not make objects.
    Change,
    /// Nor does this one, and a kernel without IPv6 may refuse it.
    ChangeIpv6,
}

/// One message of a batch.
pub(super) struct Step {
    /// What it does, for the error: `create bridge`.
    pub what: &'static str,
    /// The message.
    pub message: RouteNetlinkMessage,
    /// What to do when the object exists.
    pub existing: Existing,
}

/// A link of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Whether it is switched on.
    pub up: bool,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        let socket = netlink::Socket::open(None)
            .map_err(|source| Error::Link { operation: "open a netlink socket".to_owned(), source })?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends the steps at once. The kernel works through all of them; the first error is returned, with `subject`
    /// as what it was about.
    pub(super) fn execute(&mut self, subject: &str, steps: Vec<Step>) -> Result<()> {
        let mut request = Vec::with_capacity(512);
        let first = self.sequence;
        let mut outline = Vec::with_capacity(steps.len());
        for step in steps {
            let flags = match step.existing {
                Existing::Refuse | Existing::Accept => CREATE | EXCLUSIVE,
                Existing::Change | Existing::ChangeIpv6 => 0,
            };
            outline.push((step.what, step.existing));
            self.append(&mut request, step.message, flags | ACK);
        }
        let mut failed: Option<(usize, io::Error)> = None;
        let talked = self.socket.talk(&request, |answer| {
            if let Answer::Result(sequence, Some(error)) = answer {
                let index = sequence.wrapping_sub(first) as usize;
                let accepted = match outline.get(index) {
                    Some((_, Existing::Accept)) => error.raw_os_error() == Some(libc::EEXIST),
                    Some((_, Existing::ChangeIpv6)) => error.raw_os_error() == Some(libc::EAFNOSUPPORT),
                    _ => false,
                };
                if !accepted && failed.is_none() {
                    failed = Some((index, error));
                }
            }
        });
        if let Err(source) = talked {
            return Err(Error::Link { operation: format!("configure `{subject}`"), source });
        }
        match failed {
            None => Ok(()),
            Some((index, source)) => {
                let what = outline.get(index).map_or("configure", |(what, _)| what);
                Err(Error::Link { operation: format!("{what} `{subject}`"), source })
            }
        }
    }

    /// Returns the link of this name, `None` when there is none.
    ///
    /// Asking also makes the kernel finish what it has pending for the link's carrier, which it may otherwise put
    /// off by up to a second (`linkwatch_sync_dev`, net/core/link_watch.c).
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let message = LinkUnspec::new_with_name(name).build();
        let mut request = Vec::with_capacity(64);
        self.append(&mut request, RouteNetlinkMessage::GetLink(message), 0);
        let mut found = None;
        let mut refused = None;
        self.socket
            .talk(&request, |answer| match answer {
                // struct ifinfomsg: family, padding, type (2), index (4), flags (4), change (4).
                Answer::Message(NEW_LINK, payload) if payload.len() >= 16 => {
                    found = Some(Link {
                        index: netlink::u32_at(payload, 4),
                        up: netlink::u32_at(payload, 8) & FLAG_UP != 0,
                    });
                }
                Answer::Result(_, Some(error)) if error.raw_os_error() != Some(libc::ENODEV) => refused = Some(error),
                _ => {}
            })
            .map_or_else(Err, |()| refused.map_or(Ok(()), Err))
            .map_err(|source| Error::Link { operation: format!("find link `{name}`"), source })?;
        Ok(found)
    }

    /// Returns all that the kernel has of the kind that `message` asks for.
    pub(super) fn dump(&mut self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        let mut request = Vec::with_capacity(64);
        self.append(&mut request, message, DUMP);
        let mut found = Vec::new();
        let mut refused = None;
        self.socket
            .talk(&request, |answer| match answer {
                Answer::Message(kind, payload) => {
                    let mut header = NetlinkHeader::default();
                    header.message_type = kind;
                    header.length = (netlink::HEADER + payload.len()) as u32;
                    // A message of a newer kernel that the crate cannot read is of no use here.
                    found.extend(RouteNetlinkMessage::deserialize(&header, payload));
                }
                Answer::Result(_, error) => refused = error.or(refused.take()),
            })
            .map_or_else(Err, |()| refused.map_or(Ok(()), Err))
            .map_err(|source| Error::Link { operation: "list links, addresses and routes".to_owned(), source })?;
        Ok(found)
    }

    /// All links with their names, MTU and group.
    pub(super) fn list_links(&mut self) -> Result<Vec<ListedLink>> {
        let messages = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(link) => Some(ListedLink::read(&link)),
                _ => None,
            })
            .collect())
    }

    fn append(&mut self, request: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
        let mut header = NetlinkHeader::default();
        header.flags = REQUEST | flags;
        header.sequence_number = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = request.len();
        request.resize(start + netlink::aligned(message.buffer_len()), 0);
        message.serialize(&mut request[start..]);
    }
}

/// A link as a listing tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ListedLink {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its group.
    pub group: u32,
    /// Number of the bridge that it is a port of.
    pub bridge: Option<u32>,
}

impl ListedLink {
    fn read(message: &LinkMessage) -> Self {
        let mut link = Self { index: message.header.index, ..Self::default() };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Group(group) => link.group = *group,
                LinkAttribute::Controller(index) => link.bridge = Some(*index),
                _ => {}
            }
        }
        link
    }
}

/// The message that gives an address to a link; IPv6 addresses are usable at once (no duplicate detection, which
/// takes two seconds).
pub(super) fn address_message(link: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    match address {
        IpAddr::V4(address) => {
            AddressMessageBuilder::<std::net::Ipv4Addr>::new().index(link).address(address, prefix).build()
        }
        IpAddr::V6(address) => {
            let mut message =
                AddressMessageBuilder::<std::net::Ipv6Addr>::new().index(link).address(address, prefix).build();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(rtnetlink::packet_route::address::AddressAttribute::Flags(AddressFlags::Nodad));
            message
        }
    }
}
