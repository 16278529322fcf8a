//! A blocking netlink socket: a request is sent, and all that the kernel answers is read.
//!
//! The kernel handles a request inside send(2): when it returns, every acknowledgement is queued, and a dump goes
//! on inside recv(2). So the answers are read without waiting until there is none left; nothing can hang.
//!
//! Source: <https://docs.kernel.org/userspace-api/netlink/intro.html>, netlink(7).

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Length of a message's header in bytes (`struct nlmsghdr`, linux/netlink.h).
pub(super) const HEADER: usize = 16;
/// `NLM_F_REQUEST`.
pub(super) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub(super) const ACK: u16 = 0x4;
/// `NLM_F_DUMP`.
pub(super) const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(super) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(super) const APPEND: u16 = 0x800;

const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
/// The kernel's dumps come in pieces of at most this size (net/netlink/af_netlink.c, `netlink_dump`).
const BUFFER_BYTES: usize = 32 << 10;
const ALIGN: usize = 4;

/// One answer of the kernel.
pub(super) enum Answer<'a> {
    /// The request with this sequence number was refused (or accepted, when there is no error).
    Result(u32, Option<io::Error>),
    /// A message: its type and what follows the header.
    Message(u16, &'a [u8]),
}

/// A netlink socket and its buffer.
pub(super) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace. No protocol is `NETLINK_ROUTE`, whose number is 0.
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Self { fd, buffer: Vec::new() })
    }

    /// Sends `request` (whole messages) and hands every answer to `read`.
    pub(super) fn talk(&mut self, request: &[u8], mut read: impl FnMut(Answer<'_>)) -> io::Result<()> {
        rustix::net::send(&self.fd, request, SendFlags::empty())?;
        self.buffer.resize(BUFFER_BYTES, 0);
        loop {
            let length = match rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            parse(&self.buffer[..length], &mut read);
        }
    }
}

fn parse(mut bytes: &[u8], read: &mut impl FnMut(Answer<'_>)) {
    while bytes.len() >= HEADER {
        let length = u32_at(bytes, 0) as usize;
        if length < HEADER || length > bytes.len() {
            return;
        }
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let sequence = u32_at(bytes, 8);
        let payload = &bytes[HEADER..length];
        match kind {
            TYPE_ERROR | TYPE_DONE if payload.len() >= 4 => {
                let code = u32_at(payload, 0).cast_signed();
                let error = (code < 0).then(|| io::Error::from_raw_os_error(-code));
                read(Answer::Result(sequence, error));
            }
            TYPE_ERROR | TYPE_DONE => read(Answer::Result(sequence, None)),
            _ => read(Answer::Message(kind, payload)),
        }
        bytes = &bytes[aligned(length).min(bytes.len())..];
    }
}

/// The number in native byte order at `offset`, which must be inside.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

/// `length` rounded up to netlink's alignment.
pub(super) fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// Goes through the attributes in `bytes`: type without flags, value. Stops at the first that does not fit.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_any_bytes_end() {
        let random: Vec<u8> = crate::base::id::random_hex(2000).into_bytes();
        for start in 0..random.len() {
            assert!(attributes(&random[start..]).count() <= random.len());
            parse(&random[start..], &mut |_| {});
        }
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[5, 0, 7, 0x80, 9]).collect::<Vec<_>>(), [(7, &[9u8][..])]);
    }
}
