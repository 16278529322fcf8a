//! Paths below a root that somebody else fills: an image, a volume, a running container.
//!
//! Every function resolves with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: absolute and `..` links stay
//! inside. None uses a path a second time after a check by name; each answers with a handle.
//!
//! Source: openat2(2).

use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// PATH_MAX of `linux/limits.h`.
const PATH_MAX: usize = 4096;
/// MAXSYMLINKS of the kernel: as many links as it follows itself.
const MAX_LINKS: usize = 40;
/// How often a lookup is tried again that a rename elsewhere made uncertain (EAGAIN, see openat2(2)).
const MAX_RETRIES: usize = 64;

/// Opens a folder of the host as a root for the other functions (`O_PATH`).
pub fn open_root(folder: &Path) -> Result<OwnedFd> {
    rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens `path` inside `root`; a leading `/` is the root. `O_CLOEXEC` is always set.
///
/// With `O_PATH | O_NOFOLLOW` a link itself is opened. Whoever opens something that others may have put there
/// passes `O_NONBLOCK` or uses [`read_in_root`]: a FIFO blocks.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let path = PathBuffer::new(path.as_os_str().as_bytes())?;
    open_beneath(root, path.as_c_str()?, flags, mode)
}

/// [`open_in_root`] for a path that is a C string already. Does not allocate.
pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let path = if path.is_empty() { c"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..MAX_RETRIES {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Makes the folder `path` inside `root` with those above it, and returns it (`O_PATH`); one that exists is fine.
///
/// New folders get `mode` less the umask, and `owner` where given. A dangling link is followed: its target is
/// made, inside the root. Errors: `NOTDIR` when a file stands in the way.
pub fn mkdir_in_root(root: BorrowedFd<'_>, path: &Path, mode: Mode, owner: Option<(u32, u32)>) -> Result<OwnedFd> {
    make(root, path.as_os_str().as_bytes(), Wanted::Folder { mode, owner })
}

/// Makes the empty file `path` inside `root` with the folders above it (0755), and returns it (`O_PATH`); whatever
/// exists there is fine.
pub fn touch_in_root(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd> {
    make(root, path.as_os_str().as_bytes(), Wanted::File { mode })
}

/// What [`make`] leaves at the end of a path.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Folder { mode: Mode, owner: Option<(u32, u32)> },
    File { mode: Mode },
}

impl Wanted {
    fn folder_mode(self) -> Mode {
        match self {
            Self::Folder { mode, .. } => mode,
            Self::File { .. } => Mode::from_raw_mode(0o755),
        }
    }
}

/// Opens `path` inside `root` (`O_PATH`), making what is missing of it. Does not allocate: the child of a clone
/// makes mount points with it.
pub(super) fn make(root: BorrowedFd<'_>, path: &[u8], wanted: Wanted) -> Result<OwnedFd> {
    let last_flags = match wanted {
        Wanted::Folder { .. } => OFlags::PATH | OFlags::DIRECTORY,
        Wanted::File { .. } => OFlags::PATH,
    };
    let mut whole = PathBuffer::new(path)?;
    match open_beneath(root, whole.as_c_str()?, last_flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    // Something is missing. Walk: every part is opened from the root by its whole prefix, so that links resolve as
    // they do for the process later; a part that is missing is made in the folder opened before it. A dangling link
    // is replaced in the path by what it says, and the walk starts again.
    for _ in 0..MAX_LINKS {
        match walk(root, &mut whole, wanted)? {
            Walk::Done(file) => return Ok(file),
            Walk::Again => {}
        }
    }
    Err(Errno::LOOP)
}

enum Walk {
    Done(OwnedFd),
    Again,
}

fn walk(root: BorrowedFd<'_>, whole: &mut PathBuffer, wanted: Wanted) -> Result<Walk> {
    let mut folder = open_beneath(root, c".", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let mut end = 0;
    while let Some((start, stop)) = whole.next_part(end) {
        let is_last = whole.next_part(stop).is_none();
        let flags = match wanted {
            Wanted::File { .. } if is_last => OFlags::PATH,
            _ => OFlags::PATH | OFlags::DIRECTORY,
        };
        let prefix = PathBuffer::new(whole.slice(0, stop))?;
        let opened = match open_beneath(root, prefix.as_c_str()?, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                let part = PathBuffer::new(whole.slice(start, stop))?;
                if let Some(link) = read_link(folder.as_fd(), part.as_c_str()?)? {
                    whole.replace_link(start, stop, link.bytes())?;
                    return Ok(Walk::Again);
                }
                create(folder.as_fd(), part.as_c_str()?, is_last, wanted)?
            }
            result => result?,
        };
        if is_last {
            return Ok(Walk::Done(opened));
        }
        folder = opened;
        end = stop;
    }
    Ok(Walk::Done(folder))
}

/// Makes one part of a path in `folder` and opens it without following links.
fn create(folder: BorrowedFd<'_>, part: &CStr, is_last: bool, wanted: Wanted) -> Result<OwnedFd> {
    match wanted {
        Wanted::File { mode } if is_last => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match rustix::fs::openat(folder, part, flags, mode) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            rustix::fs::openat(folder, part, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        }
        _ => {
            let made = match rustix::fs::mkdirat(folder, part, wanted.folder_mode()) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(errno),
            };
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(folder, part, flags, Mode::empty())?;
            if let (true, Wanted::Folder { owner: Some((uid, gid)), .. }) = (made, wanted) {
                let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
                rustix::fs::chownat(&opened, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
            }
            Ok(opened)
        }
    }
}

fn read_link(folder: BorrowedFd<'_>, part: &CStr) -> Result<Option<PathBuffer>> {
    let mut link = PathBuffer { bytes: [0; PATH_MAX], len: 0 };
    // The last byte stays zero, so that a link of full length is still terminated.
    match rustix::fs::readlinkat_raw(folder, part, &mut link.bytes[..PATH_MAX - 1]) {
        Ok(length) => {
            link.len = length;
            Ok(Some(link))
        }
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Reads the regular file `path` inside `root`, never blocking on a FIFO or touching a device.
///
/// Errors: `INVAL` for anything but a regular file, `FBIG` above `limit_bytes`.
pub fn read_in_root(root: BorrowedFd<'_>, path: &Path, limit_bytes: usize) -> Result<Vec<u8>> {
    let place = open_in_root(root, path, OFlags::PATH, Mode::empty())?;
    let stat = rustix::fs::fstat(&place)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    // The handle is opened again, not the path: what was checked is what is read.
    let again = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = rustix::fs::open(again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut content = Vec::new();
    std::fs::File::from(file)
        .take(limit_bytes as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if content.len() > limit_bytes { Err(Errno::FBIG) } else { Ok(content) }
}

/// A path on the stack.
struct PathBuffer {
    bytes: [u8; PATH_MAX],
    len: usize,
}

impl PathBuffer {
    fn new(path: &[u8]) -> Result<Self> {
        let mut buffer = Self { bytes: [0; PATH_MAX], len: 0 };
        buffer.push(path)?;
        Ok(buffer)
    }

    fn push(&mut self, more: &[u8]) -> Result<()> {
        let end = self.len + more.len();
        // One byte is left for the terminating zero.
        if end >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes.get_mut(self.len..end).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(more);
        self.len = end;
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        self.slice(0, self.len)
    }

    fn slice(&self, start: usize, stop: usize) -> &[u8] {
        self.bytes.get(start..stop).unwrap_or_default()
    }

    fn as_c_str(&self) -> Result<&CStr> {
        let terminated = self.bytes.get(..=self.len).ok_or(Errno::NAMETOOLONG)?;
        CStr::from_bytes_with_nul(terminated).map_err(|_| Errno::INVAL)
    }

    /// The next part (between slashes) that begins at or after `from`.
    fn next_part(&self, from: usize) -> Option<(usize, usize)> {
        let rest = self.bytes.get(from..self.len)?;
        let start = from + rest.iter().position(|byte| *byte != b'/')?;
        let rest = self.bytes.get(start..self.len)?;
        let stop = rest.iter().position(|byte| *byte == b'/').map_or(self.len, |length| start + length);
        Some((start, stop))
    }

    /// Puts the target of a link in the place of the part `start..stop` that is that link.
    fn replace_link(&mut self, start: usize, stop: usize, link: &[u8]) -> Result<()> {
        let before = if link.first() == Some(&b'/') { 0 } else { start };
        let mut replaced = Self::new(self.slice(0, before))?;
        replaced.push(link)?;
        replaced.push(self.slice(stop, self.len))?;
        *self = replaced;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn scratch(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("wharf-root-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn links_stay_inside() {
        let folder = scratch("links");
        symlink("/etc", folder.join("absolute")).unwrap();
        symlink("../../../../etc", folder.join("upwards")).unwrap();
        symlink("/proc/self/root", folder.join("magic")).unwrap();
        let root = open_root(&folder).unwrap();
        for path in ["absolute/made", "/upwards/made", "../../etc/made", "magic/etc/made"] {
            mkdir_in_root(root.as_fd(), Path::new(path), Mode::from(0o755), None).unwrap();
        }
        assert!(folder.join("etc/made").is_dir());
        assert!(folder.join("proc/self/root/etc/made").is_dir());
        assert!(!Path::new("/etc/made").exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn missing_parts_are_made_with_mode_and_owner() {
        let folder = scratch("make");
        let root = open_root(&folder).unwrap();
        mkdir_in_root(root.as_fd(), Path::new("/a//b/./c/"), Mode::from(0o700), Some((12, 34))).unwrap();
        let made = std::fs::metadata(folder.join("a/b")).unwrap();
        assert_eq!((made.permissions().mode() & 0o777, made.uid(), made.gid()), (0o700, 12, 34));
        touch_in_root(root.as_fd(), Path::new("a/b/c/file"), Mode::from(0o644)).unwrap();
        assert!(folder.join("a/b/c/file").is_file());
        assert_eq!(
            mkdir_in_root(root.as_fd(), Path::new("a/b/c/file/x"), Mode::from(0o755), None).unwrap_err(),
            Errno::NOTDIR
        );
        assert_eq!(
            mkdir_in_root(root.as_fd(), Path::new(&"x/".repeat(3000)), Mode::from(0o755), None).unwrap_err(),
            Errno::NAMETOOLONG
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn endless_links_end() {
        let folder = scratch("loop");
        symlink("b", folder.join("a")).unwrap();
        symlink("a", folder.join("b")).unwrap();
        symlink("grow/x", folder.join("grow")).unwrap();
        let root = open_root(&folder).unwrap();
        for path in ["a/x", "grow/y"] {
            let error = mkdir_in_root(root.as_fd(), Path::new(path), Mode::from(0o755), None).unwrap_err();
            assert_eq!(error, Errno::LOOP, "{path}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let folder = scratch("read");
        std::fs::write(folder.join("small"), "abc").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, folder.join("fifo"), FileType::Fifo, Mode::from(0o644), 0).unwrap();
        let root = open_root(&folder).unwrap();
        let read = |path: &str, limit| read_in_root(root.as_fd(), Path::new(path), limit);
        assert_eq!(read("small", 3).unwrap(), b"abc");
        assert_eq!(read("small", 2).unwrap_err(), Errno::FBIG);
        assert_eq!(read("fifo", 10).unwrap_err(), Errno::INVAL);
        assert_eq!(read(".", 10).unwrap_err(), Errno::INVAL);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
