//! A plan: steps with their reasons and their order. Its text is what `--dry-run` prints and what the tests
//! compare.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::base::id::{ContainerId, NetworkId};
use crate::model::project::Condition;

/// The place of a step in its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub usize);

/// Steps in an order in which each stands after those it needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The steps; a [`StepId`] is an index here.
    pub steps: Vec<Step>,
    /// What the user should know before it runs (orphans, kept volumes).
    pub warnings: Vec<String>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What.
    pub action: Action,
    /// The steps that must have succeeded before.
    pub after: Vec<StepId>,
    /// Why, as a sentence fragment.
    pub why: String,
}

/// What a step does. Every action is idempotent: doing it again after a crash completes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the network with this key of the project.
    CreateNetwork {
        /// Key in the file.
        key: String,
        /// Name outside.
        name: String,
    },
    /// Remove a network.
    RemoveNetwork {
        /// Its id.
        id: NetworkId,
        /// Its name.
        name: String,
    },
    /// Make the volume with this key of the project.
    CreateVolume {
        /// Key in the file.
        key: String,
        /// Name outside.
        name: String,
    },
    /// Remove a volume with its content.
    RemoveVolume {
        /// Its name.
        name: String,
    },
    /// Make a container of a service.
    CreateContainer {
        /// The service.
        service: String,
        /// The replica's number.
        number: u32,
        /// Its name; while it replaces another one, a name of its own.
        name: String,
        /// The container whose anonymous volumes it takes over.
        replaces: Option<ContainerId>,
        /// The hash to record.
        config_hash: String,
    },
    /// Give a container its final name.
    RenameContainer {
        /// Which.
        container: Target,
        /// The new name.
        name: String,
    },
    /// Start a container.
    StartContainer {
        /// Which.
        container: Target,
        /// Its name.
        name: String,
    },
    /// Let a frozen container go on.
    UnpauseContainer {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: String,
    },
    /// Stop a container with its signal and grace.
    StopContainer {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: String,
        /// Grace instead of its own.
        timeout: Option<Duration>,
    },
    /// Send a signal.
    KillContainer {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: String,
        /// Signal name or number.
        signal: String,
    },
    /// Remove a container.
    RemoveContainer {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: String,
        /// With its anonymous volumes.
        volumes: bool,
    },
    /// Wait until every container of a service has reached a condition.
    Wait {
        /// The service.
        service: String,
        /// What it must reach.
        condition: Condition,
        /// Not reaching it is an error; else a warning.
        required: bool,
        /// Who waits.
        wanted_by: Vec<String>,
    },
    /// Run a command in a container of its own before a service is started.
    RunHook {
        /// The service.
        service: String,
        /// Which of its `pre_start` hooks, from 0.
        index: usize,
        /// The container whose volumes it gets.
        container: Target,
        /// That container's number.
        number: u32,
    },
    /// Wait until new containers of a service work: healthy where they have a health check, and running on.
    Settle {
        /// The service.
        service: String,
        /// The replicas.
        numbers: Vec<u32>,
        /// How long they must run on; `None` is a moment.
        monitor: Option<Duration>,
        /// What to do about one that does not.
        on_failure: OnFailure,
        /// So many may fail in the whole update before something is done.
        failures_max: usize,
    },
    /// Wait before the next containers of a service are replaced.
    Delay {
        /// The service.
        service: String,
        /// How long.
        delay: Duration,
    },
    /// Let the program of a service's `provider` do something.
    Provide {
        /// The service.
        service: String,
        /// `up` or `down`.
        command: &'static str,
    },
    /// Get the image of a service.
    GetImage {
        /// The service.
        service: String,
        /// The image's name.
        image: String,
        /// Built, not pulled.
        build: bool,
    },
    /// Send an image of a service to its registry.
    PushImage {
        /// The image's name.
        image: String,
    },
    /// Remove an image.
    RemoveImage {
        /// As the file names it.
        reference: String,
    },
}

/// What becomes of an update whose new containers do not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It ends there: containers that were not replaced yet stay.
    Pause,
    /// It goes on.
    Continue,
    /// The containers from before it come back.
    RollBack,
}

