//! The thread that waits for changes and copies files.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::actions::News;
use super::changes::{CopyFailed, Counts, Names};
use super::notify::{self, Hints, Notifier};
use super::rules::{Change, Copy};
use super::signal::{self, Bell};
use super::tree::{Depth, Scope, Tree};
use super::{Error, Result, Shared};
use crate::base::id::ContainerId;
use crate::engine;
use crate::engine::sync::Brought;
use crate::graph::observed::label;
use crate::model::container::ContainerSpec;

/// How often everything is looked at where there are no events; longer where a look takes long.
const POLL: Duration = Duration::from_millis(250);
/// A look may take this share of the time at most: one in so many.
const POLL_SHARE: u32 = 8;
/// After so many copied files events are taken from the kernel, whose queue is bounded.
const FILES_BETWEEN_READS: usize = 64;

/// The thread that waits for changes and copies files.
pub(super) struct Looker<'a> {
    shared: Shared<'a>,
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
    /// Containers that have what was copied.
    known: HashSet<ContainerId>,
}

impl<'a> Looker<'a> {
    /// One that looks at nothing yet.
    pub(super) fn new(shared: Shared<'a>, project_name: String, names: Names, polls: bool) -> Self {
        Self {
            shared,
            project_name,
            names,
            scope: Scope::default(),
            tree: Tree::default(),
            notifier: None,
            hints: Hints::default(),
            polls,
            last_look: Instant::now(),
            look_took: Duration::ZERO,
            known: HashSet::new(),
        }
    }

    /// Takes up a scope. What is there by now is no change.
    pub(super) fn begin(&mut self, scope: Scope) {
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
        if let Some(notifier) = &mut self.notifier {
            let containers = self.shared.engine.store().containers().all_folder();
            if let Err(errno) = notifier.watch(&containers) {
                self.give_up_events(errno);
            }
        }
    }

