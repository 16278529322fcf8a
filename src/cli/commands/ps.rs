use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cli::members::{InScope, Member};
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::show::{container, time};
use crate::cli::{Context, Failure, Mistake, Outcome};
use crate::model::container::{MountSource, NetworkMode, Status};

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
    /// Only those with this property: status=running, name=TEXT, label=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Only those in this state: created, running, paused, restarting, exited, dead
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Also containers of services that the file does not have
    #[arg(long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    orphans: bool,
    /// Do not cut long values
    #[arg(long)]
    no_trunc: bool,
}

/// Lists containers.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let format = Format::parse(&args.format)?;
    let filters = Filters::parse(args)?;
    let scope = context.in_scope()?;
    let known = if args.orphans { None } else { Some(context.load_project(&[])?.project) };
    let members: Vec<&Member> = candidates(context, &scope, args)?
        .into_iter()
        .filter(|member| filters.accept(member))
        .filter(|member| {
            known
                .as_ref()
                .is_none_or(|project| member.service().is_some_and(|service| project.services.contains_key(service)))
        })
        .collect();
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
            _ => members.iter().map(|member| row(member, now, args.no_trunc)).collect(),
        };
        list::write(&mut out, &format, JsonList::Lines, rows, || table(&members, &scope, now, args.no_trunc))?;
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

/// What `--all`, `--status` and `--filter` say together.
struct Filters {
    statuses: Vec<Status>,
    names: Vec<String>,
    labels: Vec<(String, Option<String>)>,
    all: bool,
}

impl Filters {
    fn parse(args: &Args) -> Result<Self, Mistake> {
        let mut filters = Self { statuses: Vec::new(), names: Vec::new(), labels: Vec::new(), all: args.all };
        for status in &args.status {
            filters.statuses.push(parse_status("--status", status)?);
        }
        for filter in &args.filter {
            let expected = "it takes status=…, name=… or label=…";
            let (key, value) = filter.split_once('=').ok_or_else(|| Mistake::value("--filter", filter, expected))?;
            match key {
                "status" => filters.statuses.push(parse_status("--filter", value)?),
                "name" => filters.names.push(value.to_owned()),
                "label" => {
                    let (key, value) = match value.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (value, None),
                    };
                    filters.labels.push((key.to_owned(), value));
                }
                _ => return Err(Mistake::value("--filter", filter, expected)),
            }
        }
        Ok(filters)
    }

    fn accept(&self, member: &Member) -> bool {
        let status = match self.statuses.is_empty() {
            true => self.all || member.is_up(),
            false => self.statuses.contains(&member.state.status),
        };
        let labels = &member.spec.labels;
        status
            && (self.names.is_empty() || self.names.iter().any(|name| member.spec.name.contains(name.as_str())))
            && self.labels.iter().all(|(key, value)| {
                labels.get(key).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            })
    }
}

fn parse_status(flag: &'static str, text: &str) -> Result<Status, Mistake> {
    use Status::{Created, Dead, Exited, Paused, Restarting, Running};
    [Created, Running, Paused, Restarting, Exited, Dead]
        .into_iter()
        .find(|status| status.to_string() == text)
        .ok_or_else(|| Mistake::value(flag, text, "it takes created, running, paused, restarting, exited or dead"))
}

fn table(members: &[&Member], scope: &InScope, now: Timestamp, no_trunc: bool) -> Table {
    let created = |member: &Member| time::ago(member.spec.created, now);
    if scope.project.is_none() {
        let mut table = Table::new(["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
        for member in members {
            let id = if no_trunc { member.spec.id.as_str() } else { member.spec.id.short() };
            table.row(vec![
                id.to_owned(),
                member.spec.image.clone(),
                container::command_cell(&member.spec, no_trunc),
                created(member),
                container::status(&member.state, now),
                container::ports(&member.spec, &member.state),
                member.spec.name.clone(),
            ]);
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

/// One container with Compose's keys. Source: docker/compose `cmd/formatter/container.go`.
fn row(member: &Member, now: Timestamp, no_trunc: bool) -> Map<String, Value> {
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
        "Size": "0B",
        "State": state.status.to_string(),
        "Status": container::status(state, now),
    });
    match row {
        Value::Object(fields) => fields,
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
