//! Room for our packets in the FORWARD chain of the old iptables, whose tables nftables does not show.
//!
//! Nothing but its own program speaks for these tables, so that is run: once a start on a host that has them, not at
//! all on others. A host that has the tables without the program is left as it is.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::net::{Error, Result};

/// Where the program is looked for besides PATH, which need not have the folders of root.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"];

/// Puts two rules at the head of both FORWARD chains where these filter and do not have them.
pub(super) fn make_room() -> Result<()> {
    for (tables, program) in [("ip_tables_names", "iptables"), ("ip6_tables_names", "ip6tables")] {
        // Of this thread: a test's host is a namespace of its own.
        let tables = std::fs::read_to_string(format!("/proc/thread-self/net/{tables}")).unwrap_or_default();
        if tables.lines().any(|table| table == "filter")
            && let Some(program) = find(program)
        {
            make_room_with(&program).map_err(|source| Error::Firewall {
                operation: format!("add a rule to FORWARD of {}", program.display()),
                source,
            })?;
        }
    }
    Ok(())
}

fn make_room_with(program: &PathBuf) -> io::Result<()> {
    let listed = run(program, &["-S", "FORWARD"])?;
    let rules = String::from_utf8_lossy(&listed.stdout).into_owned();
    // What cannot be listed, or lets everything through, needs no room.
    if !listed.status.success() || rules.trim() == "-P FORWARD ACCEPT" {
        return Ok(());
    }
    for direction in ["-o", "-i"] {
        if rules.contains(&format!("-A FORWARD {direction} wh-+ -j ACCEPT")) {
            continue;
        }
        let added = run(program, &["-I", "FORWARD", direction, "wh-+", "-j", "ACCEPT"])?;
        if !added.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&added.stderr).trim().to_owned()));
        }
    }
    Ok(())
}

/// `iptables-legacy`, or an `iptables` from before there was another kind.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from)).collect();
    let locate = |name: &str| {
        folders.iter().filter(|folder| folder.is_absolute()).map(|folder| folder.join(name)).find(|file| file.is_file())
    };
    let is_legacy = |program: &PathBuf| {
        run(program, &["--version"]).is_ok_and(|output| !String::from_utf8_lossy(&output.stdout).contains("nf_tables"))
    };
    locate(&format!("{name}-legacy")).or_else(|| locate(name).filter(is_legacy))
}

/// Runs it; it waits for its own lock for a while.
fn run(program: &PathBuf, arguments: &[&str]) -> io::Result<Output> {
    Command::new(program).args(["-w", "5"]).args(arguments).stdin(Stdio::null()).output()
}
