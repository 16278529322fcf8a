use super::pause;
use crate::cli::{Context, Outcome};
use crate::engine::Engine;
use crate::model::container::Status;

/// Let frozen services or containers go on
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    targets: pause::Args,
}

/// Lets frozen containers go on.
pub fn run(context: &Context, args: &Args) -> Outcome {
    pause::act(context, &args.targets, Status::Paused, Engine::unpause, "Unpausing", "Unpaused")
}
