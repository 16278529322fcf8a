//! Threads that a host may not have to give.
//!
//! `Scope::spawn` panics where the limit of processes is reached or memory is out. Work that may as well be done here
//! and now is done so instead.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// Work that was begun on a thread, or is done already.
#[derive(Debug)]
pub enum Work<'scope, T> {
    /// It is under way.
    Begun(ScopedJoinHandle<'scope, Option<T>>),
    /// There was no thread for it: its result.
    Done(Option<T>),
}

impl<T> Work<'_, T> {
    /// Waits for its end. A panic of the thread goes on here.
    pub fn join(self) -> T {
        let result = match self {
            Self::Begun(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Self::Done(result) => result,
        };
        // It is taken once: by the thread, or here when there is none.
        result.unwrap_or_else(|| unreachable!("work is done by whoever took it"))
    }
}

/// Does `work` on a thread of its own, or before it returns where there is none to be had. Not for work that waits for
/// what the caller does later.
pub fn begin<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Work<'scope, T> {
    let shared = Arc::new(Mutex::new(Some(work)));
    let theirs = Arc::clone(&shared);
    let thread = Builder::new().spawn_scoped(scope, move || {
        let work = theirs.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.map(|work| work())
    });
    match thread {
        Ok(thread) => Work::Begun(thread),
        Err(_) => {
            let work = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
            Work::Done(work.map(|work| work()))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn work_has_its_result_wherever_it_is_done() {
        let results: Vec<usize> = std::thread::scope(|scope| {
            let begun: Vec<_> = (0..4).map(|number| super::begin(scope, move || number * 2)).collect();
            begun.into_iter().map(super::Work::join).collect()
        });
        assert_eq!(results, [0, 2, 4, 6]);
    }
}
