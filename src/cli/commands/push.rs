use super::transfer::{self, Lines, Stream};
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
    /// Only the image for this `os/arch`, of one that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Print only names
    #[arg(short, long)]
    quiet: bool,
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

impl Args {
    /// The same as typed.
    pub(super) fn of(images: &[String], all_tags: bool, quiet: bool) -> Self {
        Self { images: images.to_vec(), all_tags, platform: None, quiet, disable_content_trust: false }
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
        let here = engine.store().images().meanings()?.into_iter().map(|(known, _)| known);
        wanted.extend(here.filter(|known| {
            known.digest.is_none()
                && (&known.registry, &known.repository) == (&reference.registry, &reference.repository)
        }));
    }
    // Not locked while the layers' lines come from another thread.
    let say = |text: &str| Stream::Stdout.line(text);
    for reference in &wanted {
        let typed_tag = args.images.iter().any(|name| name.rsplit('/').next().is_some_and(|last| last.contains(':')));
        if !args.quiet && !args.all_tags && !typed_tag {
            say("Using default tag: latest");
        }
        if !args.quiet {
            let repository = format!("{}/{}", reference.registry, reference.repository);
            say(&format!("The push refers to repository [{repository}]"));
        }
        let lines = Lines::new(Stream::Stdout);
        let is_in_lines = context.docker && !args.quiet && !transfer::is_live(context);
        let reporter = context.reporter_unless(args.quiet || is_in_lines, "Pushing");
        let pushed = context.perform_transfer(reporter, None, |execution| {
            let progress = if is_in_lines { &lines } else { execution.progress };
            Ok(image::push(engine.store(), reference, args.platform.as_deref(), progress)?)
        })?;
        if args.quiet {
            say(&format!("{reference}"));
        } else {
            let tag = reference.tag.as_deref().unwrap_or("latest");
            say(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size_bytes));
        }
    }
    Ok(0)
}
