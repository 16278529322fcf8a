//! Hints about files to the kernel.

use std::os::fd::{AsFd, AsRawFd};

use super::{Result, check};

/// Begins to write what a file has from `offset` on to its device, without waiting for the end.
///
/// A later sync finds less to do; nothing is promised about durability.
///
/// Source: sync_file_range(2), `SYNC_FILE_RANGE_WRITE`.
pub fn begin_writeback(file: impl AsFd, offset: u64) -> Result<()> {
    let offset = libc::off64_t::try_from(offset).map_err(|_| rustix::io::Errno::OVERFLOW)?;
    let file = file.as_fd();
    // SAFETY: the call takes numbers only, and `file` keeps its descriptor open. A length of 0 means all that follows.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, 0, libc::SYNC_FILE_RANGE_WRITE) };
    check(result.into()).map(drop)
}
