//! Reads the logs of several containers as one: lines in the order of their times, and, when following, whatever
//! comes, until each container has ended.
//!
//! Nothing here blocks: [`Follower::turn`] writes what there is, [`Follower::fds`] become readable when there may be
//! more. The loop belongs to the verb, which may have more to wait for.

use std::io::Write;
use std::os::fd::BorrowedFd;

use jiff::Timestamp;

use super::printer::Printer;
use crate::base::id::ContainerId;
use crate::cli::Failure;
use crate::log::{self, Line, Next, ReadOptions, Reader};
use crate::model::container::{ContainerSpec, ContainerState, Status};
use crate::store::Store;
use crate::supervise;

/// What happened to a container that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub id: ContainerId,
    /// Its service, or its name.
    pub service: String,
    /// Its exit code.
    pub exit_code: i32,
}

/// The log of one container.
struct Source {
    id: ContainerId,
    service: String,
    voice: usize,
    shown: bool,
    reader: Reader,
    pending: Option<Line>,
    finished: bool,
    restarts_seen: u32,
    /// The start of a run that was over before this source was added: its end is not news.
    earlier_run: Option<Timestamp>,
}

/// The logs of several containers, merged.
pub struct Follower<O, E> {
    store: Store,
    options: ReadOptions,
    announce: bool,
    printer: Printer<O, E>,
    sources: Vec<Source>,
    /// Containers that ended and are followed again when another command starts them.
    asleep: Vec<Source>,
}

/// `env=value,label=value`, of those that the options of the log name, as Docker writes them.
fn details(spec: &ContainerSpec) -> String {
    let wanted = |names: &[String], key: &str| names.iter().any(|name| name == key);
    let labels = spec.labels.iter().filter(|(key, _)| wanted(&spec.logging.labels, key));
    let environment = spec.process.env.iter().filter_map(|entry| entry.split_once('='));
    let environment = environment.filter(|(key, _)| wanted(&spec.logging.env, key));
    let mut pairs: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    pairs.extend(environment.map(|(key, value)| format!("{key}={value}")));
    pairs.sort();
    pairs.join(",")
}

impl<O: Write, E: Write> Follower<O, E> {
    /// A follower of nothing yet. `announce` says when a container ends.
    pub fn new(store: Store, options: ReadOptions, announce: bool, printer: Printer<O, E>) -> Self {
        Self { store, options, announce, printer, sources: Vec::new(), asleep: Vec::new() }
    }

    /// Adds a container under the name that its lines get; one that is followed already stays as it is.
    /// Of one that is not `shown` only the end is noticed.
    pub fn add(&mut self, id: &ContainerId, name: &str, service: &str, shown: bool) -> Result<(), Failure> {
        if self.sources.iter().any(|source| source.id == *id) {
            return Ok(());
        }
        self.asleep.retain(|source| source.id != *id);
        let containers = self.store.containers();
        let mut reader = log::read(&supervise::log_path(&self.store, id), self.options)?;
        reader.watch(&containers.folder(id))?;
        let restarts_seen = containers.state(id)?.restart_count;
        let voice = self.printer.add(if shown { name } else { "" });
        self.printer.describe(voice, details(&containers.spec(id)?));
        self.sources.push(Source {
            id: id.clone(),
            service: service.to_owned(),
            voice,
            shown,
            reader,
            pending: None,
            finished: false,
            restarts_seen,
            earlier_run: None,
        });
        Ok(())
    }

    /// Adds a container that is about to be started, with its state before that: an end that it has behind it is
    /// not reported, only the end of the run that is to come.
    pub fn add_before_start(
        &mut self,
        id: &ContainerId,
        before: &ContainerState,
        name: &str,
        service: &str,
        shown: bool,
    ) -> Result<(), Failure> {
        self.add(id, name, service, shown)?;
        if let Some(source) = self.sources.iter_mut().find(|source| source.id == *id) {
            source.earlier_run = before.started_at;
        }
        Ok(())
    }

