use std::io::Write;

use serde_json::{Map, Value, json};

use crate::base::id::random_hex;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::{Context, Outcome, flags};
use crate::model::volume::VolumeRecord;
use crate::store::{Kind, Store};

/// Volumes
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    #[command(visible_alias = "list")]
    Ls(List),
    Create(Create),
    #[command(visible_alias = "remove")]
    Rm(Remove),
}

/// List volumes
#[derive(Debug, clap::Args)]
struct List {
    /// Output: table, json or a template
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Only names
    #[arg(short, long)]
    quiet: bool,
}

/// Make a volume
#[derive(Debug, clap::Args)]
struct Create {
    /// Its name; one is made up when left out
    name: Option<String>,
    /// Label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Option of the driver: type, o, device
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
}

/// Remove volumes that no container uses
#[derive(Debug, clap::Args)]
struct Remove {
    /// Names
    #[arg(required = true)]
    volumes: Vec<String>,
    /// One that does not exist is fine
    #[arg(short, long)]
    force: bool,
}

/// Does what the second word says.
pub fn run(context: &Context, args: &Args) -> Outcome {
    match &args.verb {
        Verb::Ls(args) => list(context, args),
        Verb::Create(args) => create(context, args),
        Verb::Rm(args) => remove(context, args),
    }
}

fn list(context: &Context, args: &List) -> Outcome {
    let format = Format::parse(&args.format)?;
    let engine = context.engine()?;
    let volumes = engine.store().volumes().list()?;
    let mut out = context.output();
    if args.quiet {
        for volume in &volumes {
            writeln!(out, "{}", volume.name)?;
        }
    } else {
        let rows = volumes.iter().map(|volume| row(engine.store(), volume)).collect();
        list::write(&mut out, &format, JsonList::Lines, rows, || {
            let mut table = Table::new(["DRIVER", "VOLUME NAME"]);
            for volume in &volumes {
                table.row(vec!["local".into(), volume.name.clone()]);
            }
            table
        })?;
    }
    out.flush()?;
    Ok(0)
}

/// Source of the keys: docker/cli `formatter/volume.go`.
fn row(store: &Store, volume: &VolumeRecord) -> Map<String, Value> {
    let row = json!({
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": crate::cli::show::container::labels(&volume.labels),
        "Links": "N/A",
        "Mountpoint": store.volumes().data_folder(&volume.name),
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    });
    match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn create(context: &Context, args: &Create) -> Outcome {
    let record = VolumeRecord {
        name: args.name.clone().unwrap_or_else(|| random_hex(32)),
        created: jiff::Timestamp::now(),
        anonymous: args.name.is_none(),
        options: flags::labels(&args.opt),
        labels: flags::labels(&args.label),
    };
    context.engine()?.create_volume(&record)?;
    let mut out = context.output();
    writeln!(out, "{}", record.name)?;
    out.flush()?;
    Ok(0)
}

fn remove(context: &Context, args: &Remove) -> Outcome {
    let engine = context.engine()?;
    let mut out = context.output();
    for name in &args.volumes {
        match engine.store().volumes().get(name) {
            Err(error) if error.is_not_found() && args.force => continue,
            Err(error) if error.is_not_found() => {
                return Err(crate::store::Error::NotFound { kind: Kind::Volume, name: name.clone() }.into());
            }
            found => drop(found?),
        }
        engine.remove_volume(name)?;
        writeln!(out, "{name}")?;
        out.flush()?;
    }
    Ok(0)
}
