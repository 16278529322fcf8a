use std::collections::BTreeSet;

use super::{build_check, build_print};
use crate::cli::{Context, Outcome, flags};
use crate::engine::images::ImageWish;
use crate::graph::dependency::Graph;
use crate::graph::plan::{Action, Plan};
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
    /// Push the images, too
    #[arg(long)]
    push: bool,
    /// Agent or key for RUN steps: default, or ID[=SOCKET|KEY]
    #[arg(long, value_name = "ID[=PATH]", num_args = 0..=1, default_missing_value = "default")]
    ssh: Vec<String>,
    /// Check the Dockerfiles, build nothing
    #[arg(long)]
    check: bool,
    /// Print what would be built as a file for `docker buildx bake`, build nothing
    #[arg(long)]
    print: bool,
    #[arg(long, hide = true)]
    builder: Option<String>,
    #[arg(short, long, hide = true)]
    memory: Option<String>,
    #[arg(long, hide = true)]
    provenance: Option<String>,
    #[arg(long, hide = true)]
    sbom: Option<String>,
    #[arg(long, hide = true)]
    parallel: bool,
    #[arg(long, hide = true)]
    progress: Option<crate::cli::progress::Mode>,
    #[arg(long, hide = true)]
    compress: bool,
    #[arg(long, hide = true)]
    force_rm: bool,
    #[arg(long, hide = true)]
    no_rm: bool,
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
    let wish = ImageWish {
        build: true,
        no_cache: args.no_cache,
        pull_base: args.pull,
        build_args: flags::environment(&args.build_arg),
        ssh: args.ssh.clone(),
        all_platforms: true,
        ..ImageWish::default()
    };
    if args.memory.is_some() {
        context.warn("--memory has no effect on builds: limit their RUN steps with build.ulimits");
    }
    if args.print {
        return build_print::run(context, project, &services, &wish, args.check, args.push);
    }
    let engine = context.engine()?;
    if args.check {
        return build_check::run_services(context, &engine, project, &services, &wish);
    }
    let mut pushes = Plan::default();
    for service in services.iter().filter(|_| args.push) {
        for image in service.image.iter().chain(service.build.iter().flat_map(|build| &build.tags)) {
            pushes.push(Action::PushImage { image: image.clone() }, Vec::new(), "--push");
        }
    }
    if context.global.dry_run {
        pushes.prepend(engine.plan_images(project, &services, &wish)?);
        return context.print_plan(&pushes);
    }
    let reporter = context.reporter_unless(args.quiet, "Building");
    context.perform_transfer(reporter, Some(project), |execution| {
        engine.ensure_images(project, &services, &wish, execution.progress)?;
        engine.execute(&pushes, execution)
    })?;
    Ok(0)
}
