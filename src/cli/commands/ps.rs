use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::base::units::format_bytes;
use crate::cli::members::{InScope, Member};
use crate::cli::show::filter::Filters;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::show::{container, time};
use crate::cli::{Context, Failure, Mistake, Outcome};
use crate::model::container::{MountSource, NetworkMode, PortBinding, Status};

/// List containers: those of the project in scope, else all
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services or containers
    targets: Vec<String>,
    /// Also stopped ones, and those of `run`
    #[arg(short, long)]
    all: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
    /// Output: table, json or a template such as '{{.Name}} {{.Status}}'
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Only names of services
    #[arg(long)]
    services: bool,
    /// Only those with this property: status=running, name=TEXT, label=KEY[=VALUE], ancestor=IMAGE ...
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Only those in this state: created, running, paused, restarting, exited, dead
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Also containers of services that the file does not have
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    orphans: bool,
    /// The last one made, whatever its state
    #[arg(short, long)]
    latest: bool,
    /// The last N made, whatever their state
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    last: Option<i64>,
    /// With sizes
    #[arg(short, long)]
    size: bool,
    /// Do not cut long values
    #[arg(long)]
    no_trunc: bool,
}

/// Lists containers.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let format = Format::parse(&args.format)?;
    let wanted = Wanted::parse(args)?;
    let scope = context.in_scope()?;
    let known = if args.orphans { None } else { Some(context.load_project(&[])?.project) };
    let mut members: Vec<&Member> = candidates(context, &scope, args)?
        .into_iter()
        .filter(|member| wanted.accept(member))
        .filter(|member| {
            known
                .as_ref()
                .is_none_or(|project| member.service().is_some_and(|service| project.services.contains_key(service)))
        })
        .collect();
    for (key, is_wanted) in [("before", std::cmp::Ordering::Less), ("since", std::cmp::Ordering::Greater)] {
        for name in wanted.filters.values(key) {
            let moment = scope.container(name)?.spec.created;
            members.retain(|member| member.spec.created.cmp(&moment) == is_wanted);
        }
    }
    if let Some(count) = if args.latest { Some(1) } else { args.last.and_then(|count| usize::try_from(count).ok()) } {
        members.sort_by_key(|member| std::cmp::Reverse(member.spec.created));
        members.truncate(count);
    }
    let mut out = context.output();
    if args.quiet {
        for member in &members {
            let short = scope.project.is_none() && !args.no_trunc;
            writeln!(out, "{}", if short { member.spec.id.short() } else { member.spec.id.as_str() })?;
        }
    } else if args.services {
        let mut services: Vec<&str> = members.iter().filter_map(|member| member.service()).collect();
        services.dedup();
        for service in services {
            writeln!(out, "{service}")?;
        }
    } else {
        let now = Timestamp::now();
        let rows = match format {
            Format::Table => Vec::new(),
            _ => members.iter().map(|member| row(context, &scope, member, now, args)).collect(),
        };
        list::write(&mut out, &format, JsonList::Lines, rows, || table(&members, &scope, now, args))?;
    }
    out.flush()?;
    Ok(0)
}

fn candidates<'s>(context: &Context, scope: &'s InScope, args: &Args) -> Result<Vec<&'s Member>, Failure> {
    if !args.targets.is_empty() {
        return scope.select(context, &args.targets);
    }
    Ok(if args.all { scope.own_with_one_offs().collect() } else { scope.own().collect() })
}

/// Properties that `--filter` knows.
const FILTERS: [&str; 14] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network", "publish",
    "since", "status", "volume",
];

/// What `--all`, `--status` and `--filter` say together.
struct Wanted {
    statuses: Vec<Status>,
    filters: Filters,
    all: bool,
}

impl Wanted {
    fn parse(args: &Args) -> Result<Self, Mistake> {
        let filters = Filters::parse(&args.filter, &FILTERS)?;
        if let Some(code) = filters.values("exited").iter().find(|code| code.parse::<i32>().is_err()) {
            return Err(Mistake::value("--filter", &format!("exited={code}"), "it takes an exit code"));
        }
        let mut statuses = Vec::new();
        for status in &args.status {
            statuses.push(parse_status("--status", status)?);
        }
        for status in filters.values("status") {
            statuses.push(parse_status("--filter", status)?);
        }
        // Docker shows stopped ones as well to those who ask for the last ones, or for an exit code.
        let all = args.all || args.latest || args.last.is_some() || !filters.values("exited").is_empty();
        Ok(Self { statuses, filters, all })
    }

