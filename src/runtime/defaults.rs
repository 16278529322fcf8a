//! What every container hides, protects and has: paths of /proc and /sys, device nodes, kernel parameters.
//!
//! Source: the lists are Docker's.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, makedev};
use rustix::io::Errno;

use super::Error;
use super::ids::Ids;
use super::mounts::c_string;
use super::plan::{Below, Node, SystemPath};
use crate::model::container::{DeviceMapping, NamespaceMode, Security};

/// Paths that tell about or reach into the host.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that change the host when written.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths to hide and paths to make read-only.
pub(super) fn system_paths(security: &Security) -> Result<(Vec<SystemPath>, Vec<SystemPath>), Error> {
    if security.privileged || security.unmasked {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut masked = MASKED.iter().map(|path| system_path(path)).collect::<Result<Vec<_>, _>>()?;
    for path in thermal_throttles() {
        masked.push(system_path(&path)?);
    }
    let read_only = READ_ONLY.iter().map(|path| system_path(path)).collect::<Result<Vec<_>, _>>()?;
    Ok((masked, read_only))
}

pub(super) fn system_path(path: &str) -> Result<SystemPath, Error> {
    let (below, rest) = match (path.strip_prefix("/sys/"), path.strip_prefix("/proc/")) {
        (Some(rest), _) => (Below::Sys, rest),
        (_, Some(rest)) => (Below::Proc, rest),
        _ => (Below::Root, path),
    };
    Ok(SystemPath { below, path: c_string(rest)? })
}

/// Counters of each CPU that are a side channel (GHSA-6fw5-f8r9-fgfm).
fn thermal_throttles() -> Vec<String> {
    let mut paths = Vec::new();
    // Numbers without a gap up to the first that is missing: hot-unplugged ones keep their folder.
    for number in 0..8192 {
        let cpu = format!("/sys/devices/system/cpu/cpu{number}");
        if !Path::new(&cpu).exists() {
            break;
        }
        let path = format!("{cpu}/thermal_throttle");
        if Path::new(&path).exists() {
            paths.push(path);
        }
    }
    paths
}

/// The nodes that every /dev has.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Device nodes with their names for errors.
pub(super) fn nodes(security: &Security, own_dev: bool) -> Result<(Vec<Node>, Vec<String>), Error> {
    let mut nodes = Vec::new();
    if own_dev {
        nodes = default_nodes()?;
        if security.privileged {
            host_nodes(Path::new("/dev"), Path::new("/dev"), &mut nodes, 0)?;
        }
    }
    for mapping in &security.devices {
        mapped_nodes(mapping, &mut nodes)?;
    }
    let names = nodes.iter().map(|node| format!("{}/{}", node.folder.to_string_lossy(), node.name.to_string_lossy()));
    let names = names.collect();
    Ok((nodes, names))
}

/// The nodes that every /dev has.
pub(super) fn default_nodes() -> Result<Vec<Node>, Error> {
    let node = |(name, major, minor)| {
        Ok(Node {
            folder: c_string("/dev")?,
            name: c_string(name)?,
            file_type: FileType::CharacterDevice,
            mode: 0o666,
            device: makedev(major, minor),
            owner: (0, 0),
        })
    };
    NODES.into_iter().map(node).collect()
}

/// The devices that a mapping names: one, or all below a folder.
pub(super) fn mapped_nodes(mapping: &DeviceMapping, nodes: &mut Vec<Node>) -> Result<(), Error> {
    let unknown = || Error::Unknown { kind: "device", name: mapping.source.display().to_string() };
    let metadata = match std::fs::metadata(&mapping.source) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::DeviceMissing { path: mapping.source.clone() });
        }
        metadata => metadata.map_err(|_| unknown())?,
    };
    if metadata.is_dir() {
        return host_nodes(&mapping.source, &mapping.target, nodes, 0);
    }
    nodes.push(node(&metadata, &mapping.target)?.ok_or_else(unknown)?);
    Ok(())
}

/// The node of a host file at `target`; `None` when it is no device.
fn node(metadata: &std::fs::Metadata, target: &Path) -> Result<Option<Node>, Error> {
    let kind = metadata.file_type();
    let file_type = match (kind.is_char_device(), kind.is_block_device()) {
        (true, _) => FileType::CharacterDevice,
        (_, true) => FileType::BlockDevice,
        _ => return Ok(None),
    };
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else { return Ok(None) };
    Ok(Some(Node {
        folder: c_string(&folder.to_string_lossy())?,
        name: c_string(&name.to_string_lossy())?,
        file_type,
        mode: metadata.mode() & 0o7777,
        device: metadata.rdev(),
        owner: (metadata.uid(), metadata.gid()),
    }))
}

