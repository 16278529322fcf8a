//! `--wait`: whether services came up, and if one did not, why.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Cancelled, Engine, Error, Result};
use crate::base::id::ContainerId;
use crate::base::threads;
use crate::graph::dependency::Graph;
use crate::graph::observed::ObservedContainer;
use crate::log::{self, ReadOptions};
use crate::model::container::{ContainerState, Status};
use crate::model::event::Progress;
use crate::model::project::Project;
use crate::supervise;

/// How long a run without a health check must last to count as up: programs that cannot work end sooner.
const SETTLED: Duration = Duration::from_millis(500);
/// How often a policy may start a container again before the wait for it is given up.
const RESTARTS_MAX: u32 = 5;
/// How long a wait may sleep before it looks whether it is still wanted. The condition itself wakes it at once.
const CANCEL_CHECK: Duration = Duration::from_millis(200);
/// Lines of a log that an error shows, and characters of each.
const LOG_LINES: u64 = 10;
const LINE_CHARACTERS_MAX: usize = 200;

/// What ends a wait early.
struct Limits<'a> {
    deadline: Option<Instant>,
    cancelled: &'a Cancelled,
    /// Another container failed: what this one does no longer matters.
    failed: AtomicBool,
}

impl Limits<'_> {
    fn is_over(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}

/// How a wait for one container ended.
enum Outcome {
    Up(&'static str),
    Down(Error),
    /// Nobody waits any more.
    Left,
}

impl Engine {
    /// Waits, for all at once, until each container of `names` is healthy, or has run for a moment where it has no
    /// health check. One that ended with code 0 by itself and is not restarted counts as done.
    ///
    /// Errors: the container that failed first, with what it said; after `deadline`, all that are not up.
    pub fn wait_for_services(
        &self,
        project: &Project,
        names: &BTreeSet<&str>,
        deadline: Option<Instant>,
        progress: &dyn Progress,
        cancelled: &Cancelled,
    ) -> Result<()> {
        let observed = self.observe(&project.name, None)?;
        let wanted = |container: &&ObservedContainer| !container.oneoff && names.contains(container.service.as_str());
        let mut containers: Vec<_> = observed.containers.iter().filter(wanted).collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        let graph = Graph::of(project)?;
        for container in &containers {
            progress.working(&format!("Container {}", container.name), "Waiting");
        }
        let limits = Limits { deadline, cancelled, failed: AtomicBool::new(false) };
        let wait = |container: &ObservedContainer| {
            let outcome = self.wait_for_container(container, graph.is_job(&container.service), &limits);
            let resource = format!("Container {}", container.name);
            match outcome {
                Ok(Outcome::Up(word)) => progress.done(&resource, word),
                Ok(Outcome::Left) => {}
                Ok(Outcome::Down(_)) | Err(_) => {
                    // At the deadline, each says for itself what it still waits for.
                    limits.failed.fetch_or(!limits.is_late(), Ordering::Relaxed);
                    progress.report(crate::model::event::Event::new(
                        &resource,
                        crate::model::event::EventStatus::Error,
                        "Error",
                    ));
                }
            }
            match outcome {
                Ok(Outcome::Down(error)) | Err(error) => Some(error),
                Ok(Outcome::Up(_) | Outcome::Left) => None,
            }
        };
        let errors: Vec<Error> = std::thread::scope(|scope| {
            let waits: Vec<_> = containers.iter().map(|container| threads::begin(scope, || wait(container))).collect();
            waits.into_iter().filter_map(threads::Work::join).collect()
        });
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        Error::of_several(errors)
    }

