//! The command line: words, tables, progress and exit codes. The only place that prints.
//!
//! ```text
//! arguments -> verb (commands/<verb>.rs) -> engine, compose, graph ... -> table | JSON | progress
//!                                      \-> Failure -> report -> stderr, exit code
//! ```
//!
//! What users read on stdout is data; everything else goes to stderr. Before a verb runs, nothing is
//! loaded, no thread and no async runtime is started: `ps` and `exec` are fast because they do only their
//! own work. The layers below never print; this one never touches containers but through `engine`.

mod arguments;
pub mod commands;
mod context;
mod docker;
mod failure;
mod flags;
mod interactive;
mod members;
mod menu;
mod oci;
mod output;
mod progress;
mod project;
mod prune;
mod remote;
mod report;
mod scope;
mod session;
mod show;
mod signals;
mod switches;
mod terminal;
mod usage;
mod watching;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::base::error::Explain;

pub use arguments::{Arguments, Global};
pub use context::Context;
pub use failure::{Failure, Mistake, Outcome};

/// Runs one command line, program name first, and returns the exit code of the process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    crate::supervise::allow_open_files();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|verb| verb == progress::painter::VERB) {
        let rest: Vec<String> = arguments.iter().skip(2).map(|text| text.to_string_lossy().into_owned()).collect();
        progress::painter::run(&rest);
        return ExitCode::SUCCESS;
    }
    let arguments = match oci::arguments(arguments) {
        Ok(arguments) => return oci::main(&arguments),
        Err(arguments) => arguments,
    };
    match docker::grammar(arguments) {
        (docker::Grammar::Docker, arguments) => match parse::<docker::Arguments>(&arguments) {
            Ok(parsed) => {
                let context = Context::new(Global::default()).without_project();
                carry_out(&context, parsed.verb(), parsed.needs_root(), |context| parsed.run(context))
            }
            Err(error) => usage::end(&error, &arguments, "docker"),
        },
        (docker::Grammar::Wharf, arguments) => match parse::<Arguments>(&arguments) {
            Ok(Arguments { global, verb, .. }) => {
                let (name, needs_root) = (verb.name(), verb.needs_root());
                let context = Context::new(global);
                if context.global.dry_run && commands::WITHOUT_DRY_RUN.contains(&name) {
                    let text = format!("--dry-run cannot be used with {name}: it would do it");
                    return ExitCode::from(end_with(&context, name, &[Box::new(Mistake::usage(text))]));
                }
                carry_out(&context, name, needs_root, |context| verb.run(context))
            }
            Err(error) => usage::end(&error, &arguments, "wharf"),
        },
    }
}

/// Reads a command line; one whose switches have values, as Docker takes them, is read without those.
fn parse<A: Parser + CommandFactory>(arguments: &[OsString]) -> Result<A, clap::Error> {
    A::try_parse_from(arguments).or_else(|error| match switches::without_values(&A::command(), arguments) {
        Some(plain) if error.use_stderr() => A::try_parse_from(plain),
        _ => Err(error),
    })
}

fn carry_out(
    context: &Context,
    name: &'static str,
    needs_root: bool,
    run: impl FnOnce(&Context) -> Outcome,
) -> ExitCode {
    let is_root = !needs_root || rustix::process::geteuid().is_root();
    let outcome = if is_root { run(context) } else { Err(Mistake::NotRoot { verb: name }.into()) };
    let code = match outcome {
        Ok(code) | Err(Failure::Exit(code)) => code,
        Err(Failure::BrokenPipe) => 0,
        Err(Failure::Error(error)) => end_with(context, name, &[error]),
        Err(Failure::Errors(errors)) => end_with(context, name, &errors),
    };
    ExitCode::from(code)
}

/// Shows errors and returns the exit code for them.
fn end_with(context: &Context, verb: &str, errors: &[Box<dyn Explain>]) -> u8 {
    errors.iter().for_each(|error| context.show_error(error.as_ref()));
    commands::Verb::error_code(verb, errors.first().map_or(1, |error| error.exit_code()))
}