    fn accept(&self, member: &Member) -> bool {
        let (spec, state, filters) = (&member.spec, &member.state, &self.filters);
        let status = match self.statuses.is_empty() {
            true => self.all || member.is_up(),
            false => self.statuses.contains(&state.status),
        };
        let has_port = |text: &str, port: u16, protocol: &str| {
            let (wanted, kind) = text.split_once('/').unwrap_or((text, "tcp"));
            let (first, last) = wanted.split_once('-').unwrap_or((wanted, wanted));
            let range = first.parse().unwrap_or(1)..=last.parse().unwrap_or(0);
            kind == protocol && range.contains(&port)
        };
        status
            && filters.accept_labels(&spec.labels)
            && filters.accept("is-task", |wanted| matches!(wanted, "false" | "0"))
            && filters.accept("id", |id| spec.id.as_str().starts_with(id))
            && filters.accept("name", |name| fits_name(&spec.name, name))
            && filters.accept("exited", |code| state.status == Status::Exited && code == state.exit_code.to_string())
            && filters.accept("health", |health| {
                let found = container::health(state);
                if found.is_empty() { health == "none" } else { health == found }
            })
            && filters.accept("ancestor", |image| {
                let id = spec.image_id.as_ref().map_or("", |id| id.hex());
                let tagless = spec.image.strip_suffix(":latest").unwrap_or(&spec.image);
                let wanted = image.strip_suffix(":latest").unwrap_or(image);
                let digits = image.strip_prefix("sha256:").unwrap_or(image);
                tagless == wanted || (digits.len() >= 4 && id.starts_with(digits))
            })
            && filters.accept("network", |network| {
                networks(member).split(',').any(|name| name == network)
                    || spec.network.networks().any(|id| id.as_str().starts_with(network))
            })
            && filters.accept("volume", |volume| {
                mounts(member).split(',').any(|name| name == volume)
                    || spec.mounts.iter().any(|mount| mount.target == volume)
            })
            && filters.accept("publish", |port| {
                state.ports.iter().any(|other| has_port(port, other.host_port, &other.protocol.to_string()))
            })
            && filters.accept("expose", |port| {
                let published = |port: &PortBinding| (port.container_port.to_string(), port.protocol.to_string());
                let declared = spec.exposed_ports.iter().filter_map(|text| text.split_once('/'));
                let declared = declared.map(|(number, kind)| (number.to_owned(), kind.to_owned()));
                declared
                    .chain(spec.ports.iter().map(published))
                    .any(|(number, kind)| number.parse().is_ok_and(|number| has_port(port, number, &kind)))
            })
    }
}

