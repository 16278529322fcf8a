//! `watch`: keeps running containers as the files on disk say.
//!
//! ```text
//! kernel ──inotify──> notify (where to look, when) ──> tree (what changed) ──> rules (what that means)
//!                                                                                 │
//!   this thread: files copied into the containers at once <───────────────────────┤
//!   actions' thread: reload, rebuild, restart, exec, once it is quiet <───────────┘
//! ```
//!
//! A saved file is copied when its event comes; nothing waits for a batch. What follows from it (a restart, a
//! build) waits until no more events come, so that a branch switch is one of them. The files that the project was
//! read from are watched as well: when one changes, the project is loaded, planned and applied anew.
//!
//! Nothing is believed of an event: it says where to look ([`tree`]). So when the kernel's queue overflows everything
//! is looked at, and where the kernel has no more watches to give the same is done from time to time instead.

mod actions;
mod changes;
mod error;
mod notify;
mod rules;
mod signal;
mod tree;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::error::Explain;
use crate::base::id::ContainerId;
use crate::compose::Loaded;
use crate::engine::sync::Brought;
use crate::engine::{self, Engine};
use crate::graph::dependency::Graph;
use crate::graph::observed::label;
use crate::model::container::ContainerSpec;
use crate::model::event::Progress;
use crate::model::project::Project;
use crate::store::Lock;

use actions::{Actions, News, Wanted};
use changes::Names;
use notify::{Hints, Notifier};
use rules::{Change, Copy, Rules};
use signal::Bell;
use tree::{Depth, Scope, Tree};

pub use error::Error;
pub use signal::Stop;

/// Result of watching.
pub type Result<T> = std::result::Result<T, Error>;

/// How often everything is looked at where there are no events; longer where a look takes long.
const POLL: Duration = Duration::from_millis(250);
/// A look may take this share of the time at most: one in so many.
const POLL_SHARE: u32 = 8;
/// After so many copied files events are taken from the kernel, whose queue is bounded.
const FILES_BETWEEN_READS: usize = 64;

/// Whoever asked for the watch: hears what happens, and knows how to load the project.
pub trait Client: Sync {
    /// Something happened that the user wants to read.
    fn say(&self, text: &str);
    /// Something is not as the user may think.
    fn warn(&self, text: &str);
    /// Something failed; watching goes on.
    fn failed(&self, error: &dyn Explain);
    /// A display for one action.
    fn progress(&self) -> Box<dyn Progress + '_>;
    /// Loads the project anew; `None` when that failed, which the client has shown.
    fn reload(&self) -> Option<Loaded>;
    /// A container is about to be started.
    fn starting(&self, _container: &ContainerSpec) {}
}

/// What to watch and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these services and what they depend on; empty is all.
    pub services: Vec<String>,
    /// Replicas by service, instead of the file's.
    pub scale: BTreeMap<String, u32>,
    /// Remove the images that a rebuild replaced.
    pub prune: bool,
    /// Services without containers are left alone when the project changes (`--no-up`).
    pub existing_only: bool,
    /// Look at everything from time to time instead of waiting for events: for folders of other hosts.
    pub poll: bool,
}

/// A watch that is ready to begin: the rules are good, and nobody else watches the project.
pub struct Watch<'a> {
    engine: &'a Engine,
    options: Options,
    project: Project,
    scope: Scope,
    _lock: Lock,
}

impl<'a> Watch<'a> {
    /// Checks that there is something to watch, and that nobody else does.
    pub fn new(engine: &'a Engine, loaded: &Loaded, options: Options) -> Result<Self> {
        let scope = scope(loaded, &options)?;
        if scope.rules.rules.is_empty() && scope.rules.warnings.is_empty() {
            return Err(Error::NoRules);
        }
        let project = loaded.project.clone();
        let path = engine.store().paths().run.join("watch").join(format!("{}.lock", project.name));
        let watched = || Error::Watched { project: project.name.clone(), lock: path.clone() };
        let lock = Lock::try_exclusive(&path)?.ok_or_else(watched)?;
        Ok(Self { engine, options, project, scope, _lock: lock })
    }

