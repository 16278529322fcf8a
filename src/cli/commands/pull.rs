use std::collections::BTreeSet;

use super::transfer::{self, Stream};
use crate::cli::{Context, Failure, Mistake, Outcome, flags};
use crate::engine::images::{ImageWish, PullPolicy};
use crate::graph::dependency::Graph;
use crate::graph::plan::Plan;
use crate::image::{self, Platforms};
use crate::model::project::{Project, Service};
use crate::model::reference::Reference;

/// Pull the images of services, or images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services; or images by name
    targets: Vec<String>,
    /// Leave out services that can be built
    #[arg(long)]
    ignore_buildable: bool,
    /// Go on when an image cannot be pulled
    #[arg(long)]
    ignore_pull_failures: bool,
    /// Also the services that these depend on
    #[arg(long)]
    include_deps: bool,
    /// missing or always
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "always",
        hide_default_value = true,
        hide_possible_values = true
    )]
    policy: Policy,
    /// Show nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// All tags of the repository, of images that are no service's
    #[arg(short, long)]
    all_tags: bool,
    #[arg(long, hide = true)]
    parallel: bool,
    #[arg(long, hide = true)]
    no_parallel: bool,
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    /// `os/arch` of images that are no service's; several with commas between
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// All platforms of images that are no service's
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Policy {
    Missing,
    Always,
}

impl Args {
    fn platforms(&self) -> Platforms {
        match self.platform.as_slice() {
            _ if self.all_platforms => Platforms::All,
            [] => Platforms::one(flags::default_platform().as_deref()),
            several => Platforms::Of(several.to_vec()),
        }
    }
}

/// Pulls images in parallel.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let loaded = match context.project_in_scope(&[])?.and_then(|project| project.loaded) {
        Some(loaded) => loaded,
        None if args.targets.is_empty() => context.load_project(&[])?,
        None => return pull_images(context, args),
    };
    let is_service = |name: &String| {
        loaded.project.services.contains_key(name) || loaded.project.disabled_services.contains_key(name)
    };
    if !args.targets.is_empty() && !args.targets.iter().any(is_service) {
        return pull_images(context, args);
    }
    let loaded = if args.targets.is_empty() { loaded } else { context.load_project(&args.targets)? };
    pull_services(context, args, &loaded.project)
}

fn pull_services(context: &Context, args: &Args, project: &Project) -> Outcome {
    let names: BTreeSet<&str> = Graph::of(project)?.select(project, &args.targets, !args.include_deps)?;
    let (buildable, pullable): (Vec<&Service>, Vec<&Service>) = project
        .services
        .values()
        .filter(|service| names.contains(service.name.as_str()))
        .partition(|service| service.build.is_some());
    if !buildable.is_empty() && !args.ignore_buildable && !args.quiet {
        let names: Vec<&str> = buildable.iter().map(|service| service.name.as_str()).collect();
        context.say(&format!("built, not pulled: {} (`wharf build` builds)", names.join(", ")));
    }
    let policy = if args.policy == Policy::Always { PullPolicy::Always } else { PullPolicy::Missing };
    let wish = ImageWish { pull: Some(policy), no_build: true, ..ImageWish::default() };
    let engine = context.engine()?;
    if context.global.dry_run {
        let mut plan = Plan::default();
        plan.prepend(engine.plan_images(project, &pullable, &wish)?);
        return context.print_plan(&plan);
    }
    let reporter = context.reporter_unless(args.quiet, "Pulling");
    let pulled = context.perform_transfer(reporter, Some(project), |execution| {
        engine.ensure_images(project, &pullable, &wish, execution.progress)
    });
    match pulled {
        Err(failure) if args.ignore_pull_failures => failure.ignored(context)?,
        pulled => pulled?,
    }
    Ok(0)
}

/// Pulls images by name, as `docker pull` does.
fn pull_as_docker(context: &Context, args: &Args, names: &[String]) -> Outcome {
    let engine = context.engine()?;
    for name in names {
        transfer::pull(context, &engine, name, args.platforms(), args.quiet, Stream::Stdout)?;
        if !args.all_tags {
            let reference: Reference = name.parse().map_err(crate::engine::Error::from)?;
            Stream::Stdout.line(&reference.canonical());
        }
    }
    if let Some(first) = args.targets.first().filter(|_| args.all_tags) {
        let reference: Reference = first.parse().map_err(crate::engine::Error::from)?;
        Stream::Stdout.line(&format!("{}/{}", reference.registry, reference.repository));
    }
    Ok(0)
}

/// The names of all tags of the repositories.
fn all_tags(args: &Args) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for name in &args.targets {
        let reference: Reference = name.parse().map_err(crate::engine::Error::from)?;
        if reference.digest.is_some() || name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
            return Err(Mistake::usage("tag can't be used with --all-tags/-a").into());
        }
        let repository = format!("{}/{}", reference.registry, reference.repository);
        names.extend(image::tags(&reference)?.into_iter().map(|tag| format!("{repository}:{tag}")));
    }
    Ok(names)
}

/// Pulls images by name.
pub fn pull_images(context: &Context, args: &Args) -> Outcome {
    if args.targets.is_empty() {
        return Err(Mistake::usage("name the images to pull").into());
    }
    let names = if args.all_tags { all_tags(args)? } else { args.targets.clone() };
    if context.docker {
        return pull_as_docker(context, args, &names);
    }
    let references: Vec<Reference> =
        names.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(crate::engine::Error::from)?;
    let engine = context.engine()?;
    let reporter = context.reporter_unless(args.quiet, "Pulling");
    context.perform_transfer(reporter, None, |execution| {
        for reference in &references {
            let policy = if args.policy == Policy::Always { PullPolicy::Always } else { PullPolicy::Missing };
            engine.pull(reference, policy, args.platforms(), execution.progress)?;
        }
        Ok(())
    })?;
    Ok(0)
}
