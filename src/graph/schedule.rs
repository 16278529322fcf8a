//! Runs a plan: every step whose predecessors are done runs at once, each on a thread of its own.
//!
//! A failed step's dependents never start; steps beside it go on, so that what was begun is finished. After
//! a cancellation nothing new starts. The one loop that decides all this gets its news from one channel.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::plan::{Plan, Step, StepId};
use crate::base::threads;

/// Carries out single steps. Called from several threads at once.
pub trait Runner: Sync {
    /// What a step can fail with.
    type Error: Send;

    /// Carries out one step.
    fn run(&self, id: StepId, step: &Step) -> Result<(), Self::Error>;

    /// How many steps of all kinds may run at the same time; `None` for a step that does not count.
    fn limit(&self, step: &Step) -> Option<usize> {
        let _ = step;
        None
    }

    /// How many steps like this one may run at the same time; `None` is any number. Steps with the same
    /// answer share that bound.
    fn bound(&self, step: &Step) -> Option<usize> {
        let _ = step;
        None
    }
}

/// What became of a plan.
#[derive(Debug)]
pub struct Outcome<E> {
    /// Steps that failed, in the order in which they did.
    pub failed: Vec<(StepId, E)>,
    /// Steps that were never begun because of a failure or the cancellation.
    pub skipped: Vec<StepId>,
}

impl<E> Outcome<E> {
    /// Whether every step was carried out.
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.skipped.is_empty()
    }
}

/// Runs `plan` to its end, or until `cancelled` becomes true and the running steps have returned.
pub fn run<R: Runner>(plan: &Plan, runner: &R, cancelled: &AtomicBool) -> Outcome<R::Error> {
    let dependents = plan.dependents();
    let mut waiting_for: Vec<usize> = plan.steps.iter().map(|step| step.after.len()).collect();
    let mut ready: VecDeque<StepId> = (0..plan.steps.len()).map(StepId).filter(|id| waiting_for[id.0] == 0).collect();
    let mut begun = vec![false; plan.steps.len()];
    let mut failed = Vec::new();
    let mut running = 0usize;
    let mut bounded = 0usize;
    let mut limited = 0usize;

    std::thread::scope(|scope| {
        let (report, reports) = mpsc::channel::<(StepId, Result<(), R::Error>)>();
        loop {
            let mut postponed = VecDeque::new();
            while let Some(id) = ready.pop_front() {
                if cancelled.load(Ordering::Relaxed) {
                    break;
                }
                let step = &plan.steps[id.0];
                let (bound, limit) = (runner.bound(step), runner.limit(step));
                if bound.is_some_and(|most| bounded >= most.max(1)) || limit.is_some_and(|most| limited >= most.max(1))
                {
                    postponed.push_back(id);
                    continue;
                }
                bounded += usize::from(bound.is_some());
                limited += usize::from(limit.is_some());
                begun[id.0] = true;
                running += 1;
                let report = report.clone();
                threads::begin(scope, move || {
                    let result = runner.run(id, step);
                    // The receiver outlives every sender: it is dropped after the scope has joined them.
                    drop(report.send((id, result)));
                });
            }
            ready = postponed;
            if running == 0 {
                break;
            }
            let Ok((id, result)) = reports.recv() else { break };
            running -= 1;
            let step = &plan.steps[id.0];
            bounded -= usize::from(runner.bound(step).is_some());
            limited -= usize::from(runner.limit(step).is_some());
            match result {
                Ok(()) => {
                    for dependent in dependents.get(&id).into_iter().flatten() {
                        waiting_for[dependent.0] -= 1;
                        if waiting_for[dependent.0] == 0 {
                            ready.push_back(*dependent);
                        }
                    }
                }
                Err(error) => failed.push((id, error)),
            }
        }
    });
    let skipped = (0..plan.steps.len()).map(StepId).filter(|id| !begun[id.0]).collect();
    Outcome { failed, skipped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::plan::Action;
    use std::sync::Mutex;

    struct Recorder {
        order: Mutex<Vec<usize>>,
        fails: Option<usize>,
    }

    impl Runner for Recorder {
        type Error = String;
        fn run(&self, id: StepId, _: &Step) -> Result<(), String> {
            self.order.lock().unwrap_or_else(|poison| poison.into_inner()).push(id.0);
            if self.fails == Some(id.0) { Err("no".into()) } else { Ok(()) }
        }
    }

    fn plan(after: &[&[usize]]) -> Plan {
        let mut plan = Plan::default();
        for before in after {
            let action = Action::RemoveVolume { name: "v".into() };
            plan.push(action, before.iter().copied().map(StepId).collect(), "test");
        }
        plan
    }

    #[test]
    fn a_step_runs_after_those_it_needs() {
        let plan = plan(&[&[], &[0], &[0], &[1, 2]]);
        let recorder = Recorder { order: Mutex::default(), fails: None };
        assert!(run(&plan, &recorder, &AtomicBool::new(false)).is_success());
        let order = recorder.order.into_inner().unwrap_or_else(|poison| poison.into_inner());
        assert_eq!((order[0], order[3]), (0, 3));
    }

    #[test]
    fn a_failure_keeps_its_dependents_from_starting() {
        let plan = plan(&[&[], &[0], &[1], &[]]);
        let recorder = Recorder { order: Mutex::default(), fails: Some(0) };
        let outcome = run(&plan, &recorder, &AtomicBool::new(false));
        assert_eq!(outcome.failed, [(StepId(0), "no".to_owned())]);
        assert_eq!(outcome.skipped, [StepId(1), StepId(2)]);
    }

    #[test]
    fn nothing_starts_after_a_cancellation() {
        let plan = plan(&[&[], &[]]);
        let recorder = Recorder { order: Mutex::default(), fails: None };
        let outcome = run(&plan, &recorder, &AtomicBool::new(true));
        assert_eq!(outcome.skipped, [StepId(0), StepId(1)]);
    }

    /// Counts how many steps run at once, and how many did at most; each stays until there were as many as may be. The
    /// last one does not count.
    struct Crowd {
        running_and_most: Mutex<(usize, usize)>,
        changed: std::sync::Condvar,
        limit: usize,
        free: StepId,
    }

    impl Runner for Crowd {
        type Error = String;
        fn run(&self, id: StepId, _: &Step) -> Result<(), String> {
            if id != self.free {
                let patience = std::time::Duration::from_secs(60);
                let mut counts = self.running_and_most.lock().unwrap();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
                self.changed.notify_all();
                let waiting = self.changed.wait_timeout_while(counts, patience, |(_, most)| *most < self.limit);
                drop(waiting);
                // Time for one too many.
                std::thread::sleep(std::time::Duration::from_millis(5));
                self.running_and_most.lock().unwrap().0 -= 1;
            }
            Ok(())
        }
        fn limit(&self, step: &Step) -> Option<usize> {
            (step.why != "free").then_some(self.limit)
        }
    }

    #[test]
    fn no_more_steps_than_the_limit_run_at_once() {
        for limit in [1, 2, 3] {
            let mut plan = plan(&[&[] as &[usize]; 9]);
            let free = plan.push(Action::RemoveVolume { name: "v".into() }, Vec::new(), "free");
            let crowd = Crowd { running_and_most: Mutex::default(), changed: std::sync::Condvar::new(), limit, free };
            assert!(run(&plan, &crowd, &AtomicBool::new(false)).is_success());
            assert_eq!(crowd.running_and_most.into_inner().unwrap().1, limit);
        }
    }
}
