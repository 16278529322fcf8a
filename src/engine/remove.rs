//! Removes containers with all that belonged to them.

use std::time::Duration;

use super::{Engine, Error, Result};
use crate::base::id::ContainerId;
use crate::model::container::{MountSource, Status};

impl Engine {
    /// Removes a container. With `force`, one that runs is killed first; with `volumes`, its anonymous volumes
    /// go with it, unless another container uses them. One that is gone already is fine.
    pub fn remove(&self, id: &ContainerId, force: bool, volumes: bool) -> Result<()> {
        let spec = match self.store.containers().spec(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            spec => spec?,
        };
        let state = self.store.containers().state(id)?;
        if matches!(state.status, Status::Running | Status::Paused | Status::Restarting) {
            if !force {
                return Err(Error::StillRunning { name: spec.name });
            }
            self.stop(id, Some(Duration::ZERO))?;
        }
        {
            let _lock = self.store.containers().lock(id)?;
            self.store.containers().remove(id)?;
        }
        if volumes {
            for mount in &spec.mounts {
                if let MountSource::Volume { name, anonymous: true, .. } = &mount.source
                    && self.store.volumes().containers_using(name)?.is_empty()
                {
                    match self.store.volumes().remove(name) {
                        Err(error) if error.is_not_found() => {}
                        result => result?,
                    }
                }
            }
        }
        Ok(())
    }
}
