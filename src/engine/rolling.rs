//! Replicas that are replaced some at a time: whether the new ones work, and what is done when they do not.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use super::execute::{CANCEL_CHECK, Reached, Runner, what_happened};
use super::{Error, Result};
use crate::base::id::ContainerId;
use crate::graph::observed::label;
use crate::graph::plan::{Action, OnFailure, Target};
use crate::model::project::Condition;
use crate::supervise;

/// How long a container without a health check must run to count as working.
const MOMENT: Duration = Duration::from_millis(500);

/// How long names have led elsewhere before a container is stopped: who has just looked one up gets its answer.
const DRAIN: Duration = Duration::from_millis(200);
/// The longest that names do not lead to a container that is being replaced, or that replaces one: should we be killed.
const QUIET_MAX: Duration = Duration::from_secs(120);

/// What did not go well in updates.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// How many new containers failed, by service.
    count: BTreeMap<String, usize>,
    /// Those that could not even be started, by service and number.
    unstarted: BTreeMap<(String, u32), Error>,
}

impl Runner<'_> {
    /// Starts a container. That of an update which fails to start is judged where the others of its group are.
    pub(super) fn start_or_note(&self, container: &Target) -> Result<Reached> {
        if let Target::New { service, number } = container
            && self.is_updated(service, *number)
        {
            // Nobody is sent there before it works.
            self.quiet(&self.resolve(container)?, Some(QUIET_MAX))?;
        }
        match (self.start(&self.resolve(container)?), container) {
            (Ok(()), _) => Ok(Reached::Done),
            (Err(error), Target::New { service, number }) if self.is_updated(service, *number) => {
                let text = error.to_string();
                self.failures().unstarted.insert((service.clone(), *number), error);
                Ok(Reached::Warned(text))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn is_updated(&self, name: &str, number: u32) -> bool {
        self.plan.steps.iter().any(|step| {
            matches!(&step.action, Action::Settle { service, numbers, .. } if service == name && numbers.contains(&number))
        })
    }

    /// Lets names lead elsewhere before a container of an updated service is stopped, while others have them.
    pub(super) fn drain(&self, id: &ContainerId, service: &str) -> Result<()> {
        let updates = |action: &Action| matches!(action, Action::Settle { service: name, .. } if name == service);
        if self.plan.steps.iter().any(|step| updates(&step.action)) {
            self.quiet(id, Some(QUIET_MAX))?;
            std::thread::sleep(DRAIN);
        }
        Ok(())
    }

    /// Keeps names from leading to a container for so long; `None` lets them again.
    fn quiet(&self, id: &ContainerId, period: Option<Duration>) -> Result<()> {
        let store = self.engine.store();
        let until = period.map(|period| SystemTime::now() + period);
        for network in store.containers().spec(id)?.network.networks() {
            store.endpoints().set_quiet(network, id, until)?;
        }
        Ok(())
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.update.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// Waits until new containers of a service work.
    ///
    /// Errors: too many do not, and the update ends there; with `RollBack`, the old ones run again.
    pub(super) fn settle(
        &self,
        service: &str,
        numbers: &[u32],
        monitor: Option<Duration>,
        on_failure: OnFailure,
        failures_max: usize,
    ) -> Result<Reached> {
        let mut warning = None;
        for number in numbers {
            let target = Target::New { service: service.to_owned(), number: *number };
            let id = self.resolve(&target)?;
            let unstarted = self.failures().unstarted.remove(&(service.to_owned(), *number));
            let Err(error) = unstarted.map_or_else(|| self.works(&id, monitor), Err) else {
                self.quiet(&id, None)?;
                continue;
            };
            if matches!(error, Error::Interrupted) {
                return Err(error);
            }
            let count = {
                let mut failures = self.failures();
                let count = failures.count.entry(service.to_owned()).or_default();
                *count += 1;
                *count
            };
            let found = what_happened(&error);
            if on_failure == OnFailure::Continue || count <= failures_max {
                self.quiet(&id, None)?;
                warning.get_or_insert(format!("container {number} does not work: {found}"));
                continue;
            }
            let said = self.engine.last_lines(&id);
            let rolled_back = on_failure == OnFailure::RollBack;
            if rolled_back {
                self.roll_back(service)?;
            }
            return Err(Error::Update { service: service.to_owned(), number: *number, found, rolled_back, said });
        }
        Ok(warning.map_or(Reached::Done, Reached::Warned))
    }

    /// Waits until a container is healthy, or runs where it has no health check, and then whether it goes on.
    fn works(&self, id: &ContainerId, monitor: Option<Duration>) -> Result<()> {
        let is_probed = self.engine.store().containers().spec(id)?.healthcheck.is_some();
        self.wait_for(id, if is_probed { Condition::Healthy } else { Condition::Started })?;
        let state = self.engine.store().containers().state(id)?;
        let moment = if is_probed { Duration::ZERO } else { MOMENT };
        let until = Instant::now() + monitor.unwrap_or(moment);
        let ended = supervise::Condition::RunEnded { restarts: state.restart_count };
        while Instant::now() < until {
            self.check_cancelled()?;
            match self.engine.wait_until(id, ended, Some(until.min(Instant::now() + CANCEL_CHECK))) {
                Err(Error::Supervise(supervise::Error::Deadline { .. })) => {}
                Ok(state) => {
                    let error = supervise::Error::Exited { id: id.clone(), code: state.exit_code };
                    return Err(error.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes the new containers of a service and starts those that they were to replace.
    fn roll_back(&self, service: &str) -> Result<()> {
        let store = self.engine.store().containers();
        let made: Vec<ContainerId> = {
            let made = self.made.lock().unwrap_or_else(|poison| poison.into_inner());
            made.iter().filter(|((of, _), _)| of == service).map(|(_, id)| id.clone()).collect()
        };
        for new in made {
            let spec = store.spec(&new)?;
            let old = spec.labels.get(label::REPLACE).and_then(|id| id.parse::<ContainerId>().ok());
            let Some(old) = old.filter(|old| store.exists(old)) else { continue };
            let resource = format!("Container {}", store.spec(&old)?.name);
            self.execution.progress.working(&resource, "Rolling back");
            self.engine.stop(&new, None)?;
            // Anonymous volumes that the old one has are kept.
            self.engine.remove(&new, true, true)?;
            let was_up = |action: &Action| matches!(action, Action::StopContainer { id, .. } if *id == old);
            if self.plan.steps.iter().any(|step| was_up(&step.action)) {
                self.quiet(&old, None)?;
                self.start(&old)?;
            }
            self.execution.progress.done(&resource, "Rolled back");
        }
        Ok(())
    }

    /// Waits; Ctrl-C ends it.
    pub(super) fn sleep(&self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.check_cancelled()?;
            std::thread::sleep(left.min(CANCEL_CHECK));
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<()> {
        match self.execution.cancelled.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}
