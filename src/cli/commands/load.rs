use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use crate::cli::{Context, Mistake, Outcome};
use crate::image;

/// Load the images of an archive (docker save, OCI layout)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive; standard input when left out
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Only the image for this `os/arch`, of one that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Print only names
    #[arg(short, long)]
    quiet: bool,
}

/// Loads; prints the names.
pub fn run(context: &Context, args: &Args) -> Outcome {
    if args.input.is_none() && std::io::stdin().is_terminal() {
        return Err(Mistake::usage("`wharf load` needs an archive: -i FILE, or standard input").into());
    }
    let engine = context.engine()?;
    let mut reader = super::import::open(args.input.as_deref().unwrap_or(std::path::Path::new("-")))?;
    let reporter = context.reporter_unless(args.quiet, "Loading");
    let loaded = image::load(engine.store(), reader.as_mut(), args.platform.as_deref(), &reporter);
    reporter.finish();
    let mut out = context.output();
    for loaded in loaded? {
        for reference in &loaded.references {
            writeln!(out, "Loaded image: {}", reference.familiar())?;
        }
        if loaded.references.is_empty() {
            for image in &loaded.images {
                writeln!(out, "Loaded image ID: {}", image.id)?;
            }
        }
    }
    out.flush()?;
    Ok(0)
}
