//! `docker container prune`.

use std::io::Write;

use crate::base::units::format_bytes;
use crate::cli::show::filter::{Filters, age_limit};
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
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    let until = age_limit(&filters)?;
    if !args.force && !context.confirm("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let scope = context.in_scope()?;
    let mut out = context.output();
    let (mut removed, mut freed) = (Vec::new(), 0);
    for member in scope.all() {
        let is_old = until.is_none_or(|until| member.spec.created < until);
        if !member.is_up() && is_old && filters.accept_labels(&member.spec.labels) {
            freed += crate::base::fs::tree_bytes(&scope.engine.store().containers().upper_folder(&member.spec.id));
            scope.engine.remove(&member.spec.id, false, false)?;
            removed.push(member.spec.id.as_str());
        }
    }
    if !removed.is_empty() {
        writeln!(out, "Deleted Containers:\n{}\n", removed.join("\n"))?;
    }
    writeln!(out, "Total reclaimed space: {}", format_bytes(freed))?;
    out.flush()?;
    Ok(0)
}
