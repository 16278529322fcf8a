use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::base::units::format_bytes;
use crate::cli::show::container::truncate;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::show::time;
use crate::cli::{Context, Outcome};
use crate::image;

/// Longest command in the table.
const COMMAND_WIDTH: usize = 45;

/// Show how an image was made
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id
    image: String,
    /// Output: table, json or a template such as '{{.CreatedBy}}'
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Sizes and dates for people
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    human: bool,
    /// The image for this `os/arch`, of one that has several
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Do not cut long values
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

/// One step, newest first. Only the image itself has an id here: builders keep none of the steps between.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let format = Format::parse(&args.format)?;
    let engine = context.engine()?;
    let image = image::find(engine.store(), &args.image, args.platform.as_deref())?;
    let mut sizes = image.layers.iter().map(|layer| layer.size_bytes);
    let now = Timestamp::now();
    let mut rows: Vec<Map<String, Value>> = Vec::new();
    for step in &image.config.history {
        let bytes = if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
        let created: Option<Timestamp> = step.created.as_deref().and_then(|text| text.parse().ok());
        let command = step.created_by.clone().unwrap_or_default().replace('\t', " ");
        let row = json!({
            "ID": "<missing>",
            "CreatedAt": created.map_or_else(|| "N/A".to_owned(), |time| time::with_zone(time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())),
            "CreatedSince": created.map_or_else(|| "N/A".to_owned(), |created| time::ago(created, now)),
            "CreatedBy": if args.no_trunc { command } else { truncate(&command, COMMAND_WIDTH) },
            "Size": if args.human { format_bytes(bytes) } else { bytes.to_string() },
            "Comment": step.comment.clone().unwrap_or_default(),
        });
        rows.extend(row.as_object().cloned());
    }
    rows.reverse();
    if let Some(first) = rows.first_mut() {
        let id = if args.no_trunc { image.id.to_string() } else { image.id.short().to_owned() };
        first.insert("ID".into(), id.into());
    }
    let mut out = context.output();
    if args.quiet {
        for row in &rows {
            writeln!(out, "{}", row["ID"].as_str().unwrap_or_default())?;
        }
    } else {
        let table = table(&rows, args.human);
        list::write(&mut out, &format, JsonList::Lines, rows, || table)?;
    }
    out.flush()?;
    Ok(0)
}

fn table(rows: &[Map<String, Value>], human: bool) -> Table {
    let created = if human { "CreatedSince" } else { "CreatedAt" };
    let title = if human { "CREATED" } else { "CREATED AT" };
    let mut table = Table::new(["IMAGE", title, "CREATED BY", "SIZE", "COMMENT"]);
    for row in rows {
        let cell = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        table.row([cell("ID"), cell(created), cell("CreatedBy"), cell("Size"), cell("Comment")].to_vec());
    }
    table
}
