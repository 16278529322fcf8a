//! The parts of the mount interface that rustix lacks.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Result, check};

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttributes {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// Bits to clear, applied first.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, or 0 to leave it.
    pub propagation: u64,
    /// User namespace of an id-mapped mount.
    pub user_namespace: u64,
}

/// Read-only.
pub const RDONLY: u64 = 0x1;
/// Ignore set-user-id bits.
pub const NOSUID: u64 = 0x2;
/// Device files have no effect.
pub const NODEV: u64 = 0x4;
/// Programs cannot be executed.
pub const NOEXEC: u64 = 0x8;
/// Symbolic links are not followed.
pub const NOSYMFOLLOW: u64 = 0x20_0000;
/// Access times of folders are not updated.
pub const NODIRATIME: u64 = 0x80;
/// Mask of the access time settings.
pub const ATIME_MASK: u64 = 0x70;
/// Access times are not updated.
pub const NOATIME: u64 = 0x10;
/// Access times are always updated.
pub const STRICTATIME: u64 = 0x20;

/// Shows owners through the user namespace of [`MountAttributes`].
const IDMAP: u64 = 0x0010_0000;

/// Shows the owners of a detached mount as `user_namespace` maps them: id 0 on disk is root there. With all mounts
/// below it when `recursive`.
///
/// Errors: EINVAL when the file system cannot. Source: MOUNT_ATTR_IDMAP in mount_setattr(2), Linux 5.12.
pub fn map_owners(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let user_namespace = user_namespace.as_raw_fd() as u64;
    set_attributes(mount, MountAttributes { set: IDMAP, user_namespace, ..Default::default() }, recursive)
}

/// Changes a mount given by handle, with all mounts below it when `recursive`.
///
/// Source: mount_setattr(2), Linux 5.12.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: MountAttributes, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string and `attributes` has the size that is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            std::mem::size_of::<MountAttributes>(),
        )
    })
    .map(drop)
}

/// Makes a detached copy of the mount (with those below it when `recursive`) that shows `path` below `folder`; an
/// empty path is `folder` itself. Source: open_tree(2), Linux 5.2.
pub fn clone_tree(folder: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: i32 = 1;
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC
        | libc::AT_EMPTY_PATH
        | libc::AT_NO_AUTOMOUNT
        | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, folder.as_raw_fd(), path.as_ptr(), flags) })?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a detached mount on the file or folder that `target` is a handle of. Source: move_mount(2).
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
    const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
    // SAFETY: both paths are empty C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Brings the loopback interface of this network namespace up. Source: netdevice(7).
pub fn loopback_up() -> Result<()> {
    // SAFETY: socket takes numbers.
    let socket =
        check(libc::c_long::from(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }))?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as i32) };
    // SAFETY: ifreq is plain old data; the name is shorter than IFNAMSIZ and stays NUL-terminated.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which is valid for the call.
    check(libc::c_long::from(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) })).map(drop)
}
