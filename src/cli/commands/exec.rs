use std::io::IsTerminal;

use crate::cli::interactive::exec::{Pipes, Session};
use crate::cli::interactive::{DetachKeys, Ending, FORWARDED, RawMode, exit_code, window_size};
use crate::cli::signals::Signals;
use crate::cli::{Context, Failure, Mistake, Outcome, flags};
use crate::engine::exec::{Exec, no_stdio};
use crate::runtime::Stdio;

/// Run a command in a running container of a service, or in a container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run it in the background
    #[arg(short, long)]
    detach: bool,
    /// Environment variable; without a value, the caller's
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// File of environment variables
    #[arg(long, value_name = "FILE")]
    env_file: Vec<std::path::PathBuf>,
    /// Which replica of the service
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// Hand our input on (default for a service)
    #[arg(short, long)]
    interactive: bool,
    /// With all capabilities
    #[arg(long)]
    privileged: bool,
    /// A terminal (default for a service, on a terminal)
    #[arg(short, long, overrides_with = "no_tty")]
    tty: bool,
    /// No terminal
    #[arg(short = 'T', long = "no-tty", alias = "no-TTY", overrides_with = "tty")]
    no_tty: bool,
    /// As whom
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Where
    #[arg(short, long, value_name = "FOLDER")]
    workdir: Option<String>,
    /// Keys that leave the command running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// A service of the project, or a container
    target: String,
    /// The command with its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs a command; ends with its exit code.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let keys = args.detach_keys.as_deref().map(DetachKeys::parse).transpose()?.unwrap_or_default();
    let scope = context.in_scope_of_one(&args.target)?;
    let member = scope.running(context, &args.target, args.index)?;
    if context.only_says([format!("run `{}` in container {}", args.command.join(" "), member.spec.name)])? {
        return Ok(0);
    }
    let is_service = scope.project.is_some() && member.service() == Some(&args.target);
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    // Compose gives a terminal and input where there are some; Docker where it is asked to.
    let terminal = args.tty || (is_service && on_terminal && !args.no_tty);
    let mut environment = crate::model::project::OptionalMap::new();
    for file in &args.env_file {
        environment.extend(flags::environment_file(file)?);
    }
    environment.extend(flags::environment(&args.env));
    let exec = Exec {
        args: args.command.clone(),
        environment,
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        privileged: args.privileged,
        terminal: terminal && !args.detach,
    };
    let id = &member.spec.id;
    if args.detach {
        scope.engine.exec(id, &exec, no_stdio()?)?;
        return Ok(0);
    }
    let stdin = args.interactive || is_service;
    if terminal && stdin && !std::io::stdin().is_terminal() {
        return Err(Mistake::NoTerminal.into());
    }
    let signals = Signals::block(&FORWARDED)?;
    let (running, pipes) = if terminal {
        let (rows, cols) = window_size(std::io::stdout()).unwrap_or((24, 80));
        let mut running = scope.engine.exec(id, &exec, Stdio::Terminal { rows, cols })?;
        let console = running.console.take().ok_or(Mistake::NoTerminal)?;
        (running, Pipes::of_console(console)?)
    } else {
        let (theirs, ours) = Pipes::new()?;
        (scope.engine.exec(id, &exec, theirs)?, ours)
    };
    let raw = if terminal && stdin { Some(RawMode::enter()?) } else { None };
    let session = Session { running: &running, pipes, signals: &signals, stdin, terminal, keys };
    let ending: Result<Ending, Failure> = session.run();
    drop(raw);
    match ending? {
        Ending::Exited(code) => {
            scope.engine.exec_ended(id, &running, code);
            Ok(exit_code(code))
        }
        Ending::Detached => Ok(0),
    }
}
