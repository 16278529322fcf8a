//! What becomes of each container, and why.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fate, Planner, Recreate, Replica, container_name, has_completed, volume_providers};
use crate::base::id::ContainerId;
use crate::graph::error::Error;
use crate::graph::observed::ObservedContainer;
use crate::model::container::Status;
use crate::model::project::Service;

impl<'p> Planner<'p> {
    pub(super) fn decide(&mut self) -> Result<(), Error> {
        for name in self.graph.order() {
            let replicas = match self.selected.contains(name) {
                true => self.decide_service(name)?,
                false => self.decide_bystander(name),
            };
            for replica in &replicas {
                if let Fate::Remove { container, .. } | Fate::Recreate { container, .. } = &replica.fate {
                    self.doomed.insert(&container.id);
                }
            }
            self.fates.insert(name, replicas);
        }
        Ok(())
    }

    fn decide_service(&mut self, name: &'p str) -> Result<Vec<Replica<'p>>, Error> {
        let service = self.service(name);
        let wanted = self.wanted(service);
        if let (Some(fixed), true) = (&service.container_name, wanted > 1) {
            return Err(Error::FixedNameScaled { service: name.to_owned(), name: fixed.clone(), replicas: wanted });
        }
        let mut replicas = Vec::new();
        let mut existing: Vec<(&'p ObservedContainer, Option<String>)> = Vec::new();
        let mut lost: BTreeMap<u32, (ContainerId, String)> = BTreeMap::new();
        for container in self.observed.of_service(name) {
            if let Some(why) = self.lost.get(&container.id) {
                lost.insert(container.number, (container.id.clone(), why.clone()));
                continue;
            }
            if self.is_unfinished_replacement(container)
                || existing.iter().any(|(other, _)| other.number == container.number)
            {
                let why = "an interrupted `up` left it".to_owned();
                replicas.push(Replica { number: container.number, fate: Fate::Remove { container, why } });
            } else {
                existing.push((container, self.reason_to_recreate(service, container)));
            }
        }
        // The ones to lose first: those that would be replaced anyway, then the highest numbers.
        existing.sort_by_key(|(container, why)| (why.is_some(), container.number));
        while existing.len() > wanted as usize {
            if let Some((container, _)) = existing.pop() {
                let why = format!("scaled to {wanted}");
                replicas.push(Replica { number: container.number, fate: Fate::Remove { container, why } });
            }
        }
        existing.sort_by_key(|(container, _)| container.number);
        let mut used: BTreeSet<u32> = existing.iter().map(|(container, _)| container.number).collect();
        for (container, why) in existing {
            let fate = match why {
                Some(why) => Fate::Recreate { container, why, start: true },
                None => Fate::Keep { container, start: self.reason_to_start(name, container) },
            };
            replicas.push(Replica { number: container.number, fate });
        }
        while used.len() < wanted as usize {
            // The lowest free number, so that a container that was removed by hand comes back by its name.
            let number = (1..).find(|number| !used.contains(number)).unwrap_or(1);
            used.insert(number);
            let (inherits, why) = match lost.remove(&number) {
                Some((id, why)) => (Some(id), why),
                None if self.observed.of_service(name).next().is_none() => (None, "no container yet".to_owned()),
                None => (None, format!("replica {number} of {wanted} is missing")),
            };
            replicas.push(Replica { number, fate: Fate::Create { why, inherits, start: true } });
        }
        Ok(replicas)
    }

    /// A service that nobody named keeps what it has, unless that was lost or cannot go on.
    fn decide_bystander(&self, name: &'p str) -> Vec<Replica<'p>> {
        let service = self.service(name);
        let fate = |container: &'p ObservedContainer| {
            let start = super::is_up(container);
            if let Some(why) = self.lost.get(&container.id) {
                return Fate::Create { why: why.clone(), inherits: Some(container.id.clone()), start };
            }
            let broken = || self.breaks(service, container);
            // A replacement that nobody finished is not this plan's.
            match (start && !self.is_unfinished_replacement(container)).then(broken).flatten() {
                Some(why) => Fate::Recreate { container, why, start },
                None => Fate::Keep { container, start: None },
            }
        };
        self.observed
            .of_service(name)
            .map(|container| Replica { number: container.number, fate: fate(container) })
            .collect()
    }

    /// Whether the container was made to replace one that still exists.
    fn is_unfinished_replacement(&self, container: &ObservedContainer) -> bool {
        container.replaces.as_ref().is_some_and(|old| self.observed.containers.iter().any(|other| other.id == *old))
    }

    fn reason_to_recreate(&self, service: &Service, container: &ObservedContainer) -> Option<String> {
        if self.wish.recreate == Recreate::Never {
            // What it needs may be gone nevertheless.
            return self.breaks(service, container);
        }
        let named = self.wish.services.is_empty() || self.wish.services.contains(&service.name);
        if self.wish.recreate == Recreate::Always && (named || self.wish.recreate_dependencies) {
            return Some("asked for".into());
        }
        if self.wish.renew_volumes && named {
            return Some("its anonymous volumes are renewed".into());
        }
        if container.config_hash != self.hash_of(service) {
            return Some("its configuration changed".into());
        }
        if let (Some(now), Some(then)) = (self.observed.images.get(&service.name), &container.image)
            && now != then
        {
            return Some("its image changed".into());
        }
        self.missing_network(service, container)
            .or_else(|| self.missing_volume(service, container))
            .or_else(|| self.breaks(service, container))
    }

    /// A network that the service has and the container has not: it got another name, or was made anew.
    fn missing_network(&self, service: &Service, container: &ObservedContainer) -> Option<String> {
        let keys = service.networks.iter().flat_map(|networks| networks.keys());
        let missing = keys.filter_map(|key| self.project.networks.get(key)).find(|network| {
            self.observed.networks.get(&network.name).is_none_or(|found| !container.networks.contains(&found.id))
        })?;
        Some(format!("it is not in network {}", missing.name))
    }

    /// A volume that the service has and the container has not: it got another name.
    fn missing_volume(&self, service: &Service, container: &ObservedContainer) -> Option<String> {
        let mounts = service.volumes.iter().filter(|mount| mount.kind == "volume");
        let missing = mounts
            .filter_map(|mount| self.project.volumes.get(mount.source.as_deref()?))
            .find(|volume| !container.volumes.contains(&volume.name))?;
        Some(format!("it does not have volume {}", missing.name))
    }

    /// Whether what happens to others leaves the container without something that it was made with.
    fn breaks(&self, service: &Service, container: &ObservedContainer) -> Option<String> {
        if has_completed(container) && self.is_done(&service.name) {
            return None;
        }
        let exists = |id: &ContainerId| self.observed.containers.iter().any(|other| other.id == *id);
        if container.shares.iter().any(|id| self.doomed.contains(id) || !exists(id)) {
            return Some("it shares a namespace of a container that is made anew or gone".into());
        }
        let provider = volume_providers(service).find(|provider| self.is_made_anew(provider))?;
        Some(format!("it uses the volumes of {provider}, which is made anew"))
    }

    fn is_made_anew(&self, service: &str) -> bool {
        self.fates.get(service).is_some_and(|replicas| {
            replicas.iter().any(|replica| matches!(replica.fate, Fate::Recreate { .. } | Fate::Create { .. }))
        })
    }

    fn reason_to_start(&self, name: &str, container: &ObservedContainer) -> Option<String> {
        match container.status {
            Status::Running | Status::Restarting => None,
            Status::Paused => Some("it is paused".into()),
            Status::Created => Some("it was never started".into()),
            Status::Exited if has_completed(container) && self.is_done(name) => None,
            Status::Exited if container.stopped_by_user => Some("it was stopped".into()),
            Status::Exited => Some(format!("it exited with code {}", container.exit_code)),
            Status::Dead => Some("it could not be started before".into()),
        }
    }

    /// Whether a service that has ended with code 0 is to be left at that.
    fn is_done(&self, name: &str) -> bool {
        if self.graph.is_job(name) {
            return true;
        }
        // What is written down by hand tells a job from a server that ended; a name on the command line is a wish.
        let service = self.service(name);
        let policy = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref());
        let stays_ended = match policy.and_then(|policy| policy.condition.as_deref()) {
            Some(condition) => matches!(condition, "none" | "on-failure"),
            None => service.restart.as_deref().is_some_and(|text| text == "no" || text.starts_with("on-failure")),
        };
        stays_ended && !self.wish.repeat_jobs && !self.wish.services.iter().any(|named| named == name)
    }

    /// Another container of the project that has the name which this replica shall have.
    pub(super) fn holder_of_name(&self, service: &Service, number: u32) -> Option<&'p ObservedContainer> {
        let name = container_name(self.project, service, number);
        self.observed.containers.iter().find(|container| container.name == name)
    }
}
