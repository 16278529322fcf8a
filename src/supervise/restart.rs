//! When a container that ended is started again: pure.
//!
//! Source: moby `restartmanager/restartmanager.go` (100 ms, doubled up to a minute, anew after ten good seconds).

use std::time::Duration;

use crate::model::container::RestartPolicy;
use crate::store::Wish;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run this long counts as good: the next wait is the first again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// The wait before the next start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// Takes up where another supervisor left off, from the number of restarts so far.
    pub(super) fn after(restarts: u32) -> Self {
        let last = (restarts > 0).then(|| (FIRST * 2u32.saturating_pow(restarts.min(16) - 1)).min(LONGEST));
        Self { last }
    }

    /// The wait after a run of this length.
    pub(super) fn next(&mut self, run: Duration) -> Duration {
        let wait = match self.last {
            Some(last) if run < GOOD_RUN => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(wait);
        wait
    }
}

/// Whether a container that ended with `code` after `restarts` restarts is started again.
pub(super) fn wanted(policy: RestartPolicy, code: i32, restarts: u32, wish: Wish) -> bool {
    if wish == Wish::Stopped {
        return false;
    }
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::OnFailure(most) => code != 0 && (most == 0 || restarts < most),
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12).map(|_| backoff.next(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(backoff.next(Duration::from_secs(10)), FIRST);
        assert_eq!(backoff.next(Duration::ZERO), 2 * FIRST);
        assert_eq!(Backoff::after(0).next(Duration::ZERO), FIRST);
        assert_eq!(Backoff::after(2).next(Duration::ZERO), 4 * FIRST);
        assert_eq!(Backoff::after(u32::MAX).next(Duration::ZERO), LONGEST);
    }

    #[test]
    fn policies_are_dockers() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        for (policy, code, restarts, expected) in [
            (No, 1, 0, false),
            (OnFailure(0), 1, 1000, true),
            (OnFailure(0), 0, 0, false),
            (OnFailure(3), 1, 2, true),
            (OnFailure(3), 1, 3, false),
            (Always, 0, 9, true),
            (UnlessStopped, 137, 9, true),
        ] {
            assert_eq!(wanted(policy, code, restarts, Wish::Running), expected, "{policy:?} {code} {restarts}");
            assert!(!wanted(policy, code, restarts, Wish::Stopped));
        }
    }
}
