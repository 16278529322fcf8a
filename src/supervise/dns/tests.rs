//! A name server in a real namespace, asked by real sockets at 127.0.0.11:53; servers elsewhere are played.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::packet::tests::query;
use super::packet::{self, A, AAAA};
use super::servers::Servers;
use super::{Config, Server};
use crate::model::network::NetworkRecord;
use crate::net::endpoint;
use crate::net::network::Wish;
use crate::net::testing::{TestContainer, TestHost, on_a_host};

const ASK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
const MX: u16 = 15;

/// A server at work until it is dropped.
struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Server>>,
}

impl Running {
    fn new(mut server: Server) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let wait = server.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
                let wait = wait.unwrap_or(Duration::MAX).min(Duration::from_millis(20));
                let wait = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as _ };
                rustix::event::poll(&mut [PollFd::new(&server, PollFlags::IN)], Some(&wait)).unwrap();
                server.process();
            }
            server
        });
        Self { stop, thread: Some(thread) }
    }

    fn stop(mut self) -> Server {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn config<'a>(test: &TestHost, container: &'a TestContainer, forward: bool) -> Config<'a> {
    Config {
        netns: container.netns.as_fd(),
        run_folder: test.host.run_folder().to_owned(),
        container: container.spec.id.clone(),
        networks: container.endpoints.iter().map(|endpoint| endpoint.network.clone()).collect(),
        servers: Vec::new(),
        forward,
        port: None,
        sockets: Vec::new(),
    }
}

/// Serves a container; names of nobody are asked for at `elsewhere`.
fn serve(test: &TestHost, container: &TestContainer, elsewhere: Vec<SocketAddr>) -> Running {
    let mut server = Server::bind(config(test, container, !elsewhere.is_empty())).unwrap();
    server.desk.servers = Servers::fixed(elsewhere);
    Running::new(server)
}

/// Asks over UDP and returns the whole answer.
fn ask_udp(test: &TestHost, netns: &OwnedFd, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = test.inside(netns, || UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(6)))?;
    socket.connect(ASK)?;
    socket.send(message)?;
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Asks over TCP and returns the whole answer.
fn ask_tcp(test: &TestHost, netns: &OwnedFd, message: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = test.inside(netns, || TcpStream::connect(ASK))?;
    stream.set_read_timeout(Some(Duration::from_secs(6)))?;
    // In two pieces, as a hostile client would.
    stream.write_all(&(message.len() as u16).to_be_bytes())?;
    std::thread::sleep(Duration::from_millis(5));
    stream.write_all(message)?;
    read_framed(&mut stream)
}

fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The code and the addresses of an answer to a question of ours.
fn read(answer: &[u8], question: &[u8]) -> (u8, Vec<IpAddr>) {
    assert_eq!(answer[..2], question[..2], "the number");
    let mut offset = packet::read(question).unwrap().end;
    assert_eq!(answer[12..offset], question[12..offset], "the question");
    let mut addresses = Vec::new();
    for _ in 0..packet::u16_at(answer, 6).unwrap() {
        let length = usize::from(packet::u16_at(answer, offset + 10).unwrap());
        let data = &answer[offset + 12..offset + 12 + length];
        match length {
            4 => addresses.push(IpAddr::from(<[u8; 4]>::try_from(data).unwrap())),
            16 => addresses.push(IpAddr::from(<[u8; 16]>::try_from(data).unwrap())),
            _ => {}
        }
        offset += 12 + length;
    }
    (packet::code(answer), addresses)
}

fn lookup(test: &TestHost, container: &TestContainer, name: &str, kind: u16) -> (u8, Vec<IpAddr>) {
    let question = query(0x1234, name, kind, None);
    read(&ask_udp(test, &container.netns, &question).unwrap(), &question)
}

/// Plays a name server on the host: answers every name with `address`, after `delay`.
fn elsewhere(address: [u8; 4], delay: Duration, code: u8) -> SocketAddr {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let place = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(place).unwrap();
    let reply = move |message: &[u8]| {
        let question = packet::read(message).unwrap();
        let records = [packet::Record::Address(address.into())];
        let mut answer =
            packet::write(message, &question, packet::Code::NoError, &records[..usize::from(code == 0)], 512);
        answer[3] = answer[3] & 0xf0 | code;
        answer
    };
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            std::thread::sleep(delay);
            drop(udp.send_to(&reply(&buffer[..length]), client));
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            if let Ok(message) = read_framed(&mut stream) {
                let answer = reply(&message);
                drop(stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat()));
            }
        }
    });
    place
}

