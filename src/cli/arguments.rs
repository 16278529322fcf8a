//! The flags before the verb, and the list of verbs.

use std::path::PathBuf;

use clap::ValueEnum;

use super::Mistake;
use super::commands::Verb;
use super::progress::Mode;
use super::terminal::Ansi;

/// Compose projects and containers, without a daemon.
#[derive(Debug, clap::Parser)]
#[command(
    name = "wharf",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    override_usage = "wharf [OPTIONS] VERB [ARGUMENTS]",
    help_template = super::commands::OVERVIEW
)]
pub struct Arguments {
    /// Flags before the verb.
    #[command(flatten)]
    pub global: Global,
    /// Show the version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The flags before the verb, Compose's own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Global {
    /// Compose file; may be given several times, `-` is stdin, `oci://REGISTRY/NAME:TAG` a published project, `https://HOST/PATH.git#REF:FOLDER` one in git
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Name of the project
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Folder that relative paths start from (default: the first file's)
    #[arg(long, value_name = "FOLDER", alias = "workdir")]
    pub project_directory: Option<PathBuf>,
    /// Profile to enable; may be given several times, `*` is all
    #[arg(long = "profile", value_name = "PROFILE")]
    pub profiles: Vec<String>,
    /// Environment file instead of `.env`; may be given several times
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    /// When to write control characters: never, always, auto
    #[arg(long, value_enum, value_name = "WHEN", hide_possible_values = true)]
    pub ansi: Option<Ansi>,
    /// How to show progress: auto, tty, plain, json, quiet
    #[arg(long, value_enum, value_name = "TYPE", hide_possible_values = true)]
    pub progress: Option<Mode>,
    /// Most things done at once, -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub parallel: Option<i32>,
    /// Show what would be done, do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Include resources that no service uses
    #[arg(long)]
    pub all_resources: bool,
    /// Names with `_` instead of `-`
    #[arg(long)]
    pub compatibility: bool,
    /// Write no control characters (Compose's old name of `--ansi never`)
    #[arg(long, hide = true)]
    no_ansi: bool,
    /// Says more in Compose; everything is said here
    #[arg(long, hide = true)]
    verbose: bool,
    /// A registry of published projects to speak HTTP to
    #[arg(long, value_name = "HOST", hide = true)]
    pub insecure_registry: Vec<String>,
}

impl Global {
    /// `--ansi`, else `COMPOSE_ANSI`, else automatic.
    pub fn ansi(&self) -> Ansi {
        let flag = if self.no_ansi { Some(Ansi::Never) } else { self.ansi };
        flag.or_else(|| from_environment("COMPOSE_ANSI")).unwrap_or_default()
    }

    /// `--parallel`, else `COMPOSE_PARALLEL_LIMIT`: how many things are done at once; `None` is no limit.
    pub fn parallel(&self) -> Result<Option<usize>, Mistake> {
        let variable = std::env::var("COMPOSE_PARALLEL_LIMIT").ok().filter(|text| !text.is_empty());
        let (name, text) = match (self.parallel, variable) {
            (Some(number), _) => ("--parallel", number.to_string()),
            (None, Some(text)) => ("COMPOSE_PARALLEL_LIMIT", text),
            (None, None) => return Ok(None),
        };
        match text.parse::<i64>() {
            Ok(-1) => Ok(None),
            Ok(number @ 1..) => Ok(Some(usize::try_from(number).unwrap_or(usize::MAX))),
            _ => Err(Mistake::usage(format!("{name}: `{text}` is not a number above 0, or -1 for no limit"))),
        }
    }

    /// `--progress`, else `COMPOSE_PROGRESS`, else automatic.
    pub fn progress(&self) -> Mode {
        self.progress.or_else(|| from_environment("COMPOSE_PROGRESS")).unwrap_or_default()
    }
}

/// A variable's value; one that cannot be read counts as unset.
fn from_environment<T: ValueEnum>(variable: &str) -> Option<T> {
    T::from_str(&std::env::var(variable).ok()?, true).ok()
}
