//! What comes after a death: a new supervisor for a container that lost its own, the end of one that is gone, and
//! the starts that restart policies want after a reboot.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio as Standard};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::handover::ROLE;
use super::health::Prober;
use super::keeper::Keeper;
use super::namespace::{self, Card};
use super::restart::Backoff;
use super::run::Run;
use super::start::is_active;
use super::stdio::Stdio;
use super::supervisor::{Supervisor, has_own_network};
use super::{Error, Result, StartOptions, detach, last_words};
use crate::base::id::ContainerId;
use crate::base::paths::Paths;
use crate::model::container::{ContainerState, HealthStatus, RestartPolicy, Status};
use crate::net::{self, port};
use crate::runtime::{self, Cgroup, Running};
use crate::store::{Lock, Store, Wish};

/// Exit code of a container whose end nobody saw.
pub const EXIT_CODE_UNKNOWN: i32 = 255;

/// See [`super::heal`].
pub(super) fn all(store: &Store) -> Result<()> {
    let mut successors = Vec::new();
    let mut debris = Vec::new();
    for id in store.containers().ids()? {
        if !has_lost_its_supervisor(store, &id) {
            continue;
        }
        match store.containers().state(&id) {
            Ok(state) if is_active(&state) => successors.push((id.clone(), spawn(store, &id))),
            Ok(_) => debris.push(id),
            // One removed meanwhile is no concern; one that cannot be read is for the command that needs it.
            Err(_) => {}
        }
    }
    let healed = successors.into_iter().map(|(id, successor)| successor.and_then(|successor| finish(&id, successor)));
    // All of them are tried; the first error is told.
    let healed = healed.fold(Ok(()), std::result::Result::and);
    healed.and(clear(store, &debris, store.steps().lost()?))
}

/// The same for one container.
pub(super) fn one(store: &Store, id: &ContainerId) -> Result<()> {
    match is_orphan(store, id)? {
        true => finish(id, spawn(store, id)?),
        false => Ok(()),
    }
}

/// Whether a container should have a supervisor and has none.
pub(super) fn is_orphan(store: &Store, id: &ContainerId) -> Result<bool> {
    Ok(is_active(&store.containers().state(id)?) && !store.containers().supervisor_alive(id)?)
}

/// Whether what only a living supervisor has is there without one. Two looks and no record read: every command asks
/// this of every container.
fn has_lost_its_supervisor(store: &Store, id: &ContainerId) -> bool {
    let socket = store.containers().run_folder(id).join(super::clients::SOCKET);
    socket.exists() && matches!(store.containers().supervisor_alive(id), Ok(false))
}

/// See [`super::has_ended`].
pub(super) fn has_ended(store: &Store, id: &ContainerId) -> Result<bool> {
    let state = store.containers().state(id)?;
    // On a full disk the end of one that was stopped could not be recorded.
    let is_gone = || state.process.is_none_or(|process| !crate::runtime::is_alive(process));
    Ok(!is_active(&state) || (store.containers().wish(id)? == crate::store::Wish::Stopped && is_gone()))
}

/// See [`super::discard`].
pub(super) fn discard(store: &Store, id: &ContainerId) -> Result<bool> {
    let lock = store.containers().lock(id)?;
    if !has_ended(store, id)? {
        return Ok(false);
    }
    // Another has it: one that starts although its command is gone, or has not cleared away everything yet. One that
    // is about to start gets it afterwards and finds no container.
    let Some(supervisor_lock) = store.containers().supervisor_lock(id)? else { return Ok(false) };
    if store.containers().run_folder(id).join(super::clients::SOCKET).exists() {
        clear_locked(store, id)?;
    }
    let spec = store.containers().spec(id);
    store.containers().remove(id)?;
    supervisor_lock.release();
    lock.release();
    if let Ok(spec) = spec {
        super::volume::release(store, &spec);
    }
    Ok(true)
}