#[test]
fn names_of_the_containers_networks_are_answered() {
    on_a_host(|test| {
        let (front, back) = (test.plain_network("front"), test.plain_network("back"));
        let web = test.container("web", &[&front, &back]);
        let db = test.container("db", &[&back]);
        let stranger = test.container("stranger", &[&test.plain_network("other")]);
        let _running = serve(test, &web, Vec::new());
        let short = db.spec.id.short();
        for name in ["db", "DB", "db-alias", "db.back", short] {
            assert_eq!(lookup(test, &web, name, A), (0, vec![db.ipv4()]), "{name}");
        }
        assert_eq!(lookup(test, &web, "db", AAAA), (0, vec![]), "known, but without IPv6");
        assert_eq!(lookup(test, &web, "db", MX), (0, vec![]));
        for name in ["db.front", "stranger", "db.back.back", "example.com", "d", "dbx"] {
            assert_eq!(lookup(test, &web, name, A).0, 3, "{name}");
        }
        assert_eq!(lookup(test, &web, "host.docker.internal", A).1, web.endpoints[1].gateways);
        let question = query(1, "db", A, Some(1232));
        assert_eq!(read(&ask_tcp(test, &web.netns, &question).unwrap(), &question), (0, vec![db.ipv4()]));
        // An address has a name.
        let IpAddr::V4(address) = db.ipv4() else { panic!() };
        let [a, b, c, d] = address.octets();
        let question = query(2, &format!("{d}.{c}.{b}.{a}.in-addr.arpa"), packet::PTR, None);
        let answer = ask_udp(test, &web.netns, &question).unwrap();
        assert!(answer.ends_with(b"\x02db\x04back\0"), "{answer:?}");
        // Another one comes and goes; the next query knows.
        let late = test.container("late", &[&front]);
        assert_eq!(lookup(test, &web, "late", A), (0, vec![late.ipv4()]));
        endpoint::disconnect(&test.host, &late.spec.id, [&front.id]).unwrap();
        assert_eq!(lookup(test, &web, "late", A).0, 3);
        drop(stranger);
    });
}

#[test]
fn replicas_take_turns() {
    on_a_host(|test| {
        let front = test.plain_network("front");
        let web = test.container("web", &[&front]);
        let replicas: Vec<TestContainer> = (1..=3)
            .map(|number| {
                let mut spec = crate::net::testing::spec(&format!("app-{number}"), &[&front]);
                if let crate::model::container::NetworkMode::Networks { attachments } = &mut spec.network {
                    attachments[0].aliases = vec!["app".into()];
                }
                test.container_of(spec)
            })
            .collect();
        let _running = serve(test, &web, Vec::new());
        let answers: Vec<Vec<IpAddr>> = (0..6).map(|_| lookup(test, &web, "app", A).1).collect();
        for replica in &replicas {
            assert_eq!(answers.iter().filter(|answer| answer[0] == replica.ipv4()).count(), 2);
            assert!(answers.iter().all(|answer| answer.len() == 3 && answer.contains(&replica.ipv4())));
        }
    });
}

#[test]
fn other_names_are_asked_for_elsewhere() {
    on_a_host(|test| {
        let front = test.plain_network("front");
        let web = test.container("web", &[&front]);
        let place = elsewhere([203, 0, 113, 7], Duration::ZERO, 0);
        let _running = serve(test, &web, vec![place]);
        let expected = (0, vec![IpAddr::from([203, 0, 113, 7])]);
        for round in 0..50 {
            assert_eq!(lookup(test, &web, &format!("n{round}.example"), A), expected);
        }
        let question = query(9, "tcp.example", A, None);
        assert_eq!(read(&ask_tcp(test, &web.netns, &question).unwrap(), &question), expected);
        // Own names stay here.
        assert_eq!(lookup(test, &web, "web", A).1, [web.ipv4()]);
    });
}

