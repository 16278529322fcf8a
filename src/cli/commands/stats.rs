use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::base::units::{format_bytes, format_bytes_binary};
use crate::cli::members::Member;
use crate::cli::show::list::{self, Format, JsonList};
use crate::cli::show::table::Table;
use crate::cli::{Context, Failure, Outcome};
use crate::engine::Engine;
use crate::engine::stats::Usage;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time between the first two, which make the first figures.
const FIRST_INTERVAL: Duration = Duration::from_millis(300);

/// Show what containers use of the host, again each second
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services or containers
    targets: Vec<String>,
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Once
    #[arg(long)]
    no_stream: bool,
    /// Output: table, json or a template such as '{{.Name}} {{.CPUPerc}}'
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: String,
    /// Do not cut long values
    #[arg(long)]
    no_trunc: bool,
}

/// A container at two moments.
struct Look {
    id: String,
    name: String,
    before: Option<Usage>,
    now: Option<Usage>,
}

/// Looks, shows, and looks again.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let format = Format::parse(&args.format)?;
    let mut looks: Vec<Look> = Vec::new();
    let mut interval = FIRST_INTERVAL;
    let mut engine = renew(context, args, &mut looks)?;
    loop {
        std::thread::sleep(interval);
        interval = INTERVAL;
        for look in &mut looks {
            look.before = look.now.take();
            let id = look.id.parse().ok();
            look.now = id.map(|id| engine.usage(&id)).transpose()?.flatten();
        }
        let mut out = context.output();
        if context.terminal.stdout_is_terminal && !args.no_stream {
            // Home, and what is below goes.
            write!(out, "\x1b[H\x1b[J")?;
        }
        let shown: Vec<&Look> = looks.iter().filter(|look| args.all || look.now.is_some()).collect();
        let rows = shown.iter().map(|look| row(look, args.no_trunc)).collect();
        list::write(&mut out, &format, JsonList::Lines, rows, || table(&shown, args.no_trunc))?;
        out.flush()?;
        drop(out);
        if args.no_stream {
            return Ok(0);
        }
        if args.targets.is_empty() {
            engine = renew(context, args, &mut looks)?;
        }
    }
}

/// Finds the containers to look at; those that are known keep their figures.
fn renew(context: &Context, args: &Args, looks: &mut Vec<Look>) -> Result<Engine, Failure> {
    let scope = context.in_scope()?;
    let members: Vec<&Member> = scope.select(context, &args.targets)?;
    let mut fresh = Vec::new();
    for member in members {
        let id = member.spec.id.to_string();
        match looks.iter().position(|look| look.id == id) {
            Some(place) => fresh.push(looks.swap_remove(place)),
            None => {
                let now = scope.engine.usage(&member.spec.id)?;
                fresh.push(Look { id, name: member.spec.name.clone(), before: None, now });
            }
        }
    }
    *looks = fresh;
    Ok(scope.engine)
}

impl Look {
    fn cpu_percent(&self) -> Option<f64> {
        let (before, now) = (self.before.as_ref()?, self.now.as_ref()?);
        let used = now.group.cpu_ns.saturating_sub(before.group.cpu_ns) as f64;
        let passed = now.at.duration_since(before.at).as_nanos() as f64;
        Some(if passed > 0.0 { used / passed * 100.0 } else { 0.0 })
    }

    /// CPU, memory, memory in percent, network, disks, processes: as Docker writes them.
    fn cells(&self) -> [String; 6] {
        let Some(now) = &self.now else {
            return ["--", "-- / --", "--", "-- / --", "-- / --", "--"].map(str::to_owned);
        };
        let group = &now.group;
        let limit = group.memory_limit_bytes.unwrap_or(0);
        let share = if limit > 0 { group.memory_bytes as f64 / limit as f64 * 100.0 } else { 0.0 };
        [
            self.cpu_percent().map_or_else(|| "--".to_owned(), |percent| format!("{percent:.2}%")),
            format!("{} / {}", format_bytes_binary(group.memory_bytes), format_bytes_binary(limit)),
            format!("{share:.2}%"),
            format!("{} / {}", format_bytes(now.received_bytes), format_bytes(now.sent_bytes)),
            format!("{} / {}", format_bytes(group.read_bytes), format_bytes(group.written_bytes)),
            group.pids.to_string(),
        ]
    }

    fn shown_id(&self, whole: bool) -> &str {
        if whole { &self.id } else { &self.id[..12] }
    }
}

fn table(looks: &[&Look], whole_ids: bool) -> Table {
    let mut table =
        Table::new(["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]);
    for look in looks {
        let mut row = vec![look.shown_id(whole_ids).to_owned(), look.name.clone()];
        row.extend(look.cells());
        table.row(row);
    }
    table
}

fn row(look: &Look, whole_ids: bool) -> Map<String, Value> {
    let [cpu, memory, share, network, disks, processes] = look.cells();
    let row = json!({
        "BlockIO": disks,
        "CPUPerc": cpu,
        "Container": look.shown_id(whole_ids),
        "ID": look.shown_id(whole_ids),
        "MemPerc": share,
        "MemUsage": memory,
        "Name": look.name,
        "NetIO": network,
        "PIDs": processes,
    });
    match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
