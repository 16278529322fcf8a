use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::base::units::format_bytes;
use crate::cli::members::Member;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::show::time;
use crate::cli::{Context, Failure, Outcome};
use crate::model::image::Image;
use crate::model::reference::Reference;

/// List the images that containers of the project were made from
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services or containers
    targets: Vec<String>,
    /// Output: table, json or a template
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

/// A container with its image, where that still exists.
struct Used<'m> {
    member: &'m Member,
    repository: String,
    tag: String,
    image: Option<Image>,
}

/// Lists the images in use.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let format = Format::parse(&args.format)?;
    let scope = context.in_scope()?;
    let mut used = Vec::new();
    for member in scope.select(context, &args.targets)? {
        used.push(look_up(member, scope.engine.store())?);
    }
    let mut out = context.output();
    if args.quiet {
        let mut ids: Vec<String> =
            used.iter().filter_map(|used| Some(used.member.spec.image_id.as_ref()?.to_string())).collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            writeln!(out, "{id}")?;
        }
    } else {
        let now = Timestamp::now();
        let rows = used.iter().map(row).collect();
        list::write(&mut out, &format, JsonList::Array, rows, || table(&used, now))?;
    }
    out.flush()?;
    Ok(0)
}

fn look_up<'m>(member: &'m Member, store: &crate::store::Store) -> Result<Used<'m>, Failure> {
    let image = match &member.spec.image_id {
        Some(id) => match store.images().get(id) {
            Ok(image) => Some(image),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let (repository, tag) = match member.spec.image.parse::<Reference>() {
        Ok(reference) => (reference.familiar_name(), reference.tag.unwrap_or_else(|| "<none>".into())),
        Err(_) => ("<none>".into(), "<none>".into()),
    };
    Ok(Used { member, repository, tag, image })
}

fn platform(image: &Image) -> String {
    let config = &image.config;
    match &config.variant {
        Some(variant) => format!("{}/{}/{variant}", config.os, config.architecture),
        None => format!("{}/{}", config.os, config.architecture),
    }
}

fn created(image: &Image) -> Option<Timestamp> {
    image.config.created.as_ref()?.parse().ok()
}

/// Source of the keys: docker/compose `cmd/compose/images.go`.
fn row(used: &Used<'_>) -> Map<String, Value> {
    let image = used.image.as_ref();
    let row = json!({
        "ID": used.member.spec.image_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        "ContainerName": used.member.spec.name,
        "Repository": used.repository,
        "Tag": used.tag,
        "Platform": image.map(platform).unwrap_or_default(),
        "Size": image.map_or(0, Image::size_bytes),
        "Created": image.and_then(created).map(|time| time.to_string()),
    });
    match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn table(used: &[Used<'_>], now: Timestamp) -> Table {
    let mut table = Table::wide(["CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED"]);
    for used in used {
        let image = used.image.as_ref();
        table.row(vec![
            used.member.spec.name.clone(),
            used.repository.clone(),
            used.tag.clone(),
            image.map(platform).unwrap_or_default(),
            used.member.spec.image_id.as_ref().map(|id| id.short().to_owned()).unwrap_or_default(),
            image.map(|image| format_bytes(image.size_bytes())).unwrap_or_default(),
            image.and_then(created).map(|created| time::ago(created, now)).unwrap_or_default(),
        ]);
    }
    table
}
