//! Real connections through a relay, on throw-away hosts.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::relay::Relay;
use super::{Publication, publish, relay};
use crate::model::network::Endpoint;
use crate::net::network::Wish;
use crate::net::subnet::Families;
use crate::net::testing::{TestContainer, TestHost, binding, on_a_host};

const PATIENCE: Duration = Duration::from_secs(10);

/// Relays while `client` works on another thread of the same host; what it returns.
fn while_relaying<T: Send>(relay: &mut Relay, client: impl FnOnce() -> T + Send) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(client));
            done.store(true, Ordering::Relaxed);
            result
        });
        while !done.load(Ordering::Relaxed) || !relay.is_idle() {
            let mut fds = [rustix::event::PollFd::new(&*relay, rustix::event::PollFlags::IN)];
            let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            rustix::event::poll(&mut fds, Some(&moment)).unwrap();
            relay.process();
        }
        client.join().unwrap().unwrap()
    })
}

fn relay_of(publication: &mut Publication, endpoints: &[Endpoint]) -> Relay {
    relay(&mut publication.reservations, &publication.ports, endpoints).unwrap().expect("an IPv6 port is relayed")
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn listen(test: &TestHost, container: &TestContainer, address: &str) -> TcpListener {
    test.inside(&container.netns, || TcpListener::bind(address).unwrap())
}

#[test]
fn a_container_without_ipv6_is_reached_over_it() {
    on_a_host(|test| {
        let front = test.plain_network("front");
        let web = test.container("web", &[&front]);
        let mut publication = publish(&test.host, &[binding(None, Some(8080), 80)], &web.endpoints).unwrap();
        let mut relay = relay_of(&mut publication, &web.endpoints);
        assert_eq!(publication.reservations.len(), 1, "the one of IPv4 stays");
        let listener = listen(test, &web, "0.0.0.0:80");
        // More than all buffers on the way take, both ways, each end closed by itself.
        const BYTES: usize = 32 << 20;
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = Vec::new();
            stream.read_to_end(&mut question).unwrap();
            stream.write_all(&question).unwrap();
            stream.shutdown(Shutdown::Both).unwrap();
            rustix::net::shutdown(&listener, rustix::net::Shutdown::Read).unwrap();
        });
        let question: Vec<u8> = (0..BYTES).map(|place| (place / 7 % 251) as u8).collect();
        let answer = while_relaying(&mut relay, || {
            let mut stream = connect(8080);
            stream.write_all(&question).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            answer
        });
        assert!(answer == question, "{} bytes came back", answer.len());
        server.join().unwrap();
        // Nobody listens any more: a reset, not an orderly end.
        let error = while_relaying(&mut relay, || {
            let local = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 8080);
            // The reset may come before the connection is seen to be there.
            TcpStream::connect_timeout(&local, PATIENCE).and_then(|mut stream| stream.read(&mut [0])).unwrap_err()
        });
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn the_loopback_address_leads_to_a_container_with_ipv6_whatever_it_listens_on() {
    on_a_host(|test| {
        let families = Families { ipv4: true, ipv6: true };
        let both = test.network(Wish { name: "both".into(), families, ..Wish::default() });
        let web = test.container("web", &[&both]);
        let mut publication = publish(&test.host, &[binding(Some("::1"), Some(8080), 80)], &web.endpoints).unwrap();
        let mut relay = relay_of(&mut publication, &web.endpoints);
        for address in ["[::]:80", "0.0.0.0:80"] {
            let listener = listen(test, &web, address);
            let server = std::thread::spawn(move || {
                let (mut stream, client) = listener.accept().unwrap();
                stream.write_all(client.ip().to_string().as_bytes()).unwrap();
                stream.shutdown(Shutdown::Both).unwrap();
                rustix::net::shutdown(&listener, rustix::net::Shutdown::Read).unwrap();
            });
            let said = while_relaying(&mut relay, || {
                let mut said = String::new();
                connect(8080).read_to_string(&mut said).unwrap();
                said
            });
            assert!(both.subnets.iter().any(|subnet| said.parse::<IpAddr>().unwrap() == subnet.gateway), "{said}");
            server.join().unwrap();
        }
    });
}

#[test]
fn more_clients_than_are_served_at_once_get_their_turn() {
    on_a_host(|test| {
        let front = test.plain_network("front");
        let web = test.container("web", &[&front]);
        let mut publication = publish(&test.host, &[binding(None, Some(8080), 80)], &web.endpoints).unwrap();
        let mut relay = relay_of(&mut publication, &web.endpoints);
        const CLIENTS: usize = 300;
        let listener = listen(test, &web, "0.0.0.0:80");
        let server = std::thread::spawn(move || {
            for _ in 0..CLIENTS {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"x").unwrap();
                stream.shutdown(Shutdown::Both).unwrap();
            }
            rustix::net::shutdown(&listener, rustix::net::Shutdown::Read).unwrap();
        });
        while_relaying(&mut relay, || {
            let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(8080)).collect();
            for mut client in clients {
                let mut said = Vec::new();
                client.read_to_end(&mut said).unwrap();
                assert_eq!(said, b"x");
            }
        });
        server.join().unwrap();
    });
}
