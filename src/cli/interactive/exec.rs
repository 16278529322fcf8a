//! A session with a process that `exec` started: it is our own child.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{DetachKeys, Ending, read_some, system, window_size, write_stderr, write_stdout};
use crate::cli::Failure;
use crate::cli::signals::Signals;
use crate::runtime::{Running, Stdio};

/// Our ends of a process's streams.
pub struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Pipes {
    /// Three pipes: the process's ends, and ours. Ours do not block.
    pub fn new() -> Result<(Stdio, Self), Failure> {
        let failed = |errno| system("make a pipe", errno);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(failed);
        let ((stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr)) = (pipe()?, pipe()?, pipe()?);
        for fd in [&our_stdin, &our_stdout, &our_stderr] {
            rustix::io::ioctl_fionbio(fd, true).map_err(failed)?;
        }
        let ours = Self { stdin: Some(our_stdin), stdout: Some(our_stdout), stderr: Some(our_stderr) };
        Ok((Stdio::Pipes { stdin, stdout, stderr }, ours))
    }

    /// One terminal for all three: its master, which does not block.
    pub fn of_console(console: OwnedFd) -> Result<Self, Failure> {
        rustix::io::ioctl_fionbio(&console, true).map_err(|errno| system("set up the terminal", errno))?;
        let stdin = rustix::io::fcntl_dupfd_cloexec(&console, 3).map_err(|errno| system("copy a descriptor", errno))?;
        Ok(Self { stdin: Some(stdin), stdout: Some(console), stderr: None })
    }
}

/// A session under way.
pub struct Session<'a> {
    /// The process.
    pub running: &'a Running,
    /// Our ends.
    pub pipes: Pipes,
    /// Blocked signals: all of [`super::FORWARDED`].
    pub signals: &'a Signals,
    /// Hand our input on.
    pub stdin: bool,
    /// The process has a terminal, and ours is in raw mode.
    pub terminal: bool,
    /// Keys that end the session and not the process.
    pub keys: DetachKeys,
}

/// What a descriptor in the poll set is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Process,
    Signals,
    Output,
    ErrorOutput,
    Input,
    InputTaken,
}

impl Session<'_> {
    /// Copies until the process ends or the user detaches.
    pub fn run(mut self) -> Result<Ending, Failure> {
        let mut pending: Vec<u8> = Vec::new();
        if !self.stdin {
            self.pipes.stdin = None;
        }
        self.resize();
        let input = io::stdin();
        loop {
            let ready = self.wait(&input.as_fd(), !pending.is_empty())?;
            for source in &ready {
                match source {
                    Source::Output => Self::copy(&mut self.pipes.stdout, write_stdout)?,
                    Source::ErrorOutput => Self::copy(&mut self.pipes.stderr, write_stderr)?,
                    Source::Input => match read_some(input.as_fd())? {
                        Some(bytes) if bytes.is_empty() => self.end_input(),
                        Some(bytes) if self.terminal => {
                            let (passed, detached) = self.keys.filter(&bytes);
                            pending.extend(passed);
                            if detached {
                                return Ok(Ending::Detached);
                            }
                        }
                        Some(bytes) => pending.extend(bytes),
                        None => {}
                    },
                    Source::InputTaken => self.give(&mut pending),
                    Source::Signals => {
                        while let Some(signal) = self.signals.next() {
                            self.take_signal(signal);
                        }
                    }
                    Source::Process => {}
                }
            }
            if ready.contains(&Source::Process)
                && let Some(status) = self.running.try_wait()?
            {
                // What it wrote before it ended is in the pipes; a child of it that still holds them is not waited for.
                Self::copy(&mut self.pipes.stdout, write_stdout)?;
                Self::copy(&mut self.pipes.stderr, write_stderr)?;
                return Ok(Ending::Exited(status.code));
            }
        }
    }

    fn wait(&self, input: &BorrowedFd<'_>, pending: bool) -> Result<Vec<Source>, Failure> {
        let mut sources = vec![(Source::Process, PollFd::new(&self.running.pidfd, PollFlags::IN))];
        sources.push((Source::Signals, PollFd::new(self.signals, PollFlags::IN)));
        if let Some(output) = &self.pipes.stdout {
            sources.push((Source::Output, PollFd::new(output, PollFlags::IN)));
        }
        if let Some(output) = &self.pipes.stderr {
            sources.push((Source::ErrorOutput, PollFd::new(output, PollFlags::IN)));
        }
        match &self.pipes.stdin {
            Some(stdin) if pending => sources.push((Source::InputTaken, PollFd::new(stdin, PollFlags::OUT))),
            Some(_) if self.stdin => sources.push((Source::Input, PollFd::new(input, PollFlags::IN))),
            _ => {}
        }
        let (names, mut fds): (Vec<Source>, Vec<PollFd<'_>>) = sources.into_iter().unzip();
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(system("wait for the process", errno)),
        }
        Ok(names.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty()).map(|(name, _)| name).collect())
    }

    /// Copies all that is there to read now; closes what is at its end.
    fn copy(from: &mut Option<OwnedFd>, mut write: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        while let Some(fd) = from {
            match read_some(fd.as_fd())? {
                None => return Ok(()),
                Some(bytes) if bytes.is_empty() => *from = None,
                Some(bytes) => write(&bytes)?,
            }
        }
        Ok(())
    }

    /// Writes as much as the process takes now.
    fn give(&mut self, pending: &mut Vec<u8>) {
        let Some(stdin) = &self.pipes.stdin else { return pending.clear() };
        match rustix::io::write(stdin, pending) {
            Ok(count) => drop(pending.drain(..count)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The process closed its input: nothing more to give it.
            Err(_) => {
                pending.clear();
                self.pipes.stdin = None;
                self.stdin = false;
            }
        }
    }

    /// Our input is at its end: so is the process's. A terminal has no end but its own EOF key.
    fn end_input(&mut self) {
        self.stdin = false;
        if !self.terminal {
            self.pipes.stdin = None;
        }
    }

    fn take_signal(&self, signal: Signal) {
        if signal == Signal::SIGWINCH {
            return self.resize();
        }
        if let Some(signal) = rustix::process::Signal::from_named_raw(signal as i32) {
            // One that has just ended cannot take it any more.
            let _ended = rustix::process::pidfd_send_signal(&self.running.pidfd, signal);
        }
    }

    fn resize(&self) {
        if let (true, Some(console), Some((rows, columns))) =
            (self.terminal, &self.pipes.stdout, window_size(io::stdout()))
        {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _gone = rustix::termios::tcsetwinsize(console, size);
        }
    }
}
