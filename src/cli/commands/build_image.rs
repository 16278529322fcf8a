use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::build_output;
use crate::base::fs::{self, Context as _, Durability};
use crate::build::{self, BuildNetwork, BuildRequest, DockerfileSource, RemoteContext};
use crate::cli::flags::build::{Destination, Output, absolute, named_context, output, secret, ssh, ulimit};
use crate::cli::flags::{default_platform, environment, labels};
use crate::cli::progress::{BuildProgress, Reporter};
use crate::cli::{Context, Failure, Mistake, Outcome};
use crate::engine;
use crate::image;
use crate::model::image::Image;
use crate::model::reference::Reference;
use crate::store::Store;

/// Build an image from a Dockerfile
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder, git repository, address of an archive, or `-` for standard input
    #[arg(value_name = "PATH|URL|-")]
    context: String,
    /// The Dockerfile (default: PATH/Dockerfile); `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Name of the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<String>,
    /// Build argument
    #[arg(long, value_name = "KEY[=VALUE]")]
    build_arg: Vec<String>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Where the result goes: type=local|tar|oci|docker|image, a folder, or `-`
    #[arg(short, long, value_name = "OUTPUT")]
    output: Vec<String>,
    /// `os/arch`, several with commas between
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Run every step again
    #[arg(long)]
    no_cache: bool,
    /// Run the steps of these stages again
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Ask the registry for newer base images
    #[arg(long)]
    pull: bool,
    /// Push the result to its registry
    #[arg(long)]
    push: bool,
    /// Put the result into the store, which is where it goes anyway
    #[arg(long)]
    load: bool,
    /// Print only the image's id
    #[arg(short, long)]
    quiet: bool,
    /// Progress: auto, plain, tty, quiet, rawjson
    #[arg(long, value_enum, value_name = "TYPE", hide_possible_values = true)]
    progress: Option<BuildProgress>,
    /// Check the Dockerfile, build nothing
    #[arg(long)]
    check: bool,
    /// What to do instead of building: build, check
    #[arg(long, value_name = "METHOD")]
    call: Option<String>,
    /// Secret for RUN --mount=type=secret: id=NAME,src=FILE or id=NAME,env=VARIABLE
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// SSH agent or keys for RUN --mount=type=ssh: default, or ID=PATH
    #[arg(long, value_name = "AGENT")]
    ssh: Vec<String>,
    /// Named context: NAME=folder, docker-image://, oci-layout://, git or http address
    #[arg(long, value_name = "NAME=VALUE")]
    build_context: Vec<String>,
    /// Label of the image
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Annotation of the manifest
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Line for /etc/hosts in RUN
    #[arg(long, value_name = "HOST:ADDRESS")]
    add_host: Vec<String>,
    /// Network of RUN: default, none, host
    #[arg(long, value_name = "MODE", default_value = "default", hide_default_value = true)]
    network: String,
    /// Size of /dev/shm in RUN
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Limit of RUN: NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// Allow RUN what it may not do otherwise: network.host, security.insecure
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    allow: Vec<String>,
    /// Write the image's id to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write what is known of the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Where to look for results of steps: NAME, type=registry,ref=NAME or type=local,src=FOLDER
    #[arg(long, value_name = "SOURCE")]
    cache_from: Vec<String>,
    /// Where to write results of steps: type=registry,ref=NAME, type=local,dest=FOLDER or type=inline, with mode=max
    #[arg(long, value_name = "TARGET")]
    cache_to: Vec<String>,
    #[command(flatten)]
    ignored: Ignored,
}

