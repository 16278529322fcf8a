pub(super) mod digests;
mod explain;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use crate::base::fs::Context as _;
use crate::cli::show::table::Table;
use crate::cli::{Context, Failure, Outcome};
use crate::compose::node::Value;
use crate::compose::{self, Loaded, Node, Options};
use crate::graph::dependency::Graph;
use crate::graph::{dependency, hash};
use crate::model::project::{Project, Service};

/// Show the project as it is understood: merged, interpolated, canonical
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services and what they depend on
    services: Vec<String>,
    /// Output: yaml or json
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    format: Option<Format>,
    /// Print the environment that interpolation saw
    #[arg(long, group = "list")]
    environment: bool,
    /// Print where each value comes from, or those below a path (`web`, `services.web.ports[0]`)
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "", group = "list")]
    explain: Option<String>,
    /// Print the config hash of a service, or of all (`*`)
    #[arg(long, value_name = "SERVICE", group = "list")]
    hash: Option<String>,
    /// Print the images, one per line
    #[arg(long, group = "list")]
    images: bool,
    /// Print a file that pins the images to their digests, to lay over this one
    #[arg(long)]
    lock_image_digests: bool,
    /// Print the models, one per line
    #[arg(long, group = "list")]
    models: bool,
    /// Print the keys of the networks, one per line
    #[arg(long, group = "list")]
    networks: bool,
    /// Print the profiles, one per line
    #[arg(long, group = "list")]
    profiles: bool,
    /// Print the services, one per line, dependencies first
    #[arg(long = "services", group = "list")]
    list_services: bool,
    /// Print the variables of the files and their defaults
    #[arg(long, group = "list")]
    variables: bool,
    /// Print the keys of the volumes, one per line
    #[arg(long, group = "list")]
    volumes: bool,
    /// Do not check references between services, networks and volumes
    #[arg(long)]
    no_consistency: bool,
    /// Do not read env files of services
    #[arg(long)]
    no_env_resolution: bool,
    /// Do not substitute variables
    #[arg(long)]
    no_interpolate: bool,
    /// Do not fill in implicit networks, names and dependencies
    #[arg(long)]
    no_normalize: bool,
    /// Do not make paths absolute
    #[arg(long)]
    no_path_resolution: bool,
    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only check, print nothing
    #[arg(short, long)]
    quiet: bool,
    /// Replace tags by digests, which the registries are asked for
    #[arg(long)]
    resolve_image_digests: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// Loads the project and prints it, or the part that was asked for.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let options = Options {
        services: args.services.clone(),
        only_services: !args.services.is_empty(),
        interpolate: !args.no_interpolate,
        normalize: !args.no_normalize,
        resolve_paths: !args.no_path_resolution,
        resolve_environment: !args.no_env_resolution,
        check_consistency: !args.no_consistency,
        explain: args.explain.is_some(),
        ..context.compose_options()?
    };
    let text = match args.variables {
        true => variables(&options, args.format)?,
        false => {
            let mut loaded = context.load(&options)?;
            if args.resolve_image_digests || args.lock_image_digests {
                digests::resolve(&mut loaded.tree)?;
            }
            if args.lock_image_digests {
                digests::keep_images_only(&mut loaded.tree);
            }
            text(&loaded, args)?
        }
    };
    if args.quiet {
        return Ok(0);
    }
    if let Some(file) = &args.output {
        std::fs::write(file, text).context("write", file)?;
        return Ok(0);
    }
    let mut out = context.output();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}

