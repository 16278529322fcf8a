//! What can be wrong with the values of a request before anything is made for it, as Docker judges them.
//!
//! Source: moby `daemon/daemon_unix.go` `verifyPlatformContainerResources`, `daemon/container.go`
//! `verifyContainerSettings`, `volume/mounts/linux_parser.go`, `opts/`.

use std::net::IpAddr;

use super::request::{Request, stop_signal};
use super::{Error, Result};
use crate::model::container::{Mount, MountSource, NamespaceMode, NetworkMode, Resources, Security};
use crate::runtime::{self, capability};

/// The least memory that a container can be limited to: below it, not even its first process starts.
const MEMORY_BYTES_MIN: u64 = 6 << 20;
/// The kernel's longest host name.
const HOST_NAME_BYTES_MAX: usize = 64;

impl Request {
    /// All that is wrong with its values. What only the image or the host's state can tell is not judged here.
    pub fn check(&self) -> Vec<Error> {
        let mut errors: Vec<Error> = Vec::new();
        let mut note = |result: Result<()>| errors.extend(result.err());
        note(self.working_dir.as_deref().filter(|path| !path.is_empty()).map_or(Ok(()), working_dir));
        note(self.stop_signal.as_deref().map_or(Ok(()), |text| stop_signal(text).map(drop)));
        if let Some(name) = &self.hostname
            && name.len() > HOST_NAME_BYTES_MAX
        {
            let reason = format!("a host name has at most {HOST_NAME_BYTES_MAX} bytes, this one has {}", name.len());
            note(Err(refused("hostname", name, reason)));
        }
        if let Some(name) = self.hostname.as_ref().filter(|_| self.security.uts == NamespaceMode::Host) {
            note(Err(refused("hostname", name, "with `uts: host` the name is the host's".to_owned())));
        }
        self.mounts.iter().for_each(|mount| note(mount_target(mount)));
        self.dns.iter().for_each(|server| note(server_address(server)));
        self.extra_hosts.iter().for_each(|entry| note(extra_host(entry)));
        self.exposed_ports.iter().for_each(|port| note(exposed_port(port)));
        self.ulimits.iter().for_each(|(name, limit)| note(ulimit(name, *limit)));
        for (name, text) in &self.sysctls {
            note(self.sysctl(name, text));
        }
        security(&self.security).into_iter().for_each(|error| note(Err(error)));
        resources(&self.resources).into_iter().for_each(|error| note(Err(error)));
        errors
    }

    fn sysctl(&self, name: &str, text: &str) -> Result<()> {
        // A network that is shared belongs to another container, which may set its parameters.
        let own_network = !matches!(self.network, Some(NetworkMode::Host));
        let one = [(name.to_owned(), text.to_owned())].into();
        Ok(runtime::sysctls(&one, own_network, &self.security.ipc, None).map(drop)?)
    }
}

fn value(what: &str, value: &str, expected: &str) -> Error {
    Error::Value { what: what.to_owned(), value: value.to_owned(), expected: expected.to_owned() }
}

fn refused(what: &str, value: &str, reason: impl Into<String>) -> Error {
    Error::Refused { what: what.to_owned(), value: value.to_owned(), reason: reason.into() }
}

fn working_dir(path: &str) -> Result<()> {
    if path.starts_with('/') { Ok(()) } else { Err(value("working_dir", path, "an absolute path")) }
}

fn mount_target(mount: &Mount) -> Result<()> {
    let what = if matches!(mount.source, MountSource::Tmpfs { .. }) { "tmpfs" } else { "volumes" };
    let target = mount.target.as_str();
    if !target.starts_with('/') {
        return Err(value(what, target, "an absolute path inside the container"));
    }
    if target.split('/').all(|part| part.is_empty() || part == ".") {
        return Err(refused(what, target, "nothing can be mounted over the root folder of the container"));
    }
    Ok(())
}

fn server_address(text: &str) -> Result<()> {
    let is_address = text.parse::<IpAddr>().is_ok();
    if is_address { Ok(()) } else { Err(value("dns", text, "an IP address")) }
}

fn extra_host(entry: &str) -> Result<()> {
    let Some((name, address)) = entry.split_once([':', '=']).filter(|(name, _)| !name.is_empty()) else {
        return Err(value("extra_hosts", entry, "a name with an address (`db:10.0.0.5`)"));
    };
    let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if address == "host-gateway" || plain.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let reason = format!("`{address}`, for {name}, is neither an IP address nor host-gateway");
    Err(refused("extra_hosts", address, reason))
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn exposed_port(text: &str) -> Result<()> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok();
    let in_order = number(first).zip(number(last)).is_some_and(|(first, last)| first <= last);
    if in_order && matches!(protocol, "tcp" | "udp" | "sctp") {
        return Ok(());
    }
    Err(value("expose", text, "a port (`80`, `53/udp`, `8000-8010`)"))
}

