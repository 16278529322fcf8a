//! A range of addresses: an address and the length of its prefix.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::{Error, Result};

/// A range of addresses, `10.1.0.0/24`. Bits below the prefix are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    first: u128,
    prefix: u8,
    ipv4: bool,
}

impl Range {
    /// The range around `address`; a prefix longer than the address is its whole length.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let ipv4 = address.is_ipv4();
        let prefix = prefix.min(if ipv4 { 32 } else { 128 });
        let range = Self { first: 0, prefix, ipv4 };
        Self { first: number(address) & !range.host_mask(), ..range }
    }

    /// Reads `10.1.0.0/24` or `fd00::/64`; an address alone is a range of one.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid =
            || Error::InvalidAddress { text: text.to_owned(), expected: "a range of addresses (such as 10.1.0.0/24)" };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| invalid())?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(whole);
        if prefix > whole {
            return Err(invalid());
        }
        Ok(Self::new(address, prefix))
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        address(self.first, self.ipv4)
    }

    /// Its last address.
    pub fn last(&self) -> IpAddr {
        address(self.first | self.host_mask(), self.ipv4)
    }

    /// Length of its prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is a range of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.ipv4
    }

    /// Whether the address is in it.
    pub fn contains(&self, other: IpAddr) -> bool {
        other.is_ipv4() == self.ipv4 && number(other) & !self.host_mask() == self.first
    }

    /// Whether an address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let wider = if self.prefix < other.prefix { self } else { other };
        let narrower = if self.prefix < other.prefix { other } else { self };
        wider.ipv4 == narrower.ipv4 && narrower.first & !wider.host_mask() == wider.first
    }

    /// Whether the other lies wholly in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.overlaps(other)
    }

    /// The address so many places after the first; `None` outside.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        (offset <= self.host_mask()).then(|| address(self.first + offset, self.ipv4))
    }

    /// The place of an address in it; 0 for one outside.
    pub fn place(&self, other: IpAddr) -> u128 {
        if self.contains(other) { number(other) - self.first } else { 0 }
    }

    /// The largest offset of [`Range::nth`].
    pub fn last_offset(&self) -> u128 {
        self.host_mask()
    }

    /// The ranges of this prefix inside it, in order.
    pub fn cut(self, prefix: u8) -> impl Iterator<Item = Self> {
        let bits = if self.ipv4 { 32 } else { 128 };
        let step = 1u128 << u32::from(bits - prefix.clamp(self.prefix.max(1), bits)).min(127);
        let count = (self.host_mask() / step).saturating_add(1);
        (0..count).map(move |place| Self { first: self.first + place * step, prefix, ipv4: self.ipv4 })
    }

    fn host_mask(&self) -> u128 {
        let bits = u32::from(if self.ipv4 { 32 } else { 128 } - self.prefix);
        1u128.checked_shl(bits).map_or(u128::MAX, |value| value - 1)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address(number: u128, ipv4: bool) -> IpAddr {
    // An IPv4 range holds numbers of 32 bits only.
    if ipv4 { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        Range::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_range_knows_its_ends() {
        for (text, first, last) in [
            ("10.1.2.3/24", "10.1.2.0", "10.1.2.255"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
            ("fd00::1/64", "fd00::", "fd00::ffff:ffff:ffff:ffff"),
            ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!((range(text).first().to_string(), range(text).last().to_string()), (first.into(), last.into()));
        }
        for wrong in ["", "10.1.2/24", "10.1.2.3/33", "fd00::/129", "10.1.2.3/x", "a/1", "1.2.3.4/-1"] {
            assert!(Range::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_keeps_families_apart() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.1.2.0/24", true),
            ("10.1.2.0/24", "10.1.3.0/24", false),
            ("0.0.0.0/0", "10.1.3.0/24", true),
            ("::/0", "10.1.3.0/24", false),
            ("10.1.3.7/32", "10.1.3.0/24", true),
        ] {
            assert_eq!(range(one).overlaps(&range(other)), expected, "{one} {other}");
            assert_eq!(range(other).overlaps(&range(one)), expected, "{other} {one}");
        }
        assert!(range("10.0.0.0/8").covers(&range("10.1.0.0/16")));
        assert!(!range("10.1.0.0/16").covers(&range("10.0.0.0/8")));
    }

    #[test]
    fn a_range_is_cut_in_order() {
        let cut: Vec<String> = range("10.1.0.0/22").cut(24).map(|part| part.to_string()).collect();
        assert_eq!(cut, ["10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24"]);
        assert_eq!(
            range("fd00::/48").cut(64).nth(65_535).map(|last| last.to_string()).as_deref(),
            Some("fd00:0:0:ffff::/64")
        );
        assert_eq!(range("10.1.0.0/22").cut(24).count(), 4);
        assert_eq!(range("10.1.0.0/24").nth(256), None);
        assert_eq!(range("10.1.0.0/24").nth(255).map(|last| last.to_string()).as_deref(), Some("10.1.0.255"));
    }
}
