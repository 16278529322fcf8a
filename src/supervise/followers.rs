//! Containers that are started again because another one was: dependents with `restart: true` of one that its policy
//! started again, and those that share the network of one that has a new one.
//!
//! A supervisor tells those of the others, and each restarts its own container; nobody waits for anybody.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::frame::Frame;
use super::start::is_active;
use super::supervisor::Supervisor;
use crate::graph::observed::label;
use crate::model::container::{ContainerSpec, HealthStatus, NetworkMode, Status};
use crate::runtime;

/// What a supervisor owes to others, and others to it.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Another container was started again: ours is being stopped for that, and killed at this time.
    pub(super) kill_at: Option<Instant>,
    /// Dependents that wait for our health have to be told when it is good.
    tell_when_healthy: bool,
}

/// Which of the containers that depend on this one are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Those that want it healthy.
    Healthy,
    /// The others.
    Started,
    /// All of them.
    All,
}

impl Supervisor {
    /// Ends the process, to begin another run.
    pub(super) fn restart_for_another(&mut self) {
        let Some(run) = self.run.as_ref().filter(|_| self.state.status == Status::Running) else { return };
        if self.following.kill_at.is_some() {
            return;
        }
        let (signal, grace) = match super::control::can_react(run.process.identity, self.spec.stop_signal) {
            true => (self.spec.stop_signal, Duration::from_millis(self.spec.stop_timeout_ms)),
            false => (libc::SIGKILL, Duration::from_secs(1)),
        };
        if runtime::send_signal(run.process.pidfd.as_fd(), signal).is_ok() {
            self.following.kill_at = Some(Instant::now() + grace);
        }
    }

    /// Kills what did not end in its time.
    pub(super) fn kill_late(&mut self) {
        if let (Some(run), Some(_)) = (&self.run, self.following.kill_at.filter(|at| *at <= Instant::now())) {
            // The end of the process is what counts; a second signal does no harm.
            let _gone = runtime::send_signal(run.process.pidfd.as_fd(), libc::SIGKILL);
            self.following.kill_at = Some(Instant::now() + Duration::from_secs(1));
        }
    }

    /// Tells dependents that this container was started again.
    pub(super) fn tell_followers(&mut self) {
        self.following.tell_when_healthy = self.state.health.is_some();
        self.tell(if self.following.tell_when_healthy { Which::Started } else { Which::All });
    }

    /// The same for those that wait until it is healthy, once it is.
    pub(super) fn tell_followers_of_health(&mut self) {
        let is_healthy = self.state.health.as_ref().is_some_and(|health| health.status == HealthStatus::Healthy);
        if is_healthy && std::mem::take(&mut self.following.tell_when_healthy) {
            self.tell(Which::Healthy);
        }
    }

    /// Tells those that share the network, which is another one now.
    pub(super) fn tell_sharers(&self) {
        self.send_restart(|other| matches!(&other.network, NetworkMode::Container { id } if *id == self.spec.id));
    }

    fn tell(&self, which: Which) {
        let labels = &self.spec.labels;
        let (Some(project), Some(service)) = (labels.get(label::PROJECT), labels.get(label::SERVICE)) else { return };
        self.send_restart(|other| {
            other.labels.get(label::PROJECT) == Some(project)
                && other.labels.get(label::DEPENDS_ON).is_some_and(|text| follows(text, service, which))
        });
    }

    fn send_restart(&self, is_meant: impl Fn(&ContainerSpec) -> bool) {
        // Who cannot be told goes on as it is.
        for (other, state) in self.store.containers().list().unwrap_or_default() {
            if other.id != self.spec.id
                && is_active(&state)
                && is_meant(&other)
                && let Ok(connection) = super::control::observe(&self.store, &other.id)
            {
                drop(connection.send(&Frame::Restart));
            }
        }
    }
}

/// Whether a label with dependencies (`name:condition:restart`, separated by commas) says that its container follows
/// `service`.
fn follows(label: &str, service: &str, which: Which) -> bool {
    label.split(',').any(|entry| {
        let mut parts = entry.split(':');
        let (name, condition, restart) = (parts.next(), parts.next(), parts.next());
        let is_meant = match which {
            Which::All => true,
            Which::Healthy => condition == Some("service_healthy"),
            Which::Started => condition != Some("service_healthy"),
        };
        name == Some(service) && restart == Some("true") && is_meant
    })
}

#[cfg(test)]
mod tests {
    use super::{Which, follows};

    #[test]
    fn labels_tell_who_follows_whom_and_when() {
        let label = "db:service_healthy:true,cache:service_started:true,job:service_completed_successfully:false";
        assert!(follows(label, "db", Which::Healthy) && !follows(label, "db", Which::Started));
        assert!(follows(label, "cache", Which::Started) && !follows(label, "cache", Which::Healthy));
        assert!(follows(label, "db", Which::All) && !follows(label, "job", Which::All));
        assert!(!follows("", "", Which::All) && !follows("db", "db", Which::All));
    }
}
