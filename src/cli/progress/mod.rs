//! Progress on stderr: a live block on a terminal, plain lines or JSON lines elsewhere, or nothing.
//!
//! The live block is drawn by a process of its own ([`painter`]): the spinner turns while we wait, and yet
//! the command line has one thread only, so that it may fork supervisors at any moment.

mod block;
pub mod painter;
mod plain;
mod steps;

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::report::render_warning;
use super::terminal::Terminal;
use crate::model::event::{Event, EventStatus, Progress};

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// `tty` on a terminal, else `plain`.
    #[default]
    Auto,
    /// A live block.
    Tty,
    /// One line a change.
    Plain,
    /// One JSON object a change.
    Json,
    /// Nothing.
    #[value(alias = "none")]
    Quiet,
}

/// `build --progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum BuildProgress {
    /// `tty` on a terminal, else `plain`.
    #[default]
    Auto,
    /// Numbered lines.
    Plain,
    /// A live block.
    Tty,
    /// Nothing.
    #[value(alias = "none")]
    Quiet,
    /// BuildKit's own stream, a JSON object a line.
    #[value(name = "rawjson")]
    RawJson,
}

impl Mode {
    /// What `auto` means here.
    pub fn resolve(self, terminal: &Terminal, ansi_never: bool) -> Self {
        match self {
            Self::Auto if terminal.stderr_is_terminal && !ansi_never => Self::Tty,
            Self::Auto => Self::Plain,
            other => other,
        }
    }
}

/// Shows what a verb does. Ends its block when dropped.
pub struct Reporter {
    output: Output,
    parts_left_out: Cell,
    warnings: Mutex<Vec<String>>,
    colour: bool,
}

type Cell = std::sync::atomic::AtomicBool;

enum Output {
    /// `None` once the block has ended.
    Live(Mutex<Option<painter::Painter>>),
    Plain(Mutex<plain::Plain>),
    Steps(Mutex<steps::Steps>),
    Json {
        dry_run: bool,
    },
    Quiet,
}

impl Reporter {
    /// Begins to report. `title` heads the live block: `Running`, `Building`, `Pulling`.
    pub fn start(mode: Mode, title: &str, dry_run: bool, colour: bool) -> Self {
        let plain = || Output::Plain(Mutex::new(plain::Plain::new(dry_run)));
        let output = match mode {
            Mode::Tty => match painter::Painter::start(title, dry_run, colour) {
                Ok(painter) => Output::Live(Mutex::new(Some(painter))),
                // Without a painter (no /proc, no memory) plain lines say the same.
                Err(_) => plain(),
            },
            Mode::Auto | Mode::Plain => plain(),
            Mode::Json => Output::Json { dry_run },
            Mode::Quiet => Output::Quiet,
        };
        Self { output, parts_left_out: Cell::new(false), warnings: Mutex::default(), colour }
    }

    /// Begins to report one image's build in numbered lines, or BuildKit's raw JSON.
    pub fn of_steps(raw: bool, colour: bool) -> Self {
        let output = Output::Steps(Mutex::new(steps::Steps::new(raw)));
        Self { output, parts_left_out: Cell::new(false), warnings: Mutex::default(), colour }
    }

    /// Shows resources only, not the layers and steps below them (`--quiet-pull`).
    pub fn leave_out_parts(&self) {
        self.parts_left_out.store(true, Ordering::Relaxed);
    }

    /// Ends a live block; what is printed afterwards stands below it, and later events are not shown. Plain lines
    /// go on.
    pub fn end_block(&self) {
        if let Output::Live(painter) = &self.output
            && let Ok(mut painter) = painter.lock()
        {
            *painter = None;
        }
        if let Ok(mut warnings) = self.warnings.lock() {
            for warning in warnings.drain(..) {
                write_stderr(&render_warning(&warning, self.colour));
            }
        }
    }

    /// Ends the display.
    pub fn finish(self) {
        drop(self);
    }

    /// A warning about nothing in particular: a line of its own, above or below a block.
    fn warn(&self, text: String) {
        match &self.output {
            Output::Live(painter) if painter.lock().is_ok_and(|painter| painter.is_some()) => {
                if let Ok(mut warnings) = self.warnings.lock() {
                    warnings.push(text);
                }
            }
            Output::Quiet => {}
            _ => write_stderr(&render_warning(&text, self.colour)),
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.end_block();
    }
}

impl Progress for Reporter {
    fn report(&self, event: Event) {
        if event.parent.is_some() && self.parts_left_out.load(Ordering::Relaxed) {
            return;
        }
        if event.resource.is_empty()
            && event.status == EventStatus::Warning
            && !matches!(self.output, Output::Json { .. })
        {
            return self.warn(event.text);
        }
        // A panic while holding one of these locks aborts the process: they are never poisoned.
        match &self.output {
            Output::Live(painter) => {
                if let Ok(painter) = painter.lock()
                    && let Some(painter) = painter.as_ref()
                {
                    painter.send(&event);
                }
            }
            Output::Plain(plain) => {
                if let Ok(mut plain) = plain.lock() {
                    write_stderr(&plain.lines(&event, jiff::Timestamp::now()));
                }
            }
            Output::Steps(steps) => {
                if let Ok(mut steps) = steps.lock() {
                    write_stderr(&steps.lines(&event, jiff::Timestamp::now()));
                }
            }
            Output::Json { dry_run } => write_stderr(&json_line(&event, *dry_run)),
            Output::Quiet => {}
        }
    }
}

/// Writes progress; nobody to read it is no reason to stop.
fn write_stderr(text: &str) {
    if !text.is_empty() {
        crate::cli::menu::write_stderr(text);
    }
}

/// One event as Compose's `--progress json` writes it.
///
/// Source: docker/compose `cmd/display/json.go`.
fn json_line(event: &Event, dry_run: bool) -> String {
    let mut line = serde_json::Map::new();
    if dry_run {
        line.insert("dry-run".into(), true.into());
    }
    line.insert("id".into(), event.resource.clone().into());
    if let Some(parent) = &event.parent {
        line.insert("parent_id".into(), parent.clone().into());
    }
    let status = match event.status {
        EventStatus::Working | EventStatus::Output => "Working",
        EventStatus::Done => "Done",
        EventStatus::Warning => "Warning",
        EventStatus::Error => "Error",
    };
    line.insert("status".into(), status.into());
    line.insert("text".into(), event.text.clone().into());
    if let Some((current, total)) = event.amount {
        line.insert("current".into(), current.into());
        line.insert("total".into(), total.into());
        if let Some(percent) = (current.saturating_mul(100)).checked_div(total) {
            line.insert("percent".into(), percent.into());
        }
    }
    format!("{}\n", serde_json::Value::Object(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_have_composes_keys() {
        let event = Event::new("Container p-web-1", EventStatus::Done, "Created");
        assert_eq!(
            json_line(&event, false),
            "{\"id\":\"Container p-web-1\",\"status\":\"Done\",\"text\":\"Created\"}\n"
        );
        let layer = Event {
            parent: Some("Image redis:7".into()),
            amount: Some((5, 10)),
            ..Event::new("abc", EventStatus::Working, "Downloading")
        };
        assert_eq!(
            json_line(&layer, true),
            "{\"dry-run\":true,\"id\":\"abc\",\"parent_id\":\"Image redis:7\",\"status\":\"Working\",\
             \"text\":\"Downloading\",\"current\":5,\"total\":10,\"percent\":50}\n"
        );
        let empty = Event { amount: Some((0, 0)), ..layer };
        assert!(json_line(&empty, false).ends_with("\"total\":0}\n"));
    }
}
