//! COPY, ADD and WORKDIR: selected files -> a layer folder, in one pass.
//!
//! A folder's content is merged into the destination; a file goes into a destination that is a folder or ends in
//! `/`. A file never replaces a folder, nor a folder a file. Folders that have to be made get mode 0755 and the
//! owner of `--chown`.
//!
//! Source: BuildKit `solver/llbsolver/file/backend.go`, tonistiigi/fsutil `copy/copy.go`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::archive::{ArchiveError, unpack_if_archive};
use super::content::Findings;
use super::copier::{Copier, NewFile, PARALLEL_ITEMS, in_parallel};
use super::mode::Chmod;
use super::select::{Group, Item};
use super::target::{Owner, Target, changed_mode, shown};
use super::tree::Tree;
use crate::base::fs::{self, Context};

/// Mode of folders that are made on the way to the destination.
const FOLDER_MODE: u32 = 0o755;
/// Mode of files given as heredocs.
const INLINE_MODE: u32 = 0o644;

/// Why files cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A file would replace a folder.
    #[error("cannot replace the folder `{}` with a file", path.display())]
    ReplacesFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A folder would replace a file or a link.
    #[error("cannot copy a folder to `{}`, which is no folder", path.display())]
    NotAFolder {
        /// What stands there.
        path: PathBuf,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] Box<crate::store::Error>),
    /// An archive of ADD that cannot be unpacked.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fs::Error),
}

/// How files are copied.
#[derive(Clone, Copy)]
pub struct Manner<'a> {
    /// Absolute path; a trailing `/` means a folder.
    pub destination: &'a str,
    /// Owner of everything; `None` keeps owners.
    pub owner: Option<Owner>,
    /// Mode change.
    pub chmod: Option<&'a Chmod>,
    /// Unpack archives.
    pub unpack: bool,
}

/// Copies selected files of `tree` into the layer; `findings` learns of them.
pub fn copy_groups(
    target: &mut Target<'_>,
    tree: &Tree,
    groups: &[Group],
    manner: &Manner<'_>,
    findings: &Findings,
) -> Result<(), CopyError> {
    if groups.iter().map(|group| group.items.len()).sum::<usize>() < PARALLEL_ITEMS {
        let mut files = Copier::new(tree, findings);
        return copy_with(target, tree, groups, manner, &mut |file| files.fill(file));
    }
    in_parallel(tree, findings, |send| copy_with(target, tree, groups, manner, send))?;
    target.begin_write_back();
    Ok(())
}

/// Makes what is selected, in order; `fill` gets the regular files, whose content may come later.
fn copy_with(
    target: &mut Target<'_>,
    tree: &Tree,
    groups: &[Group],
    manner: &Manner<'_>,
    fill: Fill<'_>,
) -> Result<(), CopyError> {
    for group in groups {
        let Some(top) = group.items.first() else { continue };
        if manner.unpack && top.meta.kind == FileType::RegularFile {
            let file = tree.open(&top.source)?;
            let destination = target.resolve(Path::new(""), Path::new(manner.destination), true)?;
            if unpack_if_archive(target, file.into(), &destination, manner.owner)? {
                continue;
            }
        }
        let destination = prepare(target, manner, &group.name, top.meta.is_folder())?;
        let mut copy = Copy { target, tree, manner, links: HashMap::new(), fill };
        for item in &group.items {
            let path =
                if item.target.as_os_str().is_empty() { destination.clone() } else { destination.join(&item.target) };
            copy.item(item, &path)?;
        }
    }
    Ok(())
}

/// Writes a file that was fetched, or unpacks it where that is asked for.
pub fn copy_file(
    target: &mut Target<'_>,
    name: &str,
    mut file: std::fs::File,
    manner: &Manner<'_>,
    mode: u32,
    mtime_ns: i128,
) -> Result<(), CopyError> {
    if manner.unpack {
        let copy = file.try_clone().context("open", Path::new(name))?;
        let destination = target.resolve(Path::new(""), Path::new(manner.destination), true)?;
        if unpack_if_archive(target, copy, &destination, manner.owner)? {
            return Ok(());
        }
        use std::io::Seek;
        file.rewind().context("rewind", Path::new(name))?;
    }
    copy_inline(target, name, &mut file, manner, Some(mode), mtime_ns)
}

