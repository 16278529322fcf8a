use crate::cli::project::Targets;
use crate::cli::{Context, Outcome, flags};
use crate::graph::plan::{Action, Plan, Target};
use crate::graph::teardown;

/// Restart services or containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services of the project (all when none is named), or containers
    targets: Vec<String>,
    /// Leave dependents alone, also those that asked to follow
    #[arg(long)]
    no_deps: bool,
    /// Seconds until SIGKILL, instead of the container's own
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
}

/// Stops and starts containers.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let timeout = flags::seconds("--timeout", args.timeout)?;
    let scope = context.in_scope_of(context.engine_with_launcher()?)?;
    let targets = context.targets(&scope, &args.targets)?;
    if let Targets::Services(project) = &targets
        && let Some(loaded) = &project.loaded
    {
        let project = &loaded.project;
        let observed = scope.engine.observe(&project.name, None)?;
        let plan = teardown::restart(project, &observed, &args.targets, args.no_deps, timeout)?;
        return context.carry_out(&scope.engine, Some(project), &plan);
    }
    let members = match targets {
        Targets::Containers(members) => members,
        Targets::Services(_) => scope.select(context, &args.targets)?,
    };
    let mut plan = Plan::default();
    for member in members {
        let (id, name) = (member.spec.id.clone(), member.spec.name.clone());
        let stop = Action::StopContainer { id: id.clone(), name: name.clone(), timeout };
        let stopped = plan.push(stop, Vec::new(), "restart");
        plan.push(Action::StartContainer { container: Target::Existing(id), name }, vec![stopped], "restart");
    }
    context.carry_out(&scope.engine, None, &plan)
}
