//! A container's process on our terminal: `run`, `exec`, `attach`.
//!
//! One poll loop each, without threads. With a terminal ours is in raw mode, so every key goes to the process; it
//! is restored on every way out. Without one, bytes go through as they are. Our own terminal is never handed into
//! a container: always a terminal of the container's own, or pipes.

pub mod attach;
pub mod exec;
mod keys;
mod raw;

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::Signal;

pub use keys::DetachKeys;
pub use raw::{KeyMode, RawMode, window_size};

use super::signals::Signals;
use super::{Failure, Mistake, Outcome};
use crate::engine::Engine;
use crate::model::container::ContainerSpec;
use crate::supervise::AttachStream;

/// Signals that are handed on to the process instead of ending us.
pub const FORWARDED: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
];

/// How much is read at once.
const CHUNK_BYTES: usize = 32 << 10;

/// How a session with a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The process ended with this code.
    Exited(i32),
    /// The user pressed the detach keys; the process goes on.
    Detached,
}

/// How we are attached.
pub struct SessionWish<'a> {
    /// Keys that end the session and not the process, as typed.
    pub keys: Option<&'a str>,
    /// Hand our input on.
    pub stdin: bool,
    /// Hand signals on to the process; else they end us.
    pub forward_signals: bool,
}

/// Attaches to a container's first process and ends with its exit code. `connect` starts it or connects to it; it is
/// told the size of our terminal where the container has one.
pub fn session_of(
    engine: &Engine,
    spec: &ContainerSpec,
    wish: SessionWish<'_>,
    connect: impl FnOnce(Option<(u16, u16)>) -> Result<AttachStream, Failure>,
) -> Outcome {
    let SessionWish { keys, stdin, forward_signals } = wish;
    let keys = keys.map(DetachKeys::parse).transpose()?.unwrap_or_default();
    let terminal = spec.process.terminal;
    let signals = Signals::block(&FORWARDED)?;
    let stream = connect(if terminal { window_size(io::stdout()) } else { None })?;
    let raw = if terminal && stdin && io::stdin().is_terminal() { Some(RawMode::enter()?) } else { None };
    let session =
        attach::Session { engine, id: &spec.id, stream, signals: &signals, stdin, terminal, keys, forward_signals };
    let ending = session.run();
    drop(raw);
    match ending? {
        Ending::Exited(code) => Ok(exit_code(code)),
        Ending::Detached => Ok(0),
    }
}

/// An exit code as our own: what the kernel would make of it.
pub fn exit_code(code: i32) -> u8 {
    (code & 0xff) as u8
}

fn system(operation: &'static str, source: impl Into<io::Error>) -> Failure {
    Mistake::System { operation, source: source.into() }.into()
}

/// Reads what there is; `None` when there is nothing yet. At the end of the stream the bytes are empty.
fn read_some(fd: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Failure> {
    let mut buffer = vec![0; CHUNK_BYTES];
    match rustix::io::read(fd, &mut buffer) {
        Ok(count) => {
            buffer.truncate(count);
            Ok(Some(buffer))
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        // The other side of a terminal is gone.
        Err(rustix::io::Errno::IO) => Ok(Some(Vec::new())),
        Err(errno) => Err(system("read", errno)),
    }
}

fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    write_all(io::stdout().as_fd(), bytes)
}

fn write_stderr(bytes: &[u8]) -> Result<(), Failure> {
    write_all(io::stderr().as_fd(), bytes)
}

/// Writes everything, also to a descriptor that somebody made non-blocking.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Failure> {
    use rustix::event::{PollFd, PollFlags, poll};
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let _interrupted = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None);
            }
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
    Ok(())
}