/// The same as `clear` for one container whose supervisor's lock is held.
fn clear_locked(store: &Store, id: &ContainerId) -> Result<()> {
    remove_group(store, id)?;
    clear_network(store, id)
}

/// Removes links, addresses and rules of a container that has no process.
fn clear_network(store: &Store, id: &ContainerId) -> Result<()> {
    net::heal::heal(&net::Host::new(store.paths()), &store.networks().list()?, &|other| other != id)?;
    Ok(())
}

/// Removes what supervisors that died in a start or a finish left, and builds that died in a command: processes,
/// groups, addresses, rules, files.
fn clear(store: &Store, ids: &[ContainerId], steps: Vec<(ContainerId, Lock)>) -> Result<()> {
    if ids.is_empty() && steps.is_empty() {
        return Ok(());
    }
    // Held until all is done, so that nobody starts one of them meanwhile.
    let mut locks = Vec::new();
    for id in ids {
        // One removed meanwhile is no concern of this command.
        if !store.containers().exists(id) {
            continue;
        }
        let Some(lock) = store.containers().supervisor_lock(id)? else { continue };
        if !matches!(store.containers().state(id), Ok(state) if !is_active(&state)) {
            continue;
        }
        remove_group(store, id)?;
        locks.push((id, lock));
    }
    for (id, _) in &steps {
        remove_group(store, id)?;
    }
    let dead = |id: &ContainerId| locks.iter().any(|(dead, _)| *dead == id) || steps.iter().any(|(dead, _)| dead == id);
    net::heal::heal(&net::Host::new(store.paths()), &store.networks().list()?, &|id| !dead(id))?;
    let specs: Vec<_> = locks.iter().filter_map(|(id, _)| store.containers().spec(id).ok()).collect();
    for (id, lock) in locks {
        let has_exited = matches!(store.containers().state(id), Ok(state) if state.status == Status::Exited);
        match store.containers().spec(id) {
            // Its supervisor would have removed it.
            Ok(spec) if spec.auto_remove && has_exited => {
                lock.release();
                match super::remove(store, &spec) {
                    Err(Error::Store(error)) if error.is_not_found() => {}
                    result => result?,
                }
            }
            _ => {
                super::supervisor::clear_run_folder(store, id);
                lock.release();
            }
        }
    }
    specs.iter().for_each(|spec| super::volume::release(store, spec));
    if !steps.is_empty() {
        // The lock of the build's folders is gone as well.
        store.sweep_leftovers()?;
    }
    Ok(())
}

/// Ends what is left in a control group and removes it.
fn remove_group(store: &Store, id: &ContainerId) -> Result<()> {
    let group = store.paths().instance();
    // Steps of builds are no containers.
    let spec = store.containers().spec(id).ok();
    if let Ok(cgroup) = spec.as_ref().map_or_else(|| Cgroup::open(&group, id.as_str()), |spec| Cgroup::of(&group, spec))
    {
        cgroup.kill_all()?;
        cgroup.remove()?;
    }
    Ok(())
}

/// Starts a successor: this program anew, so that a caller with threads may do it too.
fn spawn(store: &Store, id: &ContainerId) -> Result<Child> {
    let paths = store.paths();
    Command::new("/proc/self/exe")
        .arg0(ROLE)
        .arg("adopt")
        .args([&paths.root, &paths.run])
        .arg(id.as_str())
        .env_clear()
        .stdin(Standard::null())
        .stdout(Standard::piped())
        .stderr(Standard::null())
        .spawn()
        .map_err(|source| Error::System { operation: "start a successor for the supervisor", id: id.clone(), source })
}

/// Waits until the successor has taken over.
fn finish(id: &ContainerId, mut successor: Child) -> Result<()> {
    let failed =
        |source| Error::System { operation: "wait for the successor of the supervisor", id: id.clone(), source };
    if let Some(mut done) = successor.stdout.take() {
        // Its end is the news.
        done.read_to_end(&mut Vec::new()).map_err(failed)?;
    }
    successor.wait().map(drop).map_err(failed)
}

