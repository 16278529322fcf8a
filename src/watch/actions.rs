//! What follows from changes beyond copying: reload, rebuild, restart, commands. One after the other, on a thread of
//! their own, each batch once no more changes come.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::changes::{Names, differences};
use super::rules::Command;
use super::signal::{self, Bell, Stop};
use super::tree::Scope;
use super::{Client, Options, Touched};
use crate::base::id::{ContainerId, Digest};
use crate::engine::exec::{Exec, no_stdio};
use crate::engine::execute::Execution;
use crate::engine::images::ImageWish;
use crate::engine::up::Up;
use crate::engine::{self, Engine};
use crate::graph::converge::Wish;
use crate::graph::dependency::Graph;
use crate::graph::observed::Observed;
use crate::graph::plan::Plan;
use crate::graph::teardown;
use crate::model::container::{ContainerSpec, Status};
use crate::model::project::{Project, Service};
use crate::runtime::Stdio;

/// How long there must have been no change before what follows from it is done.
const QUIET: Duration = Duration::from_millis(50);
/// The longest that changes can put it off.
const QUIET_MAX: Duration = Duration::from_secs(1);
/// Longest line of a command's output that is shown in one piece, in bytes.
const LINE_BYTES_MAX: usize = 8 << 10;

/// What the thread of the actions tells the one that looks.
pub(super) enum News {
    /// The project has other rules or files.
    Scope(Box<Scope>, Names),
    /// There are new containers.
    Containers,
}

/// A batch of what is to be done.
#[derive(Debug, Default)]
struct Batch {
    sources: BTreeSet<PathBuf>,
    rebuild: BTreeMap<String, PathBuf>,
    restart: BTreeSet<String>,
    commands: Vec<(String, Command)>,
    /// The times of the first and the last change.
    times: Option<(Instant, Instant)>,
}

/// What is to be done, shared between the two threads.
#[derive(Debug)]
pub(super) struct Wanted {
    batch: Mutex<Batch>,
    bell: Bell,
}

impl Wanted {
    pub(super) fn new() -> rustix::io::Result<Self> {
        Ok(Self { batch: Mutex::default(), bell: Bell::new()? })
    }

    /// These files of the project changed.
    pub(super) fn reload(&self, sources: impl Iterator<Item = PathBuf>) {
        let mut sources = sources.peekable();
        if sources.peek().is_some() {
            self.change(|batch| batch.sources.extend(sources));
        }
    }

    /// These services are to be rebuilt or restarted, these commands run.
    pub(super) fn add(
        &self,
        rebuild: BTreeMap<String, PathBuf>,
        restart: BTreeSet<String>,
        commands: Vec<(String, Command)>,
    ) {
        if rebuild.is_empty() && restart.is_empty() && commands.is_empty() {
            return;
        }
        self.change(|batch| {
            for (service, file) in rebuild {
                batch.rebuild.entry(service).or_insert(file);
            }
            batch.restart.extend(restart);
            for command in commands {
                if !batch.commands.contains(&command) {
                    batch.commands.push(command);
                }
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Batch)) {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut batch);
        let now = Instant::now();
        batch.times = Some((batch.times.map_or(now, |(first, _)| first), now));
        self.bell.ring();
    }

    /// Waits for the next batch to be complete; `None` at the end.
    fn next(&self, stop: &Stop) -> Option<Batch> {
        while !stop.is_set() {
            self.bell.clear();
            let mut timeout = None;
            {
                let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((first, last)) = batch.times {
                    let left = (last + QUIET).min(first + QUIET_MAX).saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Some(std::mem::take(&mut batch));
                    }
                    timeout = Some(left);
                }
            }
            if signal::wait(&[stop.fd(), self.bell.fd()], timeout).is_err() {
                return None;
            }
        }
        None
    }
}

/// The thread of the actions.
pub(super) struct Actions<'a> {
    pub(super) engine: &'a Engine,
    pub(super) client: &'a dyn Client,
    pub(super) options: Options,
    pub(super) project: Project,
    pub(super) stop: &'a Stop,
    pub(super) wanted: &'a Wanted,
    pub(super) touched: &'a Touched,
    pub(super) news: Sender<News>,
    pub(super) wake: &'a Bell,
}

