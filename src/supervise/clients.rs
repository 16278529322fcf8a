//! Those who are attached: a socket in the run folder, a bounded queue each.
//!
//! A connection begins as an observer, which is told of exits only; [`Frame::Attach`] makes it see output too.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use super::frame::{Frame, PAYLOAD_BYTES_MAX};
use crate::base::fs::{self, Context};

/// A client that has so much waiting is dropped.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// A client that wants no loss stops the container's output when so much waits.
const QUEUE_BYTES_BLOCKING: usize = 128 << 10;
/// More connections than this are refused.
const CLIENTS_MAX: usize = 64;

/// The socket's name in the run folder. It exists while a supervisor lives, or died.
pub(super) const SOCKET: &str = "attach.sock";

/// What a client sees, and what happens when it reads slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Kind {
    /// Only how it ends.
    Observer,
    /// Output; dropped when it falls behind.
    Droppable,
    /// Output; the container waits for it. When it goes, the container's input ends with it.
    Blocking,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    pub(super) kind: Kind,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, kind: Kind) -> Self {
        Self { socket, kind, queue: VecDeque::new(), queued_bytes: 0 }
    }

    pub(super) fn number(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Whether packets wait for it.
    pub(super) fn is_behind(&self) -> bool {
        !self.queue.is_empty()
    }

    fn holds_back(&self) -> bool {
        self.kind == Kind::Blocking && self.queued_bytes >= QUEUE_BYTES_BLOCKING
    }

    /// Sends or queues a packet; `false` when the client is to be dropped.
    fn send(&mut self, packet: &[u8]) -> bool {
        if self.queue.is_empty() {
            match send_now(&self.socket, packet) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
        }
        if self.kind != Kind::Blocking && self.queued_bytes + packet.len() > QUEUE_BYTES_MAX {
            // It may have no room for the news either.
            let _refused = send_now(&self.socket, &Frame::Detached.encode());
            return false;
        }
        self.queued_bytes += packet.len();
        self.queue.push_back(packet.to_vec());
        true
    }

    /// Answers a question of this client. One that is gone needs no answer.
    pub(super) fn answer(&mut self, frame: &Frame) {
        self.send(&frame.encode());
    }

    /// Sends what waits; `false` when the client is gone.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(packet) = self.queue.front() {
            match send_now(&self.socket, packet) {
                Ok(true) => {
                    self.queued_bytes -= packet.len();
                    self.queue.pop_front();
                }
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
        self.queue = VecDeque::new();
        true
    }

    /// Takes one frame that the client sent. `Err` when it is gone.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<Option<Frame>, ()> {
        match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(()),
            Ok((_, length)) => Ok(Frame::decode(&buffer[..length])),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(_) => Err(()),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `false` when there is no room.
fn send_now(socket: &OwnedFd, packet: &[u8]) -> Result<bool, Errno> {
    loop {
        return match rustix::net::send(socket, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => Ok(true),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN | Errno::NOBUFS) => Ok(false),
            Err(errno) => Err(errno),
        };
    }
}

/// All connections of one container.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) all: Vec<Client>,
}

impl Clients {
    /// Sends a packet of output to all who see it.
    pub(super) fn output(&mut self, packet: &[u8]) {
        self.all.retain_mut(|client| client.kind == Kind::Observer || client.send(packet));
    }

    /// Sends a frame to all.
    pub(super) fn tell(&mut self, frame: &Frame) {
        let packet = frame.encode();
        self.all.retain_mut(|client| client.send(&packet));
    }

    /// Whether output must not be read, since a client that wants all of it is behind.
    pub(super) fn hold_back(&self) -> bool {
        self.all.iter().any(Client::holds_back)
    }

    /// Whether packets wait for anybody.
    pub(super) fn any_behind(&self) -> bool {
        self.all.iter().any(Client::is_behind)
    }

    /// Takes the connections that wait at the socket.
    pub(super) fn accept(&mut self, listener: &OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = rustix::net::accept_with(listener, flags) {
            if self.all.len() < CLIENTS_MAX {
                self.all.push(Client::new(socket, Kind::Observer));
            }
        }
    }
}

/// Listens at [`SOCKET`] in a run folder.
pub(super) fn listen(run_folder: &Path) -> fs::Result<OwnedFd> {
    let path = run_folder.join(SOCKET);
    fs::remove_file(&path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .context("create the socket", &path)?;
    let folder = open_folder(run_folder)?;
    rustix::net::bind(&listener, &address(&folder).context("name the socket", &path)?).context("bind", &path)?;
    rustix::net::listen(&listener, 16).context("listen at", &path)?;
    Ok(listener)
}

/// Connects to the supervisor that listens in a run folder.
pub(super) fn connect(run_folder: &Path) -> fs::Result<OwnedFd> {
    let path = run_folder.join(SOCKET);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("create a socket for", &path)?;
    let folder = open_folder(run_folder)?;
    rustix::net::connect(&socket, &address(&folder).context("name the socket", &path)?).context("connect to", &path)?;
    Ok(socket)
}

fn open_folder(path: &Path) -> fs::Result<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).context("open", path)
}

/// The socket by way of the folder's descriptor: its own path may be longer than the 108 bytes of sun_path.
fn address(folder: &OwnedFd) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

/// Two connected sockets, as [`connect`] and accept would give.
pub(super) fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Room for the largest frame and one byte more, so that a larger one is seen to be none.
pub(super) const PACKET_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 2;
