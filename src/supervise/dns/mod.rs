//! The container's name server: 127.0.0.11 inside its network namespace, answered by its supervisor.
//!
//! It owns one epoll descriptor that stands for all its sockets, so that the supervisor polls a single one:
//!
//! ```text
//! let mut dns = Server::bind(config)?;
//! loop { poll([.., dns.as_fd()], min(.., dns.next_deadline())); dns.process(); }
//! ```
//!
//! Its sockets have a port of their own; rules of the namespace's packet filter direct port 53 of 127.0.0.11 there,
//! so that programs inside may bind port 53 of every address. Names of the container's networks are answered from
//! the endpoint records ([`records`]); the rest is passed on as it is ([`forward`], [`stream`]).
//!
//! A name of ours is never asked for elsewhere: for a type that it does not have the answer is empty. A container in
//! internal networks alone gets no answer from elsewhere (unless it has servers of its own): unknown names do not
//! exist.
//!
//! Not done: search domains (the resolver inside adds them), DNSSEC, caching.

mod forward;
mod packet;
mod records;
mod servers;
mod stream;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};

use crate::base::id::{ContainerId, NetworkId};
use crate::net::nft::expression::{Expression, FIRST, Meta};
use crate::net::nft::{self, Batch, Chain, Family, Hook};
use crate::net::{Error, Result, netns};
use forward::{Forwarder, Tools};
use packet::{Code, Question, Record};
use records::Records;
use servers::Servers;
use stream::Streams;

/// Where containers ask.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
/// The table inside the container's namespace.
const TABLE: &str = "wharf_dns";
/// Queries taken from the socket before others get their turn.
const QUERIES_A_TURN: usize = 64;
/// Readiness taken from epoll at once.
const EVENTS_A_TURN: usize = 16;

/// What an event belongs to: the kind in the upper half, the place in the lower.
const UDP: u64 = 0;
const TCP: u64 = 1 << 32;
const FORWARD: u64 = 2 << 32;
const STREAM: u64 = 3 << 32;
const STREAM_SERVER: u64 = 4 << 32;

/// How long no connection is taken when the system has no descriptor for it.
const BREATHER: Duration = Duration::from_secs(1);

/// What a server needs to know.
#[derive(Debug)]
pub struct Config<'a> {
    /// The container's network namespace. Kept open (a duplicate) when `servers` are given.
    pub netns: BorrowedFd<'a>,
    /// `net::Host::run_folder`: the folder of the endpoint records.
    pub run_folder: PathBuf,
    /// The container.
    pub container: ContainerId,
    /// Its networks.
    pub networks: Vec<NetworkId>,
    /// Its own `dns:` servers, asked from inside; empty: the host's, asked from the host's side.
    pub servers: Vec<IpAddr>,
    /// Whether unknown names are asked for elsewhere: false when all its networks are internal.
    pub forward: bool,
    /// The port to bind, as an earlier [`Server::port`] said, when taking over from a dead supervisor.
    pub port: Option<u16>,
    /// Sockets that [`Server::sockets`] named before this process executed itself, in that order: used as they are,
    /// so that no query is lost in between. Empty: bind new ones.
    pub sockets: Vec<OwnedFd>,
}

/// A name server for one container. Never blocks, makes no thread.
pub struct Server {
    epoll: OwnedFd,
    udp: OwnedFd,
    tcp: OwnedFd,
    port: u16,
    desk: Desk,
    forwarder: Forwarder,
    streams: Streams,
    /// Until then no connection is taken.
    breather: Option<Instant>,
}

/// What answers, without its sockets.
struct Desk {
    records: Records,
    servers: Servers,
    forward: bool,
    has_own_servers: bool,
    container: ContainerId,
    run_folder: PathBuf,
}

/// What to do with a message.
enum Decision {
    /// Send this.
    Answer(Vec<u8>),
    /// Ask elsewhere.
    Forward(Question),
    /// Say nothing.
    Ignore,
}

