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
use crate::runtime::{self, RootFs, root};
use crate::store::Store;

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
