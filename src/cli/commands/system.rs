use std::collections::HashSet;
use std::io::Write;

use super::{boot, disk_usage, events, info};
use crate::base::units::format_bytes;
use crate::cli::members::Member;
use crate::cli::prune::{self, Chosen};
use crate::cli::show::filter::Filters;
use crate::cli::{Context, Mistake, Outcome};
use crate::image::{self, Repair};
use crate::store::GcOptions;

/// The host's store
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    #[command(alias = "disk-usage")]
    Df(disk_usage::Args),
    Events(events::Args),
    Info(info::Args),
    Prune(Prune),
    Check(Check),
    Enable(boot::Enable),
    Disable(boot::Disable),
    Boot(boot::Boot),
}

/// Remove stopped containers, unused networks, images without a name and what builds remember
#[derive(Debug, clap::Args)]
struct Prune {
    /// Also images that no container uses
    #[arg(short, long)]
    all: bool,
    /// Also anonymous volumes that no container uses
    #[arg(long)]
    volumes: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what has this property: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Prove every image, layer and blob by its digest; finish or remove what killed processes and power cuts left
#[derive(Debug, clap::Args)]
struct Check {
    /// Restore what is broken from what is whole or from its registry, else remove it
    #[arg(long)]
    repair: bool,
}

/// Does what the second word says.
pub fn run(context: &Context, args: &Args) -> Outcome {
    match &args.verb {
        Verb::Df(args) => disk_usage::run(context, args),
        Verb::Events(args) => events::run(&context.without_project(), args),
        Verb::Info(args) => info::run(context, args),
        Verb::Prune(args) => prune(context, args),
        Verb::Check(args) => check(context, args),
        Verb::Enable(args) => boot::enable(context, args),
        Verb::Disable(args) => boot::disable(context, args),
        Verb::Boot(args) => boot::boot(context, args),
    }
}

fn prune(context: &Context, args: &Prune) -> Outcome {
    let chosen = Chosen::by(Filters::parse(&args.filter, &["label", "label!", "until"])?)?;
    if args.volumes && chosen.until().is_some() {
        return Err(Mistake::value("--filter", "until", "volumes have no age: leave --volumes out").into());
    }
    if !args.force && !context.confirm(&question(args))? {
        return Ok(0);
    }
    let engine = context.engine()?;
    let mut out = context.output();
    let (containers, mut freed) = prune::containers(&engine, &chosen)?;
    prune::tell(&mut out, "Containers", &containers)?;
    prune::tell(&mut out, "Networks", &prune::networks(&engine, &chosen)?)?;
    if args.volumes {
        let (volumes, bytes) = prune::volumes(&engine, false, &chosen)?;
        prune::tell(&mut out, "Volumes", &volumes)?;
        freed += bytes;
    }
    let options = GcOptions {
        dangling_images: true,
        unused_images: args.all,
        build_cache: true,
        steps_before: chosen.until(),
        spools: true,
    };
    let report = prune::images(&engine, &options, &chosen)?;
    prune::tell_images(&mut out, &report)?;
    writeln!(out, "Total reclaimed space: {}", format_bytes(freed + report.freed_bytes))?;
    out.flush()?;
    Ok(0)
}

fn question(args: &Prune) -> String {
    let images = if args.all { "images without at least one container associated to them" } else { "dangling images" };
    let volumes = if args.volumes { "  - all anonymous volumes not used by at least one container\n" } else { "" };
    format!(
        "WARNING! This will remove:
  - all stopped containers
  - all networks not used by at least one container
{volumes}  - all {images}
  - {} build cache
",
        if args.all { "all" } else { "unused" }
    )
}

/// Opening the engine heals containers whose supervisor died; the rest is the store's.
fn check(context: &Context, args: &Check) -> Outcome {
    let engine = context.engine()?;
    let store = engine.store();
    store.sweep_leftovers()?;
    store.sweep_after_power_cut()?;
    let found = image::check(store)?;
    let mut out = context.output();
    for damage in &found.damages {
        let users =
            if damage.images.is_empty() { String::new() } else { format!(" (of {})", damage.images.join(", ")) };
        writeln!(out, "{}{users} {}", damage.part, damage.reason)?;
    }
    let counted = format!("{} images, {} layers and {} blobs", found.images, found.layers, found.blobs);
    if found.damages.is_empty() {
        writeln!(out, "{counted} are what their digests say")?;
        out.flush()?;
        return Ok(0);
    }
    out.flush()?;
    if !args.repair {
        context.say(&format!("{} parts of the store are damaged; repair them with --repair", found.damages.len()));
        return Ok(1);
    }
    let mut used = HashSet::new();
    for (spec, state) in store.containers().list()? {
        let member = Member { spec, state };
        if member.is_up() {
            used.extend(member.spec.layers);
        }
    }
    let repairs = image::repair(store, &found.damages, &|layer| used.contains(layer), &context.reporter("Repairing"))?;
    let mut is_left = false;
    for repair in repairs {
        match repair {
            Repair::Removed(part) => writeln!(out, "Removed {part}")?,
            Repair::Restored(part) => writeln!(out, "Restored {part}")?,
            Repair::Kept(part, reason) => {
                is_left = true;
                writeln!(out, "Left {part}: {reason}")?;
            }
        }
    }
    out.flush()?;
    Ok(u8::from(is_left))
}
