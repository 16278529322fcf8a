//! Whether we speak to a terminal, how wide it is, and colours.

use std::io::IsTerminal;

/// `--ansi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Ansi {
    /// No control characters.
    Never,
    /// Control characters also into a pipe.
    Always,
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
}

/// What is known about our output, read once.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// stderr is a terminal.
    pub stderr_is_terminal: bool,
    /// Colours may be written to stdout.
    pub stdout_colour: bool,
    /// Colours may be written to stderr.
    pub stderr_colour: bool,
}

impl Terminal {
    /// Looks at stdout, stderr, `NO_COLOR` and `TERM`.
    pub fn detect(ansi: Ansi) -> Self {
        let stdout_is_terminal = std::io::stdout().is_terminal();
        let stderr_is_terminal = std::io::stderr().is_terminal();
        let set = |variable: &str| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        let plain = set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let colour = |is_terminal| match ansi {
            Ansi::Never => false,
            Ansi::Always => true,
            Ansi::Auto => is_terminal && !plain,
        };
        Self {
            stdout_is_terminal,
            stderr_is_terminal,
            stdout_colour: colour(stdout_is_terminal),
            stderr_colour: colour(stderr_is_terminal),
        }
    }
}

/// The size of the terminal behind `stream` in columns and rows; 80 by 24 where it is unknown.
pub fn size(stream: impl std::os::fd::AsFd) -> (usize, usize) {
    match rustix::termios::tcgetwinsize(stream) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
        _ => (80, 24),
    }
}

/// A style of text: the parameters of SGR (ECMA-48), such as `1;31`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style(pub &'static str);

/// `error:`.
pub const ERROR: Style = Style("1;31");
/// `warning:`.
pub const WARNING: Style = Style("1;33");
/// `hint:`.
pub const HINT: Style = Style("1;36");
/// Rulers and line numbers of excerpts.
pub const RULER: Style = Style("1;34");
/// What reached its state.
pub const DONE: Style = Style("32");
/// What is under way.
pub const WORKING: Style = Style("36");
/// What is less important.
pub const FAINT: Style = Style("2");
/// What is more important.
pub const BOLD: Style = Style("1");

/// The colours of log prefixes in the order in which Compose gives them out.
pub const PREFIXES: [Style; 10] = [
    Style("36"),
    Style("33"),
    Style("32"),
    Style("35"),
    Style("34"),
    Style("36;1"),
    Style("33;1"),
    Style("32;1"),
    Style("35;1"),
    Style("34;1"),
];

/// Writes `text` in `style` where `colour` allows it.
pub fn paint(text: &str, style: Style, colour: bool) -> String {
    if colour { format!("\x1b[{}m{text}\x1b[0m", style.0) } else { text.to_owned() }
}

/// `text` with every control character but the tab shown as an escape, so that a file's content or a
/// foreign name cannot steer the user's terminal.
pub fn visible(text: &str) -> String {
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() && c != '\t' { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_visible() {
        assert_eq!(visible("a\x1b[2Jb\tc"), "a\\u{1b}[2Jb\tc");
        assert_eq!(visible("schön"), "schön");
    }

    #[test]
    fn colour_is_only_written_where_allowed() {
        assert_eq!(paint("x", ERROR, false), "x");
        assert_eq!(paint("x", ERROR, true), "\x1b[1;31mx\x1b[0m");
    }
}
