//! The verbs, one file each: the help is the doc comment, `Args` are the flags, `run` does it.

mod config;
mod graph;
mod images;
mod logs;
mod ls;
mod port;
mod ps;
mod version;

use super::{Context, Outcome};

/// `wharf --help`: the verbs by what they are about, then the flags.
pub const OVERVIEW: &str = "\
{about-with-newline}
{usage-heading} {usage}

Look:
  ps          List containers
  logs        Show what containers have written
  images      List the images that containers were made from
  port        Show where a port is published
  ls          List projects
  config      Show the project as it is understood (also: convert)
  graph       Draw the services and what they wait for
  version     Show the version

`wharf VERB --help` tells more about a verb.

Options:
{options}
";

/// Lists the verbs once: variant, module, needs root, tells its own failures by 125 to 127.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $variant:ident($module:ident) $name:literal root: $root:literal container: $container:literal;)+) => {
        /// What to do.
        #[derive(Debug, clap::Subcommand)]
        pub enum Verb {
            $(#[allow(missing_docs)] $(#[$attribute])* #[command(name = $name)] $variant($module::Args),)+
        }

        impl Verb {
            /// Runs it.
            pub fn run(self, context: &Context) -> Outcome {
                match self {
                    $(Self::$variant(args) => $module::run(context, &args),)+
                }
            }

            /// Its name as typed.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }

            /// Whether it touches what belongs to root. Checked first, so that it is said in one line.
            pub fn needs_root(&self) -> bool {
                match self {
                    $(Self::$variant(_) => $root,)+
                }
            }

            /// Whether its exit code tells its own failures (125 to 127) from those of a process it ran.
            pub fn is_container_verb(&self) -> bool {
                match self {
                    $(Self::$variant(_) => $container,)+
                }
            }
        }
    };
}

verbs! {
    #[command(visible_alias = "convert")]
    Config(config) "config" root: false container: false;
    Graph(graph) "graph" root: false container: false;
    Images(images) "images" root: true container: false;
    Logs(logs) "logs" root: true container: false;
    Ls(ls) "ls" root: true container: false;
    Port(port) "port" root: true container: false;
    Ps(ps) "ps" root: true container: false;
    Version(version) "version" root: false container: false;
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::cli::Arguments;

    #[test]
    fn the_flags_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_overview_names_every_verb() {
        let command = Arguments::command();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let line = format!("\n  {} ", verb.get_name());
            assert!(super::OVERVIEW.contains(&line), "{} is not in the overview", verb.get_name());
        }
    }
}
