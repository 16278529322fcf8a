//! Containers of a project that are made while its logs are followed.
//!
//! One is told of when it has started: until then it may have the name of a replacement.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};

use crate::base::folder_watch::{Changes, FolderWatch, Place};
use crate::base::id::ContainerId;
use crate::cli::Failure;
use crate::cli::members::Member;
use crate::store::Store;

/// Watches a store for new containers.
pub struct Newcomers {
    store: Store,
    watch: FolderWatch,
    seen: BTreeSet<ContainerId>,
    /// Made and not started yet, with the watch on its folder.
    waiting: BTreeMap<ContainerId, Place>,
}

impl Newcomers {
    /// Begins to watch; what is there by now is none.
    pub fn watch(store: Store) -> Result<Self, Failure> {
        let changes = Changes::MOVED_TO | Changes::MOVED_FROM | Changes::CREATE | Changes::DELETE;
        let watch = FolderWatch::new(&store.containers().all_folder(), changes)?;
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
        if !self.watch.drain() {
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
                let Ok(place) = self.watch.add(&folder, Changes::MOVED_TO) else { continue };
                self.waiting.insert(id.clone(), place);
            }
            // Read after the watch was set: no change is missed.
            let containers = self.store.containers();
            let (Ok(spec), Ok(state)) = (containers.spec(&id), containers.state(&id)) else { continue };
            let is_started = state.started_at.is_some();
            let member = Member { spec, state };
            let is_wanted = wanted(&member);
            if is_started || !is_wanted {
                if let Some(place) = self.waiting.remove(&id) {
                    // It is watched for its log from now on.
                    self.watch.remove(place);
                }
                self.seen.insert(id);
            }
            if is_started && is_wanted {
                started.push(member);
            }
        }
        Ok(started)
    }
}