fn ulimit(name: &str, (soft, hard): (i64, i64)) -> Result<()> {
    if !runtime::is_limit(name) {
        return Err(value("ulimits", name, "a resource limit"));
    }
    let order = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    if order(soft) > order(hard) {
        let what = format!("ulimits.{name}");
        let reason = format!("the soft limit {soft} is above the hard limit {hard}");
        return Err(refused(&what, &soft.to_string(), reason));
    }
    Ok(())
}

fn security(security: &Security) -> Vec<Error> {
    let mut errors = Vec::new();
    for (what, names) in [("cap_add", &security.cap_add), ("cap_drop", &security.cap_drop)] {
        for name in names {
            let alone = Security { cap_add: vec![name.clone()], ..Security::default() };
            if capability::of(&alone, capability::DEFAULT).is_err() {
                errors.push(value(what, name, "a capability"));
            }
        }
    }
    for device in &security.devices {
        if !device.target.is_absolute() {
            errors.push(value("devices", &device.target.to_string_lossy(), "an absolute path"));
        }
        if device.permissions.is_empty() || !device.permissions.chars().all(|letter| "rwm".contains(letter)) {
            errors.push(value("devices", &device.permissions, "letters of `rwm`"));
        }
    }
    if security.uts != NamespaceMode::Private && security.uts != NamespaceMode::Host {
        errors.push(refused("uts", "", "the host name can be the container's own or the host's"));
    }
    errors
}

/// How many processors the host has online; whatever cannot be counted is no limit.
fn processors() -> usize {
    let lines = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let is_processor = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    Some(lines.lines().filter(is_processor).count()).filter(|count| *count > 0).unwrap_or(usize::MAX)
}

fn resources(limits: &Resources) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut note = |what: &str, reason: String| errors.push(refused(what, "", reason));
    let size = |bytes: u64| crate::base::units::format_bytes(bytes);
    if let Some(memory) = limits.memory_bytes {
        if memory < MEMORY_BYTES_MIN {
            note("mem_limit", format!("a container needs at least 6 MB, and this is {}", size(memory)));
        }
        if limits.memory_reservation_bytes.is_some_and(|reservation| reservation > memory) {
            note("mem_reservation", format!("it is more than the memory limit, {}", size(memory)));
        }
    }
    match (limits.memory_swap_bytes, limits.memory_bytes) {
        (Some(1..), None) => {
            note("memswap_limit", "it counts memory and swap together, so `mem_limit` is needed".into())
        }
        (Some(swap @ 0..), Some(memory)) if swap.unsigned_abs() < memory => {
            note("memswap_limit", format!("it counts memory and swap together, so it is at least {}", size(memory)));
        }
        _ => {}
    }
    if limits.memory_swappiness.is_some_and(|swappiness| swappiness > 100) {
        note("mem_swappiness", "it is from 0 to 100".into());
    }
    if limits.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        note("oom_score_adj", "it is from -1000 to 1000".into());
    }
    if let Some(cpus) = limits.cpus {
        let there = processors();
        if cpus > there as f64 {
            note("cpus", format!("there are only {there} CPUs"));
        }
        if limits.cpu_quota_us.is_some_and(|quota| quota > 0) || limits.cpu_period_us.is_some_and(|period| period > 0) {
            note("cpus", "it says the same as `cpu_quota` and `cpu_period`: use one of them".into());
        }
    }
    if limits.cpu_period_us.is_some_and(|period| period != 0 && !(1_000..=1_000_000).contains(&period)) {
        note("cpu_period", "it is from 1000 to 1000000 microseconds".into());
    }
    if limits.cpu_quota_us.is_some_and(|quota| (1..1_000).contains(&quota)) {
        note("cpu_quota", "it is at least 1000 microseconds".into());
    }
    if let Some(parent) = &limits.cgroup_parent
        && let Err(error) = runtime::cgroup::check_parent(parent)
    {
        note("cgroup_parent", error.to_string());
    }
    let realtime = (limits.cpu_rt_period_us.unwrap_or(0), limits.cpu_rt_runtime_us.unwrap_or(0));
    if realtime != (0, 0) {
        let what = if realtime.1 == 0 { "cpu_rt_period" } else { "cpu_rt_runtime" };
        if !runtime::cgroup::has_realtime() {
            let needed = "version 1 of control groups and CONFIG_RT_GROUP_SCHED";
            note(what, format!("the kernel gives groups no time for real-time tasks: that needs {needed}"));
        } else if realtime.0 != 0 && i64::try_from(realtime.0).is_ok_and(|period| realtime.1 > period) {
            note(what, format!("it is more than the period, {} microseconds", realtime.0));
        }
    }
    if limits.pids.is_some_and(|pids| pids < -1) {
        note("pids_limit", "it is a number above 0, or -1 for no limit".into());
    }
    errors
}
