//! Calls of a process that leaves its parent behind: fork, inherited descriptors, signal dispositions.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// Which side of a [`fork`] this is.
#[derive(Debug)]
pub enum Fork {
    /// The process that called; `pid` is its new child.
    Parent {
        /// The child's number.
        pid: rustix::process::Pid,
    },
    /// The new process.
    Child,
}

/// How many threads this process has.
pub fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Makes a copy of this process.
///
/// Errors: `Unsupported` when it has more than one thread; the system's. Source: fork(2).
pub fn fork() -> io::Result<Fork> {
    if thread_count()? != 1 {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the process has several threads"));
    }
    // SAFETY: the process has one thread, checked above, so no lock can be held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        number => match rustix::process::Pid::from_raw(number) {
            Some(pid) => Ok(Fork::Parent { pid }),
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        },
    }
}

/// Ends the process at once: no destructors, no flushing of what a parent had buffered. Source: _exit(2).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor above 2 but those in `keep`. Source: close_range(2), Linux 5.9.
///
/// For a freshly forked process only: owners of closed descriptors must never be dropped in it.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut first = 3u32;
    for end in keep.into_iter().map(Some).chain([None]) {
        let last = end.map_or(u32::MAX, |fd| fd - 1);
        if first <= last {
            // SAFETY: takes plain numbers; the caller promises that no owner of these descriptors is used again.
            if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        if let Some(fd) = end {
            first = fd + 1;
        }
    }
    Ok(())
}

/// Takes ownership of a descriptor that came through exec. `None` when it is not open.
///
/// Call it once a number: a second owner would close somebody else's descriptor.
pub fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number < 3 {
        return None;
    }
    // SAFETY: F_GETFD takes any number and changes nothing.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open, checked above, and came through exec, so nothing in this program owns it yet.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let _refused = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
    Some(fd)
}

/// Gives every signal its default disposition and unblocks all. Source: signal(7).
pub fn reset_signals() -> io::Result<()> {
    for number in 1..=64 {
        if matches!(number, libc::SIGKILL | libc::SIGSTOP | 32 | 33) {
            continue;
        }
        // SAFETY: SIG_DFL is a valid disposition for each of these numbers.
        if unsafe { libc::signal(number, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    nix::sys::signal::sigprocmask(
        nix::sys::signal::SigmaskHow::SIG_SETMASK,
        Some(&nix::sys::signal::SigSet::empty()),
        None,
    )
    .map_err(io::Error::from)
}

/// Gives the process the default scheduling: policy, nice value and I/O priority, as far as it may.
///
/// Source: sched_setscheduler(2), setpriority(2), ioprio_set(2).
pub fn reset_scheduling() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` lives until the call returns; 0 is this process.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    // SAFETY: takes plain numbers; 0 is this process.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) };
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: takes plain numbers; priority 0 is class "none": derived from the nice value.
    unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0) };
}

/// Lets writes to a pipe without readers fail with EPIPE instead of ending the process.
pub fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid disposition of SIGPIPE.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Replaces this process by the program at `path` with an empty environment. Returns only on failure.
///
/// Descriptors without close-on-exec stay open. Source: execve(2).
pub fn execute(path: &OsStr, arguments: &[&OsStr]) -> io::Error {
    let text = |word: &OsStr| CString::new(word.as_bytes()).map_err(io::Error::from);
    let (path, arguments) = match (text(path), arguments.iter().map(|word| text(word)).collect::<io::Result<Vec<_>>>())
    {
        (Ok(path), Ok(arguments)) => (path, arguments),
        (Err(error), _) | (_, Err(error)) => return error,
    };
    let mut vector: Vec<*const libc::c_char> = arguments.iter().map(|word| word.as_ptr()).collect();
    vector.push(std::ptr::null());
    let environment = [std::ptr::null()];
    // SAFETY: all pointers are to NUL-terminated strings that live until the call returns; both lists end in null.
    unsafe { libc::execve(path.as_ptr(), vector.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// The kernel's answer to PIDFD_GET_INFO, first version (include/uapi/linux/pidfd.h).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    thread_group: u32,
    parent: u32,
    user_and_group_ids: [u32; 8],
    exit_code: i32,
}

/// `_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)` with the size of its first version, 64 bytes.
const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;
/// The answer has the exit code.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// The wait status of a process that was reaped by somebody else. Linux 6.15; `None` before, or while it lives.
///
/// Source: include/uapi/linux/pidfd.h.
pub fn pidfd_wait_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..Default::default() };
    // SAFETY: the number names a request that writes at most 64 bytes, the size of `info`, which lives until then.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// Gives back the pages of files that are mapped here and unchanged; for a process with one thread. They come back from the page cache
/// when they are used again. A process that did a lot and now mostly sleeps shrinks to what it still uses.
///
/// Source: madvise(2) MADV_DONTNEED, proc_pid_smaps(5).
pub fn drop_unchanged_pages() {
    let Ok(text) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for (start, end) in unchanged_mappings(&text) {
        // SAFETY: the mapping is of a file, read-only and has no page of its own (`Anonymous: 0`), so every page that
        // is dropped is read back from the file with the same content. Nothing here unmaps or maps meanwhile: the
        // process has one thread.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Address ranges of read-only file mappings without pages of their own.
fn unchanged_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        if let Some((start, end)) = first.split_once('-') {
            let is_file = line.contains(" /");
            let range = usize::from_str_radix(start, 16).ok().zip(usize::from_str_radix(end, 16).ok());
            candidate = range.filter(|_| is_file && !second.contains('w'));
        } else if first == "Anonymous:" && second == "0" {
            found.extend(candidate.take());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_unchanged_file_pages_are_dropped() {
        let smaps = "00400000-00500000 r--p 00000000 fe:00 7 /bin/wharf\nAnonymous:             0 kB\n\
                     00500000-00900000 r-xp 00100000 fe:00 7 /bin/wharf\nRss: 9 kB\nAnonymous:             0 kB\n\
                     00900000-00910000 r--p 00500000 fe:00 7 /bin/wharf\nAnonymous:            64 kB\n\
                     00910000-00920000 rw-p 00510000 fe:00 7 /bin/wharf\nAnonymous:             0 kB\n\
                     7ffc0000-7ffe0000 r--p 00000000 00:00 0 [vvar]\nAnonymous:             0 kB\n";
        assert_eq!(super::unchanged_mappings(smaps), [(0x40_0000, 0x50_0000), (0x50_0000, 0x90_0000)]);
    }
}
