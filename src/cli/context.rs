//! What every verb has at hand: the global flags, the folders and the terminal.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use super::arguments::Global;
use super::menu;
use super::progress::{BuildProgress, Mode, Reporter};
use super::report;
use super::terminal::{Ansi, Terminal};
use crate::base::error::Explain;
use crate::base::paths::Paths;
use crate::compose::Remote;

/// The surroundings of a verb. Making one costs nothing: no file is read.
#[derive(Clone)]
pub struct Context {
    /// The flags before the verb.
    pub global: Global,
    /// Where wharf keeps things.
    pub paths: Paths,
    /// What our output goes to.
    pub terminal: Terminal,
    /// Docker's grammar: names are containers and images, whatever project the folder has.
    pub docker: bool,
    /// What brings compose files from registries.
    pub remote: Remote,
}

impl Context {
    pub(super) fn new(global: Global) -> Self {
        let terminal = Terminal::detect(global.ansi());
        let remote = super::remote::remote(&global.insecure_registry);
        Self { global, paths: Paths::from_environment(), terminal, docker: false, remote }
    }

    /// The same for Docker's grammar.
    pub fn without_project(&self) -> Self {
        Self { docker: true, ..self.clone() }
    }

    /// stdout for a verb's data. Flush it before the verb returns: a buffer that is dropped hides errors.
    pub fn output(&self) -> BufWriter<StdoutLock<'static>> {
        BufWriter::with_capacity(16 << 10, io::stdout().lock())
    }

    /// Asks below `question` whether to go on; without a terminal the answer is read as well.
    pub fn confirm(&self, question: &str) -> io::Result<bool> {
        let mut err = io::stderr().lock();
        write!(err, "{question}\nAre you sure you want to continue? [y/N] ")?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !io::stdin().is_terminal() {
            writeln!(err)?;
        }
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Begins to show progress below `title`.
    pub fn reporter(&self, title: &str) -> Reporter {
        Reporter::start(self.progress_mode(), title, self.global.dry_run, self.terminal.stderr_colour)
    }

    /// The same, or nothing for a verb that was told to be quiet.
    pub fn reporter_unless(&self, quiet: bool, title: &str) -> Reporter {
        if quiet { Reporter::start(Mode::Quiet, title, false, false) } else { self.reporter(title) }
    }

    /// Progress of one image's build, in BuildKit's words where it is not a live block.
    pub fn build_reporter(&self, wanted: BuildProgress) -> Reporter {
        let colour = self.terminal.stderr_colour;
        let auto = match self.progress_mode() {
            Mode::Tty => BuildProgress::Tty,
            Mode::Quiet => BuildProgress::Quiet,
            _ => BuildProgress::Plain,
        };
        let wanted = if wanted == BuildProgress::Auto { auto } else { wanted };
        match wanted {
            BuildProgress::Tty => Reporter::start(Mode::Tty, "Building", false, colour),
            BuildProgress::Quiet => Reporter::start(Mode::Quiet, "", false, colour),
            plain => Reporter::of_steps(plain == BuildProgress::RawJson, colour),
        }
    }

    /// Progress beside other output: never a live block.
    pub fn reporter_in_lines(&self) -> Reporter {
        let mode = match self.progress_mode() {
            Mode::Tty => Mode::Plain,
            other => other,
        };
        Reporter::start(mode, "", self.global.dry_run, self.terminal.stderr_colour)
    }

    /// Shows one warning at once.
    pub fn warn(&self, message: &str) {
        let text = report::render_warning(message, self.terminal.stderr_colour);
        // A warning that nobody can read must not end the work.
        menu::write_stderr(&text);
    }

    /// Shows an error with its causes, excerpts and hint.
    pub fn show_error(&self, error: &dyn Explain) {
        let text = match self.reports_json() {
            true => report::render_json(error),
            false => report::render(error, self.terminal.stderr_colour),
        };
        // Nobody reads our errors: the exit code still tells.
        menu::write_stderr(&text);
    }

    /// Says something on stderr, such as `Gracefully Stopping...`.
    pub fn say(&self, message: &str) {
        menu::write_stderr(&format!("{message}\n"));
    }

    pub(super) fn progress_mode(&self) -> Mode {
        self.global.progress().resolve(&self.terminal, self.global.ansi() == Ansi::Never)
    }

    pub(super) fn reports_json(&self) -> bool {
        self.global.progress() == Mode::Json
    }
}
