//! `up` in the foreground: the project's output on our terminal until it ends, or until the user ends it.
//!
//! ```text
//! worker: engine.up ── on_start ──> news ─┐
//! worker: stop (Ctrl-C, --abort-…) ──────>├──> one loop: follow logs, signals, ends of containers ──> exit code
//! supervisors: logs, states (inotify) ───>│
//! terminal: SIGINT, SIGTERM (signalfd) ──>┘
//! ```
//!
//! On a terminal there is a menu as soon as everything is up ([`keys`]).
//!
//! The loop runs from the first start on, also while other containers still wait for their dependencies: what a
//! container prints is seen at once, and the end that `--exit-code-from` waits for is never missed.
//! The first Ctrl-C stops everything gracefully, the second one kills.

mod keys;

use std::collections::BTreeSet;
use std::io::{BufWriter, PipeReader, PipeWriter, Read, Stderr, StdoutLock, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};

use super::interactive::exit_code;
use super::members::Member;
use super::menu::{self, AboveMenu, Menu};
use super::output::follow::{Ended, Follower};
use super::output::printer::{Look, Printer};
use super::progress::Reporter;
use super::signals::{self, Signals};
use super::watching::Screen;
use super::{Context, Failure, Mistake, Outcome};
use crate::compose::Loaded;
use crate::engine::execute::Execution;
use crate::engine::up::Up;
use crate::engine::{self, Engine};
use crate::graph::converge;
use crate::graph::plan::Plan;
use crate::log::ReadOptions;
use crate::model::container::ContainerSpec;
use crate::model::event::Silent;
use crate::model::project::Project;
use crate::watch::{self, Watch};

/// A watch that begins once everything is up.
struct Watching<'a> {
    watch: Option<Watch<'a>>,
    end: &'a watch::Stop,
}

/// When everything is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Abort {
    /// When the user says so.
    Never,
    /// When the first container ends.
    OnExit,
    /// When a container of this service ends.
    OnExitOf(String),
    /// When the first container fails; ends with the code of this service, else of that container.
    OnFailure {
        /// `--exit-code-from`.
        code_of: Option<String>,
    },
}

/// `up` in the foreground.
pub struct Attached<'a> {
    /// The surroundings.
    pub context: &'a Context,
    /// Opened with a launcher.
    pub engine: &'a Engine,
    /// The project.
    pub project: &'a Project,
    /// What to converge to.
    pub up: &'a Up,
    /// How lines look.
    pub look: Look,
    /// The services whose output is shown.
    pub shown: BTreeSet<String>,
    /// When to stop everything.
    pub abort: Abort,
    /// Grace for that.
    pub timeout: Option<Duration>,
    /// The services that were named.
    pub named: &'a [String],
    /// The project with its files, for a watch that begins later.
    pub loaded: &'a Loaded,
    /// What such a watch would do.
    pub watch_options: watch::Options,
    /// Whether there are keys to press (`--menu`).
    pub menu: bool,
}

/// What the workers tell the loop.
enum News {
    /// This container is about to be started; as it was before that.
    Starting(Box<Member>),
    /// `up` is done.
    Up(engine::Result<Plan>),
    /// The watch has ended.
    Watched(watch::Result<()>),
    /// The stop, or the kill, is done.
    Stopped(engine::Result<Plan>),
}

/// Sends news and wakes the loop.
#[derive(Clone, Copy)]
struct Bell<'a> {
    news: &'a Mutex<Sender<News>>,
    pipe: &'a PipeWriter,
}

impl Bell<'_> {
    fn ring(self, news: News) {
        if let Ok(sender) = self.news.lock() {
            // A loop that is gone needs no news.
            drop(sender.send(news));
        }
        let mut pipe = self.pipe;
        drop(pipe.write(&[1]));
    }
}

type Output = Follower<BufWriter<AboveMenu<StdoutLock<'static>>>, BufWriter<AboveMenu<Stderr>>>;

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// Nobody wants one.
    No,
    /// Wanted; begins once `up` has returned.
    Wanted,
    /// Under way.
    Running,
    /// Done.
    Done,
}