/// Flags of Docker that mean nothing here, or nothing yet.
#[derive(Debug, clap::Args)]
struct Ignored {
    #[arg(long, hide = true)]
    attest: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    #[arg(long, hide = true)]
    builder: Option<String>,
    #[arg(long, hide = true)]
    cgroup_parent: Option<String>,
    #[arg(long, hide = true)]
    compress: bool,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    rm: Option<String>,
    #[arg(long, hide = true)]
    force_rm: bool,
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    #[arg(short, long, hide = true)]
    memory: Option<String>,
    #[arg(long, hide = true)]
    memory_swap: Option<String>,
    #[arg(short, long, hide = true)]
    cpu_shares: Option<String>,
    #[arg(long, hide = true)]
    cpu_period: Option<String>,
    #[arg(long, hide = true)]
    cpu_quota: Option<String>,
    #[arg(long, hide = true)]
    cpuset_cpus: Option<String>,
    #[arg(long, hide = true)]
    cpuset_mems: Option<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    security_opt: Vec<String>,
}

impl Ignored {
    /// Flags that were given and whose lack of effect somebody may notice.
    fn said(&self) -> Vec<&'static str> {
        let asked = |value: &Option<String>| value.as_deref().is_some_and(|text| text != "false");
        [
            ("--attest", !self.attest.is_empty()),
            ("--provenance", asked(&self.provenance)),
            ("--sbom", asked(&self.sbom)),
            ("--cgroup-parent", self.cgroup_parent.is_some()),
            ("--memory", self.memory.is_some()),
            ("--cpuset-cpus", self.cpuset_cpus.is_some()),
            ("--cpu-quota", self.cpu_quota.is_some()),
            ("--isolation", asked(&self.isolation)),
            ("--security-opt", !self.security_opt.is_empty()),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect()
    }
}

/// Builds; prints nothing on standard output but what it was asked for.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let is_check = match args.call.as_deref() {
        None | Some("build" | "") => args.check,
        Some("check" | "lint") => true,
        Some(other) => return Err(Mistake::value("--call", other, "it is build or check").into()),
    };
    let outputs = outputs(args)?;
    let engine = context.engine()?;
    let store = engine.store();
    let (request, remote) = request(args, store)?;
    if is_check {
        return super::build_check::run(context, &request);
    }
    let platforms = match args.platform.as_slice() {
        [] => default_platform().into_iter().collect(),
        platforms => platforms.to_vec(),
    };
    for flag in args.ignored.said() {
        context.warn(&format!("{flag} has no effect here"));
    }
    let reporter = reporter(context, args);
    let outcome = context.perform_transfer(reporter, None, |execution| {
        Ok(match platforms.as_slice() {
            [] | [_] => {
                let request = BuildRequest { platform: platforms.first().cloned(), ..request.clone() };
                vec![build::build(store, &request, execution.progress)?]
            }
            several => build::build_for(store, &request, several, execution.progress)?,
        })
    });
    drop(remote);
    let images = outcome?;
    let mut digest = None;
    for output in &outputs {
        digest = build_output::export(store, output, &images, &request)?.or(digest);
        if let Output::Image { push: true, .. } = output {
            digest = Some(push(context, args, store, &request)?);
        }
    }
    tell(context, args, &images, &request, digest.as_deref())?;
    Ok(0)
}

impl Output {
    fn is_stdout(&self) -> bool {
        matches!(self, Self::Tar(Destination::Stdout) | Self::Archive { destination: Destination::Stdout, .. })
    }
}

fn reporter(context: &Context, args: &Args) -> Reporter {
    let variable =
        || std::env::var("BUILDKIT_PROGRESS").ok().and_then(|text| clap::ValueEnum::from_str(&text, true).ok());
    let wanted = args.progress.or_else(variable).unwrap_or_default();
    context.build_reporter(if args.quiet { BuildProgress::Quiet } else { wanted })
}

fn outputs(args: &Args) -> Result<Vec<Output>, Mistake> {
    let mut outputs: Vec<Output> = args.output.iter().map(|text| output(text)).collect::<Result<_, _>>()?;
    if args.push || args.load || outputs.is_empty() {
        outputs.push(Output::Image { push: args.push, names: Vec::new() });
    }
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(Mistake::usage("only one output can go to standard output"));
    }
    if outputs.iter().any(Output::is_stdout) && std::io::stdout().is_terminal() {
        return Err(Mistake::usage("an archive is not written to a terminal: redirect it, or give dest=FILE"));
    }
    let pushes = outputs.iter().any(|output| matches!(output, Output::Image { push: true, .. }));
    let named = outputs.iter().any(|output| matches!(output, Output::Image { names, .. } if !names.is_empty()));
    if pushes && args.tags.is_empty() && !named {
        return Err(Mistake::usage("tag is needed when pushing to registry: give a name (-t)"));
    }
    Ok(outputs)
}

