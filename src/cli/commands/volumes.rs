use std::collections::BTreeSet;
use std::io::Write;

use crate::cli::show::list::Format;
use crate::cli::{Context, Outcome};
use crate::graph::dependency;
use crate::graph::observed::label;
use crate::model::container::MountSource;
use crate::model::volume::VolumeRecord;

/// List the volumes of the project
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those that these services use
    services: Vec<String>,
    /// Output: table, json or a template
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Only names
    #[arg(short, long)]
    quiet: bool,
}

/// Lists volumes. Outside of projects, all of them.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let format = Format::parse(&args.format)?;
    let project = context.project_in_scope(&args.services)?;
    if let Some(project) = project.as_ref().and_then(|project| project.project())
        && let Some(name) = args.services.iter().find(|name| !project.services.contains_key(*name))
    {
        return Err(dependency::unknown(project, name).into());
    }
    let engine = context.engine()?;
    let store = engine.store();
    let mut used: BTreeSet<String> = BTreeSet::new();
    for (spec, _) in store.containers().list()? {
        let is_named = spec.labels.get(label::SERVICE).is_some_and(|service| args.services.contains(service));
        let is_ours = project.as_ref().is_none_or(|p| spec.labels.get(label::PROJECT) == Some(&p.name));
        if is_named && is_ours {
            used.extend(spec.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Volume { name, .. } => Some(name.clone()),
                _ => None,
            }));
        }
    }
    let is_wanted = |volume: &VolumeRecord| {
        let is_ours = project.as_ref().is_none_or(|p| volume.labels.get(label::PROJECT) == Some(&p.name));
        if args.services.is_empty() { is_ours } else { used.contains(&volume.name) }
    };
    let volumes: Vec<VolumeRecord> = store.volumes().list()?.into_iter().filter(is_wanted).collect();
    let mut out = context.output();
    super::volume::write(&mut out, store, &volumes, &format, args.quiet)?;
    out.flush()?;
    Ok(0)
}
