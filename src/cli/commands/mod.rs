//! The verbs, one file each: the help is the doc comment, `Args` are the flags, `run` does it.

mod version;

use super::{Context, Outcome};

/// The verbs by what they are about: the middle of `wharf --help`.
pub const OVERVIEW: &str = "\
Verbs:
  version     Show the version
";

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    #[allow(missing_docs)]
    Version(version::Args),
}

impl Verb {
    /// Runs it.
    pub fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Version(args) => version::run(context, &args),
        }
    }

    /// Its name as typed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
        }
    }

    /// Whether it touches what belongs to root. Checked first, so that it is said in one line.
    pub fn needs_root(&self) -> bool {
        !matches!(self, Self::Version(_))
    }

    /// Whether its exit code tells its own failures (125 to 127) from those of a process it ran.
    pub fn is_container_verb(&self) -> bool {
        false
    }
}
