//! What to build: everything that the command line or a compose file may say about one build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::cache::CacheExport;
use crate::image::CachePlace;
use crate::model::reference::Reference;

/// One image to build. Paths are absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildRequest {
    /// The folder whose files COPY and ADD see.
    pub context: PathBuf,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// `--build-arg`: `None` takes the variable of wharf's own environment, and is as if not given when that
    /// is not set.
    pub args: BTreeMap<String, Option<String>>,
    /// The stage to build, by name or number; `None` is the last one.
    pub target: Option<String>,
    /// Labels set on the image, above those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Names that the image gets.
    pub tags: Vec<Reference>,
    /// Run every step again.
    pub no_cache: bool,
    /// Ask the registry for base images even when the store has them.
    pub pull: bool,
    /// What RUN steps see of the network, unless they say otherwise.
    pub network: BuildNetwork,
    /// `os/arch[/variant]`; `None` is the host's.
    pub platform: Option<String>,
    /// Size of /dev/shm in RUN steps; `None` is 64 MiB.
    pub shm_size_bytes: Option<u64>,
    /// `name:address` for /etc/hosts in RUN steps.
    pub extra_hosts: Vec<String>,
    /// Whether the context has an ignore file that counts; those of repositories and archives do not.
    pub ignore_file: bool,
    /// Stages whose steps are run again (`--no-cache-filter`).
    pub no_cache_stages: Vec<String>,
    /// SSH agents that RUN steps may use, by id.
    pub ssh: BTreeMap<String, SshSource>,
    /// Whether `RUN --network=host` is allowed.
    pub allow_host_network: bool,
    /// Whether `RUN --security=insecure` is allowed.
    pub allow_insecure: bool,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The time of a context that is a git commit, seconds since 1970.
    pub context_time_seconds: Option<i64>,
    /// Whether the image is recorded; else only its layers are made, for an export.
    pub keep_image: bool,
    /// Resource limits of RUN steps by name, soft and hard; -1 is unlimited.
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// `--build-context`: a name for `FROM` and `--from` to a folder or `docker-image://reference`.
    pub additional_contexts: BTreeMap<String, String>,
    /// Secrets that RUN steps may mount, by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Images that were built here a moment ago: they are taken as they are, also with `pull`.
    pub fresh: Vec<Reference>,
    /// Where results of steps are looked for besides the store.
    pub cache_from: Vec<CachePlace>,
    /// Where results of steps are written to.
    pub cache_to: Vec<CacheExport>,
    /// How progress names this build: the service, or the first tag.
    pub resource: String,
}

impl BuildRequest {
    /// A request with Docker's defaults for the `Dockerfile` of a folder.
    pub fn new(context: impl Into<PathBuf>) -> Self {
        let context = context.into();
        Self {
            dockerfile: DockerfileSource::Path(context.join("Dockerfile")),
            context,
            args: BTreeMap::new(),
            target: None,
            labels: BTreeMap::new(),
            tags: Vec::new(),
            no_cache: false,
            pull: false,
            network: BuildNetwork::Default,
            platform: None,
            shm_size_bytes: None,
            extra_hosts: Vec::new(),
            ignore_file: true,
            no_cache_stages: Vec::new(),
            ssh: BTreeMap::new(),
            allow_host_network: false,
            allow_insecure: false,
            annotations: BTreeMap::new(),
            context_time_seconds: None,
            keep_image: true,
            ulimits: BTreeMap::new(),
            additional_contexts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            fresh: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            resource: "build".into(),
        }
    }
}

/// Where the Dockerfile's text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file; errors name it as it stands here. `Dockerfile` falls back to `dockerfile`.
    Path(PathBuf),
    /// The text itself (`dockerfile_inline:`, or standard input).
    Inline(String),
}

/// Where an SSH agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshSource {
    /// The socket of an agent that runs.
    Socket(PathBuf),
    /// Private keys, for an agent of the step's own.
    Keys(Vec<PathBuf>),
}

/// What a RUN step sees of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuildNetwork {
    /// The default network with NAT and DNS.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's own.
    Host,
}

/// Where the content of a build secret comes from. It never enters a cache key, a layer or the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file of the host, read at each step that mounts it.
    File(PathBuf),
    /// A variable of wharf's own environment.
    Environment(String),
}

/// Largest secret.
const SECRET_BYTES_MAX: u64 = 1 << 20;

impl SecretSource {
    /// Its content.
    pub fn read(&self) -> crate::base::fs::Result<Vec<u8>> {
        use std::os::unix::ffi::OsStringExt;
        match self {
            Self::File(path) => crate::base::fs::read_limited(path, SECRET_BYTES_MAX),
            Self::Environment(name) => Ok(std::env::var_os(name).unwrap_or_default().into_vec()),
        }
    }
}
