use std::collections::BTreeMap;
use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{build_image, history, image_prune, import, load, pull, push, rmi, save, tag};
use crate::base::id::Digest;
use crate::base::units::format_bytes;
use crate::cli::prune;
use crate::cli::show::filter::{Filters, age_limit};
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::show::time;
use crate::cli::{Context, Failure, Mistake, Outcome};
use crate::image::{self, Platform};
use crate::model::image::{Image, LayerRecord};
use crate::store::Store;

/// Images of the store
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Build(Box<build_image::Args>),
    #[command(visible_alias = "list")]
    Ls(List),
    Pull(pull::Args),
    Push(push::Args),
    Save(save::Args),
    History(history::Args),
    Load(load::Args),
    Import(import::Args),
    Tag(tag::Args),
    Inspect(Inspect),
    Prune(image_prune::Args),
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
}

/// List images
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only images with this name
    name: Option<String>,
    /// Output: table, json or a template such as '{{.Repository}}:{{.Tag}}'
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Accepted for Docker's sake: there are no hidden images
    #[arg(short, long)]
    all: bool,
    /// Also the digests by which they can be pulled
    #[arg(long)]
    digests: bool,
    /// Images with their platforms
    #[arg(long, conflicts_with_all = ["digests", "quiet", "format"])]
    tree: bool,
    /// Only those with this property: dangling=BOOL, label=KEY[=VALUE], reference=PATTERN, before=, since=IMAGE, until=TIME
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Show what is known of images, as Docker's JSON
#[derive(Debug, clap::Args)]
struct Inspect {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Output: json or a template such as '{{.Architecture}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The image for this `os/arch`, of one that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

/// Does what the second word says.
pub fn run(context: &Context, args: &Args) -> Outcome {
    match &args.verb {
        Verb::Build(args) => build_image::run(context, args),
        Verb::Ls(args) => list(context, args),
        Verb::Push(args) => push::run(context, args),
        Verb::Save(args) => save::run(context, args),
        Verb::History(args) => history::run(context, args),
        Verb::Pull(args) => pull::pull_images(context, args),
        Verb::Load(args) => load::run(context, args),
        Verb::Import(args) => import::run(context, args),
        Verb::Tag(args) => tag::run(context, args),
        Verb::Inspect(args) => inspect(context, args),
        Verb::Prune(args) => image_prune::run(context, args),
        Verb::Rm(args) => rmi::run(context, args),
    }
}

fn inspect(context: &Context, args: &Inspect) -> Outcome {
    let engine = context.engine()?;
    crate::cli::docker::inspect::write(context, args.format.as_deref(), &args.images, |name| {
        let image = image::find(engine.store(), name, args.platform.as_deref())?;
        let references = engine.store().images().references(&image.id)?;
        Ok(description(&image, &references))
    })
}

/// Source of the keys: moby `api/types/image/image_inspect.go`.
pub fn description(image: &Image, references: &[crate::model::reference::Reference]) -> Value {
    let (digests, tags): (Vec<_>, Vec<_>) = references.iter().partition(|reference| reference.digest.is_some());
    let mut config = json!(image.config.config);
    if let Value::Object(keys) = &mut config {
        for (key, default) in [("User", json!("")), ("WorkingDir", json!(""))]
            .into_iter()
            .chain(["Entrypoint", "Cmd", "Env", "Labels", "OnBuild", "Volumes"].map(|key| (key, Value::Null)))
        {
            keys.entry(key).or_insert(default);
        }
    }
    let mut value = json!({
        "Id": image.id,
        "RepoTags": tags.iter().map(|reference| reference.familiar()).collect::<Vec<_>>(),
        "RepoDigests": digests.iter().map(|reference| reference.familiar()).collect::<Vec<_>>(),
        "Created": image.config.created,
        "Author": image.config.author.clone().unwrap_or_default(),
        "Parent": "",
        "Comment": image.config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default(),
        "DockerVersion": "",
        "Config": config,
        "Architecture": image.config.architecture,
        "Os": image.config.os,
        "Size": image.size_bytes(),
        "RootFS": { "Type": "layers", "Layers": image.diff_ids() },
    });
    if let Some(variant) = &image.config.variant {
        value["Variant"] = json!(variant);
    }
    value
}

/// One name of one image.
struct Row {
    repository: String,
    tag: String,
    digest: String,
    image: Image,
}

/// Lists images.
pub fn list(context: &Context, args: &List) -> Outcome {
    let format = Format::parse(&args.format)?;
    let engine = context.engine()?;
    let mut rows = Vec::new();
    let chosen = Chosen::new(args, &engine.store().images())?;
    let meanings = engine.store().images().meanings()?;
    for (image, references) in engine.store().images().list()? {
        if !chosen.accepts_image(&image, &references) {
            continue;
        }
        // A name stands once in the list, with the image that it means.
        let (own, others): (Vec<_>, Vec<_>) = references
            .into_iter()
            .partition(|name| meanings.iter().any(|(known, id)| known == name && *id == image.id));
        if !own.is_empty() || others.is_empty() {
            rows.extend(names(image, &own));
        }
    }
    rows.retain(|row| chosen.accepts_name(row));
    let mut out = context.output();
    let id = |row: &Row| if args.no_trunc { row.image.id.to_string() } else { row.image.id.short().to_owned() };
    if args.tree {
        tree(engine.store(), &rows)?.write(&mut out)?;
    } else if args.quiet {
        let mut ids: Vec<String> = rows.iter().map(id).collect();
        ids.dedup();
        for id in ids {
            writeln!(out, "{id}")?;
        }
    } else {
        let now = Timestamp::now();
        let fields = rows.iter().map(|row| fields(row, &id(row), now)).collect();
        list::write(&mut out, &format, JsonList::Lines, fields, || {
            let mut table = match args.digests {
                true => Table::new(["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"]),
                false => Table::new(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]),
            };
            for row in &rows {
                let size = format_bytes(row.image.size_bytes());
                let mut cells = vec![row.repository.clone(), row.tag.clone(), id(row), created(row, now), size];
                if args.digests {
                    cells.insert(2, row.digest.clone());
                }
                table.row(cells);
            }
            table
        })?;
    }
    out.flush()?;
    Ok(0)
}

