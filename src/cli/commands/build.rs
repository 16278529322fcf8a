use std::collections::BTreeSet;

use crate::cli::{Context, Mistake, Outcome, flags};
use crate::engine::images::ImageWish;
use crate::graph::dependency::Graph;
use crate::model::project::Service;

/// Build the images of services
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services
    services: Vec<String>,
    /// Build argument, above the file's
    #[arg(long, value_name = "KEY[=VALUE]")]
    build_arg: Vec<String>,
    /// Run every step again
    #[arg(long)]
    no_cache: bool,
    /// Get the newest base images
    #[arg(long)]
    pull: bool,
    /// Show nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// Also the services that these depend on
    #[arg(long)]
    with_dependencies: bool,
}

/// Builds images, those of different services in parallel.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let loaded = context.required_project(&args.services)?;
    let project = &loaded.project;
    let names: BTreeSet<&str> = Graph::of(project)?.select(project, &args.services, !args.with_dependencies)?;
    let services: Vec<&Service> = project
        .services
        .values()
        .filter(|service| names.contains(service.name.as_str()) && service.build.is_some())
        .collect();
    if services.is_empty() {
        context.warn("no service to build");
        return Ok(0);
    }
    if context.global.dry_run {
        let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
        return Err(Mistake::usage(format!(
            "a build cannot be tried without doing it; it would build {}",
            names.join(", ")
        ))
        .into());
    }
    let wish = ImageWish {
        build: true,
        no_cache: args.no_cache,
        pull_base: args.pull,
        build_args: flags::environment(&args.build_arg),
        ..ImageWish::default()
    };
    let engine = context.engine()?;
    let reporter = context.reporter_unless(args.quiet, "Building");
    context.perform_transfer(reporter, Some(project), |execution| {
        engine.ensure_images(project, &services, &wish, execution.progress)
    })?;
    Ok(0)
}
