//! One descriptor and a number from the child of a clone to its maker.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

/// Where a child stopped: a number of its own, and the kernel's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub step: u32,
    pub errno: Errno,
}

/// The ends of the maker and of the child.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends what came of it; returns the child's exit code. Does not allocate.
pub(super) fn send(socket: BorrowedFd<'_>, made: Result<(BorrowedFd<'_>, i32), Refused>) -> i32 {
    let (step, value) = match made {
        Ok((_, number)) => (0, number),
        // A step has a number above 0.
        Err(refused) => (refused.step.saturating_add(1), refused.errno.raw_os_error()),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let file = made.map(|(file, _)| file);
    if let Ok(file) = &file {
        control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(file)));
    }
    let (step, value) = (step.to_ne_bytes(), value.to_ne_bytes());
    let data = [IoSlice::new(&step), IoSlice::new(&value)];
    i32::from(rustix::net::sendmsg(socket, &data, &mut control, SendFlags::NOSIGNAL).is_err())
}

/// Receives what [`send`] sent. A child that died has stopped at step 0 with EIO.
pub(super) fn receive(socket: BorrowedFd<'_>) -> Result<(OwnedFd, i32), Refused> {
    let (mut step, mut value) = ([0u8; 4], [0u8; 4]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut step), IoSliceMut::new(&mut value)];
    let received = rustix::net::recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_err(|errno| Refused { step: 0, errno })?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let (step, value) = (u32::from_ne_bytes(step), i32::from_ne_bytes(value));
    match (file, step.checked_sub(1)) {
        (Some(file), None) => Ok((file, value)),
        (_, Some(step)) if received.bytes == 8 => Err(Refused { step, errno: Errno::from_raw_os_error(value) }),
        _ => Err(Refused { step: 0, errno: Errno::IO }),
    }
}