    /// Watches until `stop`. The containers stay as they are then.
    ///
    /// Errors: only what makes watching impossible; the client hears of everything else.
    pub fn run(self, client: &dyn Client, stop: &Stop) -> Result<()> {
        for warning in &self.scope.rules.warnings {
            client.warn(warning);
        }
        let (sender, news) = channel();
        let system = |operation| move |errno: rustix::io::Errno| Error::System { operation, source: errno.into() };
        let wake = Bell::new().map_err(system("make an event descriptor"))?;
        let wanted = Wanted::new().map_err(system("make an event descriptor"))?;
        let touched = Touched::default();
        let project_name = self.project.name.clone();
        let names = Names::of(&self.project);
        let mut looker = Looker {
            engine: self.engine,
            client,
            project_name,
            names,
            scope: Scope::default(),
            tree: Tree::default(),
            notifier: None,
            hints: Hints::default(),
            polls: self.options.poll,
            last_look: Instant::now(),
            look_took: Duration::ZERO,
            touched: &touched,
            known: HashSet::new(),
            wanted: &wanted,
            stop,
        };
        looker.begin(self.scope);
        let actions = Actions {
            engine: self.engine,
            client,
            options: self.options,
            project: self.project,
            stop,
            wanted: &wanted,
            touched: &touched,
            news: sender,
            wake: &wake,
        };
        std::thread::scope(|threads| {
            threads.spawn(move || actions.run());
            looker.greet();
            client.say("Watch enabled");
            let result = looker.run(&wake, &news);
            // The other thread ends with this one.
            stop.set();
            result
        })
    }
}

/// The rules and the files of a project.
fn scope(loaded: &Loaded, options: &Options) -> Result<Scope> {
    let project = &loaded.project;
    let selected = Graph::of(project)?.select(project, &options.services, false)?;
    let services = project.services.values().filter(|service| selected.contains(service.name.as_str()));
    let rules = Rules::of(services)?;
    // What came through standard input cannot be read again.
    let from_input = project.compose_files.iter().any(|file| file.as_os_str() == "-");
    let contents = project.configs.values().chain(project.secrets.values()).filter_map(|object| object.file.as_ref());
    let mut sources: Vec<PathBuf> = match from_input {
        true => Vec::new(),
        false => loaded.sources.iter().cloned().chain(contents.map(PathBuf::from)).map(|file| beside(&file)).collect(),
    };
    sources.sort();
    sources.dedup();
    Ok(Scope { rules, sources })
}

/// A file by its folder's true path: it itself may be a link, which is what an editor replaces.
fn beside(file: &Path) -> PathBuf {
    match (file.parent(), file.file_name()) {
        (Some(folder), Some(name)) => rules::resolved(folder).join(name),
        _ => file.to_owned(),
    }
}

/// What was copied into the containers of each service since its image was built: what a new container lacks.
#[derive(Debug, Default)]
struct Touched(Mutex<BTreeMap<String, BTreeSet<Copy>>>);

impl Touched {
    fn add(&self, service: &str, copies: &BTreeSet<Copy>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(service.to_owned()).or_default().extend(copies.iter().cloned());
    }

    fn of(&self, service: &str) -> BTreeSet<Copy> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(service).cloned().unwrap_or_default()
    }

    fn forget(&self, service: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }
}

/// The thread that waits for changes and copies files.
struct Looker<'a> {
    engine: &'a Engine,
    client: &'a dyn Client,
    project_name: String,
    names: Names,
    scope: Scope,
    tree: Tree,
    /// `None` where everything is looked at from time to time.
    notifier: Option<Notifier>,
    hints: Hints,
    polls: bool,
    last_look: Instant,
    look_took: Duration,
    touched: &'a Touched,
    /// Containers that have what was copied.
    known: HashSet<ContainerId>,
    wanted: &'a Wanted,
    stop: &'a Stop,
}