/// What `--filter` and a name ask for.
struct Chosen<'a> {
    filters: Filters,
    name: Option<&'a str>,
    older_than: Option<Timestamp>,
    newer_than: Option<Timestamp>,
    dangling: Option<bool>,
}

impl<'a> Chosen<'a> {
    fn new(args: &'a List, images: &crate::store::Images<'_>) -> Result<Self, Failure> {
        let keys = ["dangling", "label", "reference", "before", "since", "until"];
        let filters = Filters::parse(&args.filter, &keys)?;
        let moment = |key: &str| -> Result<Option<Timestamp>, Failure> {
            let Some(name) = filters.values(key).last() else { return Ok(None) };
            Ok(prune::created(&images.find(name)?))
        };
        let (before, until) = (moment("before")?, age_limit(&filters)?);
        let older_than = before.into_iter().chain(until).min();
        let dangling = match filters.values("dangling") {
            [] => None,
            [text] if matches!(text.as_str(), "true" | "1") => Some(true),
            [text] if matches!(text.as_str(), "false" | "0") => Some(false),
            _ => return Err(Mistake::value("--filter", "dangling", "it is true or false, once").into()),
        };
        Ok(Self { newer_than: moment("since")?, older_than, dangling, name: args.name.as_deref(), filters })
    }

    fn accepts_image(&self, image: &Image, references: &[crate::model::reference::Reference]) -> bool {
        let created = prune::created(image);
        let is_dangling = references.iter().all(|reference| reference.tag.is_none());
        self.filters.accept_labels(&image.config.config.labels)
            && self.dangling.is_none_or(|wanted| wanted == is_dangling)
            && self.older_than.is_none_or(|limit| created.is_some_and(|created| created < limit))
            && self.newer_than.is_none_or(|limit| created.is_some_and(|created| created > limit))
    }

    fn accepts_name(&self, row: &Row) -> bool {
        let whole = format!("{}:{}", row.repository, row.tag);
        let fits = |pattern: &str| {
            fits(pattern.as_bytes(), row.repository.as_bytes()) || fits(pattern.as_bytes(), whole.as_bytes())
        };
        self.name.is_none_or(fits) && self.filters.accept("reference", fits)
    }
}

