//! What a container uses of the host.

use std::path::Path;
use std::time::Instant;

use super::{Engine, Result};
use crate::base::id::ContainerId;
use crate::runtime::{self, Cgroup};

/// One look at a container.
#[derive(Debug, Clone)]
pub struct Usage {
    /// When it was looked at.
    pub at: Instant,
    /// Figures of its control group; without a limit of memory, the host's memory is it.
    pub group: runtime::Stats,
    /// Bytes that came over its interfaces, without loopback.
    pub received_bytes: u64,
    /// Bytes that went.
    pub sent_bytes: u64,
}

impl Engine {
    /// Looks at a container; `None` when it does not run.
    pub fn usage(&self, id: &ContainerId) -> Result<Option<Usage>> {
        let state = match self.store.containers().state(id) {
            Err(error) if error.is_not_found() => return Ok(None),
            state => state?,
        };
        let Some(process) = state.process.filter(|process| runtime::is_alive(*process)) else { return Ok(None) };
        let mut group = Cgroup::of(&self.store.paths().instance(), &self.store.containers().spec(id)?)?.stats();
        let host = memory_of_host();
        group.memory_limit_bytes = Some(group.memory_limit_bytes.map_or(host, |limit| limit.min(host)));
        let table = std::fs::read_to_string(format!("/proc/{}/net/dev", process.pid)).unwrap_or_default();
        let (received_bytes, sent_bytes) = traffic(&table);
        Ok(Some(Usage { at: Instant::now(), group, received_bytes, sent_bytes }))
    }
}

/// The host's memory in bytes; 0 where /proc does not say.
pub fn memory_of_host() -> u64 {
    let text = std::fs::read_to_string(Path::new("/proc/meminfo")).unwrap_or_default();
    let kilobytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    kilobytes.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Received and sent bytes of all interfaces but loopback. Source: proc_pid_net(5).
fn traffic(table: &str) -> (u64, u64) {
    let interfaces = table.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    interfaces.fold((0, 0), |(received, sent), (_, fields)| {
        let mut fields = fields.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
        (received + fields.next().unwrap_or(0), sent + fields.nth(7).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_that_of_all_interfaces_but_loopback() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
                     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
                     lo:     500       1    0    0    0     0          0         0      500       1    0\n  \
                     eth0:     700       5    0    0    0     0          0         0       90       2    0\n  \
                     eth1:       1       1    0    0    0     0          0         0        2       1    0\n";
        assert_eq!(traffic(table), (701, 92));
    }
}
