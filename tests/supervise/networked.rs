//! Containers in networks: names, published ports, and what a restart or a dead supervisor does to them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use wharf::model::container::{ContainerSpec, NetworkMode, PortBinding, Protocol, RestartPolicy, Status};
use wharf::model::network::{Attachment, NetworkRecord};
use wharf::net::{Host, firewall, network};
use wharf::supervise::{self, AttachMode};

use crate::recovery::{kill_any_supervisor, kill_supervisor};
use crate::world::World;

/// A network that is removed from the host at the end.
struct Net {
    host: Host,
    record: NetworkRecord,
}

impl Net {
    fn new(world: &World) -> Self {
        let host = Host::new(world.store.paths());
        let wish = network::Wish { name: "test".into(), ..network::Wish::default() };
        let record = network::record(&host, &world.store.networks().list().unwrap(), wish).unwrap();
        world.store.networks().create(&record).unwrap();
        Self { host, record }
    }

    fn join(&self, spec: &mut ContainerSpec, alias: &str) {
        let attachment = Attachment {
            network: self.record.id.clone(),
            network_name: self.record.name.clone(),
            aliases: vec![alias.to_owned()],
            ipv4: None,
            ipv6: None,
            mac: None,
            interface: None,
            gateway_priority: 0,
            link_local: Vec::new(),
            links: Default::default(),
        };
        spec.network = NetworkMode::Networks { attachments: vec![attachment] };
    }

    fn remove(self) {
        network::remove(&self.host, &self.record).unwrap();
        firewall::remove(&self.host).unwrap();
    }
}

const SERVER: &str = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www";

fn published(world: &World, net: &Net) -> ContainerSpec {
    let mut spec = world.spec(SERVER);
    net.join(&mut spec, "web");
    spec.ports = vec![PortBinding {
        host_ip: Some(Ipv4Addr::LOCALHOST.into()),
        host_port: None,
        container_port: 80,
        protocol: Protocol::Tcp,
    }];
    spec
}

/// What the server says at a port of the host; `None` when nobody answers.
fn fetch(port: u16) -> Option<String> {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.ends_with("hello\n").then_some(text)
}

