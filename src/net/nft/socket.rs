//! Sends batches to the kernel and reads what it has.

use std::io;

use super::batch::{read_comment, write_element};
use super::{Attributes, Batch, Element, Family, Kind, SUBSYSTEM, begin, finish};
use crate::net::netlink::{self, Answer, DUMP, REQUEST, attribute, attributes};
use crate::net::{Error, Result};

/// Length of `struct nfgenmsg`, which stands before the attributes.
const GENERIC: usize = 4;

/// An nftables netlink socket of the network namespace in which it was opened.
pub struct Socket {
    socket: netlink::Socket,
}

/// A base chain of whoever's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundChain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// `enum nf_inet_hooks`, as [`super::Hook`] has them.
    pub hook: u32,
    /// Whether it drops what no rule decides about.
    pub drops: bool,
}

/// An element as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundElement {
    /// Its key.
    pub key: Vec<u8>,
    /// The last of a range.
    pub key_end: Option<Vec<u8>>,
    /// Its value in a map.
    pub value: Option<Vec<u8>>,
    /// Its comment.
    pub comment: String,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        let socket = netlink::Socket::open(Some(rustix::net::netlink::NETFILTER))
            .map_err(|source| Error::Firewall { operation: "open a socket".to_owned(), source })?;
        Ok(Self { socket })
    }

    /// Makes the changes of a batch, all or none. An empty one is fine.
    pub fn commit(&mut self, batch: Batch) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut refused = None;
        self.socket.talk(&batch.finish(), |answer| {
            if let Answer::Result(_, Some(error)) = answer {
                refused.get_or_insert(error);
            }
        })?;
        refused.map_or(Ok(()), Err)
    }

    /// The comment of a table; `None` when there is no such table.
    pub fn table_comment(&mut self, family: Family, table: &str) -> io::Result<Option<String>> {
        let mut comment = None;
        self.get(
            Kind::GetTable,
            0,
            family,
            |request| {
                request.text(1, table);
            },
            |payload| {
                let text = attribute(payload, 6).and_then(read_comment).unwrap_or_default();
                comment = Some(text);
            },
        )?;
        Ok(comment)
    }

    /// Whether a table has this chain.
    pub fn has_chain(&mut self, family: Family, table: &str, chain: &str) -> io::Result<bool> {
        let mut found = false;
        self.get(
            Kind::GetChain,
            0,
            family,
            |request| {
                request.text(1, table).text(3, chain);
            },
            |_| found = true,
        )?;
        Ok(found)
    }

    /// The base chains of all tables of a family.
    pub fn base_chains(&mut self, family: Family) -> io::Result<Vec<FoundChain>> {
        let mut found = Vec::new();
        self.get(
            Kind::GetChain,
            DUMP,
            family,
            |_| {},
            |payload| {
                let text = |kind| {
                    let bytes = attribute(payload, kind)?;
                    std::str::from_utf8(bytes.strip_suffix(&[0])?).ok().map(str::to_owned)
                };
                let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
                let hook = attribute(payload, 4).and_then(|hook| attribute(hook, 1)).and_then(number);
                if let (Some(table), Some(name), Some(hook)) = (text(1), text(3), hook) {
                    let drops = attribute(payload, 5).and_then(number) == Some(0);
                    found.push(FoundChain { table, name, hook, drops });
                }
            },
        )?;
        Ok(found)
    }

    /// Whether a rule of a table has these bytes in it: the beginning of an interface's name, say.
    pub fn table_mentions(&mut self, family: Family, table: &str, bytes: &[u8]) -> io::Result<bool> {
        let mut found = false;
        self.get(
            Kind::GetRule,
            DUMP,
            family,
            |request| {
                request.text(1, table);
            },
            |payload| {
                // An old kernel lists the rules of all tables.
                let is_of_it =
                    attribute(payload, 1).is_some_and(|name| name.strip_suffix(&[0]) == Some(table.as_bytes()));
                found |= is_of_it && payload.windows(bytes.len()).any(|window| window == bytes);
            },
        )?;
        Ok(found)
    }

    /// The comments of a chain's rules.
    pub fn rule_comments(&mut self, family: Family, table: &str, chain: &str) -> io::Result<Vec<String>> {
        let mut comments = Vec::new();
        self.get(
            Kind::GetRule,
            DUMP,
            family,
            |request| {
                request.text(1, table).text(2, chain);
            },
            |payload| {
                // The kernel may list other chains when it is an old one: their rules are not ours.
                if attribute(payload, 2).is_some_and(|name| name.strip_suffix(&[0]) == Some(chain.as_bytes())) {
                    comments.extend(attribute(payload, 7).and_then(read_comment));
                }
            },
        )?;
        Ok(comments)
    }

    /// All elements of a set; none when there is no such set.
    pub fn elements(&mut self, family: Family, table: &str, set: &str) -> io::Result<Vec<FoundElement>> {
        let mut found = Vec::new();
        self.get(
            Kind::GetElement,
            DUMP,
            family,
            |request| {
                request.text(1, table).text(2, set);
            },
            |payload| {
                read_elements(payload, &mut found);
            },
        )?;
        Ok(found)
    }

    /// The element with the key of `wanted`.
    pub fn element(&mut self, family: Family, table: &str, wanted: &Element) -> io::Result<Option<FoundElement>> {
        let mut found = Vec::new();
        let key_only = Element { value: None, comment: String::new(), ..wanted.clone() };
        self.get(
            Kind::GetElement,
            0,
            family,
            |request| write_element(request, table, &key_only),
            |payload| {
                read_elements(payload, &mut found);
            },
        )?;
        Ok(found.into_iter().next())
    }

    fn get(
        &mut self,
        kind: Kind,
        flags: u16,
        family: Family,
        write: impl FnOnce(&mut Attributes<'_>),
        mut read: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut request = Vec::with_capacity(128);
        let start = begin(&mut request, SUBSYSTEM | kind as u16, REQUEST | flags, 1, family as u8, 0);
        write(&mut Attributes(&mut request));
        finish(&mut request, start);
        let mut refused = None;
        self.socket.talk(&request, |answer| match answer {
            Answer::Message(_, payload) => read(payload.get(GENERIC..).unwrap_or_default()),
            Answer::Result(_, Some(error)) if error.raw_os_error() != Some(libc::ENOENT) => refused = Some(error),
            Answer::Result(..) => {}
        })?;
        refused.map_or(Ok(()), Err)
    }
}

fn read_elements(payload: &[u8], found: &mut Vec<FoundElement>) {
    let value = |bytes: &[u8], kind| attribute(bytes, kind).and_then(|data| attribute(data, 1)).map(<[u8]>::to_vec);
    for (_, element) in attributes(attribute(payload, 3).unwrap_or_default()) {
        let Some(key) = value(element, 1) else { continue };
        found.push(FoundElement {
            key,
            key_end: value(element, 10),
            value: value(element, 2),
            comment: attribute(element, 6).and_then(read_comment).unwrap_or_default(),
        });
    }
}