#[test]
fn a_server_that_fails_or_is_slow_is_passed_over() {
    on_a_host(|test| {
        let front = test.plain_network("front");
        let web = test.container("web", &[&front]);
        let good = elsewhere([203, 0, 113, 7], Duration::ZERO, 0);
        let slow = elsewhere([203, 0, 113, 8], Duration::from_secs(8), 0);
        let failing = elsewhere([0; 4], Duration::ZERO, 2);
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (first, name) in [(slow, "slow"), (failing, "failing"), (closed, "closed")] {
            let running = serve(test, &web, vec![first, good]);
            let before = Instant::now();
            let question = query(3, &format!("{name}.example"), A, None);
            let answer = ask_udp(test, &web.netns, &question).unwrap();
            assert_eq!(read(&answer, &question).1, [IpAddr::from([203, 0, 113, 7])], "{name}");
            assert!(before.elapsed() < Duration::from_secs(5), "{name}: {:?}", before.elapsed());
            if name != "slow" {
                let answer = ask_tcp(test, &web.netns, &question).unwrap();
                assert_eq!(read(&answer, &question).0, 0, "{name} over TCP");
            }
            drop(running.stop());
        }
        // When nobody answers the client hears of it at once, or after four seconds.
        let running = serve(test, &web, vec![closed]);
        let before = Instant::now();
        assert_eq!(lookup(test, &web, "nobody.example", A).0, 2);
        assert!(before.elapsed() < Duration::from_millis(3_500), "{:?}", before.elapsed());
        drop(running.stop());
    });
}

#[test]
fn a_client_that_hangs_up_while_a_server_is_asked_costs_nothing() {
    on_a_host(|test| {
        let front = test.plain_network("front");
        let web = test.container("web", &[&front]);
        // A server that takes connections and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = Server::bind(config(test, &web, true)).unwrap();
        server.desk.servers = Servers::fixed(vec![silent.local_addr().unwrap()]);
        let question = query(1, "example.com", A, None);
        let mut stream = test.inside(&web.netns, || TcpStream::connect(ASK)).unwrap();
        stream.write_all(&[&(question.len() as u16).to_be_bytes()[..], &question].concat()).unwrap();
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(5));
            server.process();
        }
        assert!(server.next_deadline().is_some(), "it waits for the server");
        // More than was asked for stays unread: closing resets the connection.
        stream.write_all(b"more").unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(5));
            server.process();
        }
        assert_eq!(server.next_deadline(), None, "the connection is closed");
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = rustix::event::poll(&mut [PollFd::new(&server, PollFlags::IN)], Some(&now)).unwrap();
        assert_eq!(ready, 0, "nothing is told again and again");
    });
}

#[test]
fn the_containers_own_servers_are_asked_from_inside() {
    on_a_host(|test| {
        let hidden = test.network(Wish { name: "hidden".into(), internal: true, ..Wish::default() });
        let (web, server) = (test.container("web", &[&hidden]), test.container("server", &[&hidden]));
        let socket = test.inside(&server.netns, || UdpSocket::bind("0.0.0.0:53").unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            let (length, client) = socket.recv_from(&mut buffer).unwrap();
            let question = packet::read(&buffer[..length]).unwrap();
            let records = [packet::Record::Address(client.ip())];
            let answer = packet::write(&buffer[..length], &question, packet::Code::NoError, &records, 512);
            socket.send_to(&answer, client).unwrap();
        });
        let mut config = config(test, &web, false);
        config.servers = vec![server.ipv4()];
        let _running = Running::new(Server::bind(config).unwrap());
        assert_eq!(lookup(test, &web, "example.com", A), (0, vec![web.ipv4()]), "the server saw the container");
    });
}

