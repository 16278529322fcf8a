use crate::cli::project::{Targets, each};
use crate::cli::{Context, Outcome, flags};
use crate::graph::plan::Action;
use crate::graph::teardown;

/// Stop services or containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services of the project (all when none is named), or containers
    targets: Vec<String>,
    /// Seconds until SIGKILL, instead of the container's own
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
}

/// Stops containers, dependents first.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let timeout = flags::seconds("--timeout", args.timeout)?;
    let scope = context.in_scope()?;
    match context.targets(&scope, &args.targets)? {
        Targets::Services(project) => {
            let observed = scope.engine.observe(&project.name, None)?;
            let plan = teardown::stop(project.project(), &observed, &args.targets, timeout)?;
            context.carry_out(&scope.engine, project.project(), &plan)
        }
        Targets::Containers(members) => {
            let plan = each(&members, |member| Action::StopContainer {
                id: member.spec.id.clone(),
                name: member.spec.name.clone(),
                timeout,
            });
            context.carry_out(&scope.engine, None, &plan)
        }
    }
}
