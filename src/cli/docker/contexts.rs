//! `docker context ...`: there is one, this machine.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::inspect;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::{Context, Mistake, Outcome};

/// The name of the only context.
const DEFAULT: &str = "default";

/// Where containers run: on this machine
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List contexts: the only one
    #[command(visible_alias = "list")]
    Ls(List),
    /// Show what is known of a context
    Inspect(Inspect),
    /// Print the name of the context in use
    Show,
    /// Use a context
    Use {
        /// Its name
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Output: table, json or a template
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Only names
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
struct Inspect {
    /// Names; the one in use when left out
    names: Vec<String>,
    /// Output: json or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Does what the second word says.
pub fn run(context: &Context, args: &Args) -> Outcome {
    match &args.verb {
        Verb::Ls(args) => list(context, args),
        Verb::Inspect(args) => {
            let names = if args.names.is_empty() { vec![DEFAULT.to_owned()] } else { args.names.clone() };
            inspect::write(context, args.format.as_deref(), &names, |name| {
                check(name)?;
                Ok(
                    json!({"Name": DEFAULT, "Metadata": {}, "Endpoints": {"docker": {"Host": "", "SkipTLSVerify": false}},
                    "TLSMaterial": {}, "Storage": {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"}}),
                )
            })
        }
        Verb::Show => say(context, DEFAULT),
        Verb::Use { name } => {
            check(name)?;
            say(context, DEFAULT)
        }
    }
}

/// Errors: a name that is none. What was meant for another machine must not happen on this one.
pub fn check(name: &str) -> Result<(), Mistake> {
    if name == DEFAULT {
        return Ok(());
    }
    Err(Mistake::Usage {
        text: format!("context \"{name}\": context not found: wharf works on this machine only"),
        hint: Some("leave out --context, unset DOCKER_CONTEXT, or run it there: ssh HOST wharf …".into()),
    })
}

fn say(context: &Context, line: &str) -> Outcome {
    let mut out = context.output();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(0)
}

fn list(context: &Context, args: &List) -> Outcome {
    const DESCRIPTION: &str = "This machine, without a daemon";
    if args.quiet {
        return say(context, DEFAULT);
    }
    let format = Format::parse(&args.format)?;
    let row = json!({"Name": DEFAULT, "Current": true, "Description": DESCRIPTION, "DockerEndpoint": "", "Error": ""});
    let row = match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let mut out = context.output();
    list::write(&mut out, &format, JsonList::Lines, vec![row], || {
        let mut table = Table::new(["NAME", "DESCRIPTION", "DOCKER ENDPOINT", "ERROR"]);
        table.row(["default *", DESCRIPTION, "", ""].map(str::to_owned).to_vec());
        table
    })?;
    out.flush()?;
    Ok(0)
}
