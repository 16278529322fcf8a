//! `manifest inspect`.

use std::io::Write;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{Context, Outcome};
use crate::model::reference::Reference;
use crate::{engine, image};

/// Manifests in registries
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Inspect(Inspect),
}

/// Show an image's manifest, or the list of its platforms, as its registry has it
#[derive(Debug, clap::Args)]
struct Inspect {
    /// Name of the image
    image: String,
    /// With its digest and size
    #[arg(short, long)]
    verbose: bool,
    #[arg(long, hide = true)]
    insecure: bool,
}

/// Does what the second word says.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let Verb::Inspect(args) = &args.verb;
    let reference: Reference = args.image.parse().map_err(engine::Error::from)?;
    let (digest, content) = image::manifest_of(&reference)?;
    let document: Value = serde_json::from_slice(&content).map_err(std::io::Error::from)?;
    let shown = match args.verbose {
        true => {
            let media_type = &document["mediaType"];
            let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": content.len() });
            json!({ "Ref": reference.canonical(), "Descriptor": descriptor, "Manifest": document })
        }
        false => document,
    };
    let mut out = context.output();
    // As wide as Docker writes it.
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    shown.serialize(&mut serializer).map_err(std::io::Error::from)?;
    writeln!(out)?;
    out.flush()?;
    Ok(0)
}
