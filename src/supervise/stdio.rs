//! A container's standard streams as its supervisor holds them.
//!
//! Without a terminal they are FIFOs in the run folder. The container's ends of stdout and stderr are open for
//! reading too, so writing never fails with EPIPE when the supervisor dies: a successor opens the same FIFOs and
//! finds what was written meanwhile (up to the 64 KiB of a pipe, then the container waits). With a terminal it is
//! the master of a pty of the container's own devpts.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::keeper::{Keeper, Kept};
use crate::base::fs::{self, Context};
use crate::log::Stream;
use crate::model::container::Process;
use crate::runtime;

/// Input that a container did not take yet is at most this; then its senders wait.
const INPUT_WAITING_MAX: usize = 64 << 10;

/// The supervisor's ends.
#[derive(Debug, Default)]
pub(super) struct Stdio {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Write end of the input FIFO. With a terminal the console is used.
    stdin: Option<OwnedFd>,
    console: Option<OwnedFd>,
    /// Holds what must outlive this process, once it was asked for.
    keeper: Option<Keeper>,
    /// Input that the container did not take yet.
    waiting: Vec<u8>,
    /// End the input once `waiting` is written.
    ending: bool,
}

/// What one read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

/// Descriptor numbers for an exec.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    pub(super) stdout: Option<i32>,
    pub(super) stderr: Option<i32>,
    pub(super) stdin: Option<i32>,
    pub(super) console: Option<i32>,
}

impl Stdio {
    /// Makes the streams of a new run; returns the supervisor's and the container's ends.
    pub(super) fn create(
        run_folder: &Path,
        process: &Process,
        size: Option<(u16, u16)>,
    ) -> fs::Result<(Self, runtime::Stdio)> {
        if process.terminal {
            let (rows, cols) = size.unwrap_or((24, 80));
            return Ok((Self::default(), runtime::Stdio::Terminal { rows, cols }));
        }
        let (stdout, stdout_inside) = output(&run_folder.join("stdout"))?;
        let (stderr, stderr_inside) = output(&run_folder.join("stderr"))?;
        let (stdin, stdin_inside) = if process.stdin_open {
            let (ours, inside) = input(&run_folder.join("stdin"))?;
            (Some(ours), inside)
        } else {
            (None, null()?)
        };
        let ours = Self { stdout: Some(stdout), stderr: Some(stderr), stdin, ..Self::default() };
        let inside = runtime::Stdio::Pipes { stdin: stdin_inside, stdout: stdout_inside, stderr: stderr_inside };
        Ok((ours, inside))
    }

    /// Opens the streams of a run whose supervisor died: FIFOs by name, a terminal and an open stdin from its keeper.
    pub(super) fn reopen(run_folder: &Path, process: &Process, keeper: Option<Keeper>) -> fs::Result<Self> {
        if process.terminal {
            let console = keeper.as_ref().and_then(Keeper::console);
            return Ok(Self { console, keeper, ..Self::default() });
        }
        let reading = |name: &str| {
            let path = run_folder.join(name);
            open(&path, OFlags::RDONLY | OFlags::NONBLOCK)
        };
        let stdin = keeper.as_ref().and_then(Keeper::stdin);
        Ok(Self {
            keeper,
            stdout: Some(reading("stdout")?),
            stderr: Some(reading("stderr")?),
            stdin,
            ..Self::default()
        })
    }

