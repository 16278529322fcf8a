//! What makes a project impossible to order or to bring up.

use crate::base::error::{Excerpt, Explain, Location};

/// A project that cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Services that wait for each other.
    #[error("services depend on each other in a circle: {}", path.join(" -> "))]
    Cycle {
        /// The loop, its first service again at the end.
        path: Vec<String>,
        /// Where each edge was written.
        edges: Vec<Location>,
    },
    /// A dependency that is not in the project.
    #[error("service `{service}` depends on `{dependency}`, which {}", if *disabled { "no active profile enables" } else { "is not defined" })]
    MissingDependency {
        /// Who depends.
        service: String,
        /// On what.
        dependency: String,
        /// It exists, but its profile is not active.
        disabled: bool,
        /// Where that was written.
        location: Option<Location>,
    },
    /// A service named on the command line that the project does not have.
    #[error("no such service: {name}")]
    UnknownService {
        /// What was named.
        name: String,
        /// The most similar name of the project.
        similar: Option<String>,
    },
    /// An external network or volume that nobody made.
    #[error("{kind} `{name}` is declared as external, but does not exist")]
    ExternalMissing {
        /// `network` or `volume`.
        kind: &'static str,
        /// Its name outside.
        name: String,
        /// Where that was written.
        location: Option<Location>,
    },
    /// More than one replica of a service with a fixed container name.
    #[error(
        "service `{service}` has the fixed container name `{name}` and can have one container only, not {replicas}"
    )]
    FixedNameScaled {
        /// The service.
        service: String,
        /// Its `container_name`.
        name: String,
        /// The replicas that were asked for.
        replicas: u32,
    },
    /// A network that must change while containers of others use it.
    #[error("network `{name}` has changed and cannot be made anew: {users} containers outside the project use it")]
    NetworkInUse {
        /// Its name.
        name: String,
        /// How many.
        users: usize,
    },
    /// A network or volume that must be made anew below containers that no service of the project stands for.
    #[error("{kind} `{name}` has changed and cannot be made anew while it is used by {}", containers.join(", "))]
    StillUsed {
        /// `network` or `volume`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Containers of one-offs, disabled services, or services that are gone.
        containers: Vec<String>,
    },
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Cycle { .. } => "remove one of these `depends_on` entries".into(),
            Self::MissingDependency { disabled: true, dependency, .. } => {
                format!("enable its profile (--profile), or say `required: false` for `{dependency}`")
            }
            Self::MissingDependency { .. } => "define the service, or remove the entry".into(),
            Self::UnknownService { similar: Some(similar), .. } => format!("did you mean `{similar}`?"),
            Self::UnknownService { similar: None, .. } => "`wharf config --services` lists them".into(),
            Self::ExternalMissing { kind, name, .. } => {
                format!("create it (`wharf {kind} create {name}`), or remove `external: true`")
            }
            Self::FixedNameScaled { .. } => "remove `container_name`, or use one replica".into(),
            Self::StillUsed { .. } => "stop them; `up --remove-orphans` removes those whose service is gone".into(),
            Self::NetworkInUse { name, .. } => format!("disconnect them from `{name}` first"),
        })
    }

    fn excerpts(&self) -> Vec<Excerpt> {
        let excerpt = |location: &Location, label: &str| Excerpt {
            location: location.clone(),
            length: 0,
            source: String::new(),
            label: label.to_owned(),
        };
        match self {
            Self::Cycle { path, edges } => edges
                .iter()
                .zip(path.windows(2))
                .map(|(location, pair)| excerpt(location, &format!("`{}` depends on `{}` here", pair[0], pair[1])))
                .collect(),
            Self::MissingDependency { location: Some(location), .. } => vec![excerpt(location, "asked for here")],
            Self::ExternalMissing { location: Some(location), .. } => vec![excerpt(location, "declared here")],
            _ => Vec::new(),
        }
    }

    fn exit_code(&self) -> u8 {
        1
    }
}

/// The name among `candidates` that is most like `name`, if any is near enough to be a slip.
pub(super) fn similar<'a>(name: &str, candidates: impl Iterator<Item = &'a String>) -> Option<String> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.clone())
}
