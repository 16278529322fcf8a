//! The keys of `up` on a terminal: a line below the output says which there are.
//!
//! ```text
//! web-1  | GET /        <- whatever is written goes above the line: it is erased before and drawn after
//! w Enable Watch   d Detach   h Help
//! ```
//!
//! Several threads write (logs, progress, warnings of a watch). All of them pass through this module, whose one lock
//! keeps a line of one apart from the menu of the other. Without a menu nothing is done but the write.
//!
//! Ctrl-C stays a signal, and so do the keys of job control; only what is typed is neither echoed nor kept for a line.

use std::io::{self, IsTerminal, Write};
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::interactive::KeyMode;
use super::progress::Mode;
use super::terminal::{FAINT, Style, paint, size};
use super::{Context, Failure};

/// What is drawn, while there is a menu.
static SHOWN: Mutex<Option<Shown>> = Mutex::new(None);

/// A key's letter, as Compose paints it: black on white.
const KEY: Style = Style("1;38;2;0;0;0;48;2;255;255;255");
/// To the beginning of the line, and the line is empty.
const ERASE: &[u8] = b"\r\x1b[2K";

struct Shown {
    colour: bool,
    watching: bool,
    /// The menu is the terminal's last line.
    is_drawn: bool,
    /// What was written last ended a line: the menu may stand below it.
    at_line_start: bool,
}

impl Shown {
    fn erase(&mut self) {
        if self.is_drawn {
            // A terminal that is gone needs no menu.
            drop(io::stderr().lock().write_all(ERASE));
            self.is_drawn = false;
        }
    }

    fn draw(&mut self) {
        if self.is_drawn || !self.at_line_start {
            return;
        }
        let (columns, _) = size(io::stderr());
        let watch = if self.watching { "Disable Watch" } else { "Enable Watch" };
        let mut line = String::new();
        let mut width = 0;
        for (key, text) in [("w", watch), ("d", "Detach"), ("h", "Help")] {
            // A line that wraps could not be erased.
            width += key.len() + text.len() + 4;
            if width < columns {
                let gap = if line.is_empty() { "" } else { "   " };
                let text = format!(" {text}");
                line.push_str(&format!("{gap}{}{}", paint(key, KEY, self.colour), paint(&text, FAINT, self.colour)));
            }
        }
        drop(io::stderr().lock().write_all(line.as_bytes()));
        self.is_drawn = true;
    }
}

fn shown() -> MutexGuard<'static, Option<Shown>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to stderr, above the menu where there is one. Nobody to read it is no reason to stop.
pub fn write_stderr(text: &str) {
    let mut shown = shown();
    if let Some(shown) = shown.as_mut() {
        shown.erase();
        shown.at_line_start = text.ends_with('\n') || (text.is_empty() && shown.at_line_start);
    }
    drop(io::stderr().lock().write_all(text.as_bytes()));
    if let Some(shown) = shown.as_mut() {
        shown.draw();
    }
}

/// Draws the menu again below what was written through [`AboveMenu`].
pub fn redraw() {
    if let Some(shown) = shown().as_mut() {
        shown.draw();
    }
}

/// A stream to the terminal that the menu may be on.
pub struct AboveMenu<W>(pub W);

impl<W: Write> Write for AboveMenu<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut shown = shown();
        let Some(shown) = shown.as_mut().filter(|_| !bytes.is_empty()) else { return self.0.write(bytes) };
        shown.erase();
        let count = self.0.write(bytes)?;
        self.0.flush()?;
        shown.at_line_start = bytes[..count].ends_with(b"\n");
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Begin or end to watch files.
    Watch,
    /// Leave everything in the background.
    Detach,
    /// Show how the containers fare.
    View,
    /// Show the project.
    Config,
    /// Say what the keys are.
    Help,
    /// An empty line, to find the place again.
    Enter,
}

/// The menu, as long as keys are read.
pub struct Menu {
    mode: Option<KeyMode>,
}

