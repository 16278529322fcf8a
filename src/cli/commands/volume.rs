use std::io::Write;

use serde_json::{Map, Value, json};

use crate::base::id::random_hex;
use crate::base::units::format_bytes;
use crate::cli::docker::{describe, inspect};
use crate::cli::prune::{self, Chosen};
use crate::cli::show::filter::Filters;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::{Context, Failure, Mistake, Outcome, flags};
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
    Inspect(Inspect),
    Prune(Prune),
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
    /// Only those with this property: dangling=BOOL, driver=NAME, label=KEY[=VALUE], name=TEXT
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Show what is known of volumes, as Docker's JSON
#[derive(Debug, clap::Args)]
struct Inspect {
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
    /// Output: json or a template such as '{{.Mountpoint}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Remove anonymous volumes that no container uses
#[derive(Debug, clap::Args)]
struct Prune {
    /// Also named ones
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only those with this property: label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Make a volume
#[derive(Debug, clap::Args)]
struct Create {
    /// Its name; one is made up when left out
    name: Option<String>,
    #[arg(long = "name", value_name = "NAME", hide = true, conflicts_with = "name")]
    old_name: Option<String>,
    /// Only `local` is there
    #[arg(short, long, value_name = "DRIVER", default_value = "local", hide_default_value = true)]
    driver: String,
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
        Verb::Inspect(args) => {
            let scope = context.in_scope()?;
            inspect::write(context, args.format.as_deref(), &args.volumes, |name| {
                Ok(describe::volume(scope.engine.store(), &scope.engine.store().volumes().get(name)?))
            })
        }
        Verb::Prune(args) => prune(context, args),
        Verb::Rm(args) => remove(context, args),
    }
}

fn list(context: &Context, args: &List) -> Outcome {
    let format = Format::parse(&args.format)?;
    let engine = context.engine()?;
    let filters = Filters::parse(&args.filter, &["dangling", "driver", "label", "label!", "name"])?;
    let mut volumes = engine.store().volumes().list()?;
    volumes.retain(|volume| {
        filters.accept_labels(&volume.labels)
            && filters.accept("name", |name| volume.name.contains(name))
            && filters.accept("driver", |driver| driver == "local")
    });
    if !filters.values("dangling").is_empty() {
        let mut kept = Vec::new();
        for volume in volumes {
            let dangling = engine.store().volumes().containers_using(&volume.name)?.is_empty();
            if filters.accept("dangling", |wanted| matches!(wanted, "true" | "1") == dangling) {
                kept.push(volume);
            }
        }
        volumes = kept;
    }
    let mut out = context.output();
    write(&mut out, engine.store(), &volumes, &format, args.quiet)?;
    out.flush()?;
    Ok(0)
}

/// Writes a list of volumes.
pub(super) fn write(
    out: &mut impl Write,
    store: &Store,
    volumes: &[VolumeRecord],
    format: &Format,
    quiet: bool,
) -> Result<(), Failure> {
    if quiet {
        for volume in volumes {
            writeln!(out, "{}", volume.name)?;
        }
        return Ok(());
    }
    let rows = volumes.iter().map(|volume| row(store, volume)).collect();
    list::write(out, format, JsonList::Lines, rows, || {
        let mut table = Table::new(["DRIVER", "VOLUME NAME"]);
        for volume in volumes {
            table.row(vec!["local".into(), volume.name.clone()]);
        }
        table
    })?;
    Ok(())
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

fn prune(context: &Context, args: &Prune) -> Outcome {
    let filters = Filters::parse(&args.filter, &["label", "label!", "all"])?;
    let all = args.all || filters.values("all").iter().any(|value| matches!(value.as_str(), "true" | "1"));
    let chosen = Chosen::by(filters)?;
    let which = if all { "all" } else { "anonymous local" };
    let question = format!("WARNING! This will remove {which} volumes not used by at least one container.");
    if !args.force && !context.confirm(&question)? {
        return Ok(0);
    }
    let (removed, freed) = prune::volumes(&context.engine()?, all, &chosen)?;
    let mut out = context.output();
    prune::tell(&mut out, "Volumes", &removed)?;
    writeln!(out, "Total reclaimed space: {}", format_bytes(freed))?;
    out.flush()?;
    Ok(0)
}

fn create(context: &Context, args: &Create) -> Outcome {
    if args.driver != "local" {
        return Err(Mistake::value("--driver", &args.driver, "volumes are `local` here; see -o type=…").into());
    }
    let name = args.name.clone().or_else(|| args.old_name.clone());
    let record = VolumeRecord {
        anonymous: name.is_none(),
        name: name.unwrap_or_else(|| random_hex(32)),
        created: jiff::Timestamp::now(),
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
