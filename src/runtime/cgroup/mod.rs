//! Control groups of both versions: limits, devices, freezing, killing and figures of one container.
//!
//! ```text
//! v2:  /sys/fs/cgroup/<parent>/<name>                     one tree
//! v1:  /sys/fs/cgroup/<controller>/<parent>/<name>        one a controller
//!      …/<parent>/supervisors                             the processes of wharf that stay
//! ```
//! `parent` is the caller's: `wharf`, or another name for another run folder, so that two do not collide.
//!
//! Source: <https://docs.kernel.org/admin-guide/cgroup-v2.html>, `cgroup-v1/`.

use super::Error;
use crate::model::container::{ContainerSpec, Resources};

/// The group of one container.
#[derive(Debug)]
pub struct Cgroup {}

/// Figures of a group. Sizes in bytes, times in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time used.
    pub cpu_ns: u64,
    /// CPU time in user mode.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel.
    pub cpu_system_ns: u64,
    /// Memory in use, without the page cache that can be dropped at once (as `docker stats` has it).
    pub memory_bytes: u64,
    /// Limit of memory; `None` without one.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Limit of them.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub read_bytes: u64,
    /// Bytes written to block devices.
    pub written_bytes: u64,
}

impl Cgroup {
    /// Makes the group of `spec` below `parent`, with its limits and device rules. One that is left over from an
    /// earlier start is used again.
    pub fn create(parent: &str, spec: &ContainerSpec) -> Result<Self, Error> {
        let _ = (parent, spec);
        todo!()
    }

    /// The existing group `name` (a container's id) below `parent`.
    pub fn open(parent: &str, name: &str) -> Result<Self, Error> {
        let _ = (parent, name);
        todo!()
    }

    /// Stops all its processes until [`Self::thaw`].
    pub fn freeze(&self) -> Result<(), Error> {
        todo!()
    }

    /// Lets frozen processes go on.
    pub fn thaw(&self) -> Result<(), Error> {
        todo!()
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        todo!()
    }

    /// Kills every process in it with SIGKILL, thawing a frozen one.
    pub fn kill_all(&self) -> Result<(), Error> {
        todo!()
    }

    /// The processes in it, in the caller's PID namespace.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        todo!()
    }

    /// How many processes of it the kernel killed for lack of memory.
    pub fn oom_kill_count(&self) -> u64 {
        todo!()
    }

    /// Its figures; those that the kernel does not give are zero.
    pub fn stats(&self) -> Stats {
        todo!()
    }

    /// Sets the limits that `resources` has, leaving the others.
    pub fn update(&self, resources: &Resources) -> Result<(), Error> {
        let _ = resources;
        todo!()
    }

    /// Removes it once it is empty, waiting up to a second for its last process to be gone. A missing one is fine.
    pub fn remove(&self) -> Result<(), Error> {
        todo!()
    }
}

/// Moves this process into the group of supervisors below `parent`: out of the caller's session and of any limit.
/// Must be called while single-threaded.
pub fn enter_supervisors(parent: &str) -> Result<(), Error> {
    let _ = parent;
    todo!()
}
