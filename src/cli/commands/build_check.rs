//! `build --check`: what the Dockerfile's rules have to say, as BuildKit prints it.

use std::io::Write;

use crate::build::{self, BuildRequest};
use crate::cli::{Context, Outcome};

/// Checks the Dockerfile of a request and prints what was found.
///
/// Docker ends with 1 when there is a warning. Ours does when the Dockerfile asks for it (`# check=error=true`), so
/// that a check can stand in a pipeline before a build that would succeed.
pub fn run(context: &Context, request: &BuildRequest) -> Outcome {
    let checked = build::check(request)?;
    let mut out = context.output();
    match checked.found.len() {
        0 => writeln!(out, "Check complete, no warnings found.")?,
        1 => writeln!(out, "Check complete, 1 warning has been found!")?,
        count => writeln!(out, "Check complete, {count} warnings have been found!")?,
    }
    for (excerpt, warning) in &checked.found {
        writeln!(out, "\nWARNING: {} - {}", warning.rule.name(), warning.rule.url())?;
        write!(out, "{}\n{excerpt}", warning.detail)?;
    }
    out.flush()?;
    if let Some(rules) = checked.violation {
        return Err(build::Error::Lint { rules }.into());
    }
    Ok(u8::from(context.docker && !checked.found.is_empty()))
}
