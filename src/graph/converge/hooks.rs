//! `pre_start` hooks: steps before the starts of a service.

use super::Planner;
use super::steps::{Roll, Start};
use crate::graph::plan::{Action, StepId, Target};
use crate::model::container::Status;
use crate::model::project::Service;

impl<'p> Planner<'p> {
    /// Puts the hooks of a service before the starts of its containers, one after the other. Those that are not for
    /// each container run once, with the volumes of the first, and not while another container of the service runs.
    pub(super) fn run_hooks(
        &mut self,
        service: &'p Service,
        starts: &mut [Start<'p>],
        rolls: &mut [Roll<'p>],
        gates: &[StepId],
        is_running: bool,
    ) {
        for (index, hook) in service.pre_start.iter().enumerate() {
            if is_running && !hook.per_replica {
                continue;
            }
            let mut last = None;
            let is_frozen = |start: &&mut Start<'p>| start.existing.is_some_and(|old| old.status == Status::Paused);
            for start in starts.iter_mut().filter(|start| !is_frozen(start)) {
                if last.is_none() || hook.per_replica {
                    let mut after = start.after.clone();
                    after.extend(gates);
                    last = Some(self.push_hook(service, index, (start.container.clone(), start.number), after));
                }
                start.after.extend(last);
            }
            for roll in rolls.iter_mut() {
                if last.is_none() || hook.per_replica {
                    let container = Target::New { service: service.name.clone(), number: roll.number };
                    let after = gates.iter().copied().chain([roll.ready]).collect();
                    last = Some(self.push_hook(service, index, (container, roll.number), after));
                }
                roll.ready = last.unwrap_or(roll.ready);
            }
        }
    }

    fn push_hook(
        &mut self,
        service: &Service,
        index: usize,
        (container, number): (Target, u32),
        after: Vec<StepId>,
    ) -> StepId {
        let why = "it comes before the start";
        self.plan.push(Action::RunHook { service: service.name.clone(), index, container, number }, after, why)
    }
}
