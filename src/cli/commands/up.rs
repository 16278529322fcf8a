use std::collections::BTreeSet;

use crate::cli::output::printer::Look;
use crate::cli::session::{Abort, Attached};
use crate::cli::{Context, Failure, Mistake, Outcome, flags, menu};
use crate::engine::images::{ImageWish, PullPolicy};
use crate::engine::up::Up;
use crate::graph::converge::{Recreate, Wish};
use crate::graph::dependency;
use crate::model::project::Project;
use crate::watch::Watch;

/// Build, create and start the project's services
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services and what they depend on
    services: Vec<String>,
    /// Leave them in the background
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    creation: Creation,
    /// Create, do not start
    #[arg(long)]
    no_start: bool,
    /// Leave the services that these depend on alone
    #[arg(long)]
    no_deps: bool,
    /// Make containers anew also for the services that these depend on
    #[arg(long)]
    always_recreate_deps: bool,
    /// New anonymous volumes instead of those of the containers before
    #[arg(short = 'V', long)]
    renew_anon_volumes: bool,
    /// Stop all when the first container ends
    #[arg(long)]
    abort_on_container_exit: bool,
    /// Stop all when the first container fails
    #[arg(long)]
    abort_on_container_failure: bool,
    /// Stop all when a container of this service ends, and end with its exit code
    #[arg(long, value_name = "SERVICE")]
    exit_code_from: Option<String>,
    /// Show only the output of these services
    #[arg(long, value_name = "SERVICE")]
    attach: Vec<String>,
    /// Do not show the output of these services
    #[arg(long, value_name = "SERVICE")]
    no_attach: Vec<String>,
    /// Also show the output of the services that these depend on
    #[arg(long)]
    attach_dependencies: bool,
    /// Without colours
    #[arg(long)]
    no_color: bool,
    /// Without the container's name before each line
    #[arg(long)]
    no_log_prefix: bool,
    /// With the time of each line
    #[arg(long)]
    timestamps: bool,
    /// Seconds until SIGKILL when containers are stopped
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// Keys to press while attached to a terminal (default; also COMPOSE_MENU)
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    menu: Option<bool>,
    /// Return once everything runs, or is healthy where it has a health check
    #[arg(long)]
    wait: bool,
    /// Longest time for that in seconds
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    /// Keep the services as the files say: sync, rebuild, restart
    #[arg(short, long)]
    watch: bool,
}

/// What `up` and `create` share.
#[derive(Debug, clap::Args)]
pub struct Creation {
    /// Build images first
    #[arg(long)]
    pub build: bool,
    /// Build nothing, also when the image is missing
    #[arg(long)]
    pub no_build: bool,
    /// Make containers anew, though nothing changed
    #[arg(long)]
    pub force_recreate: bool,
    /// Leave containers that exist as they are
    #[arg(long)]
    pub no_recreate: bool,
    /// When to pull: always, missing or never
    #[arg(long, value_name = "POLICY", hide_possible_values = true)]
    pub pull: Option<Pull>,
    /// Show no progress of pulls
    #[arg(long)]
    pub quiet_pull: bool,
    /// Show no progress of builds
    #[arg(long)]
    pub quiet_build: bool,
    /// Remove containers of services that the file does not have
    #[arg(long)]
    pub remove_orphans: bool,
    /// Number of containers of a service
    #[arg(long, value_name = "SERVICE=N")]
    pub scale: Vec<String>,
    /// Make volumes anew whose definition changed, though what is in them is lost
    #[arg(short, long, alias = "y")]
    pub yes: bool,
}

/// `--pull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pull {
    /// Ask the registry each time.
    Always,
    /// Only for images that are not here.
    #[value(alias = "if_not_present")]
    Missing,
    /// Never ask it.
    Never,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Always => Self::Always,
            Pull::Missing => Self::Missing,
            Pull::Never => Self::Never,
        }
    }
}

impl Creation {
    /// The wishes about containers and images.
    pub fn wishes(&self, services: &[String], project: &Project) -> Result<(Wish, ImageWish), Failure> {
        let switch = |variable| flags::switch(&project.environment, variable);
        let ignore_orphans = switch("COMPOSE_IGNORE_ORPHANS");
        if ignore_orphans && self.remove_orphans {
            return Err(conflict("COMPOSE_IGNORE_ORPHANS", "--remove-orphans").into());
        }
        let scale = flags::scale(&self.scale)?;
        if let Some(name) = scale.keys().find(|name| !project.services.contains_key(*name)) {
            return Err(dependency::unknown(project, name).into());
        }
        let wish = Wish {
            services: services.to_vec(),
            scale,
            recreate: match (self.force_recreate, self.no_recreate) {
                (true, _) => Recreate::Always,
                (_, true) => Recreate::Never,
                _ => Recreate::Changed,
            },
            remove_orphans: self.remove_orphans || switch("COMPOSE_REMOVE_ORPHANS"),
            ignore_orphans,
            replace_volumes: self.yes,
            ..Wish::default()
        };
        let images = ImageWish {
            pull: self.pull.map(Into::into),
            build: self.build,
            no_build: self.no_build,
            ..ImageWish::default()
        };
        Ok((wish, images))
    }

    /// Pairs of flags that exclude each other.
    pub fn check(&self) -> Result<(), Mistake> {
        exclude(&[
            ((self.build, "--build"), (self.no_build, "--no-build")),
            ((self.force_recreate, "--force-recreate"), (self.no_recreate, "--no-recreate")),
        ])
    }
}

