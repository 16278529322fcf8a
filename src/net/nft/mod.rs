//! nftables over netlink, without the nft program: what wharf's rules need, no more.
//!
//! A [`Batch`] collects messages (tables, sets, chains, rules, elements) that the kernel does all or none of.
//! [`expression`] writes the parts of a rule. [`Socket`] sends a batch and reads tables, elements and rules.
//!
//! It does not read rules back into text and knows no statement that wharf does not use.
//!
//! Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h; the byte layout of keys as in nft(8)'s
//! concatenations: every field padded to four bytes.

mod batch;
pub mod expression;
mod socket;

pub use batch::{Batch, Chain, Element, Family, Hook, Key, Set, SetKind};
pub use socket::{FoundChain, FoundElement, Socket};

/// Tells which message of `NFNL_SUBSYS_NFTABLES` it is (enum nf_tables_msg_types).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum Kind {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
}

/// `NFNL_SUBSYS_NFTABLES` in the high byte of a message's type.
const SUBSYSTEM: u16 = 10 << 8;

/// Appends netlink attributes to a buffer.
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl<'a> Attributes<'a> {
    /// Appends to a message that was begun.
    pub(super) fn of(buffer: &'a mut Vec<u8>) -> Self {
        Self(buffer)
    }

    /// Attributes that are written already.
    pub(super) fn raw(&mut self, attributes: &[u8]) {
        self.0.extend_from_slice(attributes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Any bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (value.len() + 4) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A number in network byte order, as nftables wants all of them.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Text with its final zero.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Attributes inside an attribute.
    pub(super) fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        const NESTED: u16 = 0x8000;
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        write(&mut Attributes(self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// Begins a message in `buffer` and returns where it begins; [`finish`] writes its length.
pub(super) fn begin(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(&flags.to_ne_bytes());
    buffer.extend_from_slice(&sequence.to_ne_bytes());
    buffer.extend_from_slice(&[0; 4]);
    // struct nfgenmsg: family, version 0, resource id in network byte order.
    buffer.extend_from_slice(&[family, 0]);
    buffer.extend_from_slice(&resource.to_be_bytes());
    start
}

pub(super) fn finish(buffer: &mut [u8], start: usize) {
    let length = (buffer.len() - start) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}
