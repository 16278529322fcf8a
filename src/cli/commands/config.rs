use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use crate::base::fs::Context as _;
use crate::cli::{Context, Failure, Outcome};
use crate::compose::{Loaded, Options};
use crate::graph::dependency::Graph;
use crate::graph::{dependency, hash};
use crate::model::project::{Project, Service};

/// Show the project as it is understood: merged, interpolated, canonical
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services and what they depend on
    services: Vec<String>,
    /// Output: yaml or json
    #[arg(long, value_name = "FORMAT", default_value = "yaml", hide_default_value = true, hide_possible_values = true)]
    format: Format,
    /// Print the environment that interpolation saw
    #[arg(long, group = "list")]
    environment: bool,
    /// Print the config hash of a service, or of all (`*`)
    #[arg(long, value_name = "SERVICE", group = "list")]
    hash: Option<String>,
    /// Print the images, one per line
    #[arg(long, group = "list")]
    images: bool,
    /// Print the keys of the networks, one per line
    #[arg(long, group = "list")]
    networks: bool,
    /// Print the profiles, one per line
    #[arg(long, group = "list")]
    profiles: bool,
    /// Print the services, one per line, dependencies first
    #[arg(long = "services", group = "list")]
    list_services: bool,
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
        ..context.compose_options()?
    };
    let loaded = context.load(&options)?;
    if args.quiet {
        return Ok(0);
    }
    let text = text(&loaded, args)?;
    if let Some(file) = &args.output {
        std::fs::write(file, text).context("write", file)?;
        return Ok(0);
    }
    let mut out = context.output();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}

fn text(loaded: &Loaded, args: &Args) -> Result<String, Failure> {
    let project = &loaded.project;
    let lines = if args.environment {
        project.environment.iter().map(|(key, value)| format!("{key}={value}")).collect()
    } else if let Some(service) = &args.hash {
        hashes(project, service)?
    } else if args.images {
        project.services.values().map(|service| image_of(project, service)).collect()
    } else if args.networks {
        project.networks.keys().cloned().collect()
    } else if args.profiles {
        profiles(project)
    } else if args.list_services {
        Graph::of(project)?.order().into_iter().map(str::to_owned).collect()
    } else if args.volumes {
        project.volumes.keys().cloned().collect()
    } else {
        return Ok(match args.format {
            Format::Yaml => loaded.to_yaml(),
            Format::Json => loaded.to_json(),
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

/// The image that a service runs: its own, else that of its build.
pub fn image_of(project: &Project, service: &Service) -> String {
    service.image.clone().unwrap_or_else(|| project.name_of(&[&service.name]))
}

fn profiles(project: &Project) -> Vec<String> {
    let services = project.services.values().chain(project.disabled_services.values());
    let names: BTreeSet<&String> = services.flat_map(|service| &service.profiles).collect();
    names.into_iter().cloned().collect()
}
