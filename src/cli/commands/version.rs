use std::io::Write;

use crate::cli::{Context, Outcome};

/// Show the version
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output: pretty or json
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty", hide_default_value = true)]
    format: Format,
    /// Only the number
    #[arg(long)]
    short: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Pretty,
    Json,
}

/// Prints the version.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let mut out = context.output();
    match (args.short, args.format) {
        (true, _) => writeln!(out, "{version}")?,
        (false, Format::Json) => writeln!(out, "{}", serde_json::json!({ "version": version }))?,
        (false, Format::Pretty) => writeln!(out, "wharf version {version}")?,
    }
    out.flush()?;
    Ok(0)
}
