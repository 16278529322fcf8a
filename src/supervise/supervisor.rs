//! The supervisor itself: one container, one thread, one poll loop.
//!
//! ```text
//!   begin ──> Run ──process ended──> drain ──policy──> wait ──> begin …
//!                                          └─────────> finish ──> linger until clients have read ──> end
//! ```
//!
//! The state in the store is written at each of these steps, before anybody is told of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};

use super::clients::{self, Client, Clients, Kind};
use super::followers::Following;
use super::frame::Frame;
use super::network::Network;
use super::restart::{self, Backoff};
use super::run::Run;
use super::stdio::Read;
use super::{Result, handover};
use crate::base::folder_watch::{Changes, FolderWatch};
use crate::base::id::ContainerId;
use crate::log::{self, Stream};
use crate::model::container::{ContainerSpec, ContainerState, Health, HealthStatus, NetworkMode, Status};
use crate::model::journal::Entry;
use crate::net::port::relay::Relay;
use crate::store::{Lock, Store, Wish};

/// Output without a line feed goes to the log when nothing followed for so long: prompts show in `logs --follow`.
const PARTIAL_LINE_WAIT: Duration = Duration::from_millis(100);
/// A run that lasts so long makes its supervisor exec itself, to give back the memory of the command it came from.
const EXEC_AFTER: Duration = Duration::from_millis(50);
/// Reads of one stream a wake-up, so that one that never stops does not starve the others.
pub(super) const READS_A_TURN: usize = 8;

/// What is known before the first probe.
const STARTING: Health = Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };

/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 128 + libc::SIGKILL;

/// One container's supervisor.
pub(super) struct Supervisor {
    pub(super) store: Store,
    pub(super) spec: ContainerSpec,
    pub(super) state: ContainerState,
    /// Its life. Given back when all is done but the telling.
    pub(super) lock: Option<Lock>,
    pub(super) log: log::Writer,
    pub(super) listener: OwnedFd,
    pub(super) clients: Clients,
    pub(super) network: Network,
    pub(super) run: Option<Run>,
    /// The mount namespace of the last run, until somebody has time for its end.
    mounts: Option<OwnedFd>,
    pub(super) backoff: Backoff,
    pub(super) restart: Option<Pending>,
    pub(super) following: Following,
    /// Size of the terminal, for the next run.
    pub(super) size: Option<(u16, u16)>,
    /// When to exec itself; `None` when that was done.
    pub(super) exec_at: Option<Instant>,
    partial_since: Option<Instant>,
    /// One packet: the kind's byte, then output.
    pub(super) buffer: Vec<u8>,
}

/// A start that the policy wants.
pub(super) struct Pending {
    pub(super) due: Instant,
    /// Wakes the supervisor when a command changes its wish.
    pub(super) wish: Option<FolderWatch>,
}

/// What a descriptor that poll(2) was given stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Output(Stream),
    Input,
    Process,
    Probe,
    Listener,
    Client(i32),
    Dns,
    Relay,
    Wish,
}

impl Supervisor {
    /// A supervisor that has nothing yet.
    pub(super) fn new(store: Store, spec: ContainerSpec, state: ContainerState, lock: Lock) -> Result<Self> {
        let run_folder = store.containers().run_folder(&spec.id);
        let listener = clients::listen(&run_folder)?;
        Self::with_listener(store, spec, state, lock, listener)
    }

    /// The same around a socket that exists.
    pub(super) fn with_listener(
        store: Store,
        spec: ContainerSpec,
        state: ContainerState,
        lock: Lock,
        listener: OwnedFd,
    ) -> Result<Self> {
        let log = log::Writer::open(&super::log_path(&store, &spec.id), &spec.logging)?;
        Ok(Self {
            store,
            spec,
            state,
            lock: Some(lock),
            log,
            listener,
            clients: Clients::default(),
            network: Network::default(),
            run: None,
            mounts: None,
            backoff: Backoff::default(),
            restart: None,
            following: Following::default(),
            size: None,
            exec_at: None,
            partial_since: None,
            buffer: vec![0; clients::PACKET_BYTES_MAX],
        })
    }

    pub(super) fn id(&self) -> &ContainerId {
        &self.spec.id
    }

    /// Connects the command that starts the container, before its process exists.
    pub(super) fn add_first_client(&mut self, socket: OwnedFd, kind: Kind) {
        self.clients.all.push(Client::new(socket, kind));
    }