/// The request, and the context behind it where that was fetched.
fn request(args: &Args, store: &Store) -> Result<(BuildRequest, Option<RemoteContext>), Failure> {
    let secrets = args.secret.iter().map(|text| secret(text)).collect::<Result<_, _>>()?;
    let mut request = BuildRequest { secrets, ..BuildRequest::new(absolute(&args.context)?) };
    let file_is_stdin = args.file.as_deref() == Some("-");
    let mut remote = None;
    if args.context == "-" {
        if file_is_stdin {
            return Err(
                Mistake::usage("invalid argument: can't use stdin for both build context and dockerfile").into()
            );
        }
        remote = Some(build::read_context(store, &mut std::io::stdin().lock())?);
    } else if build::is_remote(&args.context) && !Path::new(&args.context).is_dir() {
        remote = Some(build::fetch_context(store, &args.context, &request.secrets)?);
    } else if !request.context.is_dir() {
        let (path, is_there) = (request.context.display(), request.context.exists());
        let reason = if is_there { format!("{path} is not a folder") } else { format!("there is no folder {path}") };
        return Err(Mistake::usage(format!("unable to prepare context: {reason}")).into());
    }
    if let Some(remote) = &remote {
        request.context.clone_from(&remote.folder);
        request.context_time_seconds = remote.time_seconds;
        request.ignore_file = false;
    }
    request.dockerfile = match (args.file.as_deref(), &remote) {
        (Some("-"), _) => {
            let mut text = Vec::new();
            std::io::stdin().lock().take(build::DOCKERFILE_BYTES_MAX + 1).read_to_end(&mut text)?;
            DockerfileSource::Inline(String::from_utf8_lossy(&text).into_owned())
        }
        (_, Some(RemoteContext { dockerfile: Some(text), .. })) => DockerfileSource::Inline(text.clone()),
        (Some(path), Some(remote)) => DockerfileSource::Path(remote.file(path)?),
        (Some(path), None) => DockerfileSource::Path(absolute(path)?),
        (None, Some(remote)) => {
            DockerfileSource::Path(remote.file("Dockerfile").or_else(|_| remote.file("dockerfile"))?)
        }
        (None, None) => DockerfileSource::Path(request.context.join("Dockerfile")),
    };
    for text in &args.tags {
        request.tags.push(tag(text)?);
    }
    for entry in environment(&args.build_arg) {
        request.args.insert(entry.0, entry.1);
    }
    if let Some(time) = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|text| !text.is_empty()) {
        request.args.entry("SOURCE_DATE_EPOCH".into()).or_insert(Some(time));
    }
    request.target = args.target.clone();
    request.no_cache = args.no_cache;
    request.no_cache_stages = args.no_cache_filter.clone();
    request.pull = args.pull;
    request.labels = labels(&args.label);
    request.annotations = labels(&args.annotation);
    request.extra_hosts = args.add_host.iter().map(|entry| entry.replacen('=', ":", 1)).collect();
    request.network = match args.network.as_str() {
        "" | "default" | "bridge" => BuildNetwork::Default,
        "none" => BuildNetwork::None,
        "host" => BuildNetwork::Host,
        other => return Err(Mistake::value("--network", other, "it is default, none or host").into()),
    };
    let size = |text: &String| {
        crate::base::units::parse_bytes(text)
            .map_err(|_| Mistake::value("--shm-size", text, "it takes a size such as 64m"))
    };
    request.shm_size_bytes = args.shm_size.as_ref().map(size).transpose()?;
    request.ulimits = args.ulimit.iter().map(|text| ulimit(text)).collect::<Result<_, _>>()?;
    request.additional_contexts =
        args.build_context.iter().map(|text| named_context(text)).collect::<Result<_, _>>()?;
    request.ssh = args.ssh.iter().map(|text| ssh(text)).collect::<Result<_, _>>()?;
    let here = build::here();
    for text in &args.cache_from {
        let place = build::parse_cache_from(text, &here);
        request.cache_from.push(place.map_err(|reason| Mistake::value("--cache-from", text, &reason))?);
    }
    for text in &args.cache_to {
        let export = build::parse_cache_to(text, &here);
        request.cache_to.push(export.map_err(|reason| Mistake::value("--cache-to", text, &reason))?);
    }
    for entitlement in &args.allow {
        match entitlement.as_str() {
            "security.insecure" => request.allow_insecure = true,
            "network.host" => request.allow_host_network = true,
            other if other.starts_with("fs") || other.starts_with("ssh") || other.starts_with("device") => {}
            other => {
                return Err(Mistake::value("--allow", other, "it is network.host or security.insecure").into());
            }
        }
    }
    let outputs = outputs(args)?;
    request.keep_image = outputs.iter().any(|output| matches!(output, Output::Image { .. }));
    for output in &outputs {
        if let Output::Image { names, .. } = output {
            for name in names {
                request.tags.push(tag(name)?);
            }
        }
    }
    request.resource = request.tags.first().map_or_else(|| "build".into(), Reference::familiar);
    Ok((request, remote))
}

