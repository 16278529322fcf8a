//! The stages of a plan, executed: several at once, each step taken from the cache or done.
//!
//! ```text
//! images: local first, else pulled, all at once; ONBUILD triggers may ask for more
//! stage:  waits for the stages it reads from, then for each step
//!           key = identity of the layers so far + instruction + digest of what it reads
//!           remembered and its layer there?  take it
//!           else lock the key, look again, execute, commit by content, remember
//! ```
//!
//! The identity of a stage is the list of its diff ids, not of its keys: a step that runs again but makes the same
//! layer lets all later steps be taken from the cache. `COPY --from` has two keys: a cheap one of the other
//! stage's identity, and one of the content of the files it selects, which holds when that stage was made anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::Images;
use super::cache::LazySource;
use super::content::{StatCache, field};
use super::copy::make_workdir;
use super::dockerfile::lines::Line;
use super::error::Error;
use super::ignore::Patterns;
use super::interpret::{Action, Interpreted, Step};
use super::plan::{Base, Origin, Plan};
use super::platform::Platform;
use super::request::BuildRequest;
use super::target::{Owner, Target};
use super::tree::Tree;
use crate::base::id::Digest;
use crate::model::event::{Event, EventStatus, Progress};
use crate::model::image::{Image, LayerRecord};
use crate::model::reference::Reference;
use crate::store::{LayerWriter, StepRecord, Store};

/// Changes when a step's result would be another for the same instruction.
const KEY_VERSION: &[u8] = b"wharf-step-1";

/// The result of a stage.
#[derive(Debug, Clone, Default)]
pub struct Built {
    /// Its layers, bottom first.
    pub layers: Vec<LayerRecord>,
    /// When the layers of its own steps were made, in order.
    pub created: Vec<jiff::Timestamp>,
    /// Of the target: the steps of all stages.
    pub steps: Vec<StepRecord>,
    /// Whether layers of it may not be here, see [`super::trace`].
    pub is_traced: bool,
}

/// Everything that the steps of one build share.
pub struct Executor<'a> {
    /// The store.
    pub store: &'a Store,
    /// What is built.
    pub request: &'a BuildRequest,
    /// Its plan.
    pub plan: &'a Plan,
    /// Reachable stages, interpreted.
    pub stages: BTreeMap<usize, Interpreted>,
    /// Images that stages begin with or read from.
    pub images: &'a Images,
    /// The ignore file.
    pub ignore: Patterns,
    /// Where progress goes.
    pub progress: &'a dyn Progress,
    pub(super) sources: Vec<LazySource<'a>>,
    context: OnceLock<Context>,
    state: Mutex<State>,
    pub(super) changed: Condvar,
    cancelled: AtomicBool,
}

/// The build context, opened when the first step reads from it.
pub(super) struct Context {
    pub(super) tree: Tree,
    pub(super) cache: StatCache,
}

#[derive(Default)]
pub(super) struct State {
    started: BTreeSet<usize>,
    pub(super) built: BTreeMap<usize, Built>,
    /// Traced stages that are being made.
    pub(super) making: BTreeSet<usize>,
    pub(super) steps: Vec<StepRecord>,
    error: Option<Error>,
}

/// A step that is about to be executed.
pub struct Running<'a> {
    /// The step.
    pub step: &'a Step,
    /// The stage it belongs to.
    pub stage: usize,
    /// How progress names it.
    pub resource: String,
    /// The layers below it, bottom first.
    pub layers: &'a [LayerRecord],
}

