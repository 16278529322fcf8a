use std::collections::HashSet;
use std::io::{IsTerminal, Write};

use super::{disk_usage, events, info};
use crate::base::units::format_bytes;
use crate::cli::members::Member;
use crate::cli::{Context, Failure, Outcome};
use crate::engine::Engine;
use crate::graph::observed::label;
use crate::image::{self, Repair};
use crate::net::network::DEFAULT_NAME;
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
    }
}

fn prune(context: &Context, args: &Prune) -> Outcome {
    if !args.force && !confirm(args)? {
        return Ok(0);
    }
    let engine = context.engine()?;
    let mut out = context.output();
    for (spec, state) in engine.store().containers().list()? {
        let member = Member { spec, state };
        if !member.is_up() {
            engine.remove(&member.spec.id, false, args.volumes)?;
            writeln!(out, "Container {}", member.spec.name)?;
        }
    }
    prune_networks(&engine, &mut out)?;
    if args.volumes {
        for volume in engine.store().volumes().list()?.into_iter().filter(|volume| volume.anonymous) {
            if engine.store().volumes().containers_using(&volume.name)?.is_empty() {
                engine.remove_volume(&volume.name)?;
                writeln!(out, "Volume {}", volume.name)?;
            }
        }
    }
    let options = GcOptions {
        dangling_images: true,
        unused_images: args.all,
        build_cache: true,
        spools: true,
        ..GcOptions::default()
    };
    let report = engine.store().gc(&options)?;
    for (id, names) in &report.images {
        writeln!(out, "Image {}", names.first().map_or(id.as_str(), String::as_str))?;
    }
    writeln!(out, "Total reclaimed space: {}", format_bytes(report.freed_bytes))?;
    out.flush()?;
    Ok(0)
}

fn prune_networks(engine: &Engine, out: &mut impl Write) -> Result<(), Failure> {
    let users = engine.network_users()?;
    for network in engine.store().networks().list()? {
        if network.name != DEFAULT_NAME && users.get(&network.id).is_none_or(Vec::is_empty) {
            engine.remove_network(&network.id)?;
            let project = network.labels.get(label::PROJECT);
            writeln!(out, "Network {}{}", network.name, project.map(|name| format!(" of {name}")).unwrap_or_default())?;
        }
    }
    Ok(())
}

fn confirm(args: &Prune) -> Result<bool, Failure> {
    let mut what = "all stopped containers, all networks that no container uses, ".to_owned();
    if args.volumes {
        what.push_str("all anonymous volumes that no container uses, ");
    }
    what.push_str(if args.all { "all images that no container uses" } else { "all images without a name" });
    let mut err = std::io::stderr().lock();
    write!(err, "This removes {what} and what builds remember.\nAre you sure? [yN] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if !std::io::stdin().is_terminal() {
        writeln!(err)?;
    }
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
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