    /// Looks until the end.
    pub(super) fn run(&mut self, wake: &Bell, news: &Receiver<News>) -> Result<()> {
        while !self.shared.stop.is_set() {
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
        let mut fds = vec![self.shared.stop.fd(), wake.fd()];
        let timeout = match &self.notifier {
            Some(notifier) => {
                fds.push(notifier.as_fd());
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
                    self.shared.client.warn(warning);
                }
                self.names = names;
                self.begin(*scope);
                self.greet();
            }
            News::Containers => self.greet(),
            News::Starting(done) => {
                self.greet();
                // Who waits for it may have gone on.
                let _waits = done.send(());
            }
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
        let containers = self.shared.engine.store().containers().all_folder();
        for (path, had_its_moment) in self.hints.due() {
            if path.parent() == Some(&containers) {
                // Another command made or removed one.
                self.greet();
                continue;
            }
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
        self.shared
            .client
            .warn(&format!("files are looked at every {interval} ms instead of waiting for events: {reason}"));
    }

    /// Does what changes ask for.
    fn act(&mut self, changes: &[Change]) {
        let sources = changes.iter().filter(|change| self.scope.is_source(&change.path)).map(|change| &change.path);
        self.shared.wanted.reload(sources.cloned());
        let mut effects = self.scope.rules.effects(changes);
        let mut failed = BTreeSet::new();
        for (service, copies) in &effects.copies {
            // Noted first: a container that is made meanwhile gets them from there.
            self.shared.touched.add(service, copies);
            if !self.bring(service, copies) {
                failed.insert(service);
            }
        }
        // What was to follow from files that are not there would not be what the user expects.
        effects.restart_after_copy.retain(|service| !failed.contains(service));
        effects.restart.extend(effects.restart_after_copy);
        let commands = effects.exec.iter().filter_map(|number| self.scope.rules.rules.get(*number));
        let commands = commands.filter(|rule| !failed.contains(&rule.service));
        let commands = commands.map(|rule| (rule.service.clone(), rule.exec.clone())).collect();
        self.shared.wanted.add(effects.rebuild, effects.restart, commands);
    }

    /// Removes what a watch that was killed has left in the containers.
    pub(super) fn sweep(&self) {
        let mut folders: BTreeMap<&str, BTreeSet<PathBuf>> = BTreeMap::new();
        for rule in &self.scope.rules.rules {
            let files = self.tree.files_below(&rule.path).filter_map(|change| rule.copy(&change));
            let targets = files.filter_map(|copy| copy.target.parent().map(Path::to_owned));
            folders.entry(&rule.service).or_default().extend(targets);
        }
        for (service, folders) in folders.iter().filter(|(_, folders)| !folders.is_empty()) {
            for spec in self.containers(service).unwrap_or_default() {
                // One that cannot be opened is told of when files are to be brought into it.
                if let Ok(recipient) = self.shared.engine.recipient(&spec.id) {
                    recipient.sweep(folders.iter().map(PathBuf::as_path));
                }
            }
        }
    }

    /// The containers of a service, whether they run or not.
    fn containers(&self, service: &str) -> engine::Result<Vec<ContainerSpec>> {
        let has = |spec: &ContainerSpec, label: &str, value: &str| spec.labels.get(label).is_some_and(|v| v == value);
        let all = self.shared.engine.store().containers().list()?;
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

    /// Brings files into all containers of a service; whether nothing failed.
    fn bring(&mut self, service: &str, copies: &BTreeSet<Copy>) -> bool {
        let containers = match self.containers(service) {
            Ok(containers) => containers,
            Err(error) => {
                self.shared.client.failed(&error);
                return false;
            }
        };
        let (mut first, mut all_good) = (None, true);
        for spec in containers {
            let is_new = self.known.insert(spec.id.clone());
            let more = if is_new { self.missed(service) } else { BTreeSet::new() };
            let (counts, good) = self.bring_into(&spec, copies.union(&more));
            first = first.or(counts);
            all_good &= good;
        }
        if let Some(counts) = first {
            self.shared.client.say(&counts.words(service, copies.first().map(|copy| self.names.short(&copy.host))));
        }
        all_good
    }

    /// What a container that was not seen before lacks.
    fn missed(&self, service: &str) -> BTreeSet<Copy> {
        let mut missed = self.shared.touched.of(service);
        for rule in self.scope.rules.rules.iter().filter(|rule| rule.service == service && rule.initial_sync) {
            let files = self.tree.files_below(&rule.path).filter(|change| rule.concerns(&change.path));
            missed.extend(files.filter_map(|change| rule.copy(&change)));
        }
        missed
    }

    /// Gives containers that were not seen before what they lack.
    pub(super) fn greet(&mut self) {
        let services: BTreeSet<String> = self.scope.rules.rules.iter().map(|rule| rule.service.clone()).collect();
        for service in services {
            self.bring(&service, &BTreeSet::new());
        }
    }

    /// Brings files into one container: what was done, `None` when that is nothing, and whether nothing failed.
    fn bring_into<'c>(
        &mut self,
        spec: &ContainerSpec,
        copies: impl Iterator<Item = &'c Copy>,
    ) -> (Option<Counts>, bool) {
        let mut copies = copies.peekable();
        if copies.peek().is_none() {
            return (None, true);
        }
        let recipient = match self.shared.engine.recipient(&spec.id) {
            Ok(recipient) => recipient,
            // It was removed: its successor gets everything.
            Err(engine::Error::Store(error)) if error.is_not_found() => return (None, true),
            Err(error) => {
                self.known.remove(&spec.id);
                self.shared.client.failed(&error);
                return (None, false);
            }
        };
        let mut counts = Counts::default();
        let mut failed = None;
        for (index, copy) in copies.enumerate() {
            if self.shared.stop.is_set() {
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
            self.shared.client.failed(&CopyFailed { container: spec.name.clone(), files: counts.failed, error });
        }
        let is_good = counts.failed == 0;
        (Some(counts).filter(|counts| counts.copied + counts.removed > 0), is_good)
    }
}
