//! The client's end of an attach connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};

use super::frame::{Frame, PAYLOAD_BYTES_MAX};

/// A connection to a container's stdio. Dropping it detaches; the container goes on.
#[derive(Debug)]
pub struct AttachStream {
    socket: OwnedFd,
}

impl AttachStream {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Waits for the next frame; `None` when the supervisor is gone (ask the store, or attach again after `heal`).
    pub fn receive(&self) -> io::Result<Option<Frame>> {
        self.receive_with(RecvFlags::empty())
    }

    /// Takes a frame that is there already; `WouldBlock` when none is.
    pub fn try_receive(&self) -> io::Result<Option<Frame>> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    fn receive_with(&self, flags: RecvFlags) -> io::Result<Option<Frame>> {
        let mut packet = vec![0; PAYLOAD_BYTES_MAX + 1];
        loop {
            let length = match rustix::net::recv(&self.socket, packet.as_mut_slice(), flags) {
                Ok((_, length)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            };
            if length == 0 {
                return Ok(None);
            }
            if let Some(frame) = Frame::decode(&packet[..length.min(packet.len())]) {
                return Ok(Some(frame));
            }
        }
    }

    /// Sends input to the container; waits while its input is full. Long input goes in several frames.
    pub fn write_stdin(&self, input: &[u8]) -> io::Result<()> {
        for piece in input.chunks(PAYLOAD_BYTES_MAX) {
            self.send(&Frame::Stdin(piece.to_vec()))?;
        }
        Ok(())
    }

    /// Ends the container's input.
    pub fn close_stdin(&self) -> io::Result<()> {
        self.send(&Frame::StdinEnd)
    }

    /// Tells the container's terminal its size.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.send(&Frame::Resize { rows, columns })
    }

    pub(super) fn send(&self, frame: &Frame) -> io::Result<()> {
        let packet = frame.encode();
        loop {
            match rustix::net::send(&self.socket, &packet, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for AttachStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
