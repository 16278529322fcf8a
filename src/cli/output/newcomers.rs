//! Containers of a project that are made while its logs are followed.
//!
//! One is told of when it has started: until then it may have the name of a replacement.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::base::id::ContainerId;
use crate::cli::members::Member;
use crate::cli::{Failure, Mistake};
use crate::store::Store;

/// Watches a store for new containers.
pub struct Newcomers {
    store: Store,
    watch: OwnedFd,
    seen: BTreeSet<ContainerId>,
    /// Made and not started yet, with the number of the watch on its folder.
    waiting: BTreeMap<ContainerId, i32>,
}

impl Newcomers {
    /// Begins to watch; what is there by now is none.
    pub fn watch(store: Store) -> Result<Self, Failure> {
        let operation = "watch for new containers";
        let failed = |errno: rustix::io::Errno| Mistake::System { operation, source: errno.into() };
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
        let changes = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::CREATE | WatchFlags::DELETE;
        inotify::add_watch(&watch, store.containers().all_folder(), changes).map_err(failed)?;
        let seen = store.containers().ids()?.into_iter().collect();
        Ok(Self { store, watch, seen, waiting: BTreeMap::new() })
    }

    /// Whether some were made and have not started yet.
    pub fn are_coming(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Readable when [`Newcomers::take`] may have something.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }

    /// Those among the `wanted` that have started since the last time.
    pub fn take(&mut self, wanted: impl Fn(&Member) -> bool) -> Result<Vec<Member>, Failure> {
        if !self.has_changed() {
            return Ok(Vec::new());
        }
        let ids: BTreeSet<ContainerId> = self.store.containers().ids()?.into_iter().collect();
        self.waiting.retain(|id, _| ids.contains(id));
        let mut started = Vec::new();
        for id in ids {
            if self.seen.contains(&id) {
                continue;
            }
            if !self.waiting.contains_key(&id) {
                let folder = self.store.containers().folder(&id);
                // Gone again: then there is nothing to wait for.
                let Ok(number) = inotify::add_watch(&self.watch, folder, WatchFlags::MOVED_TO) else { continue };
                self.waiting.insert(id.clone(), number);
            }
            // Read after the watch was set: no change is missed.
            let containers = self.store.containers();
            let (Ok(spec), Ok(state)) = (containers.spec(&id), containers.state(&id)) else { continue };
            let is_started = state.started_at.is_some();
            let member = Member { spec, state };
            let is_wanted = wanted(&member);
            if is_started || !is_wanted {
                if let Some(number) = self.waiting.remove(&id) {
                    // It is watched for its log from now on.
                    let _gone = inotify::remove_watch(&self.watch, number);
                }
                self.seen.insert(id);
            }
            if is_started && is_wanted {
                started.push(member);
            }
        }
        Ok(started)
    }

    fn has_changed(&self) -> bool {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.watch, &mut buffer);
        let mut changed = false;
        while let Ok(event) = events.next() {
            // Watches that were taken back say so once.
            changed |= event.events() != ReadFlags::IGNORED;
        }
        changed
    }
}