/// Docker takes a regular expression; a part of the name, with `^` and `$` at its ends, is what people type.
fn fits_name(name: &str, wanted: &str) -> bool {
    let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
    let (start, rest) = wanted.strip_prefix('^').map_or((false, wanted), |rest| (true, rest));
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    let (end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    match (start, end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

fn parse_status(flag: &'static str, text: &str) -> Result<Status, Mistake> {
    use Status::{Created, Dead, Exited, Paused, Restarting, Running};
    [Created, Running, Paused, Restarting, Exited, Dead]
        .into_iter()
        .find(|status| status.to_string() == text)
        .ok_or_else(|| Mistake::value(flag, text, "it takes created, running, paused, restarting, exited or dead"))
}

fn table(members: &[&Member], scope: &InScope, now: Timestamp, args: &Args) -> Table {
    let no_trunc = args.no_trunc;
    let created = |member: &Member| time::ago(member.spec.created, now);
    if scope.project.is_none() {
        let mut header = vec!["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
        header.extend(args.size.then_some("SIZE"));
        let mut table = Table::with_header(header.into_iter().map(str::to_owned).collect(), 10);
        for member in members {
            let id = if no_trunc { member.spec.id.as_str() } else { member.spec.id.short() };
            let mut cells = vec![
                id.to_owned(),
                member.spec.image.clone(),
                container::command_cell(&member.spec, no_trunc),
                created(member),
                container::status(&member.state, now),
                container::ports(&member.spec, &member.state),
                member.spec.name.clone(),
            ];
            cells.extend(args.size.then(|| size(scope, member)));
            table.row(cells);
        }
        return table;
    }
    let mut table = Table::new(["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]);
    for member in members {
        table.row(vec![
            member.spec.name.clone(),
            member.spec.image.clone(),
            container::command_cell(&member.spec, no_trunc),
            member.service().unwrap_or_default().to_owned(),
            created(member),
            container::status(&member.state, now),
            container::ports(&member.spec, &member.state),
        ]);
    }
    table
}

/// What the container wrote, and the whole: `12B (virtual 1.98MB)`.
fn size(scope: &InScope, member: &Member) -> String {
    let store = scope.engine.store();
    let own = crate::base::fs::tree_bytes(&store.containers().upper_folder(&member.spec.id));
    let layers: u64 = member.spec.layers.iter().filter_map(|layer| store.layers().size_bytes(layer).ok()).sum();
    format!("{} (virtual {})", format_bytes(own), format_bytes(own + layers))
}

/// One container with Compose's keys, or with Docker's.
///
/// Source: docker/compose `cmd/formatter/container.go`, docker/cli `cli/command/formatter/container.go`.
fn row(context: &Context, scope: &InScope, member: &Member, now: Timestamp, args: &Args) -> Map<String, Value> {
    let no_trunc = args.no_trunc;
    let (spec, state) = (&member.spec, &member.state);
    let id = if no_trunc { spec.id.as_str() } else { spec.id.short() };
    let volumes = spec.mounts.iter().filter(|mount| matches!(mount.source, MountSource::Volume { .. })).count();
    let publishers: Vec<Value> = container::publishers(state)
        .iter()
        .map(|port| {
            json!({"URL": port.host_ip.to_string(), "TargetPort": port.container_port,
                "PublishedPort": port.host_port, "Protocol": port.protocol.to_string()})
        })
        .collect();
    let row = json!({
        "Command": container::command_cell(spec, no_trunc),
        "CreatedAt": time::docker_time(spec.created),
        "ExitCode": state.exit_code,
        "Health": container::health(state),
        "ID": id,
        "Image": spec.image,
        "Labels": container::labels(&spec.labels),
        "LocalVolumes": volumes.to_string(),
        "Mounts": mounts(member),
        "Name": spec.name,
        "Names": spec.name,
        "Networks": networks(member),
        "Ports": container::ports(spec, state),
        "Project": member.project().unwrap_or_default(),
        "Publishers": publishers,
        "RunningFor": time::ago(spec.created, now),
        "Service": member.service().unwrap_or_default(),
        "Platform": Value::Null,
        "Size": if args.size { size(scope, member) } else { "0B".to_owned() },
        "State": state.status.to_string(),
        "Status": container::status(state, now),
    });
    match row {
        Value::Object(mut fields) => {
            let foreign: &[&str] = match context.docker {
                true => &["ExitCode", "Health", "Name", "Project", "Publishers", "Service"],
                false => &["Platform"],
            };
            fields.retain(|key, _| !foreign.contains(&key.as_str()));
            fields
        }
        _ => Map::new(),
    }
}

fn mounts(member: &Member) -> String {
    let name = |source: &MountSource| match source {
        MountSource::Bind { path, .. } => Some(path.display().to_string()),
        MountSource::Volume { name, .. } => Some(name.clone()),
        MountSource::Tmpfs { .. } | MountSource::Image { .. } => None,
    };
    member.spec.mounts.iter().filter_map(|mount| name(&mount.source)).collect::<Vec<_>>().join(",")
}

fn networks(member: &Member) -> String {
    match &member.spec.network {
        NetworkMode::None => "none".into(),
        NetworkMode::Host => "host".into(),
        NetworkMode::Container { id } => format!("container:{id}"),
        NetworkMode::Networks { attachments } => {
            attachments.iter().map(|attachment| attachment.network_name.as_str()).collect::<Vec<_>>().join(",")
        }
    }
}