/// The variables of the files: a table; or, where a format was asked for, Compose's mapping of them.
fn variables(options: &Options, format: Option<Format>) -> Result<String, Failure> {
    let variables = compose::variables(options)?;
    match format {
        None => {
            let mut table = Table::wide(["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"]);
            for variable in variables.into_values() {
                table.row(vec![variable.name, variable.required.to_string(), variable.default, variable.presence]);
            }
            let mut text = Vec::new();
            table.write(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Some(Format::Json) => {
            let by_name: serde_json::Map<String, serde_json::Value> = variables
                .into_iter()
                .map(|(name, variable)| {
                    let value = serde_json::json!({
                        "Name": variable.name,
                        "DefaultValue": variable.default,
                        "PresenceValue": variable.presence,
                        "Required": variable.required,
                    });
                    (name, value)
                })
                .collect();
            let mut text = Vec::new();
            let indentation = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut text, indentation);
            serde::Serialize::serialize(&by_name, &mut writer).map_err(std::io::Error::from)?;
            Ok(String::from_utf8_lossy(&text).into_owned() + "\n")
        }
        Some(Format::Yaml) => {
            let entry = |variable: compose::Variable| {
                let fields: [(&str, Node); 4] = [
                    ("name", variable.name.into()),
                    ("defaultvalue", variable.default.into()),
                    ("presencevalue", variable.presence.into()),
                    ("required", variable.required.into()),
                ];
                let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value));
                Node::from(Value::Map(fields.collect()))
            };
            let entries = variables.into_iter().map(|(name, variable)| (name, entry(variable)));
            Ok(compose::yaml_text(&Value::Map(entries.collect()).into()))
        }
    }
}

fn text(loaded: &Loaded, args: &Args) -> Result<String, Failure> {
    let project = &loaded.project;
    if let Some(path) = &args.explain {
        return explain::text(&loaded.explanations, path, matches!(args.format, Some(Format::Json)));
    }
    let lines = if args.environment {
        project.environment.iter().map(|(key, value)| format!("{key}={value}")).collect()
    } else if let Some(service) = &args.hash {
        hashes(project, service)?
    } else if args.images {
        images(loaded)
    } else if args.models {
        let models = loaded.tree.get("models").and_then(Node::as_map).into_iter().flat_map(|map| map.values());
        models.filter_map(|model| model.get("model")?.as_str().map(str::to_owned)).collect()
    } else if args.networks {
        project.networks.keys().cloned().collect()
    } else if args.profiles {
        profiles(project)
    } else if args.list_services && args.no_interpolate {
        loaded.tree.get("services").and_then(Node::as_map).into_iter().flat_map(|map| map.keys().cloned()).collect()
    } else if args.list_services {
        Graph::of(project)?.order().into_iter().map(str::to_owned).collect()
    } else if args.volumes {
        project.volumes.keys().cloned().collect()
    } else {
        return Ok(match args.format {
            None | Some(Format::Yaml) => loaded.to_yaml(),
            Some(Format::Json) => loaded.to_json(),
        });
    };
    let lines: Vec<String> = lines;
    Ok(lines.into_iter().map(|line| line + "\n").collect())
}

fn hashes(project: &Project, wanted: &str) -> Result<Vec<String>, Failure> {
    let wanted: Vec<&str> = wanted.split(',').collect();
    if let Some(name) = wanted.iter().find(|name| **name != "*" && !project.services.contains_key(**name)) {
        return Err(dependency::unknown(project, name).into());
    }
    let all = hash::all(project).into_iter();
    Ok(all
        .filter(|(name, _)| wanted.iter().any(|other| *other == "*" || other == name))
        .map(|(name, hash)| format!("{name} {hash}"))
        .collect())
}

/// The images of services, and those that their hooks and mounts need.
fn images(loaded: &Loaded) -> Vec<String> {
    let project = &loaded.project;
    let mut images: Vec<String> = project.services.values().map(|service| image_of(project, service)).collect();
    for (list, key) in [("pre_start", "image"), ("volumes", "source")] {
        for service in project.services.keys() {
            let items = loaded.tree.get_path(&["services", service, list]).and_then(Node::as_sequence);
            let wanted = |item: &&Node| list == "pre_start" || item.get("type").and_then(Node::as_str) == Some("image");
            for image in items.unwrap_or_default().iter().filter(wanted).filter_map(|item| item.get(key)?.as_str()) {
                if !project.services.contains_key(image) && !images.iter().any(|other| other == image) {
                    images.push(image.to_owned());
                }
            }
        }
    }
    images
}

/// The image that a service runs: its own, else that of its build.
pub fn image_of(project: &Project, service: &Service) -> String {
    service.image.clone().unwrap_or_else(|| project.name_of(&[&service.name]))
}

fn profiles(project: &Project) -> Vec<String> {
    let services = project.services.values().chain(project.disabled_services.values());
    let names: BTreeSet<&String> = services.flat_map(|service| &service.profiles).collect();
    names.into_iter().cloned().collect()
}
