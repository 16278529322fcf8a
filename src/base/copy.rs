//! Copies a tree of files with owners, modes, times, links and extended attributes.
//!
//! Both sides are walked by descriptors and nothing follows a link, so neither a hostile image nor another process that
//! writes to the target can lead the copy elsewhere.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

/// Deeper trees than this are refused: one descriptor a level is open.
const DEPTH_MAX: usize = 256;

/// Copies what is in the folder `from` into the empty folder `to`, whose own owner, mode and times follow when `itself`.
pub fn tree(from: &OwnedFd, to: &OwnedFd, itself: bool) -> rustix::io::Result<()> {
    Copy { links: HashMap::new() }.folder(from, to, 0)?;
    if !itself {
        return Ok(());
    }
    finish(from, to, &rustix::fs::fstat(from)?)
}

struct Copy {
    /// Files with several names that were copied: their number in the image and an open descriptor's path.
    links: HashMap<(u64, u64), OwnedFd>,
}

impl Copy {
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, depth: usize) -> rustix::io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(Errno::LOOP);
        }
        let mut reader = rustix::fs::Dir::read_from(from)?;
        while let Some(entry) = reader.read() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.entry(from, to, name, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: usize) -> rustix::io::Result<()> {
        let metadata = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match FileType::from_raw_mode(metadata.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let inner_from = rustix::fs::openat(from, name, reading | OFlags::DIRECTORY, Mode::empty())?;
                let inner_to = rustix::fs::openat(to, name, reading | OFlags::DIRECTORY, Mode::empty())?;
                self.folder(&inner_from, &inner_to, depth + 1)?;
                finish(&inner_from, &inner_to, &metadata)
            }
            FileType::RegularFile => {
                if metadata.st_nlink > 1
                    && let Some(first) = self.links.get(&(metadata.st_dev, metadata.st_ino))
                {
                    let path = format!("/proc/self/fd/{}", first.as_raw_fd());
                    return rustix::fs::linkat(CWD, path.as_str(), to, name, AtFlags::SYMLINK_FOLLOW);
                }
                let source = rustix::fs::openat(from, name, reading, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let target = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
                copy_content(&source, &target)?;
                finish(&source, &target, &metadata)?;
                if metadata.st_nlink > 1 && self.links.len() < 256 {
                    self.links.insert((metadata.st_dev, metadata.st_ino), target);
                }
                Ok(())
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(link, to, name)?;
                finish_name(to, name, &metadata)
            }
            kind @ (FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice) => {
                rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(metadata.st_mode), metadata.st_rdev)?;
                finish_name(to, name, &metadata)?;
                // A node has no descriptor to set its mode by; the umask took its part of what mknod was given.
                rustix::fs::chmodat(to, name, Mode::from_raw_mode(metadata.st_mode), AtFlags::empty())
            }
            FileType::Unknown => Ok(()),
        }
    }
}

fn copy_content(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let duplicate = |fd: &OwnedFd| fd.try_clone().map(std::fs::File::from);
    std::io::copy(&mut duplicate(from).map_err(errno_of)?, &mut duplicate(to).map_err(errno_of)?)
        .map(drop)
        .map_err(errno_of)
}

fn errno_of(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// Owner first: changing it takes setuid bits and capabilities away.
fn finish(from: &OwnedFd, to: &OwnedFd, metadata: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = owner(metadata);
    rustix::fs::fchown(to, uid, gid)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(metadata.st_mode))?;
    copy_attributes(from.as_fd(), to.as_fd())?;
    rustix::fs::futimens(to, &times(metadata))
}

fn finish_name(folder: &OwnedFd, name: &CStr, metadata: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = owner(metadata);
    rustix::fs::chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::utimensat(folder, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW)
}

fn owner(metadata: &Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (Some(rustix::fs::Uid::from_raw(metadata.st_uid)), Some(rustix::fs::Gid::from_raw(metadata.st_gid)))
}

fn times(metadata: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: metadata.st_atime, tv_nsec: metadata.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: metadata.st_mtime, tv_nsec: metadata.st_mtime_nsec as _ },
    }
}

/// Copies file capabilities and user attributes. What belongs to overlayfs itself stays behind.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut names = vec![0u8; 4096];
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::RANGE) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        if !(name.starts_with(b"user.") || name == b"security.capability" || name.starts_with(b"system.posix_acl_"))
            || name.starts_with(b"user.overlay.")
        {
            continue;
        }
        let Ok(name) = CString::new(name) else { continue };
        let mut value = vec![0u8; 64 << 10];
        let length = rustix::fs::fgetxattr(from, &name, &mut value)?;
        match rustix::fs::fsetxattr(to, &name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
