//! cgroup v1: one hierarchy for each controller (or few together), each with its own folders.
//!
//! Source: <https://docs.kernel.org/admin-guide/cgroup-v1/>.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{Cgroup, DeviceRules, Stats, keyed, make_folder, number, read, write};
use crate::model::container::Resources;
use crate::runtime::Error;

/// The controllers of v1. Source: `linux/cgroup_subsys.h`.
const CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runtime) struct Hierarchy {
    /// Where it is mounted on the host.
    pub mount_point: PathBuf,
    /// The last part of that: its folder inside a container.
    pub folder: String,
    /// What it is mounted with: controllers as flags, or a name.
    pub options: Vec<(String, Option<String>)>,
}

impl Hierarchy {
    /// Whether it has `controller`.
    pub fn has(&self, controller: &str) -> bool {
        self.options.iter().any(|(option, value)| option == controller && value.is_none())
    }

    /// Names beside its folder by which its controllers are found (`cpu` for `cpu,cpuacct`).
    pub fn links(&self) -> impl Iterator<Item = &str> {
        let controllers = self.options.iter().map(|(option, _)| option.as_str());
        controllers.filter(|option| CONTROLLERS.contains(option) && *option != self.folder)
    }

    /// From a line of /proc/self/mountinfo; `None` for other file systems. Source: proc_pid_mountinfo(5).
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut file_system = file_system.split(' ');
        if file_system.next()? != "cgroup" {
            return None;
        }
        let mount_point = PathBuf::from(mount.split(' ').nth(4)?);
        let folder = mount_point.file_name()?.to_str()?.to_owned();
        let mut options = Vec::new();
        for option in file_system.nth(1)?.split(',') {
            if CONTROLLERS.contains(&option) {
                options.push((option.to_owned(), None));
            } else if let Some(name) = option.strip_prefix("name=") {
                options.push(("none".to_owned(), None));
                options.push(("name".to_owned(), Some(name.to_owned())));
            }
        }
        (!options.is_empty()).then_some(Self { mount_point, folder, options })
    }
}

/// The hierarchies of this host. Errors: none is mounted.
pub(super) fn hierarchies() -> Result<Vec<Hierarchy>, Error> {
    let table = read(Path::new("/proc/self/mountinfo"));
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for hierarchy in table.lines().filter_map(Hierarchy::parse) {
        // One that is mounted twice counts once.
        if !hierarchies.iter().any(|known| known.options == hierarchy.options) {
            hierarchies.push(hierarchy);
        }
    }
    if hierarchies.is_empty() { Err(Error::NoCgroups) } else { Ok(hierarchies) }
}

/// Makes the folder `relative` in every hierarchy.
pub(super) fn make(hierarchies: &[Hierarchy], relative: &Path) -> Result<(), Error> {
    for hierarchy in hierarchies {
        let leaf = hierarchy.mount_point.join(relative);
        if leaf.is_dir() {
            continue;
        }
        let mut folder = hierarchy.mount_point.clone();
        for part in relative {
            let above = folder.clone();
            folder.push(part);
            make_folder(&folder)?;
            if hierarchy.has("cpuset") {
                inherit_cpuset(&above, &folder)?;
            }
        }
    }
    Ok(())
}

/// A new cpuset is empty, and nobody can join an empty one.
fn inherit_cpuset(above: &Path, folder: &Path) -> Result<(), Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if read(&folder.join(name)).trim().is_empty() {
            write(&folder.join(name), read(&above.join(name)).trim())?;
        }
    }
    Ok(())
}

/// Opens the `tasks` file of every hierarchy.
pub(super) fn join_files(hierarchies: &[Hierarchy], relative: &Path) -> Result<Vec<OwnedFd>, Error> {
    let open = |hierarchy: &Hierarchy| {
        let path = hierarchy.mount_point.join(relative).join("tasks");
        rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| Error::Cgroup {
            operation: "open".into(),
            path,
            source: errno.into(),
        })
    };
    hierarchies.iter().map(open).collect()
}

pub(super) fn set_devices(hierarchies: &[Hierarchy], relative: &Path, rules: &DeviceRules) -> Result<(), Error> {
    let Some(hierarchy) = hierarchies.iter().find(|hierarchy| hierarchy.has("devices")) else { return Ok(()) };
    let folder = hierarchy.mount_point.join(relative);
    if rules.allows_all() {
        return write(&folder.join("devices.allow"), "a");
    }
    write(&folder.join("devices.deny"), "a")?;
    let file = |allow| folder.join(if allow { "devices.allow" } else { "devices.deny" });
    rules.lines().iter().try_for_each(|(allow, line)| write(&file(*allow), line))
}

/// CFS period in microseconds where none is given.
pub(super) const PERIOD_US: u64 = 100_000;

