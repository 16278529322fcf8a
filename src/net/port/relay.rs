//! Carries TCP connections on to the container where the kernel cannot translate: those that come over IPv6 for a
//! container with an IPv4 address only, and those to [::1], for which there is no `route_localnet`.
//!
//! It belongs to the supervisor's poll loop: one epoll descriptor stands for all its sockets, nothing ever blocks,
//! and nothing is kept in memory for a connection whose both ends keep up.
//!
//! ```text
//! let mut relay = Relay::new(listeners)?;
//! loop { poll([.., relay.as_fd()]); relay.process(); }
//! ```

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt};

/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// Bytes that are moved at once, and most that are kept for an end that does not keep up.
const CHUNK_BYTES: usize = 64 << 10;
/// Readiness taken from epoll at once.
const EVENTS_A_TURN: usize = 32;
/// Chunks of one direction before others get their turn.
const CHUNKS_A_TURN: usize = 8;

/// What an event belongs to: a listener, else a connection's place with its end in the lowest bit.
const LISTENER: u64 = 1 << 32;

/// A socket that connections come in at, and where they go, in the order in which it is tried.
#[derive(Debug)]
pub struct Listener {
    /// It listens and does not block.
    pub socket: OwnedFd,
    /// Addresses of the container.
    pub targets: Vec<SocketAddr>,
}

/// All listeners and connections of one container.
#[derive(Debug)]
pub struct Relay {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    connections: Vec<Option<Connection>>,
    /// Whether new connections are taken.
    accepting: bool,
    /// Only there while there are connections.
    buffer: Vec<u8>,
}

/// One direction: what one end sent and the other has not taken yet.
#[derive(Debug, Default)]
struct Flow {
    waiting: Vec<u8>,
    /// The sender has said that nothing more comes.
    ended: bool,
    /// The receiver was told so.
    told: bool,
}

#[derive(Debug)]
struct Connection {
    /// The client, then the container.
    ends: [OwnedFd; 2],
    /// From the end of that number.
    flows: [Flow; 2],
    /// Until the container has accepted: the listener and how many of its targets were tried.
    connecting: Option<(usize, usize)>,
}

/// The connection is over.
struct Over;

