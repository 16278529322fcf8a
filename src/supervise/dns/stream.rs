//! Queries over TCP: each is two bytes of length and a message, one after the other on a connection.
//!
//! ```text
//!   Reading ──► known here ──────────────────────► Writing ──► Reading …
//!      └──────► Asking a server over TCP, the next one when it fails ──┘
//! ```
//!
//! Bounded: eight connections (the oldest makes room for a ninth), small queries, ten seconds without a step.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};

use super::packet::{self, Code, QUERY_BYTES_MAX};
use super::servers::Servers;

/// Connections at a time.
pub(super) const STREAMS_MAX: usize = 8;
/// A connection without a step for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// A server that has not answered for so long is given up.
const SERVER_PATIENCE: Duration = Duration::from_secs(3);
/// Reads and writes before others get their turn.
const STEPS_A_TURN: usize = 16;

enum Phase {
    Reading,
    Asking { socket: OwnedFd, sent: usize, attempts: usize, answer: Vec<u8> },
    Writing { sent: usize },
}

struct Stream {
    client: OwnedFd,
    phase: Phase,
    /// The query with its length in front; while writing, the answer.
    bytes: Vec<u8>,
    deadline: Instant,
}

/// What the owner of the connections does for them.
pub(super) trait Host {
    /// The answer to a query that is known here, `None` to ask a server; an error closes the connection.
    fn answer(&mut self, query: &[u8]) -> Result<Option<Vec<u8>>, ()>;
    /// Whom to ask.
    fn servers(&mut self) -> &mut Servers;
    /// Watches a socket of the connection in this place for these events.
    fn watch(&self, socket: BorrowedFd<'_>, place: usize, is_server: bool, events: EventFlags);
    /// Watches a client for other events.
    fn rewatch(&self, socket: BorrowedFd<'_>, place: usize, events: EventFlags);
}

/// All connections.
#[derive(Default)]
pub(super) struct Streams {
    all: Vec<Option<Stream>>,
}

/// What a step led to.
enum Step {
    /// On with the next one.
    Go,
    /// Nothing to do until the socket is ready.
    Wait,
    /// The connection is over.
    Close,
}

impl Streams {
    /// Takes a new connection.
    pub(super) fn accept(&mut self, host: &mut dyn Host, client: OwnedFd) {
        let place = match self.all.iter().position(Option::is_none) {
            Some(place) => place,
            None if self.all.len() < STREAMS_MAX => {
                self.all.push(None);
                self.all.len() - 1
            }
            None => {
                let deadline = |stream: &Option<Stream>| stream.as_ref().map(|stream| stream.deadline);
                let oldest = (0..self.all.len()).min_by_key(|place| deadline(&self.all[*place]));
                oldest.unwrap_or_default()
            }
        };
        host.watch(client.as_fd(), place, false, EventFlags::IN);
        let deadline = Instant::now() + IDLE;
        self.all[place] = Some(Stream { client, phase: Phase::Reading, bytes: Vec::new(), deadline });
    }

    /// Closes a connection whose client is gone: the kernel would tell so again and again while a server is asked.
    pub(super) fn hung_up(&mut self, place: usize) {
        if let Some(stream) = self.all.get_mut(place) {
            *stream = None;
        }
    }

    /// Goes on with a connection whose client or server socket is ready.
    pub(super) fn ready(&mut self, host: &mut dyn Host, place: usize) {
        let Some(Some(stream)) = self.all.get_mut(place) else { return };
        for _ in 0..STEPS_A_TURN {
            match stream.step(host, place) {
                Step::Go => {}
                Step::Wait => return,
                Step::Close => {
                    self.all[place] = None;
                    return;
                }
            }
        }
    }

    /// Closes what has waited too long, or asks the next server.
    pub(super) fn tick(&mut self, host: &mut dyn Host, now: Instant) {
        for place in 0..self.all.len() {
            let Some(stream) = self.all[place].as_mut().filter(|stream| stream.deadline <= now) else { continue };
            let over = match stream.phase {
                Phase::Asking { .. } => matches!(stream.server_failed(host, place), Step::Close),
                _ => true,
            };
            if over {
                self.all[place] = None;
            } else {
                self.ready(host, place);
            }
        }
    }

    /// When [`Streams::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.all.iter().flatten().map(|stream| stream.deadline).min()
    }
}

impl Stream {
    fn step(&mut self, host: &mut dyn Host, place: usize) -> Step {
        match self.phase {
            Phase::Reading => self.read(host, place),
            Phase::Asking { .. } => self.ask(host, place),
            Phase::Writing { .. } => self.write(host, place),
        }
    }

