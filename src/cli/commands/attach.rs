use crate::cli::interactive::{SessionWish, session_of};
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
    let scope = context.in_scope()?;
    let member = scope.running(context, &args.target, args.index)?;
    if context.only_says([format!("attach to container {}", member.spec.name)])? {
        return Ok(0);
    }
    let stdin = !args.no_stdin && member.spec.process.stdin_open;
    let wish = SessionWish { keys: args.detach_keys.as_deref(), stdin, forward_signals: args.sig_proxy };
    session_of(&scope.engine, &member.spec, wish, |_| Ok(supervise::attach(scope.engine.store(), &member.spec.id)?))
}
