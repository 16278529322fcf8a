use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Map, Value, json};

use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::{Context, Outcome, flags};
use crate::model::network::NetworkRecord;
use crate::model::project::{Ipam, IpamConfig};
use crate::net;

/// Networks
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    #[command(visible_alias = "list")]
    Ls(List),
    Create(Create),
    #[command(visible_alias = "remove")]
    Rm(Remove),
}

/// List networks
#[derive(Debug, clap::Args)]
struct List {
    /// Output: table, json or a template
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

/// Make a network
#[derive(Debug, clap::Args)]
struct Create {
    /// Its name
    name: String,
    /// Without a way out
    #[arg(long)]
    internal: bool,
    /// Range of addresses, as 10.1.0.0/24
    #[arg(long, value_name = "RANGE")]
    subnet: Vec<String>,
    /// The bridge's address, one for each range
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// Part of the range that free addresses are taken from
    #[arg(long, value_name = "RANGE")]
    ip_range: Vec<String>,
    /// Label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
}

/// Remove networks that no container uses
#[derive(Debug, clap::Args)]
struct Remove {
    /// Names or ids
    #[arg(required = true)]
    networks: Vec<String>,
}

/// Does what the second word says.
pub fn run(context: &Context, args: &Args) -> Outcome {
    match &args.verb {
        Verb::Ls(args) => list(context, args),
        Verb::Create(args) => create(context, args),
        Verb::Rm(args) => remove(context, args),
    }
}

fn list(context: &Context, args: &List) -> Outcome {
    let format = Format::parse(&args.format)?;
    let networks = context.engine()?.store().networks().list()?;
    let mut out = context.output();
    if args.quiet {
        for network in &networks {
            writeln!(out, "{}", network.id.short())?;
        }
    } else {
        let rows = networks.iter().map(row).collect();
        list::write(&mut out, &format, JsonList::Lines, rows, || {
            let mut table = Table::new(["NETWORK ID", "NAME", "SUBNET", "BRIDGE"]);
            for network in &networks {
                let id = network.id.short().to_owned();
                table.row(vec![id, network.name.clone(), subnets(network), network.bridge.clone()]);
            }
            table
        })?;
    }
    out.flush()?;
    Ok(0)
}

fn subnets(network: &NetworkRecord) -> String {
    let subnets = network.subnets.iter().map(|subnet| format!("{}/{}", subnet.address, subnet.prefix));
    subnets.collect::<Vec<_>>().join(", ")
}

fn row(network: &NetworkRecord) -> Map<String, Value> {
    let row = json!({
        "ID": network.id.short(),
        "Name": network.name,
        "Driver": "bridge",
        "Scope": "local",
        "Internal": network.internal.to_string(),
        "Subnets": subnets(network),
        "Bridge": network.bridge,
        "CreatedAt": network.created.to_string(),
        "Labels": crate::cli::show::container::labels(&network.labels),
    });
    match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn create(context: &Context, args: &Create) -> Outcome {
    let config: Vec<IpamConfig> = args
        .subnet
        .iter()
        .enumerate()
        .map(|(index, subnet)| IpamConfig {
            subnet: Some(subnet.clone()),
            gateway: args.gateway.get(index).cloned(),
            ip_range: args.ip_range.get(index).cloned(),
            aux_addresses: BTreeMap::new(),
        })
        .collect();
    let wish = net::network::Wish {
        name: args.name.clone(),
        internal: args.internal,
        ipam: (!config.is_empty()).then_some(Ipam { driver: None, config }),
        options: flags::labels(&args.opt),
        labels: flags::labels(&args.label),
        ..net::network::Wish::default()
    };
    let record = context.engine()?.create_network(wish)?;
    let mut out = context.output();
    writeln!(out, "{}", record.id)?;
    out.flush()?;
    Ok(0)
}

fn remove(context: &Context, args: &Remove) -> Outcome {
    let engine = context.engine()?;
    let mut out = context.output();
    for name in &args.networks {
        let network = engine.store().networks().find(name)?;
        engine.remove_network(&network.id)?;
        writeln!(out, "{name}")?;
        out.flush()?;
    }
    Ok(0)
}