    fn read(&mut self, host: &mut dyn Host, place: usize) -> Step {
        let wanted = match packet::u16_at(&self.bytes, 0) {
            Some(length) => 2 + usize::from(length),
            None => 2,
        };
        if wanted > 2 + QUERY_BYTES_MAX {
            return Step::Close;
        }
        if self.bytes.len() < wanted || wanted == 2 {
            let mut buffer = [0u8; 2 + QUERY_BYTES_MAX];
            let missing = (wanted - self.bytes.len()).max(2 - self.bytes.len().min(2)).min(buffer.len());
            if missing == 0 {
                // A query of no bytes.
                return Step::Close;
            }
            return match rustix::net::recv(&self.client, &mut buffer[..missing], RecvFlags::DONTWAIT) {
                Ok((0, _)) => Step::Close,
                Ok((length, _)) => {
                    self.bytes.extend_from_slice(&buffer[..length]);
                    Step::Go
                }
                Err(Errno::AGAIN) => Step::Wait,
                Err(_) => Step::Close,
            };
        }
        match host.answer(&self.bytes[2..]) {
            Err(()) => Step::Close,
            Ok(Some(answer)) => {
                self.reply(host, place, &answer);
                Step::Go
            }
            Ok(None) => {
                // The client is not read meanwhile; that it hangs up is told anyway.
                host.rewatch(self.client.as_fd(), place, EventFlags::empty());
                self.ask_server(host, place, 0)
            }
        }
    }

    fn reply(&mut self, host: &mut dyn Host, place: usize, answer: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&(answer.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(answer);
        self.phase = Phase::Writing { sent: 0 };
        self.deadline = Instant::now() + IDLE;
        host.rewatch(self.client.as_fd(), place, EventFlags::OUT);
    }

    fn write(&mut self, host: &mut dyn Host, place: usize) -> Step {
        let Phase::Writing { sent } = &mut self.phase else { return Step::Close };
        match rustix::net::send(&self.client, &self.bytes[*sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(length) => *sent += length,
            Err(Errno::AGAIN) => return Step::Wait,
            Err(_) => return Step::Close,
        }
        if *sent == self.bytes.len() {
            self.bytes = Vec::new();
            self.phase = Phase::Reading;
            self.deadline = Instant::now() + IDLE;
            host.rewatch(self.client.as_fd(), place, EventFlags::IN);
        }
        Step::Go
    }

    /// Connects to the server in this turn; the query stays in `bytes`.
    fn ask_server(&mut self, host: &mut dyn Host, place: usize, attempts: usize) -> Step {
        let servers: Vec<SocketAddr> = host.servers().list().to_vec();
        for (attempt, server) in servers.iter().enumerate().skip(attempts) {
            let Ok(socket) = host.servers().connect(*server, SocketType::STREAM) else { continue };
            host.watch(socket.as_fd(), place, true, EventFlags::OUT);
            self.phase = Phase::Asking { socket, sent: 0, attempts: attempt + 1, answer: Vec::new() };
            self.deadline = Instant::now() + SERVER_PATIENCE;
            return Step::Wait;
        }
        let query = self.bytes.split_off(2.min(self.bytes.len()));
        match packet::read(&query) {
            Ok(question) => {
                let answer = packet::write(&query, &question, Code::ServerFailure, &[], usize::from(u16::MAX));
                self.reply(host, place, &answer);
                Step::Go
            }
            Err(_) => Step::Close,
        }
    }

    fn server_failed(&mut self, host: &mut dyn Host, place: usize) -> Step {
        let attempts = if let Phase::Asking { attempts, .. } = &self.phase { *attempts } else { 0 };
        self.phase = Phase::Reading;
        self.ask_server(host, place, attempts)
    }

    fn ask(&mut self, host: &mut dyn Host, place: usize) -> Step {
        let Phase::Asking { socket, sent, answer, .. } = &mut self.phase else { return Step::Close };
        if *sent < self.bytes.len() {
            match rustix::net::send(&*socket, &self.bytes[*sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(length) => *sent += length,
                Err(Errno::AGAIN | Errno::NOTCONN) => return Step::Wait,
                Err(_) => return self.server_failed(host, place),
            }
            if *sent == self.bytes.len() {
                host.watch(socket.as_fd(), place, true, EventFlags::IN);
            }
            return Step::Go;
        }
        let wanted = packet::u16_at(answer, 0).map_or(2, |length| 2 + usize::from(length));
        if answer.len() < wanted || wanted == 2 {
            let mut buffer = [0u8; 2048];
            let missing = if answer.len() < 2 { 2 - answer.len() } else { wanted - answer.len() };
            let read = rustix::net::recv(&*socket, &mut buffer[..missing.min(2048)], RecvFlags::DONTWAIT);
            return match read {
                Ok((length, _)) if length > 0 => {
                    answer.extend_from_slice(&buffer[..length]);
                    Step::Go
                }
                Err(Errno::AGAIN) => Step::Wait,
                _ => self.server_failed(host, place),
            };
        }
        let answer = std::mem::take(answer);
        let query = &self.bytes[2..];
        let fits = packet::read(query).is_ok_and(|question| packet::answers(&answer[2..], query, question.end));
        const REFUSED: u8 = 5;
        let code = packet::code(&answer[2..]);
        let failed = code == Code::ServerFailure as u8 || code == REFUSED;
        if !fits || answer[2..4] != query[..2] || failed {
            return self.server_failed(host, place);
        }
        self.reply(host, place, &answer[2..]);
        Step::Go
    }
}
