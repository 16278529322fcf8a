//! The parts of a rule: load something into a register, compare it or look it up, then act.
//!
//! Registers are numbered in units of four bytes: 8 is the first (`NFT_REG32_00`), and a value of sixteen bytes
//! takes four of them.

use super::Attributes;

/// The first register; a concatenated key begins here.
pub const FIRST: u32 = 8;

/// One expression of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// `meta`: a property of the packet into a register.
    Meta(Meta, u32),
    /// `@nh,offset,length`: bytes of the network header.
    Network(u32, u32, u32),
    /// `th dport`: the destination port into a register.
    DestinationPort(u32),
    /// Register 8 equals these bytes.
    Equal(Vec<u8>),
    /// Register 8 differs from these bytes.
    NotEqual(Vec<u8>),
    /// Register 8 becomes its bits under a mask.
    Mask(Vec<u8>),
    /// `ct state` or `ct status` into register 8.
    Conntrack(Conntrack),
    /// `fib daddr type` into register 8.
    DestinationType,
    /// The key from register 8 is (or is not) in a set.
    In(&'static str, bool),
    /// The value of the key from register 8 into register 8 on.
    Map(&'static str),
    /// `dnat` to the address in register 8 and the port in the given register.
    DestinationNat(u8, u32),
    /// Fixed bytes into a register.
    Load(Vec<u8>, u32),
    /// `masquerade`.
    Masquerade,
    /// `counter`.
    Counter,
    /// `accept`.
    Accept,
    /// `drop`.
    Drop,
    /// `jump`.
    Jump(&'static str),
}

/// What [`Expression::Meta`] loads (enum nft_meta_keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Meta {
    /// Name of the interface it came in.
    InName = 6,
    /// Name of the interface it leaves by.
    OutName = 7,
    /// IPv4 (2) or IPv6 (10).
    Family = 15,
    /// Number of the transport protocol.
    Protocol = 16,
}

/// What [`Expression::Conntrack`] loads (enum nft_ct_keys).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Conntrack {
    /// New, established, related as bits.
    State = 0,
    /// What was done to the connection, as bits.
    Status = 2,
}

impl Expression {
    /// Writes it as NFTA_EXPR_NAME and NFTA_EXPR_DATA.
    pub(super) fn write(&self, attributes: &mut Attributes<'_>) {
        match self {
            Self::Meta(key, register) => named(attributes, "meta", |data| {
                data.number(1, *register).number(2, *key as u32);
            }),
            Self::Network(offset, length, register) => payload(attributes, 1, *offset, *length, *register),
            Self::DestinationPort(register) => payload(attributes, 2, 2, 2, *register),
            Self::Equal(value) => compare(attributes, 0, value),
            Self::NotEqual(value) => compare(attributes, 1, value),
            Self::Mask(mask) => named(attributes, "bitwise", |data| {
                data.number(1, FIRST).number(2, FIRST).number(3, mask.len() as u32);
                value(data, 4, mask);
                value(data, 5, &vec![0; mask.len()]);
            }),
            Self::Conntrack(key) => named(attributes, "ct", |data| {
                data.number(1, FIRST).number(2, *key as u32);
            }),
            Self::DestinationType => named(attributes, "fib", |data| {
                // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR.
                data.number(1, FIRST).number(2, 3).number(3, 2);
            }),
            Self::In(set, wanted) => named(attributes, "lookup", |data| {
                data.text(1, set).number(2, FIRST);
                if !wanted {
                    data.number(5, 1);
                }
            }),
            Self::Map(set) => named(attributes, "lookup", |data| {
                data.text(1, set).number(2, FIRST).number(3, FIRST);
            }),
            Self::DestinationNat(family, port) => nat(attributes, *family, FIRST, *port),
            Self::Load(bytes, register) => named(attributes, "immediate", |data| {
                data.number(1, *register);
                value(data, 2, bytes);
            }),
            Self::Masquerade => named(attributes, "masq", |_| {}),
            Self::Counter => named(attributes, "counter", |_| {}),
            Self::Accept => verdict(attributes, 1, None),
            Self::Drop => verdict(attributes, 0, None),
            Self::Jump(chain) => verdict(attributes, -3, Some(chain)),
        }
    }
}

fn named(attributes: &mut Attributes<'_>, name: &str, write: impl FnOnce(&mut Attributes<'_>)) {
    attributes.text(1, name).nested(2, write);
}

/// NFTA_DATA_VALUE inside an attribute.
fn value(attributes: &mut Attributes<'_>, kind: u16, bytes: &[u8]) {
    attributes.nested(kind, |data| {
        data.bytes(1, bytes);
    });
}

fn payload(attributes: &mut Attributes<'_>, base: u32, offset: u32, length: u32, register: u32) {
    named(attributes, "payload", |data| {
        data.number(1, register).number(2, base).number(3, offset).number(4, length);
    });
}

fn compare(attributes: &mut Attributes<'_>, operation: u32, bytes: &[u8]) {
    named(attributes, "cmp", |data| {
        data.number(1, FIRST).number(2, operation);
        value(data, 3, bytes);
    });
}

fn nat(attributes: &mut Attributes<'_>, family: u8, address: u32, port: u32) {
    named(attributes, "nat", |data| {
        // NFT_NAT_DNAT, family, NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_PROTO_MIN.
        data.number(1, 1).number(2, u32::from(family)).number(3, address).number(5, port);
    });
}

fn verdict(attributes: &mut Attributes<'_>, code: i32, chain: Option<&str>) {
    named(attributes, "immediate", |data| {
        // NFTA_IMMEDIATE_DREG 0 is the verdict; NFTA_DATA_VERDICT {CODE, CHAIN}.
        data.number(1, 0).nested(2, |inner| {
            inner.nested(2, |verdict| {
                verdict.number(1, code.cast_unsigned());
                if let Some(chain) = chain {
                    verdict.text(2, chain);
                }
            });
        });
    });
}
