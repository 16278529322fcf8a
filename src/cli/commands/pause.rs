use crate::cli::members::Member;
use crate::cli::{Context, Outcome};
use crate::engine::{self, Engine};
use crate::model::container::Status;
use crate::model::event::Progress;

/// Freeze the processes of services or containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services of the project (all when none is named), or containers
    targets: Vec<String>,
}

/// Freezes containers that run.
pub fn run(context: &Context, args: &Args) -> Outcome {
    act(context, args, Status::Running, Engine::pause, "Pausing", "Paused")
}

/// Freezes or unfreezes those that are in the state for it.
pub fn act(
    context: &Context,
    args: &Args,
    from: Status,
    verb: impl Fn(&Engine, &crate::base::id::ContainerId) -> engine::Result<()>,
    doing: &str,
    done: &str,
) -> Outcome {
    let scope = context.in_scope()?;
    let members: Vec<&Member> = scope
        .select(context, &args.targets)?
        .into_iter()
        .filter(|member| !args.targets.is_empty() || member.state.status == from)
        .collect();
    let verb_of =
        |member: &&Member| format!("{} container {}", doing.to_lowercase().replace("ing", "e"), member.spec.name);
    if context.only_says(members.iter().map(verb_of))? {
        return Ok(0);
    }
    let reporter = context.reporter("Running");
    for member in members {
        let resource = format!("Container {}", member.spec.name);
        reporter.working(&resource, doing);
        verb(&scope.engine, &member.spec.id)?;
        reporter.done(&resource, done);
    }
    reporter.finish();
    Ok(0)
}
