//! `build --check`: what the Dockerfile's rules have to say, as BuildKit prints it.

use std::io::Write;

use crate::build::{self, BuildRequest};
use crate::cli::{Context, Outcome};

/// Checks the Dockerfile of a request and prints what was found.
pub fn run(context: &Context, request: &BuildRequest) -> Outcome {
    build::check(request)?;
    let mut out = context.output();
    writeln!(out, "Check complete, no warnings found.")?;
    out.flush()?;
    Ok(0)
}
