use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};

use super::transfer::{self, Stream};
use crate::base::id::ContainerId;
use crate::cli::flags::{self, container::ContainerFlags};
use crate::cli::interactive::attach::Session;
use crate::cli::interactive::{DetachKeys, Ending, FORWARDED, RawMode, exit_code, window_size};
use crate::cli::signals::Signals;
use crate::cli::{Context, Failure, Mistake, Outcome};
use crate::compose::Loaded;
use crate::engine::Engine;
use crate::engine::images::{ImageWish, PullPolicy};
use crate::engine::one_off::OneOff;
use crate::engine::request::Request;
use crate::engine::up::Up;
use crate::graph::converge::Wish;
use crate::image::Platforms;
use crate::model::container::{Mount, MountSource, NetworkMode};
use crate::model::image::Image;
use crate::model::project::{Project, Service};
use crate::model::reference::Reference;
use crate::supervise::{AttachMode, StartOptions};

/// Run a one-off container of a service, or a container of an image
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Print the container's id and leave it in the background
    #[arg(short, long)]
    detach: bool,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Hand our input on (default for a service)
    #[arg(short, long)]
    interactive: bool,
    /// A terminal (default for a service, on a terminal)
    #[arg(short, long, overrides_with = "no_tty")]
    tty: bool,
    /// No terminal
    #[arg(short = 'T', long = "no-tty", alias = "no-TTY", overrides_with = "tty")]
    no_tty: bool,
    /// Publish the service's ports; of an image, all that it declares
    #[arg(short = 'P', long, visible_alias = "publish-all")]
    service_ports: bool,
    /// Answer to the service's names in its networks
    #[arg(long)]
    use_aliases: bool,
    /// Leave the services that it depends on alone
    #[arg(long)]
    no_deps: bool,
    /// Build the image first
    #[arg(long)]
    build: bool,
    /// When to pull: always, missing or never
    #[arg(long, value_name = "POLICY", hide_possible_values = true)]
    pull: Option<super::up::Pull>,
    /// Show no progress of pulls
    #[arg(short, long, visible_alias = "quiet-pull", alias = "quiet-build", overrides_with = "quiet")]
    quiet: bool,
    /// Also remove containers of services that the file does not have
    #[arg(long)]
    remove_orphans: bool,
    /// Answer every question with yes
    #[arg(short, long)]
    yes: bool,
    /// Keys that leave it running
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Hand signals on to the process
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    container: ContainerFlags,
    /// A service of the project, or an image
    target: String,
    /// The command with its arguments, instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Make a container of an image without starting it
#[derive(Debug, clap::Args)]
pub struct Create {
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Keep its input open
    #[arg(short, long)]
    interactive: bool,
    /// A terminal
    #[arg(short, long)]
    tty: bool,
    /// Publish all ports that the image declares
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// When to pull: always, missing or never
    #[arg(long, value_name = "POLICY", hide_possible_values = true)]
    pull: Option<super::up::Pull>,
    /// Show no progress of pulls
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    container: ContainerFlags,
    /// The image
    image: String,
    /// The command with its arguments, instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Makes a container and prints its id.
pub fn create(context: &Context, args: &Create) -> Outcome {
    let args = Args {
        detach: true,
        rm: args.rm,
        interactive: args.interactive,
        tty: args.tty,
        service_ports: args.publish_all,
        pull: args.pull,
        quiet: args.quiet,
        container: args.container.clone(),
        target: args.image.clone(),
        command: args.command.clone(),
        ..Args::default()
    };
    let (engine, request, image) = request_of_image(context, &args)?;
    let id = make(&args, &engine, request, &image)?;
    let mut out = context.output();
    writeln!(out, "{id}")?;
    out.flush()?;
    Ok(0)
}

/// Runs it; ends with the exit code of its process.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let loaded = service_in_scope(context, &args.target)?;
    let needed = match &loaded {
        Some(loaded) if !args.no_deps => {
            loaded.project.services.get(&args.target).map(|service| service.depends_on.keys().cloned().collect())
        }
        _ => None,
    };
    let needed: Vec<String> = needed.unwrap_or_default();
    let what = if loaded.is_some() { "service" } else { "image" };
    let steps = needed.iter().map(|name| format!("bring up service {name}"));
    let own = format!("run `{}` in a new container of {what} {}", args.command.join(" "), args.target);
    if context.only_says(steps.chain(std::iter::once(own)))? {
        return Ok(0);
    }
    match loaded {
        Some(loaded) => run_service(context, args, &loaded),
        None => run_image(context, args),
    }
}

