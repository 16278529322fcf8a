//! Docker's own command line: `docker ...` through a link of that name, `wharf docker ...`, `wharf container ...`.
//!
//! The verbs are those of `commands`, with the [`Context`] told to see no project: names are containers and images
//! only. What Docker prints differently (the names of what was stopped, an id instead of progress) is here.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/>.

mod buildx;
pub mod container;
mod contexts;
pub mod describe;
pub mod inspect;
mod lifecycle;
mod prune;
mod top;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::commands::{
    build_image, events, history, image, import, info, load, login, manifest, network, pull, push, rmi, save, system,
    tag, version, volume,
};
use super::{Context, Mistake, Outcome};

/// Docker's command line.
#[derive(Debug, clap::Parser)]
#[command(
    name = "docker",
    version = concat!("version ", env!("CARGO_PKG_VERSION"), ", build wharf"),
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    /// Show the version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    /// What to do.
    #[command(subcommand)]
    verb: Verb,
}

/// Flags before the verb. There is no daemon, so those that say where it is are taken and mean nothing.
#[derive(Debug, clap::Args)]
struct Global {
    /// Folder of config.json
    #[arg(long, value_name = "FOLDER")]
    config: Option<OsString>,
    #[arg(short, long, hide = true)]
    context: Option<String>,
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    /// A daemon elsewhere: not here
    #[arg(short = 'H', long, value_name = "HOST", hide = true)]
    host: Vec<String>,
    #[arg(short, long, hide = true)]
    log_level: Option<String>,
}

/// Lists Docker's verbs beside those on containers: variant, type of its arguments, name, what runs it.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $variant:ident($args:ty) $name:literal => $run:expr;)+) => {
        #[allow(clippy::large_enum_variant, reason = "there is one value of it in a process: its size does not matter")]
        #[derive(Debug, clap::Subcommand)]
        enum Verb {
            #[command(flatten)]
            OnContainers(container::Verb),
            $(
                $(#[$attribute])*
                #[command(name = $name)]
                $variant($args),
            )+
        }

        impl Verb {
            #[allow(unreachable_patterns, reason = "the group of containers is looked into first")]
            fn name(&self) -> &'static str {
                match self {
                    Self::OnContainers(verb) => verb.name(),
                    Self::Container(args) => args.verb(),
                    $(Self::$variant(_) => $name,)+
                }
            }

            fn run(&self, context: &Context) -> Outcome {
                match self {
                    Self::OnContainers(verb) => verb.run(context),
                    $(Self::$variant(args) => $run(context, args),)+
                }
            }
        }
    };
}

verbs! {
    Build(Box<build_image::Args>) "build" => build_image::run;
    Builder(buildx::Builder) "builder" => buildx::builder;
    Buildx(buildx::Args) "buildx" => buildx::run;
    Container(container::Args) "container" => container::run;
    Context(contexts::Args) "context" => contexts::run;
    Events(events::Args) "events" => events::run;
    History(history::Args) "history" => history::run;
    Image(image::Args) "image" => image::run;
    Images(image::List) "images" => image::list;
    Import(import::Args) "import" => import::run;
    Info(info::Args) "info" => info::run;
    Inspect(inspect::Args) "inspect" => inspect::run;
    Load(load::Args) "load" => load::run;
    Login(login::Login) "login" => login::login;
    Logout(login::Logout) "logout" => login::logout;
    Manifest(manifest::Args) "manifest" => manifest::run;
    Network(network::Args) "network" => network::run;
    Pull(pull::Args) "pull" => pull::pull_images;
    Push(push::Args) "push" => push::run;
    Rmi(rmi::Args) "rmi" => rmi::run;
    Save(save::Args) "save" => save::run;
    System(system::Args) "system" => system::run;
    Tag(tag::Args) "tag" => tag::run;
    Version(version::Args) "version" => version::run;
    Volume(volume::Args) "volume" => volume::run;
}