/// Quota and period in microseconds; -1 is no quota. `None` when neither is given.
pub(super) fn cpu_quota(resources: &Resources) -> Option<(i64, u64)> {
    let period = resources.cpu_period_us.filter(|period| *period > 0);
    let quota = resources.cpu_quota_us.filter(|quota| *quota != 0);
    match (quota, resources.cpus.filter(|cpus| *cpus > 0.0), period) {
        (Some(quota), _, period) => Some((quota, period.unwrap_or(PERIOD_US))),
        (None, Some(cpus), period) => {
            let period = period.unwrap_or(PERIOD_US);
            Some(((cpus * period as f64) as i64, period))
        }
        (None, None, Some(period)) => Some((-1, period)),
        (None, None, None) => None,
    }
}

pub(super) fn update(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    set_memory(cgroup, resources)?;
    if let Some((quota, period)) = cpu_quota(resources) {
        // The kernel checks each against the other: a quota in between is lifted first.
        cgroup.set("cpu", "cpu.cfs_quota_us", "-1")?;
        cgroup.set("cpu", "cpu.cfs_period_us", &period.to_string())?;
        cgroup.set("cpu", "cpu.cfs_quota_us", &quota.to_string())?;
    }
    set_realtime(cgroup, resources)?;
    if let Some(shares) = resources.cpu_shares.filter(|shares| *shares > 0) {
        cgroup.set("cpu", "cpu.shares", &shares.to_string())?;
    }
    if let Some(cpus) = resources.cpuset_cpus.as_deref().filter(|list| !list.is_empty()) {
        cgroup.set("cpuset", "cpuset.cpus", cpus)?;
    }
    if let Some(nodes) = resources.cpuset_mems.as_deref().filter(|list| !list.is_empty()) {
        cgroup.set("cpuset", "cpuset.mems", nodes)?;
    }
    super::block::limit_legacy(cgroup, &resources.block)?;
    match resources.pids {
        Some(limit) if limit > 0 => cgroup.set("pids", "pids.max", &limit.to_string()),
        Some(_) => cgroup.set("pids", "pids.max", "max"),
        None => Ok(()),
    }
}

const REALTIME_PERIOD: &str = "cpu.rt_period_us";
const REALTIME_RUNTIME: &str = "cpu.rt_runtime_us";

/// Whether groups have time for real-time tasks.
pub(super) fn has_realtime() -> bool {
    let hierarchies = hierarchies().unwrap_or_default();
    hierarchies.iter().any(|one| one.has("cpu") && one.mount_point.join(REALTIME_RUNTIME).exists())
}

fn set_realtime(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    let (period, runtime) = (resources.cpu_rt_period_us, resources.cpu_rt_runtime_us);
    if let Some(period) = period.filter(|period| *period > 0) {
        cgroup.set("cpu", REALTIME_PERIOD, &period.to_string())?;
    }
    let Some(runtime) = runtime.filter(|runtime| *runtime != 0) else { return Ok(()) };
    if runtime > 0
        && let Some(folder) = cgroup.file("cpu", REALTIME_RUNTIME).and_then(|file| Some(file.parent()?.to_owned()))
    {
        let period = microseconds(&folder, REALTIME_PERIOD).max(1);
        make_room(&folder, runtime as f64 / period as f64);
    }
    cgroup.set("cpu", REALTIME_RUNTIME, &runtime.to_string())
}

/// Gives the groups above `folder` what all in them need when `folder` has the share `wanted` of a CPU. A group has
/// none at first, and none may have more than the one above. What cannot be given shows when the group's own is set.
fn make_room(folder: &Path, wanted: f64) {
    let Some(above) = folder.parent().filter(|above| above.join(REALTIME_RUNTIME).exists()) else { return };
    // The hierarchy's own root has what the administrator gave it.
    if !above.parent().is_some_and(|top| top.join(REALTIME_RUNTIME).exists()) {
        return;
    }
    let share = |group: &Path| {
        microseconds(group, REALTIME_RUNTIME) as f64 / microseconds(group, REALTIME_PERIOD).max(1) as f64
    };
    let others: f64 = super::children(above).iter().filter(|child| *child != folder).map(|child| share(child)).sum();
    let needed = others + wanted;
    if share(above) >= needed {
        return;
    }
    make_room(above, needed);
    let runtime = (needed * microseconds(above, REALTIME_PERIOD) as f64).ceil();
    let _: Result<(), Error> = write(&above.join(REALTIME_RUNTIME), &format!("{runtime:.0}"));
}

fn microseconds(group: &Path, name: &str) -> u64 {
    read(&group.join(name)).trim().parse().unwrap_or(0)
}

const MEMORY: &str = "memory.limit_in_bytes";
const MEMORY_AND_SWAP: &str = "memory.memsw.limit_in_bytes";