/// The project, when the target is one of its services.
fn service_in_scope(context: &Context, target: &str) -> Result<Option<Loaded>, Failure> {
    if context.discover()?.files.is_empty() {
        return Ok(None);
    }
    let loaded = context.load_project(&[])?;
    if loaded.project.services.contains_key(target) {
        return Ok(Some(loaded));
    }
    if loaded.project.disabled_services.contains_key(target) {
        // Naming it enables its profiles.
        return context.load_project(&[target.to_owned()]).map(Some);
    }
    Ok(None)
}

fn run_service(context: &Context, args: &Args, loaded: &Loaded) -> Outcome {
    let project = &loaded.project;
    context.confirm_remote(loaded, args.yes)?;
    context.warn_unsupported(loaded);
    let service = project
        .services
        .get(&args.target)
        .ok_or_else(|| Mistake::NoSuchService { name: args.target.clone(), known: Vec::new() })?;
    let engine = context.engine_with_launcher()?;
    prepare_service(context, args, &engine, project, service)?;
    let options = OneOff { service_ports: args.service_ports, use_aliases: args.use_aliases };
    let mut request = engine.one_off_request(project, service, options)?;
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    request.stdin_open = !args.detach || args.interactive;
    request.terminal = !args.no_tty && (args.tty || (on_terminal && !args.detach));
    let image = engine.service_image(project, service)?;
    finish_request(args, &engine, &mut request)?;
    if let Some(text) = args.container.entrypoint.as_deref().filter(|text| !text.is_empty()) {
        // Of a service it is written as in the file; of an image it is one word, as Docker has both.
        let split = crate::compose::split_command(text);
        request.entrypoint = Some(split.map_err(|error| Mistake::value("--entrypoint", text, &error))?);
    }
    start(context, args, &engine, request, &image)
}

/// Images, dependencies, networks and volumes: what must be there before the container.
fn prepare_service(
    context: &Context,
    args: &Args,
    engine: &Engine,
    project: &Project,
    service: &Service,
) -> Result<(), Failure> {
    let dependencies: Vec<String> = match args.no_deps {
        true => Vec::new(),
        false => service.depends_on.keys().filter(|name| project.services.contains_key(*name)).cloned().collect(),
    };
    let images = ImageWish { pull: args.pull.map(Into::into), build: args.build, ..ImageWish::default() };
    let wish = Wish {
        services: dependencies,
        remove_orphans: args.remove_orphans,
        ignore_orphans: !args.remove_orphans,
        ..Wish::default()
    };
    let up = Up { wish, ..Up::default() };
    let has_dependencies = !up.wish.services.is_empty();
    let reporter = context.get_images(context.reporter_unless(args.quiet, "Running"), |progress| {
        engine.check_services(project, &[service])?;
        engine.ensure_images(project, &[service], &images, progress)?;
        if has_dependencies { engine.get_images(project, &up, progress) } else { Ok(()) }
    })?;
    context.perform(reporter, Some(project), |execution| {
        if has_dependencies {
            engine.up(project, &up, execution.progress, execution.cancelled, None)?;
        }
        let networks: BTreeSet<&String> = service.networks.iter().flat_map(|networks| networks.keys()).collect();
        for (key, network) in project.networks.iter().filter(|(key, _)| networks.contains(key)) {
            engine.create_project_network(project, key, network)?;
        }
        let volumes: BTreeSet<&String> = service
            .volumes
            .iter()
            .filter(|volume| volume.kind == "volume")
            .filter_map(|volume| volume.source.as_ref())
            .collect();
        for (key, volume) in project.volumes.iter().filter(|(key, _)| volumes.contains(key)) {
            engine.create_project_volume(project, key, volume)?;
        }
        Ok(())
    })
}

fn run_image(context: &Context, args: &Args) -> Outcome {
    let (engine, request, image) = request_of_image(context, args)?;
    start(context, args, &engine, request, &image)
}

