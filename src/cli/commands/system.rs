use std::io::{IsTerminal, Write};

use crate::base::units::format_bytes;
use crate::cli::members::Member;
use crate::cli::{Context, Failure, Outcome};
use crate::engine::Engine;
use crate::graph::observed::label;
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
    Prune(Prune),
    #[command(hide = true)]
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

/// Finish or remove what killed processes and power cuts left
#[derive(Debug, clap::Args)]
struct Check {
    /// Also remove what may have lost data
    #[arg(long)]
    repair: bool,
}

/// Does what the second word says.
pub fn run(context: &Context, args: &Args) -> Outcome {
    match &args.verb {
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
    let options = GcOptions { dangling_images: true, unused_images: args.all, build_cache: true, spools: true };
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
    engine.store().sweep_leftovers()?;
    if args.repair {
        engine.store().sweep_after_power_cut()?;
    }
    Ok(0)
}
