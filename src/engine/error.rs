//! What can go wrong with a verb: the errors of the layers below, and the engine's own.

use std::path::PathBuf;

use crate::base::error::{Attribute, Excerpt, Explain};
use crate::{base, build, compose, graph, image, log, net, runtime, store, supervise};

/// A verb that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] base::fs::Error),
    /// The compose file.
    #[error(transparent)]
    Compose(#[from] compose::Error),
    /// The graph.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The registry, or an archive.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A build.
    #[error(transparent)]
    Build(#[from] build::Error),
    /// The network.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// A container's process.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// A container's supervisor.
    #[error(transparent)]
    Supervise(#[from] supervise::Error),
    /// A log.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// An image name.
    #[error(transparent)]
    Reference(#[from] crate::model::reference::InvalidReference),
    /// Something failed for a service.
    #[error("service `{service}` {action}")]
    Service {
        /// The service.
        service: String,
        /// What could not be done: `cannot be built`, `cannot be started`.
        action: &'static str,
        /// Where the file says what it could not be.
        place: Option<Box<Excerpt>>,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A dependency did not get to what others wait for.
    #[error("dependency failed: {} waits for `{service}` to be {condition}, but {found}{}", waiting.join(", "), quoted(said))]
    Dependency {
        /// The one that failed.
        service: String,
        /// What it should have reached.
        condition: &'static str,
        /// What happened instead.
        found: String,
        /// The services that wait, each as a path: `web -> api`.
        waiting: Box<[String]>,
        /// The container, for the hint.
        container: String,
        /// The last lines of its log.
        said: Box<[String]>,
    },
    /// New containers of a service do not work, and its update ended there.
    #[error("service `{service}` was not updated: its new container {number} does not work: {found}{}{}", if *rolled_back { "; those from before run again" } else { "" }, quoted(said))]
    Update {
        /// The service.
        service: String,
        /// The replica.
        number: u32,
        /// What happened to it.
        found: String,
        /// The containers from before the update run again.
        rolled_back: bool,
        /// The last lines of its log.
        said: Box<[String]>,
    },
    /// A service that `--wait` waited for in vain.
    #[error("service `{service}` is not up: container {container} {found}{}", quoted(said))]
    NotUp {
        /// The service.
        service: String,
        /// The container.
        container: String,
        /// What happened to it: `exited with code 3`.
        found: String,
        /// The last lines of its log.
        said: Box<[String]>,
    },
    /// Several steps failed.
    #[error("{} of the steps failed", errors.len())]
    Several {
        /// All of them.
        errors: Vec<Error>,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// An image that is not there, where nothing may be pulled.
    #[error("image `{image}` is not here, and must not be pulled ({reason})")]
    ImageMissing {
        /// Its name.
        image: String,
        /// Which policy says so.
        reason: &'static str,
    },
    /// Neither the image nor the user says what to run.
    #[error("no command: image `{image}` has neither CMD nor ENTRYPOINT")]
    NoCommand {
        /// The image.
        image: String,
    },
    /// A bind mount of a path that does not exist.
    #[error("bind mount source {} does not exist", path.display())]
    BindSource {
        /// The host path.
        path: PathBuf,
    },
    /// A value that means nothing.
    #[error("{what}: `{value}` is not {expected}")]
    Value {
        /// What it is for: `stop_signal`, `ulimits.nofile`.
        what: String,
        /// What was given.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// A value that has a meaning, but none that can be had.
    #[error("{what}: {reason}")]
    Refused {
        /// What it is for: `mem_limit`.
        what: String,
        /// What was given, as far as it can be found in the file.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A container that does not run.
    #[error("container {name} is not running")]
    NotRunning {
        /// Its name.
        name: String,
    },
    /// A container whose processes stand still.
    #[error("container {name} is paused")]
    Paused {
        /// Its name.
        name: String,
    },
    /// `cp` of a folder to where a file is.
    #[error("cannot copy a folder over the file {}", path.display())]
    CopyFolderOverFile {
        /// The file.
        path: PathBuf,
    },
    /// A container that must be stopped first.
    #[error("container {name} is running and cannot be removed")]
    StillRunning {
        /// Its name.
        name: String,
    },
    /// A service without a container.
    #[error("service `{service}` has no container")]
    NoContainer {
        /// The service.
        service: String,
    },
    /// A network that containers use.
    #[error("network `{name}` is in use by {}", users.join(", "))]
    NetworkInUse {
        /// Its name.
        name: String,
        /// Names of the containers.
        users: Vec<String>,
    },
    /// A volume that containers use.
    #[error("volume `{name}` is in use by {}", users.join(", "))]
    VolumeInUse {
        /// Its name.
        name: String,
        /// Names of the containers.
        users: Vec<String>,
    },
    /// A config or secret without content.
    #[error("{kind} `{name}`: {reason}")]
    FileObject {
        /// `config` or `secret`.
        kind: &'static str,
        /// Its key.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A command of a hook failed.
    #[error("{hook} hook of container {container} exited with code {code}{}", quoted(said))]
    Hook {
        /// `pre_start`, `post_start` or `pre_stop`.
        hook: &'static str,
        /// The container.
        container: String,
        /// Its exit code.
        code: i32,
        /// The last lines of its output.
        said: Box<[String]>,
    },
    /// The program of a `provider` could not do what was asked of it.
    #[error("provider `{provider}` of service `{service}`: {reason}")]
    Provider {
        /// `provider.type`.
        provider: String,
        /// The service.
        service: String,
        /// What it said, or why it could not be asked.
        reason: String,
    },
    /// A GPU, or the like, that the host does not describe.
    #[error(
        "could not select device driver \"{driver}\" with capabilities: [[{capabilities}]]: the host has no such devices, or not so many"
    )]
    NoDevice {
        /// What it must be able to do.
        capabilities: String,
        /// Whose.
        driver: String,
    },
    /// A device that no CDI spec describes.
    #[error("no CDI spec in /etc/cdi or /var/run/cdi describes the device `{name}`")]
    NoCdiDevice {
        /// `vendor.com/class=name`.
        name: String,
    },
    /// An image for a processor whose programs cannot run here.
    #[error(
        "the image is for {platform}, whose programs cannot run on this {} host: {obstacle}",
        std::env::consts::ARCH
    )]
    Foreign {
        /// `linux/arm64`.
        platform: String,
        /// Why not.
        obstacle: String,
    },
    /// A thing the engine does not do.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
}

impl Error {
    /// All of them as one; none is no error.
    pub(super) fn of_several(mut errors: Vec<Self>) -> super::Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several { errors }),
        }
    }

    /// The error of the layer below that this one wraps unchanged.
    fn inner(&self) -> Option<&dyn Explain> {
        Some(match self {
            Self::Store(error) => error,
            Self::File(error) => error,
            Self::Compose(error) => error,
            Self::Graph(error) => error,
            Self::Image(error) => error,
            Self::Build(error) => error,
            Self::Net(error) => error,
            Self::Runtime(error) => error,
            Self::Supervise(error) => error,
            Self::Log(error) => error,
            Self::Service { source, .. } => source.as_ref(),
            _ => return None,
        })
    }
}

/// The last words of a container below the sentence that tells of its end.
fn quoted(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("; the last lines of its log:\n  {}", lines.join("\n  ")) }
}

