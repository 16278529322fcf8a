use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use crate::cli::docker::{describe, inspect};
use crate::cli::prune::{self, Chosen};
use crate::cli::show::filter::Filters;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::{Context, Mistake, Outcome, flags};
use crate::model::network::{Attachment, NetworkRecord};
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
    Connect(Connect),
    Create(Create),
    Disconnect(Disconnect),
    Inspect(Inspect),
    Prune(Prune),
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
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only those with this property: dangling=BOOL, driver=NAME, id=ID, label=KEY[=VALUE], name=TEXT
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Show what is known of networks, as Docker's JSON
#[derive(Debug, clap::Args)]
struct Inspect {
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// Output: json or a template such as '{{.Internal}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    #[arg(short, long, hide = true)]
    verbose: bool,
}

/// Remove networks that no container uses
#[derive(Debug, clap::Args)]
struct Prune {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only those with this property: label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
}

/// Connect a container to a network, while it runs or for its next start
#[derive(Debug, clap::Args)]
struct Connect {
    /// Name or id
    network: String,
    /// Name or id
    container: String,
    /// Further name of the container in the network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// The network with the highest number gives the default route
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true, allow_negative_numbers = true)]
    gw_priority: i64,
    #[arg(long, hide = true)]
    link: Vec<String>,
    #[arg(long, hide = true)]
    link_local_ip: Vec<String>,
    #[arg(long, hide = true)]
    driver_opt: Vec<String>,
}

/// Take a container out of a network, while it runs or for its next start
#[derive(Debug, clap::Args)]
struct Disconnect {
    /// Name or id
    network: String,
    /// Name or id
    container: String,
    /// It may be out of it already
    #[arg(short, long)]
    force: bool,
}

/// Make a network
#[derive(Debug, clap::Args)]
struct Create {
    /// Its name
    name: String,
    /// Only `bridge` is there
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge", hide_default_value = true)]
    driver: String,
    #[arg(long, hide = true)]
    attachable: bool,
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
        Verb::Connect(args) => connect(context, args),
        Verb::Create(args) => create(context, args),
        Verb::Disconnect(args) => {
            let scope = context.in_scope()?;
            let member = scope.container(&args.container)?;
            let network = scope.engine.network_by_name(&args.network)?;
            scope.engine.disconnect(&member.spec.id, &network.id, &network.name, args.force)?;
            Ok(0)
        }
        Verb::Inspect(args) => {
            let scope = context.in_scope()?;
            inspect::write(context, args.format.as_deref(), &args.networks, |name| {
                Ok(describe::network(&scope, &scope.engine.network_by_name(name)?))
            })
        }
        Verb::Prune(args) => prune(context, args),
        Verb::Rm(args) => remove(context, args),
    }
}

fn list(context: &Context, args: &List) -> Outcome {
    let format = Format::parse(&args.format)?;
    let filters = Filters::parse(&args.filter, &["dangling", "driver", "id", "label", "label!", "name"])?;
    let engine = context.engine()?;
    let users = engine.network_users()?;
    let mut networks = engine.store().networks().list()?;
    networks.retain(|network| {
        let dangling = users.get(&network.id).is_none_or(Vec::is_empty);
        filters.accept_labels(&network.labels)
            && filters.accept("name", |name| network.name.contains(name))
            && filters.accept("id", |id| network.id.as_str().starts_with(id))
            && filters.accept("driver", |driver| driver == "bridge")
            && filters.accept("dangling", |wanted| matches!(wanted, "true" | "1") == dangling)
    });
    let id = |network: &NetworkRecord| {
        if args.no_trunc { network.id.to_string() } else { network.id.short().to_owned() }
    };
    let mut out = context.output();
    if args.quiet {
        for network in &networks {
            writeln!(out, "{}", id(network))?;
        }
    } else {
        let rows = networks.iter().map(row).collect();
        list::write(&mut out, &format, JsonList::Lines, rows, || {
            if context.docker {
                let mut table = Table::new(["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
                for network in &networks {
                    table.row(vec![id(network), network.name.clone(), "bridge".into(), "local".into()]);
                }
                return table;
            }
            let mut table = Table::new(["NETWORK ID", "NAME", "SUBNET", "BRIDGE"]);
            for network in &networks {
                table.row(vec![id(network), network.name.clone(), subnets(network), network.bridge.clone()]);
            }
            table
        })?;
    }
    out.flush()?;
    Ok(0)
}

fn prune(context: &Context, args: &Prune) -> Outcome {
    let chosen = Chosen::by(Filters::parse(&args.filter, &["label", "label!", "until"])?)?;
    let question = "WARNING! This will remove all custom networks not used by at least one container.";
    if !args.force && !context.confirm(question)? {
        return Ok(0);
    }
    let removed = prune::networks(&context.engine()?, &chosen)?;
    let mut out = context.output();
    prune::tell(&mut out, "Networks", &removed)?;
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
    if args.driver != "bridge" {
        let reason = "networks are bridges here (`host` and `none` are given to a container directly)";
        return Err(Mistake::value("--driver", &args.driver, reason).into());
    }
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

fn connect(context: &Context, args: &Connect) -> Outcome {
    let address =
        |text: &String| text.parse().map_err(|_| Mistake::value("--link-local-ip", text, "it is not an address"));
    let link_local = args.link_local_ip.iter().map(address).collect::<Result<Vec<_>, _>>()?;
    let links = args.link.iter().filter_map(|link| link.split_once(':'));
    let links = links.map(|(name, alias)| (alias.to_lowercase(), name.to_lowercase())).collect();
    if let Some(option) = args.driver_opt.first() {
        return Err(Mistake::value("--driver-opt", option, "the driver has no such option here").into());
    }
    let scope = context.in_scope()?;
    let member = scope.container(&args.container)?;
    let network = scope.engine.network_by_name(&args.network)?;
    let attachment = Attachment {
        network: network.id,
        network_name: network.name,
        aliases: args.alias.clone(),
        ipv4: args.ip,
        ipv6: args.ip6,
        mac: None,
        interface: None,
        gateway_priority: args.gw_priority,
        link_local,
        links,
    };
    scope.engine.connect(&member.spec.id, attachment)?;
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
