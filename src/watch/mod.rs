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
mod batch;
mod changes;
mod command;
mod error;
mod looker;
mod notify;
mod rules;
mod signal;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

use crate::base::error::Explain;
use crate::compose::Loaded;
use crate::engine::Engine;
use crate::graph::dependency::Graph;
use crate::model::container::ContainerSpec;
use crate::model::event::Progress;
use crate::model::project::Project;
use crate::store::Lock;

use actions::Actions;
use batch::Wanted;
use changes::Names;
use looker::Looker;
use rules::{Copy, Rules};
use signal::Bell;
use tree::Scope;

pub use error::Error;
pub use signal::Stop;

/// Result of watching.
pub type Result<T> = std::result::Result<T, Error>;

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
    lock: Lock,
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
        Ok(Self { engine, options, project, scope, lock })
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
        let shared = Shared { engine: self.engine, client, touched: &touched, wanted: &wanted, stop };
        let mut looker = Looker::new(shared, self.project.name.clone(), Names::of(&self.project), self.options.poll);
        looker.begin(self.scope);
        // The lock's file says that somebody watches: a watch that was killed has left it so.
        let mark = self.lock.path();
        if std::fs::metadata(mark).is_ok_and(|file| file.len() > 0) {
            looker.sweep();
        }
        // Without the mark, what a kill leaves stays until the next file of its folder.
        drop(std::fs::write(mark, b"watching\n"));
        let actions = Actions { shared, options: self.options, project: self.project, news: sender, wake: &wake };
        std::thread::scope(|threads| {
            threads.spawn(move || actions.run());
            looker.greet();
            client.say("Watch enabled");
            let result = looker.run(&wake, &news);
            // The other thread ends with this one.
            stop.set();
            drop(std::fs::write(mark, b""));
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
    let ignores = project.services.values().flat_map(rules::ignore_files);
    // What came through standard input cannot be read again.
    let from_input = project.compose_files.iter().any(|file| file.as_os_str() == "-");
    let contents = project.configs.values().chain(project.secrets.values()).filter_map(|object| object.file.as_ref());
    let mut sources: Vec<PathBuf> = match from_input {
        true => Vec::new(),
        false => {
            let files = loaded.sources.iter().cloned().chain(contents.map(PathBuf::from)).chain(ignores);
            // A link by itself, which an editor may replace, and what it leads to.
            files.flat_map(|file| [beside(&file), rules::resolved(&file)]).collect()
        }
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

/// What both threads have.
#[derive(Clone, Copy)]
struct Shared<'a> {
    engine: &'a Engine,
    client: &'a dyn Client,
    touched: &'a Touched,
    wanted: &'a Wanted,
    stop: &'a Stop,
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

    fn take(&self, service: &str) -> BTreeSet<Copy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(service).unwrap_or_default()
    }
}
