//! Replicas replaced some at a time, as `deploy.update_config` says: those that are not replaced yet go on.
//!
//! ```text
//! stop-first   create ─ stop old ─ start new ─ settle ─ remove old ─ rename ─► next ones
//! start-first  create ─ start new ─ settle ─ stop old ─ remove old ─ rename ─► next ones
//! ```
//!
//! With `failure_action: rollback`, old containers are removed after the last new one has settled.

use std::time::Duration;

use super::steps::Roll;
use super::{Fate, Planner, host_ports, is_up, namespace_providers, stop, volume_providers};
use crate::base::units::parse_duration;
use crate::graph::plan::{Action, OnFailure, StepId, Target};
use crate::model::project::Service;

/// `deploy.update_config`. Source of the defaults: the Compose deploy specification.
#[derive(Debug, Clone)]
struct Update {
    /// How many at a time; 0 is all.
    parallelism: usize,
    delay: Duration,
    start_first: bool,
    on_failure: OnFailure,
    /// How long a new container must go on before it counts.
    monitor: Option<Duration>,
    failure_ratio_max: f64,
}

impl Update {
    /// Reads it; what it does not say is the default.
    fn of(service: &Service) -> Option<Self> {
        let config = service.deploy.as_ref()?.update_config.as_ref()?;
        let text = |key: &str| config.get(key).and_then(serde_json::Value::as_str);
        let number = |key: &str| {
            let value = config.get(key)?;
            value.as_f64().or_else(|| value.as_str()?.parse().ok())
        };
        let duration = |key: &str| text(key).and_then(|text| parse_duration(text).ok());
        Some(Self {
            parallelism: number("parallelism").map_or(1, |number| number.max(0.0) as usize),
            delay: duration("delay").unwrap_or_default(),
            start_first: text("order") == Some("start-first"),
            on_failure: match text("failure_action") {
                Some("continue") => OnFailure::Continue,
                Some("rollback") => OnFailure::RollBack,
                _ => OnFailure::Pause,
            },
            monitor: duration("monitor").filter(|monitor| !monitor.is_zero()),
            failure_ratio_max: number("max_failure_ratio").unwrap_or(0.0),
        })
    }
}

impl<'p> Planner<'p> {
    /// Whether the containers of a service are replaced some at a time. Not where others need all of them at once:
    /// their namespaces, their volumes, or their ports.
    pub(super) fn rolls(&self, service: &Service) -> bool {
        if Update::of(service).is_none() || self.wish.no_start || self.graph.is_job(&service.name) {
            return false;
        }
        let others = || self.project.services.values().filter(|other| other.name != service.name);
        let is_provider = others().any(|other| {
            namespace_providers(other).chain(volume_providers(other)).any(|provider| provider == service.name)
        });
        let ports: Vec<_> = self.observed.of_service(&service.name).flat_map(|container| &container.ports).collect();
        let is_wanted = !ports.is_empty()
            && others()
                .filter(|other| self.selected.contains(other.name.as_str()))
                .flat_map(host_ports)
                .any(|wanted| ports.iter().any(|port| port.conflicts(&wanted)));
        !is_provider && !is_wanted
    }

    /// Writes the replacement of containers whose successors are made. `gates`: what their starts come after.
    pub(super) fn roll(&mut self, name: &'p str, rolls: Vec<Roll<'p>>, gates: &[StepId]) {
        let Some(update) = Update::of(self.service(name)) else { return };
        let start_first = update.start_first && !self.must_stop_first(name);
        let total = rolls.len();
        let size = if update.parallelism == 0 { total } else { update.parallelism };
        let failures_max = (update.failure_ratio_max * total as f64) as usize;
        let mut before: Vec<StepId> = gates.to_vec();
        let mut settled: Vec<(Roll<'p>, Vec<StepId>)> = Vec::new();
        let mut rolls = rolls.into_iter().peekable();
        while rolls.peek().is_some() {
            let batch: Vec<Roll<'p>> = rolls.by_ref().take(size.max(1)).collect();
            let mut starts = Vec::new();
            for roll in &batch {
                let mut after = before.clone();
                after.push(roll.ready);
                if !start_first && is_up(roll.old) {
                    after.push(self.stop_old(roll, after.clone()));
                }
                let container = Target::New { service: name.to_owned(), number: roll.number };
                let action = Action::StartContainer { container, name: roll.name.clone() };
                starts.push(self.plan.push(action, after, roll.why.clone()));
            }
            self.started.entry(name).or_default().extend(&starts);
            let action = Action::Settle {
                service: name.to_owned(),
                numbers: batch.iter().map(|roll| roll.number).collect(),
                monitor: update.monitor,
                on_failure: update.on_failure,
                failures_max,
            };
            let is_last = rolls.peek().is_none();
            let why = if is_last { "the update ends with that" } else { "the next containers come after that" };
            let settle = self.plan.push(action, starts, why);
            self.started.entry(name).or_default().push(settle);
            before = vec![settle];
            for roll in batch {
                let mut gone = vec![settle];
                if start_first && is_up(roll.old) {
                    gone.push(self.stop_old(&roll, vec![settle]));
                    before.extend(gone.last());
                }
                settled.push((roll, gone));
            }
            if update.on_failure != OnFailure::RollBack {
                for (roll, gone) in settled.drain(..) {
                    before.push(self.take_over(name, roll, gone));
                }
            }
            if !update.delay.is_zero() && !is_last {
                let action = Action::Delay { service: name.to_owned(), delay: update.delay };
                before = vec![self.plan.push(action, before, "update_config.delay")];
            }
        }
        for (roll, mut gone) in settled {
            gone.extend(&before);
            self.take_over(name, roll, gone);
        }
    }

    fn stop_old(&mut self, roll: &Roll<'p>, mut after: Vec<StepId>) -> StepId {
        after.extend(&roll.followers);
        self.plan.push(stop(roll.old, self.wish.timeout), after, roll.why.clone())
    }

    /// The old one goes, the new one gets its name.
    fn take_over(&mut self, name: &str, roll: Roll<'p>, after: Vec<StepId>) -> StepId {
        let (id, old, volumes) = (roll.old.id.clone(), roll.old.name.clone(), self.wish.renew_volumes);
        let removal = Action::RemoveContainer { id, name: old, volumes };
        let removed = self.plan.push(removal, after, roll.why);
        let container = Target::New { service: name.to_owned(), number: roll.number };
        self.plan.push(Action::RenameContainer { container, name: roll.name }, vec![removed], "the old one is gone")
    }

    /// Whether two containers of a replica cannot run at the same time, whatever the file says.
    fn must_stop_first(&mut self, name: &str) -> bool {
        let service = self.service(name);
        let has_address = |options: &crate::model::project::ServiceNetwork| {
            options.ipv4_address.is_some() || options.ipv6_address.is_some() || options.mac_address.is_some()
        };
        let what = if !host_ports(service).is_empty() {
            "publishes a fixed port of the host"
        } else if service.networks.iter().flat_map(|networks| networks.values()).flatten().any(has_address) {
            "has a fixed address"
        } else {
            return false;
        };
        self.plan.warnings.push(format!("service `{name}` {what}: its containers are stopped before new ones start"));
        true
    }

    /// Whether a fate is the replacement of a container that rolls.
    pub(super) fn is_rolled(&self, service: &Service, fate: &Fate<'p>) -> bool {
        matches!(fate, Fate::Recreate { start: true, .. }) && self.rolls(service)
    }
}
