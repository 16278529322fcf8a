//! Dockerfile -> image: the front end, the build graph, the step cache and the execution of steps.
//!
//! ```text
//! text -> dockerfile: instructions with positions -> plan: stages, reachable ones only, arguments resolved
//!      -> stages in parallel, each step: key = parent key + instruction + digests of what it reads
//!           found in the store's step cache: take its layer      else: execute, commit the layer by content
//!      -> image config + layers -> store, tags
//! ```
//!
//! There is no context upload: files are hashed where they lie (a stat cache remembers unchanged ones) and
//! copied once, into the layer. A build killed at any moment leaves only temporary folders of the store.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/>, BuildKit's newest stable front end.

mod agent;
mod archive;
mod cache;
mod content;
mod copier;
mod copy;
mod copy_step;
mod dockerfile;
mod epoch;
mod error;
mod execute;
mod export;
mod fetch;
mod finish;
mod git;
pub mod ignore;
mod interpret;
mod lint;
mod mode;
mod plan;
mod platform;
mod ports;
mod remote;
mod request;
mod run;
mod run_network;
mod run_spec;
mod select;
mod target;
#[cfg(test)]
mod tests;
mod trace;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::base::fs;
use crate::image::{self, Platforms, PullOptions, PullPolicy};
use crate::model::event::Progress;
use crate::model::image::{Image, ImageConfig};
use crate::model::reference::Reference;
use crate::store::Store;
use dockerfile::Dockerfile;
use platform::Platform;

pub use cache::{CacheExport, here, parse_cache_from, parse_cache_to};
pub use error::{Error, Mark, RunFailure};
pub use export::write_folder;
pub use finish::write_root;
pub use git::{GitError, GitSource};
pub use ignore::Patterns as IgnorePatterns;
pub use lint::{Rule, Warning};
pub use remote::{RemoteContext, fetch_context, is_remote, read_context};
pub use request::{BuildNetwork, BuildRequest, DockerfileSource, SecretSource, SshSource};

/// Largest Dockerfile that is read. Real ones have a few kilobytes.
pub const DOCKERFILE_BYTES_MAX: u64 = 4 << 20;

/// Images that stages begin with or read from.
type Images = BTreeMap<(Reference, Platform), Image>;

/// Parses and validates the Dockerfile of a request and resolves its stages, without network, store or
/// any change (`--check`).
///
/// Errors: `Syntax` with the place in the file, `Empty`, `DockerfileMissing`, `Ignore`.
pub fn check(request: &BuildRequest) -> Result<Checked, Error> {
    let mut plan = plan::Plan::new(read_dockerfile(request)?, request)?;
    plan.ignore = Some(ignore_file(request)?);
    let mut states: BTreeMap<usize, interpret::State> = BTreeMap::new();
    for index in plan.reachable() {
        let state = match &plan.stages[index].base {
            plan::Base::Stage(base) => states.get(base).map(interpret::State::of_stage).unwrap_or_default(),
            // What an image brings along is not known without the network.
            _ => interpret::State::of_image(&ImageConfig::default(), plan.platform_of(index)),
        };
        states.insert(index, interpret::interpret(&plan, index, state)?.state);
    }
    let from = &plan.stages[0].from;
    let name = from.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let excerpt = |warning: &Warning| lint::excerpt(&name, from.all_lines(), warning.lines);
    let warnings = plan.lint.warnings();
    let found = warnings.into_iter().map(|warning| (excerpt(&warning), warning)).collect();
    Ok(Checked { found, violation: plan.lint.violation() })
}

/// What [`check`] found.
#[derive(Debug)]
pub struct Checked {
    /// The lines that a finding is about, ready to be shown, and the finding.
    pub found: Vec<(String, Warning)>,
    /// The rules that were violated, where the Dockerfile says that this is an error.
    pub violation: Option<String>,
}

fn ignore_file(request: &BuildRequest) -> Result<ignore::Patterns, Error> {
    let dockerfile = match &request.dockerfile {
        DockerfileSource::Path(path) => Some(path.as_path()),
        DockerfileSource::Inline(_) => None,
    };
    match request.ignore_file {
        true => ignore::Patterns::of_build(&request.context, dockerfile),
        false => Ok(ignore::Patterns::default()),
    }
}

/// Reads and parses the Dockerfile of a request.
fn read_dockerfile(request: &BuildRequest) -> Result<Dockerfile, Error> {
    let (path, text) = match &request.dockerfile {
        DockerfileSource::Inline(text) => (PathBuf::from("Dockerfile"), text.clone()),
        DockerfileSource::Path(path) => {
            let mut path = path.clone();
            if path.ends_with("Dockerfile") && !path.exists() && path.with_file_name("dockerfile").exists() {
                path.set_file_name("dockerfile");
            }
            let content = match fs::read_limited(&path, DOCKERFILE_BYTES_MAX) {
                Err(error) if error.is_not_found() => return Err(Error::DockerfileMissing { path }),
                content => content?,
            };
            (path, String::from_utf8_lossy(&content).into_owned())
        }
    };
    dockerfile::parse_dockerfile(&path, &text)
}