/// Finds or pulls the image and joins it with the flags.
fn request_of_image(context: &Context, args: &Args) -> Result<(Engine, Request, Image), Failure> {
    for (given, flag) in [
        (args.no_deps, "--no-deps"),
        (args.use_aliases, "--use-aliases"),
        (args.build, "--build"),
        (args.remove_orphans, "--remove-orphans"),
    ] {
        if given {
            let text = format!("{flag} is for services, and `{}` is none of this folder's", args.target);
            return Err(Mistake::usage(text).into());
        }
    }
    let policy = args.pull.map_or(PullPolicy::Missing, Into::into);
    let default = flags::default_platform();
    let platform = args.container.platform.as_deref().or(default.as_deref());
    let is_here = policy != PullPolicy::Always && context.engine()?.image_here(&args.target, platform)?.is_some();
    // A pull needs threads, and a process with threads does not fork: a launcher made before does.
    let engine = if is_here { context.engine()? } else { context.engine_with_launcher()? };
    let image = match is_here {
        true => engine.image(&args.target, PullPolicy::Missing, platform, &crate::model::event::Silent)?,
        false => {
            if context.docker && !args.quiet && policy == PullPolicy::Missing {
                let name = args.target.parse::<Reference>().map_err(|error| Mistake::Usage {
                    text: error.to_string(),
                    hint: crate::cli::usage::dash_hint(&args.target),
                })?;
                context.say(&format!("Unable to find image '{}' locally", name.familiar()));
            }
            if context.docker && policy != PullPolicy::Never {
                transfer::pull(context, &engine, &args.target, Platforms::one(platform), args.quiet, Stream::Stderr)?
            } else {
                let reporter = context.reporter_unless(args.quiet, "Pulling");
                context.perform_transfer(reporter, None, |execution| {
                    engine.image(&args.target, policy, platform, execution.progress)
                })?
            }
        }
    };
    let mut request = Request {
        image: args.target.clone(),
        stdin_open: args.interactive,
        terminal: args.tty && !args.no_tty,
        publish_all: args.service_ports,
        ..Request::default()
    };
    request.network =
        Some(crate::cli::flags::network::mode(&engine, &args.container.network, &args.container.network_alias)?);
    finish_request(args, &engine, &mut request)?;
    if !request.ports.is_empty() {
        match &request.network {
            Some(NetworkMode::Container { .. }) => {
                let text = "ports cannot be published in the network of another container: publish them with that one";
                return Err(Mistake::usage(text).into());
            }
            Some(NetworkMode::Host) => context.warn("Published ports are discarded when using host network mode"),
            _ => {}
        }
    }
    Ok((engine, request, image))
}

/// The volumes and folders of another container that `mounts` do not hide: `NAME`, `NAME:ro`.
fn mounts_of(engine: &Engine, text: &str, mounts: &[Mount]) -> Result<Vec<Mount>, Failure> {
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    if !matches!(mode, "" | "ro" | "rw" | "z" | "Z") {
        return Err(Mistake::value("--volumes-from", text, "it takes CONTAINER[:ro|rw]").into());
    }
    let spec = engine.store().containers().spec(&engine.store().containers().find(name)?)?;
    let others = spec.mounts.into_iter().filter(|mount| {
        !matches!(mount.source, MountSource::Tmpfs { .. }) && !mounts.iter().any(|own| own.target == mount.target)
    });
    Ok(others.map(|mount| Mount { read_only: mount.read_only || mode == "ro", ..mount }).collect())
}

/// `--link NAME[:ALIAS]`: another name of a container that shares a network with this one, known to this one only.
fn link_to(engine: &Engine, text: &str, request: &mut Request) -> Result<(), Failure> {
    let (name, alias) = text.rsplit_once(':').unwrap_or((text, text));
    let containers = engine.store().containers();
    let other = containers.spec(&containers.find(name)?)?;
    let alias = if alias == text { other.name.clone() } else { alias.to_owned() };
    let mut is_linked = false;
    if let Some(NetworkMode::Networks { attachments }) = &mut request.network {
        for attachment in attachments {
            if other.network.networks().any(|id| *id == attachment.network) {
                attachment.links.insert(alias.to_lowercase(), other.name.to_lowercase());
                is_linked = true;
            }
        }
    }
    if !is_linked {
        let reason = format!("{} is in none of this container's networks", other.name);
        return Err(Mistake::value("--link", text, &reason).into());
    }
    Ok(())
}