    /// Starts the container's process. On error nothing of this attempt is left but, on a restart, the network.
    pub(super) fn begin(&mut self) -> Result<()> {
        let Self { store, spec, network, state, .. } = self;
        let run = Run::begin(store, spec, network, self.size, |identity, network| {
            // Written before the process is let go: a supervisor that dies here leaves a trace of it.
            *state = ContainerState {
                status: Status::Running,
                process: Some(identity),
                exit_code: 0,
                oom_killed: false,
                error: None,
                started_at: Some(Timestamp::now()),
                health: spec.healthcheck.as_ref().map(|_| STARTING),
                ports: network.ports.clone(),
                addresses: network.endpoints.clone(),
                ..state.clone()
            };
            Ok(store.containers().set_state(&spec.id, state)?)
        })?;
        self.run = Some(run);
        self.note("start");
        self.exec_at = self.exec_at.map(|_| Instant::now() + EXEC_AFTER);
        self.write_card();
        Ok(())
    }

    /// Tells `events`.
    pub(super) fn note(&self, action: &str) {
        self.store.journal().note(&Entry::of_container(&self.spec, action));
    }

    pub(super) fn save(&self) -> Result<()> {
        Ok(self.store.containers().set_state(&self.spec.id, &self.state)?)
    }

    /// Writes the state where nobody waits for an error: a full disk must not end a container. What is not written
    /// now is written with the next change, and `heal` puts right what was never written.
    fn save_if_possible(&self) {
        drop(self.save());
    }

    /// Works until the container has ended for good. Never returns to the start's caller: exits or execs.
    pub(super) fn work(mut self) -> i32 {
        while self.run.is_some() || self.restart.is_some() {
            if self.may_exec() {
                self = handover::exec(self);
            }
            let ready = self.poll();
            self.serve(&ready);
            self.timers();
            self.log.flush();
        }
        self.linger();
        0
    }

    /// Whether an exec would lose nothing.
    fn may_exec(&self) -> bool {
        let due = self.exec_at.is_some_and(|at| at <= Instant::now());
        due && !self.clients.any_behind()
            && self.network.relay.as_ref().is_none_or(Relay::is_idle)
            && !self.log.has_partial()
            && self.run.as_ref().is_some_and(|run| run.stdio.is_idle() && !run.is_probing())
    }

    fn deadline(&self) -> Option<Instant> {
        let run = self.run.as_ref();
        let probe = run.and_then(|run| run.prober.as_ref()).map(super::health::Prober::deadline);
        let probe = probe.filter(|_| self.state.status != Status::Paused);
        let dns = self.network.dns.as_ref().and_then(super::dns::Server::next_deadline);
        let partial = self.partial_since.map(|since| since + PARTIAL_LINE_WAIT);
        let restart = self.restart.as_ref().map(|pending| pending.due);
        // One that is due but has to wait for clients or a probe is looked at again at their next event.
        let exec = self.exec_at.filter(|at| *at > Instant::now());
        let kill = run.and(self.following.kill_at);
        [probe, dns, partial, restart, exec, kill].into_iter().flatten().min()
    }

