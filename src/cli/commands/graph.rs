use std::collections::BTreeMap;
use std::io::Write;

use crate::cli::{Context, Outcome};
use crate::graph::render::{self, Picture, State};
use crate::model::project::Project;

/// Draw the services and what they wait for
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services and what they depend on
    services: Vec<String>,
    /// Output: text, dot, mermaid, svg or json
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, hide_possible_values = true)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Dot,
    Mermaid,
    Svg,
    Json,
}

/// How the services fare, when the project has containers and the caller may look.
fn states(context: &Context, project: &Project) -> BTreeMap<String, State> {
    if !rustix::process::geteuid().is_root() || !context.paths.root.exists() {
        return BTreeMap::new();
    }
    let observed = context.engine().ok().and_then(|engine| engine.observe(&project.name, None).ok());
    match observed {
        Some(observed) if !observed.containers.is_empty() => render::states(project, &observed),
        _ => BTreeMap::new(),
    }
}

/// Prints the project's graph.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let options = crate::compose::Options {
        services: args.services.clone(),
        only_services: !args.services.is_empty(),
        ..context.compose_options()?
    };
    let loaded = context.load(&options)?;
    let picture = Picture::of(&loaded.project, states(context, &loaded.project))?;
    let mut out = context.output();
    match args.format {
        Format::Text => out.write_all(picture.text(context.terminal.stdout_colour).as_bytes())?,
        Format::Dot => out.write_all(picture.dot().as_bytes())?,
        Format::Mermaid => out.write_all(picture.mermaid().as_bytes())?,
        Format::Svg => out.write_all(picture.svg().as_bytes())?,
        Format::Json => writeln!(out, "{:#}", picture.json())?,
    }
    out.flush()?;
    Ok(0)
}