/// Makes the container; its id goes to `--cidfile`, which must not be there yet.
fn make(args: &Args, engine: &Engine, request: Request, image: &Image) -> Result<ContainerId, Failure> {
    let Some(path) = &args.container.more.cidfile else { return Ok(engine.create(request, image)?) };
    let fails = |operation, source| Failure::from(crate::base::fs::Error { operation, path: path.clone(), source });
    let mut file = match std::fs::File::create_new(path) {
        Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Mistake::CidFile { path: path.clone() }.into());
        }
        file => file.map_err(|source| fails("create", source))?,
    };
    let made = engine.create(request, image).map_err(Failure::from).and_then(|id| {
        file.write_all(id.as_str().as_bytes()).map_err(|source| fails("write", source))?;
        Ok(id)
    });
    if made.is_err() {
        drop(std::fs::remove_file(path));
    }
    made
}

/// What the flags say above the service or the image.
fn finish_request(args: &Args, engine: &Engine, request: &mut Request) -> Result<(), Failure> {
    let folder =
        std::env::current_dir().map_err(|source| Mistake::System { operation: "find the current folder", source })?;
    let find = |name: &str| -> Result<ContainerId, Failure> { Ok(engine.store().containers().find(name)?) };
    args.container.apply(request, &folder, find)?;
    if !args.container.network.is_empty() {
        let networks =
            crate::cli::flags::network::mode(engine, &args.container.network, &args.container.network_alias)?;
        request.network = Some(networks);
    }
    if let Some(network) = &mut request.network {
        args.container.more.apply_addresses(network)?;
    }
    for link in &args.container.more.link {
        link_to(engine, link, request)?;
    }
    for text in &args.container.mount {
        let Some(name) = flags::volume::image_of_mount(text) else { continue };
        let image = engine.store().images().find(name)?;
        let wanted = flags::volume::parse_mount(text, &folder)?.target;
        for mount in request.mounts.iter_mut().filter(|mount| mount.target == wanted) {
            if let MountSource::Image { layers, .. } = &mut mount.source {
                *layers = image.diff_ids();
            }
        }
    }
    for from in &args.container.more.volumes_from {
        request.mounts.extend(mounts_of(engine, from, &request.mounts)?);
    }
    if !args.command.is_empty() {
        request.command = Some(args.command.clone());
    }
    if args.rm && args.container.restart.as_deref().is_some_and(|policy| policy != "no") {
        return Err(
            Mistake::usage("--restart and --rm cannot be used together: one keeps what the other removes").into()
        );
    }
    request.auto_remove = args.rm;
    Ok(())
}

fn start(context: &Context, args: &Args, engine: &Engine, request: Request, image: &Image) -> Outcome {
    let keys = args.detach_keys.as_deref().map(DetachKeys::parse).transpose()?.unwrap_or_default();
    let (stdin, terminal) = (request.stdin_open && !args.detach, request.terminal);
    if terminal && stdin && !std::io::stdin().is_terminal() {
        return Err(Mistake::NoTerminal.into());
    }
    engine.check_platform(image)?;
    let id = make(args, engine, request, image)?;
    let attach = if args.detach { AttachMode::None } else { AttachMode::Blocking };
    let size = if terminal { window_size(std::io::stdout()) } else { None };
    let blocked = if args.detach { None } else { Some(Signals::block(&FORWARDED)?) };
    let started = match engine.start(&id, StartOptions { attach, size }) {
        Ok(started) => started,
        Err(error) => {
            if args.rm {
                // The error to report is that of the start.
                drop(engine.remove(&id, true, true));
            }
            return Err(error.into());
        }
    };
    let (Some(signals), Some(stream)) = (blocked, started.and_then(|started| started.attach)) else {
        let mut out = context.output();
        writeln!(out, "{id}")?;
        out.flush()?;
        return Ok(0);
    };
    let raw = if terminal && stdin { Some(RawMode::enter()?) } else { None };
    let session =
        Session { engine, id: &id, stream, signals: &signals, stdin, terminal, keys, forward_signals: args.sig_proxy };
    let ending = session.run();
    drop(raw);
    match ending? {
        Ending::Exited(code) => Ok(exit_code(code)),
        Ending::Detached => Ok(0),
    }
}
