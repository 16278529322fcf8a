//! What may change of a container that exists: its name, networks, limits and restart policy.
//!
//! The spec is replaced first, then a running container's supervisor follows it. A command that is killed in between
//! leaves what the container's next start does.

use super::{Engine, Error, Result};
use crate::base::id::{ContainerId, NetworkId};
use crate::model::container::{ContainerSpec, NetworkMode, Resources, RestartPolicy};
use crate::model::journal::Entry;
use crate::model::network::Attachment;
use crate::supervise;

impl Engine {
    /// Gives a container another name, under which it is found in its networks at once.
    pub fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        let _lock = self.store.containers().lock(id)?;
        self.store.containers().rename(id, name)?;
        Ok(supervise::reload(&self.store, id)?)
    }

    /// Connects a container, running or not, to a further network.
    ///
    /// Errors: `Refused` for a container that has the network of the host, of another container, or none, and for one
    /// that is in the network already.
    pub fn connect(&self, id: &ContainerId, attachment: Attachment) -> Result<()> {
        self.change(id, |spec| {
            let refused = |reason: String| Error::Refused {
                what: format!("container {} cannot be connected to network {}", spec.name, attachment.network_name),
                value: String::new(),
                reason,
            };
            let reason = match &mut spec.network {
                NetworkMode::Networks { attachments } => {
                    if attachments.iter().any(|known| known.network == attachment.network) {
                        return Err(refused("it is in that network already".into()));
                    }
                    attachments.push(attachment.clone());
                    return Ok(());
                }
                NetworkMode::None => "it was made to have no network (--network none)",
                NetworkMode::Host => "it has the host's network",
                NetworkMode::Container { .. } => "it has the network of another container: connect that one",
            };
            Err(refused(reason.into()))
        })
    }

    /// Takes a container out of a network; with `force`, one that is not in it is fine.
    pub fn disconnect(&self, id: &ContainerId, network: &NetworkId, name: &str, force: bool) -> Result<()> {
        self.change(id, |spec| {
            let before = spec.network.networks().count();
            if let NetworkMode::Networks { attachments } = &mut spec.network {
                attachments.retain(|attachment| attachment.network != *network);
            }
            if spec.network.networks().count() == before && !force {
                return Err(Error::Refused {
                    what: format!("container {} cannot be disconnected from network {name}", spec.name),
                    value: String::new(),
                    reason: "it is not in that network".into(),
                });
            }
            Ok(())
        })
    }

    /// Changes limits and restart policy. A limit that the kernel refuses changes nothing.
    pub fn update(
        &self,
        id: &ContainerId,
        limits: impl FnOnce(&mut Resources),
        restart: Option<RestartPolicy>,
    ) -> Result<()> {
        self.change(id, |spec| {
            if let Some(policy) = restart {
                if spec.auto_remove && policy != RestartPolicy::No {
                    return Err(Error::Refused {
                        what: format!("container {} cannot be restarted by a policy", spec.name),
                        value: String::new(),
                        reason: "it is removed when it ends (--rm)".into(),
                    });
                }
                spec.restart = policy;
            }
            limits(&mut spec.resources);
            Ok(())
        })
    }

    /// Replaces the spec and has a running container follow it; the old one returns when it cannot.
    fn change(&self, id: &ContainerId, change: impl FnOnce(&mut ContainerSpec) -> Result<()>) -> Result<()> {
        let containers = self.store.containers();
        let _lock = containers.lock(id)?;
        let old = containers.spec(id)?;
        let mut new = old.clone();
        change(&mut new)?;
        if new == old {
            return Ok(());
        }
        containers.set_spec(&new)?;
        if let Err(error) = supervise::reload(&self.store, id) {
            // The first error is the one to tell.
            drop(containers.set_spec(&old));
            return Err(error.into());
        }
        if new.network == old.network {
            self.store.journal().note(&Entry::of_container(&new, "update"));
        }
        Ok(())
    }
}
