use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

use crate::base::fs::Context as _;
use crate::cli::{Context, Outcome};
use crate::engine;
use crate::image::{self, ImportOptions};

/// Make an image of a tar of a root file system
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The archive; `-` is standard input
    file: PathBuf,
    /// Name of the image
    reference: Option<String>,
    /// Dockerfile instruction for its config, such as 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Remark in its history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// `os/arch`
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

/// Imports; prints the image's id.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let reference = args.reference.as_deref().map(str::parse).transpose().map_err(engine::Error::from)?;
    let options = ImportOptions {
        reference,
        changes: args.change.clone(),
        message: args.message.clone(),
        platform: args.platform.clone(),
    };
    let engine = context.engine()?;
    let mut reader = open(&args.file)?;
    let image = image::import(engine.store(), reader.as_mut(), &options)?;
    let mut out = context.output();
    writeln!(out, "{}", image.id)?;
    out.flush()?;
    Ok(0)
}

/// Opens an archive; `-` is standard input.
pub fn open(file: &std::path::Path) -> Result<Box<dyn Read + Send>, crate::base::fs::Error> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    Ok(Box::new(File::open(file).context("open", file)?))
}
