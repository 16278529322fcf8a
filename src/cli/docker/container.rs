//! `docker container ...`, and the same verbs without the group.

use super::{inspect, lifecycle, prune, top};
use crate::cli::commands::{attach, commit, cp, diff, exec, export, logs, port, ps, run, stats, update};
use crate::cli::{Context, Outcome};

/// Containers, whatever the folder is
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Group,
}

/// The group has two verbs that mean something else, or nothing, without it.
#[allow(clippy::large_enum_variant, reason = "there is one value of it in a process: its size does not matter")]
#[derive(Debug, clap::Subcommand)]
enum Group {
    #[command(flatten)]
    Common(Verb),
    Inspect(inspect::Containers),
    Prune(prune::Args),
}

impl Args {
    /// The name of the verb behind the group's.
    pub fn verb(&self) -> &'static str {
        match &self.verb {
            Group::Common(verb) => verb.name(),
            Group::Inspect(_) => "inspect",
            Group::Prune(_) => "prune",
        }
    }
}

/// Does what the second word says.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let context = &context.without_project();
    match &args.verb {
        Group::Common(verb) => verb.run(context),
        Group::Inspect(args) => inspect::containers(context, args),
        Group::Prune(args) => prune::run(context, args),
    }
}

/// Lists the verbs once: variant, type of its arguments, name, what runs it.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $variant:ident($args:ty) $name:literal => $run:expr;)+) => {
        /// What is done to containers.
        #[allow(clippy::large_enum_variant, reason = "there is one value of it in a process: its size does not matter")]
        #[derive(Debug, clap::Subcommand)]
        pub enum Verb {
            $(
                #[allow(missing_docs, reason = "the modules' own documentation is the help text")]
                $(#[$attribute])*
                #[command(name = $name)]
                $variant($args),
            )+
        }

        impl Verb {
            /// Its name as typed.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)+
                }
            }

            /// Does it.
            pub fn run(&self, context: &Context) -> Outcome {
                match self {
                    $(Self::$variant(args) => $run(context, args),)+
                }
            }
        }
    };
}

verbs! {
    Attach(attach::Args) "attach" => attach::run;
    Commit(commit::Args) "commit" => commit::run;
    Cp(cp::Args) "cp" => cp::run;
    #[command(disable_help_flag = true)]
    Create(run::Create) "create" => run::create;
    Diff(diff::Args) "diff" => diff::run;
    Exec(exec::Args) "exec" => exec::run;
    Export(export::Args) "export" => export::run;
    Kill(lifecycle::Kill) "kill" => lifecycle::kill;
    Logs(logs::Args) "logs" => logs::run;
    Pause(lifecycle::Pause) "pause" => lifecycle::pause;
    Port(port::Args) "port" => port::run;
    #[command(visible_aliases = ["ls", "list"])]
    Ps(ps::Args) "ps" => ps::run;
    Rename(lifecycle::Rename) "rename" => lifecycle::rename;
    Restart(lifecycle::Restart) "restart" => lifecycle::restart;
    #[command(visible_alias = "remove")]
    Rm(lifecycle::Remove) "rm" => lifecycle::remove;
    #[command(disable_help_flag = true)]
    Run(run::Args) "run" => run::run;
    Start(lifecycle::Start) "start" => lifecycle::start;
    Stats(stats::Args) "stats" => stats::run;
    Stop(lifecycle::Stop) "stop" => lifecycle::stop;
    Top(top::Args) "top" => top::run;
    Unpause(lifecycle::Unpause) "unpause" => lifecycle::unpause;
    Update(update::Args) "update" => update::run;
    Wait(lifecycle::Wait) "wait" => lifecycle::wait;
}
