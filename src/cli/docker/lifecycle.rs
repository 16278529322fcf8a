//! Verbs that do one thing to each of the named containers, and print the names of those to which it was done.
//!
//! As Docker's, they go on after a failure; the errors follow and the exit code is 1.

use std::io::Write;

use crate::base::error::Explain;
use crate::base::threads::{Work, begin};
use crate::cli::interactive::{SessionWish, session_of};
use crate::cli::members::{InScope, Member};
use crate::cli::{Context, Failure, Mistake, Outcome, flags};
use crate::engine;
use crate::supervise::{AttachMode, StartOptions};

/// Stop containers
#[derive(Debug, clap::Args)]
pub struct Stop {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Seconds between the signal and SIGKILL; -1 to wait without end
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Signal instead of the container's own
    #[arg(short, long, value_name = "SIGNAL")]
    signal: Option<String>,
}

/// Restart containers
#[derive(Debug, clap::Args)]
pub struct Restart {
    #[command(flatten)]
    stop: Stop,
}

/// Start containers
#[derive(Debug, clap::Args)]
pub struct Start {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Show the output, hand on signals, end with its exit code
    #[arg(short, long)]
    attach: bool,
    /// Hand our input on
    #[arg(short, long)]
    interactive: bool,
    /// Keys that leave it running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
}

/// Send a signal to containers
#[derive(Debug, clap::Args)]
pub struct Kill {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

/// Freeze containers
#[derive(Debug, clap::Args)]
pub struct Pause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Let frozen containers go on
#[derive(Debug, clap::Args)]
pub struct Unpause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Remove containers
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Also running ones; one that does not exist is fine
    #[arg(short, long)]
    force: bool,
    /// Also their anonymous volumes
    #[arg(short, long)]
    volumes: bool,
    #[arg(short, long, hide = true)]
    link: bool,
}

/// Give a container another name
#[derive(Debug, clap::Args)]
pub struct Rename {
    /// Its name or id
    container: String,
    /// The new name
    new_name: String,
}

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, clap::Args)]
pub struct Wait {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Does `action` to each container, all at once where that is quicker, and prints the names in order.
fn each(
    context: &Context,
    names: &[String],
    action: impl Fn(&InScope, &Member) -> Result<(), engine::Error> + Sync,
) -> Outcome {
    let scope = context.in_scope_of(context.engine_with_launcher()?)?;
    let members: Vec<Result<&Member, Failure>> = names.iter().map(|name| scope.container(name)).collect();
    let results: Vec<Result<(), Failure>> = match members.as_slice() {
        [Ok(member)] => vec![action(&scope, member).map_err(Failure::from)],
        _ => std::thread::scope(|threads| {
            let running: Vec<_> = members
                .into_iter()
                .map(|member| member.map(|member| begin(threads, || action(&scope, member))))
                .collect();
            let join = |work: Work<'_, Result<(), engine::Error>>| work.join().map_err(Failure::from);
            running.into_iter().map(|thread| thread.and_then(join)).collect()
        }),
    };
    let mut out = context.output();
    let mut errors: Vec<Box<dyn Explain>> = Vec::new();
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(()) => writeln!(out, "{name}")?,
            Err(Failure::Error(error)) => errors.push(error),
            Err(other) => return Err(other),
        }
    }
    out.flush()?;
    if errors.is_empty() { Ok(0) } else { Err(Failure::Errors(errors)) }
}

impl Stop {
    fn apply(&self, scope: &InScope, member: &Member) -> Result<(), engine::Error> {
        let timeout = flags::seconds("--time", self.time).unwrap_or_default();
        scope.engine.stop_with(&member.spec.id, timeout, self.signal.as_deref()).map(drop)
    }

    fn check(&self) -> Result<(), Failure> {
        if let Some(signal) = &self.signal {
            engine::signal::parse(signal)?;
        }
        flags::seconds("--time", self.time)?;
        Ok(())
    }
}