    /// Whether there is nothing left to follow.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// What to wait for between two turns.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.sources.iter().chain(&self.asleep).filter_map(|source| source.reader.fd()).collect()
    }

    /// Writes all that there is, and returns the containers that ended meanwhile; those are not followed any more.
    pub fn turn(&mut self) -> Result<Vec<Ended>, Failure> {
        let mut ended = Vec::new();
        self.wake()?;
        loop {
            self.fetch(&mut ended)?;
            // The oldest of the lines that are there comes first.
            let oldest = self
                .sources
                .iter_mut()
                .filter(|source| source.pending.is_some())
                .min_by_key(|source| source.pending.as_ref().map(|line| line.time));
            match oldest {
                Some(source) => {
                    let (voice, shown) = (source.voice, source.shown);
                    if let Some(line) = source.pending.take()
                        && shown
                    {
                        self.printer.print(voice, &line)?;
                    }
                }
                None => break,
            }
        }
        self.printer.flush()?;
        Ok(ended)
    }

    /// Gets the next line of each source that has one; takes out those that are at their end.
    fn fetch(&mut self, ended: &mut Vec<Ended>) -> Result<(), Failure> {
        let mut index = 0;
        while index < self.sources.len() {
            let source = &mut self.sources[index];
            if source.pending.is_none() {
                match source.reader.try_next()? {
                    Next::Line(line) => source.pending = Some(line),
                    Next::Wait => {
                        if self.look(index)? {
                            continue;
                        }
                    }
                    Next::End => {
                        self.end(index, ended)?;
                        continue;
                    }
                }
            }
            index += 1;
        }
        Ok(())
    }

    /// Looks how a silent container fares; whether its reader must be asked once more, since it has ended.
    fn look(&mut self, index: usize) -> Result<bool, Failure> {
        let source = &mut self.sources[index];
        if source.finished {
            return Ok(false);
        }
        let state = match self.store.containers().state(&source.id) {
            Ok(state) => Some(state),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        match state {
            Some(state) if has_ended(&state) && is_earlier(source.earlier_run, &state) => Ok(false),
            Some(state) if !has_ended(&state) => {
                if state.restart_count > source.restarts_seen {
                    source.restarts_seen = state.restart_count;
                    if self.announce {
                        self.printer
                            .say(source.voice, &format!("exited with code {} (restarting)", state.exit_code))?;
                    }
                }
                Ok(false)
            }
            _ => {
                source.finished = true;
                source.reader.finish();
                Ok(true)
            }
        }
    }

    fn end(&mut self, index: usize, ended: &mut Vec<Ended>) -> Result<(), Failure> {
        let source = self.sources.remove(index);
        self.printer.finish(source.voice)?;
        if !self.options.follow {
            return Ok(());
        }
        // A container that was removed meanwhile has told nobody how it ended.
        let exit_code = self.store.containers().state(&source.id).map_or(0, |state| state.exit_code);
        if self.announce && source.shown {
            self.printer.say(source.voice, &format!("exited with code {exit_code}"))?;
        }
        ended.push(Ended { id: source.id.clone(), service: source.service.clone(), exit_code });
        self.put_to_sleep(source)
    }

    /// Watches a container that ended, from what it has written so far on.
    fn put_to_sleep(&mut self, mut source: Source) -> Result<(), Failure> {
        let containers = self.store.containers();
        let options = ReadOptions { since: Some(Timestamp::now()), tail: None, ..self.options };
        let watched = log::read(&supervise::log_path(&self.store, &source.id), options)
            .and_then(|mut reader| reader.watch(&containers.folder(&source.id)).map(|()| reader));
        source.reader = match watched {
            Ok(reader) => reader,
            // Removed meanwhile: it will not come back.
            Err(_) if !containers.exists(&source.id) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        source.finished = false;
        source.pending = None;
        self.asleep.push(source);
        Ok(())
    }

    /// Takes up containers that were started again, and forgets those that were removed.
    fn wake(&mut self) -> Result<(), Failure> {
        let mut index = 0;
        while index < self.asleep.len() {
            // Empties the queue of its watch; there is nothing to print before it runs again.
            let first = self.asleep[index].reader.try_next()?;
            match self.store.containers().state(&self.asleep[index].id) {
                Ok(state) if has_ended(&state) && !matches!(first, Next::Line(_)) => index += 1,
                Ok(state) => {
                    let mut source = self.asleep.remove(index);
                    source.restarts_seen = state.restart_count;
                    if let Next::Line(line) = first {
                        source.pending = Some(line);
                    }
                    self.sources.push(source);
                }
                Err(error) if error.is_not_found() => drop(self.asleep.remove(index)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Whether the last run is still the one that was over when the container was added.
fn is_earlier(earlier_run: Option<Timestamp>, state: &ContainerState) -> bool {
    earlier_run.is_some() && state.started_at == earlier_run
}

/// Whether a container has ended for good.
pub fn has_ended(state: &ContainerState) -> bool {
    matches!(state.status, Status::Exited | Status::Dead)
}
