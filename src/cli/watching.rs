//! How a watch speaks to the user: one line a change on stderr, ` ⦿ web: synced app.py`.

use super::progress::{Mode, Reporter};
use super::terminal::{DONE, paint, visible};
use super::{Context, Failure};
use crate::base::error::Explain;
use crate::compose::Loaded;
use crate::model::container::ContainerSpec;
use crate::model::event::Progress;
use crate::watch::Client;

/// The user at the terminal.
pub struct Screen<'a> {
    /// The surroundings.
    pub context: &'a Context,
    /// The services that the project is loaded for.
    pub services: &'a [String],
    /// Show nothing of builds and other steps.
    pub quiet: bool,
    /// Told before each start.
    pub starting: Option<&'a (dyn Fn(&ContainerSpec) + Sync)>,
}

impl Client for Screen<'_> {
    fn say(&self, text: &str) {
        let mark = paint("⦿", DONE, self.context.terminal.stderr_colour);
        self.context.say(&format!(" {mark} {}", visible(text)));
    }

    fn warn(&self, text: &str) {
        self.context.warn(text);
    }

    fn failed(&self, error: &dyn Explain) {
        self.context.show_error(error);
    }

    fn progress(&self) -> Box<dyn Progress + '_> {
        match self.quiet {
            true => Box::new(Reporter::start(Mode::Quiet, "", false, false)),
            false => Box::new(self.context.reporter_in_lines()),
        }
    }

    fn reload(&self) -> Option<Loaded> {
        match self.context.load_project(self.services) {
            Ok(loaded) => return Some(loaded),
            Err(Failure::Error(error)) => self.failed(error.as_ref()),
            Err(Failure::Errors(errors)) => errors.iter().for_each(|error| self.failed(error.as_ref())),
            Err(Failure::Exit(_) | Failure::BrokenPipe) => {}
        }
        None
    }

    fn starting(&self, container: &ContainerSpec) {
        if let Some(starting) = self.starting {
            starting(container);
        }
    }
}