/// The role of a successor: detaches, takes over, tells by closing its standard output, and stays.
pub(super) fn adopt(root: PathBuf, run: PathBuf, id: &ContainerId) -> i32 {
    use std::os::fd::AsRawFd;
    let Ok(done) = rustix::io::dup(rustix::stdio::stdout()) else { return 1 };
    let paths = Paths::new(root, run);
    let group = paths.instance();
    let number = done.as_raw_fd();
    let body = || match take_over(&paths, id) {
        Ok(Some(supervisor)) => {
            drop(done);
            supervisor.work()
        }
        Ok(None) => 0,
        Err(_) => 1,
    };
    detach::spawn(&[number], &group, body).map_or(1, |()| 0)
}

/// A supervisor for what a dead one left; `None` when there is nothing to do (or another was faster).
pub(super) fn take_over(paths: &Paths, id: &ContainerId) -> Result<Option<Supervisor>> {
    let store = Store::open(paths)?;
    let Some(lock) = store.containers().supervisor_lock(id)? else { return Ok(None) };
    last_words::on_panic(store.containers().run_folder(id));
    let state = store.containers().state(id)?;
    if !is_active(&state) {
        return Ok(None);
    }
    let spec = store.containers().spec(id)?;
    let card = Card::read(&store.containers().run_folder(id));
    let mut supervisor = Supervisor::new(store, spec, state, lock)?;
    supervisor.backoff = Backoff::after(supervisor.state.restart_count);
    supervisor.network.endpoints = supervisor.state.addresses.clone();
    supervisor.network.ports = supervisor.state.ports.clone();
    let process = supervisor.state.process.and_then(|identity| Some((identity, runtime::identify(identity)?)));
    match process {
        Some((identity, pidfd)) => {
            let process = Running { identity, pidfd, console: None };
            resume(&mut supervisor, process, card)?;
        }
        None => conclude(&mut supervisor),
    }
    supervisor.keep_streams();
    Ok(Some(supervisor))
}

/// Goes on with a process that lives, or has just ended.
fn resume(supervisor: &mut Supervisor, process: Running, card: Option<Card>) -> Result<()> {
    let (store, spec, state) = (&supervisor.store, &supervisor.spec, &supervisor.state);
    let group = store.paths().instance();
    let cgroup = Cgroup::of(&group, spec).or_else(|_| Cgroup::create(&group, spec))?;
    let dns_port = card.as_ref().and_then(|card| card.dns_port);
    let keeper = card.and_then(|card| Keeper::adopt(card.kept?));
    // Without them the container's output is lost, but not the container.
    let stdio = Stdio::reopen(&store.containers().run_folder(&spec.id), &spec.process, keeper).unwrap_or_default();
    let network = &mut supervisor.network;
    // What cannot be taken back (a port that another process took, a name server) must not cost the container.
    network.reservations = port::reserve_again(&network.ports).unwrap_or_default();
    network.relay();
    if has_own_network(spec) {
        network.namespace = namespace::of_process(process.identity, "net");
        let records = super::network::networks(store, spec).unwrap_or_default();
        drop(network.open(store, spec, &records, dns_port, Vec::new()));
    }
    let started = started(state);
    let known = state.health.as_ref().is_some_and(|health| health.status != HealthStatus::Starting);
    let prober = spec.healthcheck.as_ref().map(|check| Prober::new(check, started, known));
    // What a killed pause or unpause did not write down did not happen. Without a look: the group may still be
    // freezing, and be frozen later.
    drop(if state.status == Status::Paused { cgroup.freeze() } else { cgroup.thaw() });
    let mounts = namespace::of_process(process.identity, "mnt");
    supervisor.run = Some(Run { process, cgroup, stdio, prober, started, mounts, adopted: true });
    Ok(())
}

