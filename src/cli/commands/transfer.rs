//! Docker's words for pulls and pushes: `3f57d9401f8d: Pull complete`, `Status: Downloaded newer image for …`.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::cli::progress::{Mode, Reporter};
use crate::cli::terminal::visible;
use crate::cli::{Context, Failure};
use crate::engine::Engine;
use crate::engine::images::PullPolicy;
use crate::image::Platforms;
use crate::model::event::{Event, EventStatus, Progress};
use crate::model::image::Image;
use crate::model::reference::Reference;

/// Where the lines go: `run` keeps standard output for its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// `pull` and `push`.
    Stdout,
    /// `run` and `create`.
    Stderr,
}

impl Stream {
    /// Writes one line. Nobody may hold the lock of standard output meanwhile: lines come from any thread.
    pub fn line(self, text: &str) {
        // Whoever closes the other end does not want to read it.
        drop(match self {
            Self::Stdout => writeln!(std::io::stdout().lock(), "{text}"),
            Self::Stderr => writeln!(std::io::stderr().lock(), "{text}"),
        });
    }
}

/// One line for each change of a layer's state.
pub struct Lines {
    stream: Stream,
    last: Mutex<HashMap<String, String>>,
}

impl Lines {
    /// None yet.
    pub fn new(stream: Stream) -> Self {
        Self { stream, last: Mutex::default() }
    }
}

impl Progress for Lines {
    fn report(&self, event: Event) {
        if event.status == EventStatus::Warning {
            return self.stream.line(&format!("WARNING: {}", visible(&event.text)));
        }
        // The image itself: said before and after.
        if event.resource.contains(' ') {
            return;
        }
        let text = if event.text == "Downloading" { "Pulling fs layer" } else { &event.text };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(&event.resource).is_some_and(|said| said == text) {
            return;
        }
        last.insert(event.resource.clone(), text.to_owned());
        self.stream.line(&format!("{}: {}", visible(&event.resource), visible(text)));
    }
}

/// Whether layers are shown as a live block instead of as lines.
pub fn is_live(context: &Context) -> bool {
    context.progress_mode() == Mode::Tty
}

/// A display for the layers of a transfer: a live block, or nothing where [`Lines`] are written.
pub fn reporter(context: &Context, quiet: bool, title: &str) -> Reporter {
    context.reporter_unless(quiet || !is_live(context), title)
}

/// Pulls an image and says so as Docker does. `typed` is the name as it was given.
pub fn pull(
    context: &Context,
    engine: &Engine,
    typed: &str,
    platforms: Platforms,
    quiet: bool,
    stream: Stream,
) -> Result<Image, Failure> {
    let reference: Reference = typed.parse().map_err(crate::engine::Error::from)?;
    let images = engine.store().images();
    let before = images.resolve(&reference)?.map(|image| image.id);
    let say = |text: &str| {
        if !quiet {
            stream.line(text)
        }
    };
    if reference.digest.is_none() && !typed.rsplit('/').next().is_some_and(|name| name.contains(':')) {
        say("Using default tag: latest");
    }
    say(&format!("{}: Pulling from {}", reference.manifest_name(), reference.repository));
    let lines = Lines::new(stream);
    let platforms = &platforms;
    let image = context.perform_transfer(reporter(context, quiet, "Pulling"), None, |execution| {
        let progress = if quiet || is_live(context) { execution.progress } else { &lines };
        engine.pull(&reference, PullPolicy::Always, platforms.clone(), progress)
    })?;
    let same_repository =
        |known: &Reference| (&known.registry, &known.repository) == (&reference.registry, &reference.repository);
    let known = images.references(&image.id)?;
    let pinned = known.iter().filter(|known| same_repository(known)).find_map(|known| known.digest.as_ref());
    if let Some(digest) = reference.digest.as_ref().or(pinned) {
        say(&format!("Digest: {digest}"));
    }
    let status = if before.as_ref() == Some(&image.id) { "Image is up to date" } else { "Downloaded newer image" };
    say(&format!("Status: {status} for {}", reference.familiar()));
    Ok(image)
}
