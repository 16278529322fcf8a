mod checks;
mod secrets;

use std::collections::BTreeSet;

use super::config::digests;
use crate::cli::{Context, Failure, Mistake, Outcome};
use crate::compose::{self, Loaded, Options, artifact};
use crate::engine::{self, execute::Execution};
use crate::graph::plan::{Action, Plan};
use crate::image::{self, ArtifactOptions, OciVersion};
use crate::model::artifact::Part;
use crate::model::project::Project;
use crate::model::reference::Reference;

/// Publish the project in a registry, to be used with `-f oci://…`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to: `registry.example.com/team/app:1`
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: String,
    /// Also publish the images that services use, pinned by their digests
    #[arg(long)]
    app: bool,
    /// Version of OCI's specification to keep to: 1.0, 1.1 (default: what the registry takes)
    #[arg(long, value_name = "VERSION")]
    oci_version: Option<String>,
    /// Pin images to the digests that their tags mean today
    #[arg(long)]
    resolve_image_digests: bool,
    /// Allow environment variables in the files, and publish env files with them
    #[arg(long)]
    with_env: bool,
    /// Ask nothing
    #[arg(short, long, alias = "y")]
    yes: bool,
    #[arg(long, hide = true)]
    insecure_registry: bool,
}

/// Checks, asks, pushes the images that are built here, publishes the files.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let target: Reference = args.repository.parse().map_err(engine::Error::from)?;
    if target.digest.is_some() {
        return Err(Mistake::usage(format!("`{}` has a digest: name a tag to publish", args.repository)).into());
    }
    let version = match args.oci_version.as_deref() {
        None | Some("") => None,
        Some("1.0") => Some(OciVersion::V1_0),
        Some("1.1") => Some(OciVersion::V1_1),
        Some(other) => return Err(Mistake::usage(format!("--oci-version: `{other}` is neither 1.0 nor 1.1")).into()),
    };
    // What env files say is not published in the files: they are only named.
    let options = Options { profiles: vec!["*".into()], resolve_environment: false, ..context.compose_options()? };
    let mut loaded = context.load(&options)?;
    // What cannot be published is known before anything is asked or pushed.
    let mut parts = artifact::pack(&loaded.project, args.with_env)?;
    checks::check(&loaded, args.with_env)?;
    checks::warn(context, &loaded.project);
    if !args.yes && !context.global.dry_run && !checks::confirm(context, &loaded)? {
        return Ok(1);
    }
    let images = push_plan(&loaded.project);
    if context.global.dry_run {
        return dry_run(context, args, &images, &parts);
    }
    push_images(context, &loaded.project, &images)?;
    if args.resolve_image_digests || args.app {
        parts.push(pinned(&mut loaded)?);
    }
    let options = ArtifactOptions { insecure: args.insecure_registry, version };
    let reporter = context.reporter("Publishing");
    let digest = context.perform_transfer(reporter, None, |execution| {
        execution.progress.working(&args.repository, "publishing");
        let digest = image::publish_artifact(&target, &parts, options)?;
        if args.app {
            publish_images(&target, &loaded, &digest, options, execution)?;
        }
        execution.progress.done(&args.repository, "published");
        Ok(digest)
    })?;
    context.say(&format!("{target}: digest: {digest}"));
    Ok(0)
}

/// The images that are made here: those of services with a build and a name of their own.
fn push_plan(project: &Project) -> Plan {
    let mut plan = Plan::default();
    let mut seen = BTreeSet::new();
    for service in project.services.values() {
        let (Some(build), Some(image)) = (&service.build, &service.image) else { continue };
        for image in std::iter::once(image).chain(&build.tags).filter(|image| seen.insert((*image).clone())) {
            let reason = format!("service {} is built here", service.name);
            plan.push(Action::PushImage { image: image.clone() }, Vec::new(), &reason);
        }
    }
    plan
}

/// An image that cannot be pushed is a warning, as in Compose: it may be there already.
fn push_images(context: &Context, project: &Project, plan: &Plan) -> Result<(), Failure> {
    if plan.is_empty() {
        return Ok(());
    }
    let engine = context.engine()?;
    let reporter = context.reporter("Pushing");
    let pushed = context.perform_transfer(reporter, Some(project), |execution| engine.execute(plan, execution));
    pushed.map(drop).or_else(|failure| failure.ignored(context))
}

fn dry_run(context: &Context, args: &Args, images: &Plan, parts: &[Part]) -> Outcome {
    use std::io::Write;
    if !images.is_empty() {
        context.print_plan(images)?;
    }
    let mut out = context.output();
    let mut names: Vec<&str> = parts.iter().flat_map(|part| part.annotations.values().map(String::as_str)).collect();
    names.retain(|name| name.contains('.') && *name != env!("CARGO_PKG_VERSION"));
    if args.resolve_image_digests || args.app {
        names.push("image-digests.yaml");
    }
    writeln!(out, "publish {} ({})", args.repository, names.join(", "))?;
    out.flush()?;
    Ok(0)
}

/// A file that pins every image, to lay over the others.
fn pinned(loaded: &mut Loaded) -> Result<Part, Failure> {
    digests::resolve(&mut loaded.tree)?;
    let mut tree = loaded.tree.clone();
    digests::keep_images_only(&mut tree);
    Ok(Part::file("image-digests.yaml", false, compose::yaml_text(&tree).into_bytes()))
}

/// Copies the images of services beside the artifact and lists them in an index that belongs to it.
fn publish_images(
    target: &Reference,
    loaded: &Loaded,
    artifact: &crate::base::id::Digest,
    options: ArtifactOptions,
    execution: &Execution<'_>,
) -> engine::Result<()> {
    let services = loaded.tree.get("services").and_then(compose::Node::as_map);
    let names: BTreeSet<&str> = services
        .into_iter()
        .flat_map(|map| map.values())
        .filter_map(|service| service.get("image")?.as_str())
        .collect();
    let mut copied = Vec::with_capacity(names.len());
    for name in names {
        let source: Reference = name.parse()?;
        execution.progress.working(name, "copying");
        copied.push(image::copy_image(&source, target, options)?);
        execution.progress.done(name, "copied");
    }
    image::publish_application(target, artifact, &copied, options)?;
    Ok(())
}
