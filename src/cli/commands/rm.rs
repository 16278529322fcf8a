use std::io::{IsTerminal, Write};

use crate::cli::members::Member;
use crate::cli::project::{Targets, each};
use crate::cli::{Context, Failure, Outcome};
use crate::engine;
use crate::graph::plan::{Action, Plan};
use crate::graph::teardown;

/// Remove stopped containers of services, or containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services of the project (all when none is named), or containers
    targets: Vec<String>,
    /// Do not ask; containers that were named also while they run
    #[arg(short, long)]
    force: bool,
    /// Stop them first
    #[arg(short, long)]
    stop: bool,
    /// Also their anonymous volumes
    #[arg(short, long)]
    volumes: bool,
    #[arg(short, long, hide = true)]
    all: bool,
}

/// Removes containers.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scope = context.in_scope()?;
    let (project, plan) = match context.targets(&scope, &args.targets)? {
        Targets::Services(project) => {
            let observed = scope.engine.observe(&project.name, None)?;
            let plan = teardown::remove(project.project(), &observed, &args.targets, args.stop, args.volumes)?;
            if plan.is_empty() {
                context.say("no stopped containers");
                return Ok(0);
            }
            if !args.force && !context.global.dry_run && !confirm(&plan)? {
                return Ok(0);
            }
            (Some(project), plan)
        }
        Targets::Containers(members) => (None, plan_of(&members, args)?),
    };
    context.carry_out(&scope.engine, project.as_ref().and_then(|project| project.project()), &plan)
}

fn plan_of(members: &[&Member], args: &Args) -> Result<Plan, Failure> {
    if let Some(running) = members.iter().find(|member| member.is_up() && !args.force && !args.stop) {
        return Err(engine::Error::StillRunning { name: running.spec.name.clone() }.into());
    }
    Ok(each(members, |member| Action::RemoveContainer {
        id: member.spec.id.clone(),
        name: member.spec.name.clone(),
        volumes: args.volumes,
    }))
}

/// Asks, as Compose does; without a terminal the answer is read as well.
fn confirm(plan: &Plan) -> Result<bool, Failure> {
    let names: Vec<String> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::RemoveContainer { name, .. } => Some(name.clone()),
            _ => None,
        })
        .collect();
    let mut err = std::io::stderr().lock();
    write!(err, "Going to remove {}\nAre you sure? [yN] ", names.join(", "))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !std::io::stdin().is_terminal() {
        writeln!(err)?;
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
