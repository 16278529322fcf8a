//! `--cache-from` and `--cache-to`: where results of steps come from and go to besides the store.
//!
//! A source is asked when a step is not remembered here, and opened when the first step asks; so a build that has
//! everything asks nobody. A source that fails costs a warning, never the build.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::error::Error;
use super::execute::Built;
use crate::base::id::Digest;
use crate::image::{self, CachePlace, CacheSource};
use crate::model::event::Progress;
use crate::model::reference::Reference;
use crate::store::{StepRecord, Store};

/// What `--cache-to` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheExport {
    /// Where to; `None` is the image itself (`type=inline`).
    pub place: Option<CachePlace>,
    /// All steps (`mode=max`), not only those whose layers are in the image.
    pub all: bool,
    /// A failure is worth a warning only (`ignore-error=true`).
    pub ignore_error: bool,
}

/// Reads a value of `--cache-from`: an image's name, or `type=registry,ref=NAME`, `type=local,src=FOLDER`.
///
/// Relative folders begin at `folder`. Errors: a sentence fragment.
pub fn parse_cache_from(text: &str, folder: &Path) -> Result<CachePlace, String> {
    let fields = fields(text)?;
    let value = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    match value("type") {
        None if !text.contains('=') => Ok(CachePlace::Registry(reference(text)?)),
        Some("registry") => Ok(CachePlace::Registry(reference(value("ref").ok_or("type=registry needs ref=NAME")?)?)),
        Some("local") => {
            let path = folder.join(value("src").ok_or("type=local needs src=FOLDER")?);
            Ok(CachePlace::Folder { path, tag: value("tag").map(str::to_owned) })
        }
        other => Err(unknown(other, "registry or local")),
    }
}

/// Reads a value of `--cache-to`: `type=registry,ref=NAME`, `type=local,dest=FOLDER` or `type=inline`, with
/// `mode=min|max` and `ignore-error=true`; an image's name alone is a registry's. Errors: a sentence fragment.
pub fn parse_cache_to(text: &str, folder: &Path) -> Result<CacheExport, String> {
    let fields = fields(text)?;
    let value = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let place = match value("type") {
        None if !text.contains('=') => Some(CachePlace::Registry(reference(text)?)),
        Some("registry") => Some(CachePlace::Registry(reference(value("ref").ok_or("type=registry needs ref=NAME")?)?)),
        Some("local") => {
            let path = folder.join(value("dest").ok_or("type=local needs dest=FOLDER")?);
            Some(CachePlace::Folder { path, tag: value("tag").map(str::to_owned) })
        }
        Some("inline") => None,
        other => return Err(unknown(other, "registry, local or inline")),
    };
    let all = match value("mode") {
        None | Some("min") => false,
        Some("max") => true,
        Some(other) => return Err(format!("mode={other}: it is min or max")),
    };
    Ok(CacheExport { place, all, ignore_error: value("ignore-error") == Some("true") })
}

fn unknown(kind: Option<&str>, expected: &str) -> String {
    match kind {
        Some(kind) => format!("type={kind} is not supported; it is {expected}"),
        None => format!("it needs a type: {expected}"),
    }
}

fn reference(text: &str) -> Result<Reference, String> {
    text.parse::<Reference>().map_err(|error| error.to_string())
}

fn fields(text: &str) -> Result<Vec<(String, String)>, String> {
    if !text.contains('=') {
        return Ok(Vec::new());
    }
    let pair = |field: &str| {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("`{field}` is not KEY=VALUE"))?;
        Ok((key.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    text.split(',').filter(|field| !field.is_empty()).map(pair).collect()
}

/// A source that is opened when it is asked for the first time.
pub(super) struct LazySource<'a> {
    place: &'a CachePlace,
    opened: OnceLock<Option<CacheSource>>,
}

impl<'a> LazySource<'a> {
    pub(super) fn new(place: &'a CachePlace) -> Self {
        Self { place, opened: OnceLock::new() }
    }

    fn source(&self, progress: &dyn Progress) -> Option<&CacheSource> {
        let open = || CacheSource::open(self.place).inspect_err(|error| self.warn(progress, error)).ok();
        self.opened.get_or_init(open).as_ref()
    }

    fn warn(&self, progress: &dyn Progress, error: &dyn std::error::Error) {
        let reason = super::remote::told(error);
        progress.warning("", &format!("the cache {} is not used: {reason}", self.place));
    }

    /// What the step `key` made, if the source knows it; nothing is fetched.
    pub(super) fn trace(&self, key: &Digest, progress: &dyn Progress) -> Option<StepRecord> {
        self.source(progress)?.trace(key)
    }

    /// The step `key`, if the source has it; it is remembered here from now on.
    pub(super) fn step(&self, store: &Store, key: &Digest, progress: &dyn Progress) -> Option<StepRecord> {
        let found = self.source(progress)?.fetch(store, key).and_then(|found| {
            if let Some(record) = &found {
                store.cache().remember(record)?;
            }
            Ok(found)
        });
        found.inspect_err(|error| self.warn(progress, error)).ok().flatten()
    }
}

/// The text for the image's config that `type=inline` asks for.
pub(super) fn inline(exports: &[CacheExport], built: &Built) -> Option<String> {
    let is_wanted = exports.iter().any(|export| export.place.is_none());
    is_wanted.then(|| image::inline_cache(&built.layers, &built.steps))
}

/// Writes the results of the steps of a build to where they are wanted.
///
/// Errors: `CacheExport` with the place.
pub(super) fn write(
    store: &Store,
    exports: &[CacheExport],
    built: &Built,
    progress: &dyn Progress,
) -> Result<(), Error> {
    for export in exports {
        let Some(place) = &export.place else { continue };
        let is_in_image =
            |step: &StepRecord| step.layers.iter().all(|layer| built.layers.iter().any(|l| l.diff_id == layer.diff_id));
        let title = format!("exporting cache to {place}");
        progress.working(&title, "Exporting");
        let is_wanted = |step: &StepRecord| export.all || is_in_image(step);
        match image::write_cache(store, place, &built.steps, &is_wanted, progress) {
            Ok(_) => progress.done(&title, "Exported"),
            Err(source) if export.ignore_error => {
                let reason = super::remote::told(&source);
                progress.warning("", &format!("the cache was not written to {place}: {reason}"));
            }
            Err(source) => return Err(Error::CacheExport { place: place.to_string(), source }),
        }
    }
    Ok(())
}

/// The folder that relative paths of cache options begin at, for the command line.
pub fn here() -> PathBuf {
    std::env::current_dir().unwrap_or_default()
}
