//! Signals as events of a loop instead of interruptions.
//!
//! A blocked signal waits in a descriptor (signalfd(2)) until the loop reads it. Containers do not inherit the
//! mask: whoever starts them resets it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use super::{Context, Failure, Mistake};

/// What ends a verb when the user presses Ctrl-C: the exit code of a process that SIGINT killed.
pub const INTERRUPTED: u8 = 130;

/// Some signals, read when the loop has time.
pub struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Blocks `signals` for this thread and those that it starts, for the rest of the process's life.
    pub fn block(signals: &[Signal]) -> Result<Self, Failure> {
        let failed =
            |errno: nix::errno::Errno| Mistake::System { operation: "take over signals", source: errno.into() };
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block().map_err(failed)?;
        let descriptor = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
        Ok(Self { descriptor })
    }

    /// The next signal that came, if any.
    pub fn next(&self) -> Option<Signal> {
        let information = self.descriptor.read_signal().ok()??;
        Signal::try_from(i32::try_from(information.ssi_signo).ok()?).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What the first Ctrl-C does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// Sets the flag: what is under way is finished. The second one ends the process.
    Graceful,
    /// Ends the process: for downloads and builds, which the next command goes on with.
    AtOnce,
}

/// Runs `work` on a thread of its own and sets its flag at the first Ctrl-C or SIGTERM. The second one ends the
/// process at once, after `before_end`: every step is idempotent, so the next command goes on from there.
pub fn interruptible<T: Send>(
    context: &Context,
    interruption: Interruption,
    before_end: impl Fn(),
    work: impl FnOnce(&AtomicBool) -> T + Send,
) -> Result<T, Failure> {
    let signals = Signals::block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP])?;
    let pipe = |source: rustix::io::Errno| Mistake::System { operation: "make a pipe", source: source.into() };
    let (finished, finish) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(pipe)?;
    let cancelled = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let worker = crate::base::threads::begin(scope, || {
            let result = work(&cancelled);
            // Its end is what the loop waits for.
            drop(finish);
            result
        });
        loop {
            let mut fds = [PollFd::new(&signals, PollFlags::IN), PollFd::new(&finished, PollFlags::IN)];
            let _interrupted = poll(&mut fds, None);
            if !fds[1].revents().is_empty() {
                break;
            }
            while let Some(signal) = signals.next() {
                if cancelled.swap(true, Ordering::Relaxed) || interruption == Interruption::AtOnce {
                    before_end();
                    end_now(signal);
                }
                context.say("Stopping after what is under way... press Ctrl+C again to end at once");
            }
        }
        Ok(worker.join())
    })
}

/// Ends the process as the signal would have.
pub fn end_now(signal: Signal) -> ! {
    std::process::exit(128 + signal as i32)
}
