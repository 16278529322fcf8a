use std::time::{Duration, Instant};

use crate::cli::project::{Targets, each};
use crate::cli::{Context, Outcome};
use crate::graph::observed::Observed;
use crate::graph::plan::{Action, Target};
use crate::graph::{converge, teardown};
use crate::model::project::{Project, Service};

/// Start services or containers that exist
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services of the project (all when none is named), or containers
    targets: Vec<String>,
    /// Return once they run, or are healthy where they have a health check
    #[arg(long)]
    wait: bool,
    /// Longest time for that in seconds
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
}

/// Starts containers, dependencies first.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scope = context.in_scope_of(context.engine_with_launcher()?)?;
    let targets = context.targets(&scope, &args.targets)?;
    if let Targets::Services(project) = &targets
        && let Some(loaded) = &project.loaded
    {
        let project = &loaded.project;
        let observed = scope.engine.observe(&project.name, None)?;
        if let Some(service) = without_container(project, &observed, &args.targets) {
            return Err(crate::engine::Error::NoContainer { service: service.to_owned() }.into());
        }
        let plan = teardown::start(project, &observed, &args.targets)?;
        let code = context.carry_out(&scope.engine, Some(project), &plan)?;
        if args.wait && !context.global.dry_run {
            wait(context, args, &scope.engine, project)?;
        }
        return Ok(code);
    }
    let members = match targets {
        Targets::Containers(members) => members,
        Targets::Services(_) => scope.select(context, &args.targets)?,
    };
    let plan = each(&members, |member| Action::StartContainer {
        container: Target::Existing(member.spec.id.clone()),
        name: member.spec.name.clone(),
    });
    context.carry_out(&scope.engine, None, &plan)
}

/// A named service without a container; when none is named, any service of a project without containers.
fn without_container<'a>(project: &'a Project, observed: &Observed, names: &'a [String]) -> Option<&'a str> {
    let has_none =
        |service: &Service| converge::replicas(service) > 0 && observed.of_service(&service.name).next().is_none();
    if names.is_empty() && observed.containers.iter().any(|container| !container.oneoff) {
        return None;
    }
    let mut services = project.services.values().filter(|s| names.is_empty() || names.contains(&s.name));
    services.find(|service| has_none(service)).map(|service| service.name.as_str())
}

/// Waits for the named services, or for all.
fn wait(
    context: &Context,
    args: &Args,
    engine: &crate::engine::Engine,
    project: &crate::model::project::Project,
) -> Result<(), crate::cli::Failure> {
    let names = project.services.keys().map(String::as_str);
    let names = names.filter(|name| args.targets.is_empty() || args.targets.iter().any(|target| target == name));
    let names = names.collect();
    let deadline = args.wait_timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    context.perform(context.reporter("Running"), Some(project), |execution| {
        engine.wait_for_services(project, &names, deadline, execution.progress, execution.cancelled)
    })
}