/// A container that exists already or that an earlier step makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Exists.
    Existing(ContainerId),
    /// Made by this plan.
    New {
        /// The service.
        service: String,
        /// The replica's number.
        number: u32,
    },
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Adds a step and returns its id.
    pub fn push(&mut self, action: Action, after: Vec<StepId>, why: impl Into<String>) -> StepId {
        let mut after = after;
        after.sort_unstable();
        after.dedup();
        self.steps.push(Step { action, after, why: why.into() });
        StepId(self.steps.len() - 1)
    }

    /// Puts steps before all others; containers are made after them.
    pub fn prepend(&mut self, actions: Vec<(Action, String)>) {
        let count = actions.len();
        for step in &mut self.steps {
            step.after.iter_mut().for_each(|before| before.0 += count);
            if matches!(step.action, Action::CreateContainer { .. }) {
                step.after.splice(0..0, (0..count).map(StepId));
            }
        }
        let first = actions.into_iter().map(|(action, why)| Step { action, after: Vec::new(), why });
        self.steps.splice(0..0, first);
    }

    /// For each step, the steps that wait for it.
    pub fn dependents(&self) -> BTreeMap<StepId, Vec<StepId>> {
        let mut dependents: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            for before in &step.after {
                dependents.entry(*before).or_default().push(StepId(index));
            }
        }
        dependents
    }
}

impl Action {
    /// What it is about, as progress shows it: `Container shop-web-1`.
    pub fn resource(&self) -> String {
        match self {
            Self::CreateNetwork { name, .. } | Self::RemoveNetwork { name, .. } => format!("Network {name}"),
            Self::CreateVolume { name, .. } | Self::RemoveVolume { name } => format!("Volume {name}"),
            Self::CreateContainer { name, .. }
            | Self::RenameContainer { name, .. }
            | Self::StartContainer { name, .. }
            | Self::UnpauseContainer { name, .. }
            | Self::StopContainer { name, .. }
            | Self::KillContainer { name, .. }
            | Self::RemoveContainer { name, .. } => format!("Container {name}"),
            Self::RunHook { service, number, .. } => format!("Hook {service}-{number}"),
            Self::Wait { service, .. }
            | Self::Provide { service, .. }
            | Self::Settle { service, .. }
            | Self::Delay { service, .. } => {
                format!("Service {service}")
            }
            Self::RemoveImage { reference: image } | Self::GetImage { image, .. } | Self::PushImage { image } => {
                format!("Image {image}")
            }
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNetwork { name, .. } => write!(f, "create network {name}"),
            Self::RemoveNetwork { name, .. } => write!(f, "remove network {name}"),
            Self::CreateVolume { name, .. } => write!(f, "create volume {name}"),
            Self::RemoveVolume { name } => write!(f, "remove volume {name}"),
            Self::CreateContainer { name, .. } => write!(f, "create container {name}"),
            Self::RenameContainer { name, .. } => write!(f, "rename container to {name}"),
            Self::StartContainer { name, .. } => write!(f, "start container {name}"),
            Self::UnpauseContainer { name, .. } => write!(f, "unpause container {name}"),
            Self::StopContainer { name, .. } => write!(f, "stop container {name}"),
            Self::KillContainer { name, signal, .. } => write!(f, "send {signal} to container {name}"),
            Self::RemoveContainer { name, volumes: false, .. } => write!(f, "remove container {name}"),
            Self::RemoveContainer { name, volumes: true, .. } => write!(f, "remove container {name} and its volumes"),
            Self::Wait { service, condition, .. } => write!(f, "wait for {service}: {}", condition_words(*condition)),
            Self::RunHook { service, index, number, .. } => {
                write!(f, "run pre_start hook {} of {service} {number}", index + 1)
            }
            Self::Settle { service, numbers, .. } => {
                let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
                write!(f, "wait until {service} {} runs well", numbers.join(", "))
            }
            Self::Delay { service, delay } => write!(f, "wait {delay:?} before more of {service} is replaced"),
            Self::Provide { service, command } => write!(f, "let the provider of {service} do {command}"),
            Self::GetImage { image, build: false, .. } => write!(f, "pull image {image}"),
            Self::GetImage { image, build: true, .. } => write!(f, "build image {image}"),
            Self::PushImage { image } => write!(f, "push image {image}"),
            Self::RemoveImage { reference } => write!(f, "remove image {reference}"),
        }
    }
}

/// What a condition means, in words.
pub fn condition_words(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "started",
        Condition::Healthy => "healthy",
        Condition::CompletedSuccessfully => "completed successfully",
    }
}

impl fmt::Display for Plan {
    /// One line a step: `3. start container p-web-1 (after 1, 2): no container yet`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "{}. {}", index + 1, step.action)?;
            if !step.after.is_empty() {
                let after: Vec<_> = step.after.iter().map(|id| (id.0 + 1).to_string()).collect();
                write!(f, " (after {})", after.join(", "))?;
            }
            writeln!(f, ": {}", step.why)?;
        }
        Ok(())
    }
}
