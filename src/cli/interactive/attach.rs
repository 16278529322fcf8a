//! A session with a container's first process, through its supervisor.

use std::io;
use std::os::fd::AsFd;

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};

use super::{DetachKeys, Ending, read_some, system, window_size, write_stderr, write_stdout};
use crate::base::id::ContainerId;
use crate::cli::output::follow::has_ended;
use crate::cli::signals::Signals;
use crate::cli::{Failure, Mistake};
use crate::engine::Engine;
use crate::supervise::{AttachStream, Frame};

/// A session under way.
pub struct Session<'a> {
    /// For signals and the container's state.
    pub engine: &'a Engine,
    /// Which container.
    pub id: &'a ContainerId,
    /// Its stdio.
    pub stream: AttachStream,
    /// Blocked signals: all of [`super::FORWARDED`].
    pub signals: &'a Signals,
    /// Hand our input on.
    pub stdin: bool,
    /// The container has a terminal, and ours is in raw mode.
    pub terminal: bool,
    /// Keys that end the session and not the process.
    pub keys: DetachKeys,
    /// Hand signals on to the process; else they end us.
    pub forward_signals: bool,
}

impl Session<'_> {
    /// Copies until the process ends or the user detaches.
    pub fn run(mut self) -> Result<Ending, Failure> {
        if self.terminal {
            self.resize();
        }
        let input = io::stdin();
        // Input is only read when the supervisor takes some: one that is blocked does not keep us from its output.
        let mut input_waits = false;
        loop {
            let wanted = if input_waits { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let mut fds = vec![PollFd::new(&self.stream, wanted), PollFd::new(self.signals, PollFlags::IN)];
            if self.stdin && !input_waits {
                fds.push(PollFd::new(&input, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(system("wait for the container", errno)),
            }
            let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            drop(fds);
            input_waits |= ready.get(2).is_some_and(|ready| !ready.is_empty());
            if ready[0].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && let Some(ending) = self.take_output()?
            {
                return Ok(ending);
            }
            if input_waits && ready[0].contains(PollFlags::OUT) {
                input_waits = false;
                if let Some(bytes) = read_some(input.as_fd())?
                    && self.give_input(&bytes)
                {
                    return Ok(Ending::Detached);
                }
            }
            while let Some(signal) = self.signals.next() {
                self.take_signal(signal)?;
            }
        }
    }

    /// Writes what the container wrote.
    fn take_output(&self) -> Result<Option<Ending>, Failure> {
        loop {
            match self.stream.try_receive() {
                Ok(Some(Frame::Stdout(bytes))) => write_stdout(&bytes)?,
                Ok(Some(Frame::Stderr(bytes))) => write_stderr(&bytes)?,
                Ok(Some(Frame::Exit(code))) => return Ok(Some(Ending::Exited(code))),
                Ok(Some(Frame::Detached) | None) => return self.lost(),
                // It is started again by its policy: the session goes on with its next run.
                Ok(Some(Frame::Restarting(_))) => {}
                Ok(Some(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(source) => return Err(system("read from the container", source)),
            }
        }
    }

    /// The supervisor went away. Where the container goes on, another one has taken over.
    fn lost(&self) -> Result<Option<Ending>, Failure> {
        let state = self.engine.store().containers().state(self.id);
        match state {
            Ok(state) if has_ended(&state) => Ok(Some(Ending::Exited(state.exit_code))),
            Ok(_) => {
                let reason = crate::supervise::last_words(self.engine.store(), self.id);
                Err(Mistake::ConnectionLost { container: self.id.short().to_owned(), reason }.into())
            }
            Err(error) if error.is_not_found() => Ok(Some(Ending::Exited(0))),
            Err(error) => Err(error.into()),
        }
    }

    /// Hands input on; tells whether the detach keys were in it.
    fn give_input(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            self.stdin = false;
            // A container that ended takes no end of input; its exit comes next.
            let _ended = self.stream.close_stdin();
            return false;
        }
        let (passed, detached) = match self.terminal {
            true => self.keys.filter(bytes),
            false => (bytes.to_vec(), false),
        };
        if !passed.is_empty() && self.stream.write_stdin(&passed).is_err() {
            self.stdin = false;
        }
        detached
    }

    fn take_signal(&self, signal: Signal) -> Result<(), Failure> {
        match signal {
            Signal::SIGWINCH => self.resize(),
            _ if !self.forward_signals => return Err(Failure::Exit(super::exit_code(128 + signal as i32))),
            // One that has just ended cannot take it any more.
            _ => drop(self.engine.kill(self.id, &(signal as i32).to_string())),
        }
        Ok(())
    }

    fn resize(&self) {
        if self.terminal
            && let Some((rows, columns)) = window_size(io::stdout())
        {
            let _ended = self.stream.resize(rows, columns);
        }
    }
}