    fn poll(&self) -> Vec<Source> {
        let timeout = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|left| rustix::event::Timespec::try_from(left).ok());
        let watched = self.watched();
        let mut fds: Vec<PollFd<'_>> =
            watched.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(_) => return Vec::new(),
        }
        let ready = fds.iter().zip(&watched).filter(|(fd, _)| !fd.revents().is_empty());
        ready.map(|(_, (source, _, _))| *source).collect()
    }

    fn watched(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut watched = vec![(Source::Listener, self.listener.as_fd(), PollFlags::IN)];
        if let Some(run) = &self.run {
            if !self.clients.hold_back() {
                watched.extend(run.stdio.outputs().map(|(stream, fd)| (Source::Output(stream), fd, PollFlags::IN)));
            }
            watched.extend(run.stdio.input().map(|fd| (Source::Input, fd, PollFlags::OUT)));
            watched.push((Source::Process, run.process.pidfd.as_fd(), PollFlags::IN));
            // A frozen container's probe is looked at when it goes on.
            if let Some(prober) = run.prober.as_ref().filter(|_| self.state.status != Status::Paused) {
                watched.extend(prober.fds().map(|fd| (Source::Probe, fd, PollFlags::IN)));
            }
        }
        let takes_input = self.run.as_ref().is_none_or(|run| run.stdio.takes_input());
        for client in &self.clients.all {
            let mut flags = PollFlags::empty();
            if takes_input {
                flags |= PollFlags::IN;
            }
            if client.is_behind() {
                flags |= PollFlags::OUT;
            }
            if flags.is_empty() {
                // Its end would wake us again and again while its input has to wait.
                continue;
            }
            watched.push((Source::Client(client.number()), client.as_fd(), flags));
        }
        watched.extend(self.network.dns.as_ref().map(|dns| (Source::Dns, dns.as_fd(), PollFlags::IN)));
        watched.extend(self.network.relay.as_ref().map(|relay| (Source::Relay, relay.as_fd(), PollFlags::IN)));
        let wish = self.restart.as_ref().and_then(|pending| pending.wish.as_ref());
        watched.extend(wish.map(|fd| (Source::Wish, fd.as_fd(), PollFlags::IN)));
        watched
    }

    /// Output goes before the end of the process, so that nothing is told out of order.
    fn serve(&mut self, ready: &[Source]) {
        for source in ready {
            match source {
                Source::Output(stream) => {
                    self.pump(*stream, READS_A_TURN);
                }
                Source::Input => {
                    if let Some(run) = &mut self.run {
                        run.stdio.write_waiting();
                    }
                }
                Source::Listener => self.clients.accept(&self.listener),
                Source::Client(number) => self.serve_client(*number),
                Source::Dns => {
                    if let Some(dns) = &mut self.network.dns {
                        dns.process();
                    }
                }
                Source::Relay => {
                    if let Some(relay) = &mut self.network.relay {
                        relay.process();
                    }
                }
                Source::Process | Source::Probe | Source::Wish => {}
            }
        }
        if ready.contains(&Source::Process) {
            self.process_ended();
        }
        if ready.contains(&Source::Wish) {
            self.wish_changed();
        }
    }

    fn timers(&mut self) {
        let now = Instant::now();
        if let Some(dns) = &mut self.network.dns
            && dns.next_deadline().is_some_and(|deadline| deadline <= now)
        {
            dns.process();
        }
        if self.log.has_partial() {
            let since = *self.partial_since.get_or_insert(now);
            if now >= since + PARTIAL_LINE_WAIT {
                self.log.cut(Timestamp::now());
                self.partial_since = None;
            }
        } else {
            self.partial_since = None;
        }
        self.probe();
        self.kill_late();
        if self.restart.as_ref().is_some_and(|pending| pending.due <= now) {
            self.start_again();
        }
    }

    fn probe(&mut self) {
        let (Some(run), Some(health)) = (&mut self.run, &mut self.state.health) else { return };
        if self.state.status != Status::Running {
            return;
        }
        let Some(prober) = &mut run.prober else { return };
        let before = health.status;
        if prober.work(&self.spec, run.process.identity, &run.cgroup, health) {
            let now = health.status;
            self.save_if_possible();
            if now != before {
                self.note(&format!("health_status: {now}"));
                self.tell_followers_of_health();
            }
        }
    }

    /// Moves output of one stream to the log and the clients, at most `reads` times.
    fn pump(&mut self, stream: Stream, reads: usize) -> Read {
        let Some(run) = &mut self.run else { return Read::End };
        let end = clients::PACKET_BYTES_MAX - 1;
        for _ in 0..reads {
            match run.stdio.read(stream, &mut self.buffer[1..end]) {
                Read::Bytes(length) => {
                    self.buffer[0] = if stream == Stream::Stdout { b'o' } else { b'e' };
                    self.log.push(stream, &self.buffer[1..=length], Timestamp::now());
                    self.clients.output(&self.buffer[..=length]);
                    self.partial_since = None;
                }
                other => return other,
            }
            if self.clients.hold_back() {
                break;
            }
        }
        Read::Bytes(0)
    }

    /// The process ended: its last output, its exit code, then what the policy says.
    fn process_ended(&mut self) {
        let Some(run) = &self.run else { return };
        let Some(code) = run.exit_code() else { return };
        let lasted = run.started.elapsed();
        // Nobody writes any more, so this ends: a stream has at most what its pipe holds. Where others can still
        // write (a shared PID namespace) only what is there now is taken.
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..256 {
                if self.pump(stream, 1) != Read::Bytes(0) {
                    break;
                }
            }
        }
        self.log.cut(Timestamp::now());
        self.log.flush();
        self.partial_since = None;
        let Some(run) = self.run.take() else { return };
        let (oom_killed, mounts) = run.finish();
        self.mounts = mounts;
        self.state.oom_killed = oom_killed;
        self.state.exit_code = code;
        self.state.finished_at = Some(Timestamp::now());
        self.state.process = None;
        if oom_killed {
            self.note("oom");
        }
        let die = Entry::of_container(&self.spec, "die").with("exitCode", code.to_string());
        self.store.journal().note(&die.with("execDuration", lasted.as_secs().to_string()));
        self.after_end(code, lasted);
    }

    /// Starts again or ends, as the policy has it.
    pub(super) fn after_end(&mut self, code: i32, lasted: Duration) {
        let wish = self.store.containers().wish(&self.spec.id).unwrap_or(Wish::Running);
        let for_another = self.following.kill_at.take().is_some() && wish == Wish::Running;
        if for_another || restart::wanted(self.spec.restart, code, self.state.restart_count, wish) {
            let wait = if for_another { Duration::ZERO } else { self.backoff.next(lasted) };
            let due = Instant::now() + wait;
            self.restart = Some(Pending { due, wish: watch_wish(&self.store, &self.spec.id).ok() });
            self.state.status = Status::Restarting;
            self.save_if_possible();
            self.clients.tell(&Frame::Restarting(code));
            // The wish may have changed before it was watched.
            self.wish_changed();
        } else {
            self.finish();
        }
    }

    fn wish_changed(&mut self) {
        let stopped = matches!(self.store.containers().wish(&self.spec.id), Ok(Wish::Stopped));
        if self.restart.is_some() && (stopped || !self.store.containers().exists(&self.spec.id)) {
            self.restart = None;
            self.finish();
        } else if let Some(fd) = self.restart.as_ref().and_then(|pending| pending.wish.as_ref()) {
            fd.drain();
        }
    }

    fn start_again(&mut self) {
        self.restart = None;
        // Two mounts of one writable layer must not exist at once.
        self.mounts = None;
        self.state.restart_count += 1;
        if let Err(error) = self.begin() {
            let mut code = i32::from(crate::base::error::Explain::exit_code(&error));
            if matches!(self.store.containers().wish(&self.spec.id), Ok(Wish::Stopped)) {
                // A stop that came between the announcement and the program killed the process: no failure.
                code = KILLED;
            } else {
                self.state.error = Some(super::report::messages(&error).join(": "));
            }
            self.state.exit_code = code;
            self.state.process = None;
            self.state.finished_at = Some(Timestamp::now());
            self.after_end(code, Duration::ZERO);
        } else {
            self.tell_followers();
        }
    }

    /// Gives everything back, writes the last state, tells those who wait.
    fn finish(&mut self) {
        if let Err(error) = self.network.disconnect(&self.store, &self.spec) {
            self.state.error.get_or_insert_with(|| super::report::messages(&error).join(": "));
        }
        self.state.status = Status::Exited;
        self.state.process = None;
        self.state.ports.clear();
        self.state.addresses.clear();
        self.save_if_possible();
        if self.spec.auto_remove {
            // The socket stays until the whole folder goes: killed before that, `heal` removes the container.
            clear_streams(&self.store, &self.spec.id);
            self.release();
            drop(super::remove(&self.store, &self.spec));
        } else {
            clear_run_folder(&self.store, &self.spec.id);
        }
        self.clients.tell(&Frame::Exit(self.state.exit_code));
        // Only then: to unmount means to wait for the disk, see `Run::mounts`. Another start waits for the lock.
        self.mounts = None;
        self.release();
        super::volume::release(&self.store, &self.spec);
    }

    fn release(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.release();
        }
    }

    /// Makes a keeper where one is needed, and tells successors of it.
    pub(super) fn keep_streams(&mut self) {
        if let Some(run) = &mut self.run {
            run.stdio.keep(run.process.pidfd.as_fd());
        }
        self.write_card();
    }

    /// Leaves in the run folder what a successor and those who join the network need. Without it they do with less.
    pub(super) fn write_card(&self) {
        use std::os::fd::AsRawFd;
        let Some(supervisor) = crate::runtime::identity_of(rustix::process::getpid().as_raw_nonzero().get()) else {
            return;
        };
        let card = super::namespace::Card {
            supervisor,
            namespace: self.network.namespace.as_ref().map(AsRawFd::as_raw_fd),
            dns_port: self.network.dns.as_ref().map(super::dns::Server::port),
            kept: self.run.as_ref().and_then(|run| run.stdio.kept()),
        };
        drop(card.write(&self.store.containers().run_folder(&self.spec.id)));
    }
}