impl Arguments {
    /// The verb's name.
    pub(super) fn verb(&self) -> &'static str {
        self.verb.name()
    }

    /// Whether anything of root's is touched.
    pub(super) fn needs_root(&self) -> bool {
        !matches!(self.verb, Verb::Version(_) | Verb::Context(_))
    }

    /// Does it.
    pub(super) fn run(&self, context: &Context) -> Outcome {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(name) = self.global.context.clone().or_else(|| variable("DOCKER_CONTEXT")) {
            contexts::check(&name)?;
        }
        let from_environment = variable("DOCKER_HOST");
        let mut hosts = self.global.host.iter().chain(&from_environment);
        if let Some(host) = hosts.find(|host| !host.starts_with("unix://")) {
            let text = format!("there is no daemon to talk to at {host}: wharf works on this machine only");
            let hint = Some(format!("`ssh HOST wharf {}` works there", self.verb.name()));
            return Err(Mistake::Usage { text, hint }.into());
        }
        self.verb.run(context)
    }
}

/// Whose command line it is.
pub(super) enum Grammar {
    /// wharf's own, which is Compose's with more.
    Wharf,
    /// Docker's.
    Docker,
}

/// Finds out whose command line it is, and returns it as that one is written.
///
/// `docker compose`, `docker-compose` and `wharf compose` are wharf's own grammar.
pub(super) fn grammar(mut arguments: Vec<OsString>) -> (Grammar, Vec<OsString>) {
    let program = arguments.first().and_then(|path| Path::new(path).file_name()).map(OsStr::to_owned);
    let is_docker = program.as_deref() == Some(OsStr::new("docker"));
    let word = |place: usize| arguments.get(place).and_then(|word| word.to_str());
    if !is_docker && !matches!(word(1), Some("docker" | "compose")) {
        return (Grammar::Wharf, arguments);
    }
    if !is_docker && word(1) == Some("docker") {
        arguments.remove(0);
    }
    match verb_place(&arguments) {
        Some(place) if arguments.get(place).is_some_and(|verb| verb == "compose") => {
            arguments.drain(1..=place);
            (Grammar::Wharf, arguments)
        }
        Some(place) if arguments.get(place).is_some_and(|verb| verb == "help") => {
            // `docker help image ls` is `docker image ls --help`.
            arguments.remove(place);
            arguments.push("--help".into());
            (Grammar::Docker, arguments)
        }
        _ => (Grammar::Docker, arguments),
    }
}

/// Where the verb stands behind Docker's global flags.
fn verb_place(arguments: &[OsString]) -> Option<usize> {
    let mut place = 1;
    while let Some(word) = arguments.get(place) {
        let word = word.to_str()?;
        if !word.starts_with('-') {
            return Some(place);
        }
        let takes_value = ["--config", "-c", "--context", "-H", "--host", "-l", "--log-level"].contains(&word);
        place += if takes_value { 2 } else { 1 };
    }
    None
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_name_and_the_first_word_choose_the_grammar() {
        for (typed, is_docker, rest) in [
            ("wharf ps", false, "wharf ps"),
            ("/usr/bin/docker ps -a", true, "/usr/bin/docker ps -a"),
            ("wharf docker ps", true, "docker ps"),
            ("wharf compose up -d", false, "wharf up -d"),
            ("docker compose -f x up", false, "docker -f x up"),
            ("docker --context x compose up", false, "docker up"),
            ("docker-compose up", false, "docker-compose up"),
            ("docker run compose", true, "docker run compose"),
            ("docker help image ls", true, "docker image ls --help"),
            ("docker", true, "docker"),
        ] {
            let (grammar, words) = grammar(typed.split(' ').map(OsString::from).collect());
            assert_eq!(matches!(grammar, Grammar::Docker), is_docker, "{typed}");
            assert_eq!(words.join(OsStr::new(" ")), *rest, "{typed}");
        }
    }
}
