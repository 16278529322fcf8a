//! The processes of a container, for `top`.

use std::fs;
use std::path::Path;

use super::{Engine, Error, Result};
use crate::base::id::ContainerId;
use crate::model::container::Status;
use crate::runtime::Cgroup;

/// One process, as `ps -ef` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProcessInfo {
    /// Its user's number on the host.
    pub uid: u32,
    /// Its number on the host.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// Share of one CPU since its start, in percent.
    pub cpu_percent: u64,
    /// Start, in seconds since 1970.
    pub started_unix: i64,
    /// Controlling terminal, `?` without one.
    pub terminal: String,
    /// CPU time used, in seconds.
    pub cpu_seconds: u64,
    /// Program and arguments.
    pub command: String,
}

impl Engine {
    /// The processes of a running container, by number.
    pub fn processes(&self, id: &ContainerId) -> Result<Vec<ProcessInfo>> {
        let state = self.store.containers().state(id)?;
        let spec = self.store.containers().spec(id)?;
        if !matches!(state.status, Status::Running | Status::Paused) {
            return Err(Error::NotRunning { name: spec.name });
        }
        let cgroup = Cgroup::of(&self.store.paths().instance(), &spec)?;
        let boot = boot_time_unix();
        // One that ended since is left out.
        let mut processes: Vec<_> = cgroup.pids()?.into_iter().filter_map(|pid| read(pid, boot)).collect();
        processes.sort_by_key(|process| process.pid);
        Ok(processes)
    }
}

/// Clock ticks a second in /proc: fixed by the kernel's interface (USER_HZ).
const TICKS_PER_SECOND: u64 = 100;

/// Reads /proc/PID. Source: proc(5).
fn read(pid: i32, boot_unix: i64) -> Option<ProcessInfo> {
    let folder = Path::new("/proc").join(pid.to_string());
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The name may hold anything, parentheses and blanks too: the fields start after the last one.
    let (name, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The first of these is field 3 of the manual page.
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<i64>().ok());
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()?;
    let arguments = fs::read(folder.join("cmdline")).ok()?;
    let command = if arguments.is_empty() {
        format!("[{}]", name.split_once('(').map_or(name, |(_, name)| name))
    } else {
        String::from_utf8_lossy(&arguments).replace('\0', " ").trim_end().to_owned()
    };
    let cpu_seconds = u64::try_from(field(14)? + field(15)?).ok()? / TICKS_PER_SECOND;
    let started_unix = boot_unix + field(22)? / TICKS_PER_SECOND as i64;
    let age = u64::try_from(jiff::Timestamp::now().as_second() - started_unix).unwrap_or(0).max(1);
    Some(ProcessInfo {
        uid,
        pid,
        parent: i32::try_from(field(4)?).ok()?,
        cpu_percent: cpu_seconds * 100 / age,
        started_unix,
        terminal: terminal(field(7)?),
        cpu_seconds,
        command,
    })
}

/// Names the device number of a controlling terminal.
fn terminal(device: i64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        0 => "?".into(),
        // Unix98 pseudo-terminals have the majors 136 to 143. Source: Documentation/admin-guide/devices.txt.
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => format!("{major}:{minor}"),
    }
}

fn boot_time_unix() -> i64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let own = read(std::process::id() as i32, boot_time_unix()).expect("this process is in /proc");
        assert_eq!(own.pid, std::process::id() as i32);
        assert!(own.command.contains("wharf"), "{}", own.command);
        assert!((jiff::Timestamp::now().as_second() - own.started_unix).abs() < 600, "{}", own.started_unix);
    }

    #[test]
    fn terminals_have_names() {
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(136 << 8 | 3), "pts/3");
    }
}