/// Removes what only a living supervisor has; a folder that is gone as a whole is fine. The socket goes last: while
/// it is there, `heal` knows that something may be left.
pub(super) fn clear_run_folder(store: &Store, id: &ContainerId) {
    clear_streams(store, id);
    drop(crate::base::fs::remove_file(&store.containers().run_folder(id).join(clients::SOCKET)));
}

fn clear_streams(store: &Store, id: &ContainerId) {
    let run_folder = store.containers().run_folder(id);
    for name in ["stdin", "stdout", "stderr", "supervisor.json", super::last_words::FILE] {
        drop(crate::base::fs::remove_file(&run_folder.join(name)));
    }
    // What a supervisor that was killed while it wrote its card did not rename.
    for entry in std::fs::read_dir(&run_folder).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".tmp-") {
            drop(crate::base::fs::remove_file(&entry.path()));
        }
    }
}

/// A descriptor that becomes readable when the container's wish changes, or the container is removed.
fn watch_wish(store: &Store, id: &ContainerId) -> Result<FolderWatch> {
    let changes = Changes::MOVED_TO | Changes::DELETE | Changes::MOVE_SELF;
    Ok(FolderWatch::new(&store.containers().folder(id), changes)?)
}

/// Whether a container has a network namespace of its own to furnish.
pub(super) fn has_own_network(spec: &ContainerSpec) -> bool {
    matches!(spec.network, NetworkMode::None | NetworkMode::Networks { .. })
}
