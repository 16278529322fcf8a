//! A container's state, ports, command and image as tables show them.
//!
//! Source of the words: moby `container/state.go`, docker/cli `formatter/container.go` (`DisplayablePorts`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

use super::time;
use crate::model::container::{ContainerSpec, ContainerState, Health, HealthStatus, Protocol, PublishedPort, Status};

/// Longest command in a table, in characters.
const COMMAND_WIDTH: usize = 20;

/// `Up 3 seconds (healthy)`, `Exited (1) 2 minutes ago`.
pub fn status(state: &ContainerState, now: Timestamp) -> String {
    let since_start = || state.started_at.map_or_else(Default::default, |start| time::since(start, now));
    let ended = || state.finished_at.map(|end| time::ago(end, now)).unwrap_or_default();
    let text = match state.status {
        Status::Created => "Created".into(),
        Status::Dead => "Dead".into(),
        Status::Exited => format!("Exited ({}) {}", state.exit_code, ended()),
        Status::Restarting => format!("Restarting ({}) {}", state.exit_code, ended()),
        Status::Paused => format!("Up {} (Paused)", time::human_duration(since_start())),
        Status::Running => match health_word(state.health.as_ref()) {
            Some(health) => format!("Up {} ({health})", time::human_duration(since_start())),
            None => format!("Up {}", time::human_duration(since_start())),
        },
    };
    text.trim_end().to_owned()
}

/// The health as `Status` shows it.
fn health_word(health: Option<&Health>) -> Option<&'static str> {
    Some(match health?.status {
        HealthStatus::Starting => "health: starting",
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy => "unhealthy",
    })
}

/// The health as the JSON key `Health` shows it; empty without a health check.
pub fn health(state: &ContainerState) -> &'static str {
    match state.health.as_ref().map(|health| health.status) {
        None => "",
        Some(HealthStatus::Starting) => "starting",
        Some(HealthStatus::Healthy) => "healthy",
        Some(HealthStatus::Unhealthy) => "unhealthy",
    }
}

/// The command in one line; arguments with spaces are quoted. Source: moby `daemon/list.go`.
pub fn command(spec: &ContainerSpec) -> String {
    let quoted = |argument: &String| match argument.contains(' ') {
        true => format!("'{argument}'"),
        false => argument.clone(),
    };
    spec.process.args.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The command in a table: quoted, at most 20 characters unless `no_trunc`.
pub fn command_cell(spec: &ContainerSpec, no_trunc: bool) -> String {
    let command = command(spec);
    let short = if no_trunc { command } else { truncate(&command, COMMAND_WIDTH) };
    format!("{short:?}")
}

/// The first `width` characters, the last of them an ellipsis when something is left out.
pub fn truncate(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `k=v,k=v` of all labels.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Published ports in the order in which they are shown: IPv4 before IPv6.
pub fn publishers(state: &ContainerState) -> Vec<PublishedPort> {
    let mut ports = state.ports.clone();
    ports.sort_by_key(|port| (port.container_port, port.protocol, port.host_port, port.host_ip));
    ports.dedup();
    ports
}

/// `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 6379/tcp`; runs of ports are shown as ranges.
pub fn ports(spec: &ContainerSpec, state: &ContainerState) -> String {
    let published = publishers(state);
    let mut shown: Vec<String> = Vec::new();
    // One group an address and protocol, in the order of the first port of each.
    let mut groups: Vec<(Address, Vec<(u16, u16)>)> = Vec::new();
    for port in &published {
        let key = (port.host_ip, port.protocol);
        let pair = (port.host_port, port.container_port);
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, pairs)) => pairs.push(pair),
            None => groups.push((key, vec![pair])),
        }
    }
    for ((address, protocol), pairs) in groups {
        for (host, container) in runs(&pairs) {
            shown.push(format!("{}:{}->{}/{protocol}", bracketed(address), range(host), range(container)));
        }
    }
    if matches!(state.status, Status::Running | Status::Paused) {
        let is_published =
            |port: &str| published.iter().any(|p| format!("{}/{}", p.container_port, p.protocol) == port);
        shown.extend(spec.exposed_ports.iter().filter(|port| !is_published(port)).cloned());
    }
    shown.join(", ")
}

/// Where ports are published.
type Address = (IpAddr, Protocol);
/// First and last port of a run.
type Range = (u16, u16);

/// Joins pairs in which both ports count up by one.
fn runs(pairs: &[(u16, u16)]) -> Vec<(Range, Range)> {
    let mut runs: Vec<(Range, Range)> = Vec::new();
    for (host, container) in pairs {
        match runs.last_mut() {
            Some((hosts, containers))
                if hosts.1.checked_add(1) == Some(*host) && containers.1.checked_add(1) == Some(*container) =>
            {
                (hosts.1, containers.1) = (*host, *container);
            }
            _ => runs.push(((*host, *host), (*container, *container))),
        }
    }
    runs
}

fn range((first, last): Range) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// An address as it stands before `:port`.
pub fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_ports_are_ranges() {
        assert_eq!(runs(&[(8000, 80), (8001, 81), (8003, 82)]), [((8000, 8001), (80, 81)), ((8003, 8003), (82, 82))]);
        assert_eq!(runs(&[(u16::MAX, 1), (0, 2)]).len(), 2);
        assert_eq!(range((1, 1)), "1");
        assert_eq!(range((1, 3)), "1-3");
    }

    #[test]
    fn long_commands_are_cut() {
        assert_eq!(truncate("docker-entrypoint.sh redis-server", 20), "docker-entrypoint.s…");
        assert_eq!(truncate("sh", 20), "sh");
        assert_eq!(truncate("ääääää", 3), "ää…");
    }

    #[test]
    fn states_are_dockers_words() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        let earlier: Timestamp = "2026-01-31T11:58:00Z".parse().expect("a time");
        let health = |status| Some(Health { status, failing_streak: 0, log: Vec::new() });
        for (status_word, exit_code, health, expected) in [
            (Status::Created, 0, None, "Created"),
            (Status::Running, 0, None, "Up 2 minutes"),
            (Status::Running, 0, health(HealthStatus::Healthy), "Up 2 minutes (healthy)"),
            (Status::Running, 0, health(HealthStatus::Starting), "Up 2 minutes (health: starting)"),
            (Status::Paused, 0, None, "Up 2 minutes (Paused)"),
            (Status::Exited, 137, None, "Exited (137) 2 minutes ago"),
            (Status::Restarting, 1, None, "Restarting (1) 2 minutes ago"),
        ] {
            let state = ContainerState {
                status: status_word,
                process: None,
                exit_code,
                oom_killed: false,
                error: None,
                started_at: Some(earlier),
                finished_at: Some(earlier),
                restart_count: 0,
                health,
                ports: Vec::new(),
                addresses: Vec::new(),
                boot_id: String::new(),
            };
            assert_eq!(status(&state, now), expected);
        }
    }
}
