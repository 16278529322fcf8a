//! `docker inspect` and `docker container inspect`.

use std::io::Write;

use serde_json::Value;

use super::describe;
use crate::base::error::Explain;
use crate::cli::commands::image;
use crate::cli::members::InScope;
use crate::cli::show::template::Template;
use crate::cli::{Context, Failure, Mistake, Outcome};

/// Show what is known of containers, images, volumes and networks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Output: json or a template such as '{{.State.Status}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only things of this kind: container, image, volume or network
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<Kind>,
    /// With the sizes of containers
    #[arg(short, long)]
    size: bool,
}

/// Show what is known of containers
#[derive(Debug, clap::Args)]
pub struct Containers {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
    /// Output: json or a template such as '{{.State.Status}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// With their sizes
    #[arg(short, long)]
    size: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Container,
    Image,
    Volume,
    Network,
}

/// Describes whatever has one of the names.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scope = context.in_scope()?;
    let kinds: &[Kind] = match args.kind {
        Some(ref kind) => std::slice::from_ref(kind),
        None => &[Kind::Container, Kind::Image, Kind::Volume, Kind::Network],
    };
    write(context, args.format.as_deref(), &args.names, |name| {
        for kind in kinds {
            if let Some(value) = find(&scope, *kind, name, args.size)? {
                return Ok(value);
            }
        }
        let noun = match args.kind {
            None => "object",
            Some(Kind::Container) => "container",
            Some(Kind::Image) => "image",
            Some(Kind::Volume) => "volume",
            Some(Kind::Network) => "network",
        };
        Err(Mistake::NoSuchObject { noun, name: name.to_owned() }.into())
    })
}

/// Describes containers.
pub fn containers(context: &Context, args: &Containers) -> Outcome {
    let scope = context.in_scope()?;
    write(context, args.format.as_deref(), &args.names, |name| {
        describe::container(&scope, scope.container(name)?, args.size)
    })
}

fn find(scope: &InScope, kind: Kind, name: &str, size: bool) -> Result<Option<Value>, Failure> {
    let store = scope.engine.store();
    Ok(match kind {
        Kind::Container => match scope.container(name) {
            Ok(member) => Some(describe::container(scope, member, size)?),
            Err(_) => None,
        },
        Kind::Image => match store.images().find(name) {
            Ok(found) => Some(image::description(&found, &store.images().references(&found.id)?)),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        },
        Kind::Volume => match store.volumes().get(name) {
            Ok(found) => Some(describe::volume(store, &found)),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        },
        Kind::Network if describe::MODES.iter().any(|(mode, _)| *mode == name) => {
            describe::network_mode_of(scope, name)
        }
        Kind::Network => match scope.engine.network_by_name(name) {
            Ok(found) => Some(describe::network(scope, &found)),
            Err(_) => None,
        },
    })
}

/// Prints what was found even when something was not; the errors follow.
pub fn write(
    context: &Context,
    format: Option<&str>,
    names: &[String],
    describe: impl Fn(&str) -> Result<Value, Failure>,
) -> Outcome {
    let template = match format {
        None | Some("" | "json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let mut found = Vec::new();
    let mut errors: Vec<Box<dyn Explain>> = Vec::new();
    for name in names {
        match describe(name) {
            Ok(value) => found.push(value),
            Err(Failure::Error(error)) => errors.push(error),
            Err(other) => return Err(other),
        }
    }
    let mut out = context.output();
    match (&template, format) {
        (Some(template), _) => {
            for value in &found {
                writeln!(out, "{}", template.fill_value(value)?)?;
            }
        }
        (None, Some("json")) => writeln!(out, "{}", Value::Array(found))?,
        (None, _) => {
            let mut writer = serde_json::Serializer::with_formatter(
                &mut out,
                serde_json::ser::PrettyFormatter::with_indent(b"    "),
            );
            serde::Serialize::serialize(&found, &mut writer).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    if errors.is_empty() { Ok(0) } else { Err(Failure::Errors(errors)) }
}