impl<'a> Executor<'a> {
    /// Prepares to execute the reachable stages of `plan`.
    pub fn new(
        store: &'a Store,
        request: &'a BuildRequest,
        plan: &'a Plan,
        stages: BTreeMap<usize, Interpreted>,
        images: &'a Images,
        ignore: Patterns,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            store,
            request,
            plan,
            stages,
            images,
            ignore,
            progress,
            sources: request.cache_from.iter().map(LazySource::new).collect(),
            context: OnceLock::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Builds all stages and returns the result of the target.
    ///
    /// Errors: that of the first step that failed; the others stop at their next step.
    pub fn run(&self) -> Result<Built, Error> {
        let order = self.plan.reachable();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let threads = order.len().min(cores.max(2));
        if threads <= 1 {
            self.work(&order);
        } else {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| self.work(&order));
                }
            });
        }
        if let Some(context) = self.context.get()
            && let Some(bytes) = context.cache.encode()
        {
            self.store.cache().set_stat(&self.request.context, &bytes)?;
        }
        let mut state = self.lock();
        match state.error.take() {
            Some(error) => Err(error),
            None => {
                let steps = std::mem::take(&mut state.steps);
                Ok(Built { steps, ..state.built.remove(&self.plan.target).unwrap_or_default() })
            }
        }
    }

    /// Whether another step failed, so that this one need not go on.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes stages whose needs are built until there is none left.
    fn work(&self, order: &[usize]) {
        while let Some(index) = self.next_stage(order) {
            let result = match self.trace(index) {
                Ok(Some(traced)) => Ok(traced),
                Ok(None) => self.stage(index),
                Err(error) => Err(error),
            };
            let mut state = self.lock();
            match result {
                Ok(built) => {
                    state.built.insert(index, built);
                }
                Err(error) => {
                    self.cancelled.store(true, Ordering::Relaxed);
                    state.error.get_or_insert(error);
                }
            }
            self.changed.notify_all();
        }
    }

    fn next_stage(&self, order: &[usize]) -> Option<usize> {
        let mut state = self.lock();
        loop {
            if state.error.is_some() || order.iter().all(|index| state.started.contains(index)) {
                return None;
            }
            let ready = order.iter().copied().find(|index| {
                !state.started.contains(index)
                    && self.plan.needs(*index).iter().all(|need| state.built.contains_key(need))
            });
            if let Some(index) = ready {
                state.started.insert(index);
                return Some(index);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a stage begins with.
    pub(super) fn begin(&self, index: usize) -> Built {
        match &self.plan.stages[index].base {
            Base::Stage(base) => self.lock().built.get(base).cloned().unwrap_or_default(),
            Base::Image(reference) => {
                Built { layers: self.image(reference, self.plan.platform_of(index)).layers.clone(), ..Built::default() }
            }
            // The first step copies a folder.
            Base::Scratch | Base::Folder(_) | Base::Remote(_) => Built::default(),
        }
    }

    /// How progress names a step.
    pub(super) fn resource(&self, index: usize, number: usize, step: &Step) -> String {
        let total = self.stages.get(&index).map_or(0, |stage| stage.steps.len());
        let label = &self.plan.stages[index].label;
        let name = if self.stages.len() > 1 { format!("{label} ") } else { String::new() };
        format!("[{name}{}/{total}] {}", number + 1, step.title)
    }

    /// Makes a stage.
    pub(super) fn stage(&self, index: usize) -> Result<Built, Error> {
        if let Base::Stage(base) = self.plan.stages[index].base {
            self.make(base)?;
        }
        let mut built = self.begin(index);
        let Some(interpreted) = self.stages.get(&index) else { return Ok(built) };
        for (number, step) in interpreted.steps.iter().enumerate() {
            if self.is_cancelled() {
                break;
            }
            let resource = self.resource(index, number, step);
            let begin = Instant::now();
            self.report(&resource, EventStatus::Working, "");
            let running = Running { step, stage: index, resource: resource.clone(), layers: &built.layers };
            match self.step(&running) {
                Ok((record, cached)) => {
                    let text = if cached {
                        "CACHED".to_owned()
                    } else {
                        format!("DONE {:.1}s", begin.elapsed().as_secs_f64())
                    };
                    self.report(&resource, EventStatus::Done, &text);
                    self.lock().steps.push(record.clone());
                    built.layers.extend(record.layers);
                    built.created.push(record.created);
                }
                Err(error) => {
                    self.report(&resource, EventStatus::Error, "ERROR");
                    return Err(error);
                }
            }
        }
        Ok(built)
    }

    /// Reports about a step.
    pub fn report(&self, resource: &str, status: EventStatus, text: &str) {
        let mut event = Event::new(resource, status, text);
        event.parent = Some(self.request.resource.clone());
        self.progress.report(event);
    }

    fn image(&self, reference: &Reference, platform: &Platform) -> &Image {
        // Images are resolved for the whole plan before execution begins.
        &self.images[&(reference.clone(), platform.clone())]
    }

    /// The layers of another stage or an image, made for somebody who reads from them.
    pub fn made_layers_of(&self, origin: &Origin) -> Result<Vec<LayerRecord>, Error> {
        if let Origin::Stage(index) = origin {
            self.make(*index)?;
        }
        Ok(self.layers_of(origin))
    }

    /// What the layers of another stage or an image are; they may not be here.
    pub fn layers_of(&self, origin: &Origin) -> Vec<LayerRecord> {
        match origin {
            Origin::Stage(index) => self.lock().built.get(index).map(|built| built.layers.clone()).unwrap_or_default(),
            Origin::Image(reference) => self.image(reference, &self.plan.platform).layers.clone(),
            Origin::Folder(_) | Origin::Remote(_) | Origin::Scratch => Vec::new(),
        }
    }

    /// The folders of layers, bottom first.
    pub fn folders(&self, layers: &[LayerRecord]) -> Vec<PathBuf> {
        folders(self.store, layers)
    }

    /// Layers as one tree.
    pub fn tree(&self, layers: &[LayerRecord]) -> Result<Tree, Error> {
        let empty = self.store.temporary_path()?;
        if layers.is_empty() {
            crate::base::fs::create_dir_all(&empty)?;
        }
        let tree = Tree::layers(&self.folders(layers), &empty)?;
        if layers.is_empty() {
            crate::base::fs::remove_dir_all(&empty)?;
        }
        Ok(tree)
    }

    pub(super) fn context(&self) -> Result<&Context, Error> {
        if let Some(context) = self.context.get() {
            return Ok(context);
        }
        let tree = Tree::folder(&self.request.context)?;
        let cache =
            self.store.cache().stat(&self.request.context)?.map_or_else(StatCache::default, |b| StatCache::decode(&b));
        Ok(self.context.get_or_init(|| Context { tree, cache }))
    }

    fn step(&self, running: &Running<'_>) -> Result<(StepRecord, bool), Error> {
        match &running.step.action {
            Action::Run(action) => {
                let key = self.run_key(running, action)?;
                self.cached_or(running, &key, || Ok((self.run_step(running, action)?, true)))
            }
            Action::Workdir { path, user } => {
                self.cached_or(running, &self.workdir_key(running, path, user), || {
                    let writer = self.fill(running, |target, below| {
                        // As BuildKit does: a user that does not exist yet does not own it; RUN tells.
                        let owner = match self.owner(&running.step.line, below, user) {
                            Err(Error::User { .. }) => Owner { uid: 0, gid: 0 },
                            owner => owner?,
                        };
                        make_workdir(target, path, owner).map_err(|error| self.copy_error(&running.step.line, error))
                    })?;
                    Ok((self.commit(writer)?, true))
                })
            }
            Action::Copy(action) => self.copy_step(running, action),
        }
    }

    /// The key of WORKDIR.
    pub(super) fn workdir_key(&self, running: &Running<'_>, path: &str, user: &str) -> Digest {
        let mut key = self.key(running, "workdir");
        field(&mut key, path.as_bytes());
        field(&mut key, user.as_bytes());
        digest(key)
    }

    /// The beginning of every key: version, platform, the layers so far, the kind of step.
    pub fn key(&self, running: &Running<'_>, kind: &str) -> Sha256 {
        let mut hasher = Sha256::new();
        field(&mut hasher, KEY_VERSION);
        field(&mut hasher, kind.as_bytes());
        field(&mut hasher, identity(running.layers).as_bytes());
        if let Some(epoch) = self.plan.epoch {
            field(&mut hasher, &epoch.to_le_bytes());
        }
        hasher
    }

    /// Takes a step from the cache or executes it, once for all builds that want it at the same time. `execute` says
    /// whether its layer may be remembered as what the key stands for.
    pub(super) fn cached_or(
        &self,
        running: &Running<'_>,
        key: &Digest,
        execute: impl FnOnce() -> Result<(LayerRecord, bool), Error>,
    ) -> Result<(StepRecord, bool), Error> {
        if let Some(record) = self.remembered(running, key)? {
            return Ok((record, true));
        }
        let begin = jiff::Timestamp::now();
        let _lock = self.store.lock_digest(key)?;
        // Another build may have done it meanwhile; that is new enough even with --no-cache.
        if let Some(record) = self.store.cache().step(key)?
            && (!self.is_forgetful(running) || record.created >= begin)
        {
            return Ok((record, true));
        }
        let (layer, is_sound) = execute()?;
        let record = StepRecord {
            key: key.clone(),
            description: running.step.title.clone(),
            created: jiff::Timestamp::now(),
            layers: vec![layer],
            data: serde_json::Value::Null,
        };
        if is_sound {
            self.store.cache().remember(&record)?;
        }
        Ok((record, false))
    }

    /// Whether the step is to be run again.
    pub(super) fn is_forgetful(&self, running: &Running<'_>) -> bool {
        let stage = &self.plan.stages[running.stage];
        let is_it = |wanted: &String| wanted.eq_ignore_ascii_case(&stage.label) || wanted.parse() == Ok(running.stage);
        self.request.no_cache || self.request.no_cache_stages.iter().any(is_it)
    }

    pub(super) fn remembered(&self, running: &Running<'_>, key: &Digest) -> Result<Option<StepRecord>, Error> {
        if self.is_forgetful(running) {
            return Ok(None);
        }
        if let Some(record) = self.store.cache().step(key)? {
            return Ok(Some(record));
        }
        Ok(self.sources.iter().find_map(|source| source.step(self.store, key, self.progress)))
    }

    /// Fills a layer.
    pub(super) fn fill(
        &self,
        running: &Running<'_>,
        fill: impl FnOnce(&mut Target<'_>, &Tree) -> Result<(), Error>,
    ) -> Result<LayerWriter, Error> {
        let writer: LayerWriter = self.store.layers().begin()?;
        let below = self.tree(running.layers)?;
        let mut target = Target::new(writer.folder(), &below)?;
        fill(&mut target, &below)?;
        target.finish()?;
        Ok(writer)
    }

    /// Commits a layer that was filled.
    pub(super) fn commit(&self, writer: LayerWriter) -> Result<LayerRecord, Error> {
        if let Some(epoch) = self.plan.epoch {
            super::epoch::clamp(writer.folder(), epoch)?;
        }
        Ok(writer.commit_by_content()?)
    }

    pub(super) fn copy_error(&self, line: &Line, error: super::copy::CopyError) -> Error {
        Error::Copy { mark: line.mark_of(""), source: Box::new(error), hint: None }
    }

    /// Who `user[:group]` is in the image so far. A number needs no passwd file and is its own group.
    pub(super) fn owner(&self, line: &Line, below: &Tree, user: &str) -> Result<Owner, Error> {
        let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
        let group = group.filter(|group| !group.is_empty());
        let resolve = |text: &str| {
            crate::runtime::user::resolve(below.root(), text, &[]).map_err(|source| Error::User {
                mark: line.mark_of(user),
                user: user.to_owned(),
                source,
            })
        };
        let (uid, own_gid) = match name.parse::<u32>() {
            Ok(uid) => (uid, uid),
            Err(_) if name.is_empty() => (0, 0),
            Err(_) => {
                let user = resolve(name)?;
                (user.uid, user.gid)
            }
        };
        let gid = match group.map(|group| (group, group.parse::<u32>())) {
            None => own_gid,
            Some((_, Ok(gid))) => gid,
            Some((group, Err(_))) => resolve(&format!("0:{group}"))?.gid,
        };
        Ok(Owner { uid, gid })
    }
}

/// The folders of layers, bottom first, each once: overlayfs refuses a folder that it has already. Of layers with
/// the same content only the top-most one shows.
pub fn folders(store: &Store, layers: &[LayerRecord]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut folders: Vec<PathBuf> = layers
        .iter()
        .rev()
        .filter(|layer| seen.insert(&layer.diff_id))
        .map(|layer| store.layers().path(&layer.diff_id))
        .collect();
    folders.reverse();
    folders
}

/// What the layers are, as one text.
pub fn identity(layers: &[LayerRecord]) -> String {
    layers.iter().map(|layer| layer.diff_id.as_str()).collect::<Vec<_>>().join(" ")
}

/// The digest of what was hashed.
pub fn digest(hasher: Sha256) -> Digest {
    let text = format!("sha256:{}", crate::base::id::to_hex(&hasher.finalize()));
    // 32 bytes are 64 hexadecimal digits.
    text.parse().expect("a sha256 digest is well-formed")
}
