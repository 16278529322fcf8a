//! A throw-away host for tests: a network namespace of its own with a link to a world outside.
//!
//! ```text
//!   world netns 198.51.100.1 ── veth ── 198.51.100.2 up0 | "host" netns | wh-… | containers
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use rustix::fs::{Mode, OFlags};

use super::network::{self, Wish};
use super::{Host, endpoint, firewall};
use crate::base::id::{ContainerId, NetworkId};
use crate::base::paths::Paths;
use crate::model::container::{
    ContainerSpec, Logging, NetworkMode, PortBinding, Process, Protocol, Resources, RestartPolicy, Security,
};
use crate::model::network::{Attachment, Endpoint, NetworkRecord};
use crate::store::Store;
use crate::store::testing::Folder;

/// Address of the host towards the world.
pub const HOST: &str = "198.51.100.2";
/// Address of the world.
pub const WORLD: &str = "198.51.100.1";

/// Runs `work` on a host of its own; a panic in it fails the test.
pub fn on_a_host(work: impl FnOnce(&TestHost) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests run as root");
        let folder = Folder::new();
        let paths = Paths::new(folder.path().join("root"), folder.path().join("run"));
        let store = Store::open(&paths).unwrap();
        let world = namespace();
        let test = TestHost { host: Host::new(&paths), store, world, _folder: folder };
        test.furnish();
        work(&test);
    });
    thread.join().unwrap();
}

/// A namespace of its own.
pub fn namespace() -> OwnedFd {
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        own_namespace()
    })
    .join()
    .unwrap()
}

/// That of the calling thread.
pub fn own_namespace() -> OwnedFd {
    rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Runs a command and returns its output; the child has the calling thread's namespace.
pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {text}");
    text
}

/// A host for a test.
pub struct TestHost {
    pub host: Host,
    pub store: Store,
    pub world: OwnedFd,
    _folder: Folder,
}

impl TestHost {
    fn furnish(&self) {
        sh("ip link set lo up && ip link add up0 type veth peer name world0 && ip link set up0 up");
        sh(&format!("ip addr add {HOST}/24 dev up0 && ip route add default via {WORLD}"));
        let pid = rustix::process::getpid().as_raw_nonzero();
        let path = format!("/proc/{pid}/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.world));
        sh(&format!("ip link set world0 netns {path}"));
        self.inside(&self.world, || {
            sh(&format!("ip link set lo up && ip link set world0 up && ip addr add {WORLD}/24 dev world0"))
        });
    }

    /// Runs something inside a namespace.
    pub fn inside<T>(&self, netns: &OwnedFd, work: impl FnOnce() -> T) -> T {
        super::netns::inside(netns.as_fd(), work).unwrap()
    }

    /// Makes a network.
    pub fn network(&self, wish: Wish) -> NetworkRecord {
        let existing = self.store.networks().list().unwrap();
        let record = network::record(&self.host, &existing, wish).unwrap();
        self.store.networks().create(&record).unwrap();
        self.ensure();
        network::ensure(&self.host, &record).unwrap();
        record
    }

    /// Makes a network of this name.
    pub fn plain_network(&self, name: &str) -> NetworkRecord {
        self.network(Wish { name: name.to_owned(), ..Wish::default() })
    }

    /// The table, without containers.
    pub fn ensure(&self) {
        let networks = self.store.networks().list().unwrap();
        firewall::ensure(&self.host, || firewall::Contents { networks, running: Vec::new() }).unwrap();
    }

    /// Connects a new container to networks.
    pub fn container(&self, name: &str, networks: &[&NetworkRecord]) -> TestContainer {
        self.container_of(spec(name, networks))
    }

    /// Connects a container.
    pub fn container_of(&self, spec: ContainerSpec) -> TestContainer {
        let records: Vec<NetworkRecord> = self.store.networks().list().unwrap();
        let netns = namespace();
        let endpoints = endpoint::connect(&self.host, &records, &spec, netns.as_fd(), &[]).unwrap();
        TestContainer { spec, netns, endpoints }
    }

    /// Ids of the networks.
    pub fn reserved(&self, network: &NetworkRecord, addresses: &[&str]) -> Vec<(NetworkId, IpAddr)> {
        addresses.iter().map(|address| (network.id.clone(), address.parse().unwrap())).collect()
    }
}

/// A connected container.
pub struct TestContainer {
    pub spec: ContainerSpec,
    pub netns: OwnedFd,
    pub endpoints: Vec<Endpoint>,
}

impl TestContainer {
    /// Its first IPv4 address.
    pub fn ipv4(&self) -> IpAddr {
        self.endpoints[0].ipv4.unwrap().0.into()
    }
}

/// A wish for a port.
pub fn binding(host_ip: Option<&str>, host_port: Option<u16>, container_port: u16) -> PortBinding {
    PortBinding {
        host_ip: host_ip.map(|text| text.parse().unwrap()),
        host_port: host_port.map(|port| (port, port)),
        container_port,
        protocol: Protocol::Tcp,
    }
}

/// A container in these networks.
pub fn spec(name: &str, networks: &[&NetworkRecord]) -> ContainerSpec {
    let id = ContainerId::random();
    let attachments = networks
        .iter()
        .map(|network| Attachment {
            network: network.id.clone(),
            network_name: network.name.clone(),
            aliases: vec![format!("{name}-alias")],
            ipv4: None,
            ipv6: None,
            mac: None,
            interface: None,
            gateway_priority: 0,
            link_local: Vec::new(),
            links: Default::default(),
        })
        .collect();
    ContainerSpec {
        hostname: id.short().to_owned(),
        id,
        name: name.to_owned(),
        created: jiff::Timestamp::now(),
        image: String::new(),
        image_id: None,
        layers: Vec::new(),
        labels: BTreeMap::new(),
        process: Process::default(),
        domainname: None,
        read_only: false,
        mounts: Vec::new(),
        files: Vec::new(),
        shm_size_bytes: 0,
        network: NetworkMode::Networks { attachments },
        ports: Vec::new(),
        exposed_ports: Vec::new(),
        extra_hosts: Vec::new(),
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        security: Security::default(),
        resources: Resources::default(),
        sysctls: BTreeMap::new(),
        ulimits: BTreeMap::new(),
        init: false,
        stop_signal: 15,
        stop_timeout_ms: 0,
        restart: RestartPolicy::No,
        healthcheck: None,
        logging: Logging::default(),
        auto_remove: false,
        entrypoint_length: 0,
        uid_maps: Vec::new(),
        gid_maps: Vec::new(),
    }
}
