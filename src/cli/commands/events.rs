use std::io::Write;
use std::os::fd::AsFd;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Map, Value, json};

use crate::cli::show::filter::Filters;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::show::time::{parse_moment, with_zone};
use crate::cli::{Context, Failure, Outcome};
use crate::graph::observed::label;
use crate::model::journal::{Entry, Kind};

/// Show what happens to the project's containers; outside of projects, to everything
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services of the project
    services: Vec<String>,
    /// Also what happened since then: a time, a duration back from now (10m), or seconds since 1970
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Nothing younger; ends then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Output: json or a template such as '{{.Action}} {{.Actor.ID}}'
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<String>,
    /// Only those with this property: type=, event=, container=, image=, network=, volume=, label=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

const FILTERS: [&str; 9] = ["container", "event", "image", "label", "label!", "network", "scope", "type", "volume"];

/// What is shown, and how.
struct View {
    filters: Filters,
    /// The project in scope, in Compose's form.
    project: Option<String>,
    services: Vec<String>,
    format: Option<Format>,
}

/// Shows what is known since `--since`, then what comes.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let now = Timestamp::now();
    let moment = |flag, text: &Option<String>| text.as_ref().map(|text| parse_moment(flag, text, now)).transpose();
    let since = moment("--since", &args.since)?.unwrap_or(now);
    let until = moment("--until", &args.until)?;
    let format = if args.json { Some("json") } else { args.format.as_deref() };
    let view = View {
        filters: Filters::parse(&args.filter, &FILTERS)?,
        project: if context.docker { None } else { context.project_name()? },
        services: args.services.clone(),
        format: format.map(Format::parse).transpose()?,
    };
    let engine = context.engine()?;
    let mut reader = engine.store().journal().read()?;
    loop {
        let mut out = context.output();
        for entry in reader.entries()? {
            if entry.time >= since && until.is_none_or(|until| entry.time <= until) && view.shows(&entry) {
                view.write(&mut out, &entry)?;
            }
        }
        out.flush()?;
        drop(out);
        let left = until.map(|until| until.duration_since(Timestamp::now()));
        if left.is_some_and(|left| !left.is_positive()) {
            return Ok(0);
        }
        let timeout = left.and_then(|left| Timespec::try_from(std::time::Duration::try_from(left).ok()?).ok());
        // An interrupted wait looks again.
        let _: rustix::io::Result<usize> =
            rustix::event::poll(&mut [PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN)], timeout.as_ref());
    }
}

impl View {
    fn shows(&self, entry: &Entry) -> bool {
        let attribute = |key: &str| entry.attributes.get(key).map_or("", String::as_str);
        if let Some(project) = &self.project {
            let is_own = entry.kind == Kind::Container && attribute(label::PROJECT) == project;
            let service = attribute(label::SERVICE);
            if !is_own || !(self.services.is_empty() || self.services.iter().any(|name| name == service)) {
                return false;
            }
        }
        let is = |kind: Kind, text: &str| {
            entry.kind == kind && (entry.id == text || attribute("name") == text || is_prefix(&entry.id, text))
        };
        let filters = &self.filters;
        filters.accept("type", |kind| entry.kind.name() == kind)
            && filters.accept("event", |event| {
                entry.action == event || entry.action.split_once(':').is_some_and(|(action, _)| action == event)
            })
            && filters.accept("container", |text| {
                let touched = attribute("container");
                is(Kind::Container, text) || (!touched.is_empty() && is_prefix(touched, text))
            })
            && filters.accept("image", |text| is(Kind::Image, text) || attribute("image") == text)
            && filters.accept("network", |text| is(Kind::Network, text))
            && filters.accept("volume", |text| is(Kind::Volume, text))
            && filters.accept("scope", |scope| scope == "local")
            && filters.accept_labels(&entry.attributes)
    }

    fn write(&self, out: &mut impl Write, entry: &Entry) -> Result<(), Failure> {
        match (&self.format, &self.project) {
            (Some(format), project) => {
                let row = if project.is_some() { compose_row(entry) } else { docker_row(entry) };
                list::write(out, format, JsonList::Lines, vec![row], || Table::new(["EVENT"]))?;
            }
            (None, Some(_)) => {
                let own = |key: &String| !key.starts_with("com.docker.compose");
                let time = local(entry.time).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
                writeln!(out, "{time} container {} {} ({})", entry.action, entry.id, attributes(entry, own))?;
            }
            (None, None) => {
                let time = with_zone(local(entry.time).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string());
                let text = attributes(entry, |_| true);
                writeln!(out, "{time} {} {} {} ({text})", entry.kind.name(), entry.action, entry.id)?;
            }
        }
        Ok(())
    }
}

fn local(time: Timestamp) -> jiff::Zoned {
    time.to_zoned(jiff::tz::TimeZone::system())
}

fn is_prefix(id: &str, text: &str) -> bool {
    text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.starts_with(text)
}

fn attributes(entry: &Entry, shown: impl Fn(&String) -> bool) -> String {
    let pairs = entry.attributes.iter().filter(|(key, _)| shown(key)).map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

/// Source: moby, `api/types/events.Message`.
fn docker_row(entry: &Entry) -> Map<String, Value> {
    let mut row = json!({
        "Type": entry.kind.name(),
        "Action": entry.action,
        "Actor": {"ID": entry.id, "Attributes": entry.attributes},
        "scope": "local",
        "time": entry.time.as_second(),
        "timeNano": i64::try_from(entry.time.as_nanosecond()).unwrap_or(i64::MAX),
    });
    if entry.kind == Kind::Container {
        row["status"] = json!(entry.action);
        row["id"] = json!(entry.id);
        row["from"] = json!(entry.attributes.get("image"));
    }
    match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Source: Compose, `cmd/compose/events.go`.
fn compose_row(entry: &Entry) -> Map<String, Value> {
    let attributes: Map<String, Value> = entry
        .attributes
        .iter()
        .filter(|(key, _)| !key.starts_with("com.docker.compose"))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let row = json!({
        "time": local(entry.time).strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string(),
        "type": "container",
        "service": entry.attributes.get(label::SERVICE),
        "id": entry.id,
        "action": entry.action,
        "attributes": attributes,
    });
    match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
