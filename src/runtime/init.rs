//! Our own PID 1 (`init: true`): forwards signals to the program, reaps what is orphaned, ends as the program does.
//!
//! It is the cloned child itself, which stays instead of executing anything: no program of ours is ever executed
//! inside a container. It cannot be looked into (not dumpable), holds no descriptor and one capability, CAP_KILL.
//!
//! What it does not do: a container that is given CAP_SYS_PTRACE can look into it all the same, and open our program
//! file by /proc/1/exe. Whoever adds that capability trusts the container with the host's wharf.

use rustix::io::Errno;

use super::capability;
use crate::sys::{process, security};

/// Runs as init until `child` ended; then ends with its code, 128+n when it was killed by signal n.
pub(super) fn run(child: i32) -> ! {
    process::block_signals();
    // Failures here change nothing for the program: it goes on, with an init that holds more than it needs.
    let _: Result<(), Errno> = security::set_name(c"wharf-init");
    let _: Result<(), Errno> = process::close_from(0);
    let _: Result<(), Errno> = rustix::process::chdir(c"/");
    let _: Result<(), Errno> = security::set_capabilities(1 << capability::KILL, 1 << capability::KILL, 0);
    loop {
        // Reaping comes first: the child may have ended before its SIGCHLD was blocked.
        while let Some((pid, status)) = process::reap_any() {
            if pid == child {
                process::exit(exit_code(status));
            }
        }
        match process::wait_signal() {
            Ok(libc::SIGCHLD) | Err(_) => {}
            Ok(signal) => process::kill_child(child, signal),
        }
    }
}

fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}