/// Builds the image of a request, tags it and returns its record.
///
/// Steps are reported as resources whose parent is `request.resource`: `Working`, lines of `Output`, then `Done`
/// (`CACHED` or the time it took) or `Error`. Threads are used; RUN steps are started from them.
/// Errors: `Syntax` and the like before anything is done; `Run` when a command fails, with its output and code;
/// `Image` when a base image cannot be had; the store's, the runtime's and the network's.
pub fn build(store: &Store, request: &BuildRequest, progress: &dyn Progress) -> Result<Image, Error> {
    let (image, built) = build_one(store, request, progress)?;
    cache::write(store, &request.cache_to, &built, progress)?;
    Ok(image)
}

/// [`build`] for several platforms, one after the other: what they have in common is built once. The tags mean all
/// of them; the images come in the order of `platforms`.
pub fn build_for(
    store: &Store,
    request: &BuildRequest,
    platforms: &[String],
    progress: &dyn Progress,
) -> Result<Vec<Image>, Error> {
    let mut different: Vec<Platform> = Vec::new();
    for text in platforms {
        let platform = Platform::parse(text).ok_or_else(|| Error::Platform { platform: text.clone() })?;
        if !different.contains(&platform) {
            different.push(platform);
        }
    }
    let (mut images, mut all) = (Vec::new(), execute::Built::default());
    for platform in &different {
        let resource = format!("{} {platform}", request.resource);
        let request =
            BuildRequest { platform: Some(platform.to_string()), tags: Vec::new(), resource, ..request.clone() };
        let (image, built) = build_one(store, &request, progress)?;
        images.push(image);
        all.layers.extend(built.layers);
        all.steps.extend(built.steps);
    }
    cache::write(store, &request.cache_to, &all, progress)?;
    if request.keep_image {
        for tag in &request.tags {
            image::name(store, tag, None, &images).map_err(Error::Name)?;
        }
    }
    Ok(images)
}

fn build_one(store: &Store, request: &BuildRequest, progress: &dyn Progress) -> Result<(Image, execute::Built), Error> {
    let mut plan = plan::Plan::new(read_dockerfile(request)?, request)?;
    plan.ignore = Some(ignore_file(request)?);
    let epoch = epoch::resolve(store, &plan.wanted_epoch, request)?;
    plan.set_epoch(epoch);
    let (fetched, layouts) = fetch_contexts(store, request, &mut plan, progress)?;
    let images = resolve_images(store, request, &mut plan, layouts, progress)?;
    let mut states: BTreeMap<usize, interpret::State> = BTreeMap::new();
    let mut stages = BTreeMap::new();
    for index in plan.reachable() {
        let state = match &plan.stages[index].base {
            plan::Base::Stage(base) => states.get(base).map(interpret::State::of_stage).unwrap_or_default(),
            plan::Base::Image(reference) => {
                let platform = plan.platform_of(index);
                let image = &images[&(reference.clone(), platform.clone())];
                interpret::State::of_image(&image.config, platform)
            }
            plan::Base::Scratch | plan::Base::Folder(_) | plan::Base::Remote(_) => {
                interpret::State::of_nothing(plan.platform_of(index))
            }
        };
        let interpreted = interpret::interpret(&plan, index, state)?;
        states.insert(index, interpreted.state.clone());
        stages.insert(index, interpreted);
    }
    if let Some(rules) = plan.lint.violation() {
        return Err(Error::Lint { rules });
    }
    for warning in plan.lint.warnings() {
        let (rule, line) = (warning.rule.name(), warning.lines.0);
        progress.warning("", &format!("{rule}: {} (line {line})", warning.detail));
    }
    let ignore = plan.ignore.clone().unwrap_or_default();
    let executor = execute::Executor::new(store, request, &plan, stages, &images, ignore, progress);
    let built = executor.run()?;
    drop(fetched);
    let state = states.remove(&plan.target).unwrap_or_default();
    let image = finish::finish(store, request, state, &built, plan.epoch)?;
    Ok((image, built))
}