/// Whether there is to be a menu: `--menu`, else `COMPOSE_MENU`, else yes; and only on a terminal that can show it.
pub fn wanted(context: &Context, flag: Option<bool>) -> bool {
    let variable = std::env::var("COMPOSE_MENU").ok().filter(|text| !text.is_empty());
    let is_wanted = flag.unwrap_or_else(|| {
        variable
            .is_none_or(|text| matches!(text.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "y" | "yes" | "on"))
    });
    let terminal = &context.terminal;
    let is_capable = std::env::var_os("TERM").is_some_and(|kind| kind != "dumb");
    is_wanted
        && is_capable
        && terminal.stdout_is_terminal
        && terminal.stderr_is_terminal
        && context.progress_mode() == Mode::Tty
        && io::stdin().is_terminal()
}

impl Menu {
    /// Shows the menu and takes over the keys.
    ///
    /// Errors: the terminal refuses.
    pub fn show(context: &Context, watching: bool) -> Result<Self, Failure> {
        let mode = if is_in_foreground() { Some(KeyMode::enter()?) } else { None };
        let colour = context.terminal.stderr_colour;
        let mut drawn = Shown { colour, watching, is_drawn: false, at_line_start: true };
        let mut shown = shown();
        drawn.draw();
        *shown = Some(drawn);
        drop(shown);
        Ok(Self { mode })
    }

    /// What to wait for, where keys come to us.
    pub fn fd(&self) -> Option<BorrowedFd<'static>> {
        // A process in the background that reads the terminal is stopped by it (SIGTTIN).
        (self.mode.is_some() && is_in_foreground()).then(stdin_fd)
    }

    /// The keys that were pressed. Call it when [`Menu::fd`] is readable.
    pub fn keys(&mut self) -> Vec<Key> {
        let mut bytes = [0; 64];
        // Terminals give what there is; nothing at all is the end of one that hung up.
        match rustix::io::read(stdin_fd(), &mut bytes) {
            Ok(0) => {
                self.mode = None;
                Vec::new()
            }
            // An escape sequence is a key that means nothing here.
            Ok(_) if bytes[0] == 0x1b => Vec::new(),
            Ok(count) => bytes[..count].iter().filter_map(|byte| key(*byte)).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Says which of the two `w` does.
    pub fn set_watching(&self, watching: bool) {
        if let Some(shown) = shown().as_mut() {
            shown.erase();
            shown.watching = watching;
            shown.draw();
        }
    }

    /// After SIGCONT: whoever had the terminal meanwhile has set its mode.
    pub fn resume(&mut self) {
        if is_in_foreground() {
            // What the shell has made of the terminal is what it wants back.
            self.mode.take().into_iter().for_each(KeyMode::forget);
            self.mode = KeyMode::enter().ok();
        }
        if let Some(shown) = shown().as_mut() {
            shown.is_drawn = false;
            shown.draw();
        }
    }
}

impl Drop for Menu {
    fn drop(&mut self) {
        if let Some(mut shown) = shown().take() {
            shown.erase();
        }
        if !is_in_foreground() {
            self.mode.take().into_iter().for_each(KeyMode::forget);
        }
    }
}

/// What `h` shows.
pub const HELP: &str = "\
  w        watch files, or stop watching them
  d        detach: leave the containers running in the background
  v        view how the containers fare
  o        view the configuration
  Enter    an empty line
  Ctrl-C   stop the containers (twice: kill them)
";

fn key(byte: u8) -> Option<Key> {
    match byte {
        b'w' => Some(Key::Watch),
        b'd' => Some(Key::Detach),
        b'v' => Some(Key::View),
        b'o' => Some(Key::Config),
        b'h' | b'?' => Some(Key::Help),
        b'\r' | b'\n' => Some(Key::Enter),
        _ => None,
    }
}

/// Whether the terminal is ours to read and to set.
fn is_in_foreground() -> bool {
    rustix::termios::tcgetpgrp(stdin_fd()).is_ok_and(|group| group == rustix::process::getpgrp())
}

fn stdin_fd() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}
