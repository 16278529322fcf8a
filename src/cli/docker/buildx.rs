//! `docker buildx` and `docker builder`: the words that people type around a build.
//!
//! There is one builder, which needs no making: `create`, `use`, `rm` and `stop` are taken so that scripts go on.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/buildx/>.

use std::io::Write;

use serde_json::Value;

use crate::cli::commands::{build_image, image_prune};
use crate::cli::show::table::Table;
use crate::cli::{Context, Failure, Outcome};
use crate::image::Platform;
use crate::model::reference::Reference;
use crate::runtime::binfmt;
use crate::{engine, image};

/// The name of the builder.
const NAME: &str = "default";

/// Build images, as the plugin of that name does
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which builder: there is one
    #[arg(long, hide = true, global = true)]
    builder: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

/// What builds remember
#[derive(Debug, clap::Args)]
pub struct Builder {
    #[command(subcommand)]
    verb: BuilderVerb,
}

#[derive(Debug, clap::Subcommand)]
enum BuilderVerb {
    Build(Box<build_image::Args>),
    Prune(image_prune::BuildCache),
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    #[command(visible_alias = "b")]
    Build(Box<build_image::Args>),
    Create(Create),
    Imagetools(Imagetools),
    Inspect(Inspect),
    Ls(List),
    Prune(image_prune::BuildCache),
    Rm(Names),
    Stop(Names),
    Use(Use),
    Version(Version),
}

/// Accepted for Docker's sake: there is one builder
#[derive(Debug, clap::Args)]
struct Create {
    /// What would be used
    context: Option<String>,
    #[arg(long)]
    name: Option<String>,
    #[arg(long, hide = true)]
    append: bool,
    #[arg(long, hide = true)]
    bootstrap: bool,
    #[arg(long, hide = true)]
    buildkitd_flags: Option<String>,
    #[arg(long, hide = true, alias = "config")]
    buildkitd_config: Option<String>,
    #[arg(long, hide = true)]
    driver: Option<String>,
    #[arg(long, hide = true)]
    driver_opt: Vec<String>,
    #[arg(long, hide = true)]
    leave: bool,
    #[arg(long, hide = true)]
    node: Option<String>,
    #[arg(long, hide = true)]
    platform: Vec<String>,
    #[arg(long = "use", hide = true)]
    is_used: bool,
}

/// Accepted for Docker's sake: there is one builder
#[derive(Debug, clap::Args)]
struct Use {
    name: String,
    #[arg(long, hide = true)]
    default: bool,
    #[arg(long, hide = true)]
    global: bool,
}

/// Accepted for Docker's sake: there is one builder, and it stays
#[derive(Debug, clap::Args)]
struct Names {
    names: Vec<String>,
    #[arg(long, hide = true)]
    all_inactive: bool,
    #[arg(short, long, hide = true)]
    force: bool,
    #[arg(long, hide = true)]
    keep_state: bool,
    #[arg(long, hide = true)]
    keep_daemon: bool,
}

/// Show the builder
#[derive(Debug, clap::Args)]
struct Inspect {
    name: Option<String>,
    #[arg(long, hide = true)]
    bootstrap: bool,
}

/// List the builder
#[derive(Debug, clap::Args)]
struct List {
    #[arg(long, hide = true)]
    no_trunc: bool,
}

/// Show the version
#[derive(Debug, clap::Args)]
struct Version {}

/// Images in registries
#[derive(Debug, clap::Args)]
struct Imagetools {
    #[command(subcommand)]
    verb: ImagetoolsVerb,
}

#[derive(Debug, clap::Subcommand)]
enum ImagetoolsVerb {
    Inspect(ImagetoolsInspect),
}

/// Show an image's manifest, or the list of its platforms, as its registry has it
#[derive(Debug, clap::Args)]
struct ImagetoolsInspect {
    /// Name of the image
    name: String,
    /// The manifest as it is
    #[arg(long)]
    raw: bool,
}

/// Does what the second word says.
pub fn builder(context: &Context, args: &Builder) -> Outcome {
    match &args.verb {
        BuilderVerb::Build(args) => build_image::run(context, args),
        BuilderVerb::Prune(args) => image_prune::build_cache(context, args),
    }
}

/// Does what the second word says.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let mut out = context.output();
    match &args.verb {
        Verb::Build(args) => return build_image::run(context, args),
        Verb::Prune(args) => return image_prune::build_cache(context, args),
        Verb::Imagetools(Imagetools { verb: ImagetoolsVerb::Inspect(args) }) => imagetools(args, &mut out)?,
        Verb::Ls(_) => {
            let mut table = Table::new(["NAME/NODE", "DRIVER/ENDPOINT", "STATUS", "BUILDKIT", "PLATFORMS"]);
            let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
            table.row(row([&format!("{NAME}*"), "wharf", "", "", ""]));
            let node = [&format!(" \\_ {NAME}"), &format!(" \\_ {NAME}"), "running", version(), &platforms()];
            table.row(row(node));
            table.write(&mut out)?;
        }
        Verb::Inspect(_) => {
            writeln!(out, "Name:   {NAME}\nDriver: wharf\n")?;
            writeln!(out, "Nodes:\nName:             {NAME}\nEndpoint:         {NAME}\nStatus:           running")?;
            writeln!(out, "BuildKit version: {}\nPlatforms:        {}", version(), platforms())?;
        }
        Verb::Create(args) => writeln!(out, "{}", args.name.as_deref().unwrap_or(NAME))?,
        Verb::Rm(args) => {
            for name in &args.names {
                writeln!(out, "{name} removed")?;
            }
        }
        Verb::Stop(_) | Verb::Use(_) => {}
        Verb::Version(_) => writeln!(out, "github.com/docker/buildx wharf {}", version())?,
    }
    out.flush()?;
    Ok(0)
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// This host's platform, and those of binfmt.
fn platforms() -> String {
    let host = Platform::host().to_string();
    let others = binfmt::runnable().into_iter().map(|architecture| format!("linux/{architecture}"));
    std::iter::once(host.clone()).chain(others.filter(|other| *other != host)).collect::<Vec<_>>().join(", ")
}

/// Source: docker/buildx `util/imagetools/printers.go`.
fn imagetools(args: &ImagetoolsInspect, out: &mut dyn Write) -> Result<(), Failure> {
    let reference: Reference = args.name.parse().map_err(engine::Error::from)?;
    let (digest, content) = image::manifest_of(&reference)?;
    if args.raw {
        return Ok(out.write_all(&content)?);
    }
    let document: Value = serde_json::from_slice(&content).map_err(std::io::Error::from)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = reference.canonical();
    writeln!(out, "Name:      {name}\nMediaType: {}\nDigest:    {digest}", text(&document["mediaType"]))?;
    let manifests = document["manifests"].as_array().map_or(&[][..], Vec::as_slice);
    if !manifests.is_empty() {
        writeln!(out, "\nManifests:")?;
    }
    let repository = format!("{}/{}", reference.registry, reference.repository);
    for (number, manifest) in manifests.iter().enumerate() {
        let platform = &manifest["platform"];
        let parts = ["os", "architecture", "variant"].map(|key| text(&platform[key]));
        let platform: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        writeln!(out, "  Name:      {repository}@{}", text(&manifest["digest"]))?;
        writeln!(out, "  MediaType: {}\n  Platform:  {}", text(&manifest["mediaType"]), platform.join("/"))?;
        if number + 1 < manifests.len() {
            writeln!(out)?;
        }
    }
    Ok(())
}