impl Looker<'_> {
    /// Takes up a scope. What is there by now is no change.
    fn begin(&mut self, scope: Scope) {
        self.scope = scope;
        self.tree = Tree::default();
        self.hints = Hints::default();
        self.notifier = None;
        if !self.polls {
            match Notifier::new() {
                Ok(notifier) => self.notifier = Some(notifier),
                Err(errno) => self.give_up_events(errno),
            }
        }
        self.look_everywhere();
    }

    fn run(&mut self, wake: &Bell, news: &Receiver<News>) -> Result<()> {
        while !self.stop.is_set() {
            self.wait(wake).map_err(|errno| Error::System { operation: "wait for changes", source: errno.into() })?;
            wake.clear();
            while let Ok(news) = news.try_recv() {
                self.take(news);
            }
            self.read();
            let changes = self.changes();
            if !changes.is_empty() {
                self.act(&changes);
            }
        }
        Ok(())
    }

    fn wait(&self, wake: &Bell) -> rustix::io::Result<()> {
        let mut fds = vec![self.stop.fd(), wake.fd()];
        let timeout = match &self.notifier {
            Some(notifier) => {
                fds.push(std::os::fd::AsFd::as_fd(notifier));
                self.hints.wait()
            }
            None => {
                Some((self.last_look + POLL.max(self.look_took * POLL_SHARE)).saturating_duration_since(Instant::now()))
            }
        };
        signal::wait(&fds, timeout)
    }

    fn read(&mut self) {
        if let Some(notifier) = &mut self.notifier {
            notifier.read(&mut self.hints);
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Scope(scope, names) => {
                // What changed under the old rules is done under them.
                self.read();
                let changes = self.look_everywhere();
                self.act(&changes);
                for warning in &scope.rules.warnings {
                    self.client.warn(warning);
                }
                self.names = names;
                self.begin(*scope);
                self.greet();
            }
            News::Containers => self.greet(),
        }
    }

    /// What changed where the hints say.
    fn changes(&mut self) -> Vec<Change> {
        let poll_due = self.notifier.is_none() && self.last_look.elapsed() >= POLL.max(self.look_took * POLL_SHARE);
        if std::mem::take(&mut self.hints.everywhere) || poll_due {
            drop(self.hints.due());
            return self.look_everywhere();
        }
        let mut changes = Vec::new();
        for (path, had_its_moment) in self.hints.due() {
            if self.scope.roots().any(|root| root != path && root.starts_with(&path)) {
                // Something above a root came or went.
                let roots: Vec<PathBuf> =
                    self.scope.roots().filter(|root| root.starts_with(&path)).map(Path::to_owned).collect();
                for root in roots {
                    self.anchor(&root);
                    self.look(&root, Depth::All, &mut changes);
                }
                continue;
            }
            let is_there = std::fs::symlink_metadata(&path);
            if is_there.is_err() && self.tree.has(&path) && !had_its_moment {
                self.hints.when_gone(path);
                continue;
            }
            if is_there.is_err()
                && let Some(notifier) = &mut self.notifier
            {
                notifier.forget(&path);
            }
            let depth = if is_there.is_ok_and(|metadata| metadata.is_dir()) { Depth::All } else { Depth::New };
            self.look(&path, depth, &mut changes);
            if self.scope.roots().any(|root| root == path) {
                self.anchor(&path);
            }
        }
        changes
    }

    fn look_everywhere(&mut self) -> Vec<Change> {
        let begin = Instant::now();
        let mut changes = Vec::new();
        let roots: BTreeSet<PathBuf> = self.scope.roots().map(Path::to_owned).collect();
        for root in roots {
            self.anchor(&root);
            self.look(&root, Depth::All, &mut changes);
        }
        self.last_look = Instant::now();
        self.look_took = begin.elapsed();
        changes
    }

    fn look(&mut self, path: &Path, depth: Depth, changes: &mut Vec<Change>) {
        let mut refused = None;
        let notifier = &mut self.notifier;
        let mut enter = |folder: &Path| {
            if let Some(notifier) = notifier.as_mut()
                && refused.is_none()
            {
                refused = notifier.watch(folder).err();
            }
        };
        self.tree.look(path, depth, &self.scope, &mut enter, changes);
        if let Some(errno) = refused {
            self.give_up_events(errno);
        }
    }

    /// Watches the nearest folder above a root, so that its coming and going is told.
    fn anchor(&mut self, root: &Path) {
        let Some(notifier) = &mut self.notifier else { return };
        let folder = root.ancestors().skip(1).find(|folder| folder.is_dir());
        if let Some(Err(errno)) = folder.map(|folder| notifier.watch(folder)) {
            self.give_up_events(errno);
        }
    }

    fn give_up_events(&mut self, errno: rustix::io::Errno) {
        self.notifier = None;
        self.polls = true;
        let reason = match notify::limit(errno) {
            Some((setting, value)) => {
                format!("the limit {setting} is reached; raise it (`sysctl {setting}={value}`) and begin again")
            }
            None => format!("inotify says: {errno}"),
        };
        let interval = POLL.as_millis();
        self.client.warn(&format!("files are looked at every {interval} ms instead of waiting for events: {reason}"));
    }

    /// Does what changes ask for.
    fn act(&mut self, changes: &[Change]) {
        let sources = changes.iter().filter(|change| self.scope.is_source(&change.path)).map(|change| &change.path);
        self.wanted.reload(sources.cloned());
        let effects = self.scope.rules.effects(changes);
        for (service, copies) in &effects.copies {
            // Noted first: a container that is made meanwhile gets them from there.
            self.touched.add(service, copies);
            self.bring(service, copies);
        }
        let commands = effects.exec.iter().filter_map(|number| self.scope.rules.rules.get(*number));
        let commands = commands.map(|rule| (rule.service.clone(), rule.exec.clone())).collect();
        self.wanted.add(effects.rebuild, effects.restart, commands);
    }

    /// The containers of a service, whether they run or not.
    fn containers(&self, service: &str) -> engine::Result<Vec<ContainerSpec>> {
        let has = |spec: &ContainerSpec, label: &str, value: &str| spec.labels.get(label).is_some_and(|v| v == value);
        let all = self.engine.store().containers().list()?;
        Ok(all
            .into_iter()
            .map(|(spec, _)| spec)
            .filter(|spec| {
                has(spec, label::PROJECT, &self.project_name)
                    && has(spec, label::SERVICE, service)
                    && !has(spec, label::ONEOFF, "True")
            })
            .collect())
    }

    /// Brings files into all containers of a service.
    fn bring(&mut self, service: &str, copies: &BTreeSet<Copy>) {
        let containers = match self.containers(service) {
            Ok(containers) => containers,
            Err(error) => return self.client.failed(&error),
        };
        let mut first = None;
        for spec in containers {
            let is_new = self.known.insert(spec.id.clone());
            let more = if is_new { self.missed(service) } else { BTreeSet::new() };
            let counts = self.bring_into(&spec, copies.union(&more));
            first = first.or(counts);
        }
        if let Some(counts) = first {
            self.client.say(&counts.words(service, copies.first().map(|copy| self.names.short(&copy.host))));
        }
    }

    /// What a container that was not seen before lacks.
    fn missed(&self, service: &str) -> BTreeSet<Copy> {
        let mut missed = self.touched.of(service);
        for rule in self.scope.rules.rules.iter().filter(|rule| rule.service == service && rule.initial_sync) {
            let files = self.tree.files_below(&rule.path).filter(|change| rule.concerns(&change.path));
            missed.extend(files.filter_map(|change| rule.copy(&change)));
        }
        missed
    }

    /// Gives containers that were not seen before what they lack.
    fn greet(&mut self) {
        let services: BTreeSet<String> = self.scope.rules.rules.iter().map(|rule| rule.service.clone()).collect();
        for service in services {
            self.bring(&service, &BTreeSet::new());
        }
    }

    /// Brings files into one container; `None` when nothing was done.
    fn bring_into<'c>(
        &mut self,
        spec: &ContainerSpec,
        copies: impl Iterator<Item = &'c Copy>,
    ) -> Option<changes::Counts> {
        let mut copies = copies.peekable();
        copies.peek()?;
        let recipient = match self.engine.recipient(&spec.id) {
            Ok(recipient) => recipient,
            // It was removed: its successor gets everything.
            Err(engine::Error::Store(error)) if error.is_not_found() => return None,
            Err(error) => {
                self.known.remove(&spec.id);
                self.client.failed(&error);
                return None;
            }
        };
        let mut counts = changes::Counts::default();
        let mut failed = None;
        for (index, copy) in copies.enumerate() {
            if self.stop.is_set() {
                break;
            }
            if index % FILES_BETWEEN_READS == FILES_BETWEEN_READS - 1 {
                self.read();
            }
            match recipient.bring(&copy.host, &copy.target, copy.depth) {
                Ok(Brought::Copied) => counts.copied += 1,
                Ok(Brought::Removed) => counts.removed += 1,
                Ok(Brought::Unchanged) => {}
                Err(error) => {
                    counts.failed += 1;
                    failed.get_or_insert(error);
                }
            }
        }
        if let Some(error) = failed {
            self.client.failed(&changes::CopyFailed { container: spec.name.clone(), files: counts.failed, error });
        }
        Some(counts).filter(|counts| counts.copied + counts.removed > 0)
    }
}
