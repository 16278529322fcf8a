//! Hooks: programs of others at the moments of a container's life, with its state on their standard input.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Container, Error, Status};
use crate::model::container::ProcessIdentity;
use crate::runtime::bundle::{self, Hook};

/// Runs hooks in the caller's namespaces, one after the other, up to the first that fails.
pub(super) fn run(moment: &'static str, hooks: &[Hook], container: &Container, status: Status) -> Result<(), Error> {
    let start = |mut command: Command| {
        command.current_dir(&container.record.bundle);
        command.spawn()
    };
    hooks.iter().try_for_each(|hook| run_one(moment, hook, container, status, start))
}

/// Runs hooks in the namespaces of the container's first process.
pub(super) fn run_inside(
    moment: &'static str,
    hooks: &[Hook],
    container: &Container,
    process: ProcessIdentity,
) -> Result<(), Error> {
    let status = if moment == "createContainer" { Status::Creating } else { Status::Created };
    let start = |command: Command| bundle::spawn_inside(process, command).map_err(std::io::Error::other);
    hooks.iter().try_for_each(|hook| run_one(moment, hook, container, status, start))
}

fn run_one(
    moment: &'static str,
    hook: &Hook,
    container: &Container,
    status: Status,
    start: impl FnOnce(Command) -> std::io::Result<Child>,
) -> Result<(), Error> {
    let failed = |problem: String| Error::Hook { moment, path: hook.path.clone(), problem };
    if !hook.path.is_absolute() {
        return Err(failed("is not an absolute path".into()));
    }
    let mut command = Command::new(&hook.path);
    if let [name, rest @ ..] = hook.args.as_slice() {
        command.arg0(name).args(rest);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = start(command).map_err(|error| failed(format!("cannot be run: {error}")))?;
    let state = serde_json::to_vec(&container.state_as(status)).unwrap_or_default();
    if let Some(mut stdin) = child.stdin.take() {
        // Smaller than a pipe; one that does not read it is fine.
        let _: std::io::Result<()> = stdin.write_all(&state);
    }
    let deadline = hook.timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let output = wait(child, deadline).map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("failed ({}): {}", output.status, said.trim())))
}

/// Waits for a hook, and kills it at its deadline.
fn wait(mut child: Child, deadline: Option<Instant>) -> Result<std::process::Output, String> {
    if let Some(deadline) = deadline
        && !ends_before(&child, deadline)
    {
        // It may have ended at this very moment.
        let _: std::io::Result<()> = child.kill();
        let _: std::io::Result<std::process::ExitStatus> = child.wait();
        return Err("took longer than its timeout and was killed".into());
    }
    child.wait_with_output().map_err(|error| format!("cannot be waited for: {error}"))
}

fn ends_before(child: &Child, deadline: Instant) -> bool {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let flags = rustix::process::PidfdFlags::empty();
    let Some(Ok(pidfd)) = pid.map(|pid| rustix::process::pidfd_open(pid, flags)) else { return true };
    let mut poll = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match rustix::event::poll(&mut poll, Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(_) if Instant::now() >= deadline => return false,
            Err(_) => {}
        }
    }
}
