//! Paths below a root that somebody else fills: an image, a volume, a running container.
//!
//! Every function resolves with `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`: absolute and `..` links stay
//! inside. None follows a path a second time by name; each answers with a handle. None allocates, so the child
//! of a clone may use them.
//!
//! Source: openat2(2).

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Result;

/// Opens a folder of the host as a root for the other functions (`O_PATH`).
pub fn open_root(folder: &Path) -> Result<OwnedFd> {
    let _ = folder;
    todo!()
}

/// Opens `path` inside `root`; a leading `/` is the root. `O_CLOEXEC` is always set.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let _ = (root, path, flags, mode);
    todo!()
}

/// Makes the folder `path` inside `root` with those above it, and returns it (`O_PATH`); one that exists is fine.
///
/// New folders get `mode` whatever the umask, and `owner` where given. A dangling link is followed: its target is
/// made, inside the root.
pub fn mkdir_in_root(root: BorrowedFd<'_>, path: &Path, mode: Mode, owner: Option<(u32, u32)>) -> Result<OwnedFd> {
    let _ = (root, path, mode, owner);
    todo!()
}

/// Makes the empty file `path` inside `root` with the folders above it, and returns it (`O_PATH`); one that exists
/// is fine.
pub fn touch_in_root(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd> {
    let _ = (root, path, mode);
    todo!()
}

/// Reads the regular file `path` inside `root`, never blocking on a FIFO or device.
///
/// Errors: `INVAL` for anything but a regular file, `FBIG` above `limit_bytes`.
pub fn read_in_root(root: BorrowedFd<'_>, path: &Path, limit_bytes: usize) -> Result<Vec<u8>> {
    let _ = (root, path, limit_bytes);
    todo!()
}