/// Writes a file whose content is given in the Dockerfile, or was fetched.
pub fn copy_inline(
    target: &mut Target<'_>,
    name: &str,
    content: &mut dyn std::io::Read,
    manner: &Manner<'_>,
    mode: Option<u32>,
    mtime_ns: i128,
) -> Result<(), CopyError> {
    let path = prepare(target, manner, Path::new(name).file_name().unwrap_or_default(), false)?;
    check_file(target, &path)?;
    let mode = mode.unwrap_or(INLINE_MODE);
    let mode = manner.chmod.map_or(mode, |chmod| chmod.apply(mode, false));
    Ok(target.write_file(content, &path, manner.owner.unwrap_or(ROOT), mode, mtime_ns)?)
}

const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// Makes the working folder.
pub fn make_workdir(target: &mut Target<'_>, path: &str, owner: Owner) -> Result<(), CopyError> {
    let path = target.resolve(Path::new(""), Path::new(path), true)?;
    Ok(target.make_folders(&path, FOLDER_MODE, owner)?)
}

/// Makes the folders that the destination needs and returns where the source itself goes, resolved.
fn prepare(
    target: &mut Target<'_>,
    manner: &Manner<'_>,
    name: &std::ffi::OsStr,
    is_folder: bool,
) -> Result<PathBuf, CopyError> {
    let owner = manner.owner.unwrap_or(ROOT);
    let mode = match manner.chmod {
        Some(Chmod::Octal(mode)) => *mode,
        _ => FOLDER_MODE,
    };
    let typed = Path::new(manner.destination);
    let needed = if manner.destination.ends_with('/') { Some(typed) } else { typed.parent() };
    if let Some(needed) = needed {
        let needed = target.resolve(Path::new(""), needed, true)?;
        target.make_folders(&needed, mode, owner)?;
    }
    let mut path = target.resolve(Path::new(""), typed, true)?;
    let existing = target.look(&path)?;
    if is_folder {
        if existing.is_none() {
            target.make_folders(&path, mode, owner)?;
        }
    } else if existing.is_some_and(|meta| meta.is_folder()) {
        path.push(name);
    }
    Ok(path)
}

fn check_file(target: &Target<'_>, path: &Path) -> Result<(), CopyError> {
    match target.look(path)? {
        Some(meta) if meta.is_folder() => Err(CopyError::ReplacesFolder { path: shown(path) }),
        _ => Ok(()),
    }
}

/// Takes the regular files that were made.
type Fill<'a> = &'a mut dyn FnMut(NewFile) -> Result<(), CopyError>;

struct Copy<'a, 'b> {
    target: &'a mut Target<'b>,
    tree: &'a Tree,
    manner: &'a Manner<'a>,
    /// Device and inode of files with several names: the first one in the layer.
    links: HashMap<(u64, u64), PathBuf>,
    fill: Fill<'a>,
}

impl Copy<'_, '_> {
    fn item(&mut self, item: &Item, path: &Path) -> Result<(), CopyError> {
        let meta = &item.meta;
        let owner = self.manner.owner.unwrap_or(Owner { uid: meta.uid, gid: meta.gid });
        let mode = changed_mode(self.manner.chmod, meta);
        if meta.is_folder() {
            return self.folder(item, path, owner, mode);
        }
        check_file(self.target, path)?;
        match meta.kind {
            FileType::RegularFile => {
                if meta.links > 1 {
                    if let Some(first) = self.links.get(&(meta.device, meta.inode)) {
                        return Ok(self.target.hard_link(first, path)?);
                    }
                    self.links.insert((meta.device, meta.inode), path.to_owned());
                }
                let to = self.target.create(path)?;
                let (source, path) = (item.source.clone(), path.to_owned());
                (self.fill)(NewFile { to, path, source, meta: *meta, owner, mode })?;
            }
            FileType::Symlink => {
                let link =
                    item.link.as_deref().map_or_else(|| self.tree.link(&item.source), |link| Ok(link.to_owned()))?;
                self.target.symlink(&link, path, owner, meta.mtime_ns)?;
            }
            kind => self.target.node(path, kind, meta.special, owner, mode)?,
        }
        Ok(())
    }

    fn folder(&mut self, item: &Item, path: &Path, owner: Owner, mode: u32) -> Result<(), CopyError> {
        let is_top = item.target.as_os_str().is_empty();
        match self.target.look(path)? {
            Some(existing) if !existing.is_folder() => return Err(CopyError::NotAFolder { path: shown(path) }),
            // The destination itself stays as it is.
            Some(_) if is_top => return Ok(self.target.enter(path)?),
            Some(_) => self.target.enter(path)?,
            None => self.target.new_folder(path, mode)?,
        }
        self.target.set_folder(path, owner, mode, item.meta.mtime_ns)?;
        let handle = self.tree.open_folder(&item.source)?;
        use std::os::fd::AsFd;
        Ok(self.target.give_attributes(path, &super::content::attributes(handle.as_fd()))?)
    }
}
