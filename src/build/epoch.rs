//! `SOURCE_DATE_EPOCH`: the one time that everything made by a build gets, so that the same sources make the same
//! digest twice.
//!
//! It is a number of seconds, or where to take one from: `context` (a git context's commit), a named context or a
//! stage that does nothing but `ADD` one remote source. Files that a step writes later than that get that time.
//!
//! Source: <https://reproducible-builds.org/specs/source-date-epoch/>, BuildKit `dockerfile2llb/epoch.go`.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::dockerfile::expand::{Syntax, expand};
use super::dockerfile::instruction::Kind;
use super::error::Error;
use super::git::{GitSource, is_git};
use super::interpret::is_url;
use super::plan::{Base, Origin, Plan, Stage};
use super::remote::{TemporaryFolder, told};
use super::request::BuildRequest;
use super::target::times;
use super::tree::{look_at, names_in};
use crate::base::fs::{self, Context};
use crate::store::Store;

/// The name of the build argument.
pub const NAME: &str = "SOURCE_DATE_EPOCH";
/// Deepest nesting of folders.
const DEPTH_MAX: usize = 1000;

/// Where the time comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Epoch {
    /// There is none.
    None,
    /// Seconds since 1970.
    At(i64),
    /// The commit or the `Last-Modified` of this.
    Remote(String),
}

/// Reads the argument, without fetching anything.
///
/// Errors: `Syntax` for a word that is none of what it may be.
pub fn wanted(plan: &Plan, request: &BuildRequest) -> Result<Epoch, Error> {
    let text = plan.args.get(NAME).or_else(|| plan.globals.get(NAME)).map_or("", String::as_str);
    if text.is_empty() {
        return Ok(Epoch::None);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Epoch::At(seconds));
    }
    if text == "context" {
        return Ok(request.context_time_seconds.map_or(Epoch::None, Epoch::At));
    }
    match plan.context(text) {
        Some(Origin::Remote(address)) => return Ok(Epoch::Remote(address.clone())),
        Some(_) => return Ok(Epoch::None),
        None => {}
    }
    let stage = plan.stages.iter().find(|s| s.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(text)));
    match stage {
        Some(stage) => of_stage(plan, stage).map(Epoch::Remote),
        None => Err(plan.stages[0].from.error_of_file(format!("invalid SOURCE_DATE_EPOCH: {text}"))),
    }
}

/// The remote source of a stage that does nothing else.
fn of_stage(plan: &Plan, stage: &Stage) -> Result<String, Error> {
    if stage.base != Base::Scratch {
        return Err(stage.from.error("", "SOURCE_DATE_EPOCH stage must use FROM scratch"));
    }
    let mut variables = plan.globals.clone();
    let mut found = None;
    for planned in &stage.instructions {
        let line = &planned.instruction.line;
        let expanded = |variables: &std::collections::BTreeMap<String, String>, word: &str| {
            expand(word, Syntax::new(plan.escape), &|name| variables.get(name).cloned())
                .map(|expanded| expanded.text)
                .map_err(|error| line.error(word, error.to_string()))
        };
        match &planned.instruction.kind {
            Kind::Arg(pairs) => {
                for (name, default) in pairs {
                    let value = match (plan.args.get(name), default) {
                        (Some(given), _) => given.clone(),
                        (None, Some(default)) => expanded(&variables, default)?,
                        (None, None) => continue,
                    };
                    variables.insert(name.clone(), value);
                }
            }
            Kind::Copy(copy) if copy.add => {
                let ([source], true) = (copy.sources.as_slice(), copy.heredocs.is_empty()) else {
                    return Err(line.error("", "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source"));
                };
                let source = expanded(&variables, source)?;
                if !is_url(&source) && !is_git(&source) {
                    let message = "SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD";
                    return Err(line.error(&source, message));
                }
                if found.replace(source).is_some() {
                    return Err(line.error("", "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD"));
                }
            }
            _ => {
                let name = line.command();
                let message = format!(
                    "SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported {name} instruction"
                );
                return Err(line.error(name, message));
            }
        }
    }
    found.ok_or_else(|| stage.from.error("", "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD"))
}

/// The time in seconds, fetched where that is what it takes.
pub fn resolve(store: &Store, epoch: &Epoch, request: &BuildRequest) -> Result<Option<i64>, Error> {
    let address = match epoch {
        Epoch::None => return Ok(None),
        Epoch::At(seconds) => return Ok(Some(*seconds)),
        Epoch::Remote(address) => address,
    };
    let fail = |reason: String| Error::Context { name: address.clone(), reason };
    if is_git(address) {
        let folder = TemporaryFolder::new(store)?;
        let source = GitSource::parse(address).map_err(|error| fail(told(&error)))?;
        return Ok(Some(source.fetch(folder.path()).map_err(|error| fail(told(&error)))?.time_seconds));
    }
    let file = super::fetch::fetch(store, address, None, &request.secrets).map_err(|error| fail(told(&error)))?;
    Ok(Some(file.modified_seconds).filter(|seconds| *seconds > 0))
}

/// Gives everything below `folder` that is newer than `seconds` that time.
pub fn clamp(folder: &Path, seconds: i64) -> fs::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(folder, flags, Mode::empty()).context("open", folder)?;
    let limit_ns = i128::from(seconds) * 1_000_000_000;
    below(handle.as_fd(), folder, limit_ns, 0)?;
    if look_at(handle.as_fd(), Path::new("")).context("look at", folder)?.is_some_and(|m| m.mtime_ns > limit_ns) {
        rustix::fs::futimens(&handle, &times(limit_ns)).context("change the time of", folder)?;
    }
    Ok(())
}

fn below(folder: BorrowedFd<'_>, path: &Path, limit_ns: i128, depth: usize) -> fs::Result<()> {
    if depth > DEPTH_MAX {
        return Err(rustix::io::Errno::LOOP).context("descend into", path);
    }
    for name in names_in(folder).context("list", path)? {
        let path = path.join(&name);
        let name = Path::new(&name);
        let Some(meta) = look_at(folder, name).context("look at", &path)? else { continue };
        if meta.kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let child = rustix::fs::openat(folder, name, flags, Mode::empty()).context("open", &path)?;
            below(child.as_fd(), &path, limit_ns, depth + 1)?;
        }
        if meta.mtime_ns > limit_ns {
            rustix::fs::utimensat(folder, name, &times(limit_ns), AtFlags::SYMLINK_NOFOLLOW)
                .context("change the time of", &path)?;
        }
    }
    Ok(())
}
