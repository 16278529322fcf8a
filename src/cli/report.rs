//! Errors as text, and the only place that makes it:
//!
//! ```text
//! error: service `web` cannot publish 0.0.0.0:8080
//!   caused by: address already in use
//!   --> compose.yaml:14:9
//!    |
//! 14 |       - 8080:80
//!    |         ^^^^^^^ published here
//! hint: stop the other process
//! ```
//!
//! Several mistakes of one file are several excerpts of one error. What comes from files is shown with its
//! control characters escaped and cut to a screen's width.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

use super::scope::shown_location;
use super::terminal::{self, Style, paint};
use crate::base::error::{Excerpt, Explain, Location};
use crate::base::fs::read_limited;

/// Longest piece of a source line that is shown, in columns.
const LINE_WIDTH_MAX: usize = 120;
/// Most causes shown; a chain this long is a loop.
const CAUSES_MAX: usize = 16;
/// Most excerpts shown of one error.
const EXCERPTS_MAX: usize = 50;
/// Largest file that an excerpt is read from, in bytes.
const SOURCE_BYTES_MAX: u64 = 4 << 20;

/// Writes an error with causes, excerpts and hint, ending in a line break.
pub fn render(error: &dyn Explain, colour: bool) -> String {
    let mut text = String::new();
    headline(&mut text, "error", terminal::ERROR, &error.to_string(), colour);
    causes(&mut text, error, colour);
    let excerpts = error.excerpts();
    for excerpt in excerpts.iter().take(EXCERPTS_MAX) {
        draw_excerpt(&mut text, excerpt, colour);
    }
    if excerpts.len() > EXCERPTS_MAX {
        let _infallible = writeln!(text, "  … and {} more", excerpts.len() - EXCERPTS_MAX);
    }
    if let Some(hint) = error.hint().or_else(|| hint_of_the_system(error)) {
        headline(&mut text, "hint", terminal::HINT, &hint, colour);
    }
    text
}