/// Whether a text is as a pattern says: `*` and `?` stand for anything but a slash.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on after a mismatch: the last star, and the text behind what it has taken.
    let (mut at, mut place, mut star) = (0, 0, None);
    while at < text.len() {
        match pattern.get(place) {
            Some(b'*') => {
                star = Some((place, at));
                place += 1;
            }
            Some(letter) if *letter == text[at] || (*letter == b'?' && text[at] != b'/') => {
                at += 1;
                place += 1;
            }
            _ => match star {
                Some((from, taken)) if text[taken] != b'/' => {
                    star = Some((from, taken + 1));
                    (place, at) = (from + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[place..].iter().all(|letter| *letter == b'*')
}

/// Images, and below each the platforms that are here.
fn tree(store: &Store, rows: &[Row]) -> Result<Table, Failure> {
    let mut table = Table::new(["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE"]);
    for row in rows {
        let name = match row.repository.as_str() {
            "<none>" => "<untagged>".to_owned(),
            name => format!("{name}:{}", row.tag),
        };
        let images = match name.parse() {
            Ok(reference) if row.repository != "<none>" => image::platforms_of(store, &reference)?,
            _ => vec![row.image.clone()],
        };
        table.row([vec![name], sizes(&row.image.id, &images)].concat());
        for (number, image) in images.iter().enumerate() {
            let branch = if number + 1 == images.len() { "└─" } else { "├─" };
            let platform = format!("{branch} {}", Platform::of(&image.config));
            table.row([vec![platform], sizes(&image.id, std::slice::from_ref(image))].concat());
        }
    }
    Ok(table)
}

/// Id, unpacked size and size of archives; what several images share counts once.
fn sizes(id: &Digest, images: &[Image]) -> Vec<String> {
    let layers: BTreeMap<&Digest, &LayerRecord> =
        images.iter().flat_map(|image| &image.layers).map(|layer| (&layer.diff_id, layer)).collect();
    let unpacked = layers.values().map(|layer| layer.size_bytes).sum();
    let archives = layers.values().filter_map(|layer| layer.blob.as_ref()).map(|blob| blob.size_bytes).sum();
    vec![id.short().to_owned(), format_bytes(unpacked), format_bytes(archives)]
}

/// One row for each tag; a digest only where there is no tag of that name.
fn names(image: Image, references: &[crate::model::reference::Reference]) -> Vec<Row> {
    let none = || "<none>".to_owned();
    let digest_of = |name: &str| {
        let with_digest = references.iter().find(|other| other.familiar_name() == name && other.digest.is_some());
        with_digest.and_then(|other| other.digest.as_ref()).map_or_else(none, ToString::to_string)
    };
    let mut rows = Vec::new();
    for reference in references {
        let name = reference.familiar_name();
        let has_tag = references.iter().any(|other| other.familiar_name() == name && other.tag.is_some());
        if reference.tag.is_none() && has_tag {
            continue;
        }
        let tag = reference.tag.clone().unwrap_or_else(none);
        rows.push(Row { digest: digest_of(&name), repository: name, tag, image: image.clone() });
    }
    if rows.is_empty() {
        rows.push(Row { repository: none(), tag: none(), digest: none(), image });
    }
    rows
}

fn created(row: &Row, now: Timestamp) -> String {
    let time = row.image.config.created.as_ref().and_then(|text| text.parse().ok());
    time.map_or_else(|| "N/A".into(), |time| time::ago(time, now))
}

/// Source of the keys: docker/cli `formatter/image.go`.
fn fields(row: &Row, id: &str, now: Timestamp) -> Map<String, Value> {
    let fields = json!({
        "Containers": "N/A",
        "CreatedAt": prune::created(&row.image).map(time::docker_time).unwrap_or_default(),
        "CreatedSince": created(row, now),
        "Digest": row.digest,
        "ID": id,
        "Repository": row.repository,
        "SharedSize": "N/A",
        "Size": format_bytes(row.image.size_bytes()),
        "Tag": row.tag,
        "UniqueSize": "N/A",
        "VirtualSize": format_bytes(row.image.size_bytes()),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
