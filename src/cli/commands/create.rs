use super::up::Creation;
use crate::cli::{Context, Outcome};
use crate::engine::up::Up;
use crate::graph::converge::Wish;

/// Create the containers of services, without starting them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services and what they depend on
    services: Vec<String>,
    #[command(flatten)]
    creation: Creation,
}

/// Creates containers.
pub fn run(context: &Context, args: &Args) -> Outcome {
    args.creation.check()?;
    let loaded = context.required_project(&args.services)?;
    let project = &loaded.project;
    let (wish, images) = args.creation.wishes(&args.services, project)?;
    let dry_run = context.global.dry_run;
    let up = Up { wish: Wish { no_start: true, ..wish }, images, dry_run, ..Up::default() };
    let engine = context.engine_with_launcher()?;
    let plan = context.perform_with_images(
        context.reporter("Running"),
        project,
        |progress| engine.get_images(project, &up, progress),
        |execution| engine.up(project, &up, execution.progress, execution.cancelled, None),
    )?;
    if dry_run { context.print_plan(&plan) } else { Ok(0) }
}