type Flag = (bool, &'static str);

fn conflict(first: &'static str, second: &'static str) -> Mistake {
    Mistake::Conflict { first, second }
}

fn exclude(pairs: &[(Flag, Flag)]) -> Result<(), Mistake> {
    match pairs.iter().find(|((first, _), (second, _))| *first && *second) {
        Some(((_, first), (_, second))) => Err(conflict(first, second)),
        None => Ok(()),
    }
}

impl Args {
    /// Source of the pairs: docker/compose `cmd/compose/up.go` `validateFlags`.
    fn check(&self) -> Result<(), Mistake> {
        self.creation.check()?;
        let background: Flag = if self.wait { (true, "--wait") } else { (self.detach, "--detach") };
        let no_recreate: Flag = (self.creation.no_recreate, "--no-recreate");
        exclude(&[
            (background, (self.abort_on_container_exit, "--abort-on-container-exit")),
            (background, (self.abort_on_container_failure, "--abort-on-container-failure")),
            (background, (self.exit_code_from.is_some(), "--exit-code-from")),
            (background, (!self.attach.is_empty(), "--attach")),
            (background, (self.attach_dependencies, "--attach-dependencies")),
            (background, (self.watch, "--watch")),
            ((self.creation.no_build, "--no-build"), (self.watch, "--watch")),
            ((self.no_start, "--no-start"), (self.watch, "--watch")),
            (no_recreate, (self.renew_anon_volumes, "--renew-anon-volumes")),
            (no_recreate, (self.always_recreate_deps, "--always-recreate-deps")),
            (
                (self.abort_on_container_exit, "--abort-on-container-exit"),
                (self.abort_on_container_failure, "--abort-on-container-failure"),
            ),
            ((!self.attach.is_empty(), "--attach"), (self.attach_dependencies, "--attach-dependencies")),
        ])
    }

    fn abort(&self) -> Abort {
        match (&self.exit_code_from, self.abort_on_container_failure, self.abort_on_container_exit) {
            (Some(service), true, _) => Abort::OnFailure { code_of: Some(service.clone()) },
            (Some(service), false, _) => Abort::OnExitOf(service.clone()),
            (None, true, _) => Abort::OnFailure { code_of: None },
            (None, false, true) => Abort::OnExit,
            (None, false, false) => Abort::Never,
        }
    }

    /// The services whose output is shown.
    fn shown(&self, project: &Project) -> Result<BTreeSet<String>, Failure> {
        let known = |name: &String| match project.services.contains_key(name) {
            true => Ok(()),
            false => Err(Failure::from(dependency::unknown(project, name))),
        };
        self.attach.iter().chain(&self.no_attach).chain(&self.exit_code_from).try_for_each(known)?;
        if !self.attach.is_empty() {
            return Ok(self.attach.iter().filter(|name| !self.no_attach.contains(name)).cloned().collect());
        }
        let named =
            |name: &String| self.attach_dependencies || self.services.is_empty() || self.services.contains(name);
        Ok(project
            .services
            .iter()
            .filter(|(name, service)| named(name) && service.attach != Some(false) && !self.no_attach.contains(name))
            .map(|(name, _)| name.clone())
            .collect())
    }
}

/// Brings the project up.
pub fn run(context: &Context, args: &Args) -> Outcome {
    args.check()?;
    let timeout = flags::seconds("--timeout", args.timeout)?;
    let loaded = context.required_project(&args.services)?;
    context.confirm_remote(&loaded, args.creation.yes)?;
    let project = &loaded.project;
    let (wish, images) = args.creation.wishes(&args.services, project)?;
    let recreate = if args.renew_anon_volumes { Recreate::Always } else { wish.recreate };
    let up = Up {
        wish: Wish {
            no_deps: args.no_deps,
            recreate,
            recreate_dependencies: args.always_recreate_deps,
            renew_volumes: args.renew_anon_volumes,
            no_start: args.no_start,
            // Who waits for an end wants to see it.
            repeat_jobs: args.abort() != Abort::Never,
            timeout,
            ..wish
        },
        images,
        wait: args.wait,
        wait_timeout: args.wait_timeout.map(std::time::Duration::from_secs),
        dry_run: context.global.dry_run,
    };
    let shown = args.shown(project)?;
    let engine = context.engine_with_launcher()?;
    let watch_options = crate::watch::Options {
        services: args.services.clone(),
        scale: up.wish.scale.clone(),
        ..flags::watch_options(project)
    };
    let watch = match args.watch && !context.global.dry_run {
        true => Some(Watch::new(&engine, &loaded, watch_options.clone())?),
        false => None,
    };
    let reporter = context.reporter("Running");
    if args.creation.quiet_pull || args.creation.quiet_build {
        reporter.leave_out_parts();
    }
    let reporter = context.get_images(reporter, |progress| engine.get_images(project, &up, progress))?;
    if args.detach || args.wait || args.no_start || context.global.dry_run {
        let plan = context.perform(reporter, Some(project), |execution| {
            engine.up(project, &up, execution.progress, execution.cancelled, None)
        })?;
        return if context.global.dry_run { context.print_plan(&plan) } else { Ok(0) };
    }
    let look =
        Look { prefix: !args.no_log_prefix, colour: !args.no_color, timestamps: args.timestamps, details: false };
    Attached {
        context,
        engine: &engine,
        project,
        up: &up,
        look,
        shown,
        abort: args.abort(),
        timeout,
        named: &args.services,
        loaded: &loaded,
        watch_options,
        menu: menu::wanted(context, args.menu),
    }
    .run(reporter, watch)
}
