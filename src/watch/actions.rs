//! What follows from changes beyond copying: reload, rebuild, restart, commands. One after the other, on a thread of
//! their own, each batch once no more changes come.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::time::Duration;

use super::changes::{Names, differences};
use super::signal::Bell;
use super::tree::Scope;
use super::{Options, Shared};
use crate::base::id::Digest;
use crate::engine;
use crate::engine::execute::Execution;
use crate::engine::images::ImageWish;
use crate::engine::up::Up;
use crate::graph::converge::Wish;
use crate::graph::dependency::Graph;
use crate::graph::observed::Observed;
use crate::graph::plan::Plan;
use crate::graph::teardown;
use crate::model::container::ContainerSpec;
use crate::model::project::{Project, Service};

/// The longest that a start waits for files; what comes later is copied while the container runs.
const FILES_MAX: Duration = Duration::from_secs(10);
/// What the thread of the actions tells the one that looks.
pub(super) enum News {
    /// The project has other rules or files.
    Scope(Box<Scope>, Names),
    /// There may be new containers.
    Containers,
    /// One is about to be started: it is to have its files before that.
    Starting(SyncSender<()>),
}

/// The thread of the actions.
pub(super) struct Actions<'a> {
    pub(super) shared: Shared<'a>,
    pub(super) options: Options,
    pub(super) project: Project,
    pub(super) news: Sender<News>,
    pub(super) wake: &'a Bell,
}

