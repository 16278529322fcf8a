//! What containers need besides each other: networks and volumes, and that containers of services which are gone
//! do not stand in the way.

use std::collections::BTreeSet;

use super::{Planner, Recreate, container_name, host_ports, is_up, remove_with};
use crate::graph::error::Error;
use crate::graph::hash;
use crate::graph::observed::ObservedContainer;
use crate::graph::plan::{Action, StepId};

impl<'p> Planner<'p> {
    /// Containers of services that the project does not have any more: removed when that was asked for, or when what
    /// they hold is needed, as after a service got another name.
    pub(super) fn orphans(&mut self) {
        let known =
            |name: &str| self.project.services.contains_key(name) || self.project.disabled_services.contains_key(name);
        let orphans: Vec<_> = self
            .observed
            .containers
            .iter()
            .filter(|container| !known(&container.service) && !container.oneoff)
            .collect();
        let mut kept = Vec::new();
        for container in orphans {
            if self.wish.remove_orphans {
                self.doomed.insert(&container.id);
                let why = "its service is not in the project any more";
                remove_with(&mut self.plan, container, &[], self.wish.timeout, why, true);
            } else if let Some(why) = self.is_in_the_way(container) {
                self.doomed.insert(&container.id);
                remove_with(&mut self.plan, container, &[], self.wish.timeout, &why, false);
            } else {
                kept.push(container.name.as_str());
            }
        }
        if !kept.is_empty() && !self.wish.ignore_orphans {
            self.plan.warnings.push(format!(
                "found orphan containers ({}) for this project: if you removed or renamed their services, remove them with --remove-orphans",
                kept.join(", ")
            ));
        }
    }

    /// Whether a container of a service that is gone has a name or a port of the host that another service needs.
    fn is_in_the_way(&self, orphan: &ObservedContainer) -> Option<String> {
        for name in &self.selected {
            let service = self.service(name);
            let wanted = self.wanted(service);
            if (1..=wanted).any(|number| container_name(self.project, service, number) == orphan.name) {
                return Some(format!("its service is not in the project any more, and {name} needs its name"));
            }
            if wanted == 0 || self.wish.no_start || !is_up(orphan) {
                continue;
            }
            let taken = host_ports(service).into_iter().find(|port| orphan.ports.iter().any(|o| o.conflicts(port)));
            if let Some(port) = taken {
                return Some(format!("its service is not in the project any more, and {name} needs its port {port}"));
            }
        }
        None
    }

    pub(super) fn networks(&mut self) -> Result<(), Error> {
        let used: BTreeSet<&'p str> = self
            .selected
            .iter()
            .flat_map(|name| self.service(name).networks.iter().flat_map(|networks| networks.keys()))
            .map(String::as_str)
            .collect();
        for key in used {
            let Some(network) = self.project.networks.get(key) else { continue };
            let create = Action::CreateNetwork { key: key.to_owned(), name: network.name.clone() };
            let Some(found) = self.observed.networks.get(&network.name) else {
                if network.external {
                    return Err(Error::ExternalMissing {
                        kind: "network",
                        name: network.name.clone(),
                        location: self.project.locations.of(&format!("networks.{key}")).cloned(),
                    });
                }
                let step = self.plan.push(create, Vec::new(), "no network yet");
                self.resources.push(step);
                continue;
            };
            let changed = found.config_hash.as_ref().is_some_and(|old| *old != hash::network(network));
            if network.external || !changed {
                continue;
            }
            let of_others = found.foreign_users;
            if of_others > 0 {
                return Err(Error::NetworkInUse { name: network.name.clone(), users: of_others });
            }
            let users: Vec<_> =
                self.observed.containers.iter().filter(|container| container.networks.contains(&found.id)).collect();
            if self.wish.recreate == Recreate::Never && !users.is_empty() {
                self.plan.warnings.push(format!(
                    "network `{}` was made with another definition and stays as it is, since containers are not to be recreated",
                    network.name
                ));
                continue;
            }
            // Its containers are removed first: a bridge cannot change its subnet below them.
            let removed = self.lose(&users, "network", &network.name)?;
            let name = network.name.clone();
            let why = "its definition changed";
            let gone = self.plan.push(Action::RemoveNetwork { id: found.id.clone(), name }, removed, why);
            let step = self.plan.push(create, vec![gone], why);
            self.resources.push(step);
        }
        Ok(())
    }

    pub(super) fn volumes(&mut self) -> Result<(), Error> {
        let used: BTreeSet<&'p str> = self
            .selected
            .iter()
            .flat_map(|name| &self.service(name).volumes)
            .filter(|mount| mount.kind == "volume")
            .filter_map(|mount| mount.source.as_deref())
            .collect();
        for key in used {
            let Some(volume) = self.project.volumes.get(key) else { continue };
            let create = Action::CreateVolume { key: key.to_owned(), name: volume.name.clone() };
            let Some(found) = self.observed.volumes.get(&volume.name) else {
                if volume.external {
                    return Err(Error::ExternalMissing {
                        kind: "volume",
                        name: volume.name.clone(),
                        location: self.project.locations.of(&format!("volumes.{key}")).cloned(),
                    });
                }
                let step = self.plan.push(create, Vec::new(), "no volume yet");
                self.resources.push(step);
                continue;
            };
            let changed = found.config_hash.as_ref().is_some_and(|old| *old != hash::volume(volume));
            if volume.external || !changed {
                continue;
            }
            if !self.wish.replace_volumes {
                self.plan.warnings.push(format!(
                    "volume `{}` was made with another definition and is kept as it is: `up --yes` makes it anew, and what is in it is lost",
                    volume.name
                ));
                continue;
            }
            let users: Vec<_> =
                self.observed.containers.iter().filter(|user| user.volumes.contains(&volume.name)).collect();
            let removed = self.lose(&users, "volume", &volume.name)?;
            let why = "its definition changed";
            let gone = self.plan.push(Action::RemoveVolume { name: volume.name.clone() }, removed, why);
            let step = self.plan.push(create, vec![gone], why);
            self.resources.push(step);
        }
        Ok(())
    }

    /// Removes the users of something that is made anew; they come back as `Create`, since nothing of them is left to
    /// keep but their anonymous volumes. Returns the removals.
    ///
    /// Errors: one runs that could not be made again, since it is of no service of the project.
    fn lose(&mut self, users: &[&'p ObservedContainer], kind: &'static str, name: &str) -> Result<Vec<StepId>, Error> {
        let stays = |container: &&&ObservedContainer| {
            let comes_back = self.project.services.contains_key(&container.service) && !container.oneoff;
            !comes_back && !container.hook && is_up(container) && !self.doomed.contains(&container.id)
        };
        let busy: Vec<_> = users.iter().filter(stays).map(|container| container.name.clone()).collect();
        if !busy.is_empty() {
            return Err(Error::StillUsed { kind, name: name.to_owned(), containers: busy });
        }
        let mut removed = Vec::new();
        for container in users {
            if let Some(step) = self.removal_of(container) {
                removed.push(step);
                continue;
            }
            let why = format!("its {kind} is made anew");
            removed.push(remove_with(&mut self.plan, container, &[], self.wish.timeout, &why, false));
            self.lost.insert(&container.id, why);
            self.doomed.insert(&container.id);
        }
        Ok(removed)
    }

    /// The step that removes a container, if there is one already.
    pub(super) fn removal_of(&self, container: &ObservedContainer) -> Option<StepId> {
        let removes = |action: &Action| matches!(action, Action::RemoveContainer { id, .. } if *id == container.id);
        self.plan.steps.iter().position(|step| removes(&step.action)).map(StepId)
    }
}
