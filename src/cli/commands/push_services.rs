use std::collections::BTreeSet;

use crate::cli::{Context, Outcome};
use crate::graph::dependency::Graph;
use crate::graph::plan::{Action, Plan};
use crate::model::project::Project;

use super::push;

/// Push the images of services, or images
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services; or images by name
    targets: Vec<String>,
    /// Go on when an image cannot be pushed
    #[arg(long)]
    ignore_push_failures: bool,
    /// Also the services that these depend on
    #[arg(long)]
    include_deps: bool,
    /// All tags of the repository, of images that are no service's
    #[arg(short, long)]
    all_tags: bool,
    /// Show nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// Pushes images in parallel.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let project = context.project_in_scope(&[])?.and_then(|project| project.loaded);
    let is_service = |project: &Project, name: &String| {
        project.services.contains_key(name) || project.disabled_services.contains_key(name)
    };
    match &project {
        Some(loaded)
            if args.targets.is_empty() || args.targets.iter().any(|name| is_service(&loaded.project, name)) =>
        {
            let loaded = context.load_project(&args.targets)?;
            push_services(context, args, &loaded.project)
        }
        None if args.targets.is_empty() => context.load_project(&[]).map(|_| 0),
        _ => push::run(context, &push::Args::of(&args.targets, args.all_tags, args.quiet)),
    }
}

/// Those that are built here and have a name of their own; as Compose has it, the others are somebody else's.
fn push_services(context: &Context, args: &Args, project: &Project) -> Outcome {
    let names: BTreeSet<&str> = Graph::of(project)?.select(project, &args.targets, !args.include_deps)?;
    let mut plan = Plan::default();
    let mut seen = BTreeSet::new();
    for service in project.services.values().filter(|service| names.contains(service.name.as_str())) {
        let (Some(build), Some(image)) = (&service.build, &service.image) else {
            if !args.quiet {
                context.say(&format!("{}: skipped, it is not built here or has no image name", service.name));
            }
            continue;
        };
        for image in std::iter::once(image).chain(&build.tags).filter(|image| seen.insert((*image).clone())) {
            plan.push(Action::PushImage { image: image.clone() }, Vec::new(), "asked for");
        }
    }
    if context.global.dry_run {
        return context.print_plan(&plan);
    }
    let engine = context.engine()?;
    let reporter = context.reporter_unless(args.quiet, "Pushing");
    let pushed = context.perform_transfer(reporter, Some(project), |execution| engine.execute(&plan, execution));
    match pushed {
        Err(failure) if args.ignore_push_failures => failure.ignored(context)?,
        pushed => pushed?,
    }
    Ok(0)
}
