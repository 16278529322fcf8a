use std::io::Write;

use crate::cli::{Context, Outcome};
use crate::engine;
use crate::image;
use crate::model::reference::Reference;

/// Push images to their registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// All tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Print only names
    #[arg(short, long)]
    quiet: bool,
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

impl Args {
    /// The same as typed.
    pub(super) fn of(images: &[String], all_tags: bool, quiet: bool) -> Self {
        Self { images: images.to_vec(), all_tags, quiet, disable_content_trust: false }
    }
}

/// Pushes; prints the digests.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let engine = context.engine()?;
    let mut wanted: Vec<Reference> = Vec::new();
    for name in &args.images {
        let reference: Reference = name.parse().map_err(engine::Error::from)?;
        if !args.all_tags {
            wanted.push(reference);
            continue;
        }
        let here = engine.store().images().list()?.into_iter().flat_map(|(_, references)| references);
        wanted.extend(here.filter(|known| {
            known.digest.is_none()
                && (&known.registry, &known.repository) == (&reference.registry, &reference.repository)
        }));
    }
    let mut out = context.output();
    for reference in &wanted {
        if !args.quiet {
            let repository = format!("{}/{}", reference.registry, reference.repository);
            writeln!(out, "The push refers to repository [{repository}]")?;
            out.flush()?;
        }
        let reporter = context.reporter_unless(args.quiet, "Pushing");
        let pushed = context.perform_transfer(reporter, None, |execution| {
            Ok(image::push(engine.store(), reference, execution.progress)?)
        })?;
        if args.quiet {
            writeln!(out, "{reference}")?;
        } else {
            let tag = reference.tag.as_deref().unwrap_or("latest");
            writeln!(out, "{tag}: digest: {} size: {}", pushed.digest, pushed.size_bytes)?;
        }
        out.flush()?;
    }
    Ok(0)
}
