//! Health probes: when the next one is due, how long it may take, what its result means.
//!
//! The rules are Docker's (interval, timeout, start period, retries; five results, 4096 bytes each) with one
//! addition: while nothing is known yet, *early* probes ask at once and again after 250 ms, 500 ms, 1 s and so on,
//! in between Docker's own. An early probe that passes makes the container healthy; one that fails does not count. So
//! who waits for a healthy container waits for the container, not for the interval.
//!
//! Source: moby `daemon/health.go`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;

use crate::model::container::{
    ContainerSpec, Health, HealthResult, HealthStatus, Healthcheck, Process, ProcessIdentity,
};
use crate::runtime::{self, Cgroup, ExecTarget, Running, Stdio};

const OUTPUT_BYTES_MAX: usize = 4096;
const RESULTS_KEPT: usize = 5;
const FIRST_EARLY_WAIT: Duration = Duration::from_millis(250);

/// The rules: pure.
#[derive(Debug)]
pub(super) struct Schedule {
    check: Healthcheck,
    started: Instant,
    /// When Docker's next probe is due.
    regular: Instant,
    /// When the next early probe is due, and the wait after it.
    early: Option<(Instant, Duration)>,
}

impl Schedule {
    /// The schedule of a run that began at `started`; with `known`, of one that was probed before.
    pub(super) fn new(check: &Healthcheck, started: Instant, now: Instant, known: bool) -> Self {
        let mut schedule = Self { check: check.clone(), started, regular: now, early: None };
        schedule.regular = now + schedule.wait(now, !known);
        schedule.early = (!known).then_some((now, FIRST_EARLY_WAIT));
        schedule
    }

    fn in_start_period(&self, now: Instant) -> bool {
        now < self.started + Duration::from_millis(self.check.start_period_ms)
    }

    fn wait(&self, now: Instant, starting: bool) -> Duration {
        let starting = starting && self.in_start_period(now) && self.check.start_interval_ms > 0;
        Duration::from_millis(if starting { self.check.start_interval_ms } else { self.check.interval_ms }.max(1))
    }

    /// When to probe next, and whether a failure will count.
    pub(super) fn next(&self) -> (Instant, bool) {
        match self.early {
            Some((early, _)) if early < self.regular => (early, false),
            _ => (self.regular, true),
        }
    }

    /// Takes a result: a verdict for `health`, and the next dates.
    pub(super) fn record(
        &mut self,
        health: &mut Health,
        result: HealthResult,
        counts: bool,
        begun: Instant,
        now: Instant,
    ) {
        let passed = result.exit_code == 0;
        if health.log.len() >= RESULTS_KEPT {
            health.log.drain(..=health.log.len() - RESULTS_KEPT);
        }
        health.log.push(result);
        if passed {
            health.status = HealthStatus::Healthy;
            health.failing_streak = 0;
        } else if counts && !(health.status == HealthStatus::Starting && self.in_start_period(begun)) {
            health.failing_streak += 1;
            if health.failing_streak >= self.check.retries.max(1) {
                health.status = HealthStatus::Unhealthy;
            }
        }
        let starting = health.status == HealthStatus::Starting;
        if counts || passed {
            self.regular = now + self.wait(now, starting);
        }
        self.early = match self.early {
            Some((_, wait)) if starting => Some((now + wait, wait * 2)),
            _ => None,
        };
    }
}

/// A probe under way.
#[derive(Debug)]
struct Probe {
    process: Running,
    output: Option<OwnedFd>,
    text: Vec<u8>,
    start: Timestamp,
    begun: Instant,
    deadline: Instant,
    counts: bool,
}

/// The probes of one run.
#[derive(Debug)]
pub(super) struct Prober {
    schedule: Schedule,
    probe: Option<Probe>,
}

impl Prober {
    /// Begins to probe a run that began at `started`; `known` says that an earlier supervisor has a verdict already.
    pub(super) fn new(check: &Healthcheck, started: Instant, known: bool) -> Self {
        Self { schedule: Schedule::new(check, started, Instant::now(), known), probe: None }
    }

