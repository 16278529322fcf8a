//! `docker container prune`.

use std::io::Write;

use crate::base::units::format_bytes;
use crate::cli::prune::{self, Chosen};
use crate::cli::show::filter::Filters;
use crate::cli::{Context, Outcome};

/// Remove all stopped containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only those with this property: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Removes containers that do not run.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let chosen = Chosen::by(Filters::parse(&args.filter, &["label", "label!", "until"])?)?;
    if !args.force && !context.confirm("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let (removed, freed) = prune::containers(&context.engine()?, &chosen)?;
    let mut out = context.output();
    prune::tell(&mut out, "Containers", &removed)?;
    writeln!(out, "Total reclaimed space: {}", format_bytes(freed))?;
    out.flush()?;
    Ok(0)
}