/// Makes nodes in the /dev of a container with a user namespace, whose root may make none.
///
/// Errors: a place outside of that /dev.
pub(super) fn make_nodes(nodes: Vec<Node>, dev: Option<&OwnedFd>, ids: &Ids) -> Result<(), Error> {
    for node in nodes {
        let shown = format!("{}/{}", node.folder.to_string_lossy(), node.name.to_string_lossy());
        let folder = node.folder.to_string_lossy();
        let below = folder.strip_prefix("/dev").filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let (Some(below), Some(dev)) = (below, dev) else {
            return Err(Error::Unsupported { feature: "a device outside of /dev in a user namespace" });
        };
        let refused = |errno: Errno| Error::Step { step: format!("make the device `{shown}`"), source: errno.into() };
        let root = ids.on_host(0, 0)?;
        let below = below.trim_matches('/');
        let mode = Mode::from_raw_mode(0o755);
        let made = match below {
            "" => rustix::io::fcntl_dupfd_cloexec(dev, 3),
            _ => super::root::mkdir_in_root(dev.as_fd(), Path::new(below), mode, Some(root)),
        };
        let folder = made.map_err(refused)?;
        // An owner that the container does not have is nobody there.
        let (uid, gid) = (ids.on_host(node.owner.0, 0).map_or(node.owner.0, |(uid, _)| uid), {
            ids.on_host(0, node.owner.1).map_or(node.owner.1, |(_, gid)| gid)
        });
        let name = node.name.as_c_str();
        let mode = Mode::from_raw_mode(node.mode);
        match rustix::fs::mknodat(&folder, name, node.file_type, mode, node.device) {
            Err(Errno::EXIST) => continue,
            result => result.map_err(refused)?,
        }
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&folder, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)?;
        // The caller's umask had its say.
        rustix::fs::chmodat(&folder, name, mode, AtFlags::empty()).map_err(refused)?;
    }
    Ok(())
}

/// Folders and files of /dev that belong to the host's own mounts.
const NOT_DEVICES: [&str; 8] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
/// No /dev is deeper; a bound on odd ones.
const DEPTH_MAX: u32 = 8;

fn host_nodes(source: &Path, target: &Path, nodes: &mut Vec<Node>, depth: u32) -> Result<(), Error> {
    let Ok(entries) = std::fs::read_dir(source) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if NOT_DEVICES.iter().any(|other| name == *other) || depth > DEPTH_MAX {
            continue;
        }
        let target: PathBuf = target.join(&name);
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            host_nodes(&entry.path(), &target, nodes, depth + 1)?;
        } else if let Some(node) = node(&metadata, &target)? {
            nodes.push(node);
        }
    }
    Ok(())
}

/// Kernel parameters: the defaults of a network namespace of one's own, and those of the spec. `last_group`: the
/// highest of a user namespace.
pub fn sysctls(
    wished: &BTreeMap<String, String>,
    own_network: bool,
    ipc: &NamespaceMode,
    last_group: Option<u32>,
) -> Result<Vec<(String, String)>, Error> {
    let mut sysctls = own_sysctls(wished, own_network, *ipc != NamespaceMode::Host)?;
    if own_network {
        // No capability is needed for ports below 1024, nor for ping.
        sysctls.entry("net/ipv4/ip_unprivileged_port_start".into()).or_insert_with(|| "0".into());
        // A user namespace takes only groups that it has.
        let last_group = last_group.unwrap_or(i32::MAX as u32);
        sysctls.entry("net/ipv4/ping_group_range".into()).or_insert_with(|| format!("0 {last_group}"));
    }
    Ok(sysctls.into_iter().collect())
}

/// The kernel parameters `wished`, as paths below /proc/sys. Errors: one that is not in a namespace of its own.
pub(super) fn own_sysctls(
    wished: &BTreeMap<String, String>,
    own_network: bool,
    own_ipc: bool,
) -> Result<BTreeMap<String, String>, Error> {
    let mut sysctls = BTreeMap::new();
    for (name, value) in wished {
        let path = sysctl_path(name);
        let allowed = match path.split('/').collect::<Vec<_>>().as_slice() {
            ["net", _, ..] => own_network,
            ["kernel", name] => {
                let is_ipc = name.starts_with("shm") || name.starts_with("msg") || *name == "sem";
                is_ipc && own_ipc
            }
            ["fs", "mqueue", _] => own_ipc,
            _ => false,
        };
        if !allowed || path.split('/').any(|part| part.is_empty() || part == ".." || part == ".") {
            return Err(Error::Sysctl { name: name.clone() });
        }
        sysctls.insert(path, value.clone());
    }
    Ok(sysctls)
}

/// `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.1/forwarding` as a path: the first separator says which is which.
///
/// Source: sysctl.d(5).
fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']).map(|position| &name[position..=position]) {
        Some("/") | None => name.to_owned(),
        Some(_) => name
            .chars()
            .map(|character| match character {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_own_namespaces() {
        let check = |name: &str, own_network, ipc: &NamespaceMode| {
            sysctls(&[(name.to_owned(), "1".to_owned())].into(), own_network, ipc, Some(65_535)).is_ok()
        };
        let private = &NamespaceMode::Private;
        for name in [
            "net.ipv4.ip_forward",
            "net/ipv4/conf/eth0.1/forwarding",
            "kernel.shmmax",
            "kernel.sem",
            "fs.mqueue.msg_max",
        ] {
            assert!(check(name, true, private), "{name}");
        }
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "net",
            "net..x",
            "fs.mqueue",
            "net/../kernel/x",
            "kernel.shm/../core_pattern",
            "",
        ] {
            assert!(!check(name, true, private), "{name}");
        }
        assert!(!check("net.ipv4.ip_forward", false, private));
        assert!(!check("kernel.shmmax", true, &NamespaceMode::Host));
    }

    #[test]
    fn the_first_separator_says_which_is_which() {
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }
}