fn fetch_soon(port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if fetch(port).is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

pub fn names_resolve_from_the_first_moment_on() {
    let mut world = World::new();
    let net = Net::new(&world);
    let (web, _) = world.run(&published(&world, &net), AttachMode::None);
    assert!(fetch_soon(world.state(&web).ports[0].host_port));
    // Asks all the time while its own supervisor executes itself.
    let mut spec = world.spec(
        "i=0; while [ $i -lt 100 ]; do i=$((i+1)); nslookup web >/dev/null || echo FAILED $i; done; wget -qO- http://web/; nslookup nosuch.test || echo none",
    );
    net.join(&mut spec, "client");
    let (client, _) = world.run(&spec, AttachMode::None);
    supervise::wait(&world.store, &client).unwrap();
    let log = String::from_utf8(world.log(&client)).unwrap();
    assert!(log.starts_with("hello\n"), "{log}");
    assert!(!log.contains("FAILED") && log.ends_with("none\n"), "{log}");
    drop(world);
    net.remove();
}

pub fn a_network_survives_restarts_and_dead_supervisors() {
    let mut world = World::new();
    let net = Net::new(&world);
    let mut spec = published(&world, &net);
    spec.restart = RestartPolicy::Always;
    let (web, _) = world.run(&spec, AttachMode::None);
    let before = world.state(&web);
    let port = before.ports[0].host_port;
    assert!(fetch_soon(port));
    // The process dies: address and port stay.
    let pid = rustix::process::Pid::from_raw(before.process.unwrap().pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.state(&web).restart_count == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(fetch_soon(port));
    assert_eq!(world.state(&web).addresses, before.addresses);
    // The supervisor dies: the port stays, and a successor answers names again.
    let mut spec = world.spec("read line; nslookup web | grep -c Address; wget -qO- http://web/; read line");
    spec.process.stdin_open = true;
    net.join(&mut spec, "client");
    let (client, _) = world.run(&spec, AttachMode::None);
    std::thread::sleep(Duration::from_millis(200));
    kill_supervisor(&world, &web);
    kill_supervisor(&world, &client);
    assert!(fetch(port).is_some());
    supervise::heal(&world.store).unwrap();
    assert!(fetch(port).is_some());
    let stream = supervise::attach(&world.store, &client).unwrap();
    stream.write_stdin(b"go\n\n").unwrap();
    supervise::wait(&world.store, &client).unwrap();
    let log = String::from_utf8(world.log(&client)).unwrap();
    assert!(log.ends_with("hello\n"), "{log}");
    supervise::stop(&world.store, &web, None).unwrap();
    assert!(fetch(port).is_none());
    let state = world.state(&web);
    assert!(state.ports.is_empty() && state.addresses.is_empty());
    // The host's port is free again.
    drop(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
    drop(world);
    net.remove();
}

pub fn a_port_in_use_leaves_nothing() {
    let mut world = World::new();
    let net = Net::new(&world);
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut spec = published(&world, &net);
    spec.ports[0].host_port = Some((port, port));
    let id = world.create(&spec);
    let error = supervise::start(&world.store, &id, supervise::StartOptions::default()).unwrap_err();
    assert!(crate::world::chain(&error).contains(&port.to_string()), "{}", crate::world::chain(&error));
    assert!(world.store.endpoints().list(&net.record.id).unwrap().is_empty());
    drop(taken);
    supervise::start(&world.store, &id, supervise::StartOptions::default()).unwrap();
    assert!(fetch_soon(port));
    drop(world);
    net.remove();
}

/// Kills the supervisor at every moment of a start; the next command puts everything right.
pub fn a_supervisor_may_die_at_any_moment() {
    let mut world = World::new();
    let net = Net::new(&world);
    let spec = published(&world, &net);
    let id = world.create(&spec);
    let (mut lost, mut started) = (0, 0);
    for step in 0..50u64 {
        let killer = kill_any_supervisor(&world, Duration::from_micros(step * 1_500));
        match supervise::start(&world.store, &id, supervise::StartOptions::default()) {
            Ok(_) => started += 1,
            Err(supervise::Error::SupervisorLost { .. }) => lost += 1,
            Err(error) => panic!("{}", crate::world::chain(&error)),
        }
        rustix::process::waitpid(Some(killer), rustix::process::WaitOptions::empty()).unwrap();
        // The process that was being set up ends a little later than the one that set it up; till then it looks alive.
        let deadline = Instant::now() + Duration::from_secs(2);
        let (state, alive) = loop {
            supervise::heal(&world.store).unwrap();
            let state = world.state(&id);
            let alive = world.store.containers().supervisor_alive(&id).unwrap();
            let works =
                |process| alive && wharf::runtime::is_alive(process) && fetch(state.ports[0].host_port).is_some();
            if state.process.map_or(!alive, works) {
                break (state, alive);
            }
            assert!(Instant::now() < deadline, "step {step}: {state:?}");
        };
        // It may have looked alive to `heal` and dead a moment later.
        supervise::heal(&world.store).unwrap();
        if alive {
            assert_eq!(state.status, Status::Running);
            supervise::stop(&world.store, &id, None).unwrap();
        }
        assert!(world.store.endpoints().list(&net.record.id).unwrap().is_empty(), "step {step}");
    }
    println!("{lost} starts were cut off, {started} came through");
    assert!(lost > 0 && started > 0);
    // And it still works.
    supervise::start(&world.store, &id, supervise::StartOptions::default()).unwrap();
    assert!(fetch_soon(world.state(&id).ports[0].host_port));
    drop(world);
    net.remove();
}
