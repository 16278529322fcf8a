//! The verbs, one file each: the help is the doc comment, `Args` are the flags, `run` does it.

pub(super) mod attach;
mod boot;
mod build;
mod build_check;
pub(super) mod build_image;
mod build_output;
mod build_print;
pub(super) mod commit;
mod config;
pub(super) mod cp;
mod create;
pub(super) mod diff;
mod disk_usage;
mod down;
pub(super) mod events;
pub(super) mod exec;
pub(super) mod export;
mod graph;
pub(super) mod history;
pub(super) mod image;
pub(super) mod image_prune;
mod images;
pub(super) mod import;
pub(super) mod info;
mod kill;
pub(super) mod load;
pub(super) mod login;
pub(super) mod logs;
mod ls;
pub(super) mod manifest;
pub(super) mod network;
mod pause;
pub(super) mod port;
pub(super) mod ps;
mod publish;
pub(super) mod pull;
pub(super) mod push;
mod push_services;
mod restart;
mod rm;
pub(super) mod rmi;
pub(super) mod run;
pub(super) mod save;
mod scale;
mod start;
pub(super) mod stats;
mod stop;
pub(super) mod system;
pub(super) mod tag;
pub(super) mod top;
mod transfer;
mod unpause;
mod up;
pub(super) mod update;
pub(super) mod version;
pub(super) mod volume;
mod volumes;
mod wait;
mod watch;

use super::docker::container;
use super::{Context, Outcome};

/// `wharf --help`: the verbs by what they are about, then the flags.
pub const OVERVIEW: &str = "\
{about-with-newline}
{usage-heading} {usage}

Run:
  up          Build, create and start the project's services
  down        Stop and remove the project's containers and networks
  watch       Bring services up and keep them as the files say: sync, rebuild, restart
  run         Run a one-off container of a service, or a container of an image
  exec        Run a command in a running container
  attach      Connect to a container's first process
  create      Create containers without starting them
  start       Start what exists
  stop        Stop
  restart     Restart
  scale       Set the number of containers of services
  kill        Send a signal
  pause       Freeze processes
  unpause     Let frozen processes go on
  rm          Remove stopped containers
  wait        Wait until containers have ended
  cp          Copy files between a container and the host
  commit      Make an image of a container

Look:
  ps          List containers
  logs        Show what containers have written
  top         Show processes
  stats       Show what containers use of the host
  events      Show what happens
  diff        Show what a container changed in its files
  export      Write a container's files as a tar
  port        Show where a port is published
  images      List the images that containers were made from
  volumes     List the project's volumes
  ls          List projects
  config      Show the project as it is understood (also: convert)
  graph       Draw the services and what they wait for
  version     Show the version

Images:
  build       Build the images of services
  pull        Pull images
  push        Push images
  publish     Publish the project's files, for `-f oci://…`
  load        Load the images of an archive (docker save, OCI layout)
  import      Make an image of a tar of a root file system
  tag         Give an image another name
  rmi         Remove images

Whatever the folder is:
  container   Docker's verbs on containers
  image       Build, list, pull, load, import, tag and remove images
  network     List, make and remove networks
  volume      List, make and remove volumes
  system      Prune, check, disk usage, facts

`wharf VERB --help` tells more about a verb.

Options:
{options}
";

/// Verbs beyond projects and containers, which cannot say what they would do.
pub const WITHOUT_DRY_RUN: [&str; 9] =
    ["container", "image", "import", "load", "network", "rmi", "system", "tag", "volume"];

/// Lists the verbs once: variant, module, name, needs root.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $variant:ident($module:ident) $name:literal root: $root:literal;)+) => {
        /// What to do.
        #[allow(clippy::large_enum_variant, reason = "there is one value of it in a process: its size does not matter")]
        #[derive(Debug, clap::Subcommand)]
        pub enum Verb {
            $(
                #[allow(missing_docs, reason = "the modules' own documentation is the help text")]
                $(#[$attribute])*
                #[command(name = $name)]
                $variant($module::Args),
            )+
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
        }
    };
}

verbs! {
    Attach(attach) "attach" root: true;
    Build(build) "build" root: true;
    Commit(commit) "commit" root: true;
    #[command(visible_alias = "convert")]
    Config(config) "config" root: false;
    Container(container) "container" root: true;
    Cp(cp) "cp" root: true;
    Create(create) "create" root: true;
    Diff(diff) "diff" root: true;
    Down(down) "down" root: true;
    Events(events) "events" root: true;
    Exec(exec) "exec" root: true;
    Export(export) "export" root: true;
    Graph(graph) "graph" root: false;
    Image(image) "image" root: true;
    Images(images) "images" root: true;
    Import(import) "import" root: true;
    Kill(kill) "kill" root: true;
    Load(load) "load" root: true;
    Logs(logs) "logs" root: true;
    Ls(ls) "ls" root: true;
    Network(network) "network" root: true;
    Pause(pause) "pause" root: true;
    Port(port) "port" root: true;
    Ps(ps) "ps" root: true;
    Publish(publish) "publish" root: true;
    Push(push_services) "push" root: true;
    Pull(pull) "pull" root: true;
    Restart(restart) "restart" root: true;
    Rm(rm) "rm" root: true;
    Rmi(rmi) "rmi" root: true;
    #[command(disable_help_flag = true)]
    Run(run) "run" root: true;
    Scale(scale) "scale" root: true;
    Start(start) "start" root: true;
    Stats(stats) "stats" root: true;
    Stop(stop) "stop" root: true;
    System(system) "system" root: true;
    Tag(tag) "tag" root: true;
    Top(top) "top" root: true;
    Unpause(unpause) "unpause" root: true;
    Up(up) "up" root: true;
    Version(version) "version" root: false;
    Volume(volume) "volume" root: true;
    Volumes(volumes) "volumes" root: true;
    Wait(wait) "wait" root: true;
    Watch(watch) "watch" root: true;
}

impl Verb {
    /// The exit code for an error that says it would be `explained` for `docker run`.
    ///
    /// `run` tells its own failures (125), a command that cannot be executed (126) and one that was not found (127)
    /// from what the process returned; `exec` the last two. Compose's verbs know 1 only.
    pub fn error_code(name: &str, explained: u8) -> u8 {
        match (name, explained) {
            ("run", code) | ("exec", code @ (126 | 127)) => code,
            _ => 1,
        }
    }
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
