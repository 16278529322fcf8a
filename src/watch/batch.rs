//! What changes ask for beyond copying, gathered until no more come.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::rules::Command;
use super::signal::{self, Bell, Stop};

/// How long there must have been no change before what follows from it is done.
const QUIET: Duration = Duration::from_millis(50);
/// The longest that changes can put it off.
const QUIET_MAX: Duration = Duration::from_secs(1);
/// A batch of what is to be done.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Files that the project was read from.
    pub(super) sources: BTreeSet<PathBuf>,
    /// Services to build, each with a file that asked for it.
    pub(super) rebuild: BTreeMap<String, PathBuf>,
    /// Services to restart.
    pub(super) restart: BTreeSet<String>,
    /// Commands to run, with their services.
    pub(super) commands: Vec<(String, Command)>,
    /// The times of the first and the last change.
    times: Option<(Instant, Instant)>,
}

/// What is to be done, shared between the two threads.
#[derive(Debug)]
pub(super) struct Wanted {
    batch: Mutex<Batch>,
    bell: Bell,
}

impl Wanted {
    pub(super) fn new() -> rustix::io::Result<Self> {
        Ok(Self { batch: Mutex::default(), bell: Bell::new()? })
    }

    /// These files of the project changed.
    pub(super) fn reload(&self, sources: impl Iterator<Item = PathBuf>) {
        let mut sources = sources.peekable();
        if sources.peek().is_some() {
            self.change(|batch| batch.sources.extend(sources));
        }
    }

    /// These services are to be rebuilt or restarted, these commands run.
    pub(super) fn add(
        &self,
        rebuild: BTreeMap<String, PathBuf>,
        restart: BTreeSet<String>,
        commands: Vec<(String, Command)>,
    ) {
        if rebuild.is_empty() && restart.is_empty() && commands.is_empty() {
            return;
        }
        self.change(|batch| {
            for (service, file) in rebuild {
                batch.rebuild.entry(service).or_insert(file);
            }
            batch.restart.extend(restart);
            for command in commands {
                if !batch.commands.contains(&command) {
                    batch.commands.push(command);
                }
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Batch)) {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut batch);
        let now = Instant::now();
        batch.times = Some((batch.times.map_or(now, |(first, _)| first), now));
        self.bell.ring();
    }

    /// Waits for the next batch to be complete; `None` at the end.
    pub(super) fn next(&self, stop: &Stop) -> Option<Batch> {
        while !stop.is_set() {
            self.bell.clear();
            let mut timeout = None;
            {
                let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((first, last)) = batch.times {
                    let left = (last + QUIET).min(first + QUIET_MAX).saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Some(std::mem::take(&mut batch));
                    }
                    timeout = Some(left);
                }
            }
            if signal::wait(&[stop.fd(), self.bell.fd()], timeout).is_err() {
                return None;
            }
        }
        None
    }
}
