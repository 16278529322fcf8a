//! A batch of changes: the kernel makes all of them or none.

use std::net::IpAddr;

use super::{Attributes, Kind, SUBSYSTEM, begin, finish};
use crate::net::netlink::{ACK, APPEND, CREATE, EXCLUSIVE, REQUEST};

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// nft's number of the type of an interface's name.
const INTERFACE: u32 = 41;

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// IPv6.
    Ip6 = 10,
}

/// Where a base chain sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// All that arrive.
    Prerouting = 0,
    /// Those that only pass through.
    Forward = 2,
    /// Those of the host's own processes.
    Output = 3,
    /// All that leave.
    Postrouting = 4,
}

/// A chain; without a hook it is only jumped to.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// `filter` or `nat`, the hook and the priority.
    pub base: Option<(&'static str, Hook, i32)>,
}

/// A part of a key: gives the type that nft shows and the bytes that the kernel compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// A transport protocol's number.
    Protocol(u8),
    /// A port.
    Port(u16),
    /// Name of an interface.
    Interface(String),
}

impl Key {
    /// Appends the bytes, padded to the width of registers.
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Address(IpAddr::V4(address)) => bytes.extend_from_slice(&address.octets()),
            Self::Address(IpAddr::V6(address)) => bytes.extend_from_slice(&address.octets()),
            Self::Protocol(number) => bytes.extend_from_slice(&[*number, 0, 0, 0]),
            Self::Port(port) => {
                bytes.extend_from_slice(&port.to_be_bytes());
                bytes.extend_from_slice(&[0, 0]);
            }
            Self::Interface(name) => {
                let mut padded = [0u8; 16];
                let length = name.len().min(15);
                padded[..length].copy_from_slice(&name.as_bytes()[..length]);
                bytes.extend_from_slice(&padded);
            }
        }
    }

    /// The bytes of several parts in a row.
    pub fn bytes(parts: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        parts.iter().for_each(|part| part.write(&mut bytes));
        bytes
    }
}

/// What a set's key or a map's value consists of: nft's number of each part's type (nft's `datatype.h`) and its
/// length in bytes without padding.
pub type SetKind = &'static [(u32, u32)];

/// A set, or a map when it has values.
#[derive(Debug, Clone, Copy)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// The parts of its key.
    pub key: SetKind,
    /// The parts of its values.
    pub value: Option<SetKind>,
    /// Whether elements are ranges.
    pub ranges: bool,
}

/// One element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The set's name.
    pub set: &'static str,
    /// The key, or the first of a range.
    pub key: Vec<u8>,
    /// The last of a range.
    pub key_end: Option<Vec<u8>>,
    /// The value in a map.
    pub value: Option<Vec<u8>>,
    /// What `nft list` shows as its comment; tells whose it is.
    pub comment: String,
}

/// Changes of one table.
pub struct Batch {
    buffer: Vec<u8>,
    family: Family,
    table: String,
    sequence: u32,
    last: usize,
}

impl Batch {
    /// An empty batch for this table.
    pub fn new(family: Family, table: &str) -> Self {
        let mut batch =
            Self { buffer: Vec::with_capacity(1024), family, table: table.to_owned(), sequence: 0, last: 0 };
        let start = begin(&mut batch.buffer, BATCH_BEGIN, REQUEST, 0, 0, SUBSYSTEM >> 8);
        finish(&mut batch.buffer, start);
        batch
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.sequence == 0
    }

    /// Closes the batch; the bytes are one request.
    pub(super) fn finish(mut self) -> Vec<u8> {
        // One acknowledgement, of the last change: what goes wrong is told anyway.
        if self.last > 0 {
            let flags = u16::from_ne_bytes([self.buffer[self.last + 6], self.buffer[self.last + 7]]) | ACK;
            self.buffer[self.last + 6..self.last + 8].copy_from_slice(&flags.to_ne_bytes());
        }
        let start = begin(&mut self.buffer, BATCH_END, REQUEST, self.sequence + 1, 0, SUBSYSTEM >> 8);
        finish(&mut self.buffer, start);
        self.buffer
    }

