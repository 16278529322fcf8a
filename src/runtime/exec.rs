//! Starts a further process in a running container.

use super::{Cgroup, Error, Running, Stdio};
use crate::model::container::{ContainerSpec, Process, ProcessIdentity};

/// The container that a process is started in.
pub struct ExecTarget<'a> {
    /// Its first process.
    pub identity: ProcessIdentity,
    /// What it is: capabilities, seccomp, limits and defaults come from it.
    pub spec: &'a ContainerSpec,
    /// Its control group.
    pub cgroup: &'a Cgroup,
}

/// Starts `process` inside `target` and returns when its program runs, as a child of the caller.
///
/// `process.env` is complete (the container's and exec's own); HOME, PATH and TERM get their defaults here.
/// `privileged` gives it all capabilities and no seccomp filter. Errors: a paused or ended container; those of
/// [`super::Prepared::start`].
pub fn exec(target: &ExecTarget<'_>, process: &Process, privileged: bool, stdio: Stdio) -> Result<Running, Error> {
    let _ = (target, process, privileged, stdio);
    todo!()
}
