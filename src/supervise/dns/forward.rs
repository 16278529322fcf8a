//! Queries over UDP that are passed on as they are, with a number of our own.
//!
//! The first server is asked, the second one 150 ms later if there is no answer, and so on round; the first good
//! answer goes to the client. A server that refuses or fails makes the next one be asked at once. After four seconds
//! the client hears that it failed.
//!
//! Sockets are made when a query has to go out and closed when no answer is awaited: a new port each time.
//!
//! Bounded: queries under way, bytes of each, attempts and time. An answer counts only when it comes from the server
//! that was asked, has the number and repeats the question.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, SocketType};

use super::packet::{self, Code, Question};
use super::servers::Servers;

/// Queries under way at a time; a program that has more of them loses the next.
const PENDING_MAX: usize = 256;
/// Largest answer that is passed on over UDP; a larger one is asked for again over TCP.
pub(super) const ANSWER_BYTES: usize = 4096;
/// Answers taken from a socket before others get their turn.
const ANSWERS_A_TURN: usize = 32;
/// Time until the client hears that nobody answered.
const GIVE_UP: Duration = Duration::from_secs(4);
/// Time until the next server is asked, after each attempt.
const PATIENCE: [Duration; 4] =
    [Duration::from_millis(150), Duration::from_millis(850), Duration::from_secs(1), Duration::from_secs(2)];

struct Pending {
    client: SocketAddr,
    client_id: u16,
    id: u16,
    query: Box<[u8]>,
    question_end: u16,
    udp_bytes: u16,
    attempts: u8,
    refusals: u8,
    next_attempt: Instant,
    deadline: Instant,
}

/// The queries under way.
#[derive(Default)]
pub(super) struct Forwarder {
    pending: Vec<Pending>,
    sockets: Vec<(SocketAddr, OwnedFd)>,
}

/// What the forwarder works with.
pub(super) struct Tools<'a> {
    /// Whom to ask.
    pub servers: &'a mut Servers,
    /// The server's UDP socket: answers go out there.
    pub clients: BorrowedFd<'a>,
    /// Called with a new socket and its place, to watch it.
    pub watch: &'a dyn Fn(BorrowedFd<'_>, usize),
}

impl Forwarder {
    /// Passes a query on.
    pub(super) fn ask(&mut self, tools: &mut Tools<'_>, query: &[u8], question: &Question, client: SocketAddr) {
        let now = Instant::now();
        // A client that asks again does so with the same number: its first question is still under way.
        let again = |known: &&Pending| known.client == client && known.client_id == question.id;
        if self.pending.iter().any(|known| again(&known)) {
            return;
        }
        if self.pending.len() >= PENDING_MAX || tools.servers.list().is_empty() {
            refuse(tools.clients, query, question, client);
            return;
        }
        let pending = Pending {
            client,
            client_id: question.id,
            id: self.free_id(),
            query: query.into(),
            question_end: question.end as u16,
            udp_bytes: question.udp_bytes as u16,
            attempts: 0,
            refusals: 0,
            next_attempt: now,
            deadline: now + GIVE_UP,
        };
        self.pending.push(pending);
        self.attempt(tools, self.pending.len() - 1, now);
    }

    /// A number that no query under way has.
    fn free_id(&self) -> u16 {
        loop {
            let random = crate::base::id::random_hex(2);
            let id = u16::from_str_radix(&random, 16).unwrap_or_default();
            if self.pending.iter().all(|known| known.id != id) {
                return id;
            }
        }
    }

    /// Asks the next server; goes on to the one after when it cannot be reached.
    fn attempt(&mut self, tools: &mut Tools<'_>, place: usize, now: Instant) {
        let count = tools.servers.list().len().max(1);
        for _ in 0..count {
            let attempts = usize::from(self.pending[place].attempts);
            let Some(server) = tools.servers.list().get(attempts % count).copied() else { break };
            let patience = PATIENCE[attempts.min(PATIENCE.len() - 1)];
            // A single server gets its second question when the first one was probably lost.
            let patience = if count == 1 { patience.max(Duration::from_secs(1)) } else { patience };
            let pending = &mut self.pending[place];
            pending.attempts = pending.attempts.saturating_add(1);
            pending.next_attempt = now + patience;
            if self.send(tools, place, server) {
                return;
            }
            self.pending[place].refusals = self.pending[place].refusals.saturating_add(1);
        }
        let pending = &mut self.pending[place];
        // No server can be reached at all: no use in waiting.
        if usize::from(pending.refusals) >= count {
            pending.deadline = now;
        }
    }

