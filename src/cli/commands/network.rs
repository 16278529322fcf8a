use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use crate::cli::docker::{describe, inspect};
use crate::cli::prune::{self, Chosen};
use crate::cli::show::filter::Filters;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::show::time::docker_time;
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
    #[arg(long, hide = true)]
    ingress: bool,
    #[arg(long, hide = true)]
    scope: Option<String>,
    #[arg(long, hide = true)]
    config_only: bool,
    #[arg(long, hide = true)]
    config_from: Option<String>,
    #[arg(long, hide = true)]
    ipam_driver: Option<String>,
    #[arg(long, hide = true)]
    ipam_opt: Vec<String>,
    /// Addresses of IPv4
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    ipv4: bool,
    /// Addresses of IPv6 as well
    #[arg(long, value_name = "BOOL", default_value_t = false, hide_default_value = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    ipv6: bool,
    /// Address that no container gets, with a name for what has it
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
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
    /// Networks that are not there are no mistake
    #[arg(short, long)]
    force: bool,
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
                if let Some(mode) = describe::network_mode_of(&scope, name) {
                    return Ok(mode);
                }
                Ok(describe::network(&scope, &scope.engine.network_by_name(name)?))
            })
        }
        Verb::Prune(args) => prune(context, args),
        Verb::Rm(args) => remove(context, args),
    }
}

