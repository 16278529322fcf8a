use std::io::Write;

use crate::cli::members::Member;
use crate::cli::show::table::Table;
use crate::cli::{Context, Outcome};
use crate::engine::processes::ProcessInfo;

/// Show the processes of services or containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services of the project (all when none is named), or containers
    targets: Vec<String>,
}

/// Lists processes.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scope = context.in_scope()?;
    let members: Vec<&Member> =
        scope.select(context, &args.targets)?.into_iter().filter(|member| member.is_up()).collect();
    let in_project = scope.project.is_some();
    let first = if in_project { ["SERVICE", "#"] } else { ["CONTAINER", ""] };
    let columns = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    let header = first.iter().filter(|name| !name.is_empty()).chain(&columns).map(|name| (*name).to_owned()).collect();
    let mut table = Table::with_header(header, 0);
    for member in members {
        for process in scope.engine.processes(&member.spec.id)? {
            let mut cells = match in_project {
                true => vec![member.service().unwrap_or_default().to_owned(), member.number().to_string()],
                false => vec![member.spec.name.clone()],
            };
            cells.extend(row(&process));
            table.row(cells);
        }
    }
    let mut out = context.output();
    table.write(&mut out)?;
    out.flush()?;
    Ok(0)
}

/// The columns of `ps -ef`.
pub fn row(process: &ProcessInfo) -> [String; 8] {
    let started = jiff::Timestamp::from_second(process.started_unix).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let local = started.to_zoned(jiff::tz::TimeZone::system());
    let today = local.date() == jiff::Zoned::now().date();
    let time = process.cpu_seconds;
    [
        process.uid.to_string(),
        process.pid.to_string(),
        process.parent.to_string(),
        process.cpu_percent.to_string(),
        local.strftime(if today { "%H:%M" } else { "%b%d" }).to_string(),
        process.terminal.clone(),
        format!("{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60),
        process.command.clone(),
    ]
}
