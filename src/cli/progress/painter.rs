//! The process that draws the live block: `wharf __progress`, fed with events as JSON lines on its stdin.
//!
//! It ends at the line `end` or at the end of its input, whichever comes first, and leaves the finished
//! block on the screen. It blocks SIGINT and SIGTERM: the one that feeds it decides when all is said.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, poll};

use super::block::Block;
use crate::cli::terminal;
use crate::model::event::Event;

/// The hidden verb by which this process is started.
pub const VERB: &str = "__progress";
/// The line that ends the block.
const END: &str = "end";
/// Time between two turns of the spinner.
const TURN: Duration = Duration::from_millis(100);
/// Shortest time between two drawings.
const FRAME: Duration = Duration::from_millis(30);
/// Longest event; a longer one is dropped.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Feeds the drawing process.
pub(super) struct Painter {
    stdin: Mutex<Option<ChildStdin>>,
    child: Mutex<Child>,
}

impl Painter {
    pub(super) fn start(title: &str, dry_run: bool, colour: bool) -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(VERB).arg(title).args(dry_run.then_some("--dry-run")).args(colour.then_some("--colour"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let stdin = child.stdin.take();
        Ok(Self { stdin: Mutex::new(stdin), child: Mutex::new(child) })
    }

    pub(super) fn send(&self, event: &Event) {
        if let (Ok(mut stdin), Ok(mut line)) = (self.stdin.lock(), serde_json::to_vec(event)) {
            line.push(b'\n');
            write_or_close(&mut stdin, &line);
        }
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        if let Ok(mut stdin) = self.stdin.lock() {
            write_or_close(&mut stdin, format!("{END}\n").as_bytes());
            *stdin = None;
        }
        if let Ok(mut child) = self.child.lock() {
            drop(child.wait());
        }
    }
}

/// A painter that died is not fed any more; the work goes on unseen.
fn write_or_close(stdin: &mut Option<ChildStdin>, line: &[u8]) {
    if stdin.as_mut().is_some_and(|stdin| stdin.write_all(line).is_err()) {
        *stdin = None;
    }
}

/// The drawing process.
pub fn run(arguments: &[String]) {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    // Without the mask a Ctrl-C takes the drawing away, nothing else.
    let _unmasked = signals.thread_block();
    let flag = |name: &str| arguments.iter().skip(1).any(|argument| argument == name);
    let title = arguments.first().map_or("Running", String::as_str);
    let block = Block::new(title, flag("--dry-run"), Instant::now());
    // A terminal that went away ends the drawing, nothing else.
    drop(draw_until_end(block, flag("--colour")));
}

fn draw_until_end(mut block: Block, colour: bool) -> io::Result<()> {
    let stdin = io::stdin();
    let mut input = Input { bytes: Vec::new(), ended: false };
    let mut screen = Screen { lines: 0 };
    let mut drawn = Instant::now();
    let mut changed = false;
    while !input.ended {
        let wait = if changed { FRAME } else { TURN };
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => changed |= input.read(stdin.as_fd(), &mut block)?,
            Err(errno) => return Err(errno.into()),
        }
        let elapsed = drawn.elapsed();
        if (changed && elapsed >= FRAME) || elapsed >= TURN {
            let (width, height) = terminal::size(io::stderr());
            screen.draw(&block.frame(Instant::now(), width, Some(height), colour))?;
            drawn = Instant::now();
            changed = false;
        }
    }
    let (width, _) = terminal::size(io::stderr());
    screen.draw(&block.frame(Instant::now(), width, None, colour))?;
    screen.end()
}

struct Input {
    bytes: Vec<u8>,
    ended: bool,
}

impl Input {
    /// Takes what there is to read; tells whether the block changed.
    fn read(&mut self, stdin: std::os::fd::BorrowedFd<'_>, block: &mut Block) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let count = rustix::io::read(stdin, &mut buffer)?;
        self.ended = count == 0;
        self.bytes.extend_from_slice(&buffer[..count]);
        let mut changed = false;
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = &line[..end];
            if line == END.as_bytes() {
                self.ended = true;
            } else if let Ok(event) = serde_json::from_slice::<Event>(line) {
                block.apply(event, Instant::now());
                changed = true;
            }
        }
        if self.bytes.len() > EVENT_BYTES_MAX {
            self.bytes.clear();
        }
        Ok(changed)
    }
}

/// What stands on the screen and can still be drawn over.
struct Screen {
    lines: usize,
}

impl Screen {
    fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let mut text = String::from("\x1b[?25l");
        if self.lines > 0 {
            text.push_str(&format!("\x1b[{}A", self.lines));
        }
        text.push('\r');
        for line in lines {
            text.push_str(line);
            text.push_str("\x1b[K\n");
        }
        text.push_str("\x1b[J");
        self.lines = lines.len();
        io::stderr().lock().write_all(text.as_bytes())
    }

    fn end(&mut self) -> io::Result<()> {
        io::stderr().lock().write_all(b"\x1b[?25h")
    }
}
