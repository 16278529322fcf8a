//! Making and ending processes: clone3, setns, execve, signals.

use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Result, check};

/// Of `linux/sched.h`; the libc crate's constant overflows its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A process made by [`clone_process`].
#[derive(Debug)]
pub struct Child {
    /// Its number in the caller's PID namespace.
    pub pid: i32,
    /// A handle of it.
    pub pidfd: OwnedFd,
}

/// Makes a child with new namespaces (`CLONE_NEW*` bits), directly in the v2 control group `cgroup` when given.
///
/// `body` runs in the child, which ends with its result. The child is a copy of the calling thread alone: when the
/// caller has other threads, any of them may have held a lock, so `body` must not allocate, lock or panic. Nothing
/// of the caller is dropped in the child.
///
/// Source: clone(2).
pub fn clone_process(namespaces: i32, cgroup: Option<BorrowedFd<'_>>, body: impl FnOnce() -> i32) -> Result<Child> {
    clone_with(namespaces, 0, cgroup, body)
}

/// [`clone_process`], but what it makes is a child of the caller's parent, which reaps it. For the child of a clone.
///
/// Source: CLONE_PARENT in clone(2).
pub fn clone_sibling(namespaces: i32, cgroup: Option<BorrowedFd<'_>>, body: impl FnOnce() -> i32) -> Result<Child> {
    clone_with(namespaces, libc::CLONE_PARENT as u64, cgroup, body)
}

fn clone_with(
    namespaces: i32,
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> Result<Child> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain old data for which all zeroes is the documented "nothing special".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (namespaces as u64 & 0xffff_ffff) | flags | libc::CLONE_PIDFD as u64;
    arguments.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // A sibling tells its end as its maker would; the kernel takes no other word for it.
    arguments.exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of all memory and goes on on its copy of this stack, as
    // after fork(2); `arguments` and `pidfd` outlive the call.
    let pid = check(unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&arguments), std::mem::size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        exit(body());
    }
    // SAFETY: the kernel stored a new descriptor (CLONE_PIDFD) that nobody else owns.
    Ok(Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Makes a plain child for a process that is single-threaded itself (a container's init): returns 0 in it.
///
/// Source: clone(2), fork(2).
pub fn fork_in_child() -> Result<i32> {
    // SAFETY: a null stack and no CLONE_VM is fork(2); the caller is the single thread of a cloned child.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) })?;
    Ok(pid as i32)
}

/// Ends the process at once, without destructors or exit handlers. Source: _exit(2).
pub fn exit(code: i32) -> ! {
    // SAFETY: exit_group has no preconditions; the process is gone after it.
    unsafe { libc::_exit(code) }
}

/// Moves the calling thread into the namespaces `kinds` (`CLONE_NEW*` bits) of a namespace file or pidfd.
///
/// Source: setns(2).
pub fn set_namespace(file: BorrowedFd<'_>, kinds: i32) -> Result<()> {
    // SAFETY: setns takes two numbers; the descriptor is valid for the call.
    check(libc::c_long::from(unsafe { libc::setns(file.as_raw_fd(), kinds) })).map(drop)
}

/// Opens the user namespace that owns a namespace. Source: NS_GET_USERNS(2const).
///
/// Errors: EPERM when it is not below the caller's.
pub fn owner_of_namespace(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument and returns a new descriptor.
    let fd = check(libc::c_long::from(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _) }))?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Gives the calling thread new namespaces (`CLONE_NEW*` bits). Source: unshare(2).
pub fn unshare(kinds: i32) -> Result<()> {
    // SAFETY: unshare takes a number; memory and descriptors are not unshared by CLONE_NEW* bits.
    check(libc::c_long::from(unsafe { libc::unshare(kinds) })).map(drop)
}

/// A NULL-terminated vector of C strings, as execve(2) takes it; made before a clone.
#[derive(Debug)]
pub struct StringVector {
    pointers: Vec<*const c_char>,
    // Keeps alive what the pointers point to; never changed.
    _strings: Vec<std::ffi::CString>,
}

// SAFETY: the pointers point into heap memory owned by `_strings`, which is never changed.
unsafe impl Send for StringVector {}
// SAFETY: as above; nothing is ever written through the pointers.
unsafe impl Sync for StringVector {}

impl StringVector {
    /// Takes the strings.
    pub fn new(strings: Vec<std::ffi::CString>) -> Self {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { pointers, _strings: strings }
    }
}

/// Replaces the program of this process; returns only an error. Source: execve(2).
pub fn execute(path: &CStr, arguments: &StringVector, environment: &StringVector) -> rustix::io::Errno {
    // SAFETY: `path` is NUL-terminated; both vectors are NULL-terminated and their strings outlive the call.
    let result = unsafe { libc::execve(path.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    match check(libc::c_long::from(result)) {
        Err(errno) => errno,
        Ok(_) => rustix::io::Errno::IO,
    }
}

/// Gives every signal its default action and unblocks all. Source: sigaction(2), signal(7).
///
/// Raw system calls: the C library refuses its own two real-time signals, which are inherited like any other.
pub fn reset_signals() {
    const KERNEL_SIGNALS: i32 = 64;
    // The kernel's `struct sigaction` is at most four words on the supported machines; zero is SIG_DFL, no flags.
    let default_action = [0u64; 4];
    let empty_set = 0u64;
    for signal in 1..=KERNEL_SIGNALS {
        // SAFETY: `default_action` is at least as large as the kernel's structure and outlives the call; refusals
        // (SIGKILL, SIGSTOP) change nothing.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default_action.as_ptr(), std::ptr::null_mut::<u64>(), 8usize);
        }
    }
    // SAFETY: a 64 bit set is what the kernel expects for a size of 8.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            std::ptr::from_ref(&empty_set),
            std::ptr::null_mut::<u64>(),
            8usize,
        );
    }
}

