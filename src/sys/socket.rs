//! Socket options that no safe crate has.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes a socket drop every packet that comes for it, unseen: a filter of one instruction that keeps 0 bytes.
///
/// Source: socket(7) `SO_ATTACH_FILTER`, <https://docs.kernel.org/networking/filter.html>.
pub fn drop_everything(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    // BPF_RET | BPF_K.
    let mut instruction = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut instruction };
    // SAFETY: `program` is a `sock_fprog` of the size that is passed, and points to the one instruction that it
    // counts; both live until the call returns, and the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
