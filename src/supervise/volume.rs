//! What a volume needs before it is mounted: memory where it is a tmpfs, and a first content.
//!
//! A volume `type: tmpfs` is one file system for all containers that mount it. It is mounted on the volume's folder by
//! the first and unmounted after the last. A user is a container whose supervisor lives: that is so before it looks at
//! its volumes, and the last one looks for others when its own lock is gone. What one that is killed in between leaves
//! goes with the next last user, or with the volume.
//!
//! Fills an empty volume with what the image has at its target, as Docker does at first use.
//!
//! The image's layers are mounted read-only and detached; the tree is copied with owners, modes, times, links and
//! extended attributes. Both sides are walked by descriptors and nothing follows a link, so neither a hostile image
//! nor another container that has the volume mounted can lead the copy elsewhere.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Result;
use crate::base::copy;
use crate::base::fs::Context;
use crate::base::id::Digest;
use crate::model::container::{ContainerSpec, MountSource};
use crate::model::volume::VolumeRecord;
use crate::runtime::{self, RootFs, root};
use crate::store::Store;

/// Mounts the memory of a volume that lives there, unless it is mounted; returns whether it is such a volume.
pub(super) fn mount_memory(store: &Store, record: &VolumeRecord) -> Result<bool> {
    if !record.is_memory() {
        return Ok(false);
    }
    let volumes = store.volumes();
    let _lock = volumes.lock(&record.name)?;
    if !volumes.is_mounted(&record.name) {
        let data = volumes.data_folder(&record.name);
        let options = record.mount_options();
        let mount = runtime::mount_file_system("tmpfs", record.option("device"), &options, &data)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(&data, flags, Mode::empty()).context("open", &data)?;
        crate::sys::mount::attach(mount.as_fd(), place.as_fd()).context("mount memory on", &data)?;
    }
    Ok(true)
}

/// Unmounts the memory of those volumes that no container uses. The supervisor's lock of `spec` is not held any more.
pub(super) fn release(store: &Store, spec: &ContainerSpec) {
    for mount in &spec.mounts {
        if let MountSource::Volume { name, .. } = &mount.source
            && store.volumes().is_mounted(name)
        {
            drop(unmount_unused(store, name));
        }
    }
}

fn unmount_unused(store: &Store, name: &str) -> Result<()> {
    let _lock = store.volumes().lock(name)?;
    let uses = |source: &MountSource| matches!(source, MountSource::Volume { name: used, .. } if used == name);
    for (spec, _) in store.containers().list()? {
        let has_it = spec.mounts.iter().any(|mount| uses(&mount.source));
        if has_it && (store.containers().supervisor_alive(&spec.id)? || super::heal::is_orphan(store, &spec.id)?) {
            return Ok(());
        }
    }
    Ok(store.volumes().unmount(name)?)
}

/// Fills the volume `name` from `target` in the image with these layers (bottom first), if it is empty and the
/// image has a folder there.
pub(super) fn fill(store: &Store, name: &str, layers: &[Digest], target: &str) -> Result<()> {
    let data = store.volumes().data_folder(name);
    if layers.is_empty() || !is_empty(&data)? {
        return Ok(());
    }
    let _lock = store.volumes().lock(name)?;
    if !is_empty(&data)? {
        return Ok(());
    }
    let image = runtime::mount_layers(&RootFs { lowers: super::launch::lowers(store, layers), upper: None })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = match root::open_in_root(image.as_fd(), Path::new(target), flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno).context("open", Path::new(target)).map_err(Into::into),
    };
    let to = rustix::fs::open(&data, flags, Mode::empty()).context("open", &data)?;
    copy::tree(&from, &to, true).context("fill", &data)?;
    Ok(())
}

fn is_empty(folder: &Path) -> Result<bool> {
    Ok(std::fs::read_dir(folder).context("list", folder)?.next().is_none())
}
