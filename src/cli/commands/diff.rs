use std::io::Write;

use crate::cli::{Context, Outcome};
use crate::engine::diff::ChangeKind;

/// Show what a container changed in its files: A added, C changed, D deleted
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A service of the project, or a container
    container: String,
    /// Which replica of the service
    #[arg(long, value_name = "N")]
    index: Option<u32>,
}

/// Prints the changes, one a line.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scope = context.in_scope()?;
    let member = scope.one(context, &args.container, args.index)?;
    let mut out = context.output();
    for change in scope.engine.diff(&member.spec.id)? {
        let letter = match change.kind {
            ChangeKind::Added => "A",
            ChangeKind::Changed => "C",
            ChangeKind::Deleted => "D",
        };
        writeln!(out, "{letter} {}", change.path.display())?;
    }
    out.flush()?;
    Ok(0)
}
