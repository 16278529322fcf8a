//! Removes containers with all that belonged to them.

use std::time::{Duration, Instant};

use super::{Engine, Error, Result};
use crate::base::id::ContainerId;
use crate::model::container::{ContainerSpec, MountSource};
use crate::supervise;

/// The longest that a removal waits for somebody else's start or end of the container.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Removes a container. With `force`, one that runs is killed first; with `volumes`, its anonymous volumes
    /// go with it, unless another container uses them. One that is gone already is fine.
    pub fn remove(&self, id: &ContainerId, force: bool, volumes: bool) -> Result<()> {
        let spec = match self.store.containers().spec(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            spec => spec?,
        };
        match self.remove_when_stopped(&spec, force) {
            Err(Error::Store(error)) if error.is_not_found() => {}
            Err(Error::Supervise(supervise::Error::Store(error))) if error.is_not_found() => {}
            result => result?,
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

    /// One may be started at any moment until its lock is held: then the game begins anew.
    fn remove_when_stopped(&self, spec: &ContainerSpec, force: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if !supervise::has_ended(&self.store, &spec.id)? {
                if !force {
                    return Err(Error::StillRunning { name: spec.name.clone() });
                }
                self.stop(&spec.id, Some(Duration::ZERO))?;
            }
            if supervise::discard(&self.store, &spec.id)? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::StillRunning { name: spec.name.clone() });
            }
            // Only for a start whose command was killed, and an end that is being written down: a few milliseconds.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