impl Relay {
    /// Begins to accept.
    pub fn new(listeners: Vec<Listener>) -> std::io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let relay = Self { epoll, listeners, connections: Vec::new(), accepting: false, buffer: Vec::new() };
        let mut relay = relay;
        relay.accept_if(true);
        Ok(relay)
    }

    /// The sockets that connections come in at.
    pub fn listeners(&self) -> impl Iterator<Item = &OwnedFd> {
        self.listeners.iter().map(|listener| &listener.socket)
    }

    /// Whether no connection is open: then nothing is lost when the process executes itself.
    pub fn is_idle(&self) -> bool {
        self.connections.is_empty()
    }

    /// Moves what is ready to be moved.
    pub fn process(&mut self) {
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_A_TURN];
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok(ready) = epoll::wait(&self.epoll, &mut events, Some(&none)) else { return };
        for event in &events[..ready] {
            let (data, flags) = (event.data.u64(), event.flags);
            let number = (data & 0xffff_ffff) as usize;
            if data & LISTENER != 0 {
                self.accept(number);
            } else {
                self.work(number / 2, number % 2, flags);
            }
        }
        while self.connections.last().is_some_and(Option::is_none) {
            self.connections.pop();
        }
        if self.connections.is_empty() {
            self.buffer = Vec::new();
            self.connections = Vec::new();
        }
        let free = self.connections.iter().filter(|connection| connection.is_some()).count() < CONNECTIONS_MAX;
        self.accept_if(free);
    }

    fn accept_if(&mut self, accepting: bool) {
        if self.accepting == accepting {
            return;
        }
        self.accepting = accepting;
        for (number, listener) in self.listeners.iter().enumerate() {
            let data = EventData::new_u64(LISTENER | number as u64);
            // Without it nobody is served here; what the packet filter leads inside does not depend on it.
            let _refused = match accepting {
                true => epoll::add(&self.epoll, &listener.socket, data, EventFlags::IN),
                false => epoll::delete(&self.epoll, &listener.socket),
            };
        }
    }

    fn accept(&mut self, number: usize) {
        let Some(listener) = self.listeners.get(number) else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(client) = rustix::net::accept_with(&listener.socket, flags) else { return };
        let Some((socket, tried)) = connect(&listener.targets, 0) else {
            reset(&client);
            return;
        };
        for end in [&client, &socket] {
            make_prompt(end);
        }
        let place = match self.connections.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                self.connections.push(None);
                self.connections.len() - 1
            }
        };
        let connection = Connection {
            ends: [client, socket],
            flows: [Flow::default(), Flow::default()],
            connecting: Some((number, tried)),
        };
        let watched = connection.watch_all(&self.epoll, place);
        self.connections[place] = watched.then_some(connection);
    }

    fn work(&mut self, place: usize, end: usize, flags: EventFlags) {
        let Some(slot) = self.connections.get_mut(place) else { return };
        let Some(connection) = slot else { return };
        if self.buffer.is_empty() {
            self.buffer = vec![0; CHUNK_BYTES];
        }
        let targets = connection.connecting.and_then(|(listener, _)| self.listeners.get(listener));
        let targets = targets.map_or(&[][..], |listener| &listener.targets);
        if connection.serve(&self.epoll, place, end, flags, targets, &mut self.buffer).is_err() {
            *slot = None;
        }
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Connection {
    /// What is waited for at an end: room for what was sent to it, and what it sends while the other end keeps up.
    fn interest(&self, end: usize) -> EventFlags {
        let (outgoing, incoming) = (&self.flows[end], &self.flows[1 - end]);
        if self.connecting.is_some() {
            return if end == 1 { EventFlags::OUT } else { EventFlags::empty() };
        }
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !outgoing.ended && outgoing.waiting.is_empty());
        flags.set(EventFlags::OUT, !incoming.waiting.is_empty());
        flags
    }

    fn watch_all(&self, epoll: &OwnedFd, place: usize) -> bool {
        (0..2).all(|end| epoll::add(epoll, &self.ends[end], self.data(place, end), self.interest(end)).is_ok())
    }

    fn data(&self, place: usize, end: usize) -> EventData {
        EventData::new_u64((place * 2 + end) as u64)
    }

    fn serve(
        &mut self,
        epoll: &OwnedFd,
        place: usize,
        end: usize,
        flags: EventFlags,
        targets: &[SocketAddr],
        buffer: &mut [u8],
    ) -> Result<(), Over> {
        if let Some((_, tried)) = self.connecting {
            if end == 0 {
                // The client went away meanwhile.
                return Err(Over);
            }
            let refused = !matches!(sockopt::socket_error(&self.ends[1]), Ok(Ok(())));
            if refused {
                return self.try_next(epoll, place, targets, tried);
            }
            self.connecting = None;
        } else if flags.contains(EventFlags::ERR) {
            reset(&self.ends[0]);
            reset(&self.ends[1]);
            return Err(Over);
        }
        for from in [end, 1 - end] {
            self.move_on(from, buffer)?;
        }
        if self.flows.iter().all(|flow| flow.told) {
            return Err(Over);
        }
        for end in 0..2 {
            if self.flows[end].ended && self.flows[1 - end].told {
                // All is said there; the kernel would go on to tell of the hang-up. The second time there is no need.
                let _gone = epoll::delete(epoll, &self.ends[end]);
            } else {
                epoll::modify(epoll, &self.ends[end], self.data(place, end), self.interest(end)).map_err(|_| Over)?;
            }
        }
        Ok(())
    }

    /// Goes on to the next address of the container.
    fn try_next(&mut self, epoll: &OwnedFd, place: usize, targets: &[SocketAddr], tried: usize) -> Result<(), Over> {
        let Some((socket, tried)) = connect(targets, tried) else {
            reset(&self.ends[0]);
            return Err(Over);
        };
        make_prompt(&socket);
        self.connecting = self.connecting.map(|(listener, _)| (listener, tried));
        self.ends[1] = socket;
        epoll::add(epoll, &self.ends[1], self.data(place, 1), self.interest(1)).map_err(|_| Over)
    }

    /// Moves what `from` sent to the other end, as far as that takes it.
    fn move_on(&mut self, from: usize, buffer: &mut [u8]) -> Result<(), Over> {
        let (flow, sender, receiver) = (&mut self.flows[from], &self.ends[from], &self.ends[1 - from]);
        if !flow.waiting.is_empty() {
            let sent = send(receiver, &flow.waiting)?;
            flow.waiting.drain(..sent);
            if !flow.waiting.is_empty() {
                return Ok(());
            }
            flow.waiting = Vec::new();
        }
        for _ in 0..CHUNKS_A_TURN {
            if flow.ended {
                break;
            }
            match rustix::net::recv(sender, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => flow.ended = true,
                Ok((length, _)) => {
                    let sent = send(receiver, &buffer[..length])?;
                    if sent < length {
                        flow.waiting = buffer[sent..length].to_vec();
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(_) => {
                    reset(receiver);
                    return Err(Over);
                }
            }
        }
        if flow.ended && !flow.told {
            // A receiver that is gone is told in vain, and found out by the next event.
            let _gone = rustix::net::shutdown(receiver, Shutdown::Write);
            flow.told = true;
        }
        Ok(())
    }
}

/// Sends without waiting; how much was taken.
fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Over> {
    match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(length) => Ok(length),
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(_) => Err(Over),
    }
}

/// Begins a connection to the first of `targets`, after those that were `tried`, that the kernel does not refuse at
/// once; with how many were tried then.
fn connect(targets: &[SocketAddr], tried: usize) -> Option<(OwnedFd, usize)> {
    targets.iter().enumerate().skip(tried).find_map(|(number, target)| {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP)).ok()?;
        match rustix::net::connect(&socket, target) {
            Ok(()) | Err(Errno::INPROGRESS) => Some((socket, number + 1)),
            Err(_) => None,
        }
    })
}

/// Small messages go out at once, and a peer that vanished is noticed.
fn make_prompt(socket: &OwnedFd) {
    // Both only make it better.
    let _refused = sockopt::set_tcp_nodelay(socket, true);
    let _refused = sockopt::set_socket_keepalive(socket, true);
}

/// Makes the close of a socket a reset: the other side must not take it for an orderly end.
fn reset(socket: &OwnedFd) {
    let _refused = sockopt::set_socket_linger(socket, Some(std::time::Duration::ZERO));
}
