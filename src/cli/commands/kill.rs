use crate::cli::project::{Targets, each};
use crate::cli::{Context, Outcome};
use crate::engine::signal;
use crate::graph::plan::Action;
use crate::graph::teardown;

/// Send a signal to services or containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services of the project (all when none is named), or containers
    targets: Vec<String>,
    /// The signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL")]
    signal: String,
    /// Also remove containers of services that the file does not have
    #[arg(long)]
    remove_orphans: bool,
}

/// Sends a signal.
pub fn run(context: &Context, args: &Args) -> Outcome {
    signal::parse(&args.signal)?;
    let scope = context.in_scope()?;
    match context.targets(&scope, &args.targets)? {
        Targets::Services(project) => {
            let observed = scope.engine.observe(&project.name, None)?;
            let mut plan = teardown::kill(project.project(), &observed, &args.targets, &args.signal)?;
            if args.remove_orphans {
                let known = |service: &str| {
                    project.project().is_some_and(|project| {
                        project.services.contains_key(service) || project.disabled_services.contains_key(service)
                    })
                };
                for container in observed.containers.iter().filter(|container| !known(&container.service)) {
                    let (id, name) = (container.id.clone(), container.name.clone());
                    plan.push(Action::RemoveContainer { id, name, volumes: false }, Vec::new(), "orphan");
                }
            }
            if plan.is_empty() {
                context.say("no container to kill");
                return Ok(0);
            }
            context.carry_out(&scope.engine, project.project(), &plan)
        }
        Targets::Containers(members) => {
            let plan = each(&members, |member| Action::KillContainer {
                id: member.spec.id.clone(),
                name: member.spec.name.clone(),
                signal: args.signal.clone(),
            });
            context.carry_out(&scope.engine, None, &plan)
        }
    }
}
