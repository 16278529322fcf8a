//! The files of a built image in a folder of the host (`--output type=local`).
//!
//! Files belong to the caller afterwards, as BuildKit has it; what is there already is merged and replaced. Every
//! step goes through a handle of its folder, so no link of the image or of the destination leads elsewhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::Error;
use super::target::{BUFFER_BYTES, Owner, copy_content, finish_file, times};
use super::tree::{Meta, Tree, look_at, names_in, read_link};
use crate::base::fs::{self, Context};
use crate::model::image::Image;
use crate::store::Store;

/// Deepest nesting of folders.
const DEPTH_MAX: usize = 1000;

/// Writes the files of `image` into `folder`, which is made when it is not there.
pub fn write_folder(store: &Store, image: &Image, folder: &Path) -> Result<(), Error> {
    let folders = super::execute::folders(store, &image.layers);
    let empty = super::remote::TemporaryFolder::new(store)?;
    let tree = Tree::layers(&folders, empty.path())?;
    fs::create_dir_all(folder)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let to = rustix::fs::open(folder, flags, Mode::empty()).context("open", folder)?;
    let from = tree.open_folder(Path::new(""))?;
    let owner = Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() };
    let mut export = Export { owner, buffer: vec![0; BUFFER_BYTES] };
    Ok(export.folder(from.as_fd(), to.as_fd(), folder, 0)?)
}

struct Export {
    owner: Owner,
    buffer: Vec<u8>,
}

impl Export {
    fn folder(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, depth: usize) -> fs::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::LOOP).context("descend into", path);
        }
        for name in names_in(from).context("list", path)? {
            let path = path.join(&name);
            let name = Path::new(&name);
            let Some(meta) = look_at(from, name).context("look at", &path)? else { continue };
            match meta.kind {
                FileType::Directory => {
                    let child = open_folder(from, name).context("open", &path)?;
                    match rustix::fs::mkdirat(to, name, Mode::RWXU) {
                        Err(Errno::EXIST) if !is_folder(to, name).context("look at", &path)? => {
                            rustix::fs::unlinkat(to, name, AtFlags::empty()).context("replace", &path)?;
                            rustix::fs::mkdirat(to, name, Mode::RWXU).context("create folder", &path)?;
                        }
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error).context("create folder", &path),
                    }
                    let target = open_folder(to, name).context("open", &path)?;
                    self.folder(child.as_fd(), target.as_fd(), &path, depth + 1)?;
                    finish_file(&target, self.owner, meta.mode, meta.mtime_ns).context("change", &path)?;
                }
                FileType::RegularFile => self.file(from, to, name, &meta).context("write", &path)?,
                FileType::Symlink => {
                    let link = read_link(from, name).context("read", &path)?;
                    remove(to, name).context("replace", &path)?;
                    rustix::fs::symlinkat(&link, to, name).context("create", &path)?;
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::utimensat(to, name, &times(meta.mtime_ns), flags).context("change", &path)?;
                }
                FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
                    remove(to, name).context("replace", &path)?;
                    let mode = Mode::from_raw_mode(meta.mode);
                    rustix::fs::mknodat(to, name, meta.kind, mode, meta.special).context("create", &path)?;
                }
                // Sockets mean nothing elsewhere.
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &Path, meta: &Meta) -> rustix::io::Result<()> {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, read, Mode::empty())?;
        remove(to, name)?;
        let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to, name, create, Mode::RUSR | Mode::WUSR)?;
        copy_content(&source, &target, meta.size, &mut self.buffer)?;
        finish_file(&target, self.owner, meta.mode, meta.mtime_ns)
    }
}

fn open_folder(folder: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

fn is_folder(folder: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<bool> {
    debug_assert!(!name.as_os_str().as_bytes().contains(&b'/'));
    Ok(look_at(folder, name)?.is_some_and(|meta| meta.is_folder()))
}

fn remove(folder: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