    fn send(&mut self, tools: &mut Tools<'_>, place: usize, server: SocketAddr) -> bool {
        let known = self.sockets.iter().position(|(address, _)| *address == server);
        let socket = match known {
            Some(socket) => socket,
            None => {
                let Ok(socket) = tools.servers.connect(server, SocketType::DGRAM) else { return false };
                self.sockets.push((server, socket));
                let place = self.sockets.len() - 1;
                (tools.watch)(std::os::fd::AsFd::as_fd(&self.sockets[place].1), place);
                place
            }
        };
        let pending = &self.pending[place];
        let mut query = pending.query.to_vec();
        query[..2].copy_from_slice(&pending.id.to_be_bytes());
        rustix::net::send(&self.sockets[socket].1, &query, SendFlags::NOSIGNAL).is_ok()
    }

    /// Takes what a server's socket has.
    pub(super) fn readable(&mut self, tools: &mut Tools<'_>, socket: usize) {
        let mut buffer = [0u8; ANSWER_BYTES];
        for _ in 0..ANSWERS_A_TURN {
            let Some((server, fd)) = self.sockets.get(socket) else { return };
            let server = *server;
            match rustix::net::recv(fd, &mut buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
                Ok((_, length)) => {
                    let whole = length <= buffer.len();
                    self.answered(tools, &mut buffer[..length.min(ANSWER_BYTES)], whole);
                }
                Err(rustix::io::Errno::AGAIN) => return,
                // Nobody listens there: those who wait for it ask the next one.
                Err(_) => self.unreachable(tools, server),
            }
        }
    }

    fn unreachable(&mut self, tools: &mut Tools<'_>, server: SocketAddr) {
        let now = Instant::now();
        let count = tools.servers.list().len().max(1);
        for place in 0..self.pending.len() {
            let last = usize::from(self.pending[place].attempts).wrapping_sub(1) % count;
            if tools.servers.list().get(last) == Some(&server) {
                self.refused(tools, place, now);
            }
        }
        self.tick(tools, now);
    }

    /// A server said no: the next one, or the end when all did.
    fn refused(&mut self, tools: &mut Tools<'_>, place: usize, now: Instant) {
        let pending = &mut self.pending[place];
        pending.refusals = pending.refusals.saturating_add(1);
        if usize::from(pending.refusals) >= tools.servers.list().len() {
            pending.deadline = now;
        } else {
            self.attempt(tools, place, now);
        }
    }

    fn answered(&mut self, tools: &mut Tools<'_>, answer: &mut [u8], whole: bool) {
        let Some(id) = packet::u16_at(answer, 0) else { return };
        let fits =
            |known: &Pending| known.id == id && packet::answers(answer, &known.query, usize::from(known.question_end));
        let Some(place) = self.pending.iter().position(fits) else { return };
        const REFUSED: u8 = 5;
        let code = packet::code(answer);
        if code == Code::ServerFailure as u8 || code == REFUSED {
            let last = usize::from(self.pending[place].refusals) + 1 >= tools.servers.list().len();
            if !last {
                self.refused(tools, place, Instant::now());
                return;
            }
        }
        let pending = self.pending.swap_remove(place);
        let mut reply = answer.to_vec();
        reply[..2].copy_from_slice(&pending.client_id.to_be_bytes());
        if !whole || reply.len() > usize::from(pending.udp_bytes) {
            packet::truncate(&mut reply, usize::from(pending.question_end));
        }
        send_to(tools.clients, &reply, pending.client);
        self.close_when_idle();
    }

    /// Does what is due: asks the next servers, gives up.
    pub(super) fn tick(&mut self, tools: &mut Tools<'_>, now: Instant) {
        let mut place = 0;
        while place < self.pending.len() {
            if self.pending[place].deadline <= now {
                let pending = self.pending.swap_remove(place);
                if let Ok(question) = packet::read(&pending.query) {
                    refuse(tools.clients, &pending.query, &question, pending.client);
                }
                continue;
            }
            if self.pending[place].next_attempt <= now {
                self.attempt(tools, place, now);
            }
            place += 1;
        }
        self.close_when_idle();
    }

    fn close_when_idle(&mut self) {
        if self.pending.is_empty() {
            self.sockets.clear();
            self.pending.shrink_to(8);
        }
    }

    /// When [`Forwarder::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.next_attempt.min(pending.deadline)).min()
    }
}

fn refuse(clients: BorrowedFd<'_>, query: &[u8], question: &Question, client: SocketAddr) {
    let answer = packet::write(query, question, Code::ServerFailure, &[], question.udp_bytes);
    send_to(clients, &answer, client);
}

/// Sends an answer. A client that does not take it will ask again.
pub(super) fn send_to(socket: BorrowedFd<'_>, answer: &[u8], client: SocketAddr) {
    let _ = rustix::net::sendto(socket, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &client);
}
