//! Our terminal in raw mode, and back.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, Once};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use super::system;
use crate::cli::Failure;

/// What the terminal was like, for a panic: it aborts the process without dropping anything.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Keeps stdin's terminal in raw mode as long as it lives.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches to raw mode.
    pub fn enter() -> Result<Self, Failure> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).map_err(|errno| system("read the terminal's mode", errno))?;
        let mut raw = before.clone();
        raw.make_raw();
        remember(Some(before.clone()));
        restore_on_panic();
        tcsetattr(&stdin, OptionalActions::Drain, &raw).map_err(|errno| system("set the terminal's mode", errno))?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
        remember(None);
    }
}

fn remember(before: Option<Termios>) {
    if let Ok(mut slot) = BEFORE.lock() {
        *slot = before;
    }
}

fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Ok(slot) = BEFORE.try_lock()
                && let Some(before) = slot.as_ref()
            {
                let _gone = tcsetattr(io::stdin(), OptionalActions::Now, before);
            }
            next(panic);
        }));
    });
}

/// Keeps stdin's terminal giving keys as they are pressed, unseen, as long as it lives. Ctrl-C stays a signal.
#[derive(Debug)]
pub struct KeyMode {
    before: Option<Termios>,
}

impl KeyMode {
    /// Switches to that mode.
    pub fn enter() -> Result<Self, Failure> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).map_err(|errno| system("read the terminal's mode", errno))?;
        let mut keys = before.clone();
        keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        keys.special_codes[SpecialCodeIndex::VMIN] = 1;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        remember(Some(before.clone()));
        restore_on_panic();
        tcsetattr(&stdin, OptionalActions::Now, &keys).map_err(|errno| system("set the terminal's mode", errno))?;
        Ok(Self { before: Some(before) })
    }

    /// Leaves the terminal as it is now: it is somebody else's.
    pub fn forget(mut self) {
        self.before = None;
        remember(None);
    }
}

impl Drop for KeyMode {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs no mode.
            let _gone = tcsetattr(io::stdin(), OptionalActions::Now, before);
            remember(None);
        }
    }
}

/// Rows and columns of the terminal behind `stream`, where it is one.
pub fn window_size(stream: impl AsFd) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