impl Actions<'_> {
    pub(super) fn run(mut self) {
        while let Some(batch) = self.wanted.next(self.stop) {
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

    /// Shows an error of an action; that the user ended the watch is none.
    fn failed(&self, error: engine::Error) {
        match error {
            engine::Error::Interrupted => {}
            engine::Error::Several { errors } => errors.iter().for_each(|error| self.client.failed(error)),
            error => self.client.failed(&error),
        }
    }

    /// Loads the project anew and applies it. What cannot be loaded changes nothing.
    fn reload(&mut self, files: &BTreeSet<PathBuf>) {
        let names = Names::of(&self.project);
        let changed = names.list(files.iter());
        let Some(loaded) = self.client.reload() else {
            self.client.say(&format!("{changed} changed, and cannot be used: everything stays as it was"));
            return;
        };
        if loaded.project.name != self.project.name {
            let name = &loaded.project.name;
            self.client.say(&format!("{changed} changed: the project is now called {name}; begin again to watch it"));
            return;
        }
        let scope = match super::scope(&loaded, &self.options) {
            Ok(scope) => scope,
            Err(error) => {
                self.client.failed(&error);
                self.client.say(&format!("{changed} changed, and cannot be used: everything stays as it was"));
                return;
            }
        };
        let differences = differences(&self.project, &loaded.project);
        let what = if differences.is_empty() { String::new() } else { format!(": {}", differences.join("; ")) };
        self.client.say(&format!("{changed} changed{what}"));
        self.project = loaded.project;
        self.tell(News::Scope(Box::new(scope), Names::of(&self.project)));
        match self.apply() {
            Ok(plan) if plan.is_empty() => self.client.say("nothing to do"),
            Ok(_) => self.client.say("applied"),
            Err(error) => self.failed(error),
        }
        self.tell(News::Containers);
    }

    /// Brings the project up as it is now.
    fn apply(&self) -> engine::Result<Plan> {
        let mut services: Vec<String> =
            self.options.services.iter().filter(|name| self.project.services.contains_key(*name)).cloned().collect();
        if self.options.existing_only {
            let observed = self.engine.observe(&self.project.name, None)?;
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
        let progress = self.client.progress();
        self.stop.set_building(true);
        let images = self.engine.get_images(&self.project, &up, progress.as_ref());
        self.stop.set_building(false);
        images?;
        self.up(&up)
    }

    fn up(&self, up: &Up) -> engine::Result<Plan> {
        let on_start = |spec: &ContainerSpec| self.client.starting(spec);
        let progress = self.client.progress();
        self.engine.up(&self.project, up, progress.as_ref(), self.stop.flag(), Some(&on_start))
    }

    /// Builds services and makes their containers anew where that gave other images. Returns those that were.
    fn rebuild(&self, services: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
        if services.is_empty() {
            return BTreeSet::new();
        }
        let names = Names::of(&self.project);
        for (service, file) in services {
            self.client.say(&format!("{service}: rebuilding, {} changed", names.short(file)));
            // From here on the image has what was copied before; what comes during the build is copied afterwards.
            self.touched.forget(service);
        }
        let result = self.build_and_replace(services.keys().cloned().collect());
        self.tell(News::Containers);
        match result {
            Ok(renewed) => {
                for service in services.keys() {
                    let how = if renewed.contains(service) { "rebuilt" } else { "rebuilt, its image is as before" };
                    self.client.say(&format!("{service}: {how}"));
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
        let progress = self.client.progress();
        let wish = ImageWish { build: true, ..ImageWish::default() };
        self.stop.set_building(true);
        let built = self.engine.ensure_images(&self.project, &services, &wish, progress.as_ref());
        self.stop.set_building(false);
        built?;
        drop(progress);
        let after = self.images(&services)?;
        let observed = self.engine.observe(&self.project.name, None)?;
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
        let observed = self.engine.observe(&self.project.name, Some(&self.project))?;
        let image = |service: &&Service| Some((service.name.clone(), observed.images.get(&service.name)?.clone()));
        Ok(services.iter().filter_map(image).collect())
    }

    /// Removes an image that a rebuild replaced, unless something else has a use for it.
    fn prune(&self, image: &Digest) {
        let is_named = self.engine.store().images().references(image).map_or(true, |names| !names.is_empty());
        if !is_named {
            // One that a container was made from stays.
            drop(self.engine.remove_image(image.as_str()));
        }
    }

    fn restart(&self, services: BTreeSet<String>) {
        if services.is_empty() || self.stop.is_set() {
            return;
        }
        let names: Vec<String> = services.into_iter().collect();
        let result = self.engine.observe(&self.project.name, None).and_then(|observed| {
            let plan = teardown::restart(&self.project, &observed, &names, false, None)?;
            let on_start = |spec: &ContainerSpec| self.client.starting(spec);
            let progress = self.client.progress();
            let execution = Execution {
                project: Some(&self.project),
                progress: progress.as_ref(),
                cancelled: self.stop.flag(),
                on_start: Some(&on_start),
            };
            self.engine.execute(&plan, &execution)
        });
        match result {
            Ok(()) => self.client.say(&format!("{}: restarted", names.join(", "))),
            Err(error) => self.failed(error),
        }
    }

    /// Runs the command of a rule in all running containers of its service, in all at once.
    fn run_command(&self, service: &str, command: &Command) {
        let observed = match self.engine.observe(&self.project.name, None) {
            Ok(observed) => observed,
            Err(error) => return self.failed(error),
        };
        let running = observed.of_service(service).filter(|container| container.status == Status::Running);
        std::thread::scope(|threads| {
            for container in running {
                threads.spawn(|| match self.run_in(&container.id, &container.name, command) {
                    Ok(0) => {}
                    Ok(_) if self.stop.is_set() => {}
                    Ok(code) => {
                        self.client.say(&format!("{}: {} ended with code {code}", container.name, line(command)))
                    }
                    Err(error) => self.failed(error),
                });
            }
        });
    }

    fn run_in(&self, id: &ContainerId, name: &str, command: &Command) -> engine::Result<i32> {
        let exec = Exec {
            args: command.command.clone().unwrap_or_default(),
            environment: command.environment.clone().unwrap_or_default(),
            user: command.user.clone(),
            working_dir: command.working_dir.clone(),
            privileged: command.privileged,
            terminal: false,
        };
        let Ok((output, stdio)) = pipes() else { return Err(engine::Error::Interrupted) };
        self.client.say(&format!("{name}: {}", line(command)));
        let running = self.engine.exec(id, &exec, stdio)?;
        let mut output = Output { pipe: output, line: Vec::new() };
        let mut say = |line: &str| self.client.say(&format!("{name}: {line}"));
        loop {
            let fds = [output.pipe.as_fd(), running.pidfd.as_fd(), self.stop.fd()];
            if signal::wait(&fds, None).is_err() || self.stop.is_set() {
                running.signal(rustix::process::Signal::KILL.as_raw())?;
                break;
            }
            let ended = running.try_wait()?;
            // What it started and left running may hold the pipe: its own end counts.
            let at_end = output.read(&mut say);
            if let Some(status) = ended {
                return Ok(status.code);
            }
            if at_end {
                break;
            }
        }
        Ok(running.wait()?.code)
    }
}

fn count(observed: &Observed, service: &str) -> Option<u32> {
    u32::try_from(observed.of_service(service).count()).ok().filter(|count| *count > 0)
}

fn line(command: &Command) -> String {
    command.command.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Standard streams of a command whose output is shown.
fn pipes() -> std::io::Result<(PipeReader, Stdio)> {
    let (reader, writer) = std::io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let Ok(Stdio::Pipes { stdin, .. }) = no_stdio() else { return Err(std::io::ErrorKind::NotFound.into()) };
    Ok((reader, Stdio::Pipes { stdin, stdout: writer.try_clone()?.into(), stderr: writer.into() }))
}

/// The output of a command, line by line.
struct Output {
    pipe: PipeReader,
    line: Vec<u8>,
}

impl Output {
    /// Shows what is there; whether it was the end.
    fn read(&mut self, say: &mut dyn FnMut(&str)) -> bool {
        let mut buffer = [0; 4096];
        let at_end = loop {
            match self.pipe.read(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => self.take(&buffer[..count], say),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
            }
        };
        if at_end && !self.line.is_empty() {
            say(&String::from_utf8_lossy(&std::mem::take(&mut self.line)));
        }
        at_end
    }

    fn take(&mut self, bytes: &[u8], say: &mut dyn FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' || self.line.len() >= LINE_BYTES_MAX {
                say(&String::from_utf8_lossy(&std::mem::take(&mut self.line)));
            }
            if *byte != b'\n' {
                self.line.push(*byte);
            }
        }
    }
}
