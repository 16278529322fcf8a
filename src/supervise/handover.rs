//! How a supervisor becomes a fresh process that remembers everything: it executes itself.
//!
//! A supervisor is forked from a command and begins with the command's heap. Once the start was reported it execs
//! `/proc/self/exe`: its children, locks and descriptors stay, its memory shrinks to what a supervisor needs. What
//! is not in the store goes through a memory file; descriptors keep their numbers.

use std::ffi::OsStr;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use super::clients::{Client, Kind};
use super::health::Prober;
use super::restart::Backoff;
use super::run::Run;
use super::stdio::{self, Stdio};
use super::supervisor::Supervisor;
use super::{Error, Result, heal, last_words};
use crate::base::paths::Paths;
use crate::model::container::{ContainerSpec, HealthStatus, ProcessIdentity};
use crate::net::port::relay::Relay;
use crate::runtime::{Cgroup, Running};
use crate::store::{Containers, Lock, Store};
use crate::sys::daemon;

/// The first argument of a process that has the role of a supervisor.
pub(super) const ROLE: &str = "wharf-supervisor";

/// Everything that is not in the store.
#[derive(Debug, Serialize, Deserialize)]
struct Handover {
    root: PathBuf,
    run: PathBuf,
    /// As it is in force: the store may have the next one already, of a command that is about to tell us.
    spec: ContainerSpec,
    lock: i32,
    listener: i32,
    clients: Vec<(i32, Kind)>,
    stdio: stdio::Numbers,
    pidfd: i32,
    mounts: Option<i32>,
    identity: ProcessIdentity,
    adopted: bool,
    started_ms_ago: u64,
    size: Option<(u16, u16)>,
    namespace: Option<i32>,
    reservations: Vec<i32>,
    dns: Vec<i32>,
    dns_port: Option<u16>,
}

/// Executes this program as the same supervisor. Returns the supervisor when that is not possible; it goes on as it
/// is and does not try again.
pub(super) fn exec(mut supervisor: Supervisor) -> Supervisor {
    supervisor.exec_at = None;
    supervisor.log.flush();
    // A failure costs memory, nothing else.
    let _refused = try_exec(&supervisor);
    supervisor
}