/// Blocks every signal, so that [`wait_signal`] can take them. Source: rt_sigprocmask(2).
pub fn block_signals() {
    let full_set = u64::MAX;
    // SAFETY: a 64 bit set is what the kernel expects for a size of 8.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            std::ptr::from_ref(&full_set),
            std::ptr::null_mut::<u64>(),
            8usize,
        );
    }
}

/// Waits for a blocked signal and takes it. Source: rt_sigtimedwait(2).
pub fn wait_signal() -> Result<i32> {
    let full_set = u64::MAX;
    // SAFETY: the set is valid for 8 bytes; no information is asked for and no timeout is given.
    let signal = check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            std::ptr::from_ref(&full_set),
            std::ptr::null_mut::<libc::siginfo_t>(),
            std::ptr::null::<libc::timespec>(),
            8usize,
        )
    })?;
    Ok(signal as i32)
}

/// Sends a signal to a process of the caller's own PID namespace by number. For an init and its child only:
/// everywhere else a pidfd names the process. Source: kill(2).
pub fn kill_child(pid: i32, signal: i32) {
    // SAFETY: kill takes two numbers. A child that ended in between cannot be mistaken: only we reap it.
    unsafe { libc::kill(pid, signal) };
}

/// Reaps one ended child, if there is any: its number and wait status. Source: wait4(2).
pub fn reap_any() -> Option<(i32, i32)> {
    let mut status = 0i32;
    // SAFETY: `status` is valid for a write during the call.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Lets all CPUs run this process, resets its priority and I/O class: what a caller's shell may have changed.
///
/// Source: sched_setaffinity(2), setpriority(2), ioprio_set(2), sched_setscheduler(2).
pub fn reset_scheduling() {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    let all = [u64::MAX; 16];
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: every pointer is valid for the size that goes with it; a refusal leaves what was.
    unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, std::mem::size_of_val(&all), all.as_ptr());
        libc::sched_setscheduler(0, libc::SCHED_OTHER, &parameters);
        libc::setpriority(libc::PRIO_PROCESS as _, 0, 0);
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
    }
}

/// Sets the I/O class and priority of this process, `class << 13 | level`. Source: ioprio_set(2).
pub fn set_io_priority(priority: i32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: takes numbers; 0 is this process.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) }).map(drop)
}

/// Sets the execution domain of this process. Source: personality(2).
pub fn set_personality(domain: u64) -> Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) }).map(drop)
}

/// How a process is scheduled: `struct sched_attr` of `linux/sched/types.h`, its first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Size of this structure; filled in by [`set_schedule`].
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value, for SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// Static priority, for SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub runtime_ns: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub deadline_ns: u64,
    /// Nanoseconds, for SCHED_DEADLINE.
    pub period_ns: u64,
}

/// Sets how this process is scheduled. Source: sched_setattr(2).
pub fn set_schedule(schedule: &Schedule) -> Result<()> {
    let schedule = Schedule { size: size_of::<Schedule>() as u32, ..*schedule };
    // SAFETY: the structure has the size that it says and outlives the call; 0 is this process.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(&schedule), 0) }).map(drop)
}

