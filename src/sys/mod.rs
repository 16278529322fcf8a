//! The only unsafe code: system calls that neither rustix nor nix wraps, one safe function each.
//!
//! None of the functions of `mount`, `process` and `security` allocates, locks or panics, so the child of a clone may
//! call them. They return the
//! kernel's errno and add no words.

pub mod bpf;
pub mod daemon;
pub mod file;
pub mod mount;
pub mod process;
pub mod security;
pub mod socket;

use rustix::io::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// Turns the result of `libc::syscall` into a number or the errno it left.
fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result >= 0 {
        return Ok(result);
    }
    // SAFETY: __errno_location(3) always returns a valid pointer to this thread's errno.
    Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
}
