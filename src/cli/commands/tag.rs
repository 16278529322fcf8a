use crate::cli::{Context, Outcome};
use crate::model::reference::Reference;
use crate::{engine, image};

/// Give an image another name
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id of the image
    source: String,
    /// The new name
    target: String,
}

/// Names an image.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let target: Reference = args.target.parse().map_err(engine::Error::from)?;
    let engine = context.engine()?;
    image::tag(engine.store(), &args.source, &target)?;
    Ok(0)
}
