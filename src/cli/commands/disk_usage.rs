//! `system df`.

use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::base::units::format_bytes;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::show::{container, time};
use crate::cli::{Context, Mistake, Outcome};
use crate::engine::disk_usage::DiskUsage;

/// Show what takes the disk's room, and what of it nothing needs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Each image, container and volume
    #[arg(short, long)]
    verbose: bool,
    /// Output: table, json or a template such as '{{.Type}} {{.Size}}'
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
}

/// One line of the summary.
struct Line {
    kind: &'static str,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

/// Measures and shows.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let format = Format::parse(&args.format)?;
    if args.verbose && !matches!(format, Format::Table) {
        return Err(Mistake::usage("--verbose shows tables: it goes with no --format").into());
    }
    let usage = context.engine()?.disk_usage()?;
    let mut out = context.output();
    if args.verbose {
        verbose(&mut out, &usage)?;
    } else {
        let lines = lines(&usage);
        list::write(&mut out, &format, JsonList::Lines, lines.iter().map(row).collect(), || {
            let mut table = Table::new(["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
            for line in &lines {
                let (size, reclaimable) = (format_bytes(line.size), line.reclaimable());
                table.row(vec![line.kind.into(), line.total.to_string(), line.active.to_string(), size, reclaimable]);
            }
            table
        })?;
    }
    out.flush()?;
    Ok(0)
}

fn lines(usage: &DiskUsage) -> [Line; 4] {
    let (containers, ended) = usage.containers_bytes();
    let (volumes, free) = usage.volumes_bytes();
    [
        Line {
            kind: "Images",
            total: usage.images.len(),
            active: usage.images.iter().filter(|image| image.containers > 0).count(),
            size: usage.layers_bytes,
            reclaimable: usage.free_layers_bytes,
        },
        Line {
            kind: "Containers",
            total: usage.containers.len(),
            active: usage.running(),
            size: containers,
            reclaimable: ended,
        },
        Line {
            kind: "Local Volumes",
            total: usage.volumes.len(),
            active: usage.volumes.iter().filter(|(_, _, users)| *users > 0).count(),
            size: volumes,
            reclaimable: free,
        },
        Line {
            kind: "Build Cache",
            total: usage.steps,
            active: 0,
            size: usage.build_cache_bytes,
            reclaimable: usage.build_cache_bytes,
        },
    ]
}

impl Line {
    /// `11.63MB (70%)`.
    fn reclaimable(&self) -> String {
        let text = format_bytes(self.reclaimable);
        match (self.reclaimable * 100).checked_div(self.size) {
            Some(percent) if self.kind != "Build Cache" => format!("{text} ({percent}%)"),
            _ => text,
        }
    }
}

fn row(line: &Line) -> Map<String, Value> {
    let row = json!({
        "Type": line.kind,
        "TotalCount": line.total.to_string(),
        "Active": line.active.to_string(),
        "Size": format_bytes(line.size),
        "Reclaimable": line.reclaimable(),
    });
    match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn verbose(out: &mut impl Write, usage: &DiskUsage) -> std::io::Result<()> {
    let now = Timestamp::now();
    writeln!(out, "Images space usage:\n")?;
    let mut table =
        Table::new(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"]);
    for image in &usage.images {
        let none = || "<none>".to_owned();
        let name = image.names.first();
        let created = image.image.config.created.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
        table.row(vec![
            name.map_or_else(none, |name| name.familiar_name()),
            name.and_then(|name| name.tag.clone()).unwrap_or_else(none),
            image.image.id.short().to_owned(),
            created.map_or_else(|| "N/A".to_owned(), |created| time::ago(created, now)),
            format_bytes(image.shared_bytes + image.own_bytes),
            format_bytes(image.shared_bytes),
            format_bytes(image.own_bytes),
            image.containers.to_string(),
        ]);
    }
    table.write(out)?;
    writeln!(out, "\nContainers space usage:\n")?;
    let mut table =
        Table::new(["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"]);
    for (spec, state, size) in &usage.containers {
        let is_volume = |mount: &&crate::model::container::Mount| {
            matches!(mount.source, crate::model::container::MountSource::Volume { .. })
        };
        table.row(vec![
            spec.id.short().to_owned(),
            spec.image.clone(),
            container::command(spec),
            spec.mounts.iter().filter(is_volume).count().to_string(),
            format_bytes(*size),
            time::ago(spec.created, now),
            container::status(state, now),
            spec.name.clone(),
        ]);
    }
    table.write(out)?;
    writeln!(out, "\nLocal Volumes space usage:\n")?;
    let mut table = Table::new(["VOLUME NAME", "LINKS", "SIZE"]);
    for (volume, size, users) in &usage.volumes {
        table.row(vec![volume.name.clone(), users.to_string(), format_bytes(*size)]);
    }
    table.write(out)?;
    writeln!(out, "\nBuild cache usage: {}", format_bytes(usage.build_cache_bytes))
}