/// What to do about an answer of the kernel that means the same wherever it comes from.
fn hint_of_the_system(error: &dyn Explain) -> Option<String> {
    let first: &dyn std::error::Error = error;
    let chain = std::iter::successors(Some(first), |error| error.source()).take(CAUSES_MAX);
    // By its text: it may have come from a supervisor, in words.
    let number =
        chain.filter_map(|cause| cause.to_string().rsplit_once("(os error ")?.1.split(')').next()?.parse().ok());
    let hint = match number.last()? {
        libc::ENOSPC => crate::base::fs::DISK_FULL_HINT,
        libc::EMFILE => "a process may not have so many open files: raise the limit (`ulimit -n`)",
        libc::ENFILE => "the host may not have so many open files: raise the limit (sysctl fs.file-max)",
        libc::ENOMEM => "memory is out: stop something, or raise the limit of the control group that this runs in",
        libc::EAGAIN => {
            "no process is left for this user or control group: end some, or raise the limit (`ulimit -u`, pids.max)"
        }
        libc::EPERM => crate::base::fs::permission_hint(),
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Writes a warning, ending in a line break.
pub fn render_warning(message: &str, colour: bool) -> String {
    let mut text = String::new();
    headline(&mut text, "warning", terminal::WARNING, message, colour);
    text
}

/// Writes an error as one JSON object, as Compose does with `--progress json`.
pub fn render_json(error: &dyn Explain) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    for _ in 0..CAUSES_MAX {
        let Some(cause) = source else { break };
        let cause_text = cause.to_string();
        if !message.contains(&cause_text) {
            message = format!("{message}: {cause_text}");
        }
        source = cause.source();
    }
    format!("{}\n", serde_json::json!({"error": true, "message": message}))
}

fn headline(text: &mut String, word: &str, style: Style, message: &str, colour: bool) {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    let _infallible = writeln!(text, "{} {}", paint(&format!("{word}:"), style, colour), terminal::visible(first));
    for line in lines {
        let _infallible = writeln!(text, "  {}", terminal::visible(line));
    }
}

/// One line a cause, without those whose words the line above already has.
fn causes(text: &mut String, error: &dyn Explain, colour: bool) {
    let mut said = error.to_string();
    let mut source = error.source();
    for _ in 0..CAUSES_MAX {
        let Some(cause) = source else { return };
        let message = cause.to_string();
        if !said.contains(&message) {
            text.push_str("  ");
            headline(text, "caused by", terminal::BOLD, &message, colour);
            said = message;
        }
        source = cause.source();
    }
}

fn draw_excerpt(text: &mut String, excerpt: &Excerpt, colour: bool) {
    let arrow = paint("-->", terminal::RULER, colour);
    let location = shown_location(&excerpt.location);
    let content = if excerpt.source.is_empty() { line_of(&excerpt.location) } else { Some(excerpt.source.clone()) };
    let Some(content) = content else {
        let _infallible = writeln!(text, "  {arrow} {}", label_after(&location, &excerpt.label));
        return;
    };
    let first_line = excerpt.location.line;
    let source: Vec<&str> = content.lines().collect();
    let gutter = (first_line + source.len().saturating_sub(1)).to_string().len();
    let bar = paint("|", terminal::RULER, colour);
    let _infallible = writeln!(text, "{:gutter$}{arrow} {location}", "");
    let _infallible = writeln!(text, "{:gutter$} {bar}", "");
    for (index, line) in source.iter().enumerate() {
        let number = paint(&format!("{:>gutter$}", first_line + index), terminal::RULER, colour);
        let column = if index == 0 { excerpt.location.column } else { 1 };
        let window = Window::around(line, column, excerpt.length);
        let shown = format!("{number} {bar} {}", window.text);
        let _infallible = writeln!(text, "{}", shown.trim_end());
        if index == 0 {
            let carets = paint(&"^".repeat(window.length), terminal::ERROR, colour);
            let caret_line = format!("{:gutter$} {bar} {:indent$}{carets}", "", "", indent = window.indent);
            let _infallible = writeln!(text, "{}", label_after(&caret_line, &excerpt.label));
        }
    }
}

/// The line that `location` stands in, for an error that knows only the place.
fn line_of(location: &Location) -> Option<String> {
    let content = read_limited(&location.file, SOURCE_BYTES_MAX).ok()?;
    let line = content.split(|byte| *byte == b'\n').nth(location.line.checked_sub(1)?)?;
    let text = String::from_utf8_lossy(line).trim_end().to_owned();
    (!text.is_empty()).then_some(text)
}

fn label_after(line: &str, label: &str) -> String {
    if label.is_empty() { line.to_owned() } else { format!("{line} {}", terminal::visible(label)) }
}

/// The part of a source line that is shown, and where the caret stands below it, in terminal columns.
struct Window {
    text: String,
    indent: usize,
    length: usize,
}

impl Window {
    /// Cuts `line` so that the `length` characters from `column` (from 1) are in view.
    fn around(line: &str, column: usize, length: usize) -> Self {
        let column = column.saturating_sub(1);
        let count = line.chars().count();
        let start = if count <= LINE_WIDTH_MAX { 0 } else { column.saturating_sub(LINE_WIDTH_MAX / 2).min(count) };
        let mut window = Self { text: String::new(), indent: 0, length: 0 };
        let mut width = 0;
        if start > 0 {
            window.text.push('…');
            width = 1;
        }
        window.indent = width;
        let mut cut = false;
        for (index, c) in line.chars().enumerate().skip(start) {
            let piece = shown_as(c);
            let piece_width: usize = piece.chars().map(|c| c.width().unwrap_or(0)).sum();
            if width + piece_width > LINE_WIDTH_MAX {
                cut = true;
                break;
            }
            if index < column {
                window.indent += piece_width;
            } else if index < column.saturating_add(length.max(1)) {
                window.length += piece_width;
            }
            width += piece_width;
            window.text.push_str(&piece);
        }
        if cut {
            window.text.push('…');
        }
        window.length = window.length.max(1);
        window
    }
}

/// A character of a file as it is shown: tabs as four columns, control characters as escapes.
fn shown_as(c: char) -> String {
    match c {
        '\t' => "    ".into(),
        c if c.is_control() => c.escape_default().collect(),
        c => c.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Location;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Example {
        text: &'static str,
        #[source]
        source: Option<Box<Example>>,
        excerpts: Vec<Excerpt>,
        hint: Option<&'static str>,
    }

    impl Explain for Example {
        fn excerpts(&self) -> Vec<Excerpt> {
            self.excerpts.clone()
        }
        fn hint(&self) -> Option<String> {
            self.hint.map(str::to_owned)
        }
    }

    fn example(text: &'static str, source: Option<Example>) -> Example {
        Example { text, source: source.map(Box::new), excerpts: Vec::new(), hint: None }
    }

    fn excerpt(line: usize, column: usize, length: usize, source: &str, label: &str) -> Excerpt {
        let location = Location { file: "compose.yaml".into(), line, column };
        Excerpt { location, length, source: source.into(), label: label.into() }
    }

    #[test]
    fn an_error_shows_causes_excerpt_and_hint() {
        let mut error = example("service `web` cannot publish 8080", Some(example("address already in use", None)));
        error.excerpts = vec![excerpt(14, 9, 7, "      - 8080:80", "published here")];
        error.hint = Some("stop the other process");
        let expected = "\
error: service `web` cannot publish 8080
  caused by: address already in use
  --> compose.yaml:14:9
   |
14 |       - 8080:80
   |         ^^^^^^^ published here
hint: stop the other process
";
        assert_eq!(render(&error, false), expected);
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        let error = example("cannot read x: not found", Some(example("not found", Some(example("why", None)))));
        assert_eq!(render(&error, false), "error: cannot read x: not found\n  caused by: why\n");
        assert_eq!(render_json(&error), "{\"error\":true,\"message\":\"cannot read x: not found: why\"}\n");
    }

    #[test]
    fn the_caret_stands_right_below_tabs_wide_and_control_characters() {
        let window = Window::around("\t- 漢字\x1b: x", 8, 1);
        assert_eq!(window.text, "    - 漢字\\u{1b}: x");
        assert_eq!((window.indent, window.length), ("    - ".len() + 4 + "\\u{1b}: ".len() - 1, 1));
    }

    #[test]
    fn a_long_line_is_cut_around_the_mistake() {
        let line = format!("{}WRONG{}", "a".repeat(5000), "b".repeat(5000));
        let window = Window::around(&line, 5001, 5);
        assert!(window.text.chars().count() <= LINE_WIDTH_MAX + 2);
        let from = window.text.chars().skip(window.indent).take(window.length).collect::<String>();
        assert_eq!(from, "WRONG");
    }

    #[test]
    fn a_column_beyond_the_line_is_harmless() {
        assert_eq!(Window::around("ab", 99, usize::MAX).length, 1);
        assert_eq!(Window::around("", 0, 0).length, 1);
    }
}
