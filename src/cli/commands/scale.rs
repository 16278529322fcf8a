use crate::cli::{Context, Outcome, flags};
use crate::engine::up::Up;
use crate::graph::converge::Wish;
use crate::graph::dependency;

/// Set the number of containers of services
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service and number, as web=3
    #[arg(required = true, value_name = "SERVICE=N")]
    scale: Vec<String>,
    /// Leave the services that these depend on alone
    #[arg(long)]
    no_deps: bool,
}

/// Brings the services to these numbers.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scale = flags::scale(&args.scale)?;
    let services: Vec<String> = scale.keys().cloned().collect();
    let loaded = context.required_project(&[])?;
    let project = &loaded.project;
    if let Some(name) = services.iter().find(|name| !project.services.contains_key(*name)) {
        return Err(dependency::unknown(project, name).into());
    }
    let dry_run = context.global.dry_run;
    let wish = Wish { services, scale, no_deps: args.no_deps, ..Wish::default() };
    let up = Up { wish, dry_run, ..Up::default() };
    let engine = context.engine_with_launcher()?;
    let plan = context.perform_with_images(
        context.reporter("Running"),
        project,
        |progress| engine.get_images(project, &up, progress),
        |execution| engine.up(project, &up, execution.progress, execution.cancelled, None),
    )?;
    if dry_run { context.print_plan(&plan) } else { Ok(0) }
}
