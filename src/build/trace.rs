//! Stages whose steps are all known, here or to a cache elsewhere: their layers need not be here.
//!
//! A key is made of what the layers below are, not of the layers; so a step that copies from such a stage can be found
//! without anything of the stage being fetched or run. That is what makes `--cache-to mode=min` enough for most
//! builds of several stages. Who reads from such a stage after all has it made first.

use std::sync::PoisonError;

use super::error::Error;
use super::execute::{Built, Executor, Running};
use super::git::is_git;
use super::interpret::{Action, CopyAction, is_url};
use super::plan::{Base, Origin};
use crate::base::id::Digest;
use crate::model::event::EventStatus;
use crate::store::StepRecord;

impl Executor<'_> {
    /// What a stage is by what is known of its steps; `None` when it has to be made.
    pub(super) fn trace(&self, index: usize) -> Result<Option<Built>, Error> {
        let writes_all = self.request.cache_to.iter().any(|export| export.all);
        let Some(interpreted) = self.stages.get(&index).filter(|_| !writes_all && !self.is_below_target(index)) else {
            return Ok(None);
        };
        // Files are not hashed for a stage of which perhaps nothing is known.
        let first = interpreted.steps.first().map(|step| &step.action);
        if self.sources.is_empty() && matches!(first, Some(Action::Copy(action)) if is_of_host(action)) {
            return Ok(None);
        }
        let mut built = self.begin(index);
        let (mut records, mut resources) = (Vec::new(), Vec::new());
        for (number, step) in interpreted.steps.iter().enumerate() {
            let resource = self.resource(index, number, step);
            let running = Running { step, stage: index, resource: resource.clone(), layers: &built.layers };
            let key = self.key_without_files_of_stages(&running)?;
            let Some(record) = key.and_then(|key| self.known(&running, &key).transpose()).transpose()? else {
                return Ok(None);
            };
            built.layers.extend(record.layers.clone());
            built.created.push(record.created);
            records.push(record);
            resources.push(resource);
        }
        for resource in resources {
            self.report(&resource, EventStatus::Working, "");
            self.report(&resource, EventStatus::Done, "CACHED");
        }
        for record in &records {
            if self.store.cache().trace(&record.key)?.is_none() {
                self.store.cache().remember(record)?;
            }
        }
        self.lock().steps.extend(records);
        built.is_traced = built.layers.iter().any(|layer| !self.store.layers().exists(&layer.diff_id));
        Ok(Some(built))
    }

    /// Makes a stage that is only known by what it would be; nothing when it is here.
    pub(super) fn make(&self, index: usize) -> Result<(), Error> {
        {
            let mut state = self.lock();
            loop {
                if !state.built.get(&index).is_some_and(|built| built.is_traced) {
                    return Ok(());
                }
                if state.making.insert(index) {
                    break;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        let made = self.stage(index);
        let mut state = self.lock();
        state.making.remove(&index);
        // Who waits tries it anew after an error, and fails for itself.
        let made = made.map(|built| drop(state.built.insert(index, built)));
        self.changed.notify_all();
        made
    }

    /// The target and what it begins with: their layers are those of the image.
    fn is_below_target(&self, index: usize) -> bool {
        let mut current = self.plan.target;
        loop {
            match self.plan.stages[current].base {
                _ if current == index => return true,
                Base::Stage(base) => current = base,
                _ => return false,
            }
        }
    }

    fn known(&self, running: &Running<'_>, key: &Digest) -> Result<Option<StepRecord>, Error> {
        if self.is_forgetful(running) {
            return Ok(None);
        }
        let cache = self.store.cache();
        if let Some(record) = cache.step(key)?.map_or_else(|| cache.trace(key), |record| Ok(Some(record)))? {
            return Ok(Some(record));
        }
        Ok(self.sources.iter().find_map(|source| source.trace(key, self.progress)))
    }

    /// The key of a step, when it can be told without files of other stages and of the network.
    fn key_without_files_of_stages(&self, running: &Running<'_>) -> Result<Option<Digest>, Error> {
        Ok(match &running.step.action {
            Action::Run(action) => Some(self.run_key(running, action)?),
            Action::Workdir { path, user } => Some(self.workdir_key(running, path, user)),
            Action::Copy(action) => match &action.origin {
                Some(Origin::Stage(_) | Origin::Image(_)) => self.copy_keys(running, action).1,
                _ if action.sources.iter().any(|source| is_url(source) || is_git(source)) => None,
                _ => Some(self.key_of_files(running, action)?),
            },
        })
    }
}

/// Whether a COPY reads files of the host.
fn is_of_host(action: &CopyAction) -> bool {
    matches!(action.origin, None | Some(Origin::Folder(_)))
}