impl Actions<'_> {
    pub(super) fn run(mut self) {
        while let Some(batch) = self.shared.wanted.next(self.shared.stop) {
            if !batch.sources.is_empty() {
                self.reload(&batch.sources);
            }
            let exists = |service: &String| self.project.services.contains_key(service);
            let rebuild: BTreeMap<_, _> = batch.rebuild.into_iter().filter(|(service, _)| exists(service)).collect();
            let rebuilt = self.rebuild(&rebuild);
            let exists = |service: &String| self.project.services.contains_key(service);
            // A container that was just made is as fresh as can be.
            self.restart(batch.restart.into_iter().filter(|name| exists(name) && !rebuilt.contains(name)).collect());
            for (service, command) in &batch.commands {
                self.run_command(service, command);
            }
        }
    }

    fn tell(&self, news: News) {
        // At the end nobody listens any more.
        drop(self.news.send(news));
        self.wake.ring();
    }

    /// What is done before a container starts: it gets its files, and the client hears of it.
    fn before_start(&self, spec: &ContainerSpec) {
        let (done, wait) = sync_channel(1);
        self.tell(News::Starting(done));
        // At the end nobody answers.
        let _answered = wait.recv_timeout(FILES_MAX);
        self.shared.client.starting(spec);
    }

    /// Shows an error of an action; that the user ended the watch is none.
    pub(super) fn failed(&self, error: engine::Error) {
        match error {
            engine::Error::Interrupted => {}
            engine::Error::Several { errors } => errors.iter().for_each(|error| self.shared.client.failed(error)),
            error => self.shared.client.failed(&error),
        }
    }

    /// Loads the project anew and applies it. What cannot be loaded changes nothing.
    fn reload(&mut self, files: &BTreeSet<PathBuf>) {
        let names = Names::of(&self.project);
        let changed = names.list(files.iter());
        let Some(loaded) = self.shared.client.reload() else {
            self.shared.client.say(&format!("{changed} changed, and cannot be used: everything stays as it was"));
            return;
        };
        if loaded.project.name != self.project.name {
            let name = &loaded.project.name;
            self.shared
                .client
                .say(&format!("{changed} changed: the project is now called {name}; begin again to watch it"));
            return;
        }
        let scope = match super::scope(&loaded, &self.options) {
            Ok(scope) => scope,
            Err(error) => {
                self.shared.client.failed(&error);
                self.shared.client.say(&format!("{changed} changed, and cannot be used: everything stays as it was"));
                return;
            }
        };
        let differences = differences(&self.project, &loaded.project);
        let rebuilt = rebuilt(&self.project, &loaded.project);
        let what = if differences.is_empty() { String::new() } else { format!(": {}", differences.join("; ")) };
        self.shared.client.say(&format!("{changed} changed{what}"));
        self.project = loaded.project;
        self.tell(News::Scope(Box::new(scope), Names::of(&self.project)));
        match self.apply(&rebuilt) {
            Ok(plan) if plan.is_empty() => self.shared.client.say("nothing to do"),
            Ok(_) => self.shared.client.say("applied"),
            Err(error) => self.failed(error),
        }
        self.tell(News::Containers);
    }

    /// Brings the project up as it is now, with new images for the services that are built in another way.
    fn apply(&self, rebuilt: &BTreeSet<String>) -> engine::Result<Plan> {
        let mut services: Vec<String> =
            self.options.services.iter().filter(|name| self.project.services.contains_key(*name)).cloned().collect();
        if self.options.existing_only {
            let observed = self.shared.engine.observe(&self.project.name, None)?;
            let here = |name: &&String| observed.of_service(name).next().is_some();
            let selected = Graph::of(&self.project)?.select(&self.project, &services, false)?;
            services = self
                .project
                .services
                .keys()
                .filter(|name| selected.contains(name.as_str()))
                .filter(here)
                .cloned()
                .collect();
            if services.is_empty() {
                return Ok(Plan::default());
            }
        }
        let exists = |name: &String| self.project.services.contains_key(name);
        let scale = self.options.scale.iter().filter(|(name, _)| exists(name));
        let wish = Wish {
            services,
            no_deps: self.options.existing_only,
            scale: scale.map(|(name, count)| (name.clone(), *count)).collect(),
            ..Wish::default()
        };
        let up = Up { wish, ..Up::default() };
        let progress = self.shared.client.progress();
        self.shared.stop.set_building(true);
        let mut project = self.project.clone();
        for service in project.services.values_mut().filter(|service| rebuilt.contains(&service.name)) {
            service.pull_policy = Some("build".into());
        }
        let images = self.shared.engine.get_images(&project, &up, progress.as_ref());
        self.shared.stop.set_building(false);
        images?;
        self.up(&up)
    }

    fn up(&self, up: &Up) -> engine::Result<Plan> {
        let on_start = |spec: &ContainerSpec| self.before_start(spec);
        let progress = self.shared.client.progress();
        self.shared.engine.up(&self.project, up, progress.as_ref(), self.shared.stop.flag(), Some(&on_start))
    }

    /// Builds services and makes their containers anew where that gave other images. Returns those that were.
    fn rebuild(&self, services: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
        if services.is_empty() {
            return BTreeSet::new();
        }
        let names = Names::of(&self.project);
        let mut before = BTreeMap::new();
        for (service, file) in services {
            self.shared.client.say(&format!("{service}: rebuilding, {} changed", names.short(file)));
            // From here on the image has what was copied before; what comes during the build is copied afterwards.
            before.insert(service, self.shared.touched.take(service));
        }
        let result = self.build_and_replace(services.keys().cloned().collect());
        for (service, copies) in before {
            if !result.as_ref().is_ok_and(|renewed| renewed.contains(service)) {
                self.shared.touched.add(service, &copies);
            }
        }
        self.tell(News::Containers);
        match result {
            Ok(renewed) => {
                for service in services.keys() {
                    let how = if renewed.contains(service) { "rebuilt" } else { "rebuilt, its image is as before" };
                    self.shared.client.say(&format!("{service}: {how}"));
                }
                renewed
            }
            Err(error) => {
                self.failed(error);
                BTreeSet::new()
            }
        }
    }

    fn build_and_replace(&self, names: BTreeSet<String>) -> engine::Result<BTreeSet<String>> {
        let services: Vec<&Service> =
            self.project.services.values().filter(|service| names.contains(&service.name)).collect();
        let before = self.images(&services)?;
        let progress = self.shared.client.progress();
        let wish = ImageWish { build: true, ..ImageWish::default() };
        self.shared.stop.set_building(true);
        let built = self.shared.engine.ensure_images(&self.project, &services, &wish, progress.as_ref());
        self.shared.stop.set_building(false);
        built?;
        drop(progress);
        let after = self.images(&services)?;
        let observed = self.shared.engine.observe(&self.project.name, None)?;
        let scale = names.iter().filter_map(|name| Some((name.clone(), count(&observed, name)?))).collect();
        let wish = Wish {
            services: self.with_followers(&names)?,
            no_deps: true,
            scale,
            ignore_orphans: true,
            ..Wish::default()
        };
        self.up(&Up { wish, images: ImageWish { no_build: true, ..ImageWish::default() }, ..Up::default() })?;
        if self.options.prune {
            for (service, old) in &before {
                if after.get(service) != Some(old) {
                    self.prune(old);
                }
            }
        }
        Ok(names.into_iter().filter(|name| before.get(name) != after.get(name)).collect())
    }

    /// The services, and those that asked to be restarted with them.
    fn with_followers(&self, names: &BTreeSet<String>) -> engine::Result<Vec<String>> {
        let graph = Graph::of(&self.project)?;
        let mut all = names.clone();
        let mut open: Vec<String> = names.iter().cloned().collect();
        while let Some(name) = open.pop() {
            for (dependent, options) in graph.dependents(&name) {
                if options.restart && all.insert(dependent.to_owned()) {
                    open.push(dependent.to_owned());
                }
            }
        }
        Ok(all.into_iter().collect())
    }

    fn images(&self, services: &[&Service]) -> engine::Result<BTreeMap<String, Digest>> {
        let observed = self.shared.engine.observe(&self.project.name, Some(&self.project))?;
        let image = |service: &&Service| Some((service.name.clone(), observed.images.get(&service.name)?.clone()));
        Ok(services.iter().filter_map(image).collect())
    }

    /// Removes an image that a rebuild replaced, unless something else has a use for it.
    fn prune(&self, image: &Digest) {
        let is_named = self.shared.engine.store().images().references(image).map_or(true, |names| !names.is_empty());
        if !is_named {
            // One that a container was made from stays.
            drop(self.shared.engine.remove_image(image.as_str()));
        }
    }

    fn restart(&self, services: BTreeSet<String>) {
        if services.is_empty() || self.shared.stop.is_set() {
            return;
        }
        let names: Vec<String> = services.into_iter().collect();
        let result = self.shared.engine.observe(&self.project.name, None).and_then(|observed| {
            let plan = teardown::restart(&self.project, &observed, &names, false, None)?;
            let on_start = |spec: &ContainerSpec| self.before_start(spec);
            let progress = self.shared.client.progress();
            let execution = Execution {
                project: Some(&self.project),
                progress: progress.as_ref(),
                cancelled: self.shared.stop.flag(),
                on_start: Some(&on_start),
            };
            self.shared.engine.execute(&plan, &execution).map(|()| plan)
        });
        match result {
            Ok(plan) if plan.is_empty() => {}
            Ok(_) => self.shared.client.say(&format!("{}: restarted", names.join(", "))),
            Err(error) => self.failed(error),
        }
    }
}

/// The services whose image is built in another way than before.
fn rebuilt(old: &Project, new: &Project) -> BTreeSet<String> {
    let build = |service: &Service| service.canonical.get("build").cloned();
    let differs = |service: &&Service| {
        service.build.is_some() && old.services.get(&service.name).is_some_and(|old| build(old) != build(service))
    };
    new.services.values().filter(differs).map(|service| service.name.clone()).collect()
}

fn count(observed: &Observed, service: &str) -> Option<u32> {
    u32::try_from(observed.of_service(service).count()).ok().filter(|count| *count > 0)
}