/// The process is gone without a trace: nobody knows its exit code. The policy decides what comes now.
fn conclude(supervisor: &mut Supervisor) {
    let id = supervisor.spec.id.clone();
    if let Ok(cgroup) = Cgroup::of(&supervisor.store.paths().instance(), &supervisor.spec) {
        supervisor.state.oom_killed = cgroup.oom_kill_count() > 0;
        drop(cgroup.kill_all());
        drop(cgroup.remove());
    }
    let was_waiting = supervisor.state.status == Status::Restarting;
    let lasted = started(&supervisor.state).elapsed();
    if !was_waiting {
        supervisor.state.exit_code = EXIT_CODE_UNKNOWN;
        supervisor.state.error = Some("the supervisor was killed, then the container ended unseen".into());
        supervisor.state.finished_at = Some(Timestamp::now());
    }
    supervisor.state.process = None;
    // Its namespace died with it, and the addresses in it. One that was killed while it made or gave back a network
    // left what its state does not know of.
    let (store, spec) = (&supervisor.store, &supervisor.spec);
    drop(supervisor.network.disconnect(store, spec));
    drop(clear_network(store, &id));
    supervisor.after_end(supervisor.state.exit_code, lasted);
}

/// When the run began, on this process's clock.
fn started(state: &ContainerState) -> Instant {
    let since = state.started_at.map(|time| Timestamp::now().duration_since(time));
    let since = since.and_then(|since| Duration::try_from(since).ok()).unwrap_or_default();
    Instant::now().checked_sub(since).unwrap_or_else(Instant::now)
}

/// See [`super::boot`].
pub(super) fn boot(store: &Store) -> Vec<(ContainerId, Error)> {
    let mut failed = Vec::new();
    let mut waiting = match wanted_after_boot(store) {
        Ok(ids) => ids,
        Err(error) => return vec![(ContainerId::random(), error)],
    };
    // Those that share a namespace need the other one first: as long as a round gets anywhere there is another.
    while !waiting.is_empty() {
        let before = waiting.len();
        failed.clear();
        for id in std::mem::take(&mut waiting) {
            match start_alone(store, &id) {
                Ok(()) | Err(Error::AlreadyRunning { .. }) => {}
                Err(error) => {
                    waiting.push(id.clone());
                    failed.push((id, error));
                }
            }
        }
        if waiting.len() == before {
            break;
        }
    }
    failed
}

/// Starts a container under its lock.
fn start_alone(store: &Store, id: &ContainerId) -> Result<()> {
    let _lock = store.containers().lock(id)?;
    super::start(store, id, StartOptions::default()).map(drop)
}

/// What ran when the host went down and is to run again, oldest first.
fn wanted_after_boot(store: &Store) -> Result<Vec<ContainerId>> {
    let boot_id = store.boot_id()?;
    let mut wanted = Vec::new();
    for (spec, state) in store.containers().list()?.into_iter().rev() {
        let by_policy = match spec.restart {
            RestartPolicy::Always => true,
            RestartPolicy::UnlessStopped => store.containers().wish(&spec.id)? == Wish::Running,
            RestartPolicy::No | RestartPolicy::OnFailure(_) => false,
        };
        if by_policy && state.started_at.is_some() && state.boot_id != boot_id {
            wanted.push(spec.id);
        }
    }
    Ok(wanted)
}

/// What a process that was executed in a supervisor's role does; its exit code. `None`: it has another role.
pub(super) fn role(arguments: &[std::ffi::OsString]) -> Option<i32> {
    let [name, verb, rest @ ..] = arguments else { return None };
    if name != ROLE {
        return None;
    }
    Some(match (verb.to_str(), rest) {
        (Some("resume"), [number, ..]) => {
            number.to_str().and_then(|number| number.parse().ok()).map_or(2, super::handover::resume)
        }
        (Some("adopt"), [root, run, id]) => match id.to_str().and_then(|id| id.parse().ok()) {
            Some(id) => adopt(root.into(), run.into(), &id),
            None => 2,
        },
        _ => 2,
    })
}