fn tag(text: &str) -> Result<Reference, Failure> {
    Ok(text.parse::<Reference>().map_err(engine::Error::from)?)
}

/// Pushes the image under all its names; returns the digest of its manifest.
fn push(context: &Context, args: &Args, store: &Store, request: &BuildRequest) -> Result<String, Failure> {
    let mut digest = String::new();
    for reference in &request.tags {
        let pushed = context.perform_transfer(reporter(context, args), None, |execution| {
            execution.progress.working(&format!("pushing {}", reference.canonical()), "Pushing");
            let pushed = image::push(store, reference, None, execution.progress)?;
            execution.progress.done(&format!("pushing {}", reference.canonical()), "Pushed");
            Ok(pushed)
        })?;
        digest = pushed.digest.to_string();
    }
    Ok(digest)
}

/// Writes a small file of the user's: whole or not at all, unless it is a device.
fn write_file(path: &Path, content: &[u8]) -> Result<(), Failure> {
    if fs::is_replaceable(path) {
        return Ok(fs::write_atomic(path, content, Durability::Volatile)?);
    }
    Ok(std::fs::write(path, content).context("write", path)?)
}

/// Writes ids and metadata where they were asked for.
fn tell(
    context: &Context,
    args: &Args,
    images: &[Image],
    request: &BuildRequest,
    digest: Option<&str>,
) -> Result<(), Failure> {
    let Some(image) = images.first() else { return Ok(()) };
    if let Some(path) = &args.iidfile {
        write_file(path, image.id.as_str().as_bytes())?;
    }
    if let Some(path) = &args.metadata_file {
        let digest = digest.map(str::to_owned).or_else(|| image.manifest.as_ref().map(ToString::to_string));
        let mut metadata = json!({ "containerimage.config.digest": image.id });
        metadata["containerimage.digest"] = json!(digest.unwrap_or_else(|| image.id.to_string()));
        if !request.tags.is_empty() {
            let names: Vec<String> = request.tags.iter().map(Reference::canonical).collect();
            metadata["image.name"] = json!(names.join(","));
        }
        let text = serde_json::to_string_pretty(&metadata).map_err(std::io::Error::from)?;
        write_file(path, text.as_bytes())?;
    }
    if args.quiet && request.keep_image && !args.output.iter().any(|text| text == "-" || text.ends_with("dest=-")) {
        let mut out = context.output();
        writeln!(out, "{}", image.id)?;
        out.flush()?;
    }
    Ok(())
}