/// What the loop knows.
struct Course {
    /// `up` has not returned yet.
    up_running: bool,
    /// Files are watched: all containers may be gone for a moment.
    watching: bool,
    stop: Stop,
    /// The second Ctrl-C came.
    killed: bool,
    /// The user wants everything to go on without us.
    detached: bool,
    /// The keys, once everything is up and until it is to be stopped.
    menu: Option<Menu>,
    /// What to end with, once something decided it.
    code: Option<u8>,
    failure: Option<Failure>,
}

impl Course {
    fn goes_on(&self, output: &Output) -> bool {
        match self.stop {
            Stop::No if self.detached => false,
            Stop::No => self.up_running || self.watching || !(output.is_empty() || self.failure.is_some()),
            Stop::Wanted | Stop::Running => true,
            Stop::Done => self.up_running,
        }
    }
}

impl Attached<'_> {
    /// Runs until everything has ended. Returns what `up` in the foreground exits with.
    pub fn run(self, reporter: Reporter, watch: Option<Watch<'_>>) -> Outcome {
        let signals = Signals::block(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCONT])?;
        let (bell_reader, bell_writer) =
            std::io::pipe().map_err(|source| Mistake::System { operation: "make a pipe", source })?;
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let bell = Bell { news: &sender, pipe: &bell_writer };
        let cancelled = AtomicBool::new(false);
        let end_of_watch = watch::Stop::new()
            .map_err(|errno| Mistake::System { operation: "make an event descriptor", source: errno.into() })?;
        let output = self.output();
        let (this, reporter, cancelled) = (&self, &reporter, &cancelled);
        let watching = Watching { watch, end: &end_of_watch };
        std::thread::scope(|scope| {
            scope.spawn(move || this.bring_up(reporter, cancelled, bell));
            let events = Events { bell: bell_reader, news: receiver, signals };
            let result = this.follow_to_the_end(scope, events, output, cancelled, bell, watching);
            // The scope waits for its workers: nothing new is begun.
            cancelled.store(true, Ordering::Relaxed);
            end_of_watch.set();
            if let (true, Ok(code)) = (end_of_watch.is_building(), &result) {
                // A build is left where it is: the next command goes on from there.
                std::process::exit(i32::from(*code));
            }
            result
        })
    }

    fn bring_up(&self, reporter: &Reporter, cancelled: &AtomicBool, bell: Bell<'_>) {
        let on_start = |spec: &ContainerSpec| {
            reporter.end_block();
            self.announce(spec, bell);
        };
        let result = self.engine.up(self.project, self.up, reporter, cancelled, Some(&on_start));
        reporter.end_block();
        bell.ring(News::Up(result));
    }

    /// Watches files; containers that are made on the way are followed.
    fn keep(&self, watch: Watch<'_>, end: &watch::Stop, bell: Bell<'_>) {
        let starting = |spec: &ContainerSpec| self.announce(spec, bell);
        let screen = Screen { context: self.context, services: self.named, quiet: false, starting: Some(&starting) };
        bell.ring(News::Watched(watch.run(&screen, end)));
    }

    /// Tells the loop of a container that is about to start.
    fn announce(&self, spec: &ContainerSpec, bell: Bell<'_>) {
        // Read here: when the loop hears of it, the container may have started, or even ended.
        if let Ok(state) = self.engine.store().containers().state(&spec.id) {
            bell.ring(News::Starting(Box::new(Member { spec: spec.clone(), state })));
        }
    }

    fn follow_to_the_end<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        mut events: Events,
        mut output: Output,
        cancelled: &'s AtomicBool,
        bell: Bell<'s>,
        mut watching: Watching<'s>,
    ) -> Outcome {
        let mut course = Course {
            up_running: true,
            watching: false,
            stop: Stop::No,
            killed: false,
            detached: false,
            menu: None,
            code: None,
            failure: None,
        };
        while course.goes_on(&output) {
            let keys = events.wait(&output, course.menu.as_ref())?;
            while let Some(news) = events.next_news() {
                let is_up = matches!(news, News::Up(Ok(_)));
                self.take_news(news, &mut output, &mut course)?;
                if is_up && course.stop == Stop::No {
                    let watch = watching.watch.take();
                    course.watching = watch.is_some();
                    if self.menu {
                        course.menu = Some(Menu::show(self.context, course.watching)?);
                    }
                    if let Some(watch) = watch {
                        scope.spawn(move || self.keep(watch, watching.end, bell));
                    }
                }
            }
            for ended in output.turn()? {
                self.container_ended(&ended, &mut course);
            }
            menu::redraw();
            if keys {
                self.take_keys(scope, &mut course, watching.end, bell)?;
            }
            while let Some(signal) = events.signals.next() {
                if signal == Signal::SIGCONT {
                    course.menu.iter_mut().for_each(Menu::resume);
                    continue;
                }
                // Words, and an ordinary terminal, from here on.
                course.menu = None;
                if self.interrupted(signal, &mut course) {
                    scope.spawn(move || bell.ring(News::Stopped(self.kill_all())));
                }
            }
            if course.stop == Stop::Wanted {
                course.menu = None;
                cancelled.store(true, Ordering::Relaxed);
                watching.end.set();
                let is_watched = course.watching && !watching.end.is_building();
                if !course.up_running && !is_watched {
                    course.stop = Stop::Running;
                    scope.spawn(move || bell.ring(News::Stopped(self.stop_all())));
                }
            }
        }
        output.turn()?;
        course.menu = None;
        if course.detached {
            self.context.say("Detached: the containers go on in the background");
        }
        match (course.code, course.failure) {
            (Some(code), _) => Ok(code),
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(0),
        }
    }

    fn output(&self) -> Output {
        let out = BufWriter::with_capacity(16 << 10, AboveMenu(std::io::stdout().lock()));
        let err = BufWriter::with_capacity(0, AboveMenu(std::io::stderr()));
        let mut printer = Printer::new(self.look, &self.context.terminal, out, err);
        let mut names = Vec::new();
        for (name, service) in self.project.services.iter().filter(|(name, _)| self.shown.contains(*name)) {
            let count = self.up.wish.scale.get(name).copied().unwrap_or_else(|| converge::replicas(service));
            for number in 1..=count {
                let container = converge::container_name(self.project, service, number);
                let prefix = self.project.name_of(&[""]);
                let short = container.strip_prefix(&prefix).unwrap_or(&container);
                printer.reserve(short);
                names.push(short.to_owned());
            }
        }
        self.context.say(&format!("Attaching to {}", names.join(", ")));
        // What containers wrote in earlier runs was seen then.
        let options = ReadOptions { follow: true, since: Some(Timestamp::now()), ..ReadOptions::default() };
        Follower::new(self.engine.store().clone(), options, true, printer)
    }

    fn take_news(&self, news: News, output: &mut Output, course: &mut Course) -> Result<(), Failure> {
        match news {
            News::Starting(member) => self.follow(output, &member, true)?,
            News::Up(result) => {
                course.up_running = false;
                match result {
                    Ok(_) => self.follow_running(output)?,
                    Err(engine::Error::Interrupted) => {}
                    // What runs goes on in the background; the error is what the user must see.
                    Err(error) => course.failure = Some(Failure::of_engine(error)),
                }
            }
            News::Watched(result) => {
                course.watching = false;
                if let Some(menu) = &course.menu {
                    menu.set_watching(false);
                    self.context.say("Watch disabled");
                }
                if let Err(error) = result {
                    self.context.show_error(&error);
                }
            }
            News::Stopped(result) => {
                course.stop = Stop::Done;
                if let Err(error) = result
                    && !course.killed
                {
                    course.failure = Some(Failure::of_engine(error));
                }
            }
        }
        Ok(())
    }

    fn follow(&self, output: &mut Output, member: &Member, before_start: bool) -> Result<(), Failure> {
        let (id, name) = (&member.spec.id, member.short_name());
        let service = member.service().unwrap_or_default();
        let shown = self.shown.contains(service);
        match before_start {
            true => output.add_before_start(id, &member.state, name, service, shown),
            false => output.add(id, name, service, shown),
        }
    }

    /// Containers that ran already are followed from now on.
    fn follow_running(&self, output: &mut Output) -> Result<(), Failure> {
        for (spec, state) in self.engine.store().containers().list()? {
            let member = Member { spec, state };
            let ours = member.project() == Some(&self.project.name) && !member.is_one_off() && member.is_up();
            if ours && member.service().is_some_and(|service| self.shown.contains(service)) {
                self.follow(output, &member, false)?;
            }
        }
        Ok(())
    }

    /// Decides whether this end is the end of all.
    fn container_ended(&self, ended: &Ended, course: &mut Course) {
        let aborts = match &self.abort {
            Abort::Never => false,
            Abort::OnExit => true,
            Abort::OnExitOf(service) => ended.service == *service,
            Abort::OnFailure { .. } => ended.exit_code != 0,
        };
        if let Abort::OnFailure { code_of: Some(service) } = &self.abort
            && ended.service == *service
            && course.code.is_none()
        {
            course.code = Some(exit_code(ended.exit_code));
        }
        if aborts && course.stop == Stop::No {
            course.code.get_or_insert(exit_code(ended.exit_code));
            course.stop = Stop::Wanted;
            self.context.say("Aborting on container exit...");
        }
    }

    /// Takes a Ctrl-C; whether everything is to be killed now.
    fn interrupted(&self, signal: Signal, course: &mut Course) -> bool {
        if course.stop == Stop::No {
            course.stop = Stop::Wanted;
            course.code = Some(signals::INTERRUPTED);
            self.context.say("Gracefully Stopping... press Ctrl+C again to force");
            return false;
        }
        if course.killed || course.up_running {
            // A pull or a build under way is left where it is: the next command goes on from there.
            signals::end_now(signal);
        }
        course.killed = true;
        true
    }

    fn stop_all(&self) -> engine::Result<Plan> {
        // Lines, not a block: containers still write between them.
        let reporter = self.context.reporter_in_lines();
        let cancelled = AtomicBool::new(false);
        let execution =
            Execution { project: Some(self.project), progress: &reporter, cancelled: &cancelled, on_start: None };
        self.engine.stop_services(&self.project.name, &[], self.timeout, &execution)
    }

    fn kill_all(&self) -> engine::Result<Plan> {
        let cancelled = AtomicBool::new(false);
        let execution =
            Execution { project: Some(self.project), progress: &Silent, cancelled: &cancelled, on_start: None };
        self.engine.kill_services(&self.project.name, &[], "SIGKILL", &execution)
    }
}

/// Where events come from.
struct Events {
    bell: PipeReader,
    news: Receiver<News>,
    signals: Signals,
}

impl Events {
    /// Waits until something has happened; whether that is a key.
    fn wait(&self, output: &Output, menu: Option<&Menu>) -> Result<bool, Failure> {
        let logs = output.fds();
        let own = [self.bell.as_fd(), self.signals.as_fd()];
        let keys = menu.and_then(Menu::fd);
        let mut fds: Vec<PollFd<'_>> =
            keys.iter().chain(&own).chain(&logs).map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match poll(&mut fds, None) {
            Ok(_) => Ok(keys.is_some() && !fds[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(Mistake::System { operation: "wait for containers", source: errno.into() }.into()),
        }
    }

    fn next_news(&mut self) -> Option<News> {
        let news = self.news.try_recv().ok()?;
        // One byte came with it, or is about to.
        drop(self.bell.read(&mut [0]));
        Some(news)
    }
}
