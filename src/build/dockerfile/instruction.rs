//! The instructions of a Dockerfile as data. Values are as typed: variables are expanded when a stage is planned.

use std::time::Duration;

use super::lines::{Heredoc, Line};
use super::mount::RunMount;
use super::words::{Form, Pair};

/// One instruction and the text it came from.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// Its text and place.
    pub line: Line,
    /// What it says.
    pub kind: Kind,
}

/// What an instruction says.
#[derive(Debug, Clone)]
pub enum Kind {
    /// `FROM [--platform=…] base [AS name]`.
    From(From),
    /// `ARG name[=default] …`.
    Arg(Vec<(String, Option<String>)>),
    /// `ENV name=value …`.
    Env(Vec<Pair>),
    /// `LABEL name=value …`.
    Label(Vec<Pair>),
    /// `RUN …`.
    Run(Run),
    /// `COPY …` and `ADD …`.
    Copy(Copy),
    /// `CMD …`.
    Cmd(Command),
    /// `ENTRYPOINT …`.
    Entrypoint(Command),
    /// `SHELL ["…"]`.
    Shell(Vec<String>),
    /// `EXPOSE …`.
    Expose(Vec<String>),
    /// `VOLUME …`.
    Volume(Vec<String>),
    /// `USER …`.
    User(String),
    /// `WORKDIR …`.
    Workdir(String),
    /// `STOPSIGNAL …`.
    StopSignal(String),
    /// `MAINTAINER …`.
    Maintainer(String),
    /// `HEALTHCHECK …`.
    Healthcheck(Healthcheck),
    /// `ONBUILD …`: the instruction as text, with its heredocs.
    Onbuild(String),
}

/// Where a stage begins.
#[derive(Debug, Clone)]
pub struct From {
    /// Image, stage or `scratch`, as typed.
    pub base: String,
    /// `AS name`, lower case.
    pub name: Option<String>,
    /// `--platform=`, as typed.
    pub platform: Option<String>,
}

/// A command line: JSON form runs as it is, text is given to the shell.
#[derive(Debug, Clone)]
pub struct Command {
    /// The arguments.
    pub form: Form,
}

/// A RUN instruction.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command.
    pub form: Form,
    /// Its heredocs.
    pub heredocs: Vec<Heredoc>,
    /// `--mount=…` as typed, checked when the variables are known.
    pub mounts: Vec<String>,
    /// `--network=`.
    pub network: RunNetwork,
    /// `--security=insecure`.
    pub insecure: bool,
    /// `--device=…`.
    pub devices: Vec<String>,
}

impl Run {
    /// The mounts with variables expanded.
    pub fn parse_mounts(
        &self,
        line: &Line,
        expand: &dyn Fn(&str) -> Result<String, crate::build::error::Error>,
    ) -> Result<Vec<RunMount>, crate::build::error::Error> {
        self.mounts.iter().map(|text| RunMount::parse(line, text, expand)).collect()
    }
}

/// `RUN --network=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunNetwork {
    /// What the build says.
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// A COPY or ADD instruction. Texts are as typed.
#[derive(Debug, Clone, Default)]
pub struct Copy {
    /// ADD: archives are unpacked, URLs fetched.
    pub add: bool,
    /// Paths (ADD: or URLs) to copy.
    pub sources: Vec<String>,
    /// Files given in the Dockerfile itself.
    pub heredocs: Vec<Heredoc>,
    /// Where to.
    pub destination: String,
    /// `--from=`.
    pub from: Option<String>,
    /// `--chown=`.
    pub chown: Option<String>,
    /// `--chmod=`.
    pub chmod: Option<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude=…`.
    pub exclude: Vec<String>,
    /// `--checksum=`.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// A HEALTHCHECK instruction; `None` for what was not said.
#[derive(Debug, Clone, Default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    pub test: Vec<String>,
    /// `--interval=`.
    pub interval: Option<Duration>,
    /// `--timeout=`.
    pub timeout: Option<Duration>,
    /// `--start-period=`.
    pub start_period: Option<Duration>,
    /// `--start-interval=`.
    pub start_interval: Option<Duration>,
    /// `--retries=`.
    pub retries: u32,
}