#[test]
fn a_successor_goes_on_without_losing_a_query() {
    on_a_host(|test| {
        let front = test.plain_network("front");
        let web = test.container("web", &[&front]);
        let first = serve(test, &web, Vec::new());
        assert_eq!(lookup(test, &web, "web", A).1, [web.ipv4()]);
        let first = first.stop();
        let port = first.port();
        // Through an exec: the sockets stay open, and what came meanwhile is answered.
        let sockets = first.sockets().iter().map(|socket| socket.try_clone_to_owned().unwrap()).collect();
        drop(first);
        let asking = test.inside(&web.netns, || UdpSocket::bind("0.0.0.0:0").unwrap());
        asking.send_to(&query(5, "web", A, None), ASK).unwrap();
        let mut second = config(test, &web, false);
        (second.port, second.sockets) = (Some(port), sockets);
        let second = Running::new(Server::bind(second).unwrap());
        asking.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        asking.recv(&mut [0; 512]).unwrap();
        // After a kill: the same port again, the rules are there.
        drop(second.stop());
        let mut third = config(test, &web, false);
        third.port = Some(port);
        let third = Server::bind(third).unwrap();
        assert_eq!(third.port(), port);
        let _third = Running::new(third);
        assert_eq!(lookup(test, &web, "web", A).1, [web.ipv4()]);
    });
}

#[test]
fn hostile_clients_and_servers_do_no_harm() {
    on_a_host(|test| {
        let front = test.plain_network("front");
        let web = test.container("web", &[&front]);
        // A server that answers every query with garbage: wrong numbers, other questions, random bytes.
        let liar = UdpSocket::bind("127.0.0.1:0").unwrap();
        let place = liar.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, client)) = liar.recv_from(&mut buffer) {
                let mut answer = buffer[..length].to_vec();
                answer[2] |= 0x80;
                for end in 0..length {
                    drop(liar.send_to(&answer[..end], client));
                }
                answer[13] ^= 0x55;
                drop(liar.send_to(&answer, client));
                drop(liar.send_to(crate::base::id::random_hex(300).as_bytes(), client));
            }
        });
        let _running = serve(test, &web, vec![place]);
        let socket = test.inside(&web.netns, || UdpSocket::bind("0.0.0.0:0").unwrap());
        let template = query(7, "web.example", A, Some(1232));
        for round in 0..3_000usize {
            let random = crate::base::id::random_hex(40).into_bytes();
            let mut message = if round % 3 == 0 { random.clone() } else { template.clone() };
            let length = message.len();
            message[round * 7 % length] = random[round % 40];
            message.truncate(round % (length + 1));
            drop(socket.send_to(&message, ASK));
        }
        drop(socket.send_to(&[0x41; 9000], ASK));
        let mut streams = Vec::new();
        for round in 0..40u8 {
            let mut stream = test.inside(&web.netns, || TcpStream::connect(ASK)).unwrap();
            drop(stream.write_all(&[round % 4, round, 1, 2, 3]));
            streams.push(stream);
        }
        assert_eq!(lookup(test, &web, "web", A).1, [web.ipv4()], "it still works");
        let question = query(1, "web", A, None);
        assert_eq!(read(&ask_tcp(test, &web.netns, &question).unwrap(), &question).1, [web.ipv4()]);
    });
}

#[test]
fn a_network_of_many_is_answered_quickly() {
    on_a_host(|test| {
        let front: NetworkRecord = test.plain_network("front");
        let web = test.container("web", &[&front]);
        let endpoints = test.store.endpoints();
        for number in 0..400u16 {
            let mut endpoint = web.endpoints[0].clone();
            endpoint.container = crate::base::id::ContainerId::random();
            endpoint.names = vec![format!("app-{number}"), "app".into(), endpoint.container.short().into()];
            let [high, low] = number.to_be_bytes();
            endpoint.ipv4 = Some((Ipv4Addr::new(10, 99, high, low), 16));
            endpoints.put(&endpoint).unwrap();
        }
        let _running = serve(test, &web, Vec::new());
        let question = query(1, "app", A, None);
        let answer = ask_udp(test, &web.netns, &question).unwrap();
        assert_eq!((answer[2] & 2, answer.len() <= 512), (2, true), "cut for UDP");
        let answer = ask_tcp(test, &web.netns, &question).unwrap();
        assert_eq!(read(&answer, &question).1.len(), 400);
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let before = Instant::now();
                lookup(test, &web, "app-77", A);
                before.elapsed()
            })
            .collect();
        times.sort();
        println!("one name of 400: median {:?}", times[100]);
        assert!(times[100] < Duration::from_millis(20));
    });
}
