//! `docker top CONTAINER [ps OPTIONS]`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use crate::base::fs::read_limited;
use crate::cli::commands::top::row;
use crate::cli::show::table::Table;
use crate::cli::{Context, Failure, Mistake, Outcome};

/// Largest /etc/passwd that names are looked up in, in bytes.
const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// Show the processes of a container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name or id
    container: String,
    /// What the host's `ps` is to show of them, with a column PID: aux, -o pid,comm
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    options: Vec<String>,
}

/// Lists processes as the host sees them.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scope = context.in_scope()?;
    let member = scope.container(&args.container)?;
    let processes = scope.engine.processes(&member.spec.id)?;
    let mut out = context.output();
    if args.options.is_empty() {
        let header = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
        let mut table = Table::with_header(header.map(str::to_owned).to_vec(), 0);
        let names = user_names();
        for process in &processes {
            let mut cells = row(process);
            if let Some(name) = names.get(&process.uid) {
                cells[0].clone_from(name);
            }
            table.row(cells.to_vec());
        }
        table.write(&mut out)?;
    } else {
        let pids: Vec<String> = processes.iter().map(|process| process.pid.to_string()).collect();
        for line in chosen(&of_ps(&args.options)?, &pids)? {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()?;
    Ok(0)
}

/// What `ps` says of all processes of the host.
fn of_ps(options: &[String]) -> Result<String, Failure> {
    let output = std::process::Command::new("ps").args(options).stdin(std::process::Stdio::null()).output();
    let output = output.map_err(|source| Mistake::System { operation: "run the host's `ps`", source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed").trim();
        return Err(Mistake::usage(format!("ps: {}", first.trim_start_matches("error: "))).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The header, and the lines of these processes.
fn chosen<'t>(text: &'t str, pids: &[String]) -> Result<Vec<&'t str>, Mistake> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let place = header.split_whitespace().position(|title| title == "PID");
    let place = place.ok_or_else(|| Mistake::usage("the host's `ps` shows no column PID with these options"))?;
    let is_own = |line: &&str| line.split_whitespace().nth(place).is_some_and(|pid| pids.iter().any(|own| own == pid));
    Ok(std::iter::once(header).chain(lines.filter(is_own)).collect())
}

/// The host's users: processes run as them, whatever the container calls them.
fn user_names() -> BTreeMap<u32, String> {
    let text = read_limited(Path::new("/etc/passwd"), PASSWD_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
    };
    // Of several names of one number the first counts.
    text.lines().rev().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn lines_are_chosen_by_the_column_of_pids() {
        let text = "USER  PID COMMAND\nroot  1 2 3\nroot  2 1\n";
        assert_eq!(chosen(text, &["2".into()]).expect("a column"), ["USER  PID COMMAND", "root  2 1"]);
        assert!(chosen("COMMAND\nsleep\n", &["2".into()]).is_err());
    }
}