/// Closes every descriptor from `first` on. Source: close_range(2).
pub fn close_from(first: u32) -> Result<()> {
    // SAFETY: the caller ends or executes next and uses none of the descriptors again.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Duplicates `file` as the number `target`, which is closed before, inherited by programs. Source: dup3(2).
pub fn duplicate_to(file: BorrowedFd<'_>, target: i32, close_on_exec: bool) -> Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: takes numbers; the caller knows that no owned descriptor of its own has the number `target`.
    check(libc::c_long::from(unsafe { libc::dup3(file.as_raw_fd(), target, flags) })).map(drop)
}

/// Closes a descriptor that the child of a clone inherited but must not hold. Source: close(2).
///
/// Only for the child: its copy of the owner is never dropped.
pub fn close_inherited(file: BorrowedFd<'_>) {
    // SAFETY: the child's table is its own; nothing in the child uses or drops the descriptor afterwards.
    unsafe { libc::close(file.as_raw_fd()) };
}

/// Sets a resource limit (`RLIMIT_*`) of this process; where raising the hard limit is refused (no
/// CAP_SYS_RESOURCE), as near to it as the present one allows. Source: setrlimit(2).
pub fn set_resource_limit(resource: i32, soft: u64, hard: u64) -> Result<()> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    match exchange_limit(resource, Some((soft, hard)), &mut old) {
        Err(rustix::io::Errno::PERM) => {}
        result => return result,
    }
    exchange_limit(resource, None, &mut old)?;
    let hard = hard.min(old.rlim_max);
    exchange_limit(resource, Some((soft.min(hard), hard)), &mut old)
}

/// Lifts every hard limit (`RLIMIT_*`) of `limits` that is lower than it says. Source: setrlimit(2).
pub fn raise_hard_limits(limits: impl Iterator<Item = (i32, u64)>) {
    for (resource, hard) in limits {
        let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        if exchange_limit(resource, None, &mut old).is_ok() && old.rlim_max < hard {
            let soft = old.rlim_cur;
            // Refused without CAP_SYS_RESOURCE: `set_resource_limit` then does what it can.
            let _: Result<()> = exchange_limit(resource, Some((soft, hard)), &mut old);
        }
    }
}

fn exchange_limit(resource: i32, new: Option<(u64, u64)>, old: &mut libc::rlimit64) -> Result<()> {
    let new = new.map(|(soft, hard)| libc::rlimit64 { rlim_cur: soft, rlim_max: hard });
    let new_pointer = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `new` is null or valid, `old` is valid, both for the call.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new_pointer, std::ptr::from_mut(old)) }).map(drop)
}

/// The descriptor with this number, for the child of a clone, whose table outlives everything in it.
pub fn borrow_number(number: i32) -> BorrowedFd<'static> {
    // SAFETY: the caller has just made the descriptor and does not close it before it ends or executes.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Writes the path of the working folder into `buffer`, NUL-terminated. It does not begin with `/` when the folder
/// is not below the root. Source: getcwd(2).
pub fn current_folder(buffer: &mut [u8]) -> Result<()> {
    // SAFETY: `buffer` is valid for writes of its length.
    check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) }).map(drop)
}

/// Sends a signal (any number, also a real-time one) through a pidfd. Source: pidfd_send_signal(2).
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: takes numbers; no siginfo is passed.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    })
    .map(drop)
}

/// Lets the program that `command` starts run in the namespaces `kinds` of the process `target`.
///
/// Source: setns(2).
pub fn enter_when_started(command: &mut std::process::Command, target: OwnedFd, kinds: i32) {
    use std::os::fd::AsFd;
    use std::os::unix::process::CommandExt;
    let enter = move || set_namespace(target.as_fd(), kinds).map_err(Into::into);
    // SAFETY: between fork and exec it makes one system call, which allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(enter);
    }
}

/// Lets the program that `command` starts get `signal` when the thread that starts it ends, also by a killed process.
///
/// The thread has to wait for the program: a thread that ends earlier takes it along. What the program starts itself
/// does not get the signal. Source: PR_SET_PDEATHSIG(2const).
pub fn end_with_starter(command: &mut std::process::Command, signal: i32) {
    use std::os::unix::process::CommandExt;
    let set = move || {
        // The starter may have blocked it in its threads, and programs inherit that.
        // SAFETY: a signal set is plain old data, filled by sigemptyset(3); both calls only read and write it.
        unsafe {
            let mut signals: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut signals);
            libc::sigaddset(&mut signals, signal);
            libc::sigprocmask(libc::SIG_UNBLOCK, &signals, std::ptr::null_mut());
        }
        super::security::set_parent_death_signal(signal).map_err(Into::into)
    };
    // SAFETY: between fork and exec it makes two system calls, which allocate nothing and take no lock.
    unsafe {
        command.pre_exec(set);
    }
}