    /// Takes the master of the container's terminal.
    pub(super) fn set_console(&mut self, console: OwnedFd) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&console)?;
        rustix::fs::fcntl_setfl(&console, flags | OFlags::NONBLOCK)?;
        self.console = Some(console);
        Ok(())
    }

    /// Makes a keeper for what would end the container with this process.
    pub(super) fn keep(&mut self, process: BorrowedFd<'_>) {
        if self.keeper.is_none() && (self.console.is_some() || self.stdin.is_some()) {
            // Without one the container has what containers elsewhere have.
            self.keeper = Keeper::spawn(process, self.console.as_ref(), self.stdin.as_ref()).ok();
        }
    }

    /// Who keeps what, for the card.
    pub(super) fn kept(&self) -> Option<Kept> {
        self.keeper.as_ref().map(Keeper::kept)
    }

    fn close_input(&mut self) {
        self.stdin = None;
        if self.console.is_none() {
            // Its copy would keep the input open.
            self.keeper = None;
        }
    }

    /// The descriptors that output comes from.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        let stdout = self.console.as_ref().or(self.stdout.as_ref()).map(|fd| (Stream::Stdout, fd.as_fd()));
        let stderr = self.stderr.as_ref().map(|fd| (Stream::Stderr, fd.as_fd()));
        stdout.into_iter().chain(stderr)
    }

    /// Where input waits to be written; `None` when none does.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        let fd = self.console.as_ref().or(self.stdin.as_ref())?;
        (!self.waiting.is_empty()).then(|| fd.as_fd())
    }

    /// Whether input may be taken from clients now.
    pub(super) fn takes_input(&self) -> bool {
        self.waiting.len() < INPUT_WAITING_MAX
    }

    /// Reads output of one stream into `buffer`. At the end of a stream it is closed.
    pub(super) fn read(&mut self, stream: Stream, buffer: &mut [u8]) -> Read {
        let slot = match stream {
            Stream::Stdout if self.console.is_some() => &mut self.console,
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(fd) = slot else { return Read::End };
        loop {
            return match rustix::io::read(&*fd, &mut *buffer) {
                Ok(length) if length > 0 => Read::Bytes(length),
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => Read::Nothing,
                // A terminal without a process answers EIO.
                Ok(_) | Err(_) => {
                    *slot = None;
                    Read::End
                }
            };
        }
    }

    /// Takes input for the container. What it has no room for waits; without an open input it is dropped.
    pub(super) fn write(&mut self, input: &[u8]) {
        if self.ending || (self.console.is_none() && self.stdin.is_none()) {
            return;
        }
        self.waiting.extend_from_slice(input);
        self.write_waiting();
    }

    /// Writes what waits, as far as the container takes it.
    pub(super) fn write_waiting(&mut self) {
        while !self.waiting.is_empty() {
            let Some(fd) = self.console.as_ref().or(self.stdin.as_ref()) else { break };
            match rustix::io::write(fd, &self.waiting) {
                Ok(length) => drop(self.waiting.drain(..length)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // Nobody will read it any more.
                Err(_) => {
                    self.waiting.clear();
                    self.close_input();
                }
            }
        }
        self.waiting = Vec::new();
        if self.ending {
            self.close_input();
        }
    }

    /// Ends the input behind what waits. A terminal has no end of input but the one that is typed.
    pub(super) fn end_input(&mut self) {
        self.ending = self.console.is_none();
        if self.waiting.is_empty() && self.ending {
            self.close_input();
        }
    }

    /// Sets the size of the terminal, where there is one.
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        if let Some(console) = &self.console {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            // The process may just have ended.
            let _gone = rustix::termios::tcsetwinsize(console, size);
        }
    }

    /// Whether everything that clients sent was written: only then can an exec lose nothing.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All descriptors.
    pub(super) fn all(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.stdout, &self.stderr, &self.stdin, &self.console].into_iter().flatten().map(AsFd::as_fd)
    }

    /// Their numbers, as [`Self::inherit`] takes them.
    pub(super) fn numbers(&self) -> Numbers {
        use std::os::fd::AsRawFd;
        let number = |fd: &Option<OwnedFd>| fd.as_ref().map(AsRawFd::as_raw_fd);
        Numbers {
            stdout: number(&self.stdout),
            stderr: number(&self.stderr),
            stdin: number(&self.stdin),
            console: number(&self.console),
        }
    }

    /// Takes the streams over after an exec.
    pub(super) fn inherit(numbers: Numbers) -> Self {
        let take = |number: Option<i32>| number.and_then(crate::sys::daemon::inherited);
        Self {
            stdout: take(numbers.stdout),
            stderr: take(numbers.stderr),
            stdin: take(numbers.stdin),
            console: take(numbers.console),
            ..Self::default()
        }
    }
}

fn output(path: &Path) -> fs::Result<(OwnedFd, OwnedFd)> {
    make_fifo(path)?;
    let inside = open(path, OFlags::RDWR)?;
    Ok((open(path, OFlags::RDONLY | OFlags::NONBLOCK)?, inside))
}

fn input(path: &Path) -> fs::Result<(OwnedFd, OwnedFd)> {
    make_fifo(path)?;
    // Opening one end alone would wait for the other.
    let _both = open(path, OFlags::RDWR)?;
    Ok((open(path, OFlags::WRONLY | OFlags::NONBLOCK)?, open(path, OFlags::RDONLY)?))
}

fn make_fifo(path: &Path) -> fs::Result<()> {
    fs::remove_file(path)?;
    rustix::fs::mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).context("create the FIFO", path)
}

fn open(path: &Path, flags: OFlags) -> fs::Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).context("open", path)
}

/// An open /dev/null for reading and writing.
pub(super) fn null() -> fs::Result<OwnedFd> {
    let path = Path::new("/dev/null");
    File::options().read(true).write(true).open(path).context("open", path).map(OwnedFd::from)
}