impl Server {
    /// Binds UDP and TCP on 127.0.0.11 inside and directs port 53 there.
    pub fn bind(config: Config<'_>) -> Result<Self> {
        let failed = |source| Error::Link { operation: "open the container's name server".to_owned(), source };
        let mut sockets = config.sockets.into_iter();
        let (udp, tcp) = match (sockets.next(), sockets.next()) {
            (Some(udp), Some(tcp)) => (udp, tcp),
            _ => netns::inside(config.netns, || open(config.port))??,
        };
        let port = port_of(&udp).map_err(|errno| failed(errno.into()))?;
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        for (socket, data) in [(&udp, UDP), (&tcp, TCP)] {
            epoll::add(&epoll, socket, EventData::new_u64(data), EventFlags::IN)
                .map_err(|errno| failed(errno.into()))?;
        }
        let servers = if config.servers.is_empty() {
            Servers::of_host()
        } else {
            Servers::of_container(&config.servers, config.netns.try_clone_to_owned().map_err(failed)?)
        };
        let folders = config.networks.iter().map(|network| config.run_folder.join(network.as_str())).collect();
        let desk = Desk {
            records: Records::new(config.container.clone(), folders),
            servers,
            forward: config.forward || !config.servers.is_empty(),
            has_own_servers: !config.servers.is_empty(),
            container: config.container,
            run_folder: config.run_folder,
        };
        Ok(Self {
            epoll,
            udp,
            tcp,
            port,
            desk,
            forwarder: Forwarder::default(),
            streams: Streams::default(),
            breather: None,
        })
    }

