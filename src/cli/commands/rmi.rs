use std::io::Write;

use crate::cli::{Context, Failure, Outcome};
use crate::image::{self, Removed};

/// Remove images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids of images
    #[arg(required = true)]
    images: Vec<String>,
    /// Also an image with several names
    #[arg(short, long)]
    force: bool,
    /// Only the image for this `os/arch`, of one that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Keep images without a name below the removed one: there are none here
    #[arg(long, hide = true)]
    no_prune: bool,
}

/// Removes names, and images with their last one. Goes on after a failure and ends with the first.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let engine = context.engine()?;
    let mut out = context.output();
    let mut first_failure: Option<Failure> = None;
    for name in &args.images {
        match image::remove(engine.store(), name, args.platform.as_deref(), args.force) {
            Ok(removed) => {
                for removed in removed {
                    match removed {
                        Removed::Untagged(reference) => writeln!(out, "Untagged: {}", reference.familiar())?,
                        Removed::Deleted(id) => writeln!(out, "Deleted: {id}")?,
                    }
                }
            }
            // As with `rm -f`: what is not there needs no removing.
            Err(image::Error::Store(error)) if args.force && error.is_not_found() => context.warn(&error.to_string()),
            Err(error) if first_failure.is_some() => context.warn(&error.to_string()),
            Err(error) => first_failure = Some(error.into()),
        }
    }
    out.flush()?;
    first_failure.map_or(Ok(0), Err)
}
