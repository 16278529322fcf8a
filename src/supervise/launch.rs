//! From what a container *is* to what the runtime starts: every name becomes a host path or a descriptor.

use std::path::{Path, PathBuf};

use super::namespace;
use super::network::Network;
use super::{Error, Result, volume};
use crate::base::fs::{self, Context};
use crate::base::id::Digest;
use crate::model::container::{ContainerSpec, InlineContent, InlineFile, Mount, MountSource, NetworkMode};
use crate::model::volume::VolumeRecord;
use crate::net;
use crate::runtime::{Cgroup, EtcFiles, Launch, ResolvedMount, ResolvedSource, RootFs, Stdio, UpperLayer};
use crate::store::Store;

/// Largest config or secret.
const INLINE_BYTES_MAX: u64 = 16 << 20;

/// Resolves everything that a start of `spec` needs; fills volumes that are used for the first time.
pub(super) fn resolve<'a>(
    store: &Store,
    spec: &'a ContainerSpec,
    network: &Network,
    cgroup: &'a Cgroup,
    stdio: Stdio,
) -> Result<Launch<'a>> {
    let mounts = spec.mounts.iter().map(|mount| resolve_mount(store, spec, mount)).collect::<Result<_>>()?;
    Ok(Launch {
        spec,
        root: root_fs(store, spec),
        mounts,
        etc: etc_files(store, spec)?,
        files: spec.files.iter().map(inline_file).collect::<Result<_>>()?,
        net: network.for_launch(store, spec)?,
        joins: namespace::joins(store, spec)?,
        cgroup,
        stdio,
        dies_with_caller: false,
    })
}

/// The layers of a container with its own on top.
pub(super) fn root_fs(store: &Store, spec: &ContainerSpec) -> RootFs {
    let containers = store.containers();
    let upper = UpperLayer {
        upper: containers.upper_folder(&spec.id),
        work: containers.work_folder(&spec.id),
        volatile: spec.auto_remove,
    };
    RootFs { lowers: lowers(store, &spec.layers), upper: Some(upper) }
}

/// Top-most first, as overlayfs wants them, each once: it refuses a folder that it has already, and of layers with
/// the same content only the top-most one shows.
pub(super) fn lowers(store: &Store, layers: &[Digest]) -> Vec<PathBuf> {
    let mut seen = std::collections::BTreeSet::new();
    layers.iter().rev().filter(|layer| seen.insert(*layer)).map(|layer| store.layers().path(layer)).collect()
}

fn resolve_mount(store: &Store, spec: &ContainerSpec, mount: &Mount) -> Result<ResolvedMount> {
    let source = match &mount.source {
        MountSource::Bind { path, create, propagation, recursive, idmap } => {
            if *create && !path.exists() {
                fs::create_dir_all(path)?;
            }
            let (path, propagation) = (path.clone(), propagation.clone());
            ResolvedSource::Bind { path, subpath: None, propagation, recursive: *recursive, map_owners: *idmap }
        }
        MountSource::Volume { name, subpath, copy, .. } => {
            let record = store.volumes().get(name)?;
            let is_memory = volume::mount_memory(store, &record)?;
            let resolved = resolve_volume(store, &record, subpath)?;
            if *copy && (is_memory || record.options.is_empty()) {
                volume::fill(store, name, &spec.layers, &mount.target)?;
            }
            resolved
        }
        MountSource::Tmpfs { size_bytes, mode, options } => {
            ResolvedSource::Tmpfs { size_bytes: *size_bytes, mode: *mode, options: options.clone() }
        }
        MountSource::Image { layers, subpath } => ResolvedSource::Layers {
            stack: RootFs { lowers: lowers(store, layers), upper: None },
            subpath: subpath.clone(),
        },
    };
    Ok(ResolvedMount { target: mount.target.clone(), read_only: mount.read_only, source })
}

/// A volume is a folder of ours, unless its options say what else is mounted: a host folder or memory.
fn resolve_volume(store: &Store, record: &VolumeRecord, subpath: &Option<String>) -> Result<ResolvedSource> {
    let option = |name: &str| record.option(name);
    let flags = record.mount_options();
    // What is the host's own keeps the host's ids.
    let bind = |path: PathBuf, recursive: bool, map_owners: bool| ResolvedSource::Bind {
        path,
        subpath: subpath.clone(),
        propagation: None,
        recursive,
        map_owners,
    };
    match option("type") {
        "none" | "" if flags.contains(&"bind") || flags.contains(&"rbind") => {
            Ok(bind(PathBuf::from(option("device")), flags.contains(&"rbind"), false))
        }
        // One memory for all, mounted on the folder while any uses it.
        "" | "tmpfs" => Ok(bind(store.volumes().data_folder(&record.name), true, true)),
        "none" => Err(Error::VolumeType { volume: record.name.clone(), kind: "none".to_owned() }),
        // As with mount(2), which Docker's local driver calls: options are the file system's own (`addr=` for NFS).
        kind => Ok(ResolvedSource::FileSystem {
            kind: kind.to_owned(),
            device: option("device").to_owned(),
            options: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            subpath: subpath.clone(),
        }),
    }
}

fn inline_file(file: &InlineFile) -> Result<(InlineFile, Vec<u8>)> {
    let content = match &file.content {
        InlineContent::Text(text) => text.clone().into_bytes(),
        InlineContent::HostFile(path) => fs::read_limited(path, INLINE_BYTES_MAX)?,
    };
    Ok((file.clone(), content))
}

/// The files that are bound over /etc. They are empty until [`write_etc_files`]: addresses are known only then.
fn etc_files(store: &Store, spec: &ContainerSpec) -> Result<EtcFiles> {
    let folder = match &spec.network {
        // Who shares a namespace shares its names too.
        NetworkMode::Container { id } => store.containers().etc_folder(id),
        _ => store.containers().etc_folder(&spec.id),
    };
    let file = |name: &str| -> Result<Option<PathBuf>> {
        let path = folder.join(name);
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path).context("create", &path)?;
        readable_by_all(&file, &path)?;
        Ok(Some(path))
    };
    Ok(EtcFiles { hosts: file("hosts")?, resolv_conf: file("resolv.conf")?, hostname: file("hostname")? })
}

fn readable_by_all(file: &std::fs::File, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o644);
    Ok(file.set_permissions(mode).context("set the mode of", path)?)
}

/// Writes the content of hosts, resolv.conf and hostname into the bound files.
pub(super) fn write_etc_files(store: &Store, spec: &ContainerSpec, network: &Network) -> Result<()> {
    if matches!(spec.network, NetworkMode::Container { .. }) {
        return Ok(());
    }
    let folder = store.containers().etc_folder(&spec.id);
    let content = net::etc::etc_files(spec, &network.endpoints)?;
    let hostname = format!("{}\n", spec.hostname);
    for (name, text) in [("hosts", &content.hosts), ("resolv.conf", &content.resolv_conf), ("hostname", &hostname)] {
        let path = folder.join(name);
        // In place: a new file would not be the one that is bound inside.
        std::fs::write(&path, text).context("write", &path)?;
    }
    Ok(())
}