/// Stops.
pub fn stop(context: &Context, args: &Stop) -> Outcome {
    args.check()?;
    each(context, &args.containers, |scope, member| args.apply(scope, member))
}

/// Stops what runs, and starts.
pub fn restart(context: &Context, args: &Restart) -> Outcome {
    args.stop.check()?;
    each(context, &args.stop.containers, |scope, member| {
        let timeout = flags::seconds("--time", args.stop.time).unwrap_or_default();
        scope.engine.restart(&member.spec.id, timeout, args.stop.signal.as_deref())
    })
}

/// Starts; with `-a` or `-i` one container, whose exit code is ours.
pub fn start(context: &Context, args: &Start) -> Outcome {
    if !args.attach && !args.interactive {
        return each(context, &args.containers, |scope, member| {
            scope.engine.start(&member.spec.id, StartOptions::default()).map(drop)
        });
    }
    let [name] = args.containers.as_slice() else {
        return Err(Mistake::usage("only one container can be attached to at once").into());
    };
    let scope = context.in_scope()?;
    let member = scope.container(name)?;
    let stdin = args.interactive && member.spec.process.stdin_open;
    let wish = SessionWish { keys: args.detach_keys.as_deref(), stdin, forward_signals: true };
    session_of(&scope.engine, &member.spec, wish, |size| {
        let options = StartOptions { attach: AttachMode::Blocking, size };
        match scope.engine.start(&member.spec.id, options)?.and_then(|started| started.attach) {
            Some(stream) => Ok(stream),
            None => Ok(crate::supervise::attach(scope.engine.store(), &member.spec.id)?),
        }
    })
}

/// Sends a signal.
pub fn kill(context: &Context, args: &Kill) -> Outcome {
    engine::signal::parse(&args.signal)?;
    each(context, &args.containers, |scope, member| {
        if !member.is_up() {
            return Err(engine::Error::NotRunning { name: member.spec.name.clone() });
        }
        scope.engine.kill(&member.spec.id, &args.signal)
    })
}

/// Freezes.
pub fn pause(context: &Context, args: &Pause) -> Outcome {
    each(context, &args.containers, |scope, member| scope.engine.pause(&member.spec.id))
}

/// Lets go on.
pub fn unpause(context: &Context, args: &Unpause) -> Outcome {
    each(context, &args.containers, |scope, member| scope.engine.unpause(&member.spec.id))
}

/// Removes.
pub fn remove(context: &Context, args: &Remove) -> Outcome {
    if !args.force {
        return each(context, &args.containers, |scope, member| {
            scope.engine.remove(&member.spec.id, false, args.volumes)
        });
    }
    // One that is gone is what `--force` asks for.
    let scope = context.in_scope()?;
    let names: Vec<String> = args.containers.iter().filter(|name| scope.container(name).is_ok()).cloned().collect();
    drop(scope);
    if names.is_empty() {
        return Ok(0);
    }
    each(context, &names, |scope, member| scope.engine.remove(&member.spec.id, true, args.volumes))
}

/// Renames.
pub fn rename(context: &Context, args: &Rename) -> Outcome {
    let scope = context.in_scope()?;
    let member = scope.container(&args.container)?;
    scope.engine.rename(&member.spec.id, &args.new_name)?;
    Ok(0)
}

/// Waits for each in turn.
pub fn wait(context: &Context, args: &Wait) -> Outcome {
    let scope = context.in_scope()?;
    let mut out = context.output();
    let mut errors: Vec<Box<dyn Explain>> = Vec::new();
    for name in &args.containers {
        match scope.container(name) {
            Ok(member) => {
                writeln!(out, "{}", scope.engine.wait(&member.spec.id)?)?;
                out.flush()?;
            }
            Err(Failure::Error(error)) => errors.push(error),
            Err(other) => return Err(other),
        }
    }
    if errors.is_empty() { Ok(0) } else { Err(Failure::Errors(errors)) }
}