fn set_memory(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    if let Some(limit) = resources.memory_bytes.filter(|limit| *limit > 0) {
        let total = match resources.memory_swap_bytes {
            Some(total) if total != 0 => total,
            _ => i64::try_from(limit.saturating_mul(2)).unwrap_or(-1),
        };
        let explicit = resources.memory_swap_bytes.is_some_and(|total| total != 0);
        set_memory_and_swap(cgroup, limit, total, explicit)?;
    }
    if let Some(reservation) = resources.memory_reservation_bytes.filter(|reservation| *reservation > 0) {
        cgroup.set("memory", "memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(swappiness) = resources.memory_swappiness {
        cgroup.set("memory", "memory.swappiness", &swappiness.to_string())?;
    }
    if resources.oom_kill_disable {
        cgroup.set("memory", "memory.oom_control", "1")?;
    }
    Ok(())
}

/// Memory must never exceed memory and swap: when both rise, the sum goes first.
fn set_memory_and_swap(cgroup: &Cgroup, memory: u64, total: i64, explicit: bool) -> Result<(), Error> {
    let (memory, total) = (memory.to_string(), total.to_string());
    let counts_swap = cgroup.file("memory", MEMORY_AND_SWAP).is_some_and(|file| file.exists());
    if !counts_swap {
        // A kernel without swap accounting (swapaccount=0).
        if explicit {
            return Err(Error::Unsupported { feature: "a limit of swap on a kernel without swap accounting" });
        }
        return cgroup.set("memory", MEMORY, &memory);
    }
    match cgroup.set("memory", MEMORY, &memory) {
        Ok(()) => cgroup.set("memory", MEMORY_AND_SWAP, &total),
        Err(_) => {
            cgroup.set("memory", MEMORY_AND_SWAP, &total)?;
            cgroup.set("memory", MEMORY, &memory)
        }
    }
}

pub(super) fn stats(cgroup: &Cgroup) -> Stats {
    let file = |controller: &str, name: &str| cgroup.file(controller, name);
    let memory_stat = file("memory", "memory.stat").map(|path| read(&path)).unwrap_or_default();
    let used = number(file("memory", "memory.usage_in_bytes")).unwrap_or(0);
    let cache = keyed(&memory_stat, "total_inactive_file").unwrap_or(0);
    let (read_bytes, written_bytes) = block_bytes(file("blkio", "blkio.throttle.io_service_bytes"));
    Stats {
        cpu_ns: number(file("cpuacct", "cpuacct.usage")).unwrap_or(0),
        cpu_user_ns: number(file("cpuacct", "cpuacct.usage_user")).unwrap_or(0),
        cpu_system_ns: number(file("cpuacct", "cpuacct.usage_sys")).unwrap_or(0),
        memory_bytes: used.saturating_sub(cache),
        memory_limit_bytes: number(file("memory", MEMORY)),
        pids: number(file("pids", "pids.current")).unwrap_or(0),
        pids_limit: number(file("pids", "pids.max")),
        read_bytes,
        written_bytes,
    }
}

/// Lines `8:0 Read 4096`.
fn block_bytes(file: Option<PathBuf>) -> (u64, u64) {
    let content = file.map(|path| read(&path)).unwrap_or_default();
    let sum = |operation: &str| {
        content
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                (fields.next()? == operation).then(|| fields.next()?.parse::<u64>().ok())?
            })
            .sum()
    };
    (sum("Read"), sum("Write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_is_read_from_mountinfo() {
        let line = "34 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let hierarchy = Hierarchy::parse(line).unwrap();
        assert_eq!(hierarchy.folder, "cpu,cpuacct");
        assert!(hierarchy.has("cpu") && hierarchy.has("cpuacct") && !hierarchy.has("memory"));
        assert_eq!(hierarchy.links().collect::<Vec<_>>(), ["cpu", "cpuacct"]);
        let named = "35 25 0:31 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";
        let named = Hierarchy::parse(named).unwrap();
        assert_eq!(named.options, [("none".into(), None), ("name".into(), Some("systemd".into()))]);
        assert_eq!(Hierarchy::parse("36 25 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"), None);
        assert_eq!(Hierarchy::parse("nonsense"), None);
    }

    #[test]
    fn cpus_become_a_quota() {
        let check = |cpus, cpu_quota_us, cpu_period_us| {
            cpu_quota(&Resources { cpus, cpu_quota_us, cpu_period_us, ..Resources::default() })
        };
        assert_eq!(check(Some(1.5), None, None), Some((150_000, 100_000)));
        assert_eq!(check(Some(0.5), None, Some(50_000)), Some((25_000, 50_000)));
        assert_eq!(check(Some(0.5), Some(7_000), None), Some((7_000, 100_000)));
        assert_eq!(check(None, None, Some(50_000)), Some((-1, 50_000)));
        assert_eq!(check(None, None, None), None);
    }
}
