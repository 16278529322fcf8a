use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Map, Value};

use crate::cli::members::Member;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::{Context, Mistake, Outcome};
use crate::graph::observed::label;

/// List projects that have running containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also stopped projects
    #[arg(short, long)]
    all: bool,
    /// Only those with this in their name: name=TEXT
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Output: table, json or a template
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Only names
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Default)]
struct Project {
    states: BTreeMap<String, usize>,
    files: String,
    is_up: bool,
}

/// Lists projects.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let format = Format::parse(&args.format)?;
    let names = filters(&args.filter)?;
    let members = context.engine()?.store().containers().list()?;
    let mut projects: BTreeMap<String, Project> = BTreeMap::new();
    for member in members.into_iter().map(|(spec, state)| Member { spec, state }) {
        let Some(name) = member.project() else { continue };
        let project = projects.entry(name.to_owned()).or_default();
        if args.all || member.is_up() {
            *project.states.entry(member.state.status.to_string()).or_default() += 1;
        }
        project.is_up |= member.is_up();
        if let Some(files) = member.spec.labels.get(label::CONFIG_FILES) {
            project.files.clone_from(files);
        }
    }
    projects.retain(|name, project| (args.all || project.is_up) && names.iter().all(|part| name.contains(part)));
    let mut out = context.output();
    if args.quiet {
        for name in projects.keys() {
            writeln!(out, "{name}")?;
        }
    } else {
        let rows = projects.iter().map(|(name, project)| row(name, project)).collect();
        list::write(&mut out, &format, JsonList::Array, rows, || table(&projects))?;
    }
    out.flush()?;
    Ok(0)
}

fn filters(filters: &[String]) -> Result<Vec<String>, Mistake> {
    filters
        .iter()
        .map(|filter| match filter.split_once('=') {
            Some(("name", text)) => Ok(text.to_owned()),
            _ => Err(Mistake::value("--filter", filter, "it takes name=TEXT")),
        })
        .collect()
}

/// `exited(1), running(2)`.
fn status(project: &Project) -> String {
    project.states.iter().map(|(state, count)| format!("{state}({count})")).collect::<Vec<_>>().join(", ")
}

fn row(name: &str, project: &Project) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("Name".into(), name.into());
    row.insert("Status".into(), status(project).into());
    row.insert("ConfigFiles".into(), project.files.clone().into());
    row
}

fn table(projects: &BTreeMap<String, Project>) -> Table {
    let mut table = Table::wide(["NAME", "STATUS", "CONFIG FILES"]);
    for (name, project) in projects {
        table.row(vec![name.clone(), status(project), project.files.clone()]);
    }
    table
}