    fn wait_for_container(&self, container: &ObservedContainer, is_job: bool, limits: &Limits<'_>) -> Result<Outcome> {
        let spec = self.store.containers().spec(&container.id)?;
        let (condition, word) = match (&spec.healthcheck, is_job) {
            (_, true) => (supervise::Condition::Exited, "Exited"),
            (Some(_), false) => (supervise::Condition::Healthy, "Healthy"),
            (None, false) => (supervise::Condition::Running, "Started"),
        };
        loop {
            if limits.is_over() {
                return Ok(Outcome::Left);
            }
            let restarts = self.store.containers().state(&container.id)?.restart_count;
            if restarts >= RESTARTS_MAX {
                let found = format!("keeps ending: it was started again {restarts} times");
                return Ok(Outcome::Down(self.not_up(container, found)));
            }
            if limits.is_late() {
                return Ok(Outcome::Down(self.not_in_time(container)?));
            }
            match self.until(&container.id, condition, limits.deadline) {
                Err(Error::Supervise(supervise::Error::Deadline { .. })) => {}
                Err(Error::Supervise(supervise::Error::Exited { code: 0, .. })) => return Ok(Outcome::Up("Exited")),
                Err(Error::Supervise(
                    error @ (supervise::Error::Exited { .. } | supervise::Error::Unhealthy { .. }),
                )) => return Ok(Outcome::Down(self.not_up(container, super::execute::what_it_did(&error)))),
                Err(error) => return Err(error),
                Ok(state) if is_job && state.exit_code != 0 => {
                    let found = format!("exited with code {}", state.exit_code);
                    return Ok(Outcome::Down(self.not_up(container, found)));
                }
                Ok(state) if condition == supervise::Condition::Running => {
                    if self.settles(&container.id, &state)? {
                        return Ok(Outcome::Up(word));
                    }
                }
                Ok(_) => return Ok(Outcome::Up(word)),
            }
        }
    }

    /// Waits a short while, at most until the deadline.
    fn until(
        &self,
        id: &ContainerId,
        condition: supervise::Condition,
        deadline: Option<Instant>,
    ) -> Result<ContainerState> {
        let next = Instant::now() + CANCEL_CHECK;
        self.wait_until(id, condition, Some(deadline.map_or(next, |deadline| deadline.min(next))))
    }

    /// Whether the run that `state` tells of lasts for a moment.
    fn settles(&self, id: &ContainerId, state: &ContainerState) -> Result<bool> {
        let age = state.started_at.map_or(SETTLED, |start| {
            Duration::try_from(jiff::Timestamp::now().duration_since(start)).unwrap_or_default()
        });
        let ended = supervise::Condition::RunEnded { restarts: state.restart_count };
        match self.wait_until(id, ended, Some(Instant::now() + SETTLED.saturating_sub(age))) {
            Err(Error::Supervise(supervise::Error::Deadline { .. })) => Ok(true),
            result => result.map(|_| false),
        }
    }

    fn not_in_time(&self, container: &ObservedContainer) -> Result<Error> {
        let state = self.store.containers().state(&container.id)?;
        let last = state.health.as_ref().and_then(|health| health.log.last());
        let mut found = match (state.status, &last) {
            (Status::Running, Some(last)) => match last.exit_code {
                -1 => "is not healthy in time; its last probe took too long".to_owned(),
                code => format!("is not healthy in time; its last probe exited with code {code}"),
            },
            (Status::Running, None) if state.health.is_some() => "is not healthy in time; no probe has ended".into(),
            (status, _) => format!("is {status}, and did not come up in time"),
        };
        if let Some(output) = last.map(|last| last.output.trim()).filter(|output| !output.is_empty()) {
            let _infallible = write!(found, " ({output})");
        }
        Ok(self.not_up(container, found))
    }

    fn not_up(&self, container: &ObservedContainer, found: String) -> Error {
        Error::NotUp {
            service: container.service.clone(),
            container: container.name.clone(),
            found,
            said: self.last_lines(&container.id),
        }
    }

    /// The last lines that a container wrote in its last run, made short; none where its log cannot be read.
    pub(super) fn last_lines(&self, id: &ContainerId) -> Box<[String]> {
        let since = self.store.containers().state(id).ok().and_then(|state| state.started_at);
        let options = ReadOptions { tail: Some(LOG_LINES), since, ..ReadOptions::default() };
        let mut text = Vec::new();
        if let Ok(mut reader) = log::read(&supervise::log_path(&self.store, id), options) {
            while let Ok(Some(piece)) = reader.next(|| true) {
                text.extend_from_slice(&piece.bytes);
            }
        }
        let text = String::from_utf8_lossy(&text);
        text.lines().map(|line| line.trim_end().chars().take(LINE_CHARACTERS_MAX).collect()).collect()
    }
}