/// What is found where somebody waits for health and there is no health check.
pub(super) const NO_HEALTH_CHECK: &str = "it has no health check";

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        if let Some(inner) = self.inner() {
            return inner.hint();
        }
        match self {
            Self::Foreign { .. } => Some(
                "get the image for this host (`--platform`), or install qemu-user-static with its binfmt handlers \
                 (Debian: qemu-user-binfmt)"
                    .into(),
            ),
            Self::Dependency { service, found, .. } if found == NO_HEALTH_CHECK => {
                Some(format!("give `{service}` a `healthcheck`, or wait for `service_started`"))
            }
            Self::Dependency { container, .. } | Self::NotUp { container, .. } => {
                Some(format!("`wharf logs {container}` shows what it said"))
            }
            Self::Update { rolled_back: false, service, .. } => Some(format!(
                "containers that were not replaced yet go on; `up` tries again, and `update_config.failure_action: rollback` brings back all of `{service}`"
            )),
            Self::NoDevice { .. } | Self::NoCdiDevice { .. } => Some(
                "a GPU is found by its CDI spec: `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` writes one"
                    .into(),
            ),
            Self::Several { errors } => errors.iter().find_map(Explain::hint),
            Self::ImageMissing { image, .. } => {
                Some(format!("`wharf pull`, `wharf image pull {image}` or `wharf build` gets it"))
            }
            Self::NoCommand { .. } => Some("give a command after the image's name, or `command:` in the file".into()),
            Self::BindSource { path } => Some(format!("create it: mkdir -p {}", path.display())),
            Self::StillRunning { name } => Some(format!("stop it first, or use `rm -f {name}`")),
            Self::NoContainer { service } => Some(format!("`wharf up -d {service}` makes one")),
            Self::Paused { name } => Some(format!("`wharf unpause {name}` lets it go on")),
            Self::NotRunning { .. } => Some("`wharf ps -a` shows why it ended, `wharf start` starts it".into()),
            _ => None,
        }
    }

    fn excerpts(&self) -> Vec<Excerpt> {
        match (self.inner(), self) {
            (Some(inner), Self::Service { place: Some(place), .. }) => match inner.excerpts() {
                excerpts if excerpts.is_empty() => vec![Excerpt::clone(place)],
                excerpts => excerpts,
            },
            (Some(inner), _) => inner.excerpts(),
            (None, Self::Several { errors }) => errors.iter().flat_map(Explain::excerpts).collect(),
            (None, _) => Vec::new(),
        }
    }

    fn attribute(&self) -> Option<Attribute> {
        match self {
            Self::Value { what, value, .. } | Self::Refused { what, value, .. } => {
                // `tmpfs size` is about `tmpfs`.
                let what = what.split(' ').next().unwrap_or_default();
                let elsewhere = match what {
                    "tmpfs" => Some("volumes"),
                    "mem_limit" => Some("deploy.resources.limits.memory"),
                    "mem_reservation" => Some("deploy.resources.reservations.memory"),
                    "cpus" => Some("deploy.resources.limits.cpus"),
                    "pids_limit" => Some("deploy.resources.limits.pids"),
                    "restart" => Some("deploy.restart_policy"),
                    _ => None,
                };
                let names = std::iter::once(what).chain(elsewhere).map(str::to_owned).collect();
                Some(Attribute { names, value: value.clone() })
            }
            Self::BindSource { path } => Some(Attribute::new(&["volumes"], path.to_string_lossy())),
            Self::FileObject { kind: "config", name, .. } => Some(Attribute::new(&["configs"], name)),
            Self::FileObject { name, .. } => Some(Attribute::new(&["secrets"], name)),
            Self::ImageMissing { image, .. } => Some(Attribute::new(&["image", "build", "volumes"], image)),
            Self::Reference(_) => Some(Attribute::new(&["image"], "")),
            Self::NoCommand { .. } => Some(Attribute::new(&["command", "entrypoint", "image"], "")),
            _ => self.inner().and_then(Explain::attribute),
        }
    }

    fn exit_code(&self) -> u8 {
        self.inner().map_or(125, Explain::exit_code)
    }
}