fn list(context: &Context, args: &List) -> Outcome {
    let format = Format::parse(&args.format)?;
    let filters =
        Filters::parse(&args.filter, &["dangling", "driver", "id", "label", "label!", "name", "scope", "type"])?;
    let engine = context.engine()?;
    if context.docker {
        // It is always there with Docker; where it cannot be made yet, the list is right without it.
        drop(engine.network_by_name(net::network::DEFAULT_NAME));
    }
    let users = engine.network_users()?;
    let mut listed: Vec<Listed> = engine.store().networks().list()?.iter().map(Listed::of).collect();
    if context.docker {
        listed.extend(describe::MODES.map(|(name, driver)| Listed::mode(name, driver)));
        listed.sort_by(|a, b| a.name.cmp(&b.name));
    }
    listed.retain(|network| {
        let is_used = users.iter().any(|(id, users)| id.as_str() == network.id && !users.is_empty());
        let kind = if network.is_builtin { "builtin" } else { "custom" };
        filters.accept_labels(&network.labels)
            && filters.accept("name", |name| network.name.contains(name))
            && filters.accept("id", |id| network.id.starts_with(id))
            && filters.accept("driver", |driver| driver == network.driver)
            && filters.accept("scope", |scope| scope == "local")
            && filters.accept("type", |wanted| wanted == kind)
            && filters.accept("dangling", |wanted| {
                let is_dangling = !is_used && !network.is_builtin;
                matches!(wanted, "true" | "1") == is_dangling
            })
    });
    let id = |network: &Listed| if args.no_trunc { network.id.clone() } else { network.id[..12].to_owned() };
    let mut out = context.output();
    if args.quiet {
        for network in &listed {
            writeln!(out, "{}", id(network))?;
        }
    } else {
        let rows = listed.iter().map(|network| network.row(id(network))).collect();
        list::write(&mut out, &format, JsonList::Lines, rows, || {
            if context.docker {
                let mut table = Table::new(["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
                for network in &listed {
                    table.row(vec![id(network), network.name.clone(), network.driver.into(), "local".into()]);
                }
                return table;
            }
            let mut table = Table::new(["NETWORK ID", "NAME", "SUBNET", "BRIDGE"]);
            for network in &listed {
                table.row(vec![id(network), network.name.clone(), network.subnets.clone(), network.bridge.clone()]);
            }
            table
        })?;
    }
    out.flush()?;
    Ok(0)
}

/// A row of the list: a network, or one of the two modes that Docker lists as such.
struct Listed {
    id: String,
    name: String,
    driver: &'static str,
    is_builtin: bool,
    has_ipv4: bool,
    has_ipv6: bool,
    internal: bool,
    subnets: String,
    bridge: String,
    created: String,
    labels: std::collections::BTreeMap<String, String>,
}

impl Listed {
    fn of(network: &NetworkRecord) -> Self {
        let subnets = network.subnets.iter().map(|subnet| format!("{}/{}", subnet.address, subnet.prefix));
        Self {
            id: network.id.to_string(),
            name: network.name.clone(),
            driver: "bridge",
            is_builtin: network.name == net::network::DEFAULT_NAME,
            has_ipv4: network.subnets.iter().any(|subnet| subnet.address.is_ipv4()),
            has_ipv6: network.subnets.iter().any(|subnet| subnet.address.is_ipv6()),
            internal: network.internal,
            subnets: subnets.collect::<Vec<_>>().join(", "),
            bridge: network.bridge.clone(),
            created: docker_time(network.created),
            labels: network.labels.clone(),
        }
    }

    fn mode(name: &str, driver: &'static str) -> Self {
        Self {
            id: describe::mode_id(name),
            name: name.to_owned(),
            driver,
            is_builtin: true,
            has_ipv4: true,
            has_ipv6: false,
            internal: false,
            subnets: String::new(),
            bridge: String::new(),
            created: String::new(),
            labels: std::collections::BTreeMap::new(),
        }
    }

    fn row(&self, id: String) -> Map<String, Value> {
        let row = json!({
            "ID": id,
            "Name": self.name,
            "Driver": self.driver,
            "Scope": "local",
            "IPv4": self.has_ipv4.to_string(),
            "IPv6": self.has_ipv6.to_string(),
            "Internal": self.internal.to_string(),
            "Subnets": self.subnets,
            "Bridge": self.bridge,
            "CreatedAt": self.created,
            "Labels": crate::cli::show::container::labels(&self.labels),
        });
        match row {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
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

fn create(context: &Context, args: &Create) -> Outcome {
    if args.driver != "bridge" {
        let reason = "networks are bridges here (`host` and `none` are given to a container directly)";
        return Err(Mistake::value("--driver", &args.driver, reason).into());
    }
    for (flag, value) in [
        ("--scope", args.scope.as_deref().filter(|scope| *scope != "local")),
        ("--ipam-driver", args.ipam_driver.as_deref().filter(|driver| *driver != "default")),
        ("--ipam-opt", args.ipam_opt.first().map(String::as_str)),
        ("--config-from", args.config_from.as_deref()),
        ("--config-only", args.config_only.then_some("true")),
        ("--ingress", args.ingress.then_some("true")),
    ] {
        if let Some(value) = value {
            return Err(Mistake::value(
                flag,
                value,
                "networks are bridges of this host, with addresses that wharf gives",
            )
            .into());
        }
    }
    let config = subnets_of(args)?;
    if matches!(args.name.as_str(), "host" | "none" | "bridge" | "default") {
        return Err(
            Mistake::usage(format!("a network cannot be called {}: the name is a network mode's", args.name)).into()
        );
    }
    let engine = context.engine()?;
    if engine.store().networks().find(&args.name).is_ok_and(|network| network.name == args.name) {
        return Err(Mistake::usage(format!("network with name {} already exists", args.name)).into());
    }
    let wish = net::network::Wish {
        name: args.name.clone(),
        internal: args.internal,
        ipam: (!config.is_empty()).then_some(Ipam { driver: None, config }),
        options: flags::labels(&args.opt),
        labels: flags::labels(&args.label),
        families: net::subnet::Families { ipv4: args.ipv4, ipv6: args.ipv6 },
    };
    let record = engine.create_network(wish)?;
    let mut out = context.output();
    writeln!(out, "{}", record.id)?;
    out.flush()?;
    Ok(0)
}

/// Each range with the gateway, the part and the addresses that lie in it, whatever order they were typed in.
fn subnets_of(args: &Create) -> Result<Vec<IpamConfig>, Mistake> {
    let mut subnets = Vec::new();
    for text in &args.subnet {
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u8>()) else {
            return Err(Mistake::value("--subnet", text, "it takes ADDRESS/LENGTH, such as 10.1.0.0/24"));
        };
        subnets.push((address, prefix));
    }
    let mut configs: Vec<IpamConfig> =
        args.subnet.iter().map(|subnet| IpamConfig { subnet: Some(subnet.clone()), ..IpamConfig::default() }).collect();
    let place = |flag: &'static str, text: &str, address: &str| -> Result<usize, Mistake> {
        let parsed = address.parse::<IpAddr>().map_err(|_| Mistake::value(flag, text, "it is not an address"))?;
        let found = subnets.iter().position(|(subnet, prefix)| shares(parsed, *subnet, *prefix));
        found.ok_or_else(|| Mistake::value(flag, text, "it is in no --subnet"))
    };
    for text in &args.gateway {
        configs[place("--gateway", text, text)?].gateway = Some(text.clone());
    }
    for text in &args.ip_range {
        let address = text.split_once('/').map_or(text.as_str(), |(address, _)| address);
        configs[place("--ip-range", text, address)?].ip_range = Some(text.clone());
    }
    for text in &args.aux_address {
        let (name, address) =
            text.split_once('=').ok_or_else(|| Mistake::value("--aux-address", text, "it takes NAME=ADDRESS"))?;
        configs[place("--aux-address", text, address)?].aux_addresses.insert(name.to_owned(), address.to_owned());
    }
    Ok(configs)
}

/// Whether an address has the first bits of another one.
fn shares(address: IpAddr, other: IpAddr, bits: u8) -> bool {
    let bits = u32::from(bits);
    match (address, other) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits.min(32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits.min(128),
        _ => false,
    }
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
        let network = match engine.store().networks().find(name) {
            Err(error) if error.is_not_found() && args.force => continue,
            found => found?,
        };
        if context.docker && network.name == net::network::DEFAULT_NAME {
            return Err(Mistake::usage("bridge is a pre-defined network and cannot be removed").into());
        }
        engine.remove_network(&network.id)?;
        writeln!(out, "{name}")?;
        out.flush()?;
    }
    Ok(0)
}