    fn message(&mut self, kind: Kind, flags: u16, write: impl FnOnce(&mut Attributes<'_>, &str)) {
        self.sequence += 1;
        self.last =
            begin(&mut self.buffer, SUBSYSTEM | kind as u16, REQUEST | flags, self.sequence, self.family as u8, 0);
        write(&mut Attributes(&mut self.buffer), &self.table);
        finish(&mut self.buffer, self.last);
    }

    /// Makes the table; with `exclusive` one that exists is an error (EEXIST).
    pub fn add_table(&mut self, comment: &str, exclusive: bool) {
        let flags = CREATE | if exclusive { EXCLUSIVE } else { 0 };
        self.message(Kind::NewTable, flags, |attributes, table| {
            // NFTA_TABLE_NAME, NFTA_TABLE_USERDATA.
            attributes.text(1, table).bytes(6, &comment_bytes(comment));
        });
    }

    /// Removes the table with all that is in it.
    pub fn delete_table(&mut self) {
        self.message(Kind::DeleteTable, 0, |attributes, table| {
            attributes.text(1, table);
        });
    }

    /// Makes a chain that accepts what no rule decides.
    pub fn add_chain(&mut self, chain: Chain) {
        self.message(Kind::NewChain, CREATE, |attributes, table| {
            // NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME.
            attributes.text(1, table).text(3, chain.name);
            if let Some((kind, hook, priority)) = chain.base {
                // NFTA_CHAIN_HOOK {NUM, PRIORITY}, NFTA_CHAIN_TYPE.
                attributes.nested(4, |inner| {
                    inner.number(1, hook as u32).number(2, priority.cast_unsigned());
                });
                attributes.text(7, kind);
            }
        });
    }

    /// Makes a set or a map.
    pub fn add_set(&mut self, set: Set) {
        const INTERVAL: u32 = 0x4;
        const MAP: u32 = 0x8;
        const CONCATENATION: u32 = 0x80;
        // nft builds the type of a concatenation from six bits a part.
        let kind_of = |parts: SetKind| parts.iter().fold(0, |kind, (part, _)| (kind << 6) | part);
        let length_of = |parts: SetKind| parts.iter().map(|(_, bytes)| bytes.next_multiple_of(4)).sum::<u32>();
        let key_length = if let [(_, only)] = set.key { *only } else { length_of(set.key) };
        let mut flags = 0;
        if set.ranges {
            flags |= INTERVAL;
        }
        if set.key.len() > 1 {
            flags |= CONCATENATION;
        }
        if set.value.is_some() {
            flags |= MAP;
        }
        let identifier = self.sequence;
        self.message(Kind::NewSet, CREATE, |attributes, table| {
            // NFTA_SET_TABLE, NAME, FLAGS, KEY_TYPE, KEY_LEN.
            attributes.text(1, table).text(2, set.name).number(3, flags);
            attributes.number(4, kind_of(set.key)).number(5, key_length);
            if let Some(value) = set.value {
                // NFTA_SET_DATA_TYPE, NFTA_SET_DATA_LEN.
                let length = if let [(_, only)] = value { *only } else { length_of(value) };
                attributes.number(6, kind_of(value)).number(7, length);
            }
            // NFTA_SET_DESC {NFTA_SET_DESC_CONCAT {LIST_ELEM {NFTA_SET_FIELD_LEN}}}.
            if set.key.len() > 1 {
                attributes.nested(9, |description| {
                    description.nested(2, |fields| {
                        for (_, bytes) in set.key {
                            fields.nested(1, |field| {
                                field.number(1, *bytes);
                            });
                        }
                    });
                });
            }
            // NFTA_SET_ID.
            attributes.number(10, identifier);
            // For nft's eyes only: a name is in the host's byte order, or `nft list` shows it as empty
            // (NFTA_SET_USERDATA, NFTNL_UDATA_SET_KEYBYTEORDER, BYTEORDER_HOST_ENDIAN).
            if let [(INTERFACE, _)] = set.key {
                attributes.bytes(13, &[0, 4, 1, 0, 0, 0]);
            }
        });
    }

    /// Adds an element; the same one again is fine, another value under the same key is an error (EEXIST, EBUSY).
    pub fn add_element(&mut self, element: &Element) {
        self.message(Kind::NewElement, CREATE, |attributes, table| write_element(attributes, table, element));
    }

    /// Removes an element; one that is missing is an error (ENOENT) and undoes the whole batch.
    pub fn delete_element(&mut self, element: &Element) {
        self.message(Kind::DeleteElement, 0, |attributes, table| {
            let key_only = Element { value: None, comment: String::new(), ..element.clone() };
            write_element(attributes, table, &key_only);
        });
    }

    /// Appends a rule to a chain. `expressions` are written by [`super::expression`].
    pub fn add_rule(&mut self, chain: &str, expressions: &[super::expression::Expression]) {
        self.rule(chain, expressions, APPEND, "");
    }

    /// Puts a rule at the head of a chain.
    pub fn insert_rule(&mut self, chain: &str, expressions: &[super::expression::Expression], comment: &str) {
        self.rule(chain, expressions, 0, comment);
    }

    fn rule(&mut self, chain: &str, expressions: &[super::expression::Expression], flags: u16, comment: &str) {
        self.message(Kind::NewRule, CREATE | flags, |attributes, table| {
            // NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS {LIST_ELEM …}.
            attributes.text(1, table).text(2, chain).nested(4, |list| {
                for expression in expressions {
                    list.nested(1, |inner| expression.write(inner));
                }
            });
            if !comment.is_empty() {
                // NFTA_RULE_USERDATA.
                attributes.bytes(7, &comment_bytes(comment));
            }
        });
    }
}

/// NFTA_SET_ELEM_LIST_TABLE, _SET, _ELEMENTS {LIST_ELEM {KEY, KEY_END, DATA, USERDATA}}.
pub(super) fn write_element(attributes: &mut Attributes<'_>, table: &str, element: &Element) {
    attributes.text(1, table).text(2, element.set).nested(3, |list| {
        list.nested(1, |inner| {
            inner.nested(1, |data| {
                data.bytes(1, &element.key);
            });
            if let Some(key_end) = &element.key_end {
                inner.nested(10, |data| {
                    data.bytes(1, key_end);
                });
            }
            if let Some(value) = &element.value {
                inner.nested(2, |data| {
                    data.bytes(1, value);
                });
            }
            if !element.comment.is_empty() {
                inner.bytes(6, &comment_bytes(&element.comment));
            }
        });
    });
}

/// A comment as nft stores it in user data: type 0, length, text with its final zero.
fn comment_bytes(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(120)];
    let mut bytes = Vec::with_capacity(text.len() + 3);
    bytes.extend_from_slice(&[0, text.len() as u8 + 1]);
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}

/// The comment in user data.
pub(super) fn read_comment(bytes: &[u8]) -> Option<String> {
    let [0, length, rest @ ..] = bytes else { return None };
    let text = rest.get(..usize::from(*length).checked_sub(1)?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}