    /// The port inside, for a successor.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The bound sockets (UDP, TCP listener), to keep open through an exec and hand over as [`Config::sockets`].
    pub fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.udp.as_fd(), self.tcp.as_fd()]
    }

    /// The container is in these networks now; `forward` as in [`Config::forward`].
    pub fn set_networks<'a>(&mut self, networks: impl Iterator<Item = &'a NetworkId>, forward: bool) {
        let folders = networks.map(|network| self.desk.run_folder.join(network.as_str())).collect();
        self.desk.records = Records::new(self.desk.container.clone(), folders);
        self.desk.forward = forward || self.desk.has_own_servers;
    }

    /// When [`Server::process`] must be called even if nothing is readable.
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.forwarder.next_deadline(), self.streams.next_deadline(), self.breather].into_iter().flatten().min()
    }

    /// Does what can be done without waiting; bounded, so that others get their turn.
    pub fn process(&mut self) {
        let now = Instant::now();
        if self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.forward(|forwarder, tools| forwarder.tick(tools, now));
            self.stream(|streams, host| streams.tick(host, now));
            if self.breather.is_some_and(|end| end <= now) {
                self.breather = None;
                self.listen(EventFlags::IN);
            }
        }
        let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS_A_TURN];
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok((ready, _)) = epoll::wait(&self.epoll, &mut events[..], Some(&none)) else { return };
        for event in ready {
            let (data, flags) = (event.data.u64(), event.flags);
            let place = (data & 0xffff_ffff) as usize;
            match data & !0xffff_ffff {
                UDP => self.take_queries(),
                TCP => self.take_connection(),
                FORWARD => self.forward(|forwarder, tools| forwarder.readable(tools, place)),
                // Both directions are closed, or it was reset.
                STREAM if flags.intersects(EventFlags::HUP | EventFlags::ERR) => self.streams.hung_up(place),
                _ => self.stream(|streams, host| streams.ready(host, place)),
            }
        }
    }

    fn take_queries(&mut self) {
        let mut buffer = [0u8; packet::QUERY_BYTES_MAX];
        for _ in 0..QUERIES_A_TURN {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let (length, client) = match rustix::net::recvfrom(&self.udp, &mut buffer[..], flags) {
                Ok((_, length, client)) => (length, client),
                Err(Errno::AGAIN) => return,
                // An answer of ours did not get through (ICMP): nothing to do.
                Err(_) => continue,
            };
            let Some(client) = client.and_then(|client| SocketAddr::try_from(client).ok()) else { continue };
            // Longer than any query: not looked at.
            let Some(message) = buffer.get(..length) else { continue };
            match self.desk.decide(message, None) {
                Decision::Answer(answer) => forward::send_to(self.udp.as_fd(), &answer, client),
                Decision::Forward(question) => {
                    self.forward(|forwarder, tools| forwarder.ask(tools, message, &question, client));
                }
                Decision::Ignore => {}
            }
        }
    }

    fn take_connection(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(&self.tcp, flags) {
            Ok(client) => self.stream(|streams, host| streams.accept(host, client)),
            // It would be told to be ready again and again.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.listen(EventFlags::empty());
                self.breather = Some(Instant::now() + BREATHER);
            }
            Err(_) => {}
        }
    }

    fn listen(&self, events: EventFlags) {
        let _ = epoll::modify(&self.epoll, &self.tcp, EventData::new_u64(TCP), events);
    }

    fn forward(&mut self, work: impl FnOnce(&mut Forwarder, &mut Tools<'_>)) {
        let epoll = &self.epoll;
        let watch = |socket: BorrowedFd<'_>, place: usize| {
            // Without it the answer is not seen and the client hears of a failure in time.
            let _ = epoll::add(epoll, socket, EventData::new_u64(FORWARD | place as u64), EventFlags::IN);
        };
        let mut tools = Tools { servers: &mut self.desk.servers, clients: self.udp.as_fd(), watch: &watch };
        work(&mut self.forwarder, &mut tools);
    }

    fn stream(&mut self, work: impl FnOnce(&mut Streams, &mut dyn stream::Host)) {
        let mut host = StreamHost { desk: &mut self.desk, epoll: self.epoll.as_fd() };
        work(&mut self.streams, &mut host);
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Desk {
    /// Decides about a message; `limit` is the largest answer, by default what the client takes over UDP.
    fn decide(&mut self, message: &[u8], limit: Option<usize>) -> Decision {
        let question = match packet::read(message) {
            Ok(question) => question,
            Err(Some(code)) => return Decision::Answer(packet::refuse(message, code)),
            Err(None) => return Decision::Ignore,
        };
        let limit = limit.unwrap_or(question.udp_bytes);
        let say = |code, records: &[Record]| Decision::Answer(packet::write(message, &question, code, records, limit));
        if question.internet {
            if question.kind == packet::PTR {
                let pointers = packet::reverse(&question.name).map(|address| self.records.pointers(address));
                if let Some(pointers) = pointers.filter(|pointers| !pointers.is_empty()) {
                    return say(Code::NoError, &pointers);
                }
            } else if let Some(addresses) = self.records.addresses(&question.name) {
                let wanted = |address: &IpAddr| match question.kind {
                    packet::A => address.is_ipv4(),
                    packet::AAAA => address.is_ipv6(),
                    packet::ANY => true,
                    _ => false,
                };
                let records: Vec<Record> = addresses.into_iter().filter(wanted).map(Record::Address).collect();
                return say(Code::NoError, &records);
            }
        }
        if self.forward { Decision::Forward(question) } else { say(Code::NameError, &[]) }
    }
}

/// What connections need, borrowed from the server.
struct StreamHost<'a> {
    desk: &'a mut Desk,
    epoll: BorrowedFd<'a>,
}

impl stream::Host for StreamHost<'_> {
    fn answer(&mut self, query: &[u8]) -> std::result::Result<Option<Vec<u8>>, ()> {
        match self.desk.decide(query, Some(usize::from(u16::MAX))) {
            Decision::Answer(answer) => Ok(Some(answer)),
            Decision::Forward(_) => Ok(None),
            Decision::Ignore => Err(()),
        }
    }

    fn servers(&mut self) -> &mut Servers {
        &mut self.desk.servers
    }

    fn watch(&self, socket: BorrowedFd<'_>, place: usize, is_server: bool, events: EventFlags) {
        let kind = if is_server { STREAM_SERVER } else { STREAM };
        let data = EventData::new_u64(kind | place as u64);
        // A socket that is not watched is closed when its time is over.
        if epoll::add(self.epoll, socket, data, events) == Err(Errno::EXIST) && is_server {
            let _ = epoll::modify(self.epoll, socket, data, events);
        }
    }

    fn rewatch(&self, socket: BorrowedFd<'_>, place: usize, events: EventFlags) {
        let _ = epoll::modify(self.epoll, socket, EventData::new_u64(STREAM | place as u64), events);
    }
}

