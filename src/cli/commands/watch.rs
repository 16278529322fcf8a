use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};

use crate::cli::signals::{self, Signals};
use crate::cli::watching::Screen;
use crate::cli::{Context, Mistake, Outcome, flags};
use crate::engine::up::Up;
use crate::graph::converge::Wish;
use crate::model::project::Project;
use crate::watch::{Options, Stop, Watch};

/// Bring services up and keep them as the files say: sync, rebuild, restart
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services and what they depend on
    services: Vec<String>,
    /// Neither build nor start services first
    #[arg(long)]
    no_up: bool,
    /// Remove the images that a rebuild replaced (on; off: --prune=false)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true, action = clap::ArgAction::Set)]
    prune: bool,
    /// Show nothing of builds
    #[arg(long)]
    quiet: bool,
}

/// Watches until Ctrl-C; the containers stay.
pub fn run(context: &Context, args: &Args) -> Outcome {
    if context.global.dry_run {
        return Err(Mistake::usage("--dry-run cannot be used with watch: it does what happens next").into());
    }
    let loaded = context.required_project(&args.services)?;
    let engine = context.engine_with_launcher()?;
    let options = Options {
        services: args.services.clone(),
        prune: args.prune,
        existing_only: args.no_up,
        ..flags::watch_options(&loaded.project)
    };
    let watch = Watch::new(&engine, &loaded, options)?;
    if !args.no_up {
        let project = with_builds(&loaded.project);
        let wish = Wish { services: args.services.clone(), ..Wish::default() };
        let up = Up { wish, ..Up::default() };
        let reporter = context.reporter_unless(args.quiet, "Running");
        let images = |progress: &crate::cli::progress::Reporter| engine.get_images(&project, &up, progress);
        context.perform_with_images(reporter, &project, images, |execution| {
            engine.up(&project, &up, execution.progress, execution.cancelled, None)
        })?;
    }
    let signals = Signals::block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
    let system = |operation| move |source: std::io::Error| Mistake::System { operation, source };
    let stop = Stop::new().map_err(|errno| system("make an event descriptor")(errno.into()))?;
    let (finished, finish) = std::io::pipe().map_err(system("make a pipe"))?;
    let screen = Screen { context, services: &args.services, quiet: args.quiet, starting: None };
    let (screen, stop) = (&screen, &stop);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let result = watch.run(screen, stop);
            // Its end is what the loop waits for.
            drop(finish);
            result
        });
        loop {
            let mut fds = [PollFd::new(&signals, PollFlags::IN), PollFd::new(&finished, PollFlags::IN)];
            let _interrupted = poll(&mut fds, None);
            while let Some(signal) = signals.next() {
                if stop.is_set() || stop.is_building() {
                    // A pull or a build under way is left where it is: the next command goes on from there.
                    signals::end_now(signal);
                }
                stop.set();
            }
            if !fds[1].revents().is_empty() {
                break;
            }
        }
        match watcher.join() {
            Ok(Ok(())) => {
                context.say("Watch disabled");
                Ok(signals::INTERRUPTED)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The project with its watched services built anew: what was changed while nobody watched belongs in their images.
fn with_builds(project: &Project) -> Project {
    let mut project = project.clone();
    for service in project.services.values_mut() {
        if service.build.is_some() && service.develop.is_some() {
            service.pull_policy = Some("build".into());
        }
    }
    project
}