/// Fetches the named contexts that reachable stages read from and that are not on this host; they become folders
/// and images of the plan.
fn fetch_contexts(
    store: &Store,
    request: &BuildRequest,
    plan: &mut plan::Plan,
    progress: &dyn Progress,
) -> Result<(Vec<RemoteContext>, BTreeMap<Reference, Image>), Error> {
    let (mut folders, mut images) = (Vec::new(), BTreeMap::new());
    for address in plan.remotes() {
        let title = format!("[context] {address}");
        progress.working(&title, "Fetching");
        if let Some(layout) = address.strip_prefix("oci-layout://") {
            let (path, wanted) = split_layout(layout);
            let fail =
                |error: &dyn std::error::Error| Error::Context { name: address.clone(), reason: remote::told(error) };
            let platform = plan.platform.to_string();
            let image = image::load_layout(store, std::path::Path::new(path), wanted, &platform);
            let image = image.map_err(|error| fail(&error))?;
            // A name of its own, which no registry can have.
            let name = format!("layout.invalid/{}:layout", image.id.hex());
            let reference: Reference =
                name.parse().map_err(|error: crate::model::reference::InvalidReference| fail(&error))?;
            plan.settle(&address, &plan::Origin::Image(reference.clone()));
            images.insert(reference, image);
        } else {
            let context = fetch_context(store, &address, &request.secrets)?;
            plan.settle(&address, &plan::Origin::Folder(context.folder.clone()));
            folders.push(context);
        }
        progress.done(&title, "Fetched");
    }
    Ok((folders, images))
}

/// `path`, `path:tag` or `path@digest`.
fn split_layout(text: &str) -> (&str, Option<&str>) {
    if let Some((path, digest)) = text.split_once('@') {
        return (path, Some(digest));
    }
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    }
}

/// Makes all images present that reachable stages need, and adds their ONBUILD triggers, which may need more.
fn resolve_images(
    store: &Store,
    request: &BuildRequest,
    plan: &mut plan::Plan,
    layouts: BTreeMap<Reference, Image>,
    progress: &dyn Progress,
) -> Result<Images, Error> {
    let mut images = Images::new();
    let mut triggered = BTreeSet::new();
    loop {
        let mut missing: Vec<(Reference, Platform)> = Vec::new();
        for wanted in plan.images() {
            match layouts.get(&wanted.0) {
                Some(image) => drop(images.entry(wanted).or_insert_with(|| image.clone())),
                None if images.contains_key(&wanted) => {}
                None => missing.push(wanted),
            }
        }
        let fetch = |(reference, platform): &(Reference, Platform)| -> Result<Image, Error> {
            let policy = if request.pull && !request.fresh.contains(reference) {
                PullPolicy::Always
            } else {
                PullPolicy::Missing
            };
            let platforms = Platforms::Of(vec![platform.to_string()]);
            let options = PullOptions { platforms, policy, ..PullOptions::default() };
            image::pull(store, reference, &options, progress).map_err(|source| Error::Image {
                mark: plan.mark_of_image(reference),
                reference: reference.to_string(),
                source,
            })
        };
        let results: Vec<Result<Image, Error>> = match missing.as_slice() {
            [one] => vec![fetch(one)],
            many => std::thread::scope(|scope| {
                let threads: Vec<_> = many.iter().map(|wish| scope.spawn(|| fetch(wish))).collect();
                // A thread only ends without a result when it panicked, and then this one does, too.
                threads.into_iter().map(|thread| thread.join().expect("the thread of a pull does not panic")).collect()
            }),
        };
        let none_missing = missing.is_empty();
        for (wanted, result) in missing.into_iter().zip(results) {
            let image = result?;
            for layer in &image.layers {
                store.lease()?.protect(&layer.diff_id)?;
            }
            images.insert(wanted, image);
        }
        if !add_triggers(plan, &images, &mut triggered)? && none_missing {
            return Ok(images);
        }
    }
}

/// Adds the ONBUILD triggers of bases that are known now; says whether there were any.
fn add_triggers(plan: &mut plan::Plan, images: &Images, triggered: &mut BTreeSet<usize>) -> Result<bool, Error> {
    let mut added = false;
    for index in plan.reachable() {
        if !triggered.insert(index) {
            continue;
        }
        let (name, texts) = match &plan.stages[index].base {
            plan::Base::Image(reference) => match images.get(&(reference.clone(), plan.platform_of(index).clone())) {
                Some(image) => (reference.to_string(), image.config.config.on_build.clone()),
                None => {
                    triggered.remove(&index);
                    continue;
                }
            },
            plan::Base::Stage(base) => (plan.stages[*base].label.clone(), plan.own_triggers(*base)),
            _ => continue,
        };
        if !texts.is_empty() {
            let escape = plan.escape;
            plan.add_triggers(index, dockerfile::parse_triggers(&name, &texts, escape)?)?;
            added = true;
        }
    }
    Ok(added)
}
