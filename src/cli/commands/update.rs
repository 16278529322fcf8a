use std::io::Write;

use crate::cli::flags::container::parse_restart;
use crate::cli::flags::limits::LimitFlags;
use crate::cli::{Context, Failure, Mistake, Outcome};

/// Change limits and restart policy of containers, while they run or for their next start
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    #[command(flatten)]
    limits: LimitFlags,
    /// no, always, on-failure[:N] or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
}

/// Changes them one after the other and prints their names.
pub fn run(context: &Context, args: &Args) -> Outcome {
    if args.limits.is_empty() && args.restart.is_none() {
        return Err(Mistake::usage("say what to change: --memory, --cpus, --restart, …").into());
    }
    let restart = args.restart.as_deref().map(parse_restart).transpose()?;
    let scope = context.in_scope()?;
    let mut out = context.output();
    for name in &args.containers {
        let member = scope.container(name)?;
        // A wrong flag is found here; then what the container has at that moment is changed.
        args.limits.apply(&mut member.spec.resources.clone()).map_err(Failure::from)?;
        scope.engine.update(&member.spec.id, |resources| drop(args.limits.apply(resources)), restart)?;
        writeln!(out, "{name}")?;
        out.flush()?;
    }
    Ok(0)
}
