use std::io::IsTerminal;

use crate::cli::interactive::attach::Session;
use crate::cli::interactive::{DetachKeys, Ending, FORWARDED, RawMode, exit_code};
use crate::cli::signals::Signals;
use crate::cli::{Context, Outcome};
use crate::supervise;

/// Connect to the first process of a service's container, or of a container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A service of the project, or a container
    target: String,
    /// Keys that leave it running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Which replica of the service
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Do not hand our input on
    #[arg(long)]
    no_stdin: bool,
    /// Hand signals on to the process
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
}

/// Attaches; ends with the exit code of the process.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let keys = args.detach_keys.as_deref().map(DetachKeys::parse).transpose()?.unwrap_or_default();
    let scope = context.in_scope()?;
    let member = scope.running(context, &args.target, args.index)?;
    let process = &member.spec.process;
    let stdin = !args.no_stdin && process.stdin_open;
    let signals = Signals::block(&FORWARDED)?;
    let stream = supervise::attach(scope.engine.store(), &member.spec.id)?;
    let raw = if process.terminal && stdin && std::io::stdin().is_terminal() { Some(RawMode::enter()?) } else { None };
    let session = Session {
        engine: &scope.engine,
        id: &member.spec.id,
        stream,
        signals: &signals,
        stdin,
        terminal: process.terminal,
        keys,
        forward_signals: args.sig_proxy,
    };
    let ending = session.run();
    drop(raw);
    match ending? {
        Ending::Exited(code) => Ok(exit_code(code)),
        Ending::Detached => Ok(0),
    }
}