    /// When something is to be done without any descriptor being ready.
    pub(super) fn deadline(&self) -> Instant {
        self.probe.as_ref().map_or_else(|| self.schedule.next().0, |probe| probe.deadline)
    }

    /// Whether a probe runs.
    pub(super) fn is_probing(&self) -> bool {
        self.probe.is_some()
    }

    /// The descriptors of the probe under way.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let process = self.probe.as_ref().map(|probe| probe.process.pidfd.as_fd());
        let output = self.probe.as_ref().and_then(|probe| probe.output.as_ref()).map(AsFd::as_fd);
        process.into_iter().chain(output)
    }

    /// Does what is due; `true` when `health` changed.
    pub(super) fn work(
        &mut self,
        spec: &ContainerSpec,
        identity: ProcessIdentity,
        cgroup: &Cgroup,
        health: &mut Health,
    ) -> bool {
        let now = Instant::now();
        if self.probe.is_none() {
            let (due, counts) = self.schedule.next();
            if now < due {
                return false;
            }
            return match begin(spec, identity, cgroup, &self.schedule.check, counts) {
                Ok(probe) => {
                    self.probe = Some(probe);
                    false
                }
                Err(error) => {
                    let text = super::report::messages(&error).join(": ");
                    self.finish(health, Timestamp::now(), now, counts, -1, text);
                    true
                }
            };
        }
        self.read_output();
        let Some(probe) = &self.probe else { return false };
        let ended = match probe.process.try_wait() {
            Ok(None) if now < probe.deadline => return false,
            Ok(None) => None,
            Ok(Some(status)) => Some(status.code),
            Err(_) => Some(-1),
        };
        self.read_output();
        let Some(probe) = self.probe.take() else { return false };
        let (code, text) = match ended {
            Some(code) => (code, String::from_utf8_lossy(&probe.text).into_owned()),
            None => {
                kill(&probe.process);
                (-1, timeout_text(&self.schedule.check, &probe.text))
            }
        };
        self.finish(health, probe.start, probe.begun, probe.counts, code, text);
        true
    }

    fn finish(
        &mut self,
        health: &mut Health,
        start: Timestamp,
        begun: Instant,
        counts: bool,
        code: i32,
        output: String,
    ) {
        let result = HealthResult { start, end: Timestamp::now(), exit_code: code, output };
        self.schedule.record(health, result, counts, begun, Instant::now());
    }

    fn read_output(&mut self) {
        let Some(probe) = &mut self.probe else { return };
        let mut buffer = [0; 4096];
        // Bounded: a probe that writes without end gets its turn again at the next wake-up.
        for _ in 0..16 {
            let Some(output) = &probe.output else { return };
            match rustix::io::read(output, &mut buffer) {
                Ok(0) => probe.output = None,
                Ok(length) => {
                    let room = OUTPUT_BYTES_MAX - probe.text.len();
                    probe.text.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        if let Some(probe) = &self.probe {
            kill(&probe.process);
        }
    }
}

fn kill(process: &Running) {
    // It may just have ended; either way it is reaped.
    let _refused = rustix::process::pidfd_send_signal(&process.pidfd, Signal::KILL);
    drop(process.wait());
}

fn timeout_text(check: &Healthcheck, output: &[u8]) -> String {
    let limit = crate::base::units::format_duration(Duration::from_millis(check.timeout_ms));
    let text = format!("Health check exceeded timeout ({limit})");
    match output.is_empty() {
        true => text,
        false => format!("{text}: {}", String::from_utf8_lossy(output)),
    }
}

fn begin(
    spec: &ContainerSpec,
    identity: ProcessIdentity,
    cgroup: &Cgroup,
    check: &Healthcheck,
    counts: bool,
) -> super::Result<Probe> {
    use crate::base::fs::Context as _;
    use rustix::pipe::PipeFlags;
    let process = Process { args: check.args.clone(), terminal: false, stdin_open: false, ..spec.process.clone() };
    let name = std::path::Path::new("pipe of a health probe");
    let (output, inside) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("create the", name)?;
    rustix::io::ioctl_fionbio(&output, true).context("set up the", name)?;
    let stderr = inside.try_clone().context("duplicate the", name)?;
    let stdio = Stdio::Pipes { stdin: super::stdio::null()?, stdout: inside, stderr };
    let start = Timestamp::now();
    let process = runtime::exec(&ExecTarget { identity, spec, cgroup }, &process, false, stdio)?;
    // The clock of a probe starts when the probe runs.
    let begun = Instant::now();
    let timeout = Duration::from_millis(check.timeout_ms.max(1));
    Ok(Probe { process, output: Some(output), text: Vec::new(), start, begun, deadline: begun + timeout, counts })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start_period_ms: u64) -> Healthcheck {
        Healthcheck {
            args: vec!["true".into()],
            interval_ms: 30_000,
            timeout_ms: 30_000,
            start_period_ms,
            start_interval_ms: 5_000,
            retries: 3,
        }
    }

    /// Runs a schedule on a simulated clock; returns when each probe began (ms) and the status after it.
    fn simulate(check: &Healthcheck, codes: impl Fn(u64) -> i32, probes: usize) -> Vec<(u64, HealthStatus)> {
        let start = Instant::now();
        let mut schedule = Schedule::new(check, start, start, false);
        let mut health = Health { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };
        (0..probes)
            .map(|_| {
                let (due, counts) = schedule.next();
                let at = (due - start).as_millis() as u64;
                let time = Timestamp::UNIX_EPOCH;
                let result = HealthResult { start: time, end: time, exit_code: codes(at), output: String::new() };
                schedule.record(&mut health, result, counts, due, due);
                (at, health.status)
            })
            .collect()
    }

    #[test]
    fn early_probes_find_a_healthy_container_soon() {
        use HealthStatus::{Healthy, Starting};
        let got = simulate(&check(0), |at| i32::from(at < 700), 5);
        assert_eq!(got, [(0, Starting), (250, Starting), (750, Healthy), (30_750, Healthy), (60_750, Healthy)]);
    }

    #[test]
    fn early_failures_do_not_count() {
        let got = simulate(&check(0), |_| 1, 20);
        let unhealthy = got.iter().find(|(_, status)| *status == HealthStatus::Unhealthy).map(|(at, _)| *at);
        // Docker's own three probes decide, at 30, 60 and 90 seconds.
        assert_eq!(unhealthy, Some(90_000));
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_and_probes_are_denser() {
        let got = simulate(&check(60_000), |_| 1, 40);
        let first_hour: Vec<u64> = got.iter().map(|(at, _)| *at).filter(|at| at % 5_000 == 0).collect();
        assert!(first_hour.starts_with(&[0, 5_000, 10_000, 15_000]), "{first_hour:?}");
        let unhealthy = got.iter().find(|(_, status)| *status == HealthStatus::Unhealthy).map(|(at, _)| *at);
        assert_eq!(unhealthy, Some(120_000));
    }

    #[test]
    fn one_success_heals_and_five_results_are_kept() {
        let start = Instant::now();
        let mut schedule = Schedule::new(&check(0), start, start, true);
        let mut health = Health { status: HealthStatus::Unhealthy, failing_streak: 7, log: Vec::new() };
        for code in [1, 1, 1, 1, 1, 1, 0] {
            let (due, counts) = schedule.next();
            assert!(counts);
            let time = Timestamp::UNIX_EPOCH;
            let result = HealthResult { start: time, end: time, exit_code: code, output: String::new() };
            schedule.record(&mut health, result, counts, due, due);
        }
        assert_eq!((health.status, health.failing_streak, health.log.len()), (HealthStatus::Healthy, 0, 5));
    }
}