/// Binds both sockets to one port in the calling thread's namespace and directs port 53 there. Without nf_tables
/// they have port 53 itself.
fn open(port: Option<u16>) -> Result<(OwnedFd, OwnedFd)> {
    let failed = |errno: Errno| Error::Link {
        operation: format!("bind {ADDRESS} in the container's network namespace"),
        source: errno.into(),
    };
    let sockets = match port {
        Some(port) => bind(port).map_err(failed)?,
        None => bind_any().map_err(failed)?,
    };
    let bound = port_of(&sockets.0).map_err(failed)?;
    if bound == PORT {
        return Ok(sockets);
    }
    match direct(bound) {
        Ok(()) => Ok(sockets),
        // The reason is the filter's: no nf_tables in this kernel, most likely.
        Err(error) => bind(PORT).map_err(|_| error),
    }
}

fn bind_any() -> std::result::Result<(OwnedFd, OwnedFd), Errno> {
    /// A port that is free for UDP is seldom taken for TCP in a new namespace.
    const TRIES: usize = 16;
    let mut refused = Errno::ADDRINUSE;
    for _ in 0..TRIES {
        match bind(0) {
            Ok(sockets) => return Ok(sockets),
            Err(errno) => refused = errno,
        }
    }
    Err(refused)
}

fn bind(port: u16) -> std::result::Result<(OwnedFd, OwnedFd), Errno> {
    let socket = |kind| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::INET, kind, flags, None)
    };
    let udp = socket(SocketType::DGRAM)?;
    rustix::net::bind(&udp, &SocketAddr::from((ADDRESS, port)))?;
    let port = port_of(&udp)?;
    let tcp = socket(SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&tcp, true)?;
    rustix::net::bind(&tcp, &SocketAddr::from((ADDRESS, port)))?;
    rustix::net::listen(&tcp, 16)?;
    Ok((udp, tcp))
}

fn port_of(socket: &OwnedFd) -> std::result::Result<u16, Errno> {
    let name = rustix::net::getsockname(socket)?;
    SocketAddr::try_from(name).map(|address| address.port()).map_err(|_| Errno::AFNOSUPPORT)
}

/// Directs port 53 of 127.0.0.11 to ours, in the calling thread's namespace.
fn direct(port: u16) -> Result<()> {
    let failed = |source| Error::Firewall { operation: "direct the container's DNS queries".to_owned(), source };
    let mut socket = nft::Socket::open()?;
    let comment = format!("port {port}");
    let found = socket.table_comment(Family::Ip, TABLE).map_err(failed)?;
    if found.as_deref() == Some(comment.as_str()) {
        return Ok(());
    }
    let mut batch = Batch::new(Family::Ip, TABLE);
    if found.is_some() {
        batch.delete_table();
    }
    batch.add_table(&comment, true);
    batch.add_chain(Chain { name: "output", base: Some(("nat", Hook::Output, -100)) });
    const UDP: u8 = 17;
    const TCP: u8 = 6;
    for protocol in [UDP, TCP] {
        batch.add_rule(
            "output",
            &[
                Expression::Network(16, 4, FIRST),
                Expression::Equal(ADDRESS.octets().to_vec()),
                Expression::Meta(Meta::Protocol, FIRST),
                Expression::Equal(vec![protocol]),
                Expression::DestinationPort(FIRST),
                Expression::Equal(PORT.to_be_bytes().to_vec()),
                Expression::Load(ADDRESS.octets().to_vec(), FIRST),
                Expression::Load(port.to_be_bytes().to_vec(), FIRST + 1),
                Expression::DestinationNat(Family::Ip as u8, FIRST + 1),
            ],
        );
    }
    socket.commit(batch).map_err(failed)
}
