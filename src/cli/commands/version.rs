use std::io::Write;

use serde_json::{Map, Value, json};

use crate::cli::show::template::Template;
use crate::cli::{Context, Mistake, Outcome};

/// Show the version
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output: pretty, json or a template such as '{{.Server.Version}}'
    #[arg(short, long, value_name = "FORMAT", default_value = "pretty", hide_default_value = true)]
    format: String,
    /// Only the number
    #[arg(long)]
    short: bool,
}

/// The version of Docker's interface that scripts ask for: that of Docker 28, whose command line this is.
const API_VERSION: &str = "1.51";

/// Prints the version.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let mut out = context.output();
    match (args.short, args.format.as_str()) {
        (true, _) => writeln!(out, "{version}")?,
        (false, "json") if !context.docker => writeln!(out, "{}", json!({ "version": version }))?,
        (false, "json") => writeln!(out, "{}", Value::Object(facts()))?,
        (false, "pretty" | "") if !context.docker => writeln!(out, "wharf version {version}")?,
        (false, "pretty" | "") => {
            for part in ["Client", "Server"] {
                let name = if part == "Client" { "Client: wharf" } else { "\nServer: wharf (no daemon)" };
                writeln!(out, "{name}\n Version:           {version}\n API version:       {API_VERSION}")?;
                writeln!(out, " OS/Arch:           linux/{}", architecture())?;
            }
        }
        (false, template) if template.contains("{{") => {
            writeln!(out, "{}", Template::parse(template)?.fill(&facts())?)?;
        }
        (false, other) => {
            return Err(Mistake::value("--format", other, "it takes pretty, json or a template").into());
        }
    }
    out.flush()?;
    Ok(0)
}

/// In Docker's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn facts() -> Map<String, Value> {
    let version = env!("CARGO_PKG_VERSION");
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let part = json!({"Version": version, "ApiVersion": API_VERSION, "APIVersion": API_VERSION, "Os": "linux", "Arch": architecture(),
        "KernelVersion": kernel});
    let mut facts = Map::new();
    facts.insert("Client".into(), part.clone());
    facts.insert("Server".into(), part);
    facts
}
