//! Commands of builds that run now: one locked file each in `b/` of the run folder, named by the id that the
//! command's control group and addresses have.
//!
//! The file is made before any of those and goes after them. The kernel drops its lock when the build dies, so a
//! file without a lock tells the next command what to clear away.

use std::path::PathBuf;

use super::lock::Lock;
use super::{Result, Store};
use crate::base::id::ContainerId;

/// Access to running commands of builds.
#[derive(Debug, Clone, Copy)]
pub struct Steps<'a> {
    store: &'a Store,
}

impl<'a> Steps<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Notes that the command `id` is about to run, until the lock is dropped.
    pub fn begin(&self, id: &ContainerId) -> Result<Lock> {
        Ok(Lock::exclusive(&self.folder().join(id.as_str()))?.removed_on_release())
    }

    /// The commands whose build died, each with its lock: who gets it clears them away. One listing of a folder
    /// that is empty or missing when there is none.
    pub fn lost(&self) -> Result<Vec<(ContainerId, Lock)>> {
        let folder = self.folder();
        let mut lost = Vec::new();
        if !folder.is_dir() {
            return Ok(lost);
        }
        for name in super::entries(&folder)? {
            let (path, Ok(id)) = (folder.join(&name), name.parse()) else { continue };
            // A look first: an attempt would make the file again that a living build has just removed.
            if Lock::is_held(&path)? {
                continue;
            }
            if let Some(lock) = Lock::try_exclusive(&path)? {
                lost.push((id, lock.removed_on_release()));
            }
        }
        Ok(lost)
    }

    fn folder(&self) -> PathBuf {
        self.store.paths().run.join("b")
    }
}
