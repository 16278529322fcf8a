use crate::cli::{Context, Outcome, flags};
use crate::graph::teardown::{self, Down, Images};

/// Stop and remove the project's containers and networks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services
    services: Vec<String>,
    /// Also containers of services that the file does not have
    #[arg(long)]
    remove_orphans: bool,
    /// Also images: local (those without a name of their own) or all
    #[arg(long, value_name = "WHICH", hide_possible_values = true)]
    rmi: Option<Rmi>,
    /// Seconds until SIGKILL, instead of the containers' own
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// Also volumes: those of the file and anonymous ones
    #[arg(short, long)]
    volumes: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Rmi {
    Local,
    All,
}

/// Takes the project down.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let timeout = flags::seconds("--timeout", args.timeout)?;
    let engine = context.engine()?;
    let project = match context.project_in_scope(&args.services)? {
        Some(project) => project,
        // Says that there is no file.
        None => {
            context.load_project(&[])?;
            return Ok(0);
        }
    };
    let environment = project.project().map(|project| &project.environment);
    let wish = Down {
        services: args.services.clone(),
        volumes: args.volumes,
        remove_orphans: args.remove_orphans
            || environment.is_some_and(|environment| flags::switch(environment, "COMPOSE_REMOVE_ORPHANS")),
        images: match args.rmi {
            None => Images::Keep,
            Some(Rmi::Local) => Images::Local,
            Some(Rmi::All) => Images::All,
        },
        timeout,
    };
    let mut plan = teardown::down(project.project(), &engine.observe(&project.name, None)?, &wish);
    if environment.is_some_and(|environment| flags::switch(environment, "COMPOSE_IGNORE_ORPHANS")) {
        plan.warnings.clear();
    }
    if plan.is_empty() && !context.global.dry_run {
        for warning in &plan.warnings {
            context.warn(warning);
        }
        context.warn(&format!("project {} has nothing to take down", project.name));
        return Ok(0);
    }
    context.carry_out(&engine, project.project(), &plan)
}
