//! cgroup v2: one tree; a controller works in a group when the group above delegates it.
//!
//! Source: <https://docs.kernel.org/admin-guide/cgroup-v2.html>.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::legacy::{PERIOD_US, cpu_quota};
use super::{Cgroup, DeviceRules, Stats, keyed, make_folder, number, read, systemd, write};
use crate::model::container::Resources;
use crate::runtime::Error;
use crate::sys::bpf;

/// CGROUP2_SUPER_MAGIC of `linux/magic.h`.
const MAGIC: i64 = 0x6367_7270;
/// The controllers that a container has limits of, or figures.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Whether a v2 tree is mounted at `root`.
pub(super) fn is_mounted(root: &Path) -> bool {
    rustix::fs::statfs(root).is_ok_and(|stat| stat.f_type == MAGIC)
}

/// Makes the group `relative` with every controller that there is.
///
/// `patience`: how long another command may keep a process in a unit of ours, where controllers are handed on.
pub(super) fn make(root: &Path, relative: &Path, patience: Duration) -> Result<PathBuf, Error> {
    let leaf = root.join(relative);
    if leaf.is_dir() {
        return Ok(leaf);
    }
    let deadline = Instant::now() + if systemd::is_ours(relative) { patience } else { Duration::ZERO };
    let mut folder = root.to_owned();
    for part in relative {
        delegate(&folder, deadline);
        folder.push(part);
        make_folder(&folder)?;
    }
    Ok(folder)
}

/// Hands the controllers of a group on to those below it. What cannot be handed on shows when a limit is set.
fn delegate(folder: &Path, deadline: Instant) {
    let file = folder.join("cgroup.subtree_control");
    let (available, delegated) = (read(&folder.join("cgroup.controllers")), read(&file));
    for controller in CONTROLLERS {
        let has = |list: &str| list.split_whitespace().any(|name| name == controller);
        if has(&available) && !has(&delegated) {
            // One at a time: one that is refused must not take the others with it.
            while let Err(Error::Cgroup { source, .. }) = write(&file, &format!("+{controller}")) {
                if source.raw_os_error() != Some(libc::EBUSY) || Instant::now() > deadline {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Attaches the device filter, in the place of those of an earlier start.
pub(super) fn set_devices(path: &Path, folder: BorrowedFd<'_>, rules: &DeviceRules) -> Result<(), Error> {
    let refused = |errno: Errno| Error::Cgroup {
        operation: "set the device rules of".into(),
        path: path.to_owned(),
        source: errno.into(),
    };
    // An O_PATH handle does not do for bpf(2).
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let folder = rustix::fs::openat(folder, c".", flags, rustix::fs::Mode::empty()).map_err(refused)?;
    let mut ids = [0u32; 64];
    let count = bpf::device_filters(folder.as_fd(), &mut ids).map_err(refused)?;
    let new = if rules.allows_all() { None } else { Some(bpf::load_device_filter(&rules.program()).map_err(refused)?) };
    if let Some(filter) = &new {
        bpf::attach_device_filter(folder.as_fd(), filter.as_fd()).map_err(refused)?;
    }
    for id in ids.iter().take(count) {
        let old = bpf::open_program(*id).map_err(refused)?;
        bpf::detach_device_filter(folder.as_fd(), old.as_fd()).map_err(refused)?;
    }
    Ok(())
}

pub(super) fn update(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    set_memory(cgroup, resources)?;
    if let Some((quota, period)) = cpu_quota(resources) {
        let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
        let period = if period == 0 { PERIOD_US } else { period };
        cgroup.set("cpu", "cpu.max", &format!("{quota} {period}"))?;
    }
    if let Some(shares) = resources.cpu_shares.filter(|shares| *shares > 0) {
        cgroup.set("cpu", "cpu.weight", &weight(shares).to_string())?;
    }
    if let Some(cpus) = resources.cpuset_cpus.as_deref().filter(|list| !list.is_empty()) {
        cgroup.set("cpuset", "cpuset.cpus", cpus)?;
    }
    if let Some(nodes) = resources.cpuset_mems.as_deref().filter(|list| !list.is_empty()) {
        cgroup.set("cpuset", "cpuset.mems", nodes)?;
    }
    super::block::limit_unified(cgroup, &resources.block)?;
    match resources.pids {
        Some(limit) if limit > 0 => cgroup.set("pids", "pids.max", &limit.to_string()),
        Some(_) => cgroup.set("pids", "pids.max", "max"),
        None => Ok(()),
    }
}

/// v1's shares (2 to 262144, 1024 is normal) on v2's scale (1 to 10000): linear, as runtimes agreed on.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn set_memory(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    if let Some(limit) = resources.memory_bytes.filter(|limit| *limit > 0) {
        // v2 limits swap alone, Docker's flag memory and swap together.
        let swap = match resources.memory_swap_bytes {
            Some(total) if total < 0 => "max".to_owned(),
            Some(total) if total > 0 => (total as u64).saturating_sub(limit).to_string(),
            _ => limit.to_string(),
        };
        cgroup.set("memory", "memory.max", &limit.to_string())?;
        if cgroup.file("memory", "memory.swap.max").is_some_and(|file| file.exists()) {
            cgroup.set("memory", "memory.swap.max", &swap)?;
        }
    }
    if let Some(reservation) = resources.memory_reservation_bytes.filter(|reservation| *reservation > 0) {
        cgroup.set("memory", "memory.low", &reservation.to_string())?;
    }
    // memory.swappiness and the switch for the OOM killer do not exist on v2; Docker ignores them there too.
    Ok(())
}

pub(super) fn stats(cgroup: &Cgroup) -> Stats {
    let file = |name: &str| cgroup.file("", name);
    let text = |name: &str| file(name).map(|path| read(&path)).unwrap_or_default();
    let cpu = text("cpu.stat");
    let microseconds = |key: &str| keyed(&cpu, key).unwrap_or(0).saturating_mul(1_000);
    let cache = keyed(&text("memory.stat"), "inactive_file").unwrap_or(0);
    let io = text("io.stat");
    // Lines `8:0 rbytes=1 wbytes=2 …`.
    let bytes =
        |key: &str| io.split_whitespace().filter_map(|field| field.strip_prefix(key)?.parse::<u64>().ok()).sum::<u64>();
    Stats {
        cpu_ns: microseconds("usage_usec"),
        cpu_user_ns: microseconds("user_usec"),
        cpu_system_ns: microseconds("system_usec"),
        memory_bytes: number(file("memory.current")).unwrap_or(0).saturating_sub(cache),
        memory_limit_bytes: number(file("memory.max")),
        pids: number(file("pids.current")).unwrap_or(0),
        pids_limit: number(file("pids.max")),
        read_bytes: bytes("rbytes="),
        written_bytes: bytes("wbytes="),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, expected) in [(2, 1), (1024, 39), (262_144, 10_000), (0, 1), (u64::MAX, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }
}
