//! What a container changed in its files: its own layer beside those below.
//!
//! Source: moby `pkg/archive/changes.go`, overlayfs.rst "whiteouts and opaque directories".

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{Engine, Result};
use crate::base::fs::Context;
use crate::base::id::ContainerId;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It was there before.
    Changed,
    /// It is gone.
    Deleted,
}

/// One changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The path in the container, absolute.
    pub path: PathBuf,
}

/// What a start makes in every container, so that something can be mounted there.
const MADE_BY_START: [&str; 9] =
    ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv", "run/secrets"];

impl Engine {
    /// The changes of a container, sorted by path.
    pub fn diff(&self, id: &ContainerId) -> Result<Vec<Change>> {
        let spec = self.store.containers().spec(id)?;
        let layers: Vec<PathBuf> = spec.layers.iter().rev().map(|layer| self.store.layers().path(layer)).collect();
        let mut hidden: Vec<PathBuf> = MADE_BY_START.iter().map(PathBuf::from).collect();
        hidden.extend(spec.mounts.iter().map(|mount| PathBuf::from(mount.target.trim_start_matches('/'))));
        hidden.extend(spec.files.iter().map(|file| PathBuf::from(file.target.trim_start_matches('/'))));
        let upper = self.store.containers().upper_folder(id);
        let mut walk = Walk { upper: &upper, layers: &layers, hidden: &hidden, changes: Vec::new() };
        walk.folder(Path::new(""), false)?;
        let mut changes = walk.changes;
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }
}

struct Walk<'a> {
    upper: &'a Path,
    /// Top-most first.
    layers: &'a [PathBuf],
    hidden: &'a [PathBuf],
    changes: Vec<Change>,
}

impl Walk<'_> {
    /// Looks through a folder of the container's own layer; `is_new`: nothing below shows through. Returns whether
    /// something was left out because a start made it.
    fn folder(&mut self, relative: &Path, is_new: bool) -> Result<bool> {
        let folder = self.upper.join(relative);
        let mut left_out = false;
        for entry in std::fs::read_dir(&folder).context("list", &folder)? {
            let path = relative.join(entry.context("list", &folder)?.file_name());
            if self.hidden.contains(&path) {
                left_out = true;
                continue;
            }
            let place = self.upper.join(&path);
            // A running container removes files as it likes.
            let Ok(metadata) = std::fs::symlink_metadata(&place) else { continue };
            let below = if is_new { None } else { self.below(&path) };
            if is_whiteout(&metadata) {
                if below.is_some() {
                    self.add(ChangeKind::Deleted, &path);
                }
                continue;
            }
            if !metadata.is_dir() {
                self.add(if below.is_some() { ChangeKind::Changed } else { ChangeKind::Added }, &path);
                continue;
            }
            let count = self.changes.len();
            let replaced = below.as_ref().is_none_or(|below| !below.is_dir()) || is_opaque(&place);
            let left_out_inside = self.folder(&path, replaced)?;
            match below {
                None if left_out_inside && self.changes.len() == count => left_out = true,
                None => self.add(ChangeKind::Added, &path),
                // A folder that is only on the way to something that a start made is as it was.
                Some(below) => {
                    let same =
                        (below.mode(), below.uid(), below.gid()) == (metadata.mode(), metadata.uid(), metadata.gid());
                    let touched = (below.mtime(), below.mtime_nsec()) != (metadata.mtime(), metadata.mtime_nsec());
                    if self.changes.len() > count || !same || (touched && !left_out_inside) {
                        self.add(ChangeKind::Changed, &path);
                    }
                }
            }
        }
        Ok(left_out)
    }

    fn add(&mut self, kind: ChangeKind, path: &Path) {
        self.changes.push(Change { kind, path: Path::new("/").join(path) });
    }

    /// What the layers below have at a path. Every part is looked at: a link on the way means that nothing is there.
    fn below(&self, path: &Path) -> Option<Metadata> {
        for layer in self.layers {
            let mut current = layer.clone();
            let mut found = None;
            let mut hides = false;
            for part in path.components() {
                hides |= found.is_some() && is_opaque(&current);
                current.push(AsRef::<OsStr>::as_ref(&part));
                let Ok(metadata) = std::fs::symlink_metadata(&current) else {
                    found = None;
                    break;
                };
                if is_whiteout(&metadata) {
                    return None;
                }
                let is_last = current.strip_prefix(layer).is_ok_and(|rest| rest == path);
                if !is_last && !metadata.is_dir() {
                    return None;
                }
                found = Some(metadata);
            }
            if found.is_some() {
                return found;
            }
            if hides {
                return None;
            }
        }
        None
    }
}

fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

fn is_opaque(folder: &Path) -> bool {
    let mut value = [0u8; 1];
    rustix::fs::lgetxattr(folder, c"trusted.overlay.opaque", &mut value).is_ok() && value == *b"y"
}