fn try_exec(supervisor: &Supervisor) -> Option<()> {
    let run = supervisor.run.as_ref()?;
    let lock = supervisor.lock.as_ref()?;
    let network = &supervisor.network;
    let paths = supervisor.store.paths();
    let dns = network.dns.as_ref();
    let reservations = || network.reservations.iter().chain(network.relay.iter().flat_map(Relay::listeners));
    let handover = Handover {
        root: paths.root.clone(),
        run: paths.run.clone(),
        spec: supervisor.spec.clone(),
        lock: lock.as_fd().as_raw_fd(),
        listener: supervisor.listener.as_raw_fd(),
        clients: supervisor.clients.all.iter().map(|client| (client.number(), client.kind)).collect(),
        stdio: run.stdio.numbers(),
        pidfd: run.process.pidfd.as_raw_fd(),
        mounts: run.mounts.as_ref().map(AsRawFd::as_raw_fd),
        identity: run.process.identity,
        adopted: run.adopted,
        started_ms_ago: run.started.elapsed().as_millis() as u64,
        size: supervisor.size,
        namespace: network.namespace.as_ref().map(AsRawFd::as_raw_fd),
        reservations: reservations().map(AsRawFd::as_raw_fd).collect(),
        dns: dns.map(|dns| dns.sockets().iter().map(AsRawFd::as_raw_fd).collect()).unwrap_or_default(),
        dns_port: dns.map(super::dns::Server::port),
    };
    let mut keep: Vec<BorrowedFd<'_>> = vec![lock.as_fd(), supervisor.listener.as_fd(), run.process.pidfd.as_fd()];
    keep.extend(supervisor.clients.all.iter().map(AsFd::as_fd));
    keep.extend(run.stdio.all());
    keep.extend(dns.map(super::dns::Server::sockets).unwrap_or_default());
    keep.extend(run.mounts.iter().map(AsFd::as_fd));
    keep.extend(network.namespace.iter().chain(reservations()).map(AsFd::as_fd));
    let memory = rustix::fs::memfd_create("supervisor", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    let mut file = std::fs::File::from(memory);
    file.write_all(&serde_json::to_vec(&handover).ok()?).ok()?;
    keep.push(file.as_fd());
    let set = |flags: FdFlags| keep.iter().all(|fd| rustix::io::fcntl_setfd(fd, flags).is_ok());
    if set(FdFlags::empty()) {
        let number = file.as_raw_fd().to_string();
        let words = [ROLE, "resume", &number, supervisor.id().short()];
        let words: Vec<&OsStr> = words.iter().map(|word| OsStr::from_bytes(word.as_bytes())).collect();
        let _refused = daemon::execute(OsStr::new("/proc/self/exe"), &words);
    }
    set(FdFlags::CLOEXEC).then_some(())
}

/// Goes on as the supervisor whose state lies in the memory file `number`; returns the process's exit code.
pub(super) fn resume(number: i32) -> i32 {
    let Some(handover) = daemon::inherited(number).and_then(read) else { return 1 };
    let (paths, id) = (Paths::new(&handover.root, &handover.run), handover.spec.id.clone());
    let clients: Vec<i32> = handover.clients.iter().map(|(number, _)| *number).collect();
    let run_folder = Containers::run_folder_below(&paths, &id);
    last_words::on_panic(run_folder.clone());
    match load(handover) {
        Ok(supervisor) => {
            daemon::drop_unchanged_pages();
            supervisor.work()
        }
        Err(error) => {
            last_words::write(&run_folder, &super::report::messages(&error).join(": "));
            // Whoever was connected is told so by the end of the connection; the container gets a successor.
            clients.into_iter().for_each(|number| drop(daemon::inherited(number)));
            heal::take_over(&paths, &id).ok().flatten().map_or(1, Supervisor::work)
        }
    }
}

fn read(memory: OwnedFd) -> Option<Handover> {
    let mut text = Vec::new();
    let mut file = std::fs::File::from(memory);
    file.rewind().and_then(|()| file.read_to_end(&mut text)).ok()?;
    serde_json::from_slice(&text).ok()
}

fn load(handover: Handover) -> Result<Supervisor> {
    let store = Store::open(&Paths::new(&handover.root, &handover.run))?;
    let spec = handover.spec;
    let id = &spec.id.clone();
    let take = |number: i32| daemon::inherited(number).ok_or_else(|| Error::SupervisorLost { id: id.clone() });
    let state = store.containers().state(id)?;
    let lock = Lock::from_fd(take(handover.lock)?, store.containers().supervisor_lock_path(id));
    let group = store.paths().instance();
    let cgroup = Cgroup::of(&group, &spec).or_else(|_| Cgroup::create(&group, &spec))?;
    let started =
        Instant::now().checked_sub(Duration::from_millis(handover.started_ms_ago)).unwrap_or_else(Instant::now);
    let known = state.health.as_ref().is_some_and(|health| health.status != HealthStatus::Starting);
    let prober = spec.healthcheck.as_ref().map(|check| Prober::new(check, started, known));
    let process = Running { identity: handover.identity, pidfd: take(handover.pidfd)?, console: None };
    let stdio = Stdio::inherit(handover.stdio);
    let listener = take(handover.listener)?;
    let mut supervisor = Supervisor::with_listener(store, spec, state, lock, listener)?;
    supervisor.size = handover.size;
    supervisor.backoff = Backoff::after(supervisor.state.restart_count);
    let mounts = handover.mounts.and_then(daemon::inherited);
    supervisor.run = Some(Run { process, cgroup, stdio, prober, started, mounts, adopted: handover.adopted });
    let clients = handover.clients.iter().filter_map(|(number, kind)| Some((daemon::inherited(*number)?, *kind)));
    supervisor.clients.all = clients.map(|(socket, kind)| Client::new(socket, kind)).collect();
    let network = &mut supervisor.network;
    network.namespace = handover.namespace.and_then(daemon::inherited);
    network.reservations = handover.reservations.iter().filter_map(|number| daemon::inherited(*number)).collect();
    network.ports = supervisor.state.ports.clone();
    network.endpoints = supervisor.state.addresses.clone();
    network.relay();
    let records = super::network::networks(&supervisor.store, &supervisor.spec).unwrap_or_default();
    let sockets = handover.dns.iter().filter_map(|number| daemon::inherited(*number)).collect();
    // Without a name server a container still does what it can.
    drop(network.open(&supervisor.store, &supervisor.spec, &records, handover.dns_port, sockets));
    supervisor.keep_streams();
    Ok(supervisor)
}
