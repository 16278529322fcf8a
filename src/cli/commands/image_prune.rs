//! `image prune`, `builder prune`: images and results of builds that nothing needs.

use std::io::Write;

use crate::base::units::format_bytes;
use crate::cli::prune::{self, Chosen};
use crate::cli::show::filter::{Filters, age_limit};
use crate::cli::{Context, Mistake, Outcome};
use crate::store::GcOptions;

/// Remove images without a name, or all that no container uses
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also images that have names but no container
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only those with this property: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME, dangling=BOOL
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Remove what builds remember
#[derive(Debug, clap::Args)]
pub struct BuildCache {
    /// Accepted for Docker's sake: nothing of it is internal
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what is older: until=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Removes images; prints what went.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until", "dangling"])?;
    let only_dangling = match filters.values("dangling") {
        [] => !args.all,
        [text] if matches!(text.as_str(), "false" | "0") => false,
        [text] if matches!(text.as_str(), "true" | "1") => true,
        _ => return Err(Mistake::value("--filter", "dangling", "it is true or false, once").into()),
    };
    let chosen = Chosen::by(filters)?;
    let question = match only_dangling {
        true => "WARNING! This will remove all dangling images.",
        false => "WARNING! This will remove all images without at least one container associated to them.",
    };
    if !args.force && !context.confirm(question)? {
        return Ok(0);
    }
    let engine = context.engine()?;
    let options =
        GcOptions { dangling_images: true, unused_images: !only_dangling, spools: true, ..GcOptions::default() };
    let report = prune::images(&engine, &options, &chosen)?;
    let mut out = context.output();
    prune::tell_images(&mut out, &report)?;
    writeln!(out, "Total reclaimed space: {}", format_bytes(report.freed_bytes))?;
    out.flush()?;
    Ok(0)
}

/// Removes remembered steps and, unless only old ones are meant, cache mounts.
pub fn build_cache(context: &Context, args: &BuildCache) -> Outcome {
    let filters = Filters::parse(&args.filter, &["until"])?;
    let steps_before = age_limit(&filters)?;
    let question = "WARNING! This will remove all build cache that no build is using.";
    if !args.force && !context.confirm(question)? {
        return Ok(0);
    }
    let engine = context.engine()?;
    let options = GcOptions { build_cache: true, steps_before, ..GcOptions::default() };
    let report = engine.store().gc(&options)?;
    let mut out = context.output();
    writeln!(out, "Total:\t{}", format_bytes(report.freed_bytes))?;
    out.flush()?;
    Ok(0)
}
