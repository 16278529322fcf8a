//! An image of a container: its own layer on top of its image's.
//!
//! Source: moby `daemon/commit.go`, `daemon/images/image_commit.go`.

use super::{Engine, Error, Result};
use crate::base::id::ContainerId;
use crate::image::{self, apply_changes};
use crate::model::container::{ContainerSpec, Status};
use crate::model::image::{ContainerDefaults, History, Image};
use crate::model::reference::Reference;

/// What is said of the new image.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Its name.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// A remark in its history.
    pub message: Option<String>,
    /// Dockerfile instructions for its config.
    pub changes: Vec<String>,
    /// Freeze the container meanwhile.
    pub pause: bool,
}

impl Engine {
    /// Makes an image of a container, running or not.
    pub fn commit(&self, id: &ContainerId, commit: &Commit) -> Result<Image> {
        let spec = self.store.containers().spec(id)?;
        let image_id = spec
            .image_id
            .as_ref()
            .ok_or_else(|| Error::ImageMissing { image: spec.image.clone(), reason: "the container has none" })?;
        let base = self.store.images().get(image_id)?;
        let mut config = base.config.clone();
        config.config = defaults_of(&spec, &base.config.config);
        apply_changes(&mut config.config, &commit.changes)?;
        let is_running = self.store.containers().state(id)?.status == Status::Running;
        let frozen = commit.pause && is_running;
        if frozen {
            self.pause(id)?;
        }
        let layer = image::layer_of_folder(&self.store, &self.store.containers().upper_folder(id));
        if frozen {
            self.unpause(id)?;
        }
        let layer = layer?;
        let created = jiff::Timestamp::now().to_string();
        config.created = Some(created.clone());
        config.author.clone_from(&commit.author);
        config.rootfs.diff_ids.push(layer.diff_id.clone());
        config.history.push(History {
            created: Some(created),
            created_by: Some(spec.process.args.join(" ")),
            author: commit.author.clone(),
            comment: commit.message.clone(),
            ..History::default()
        });
        let layers = base.layers.iter().cloned().chain([layer]).collect();
        Ok(image::publish(&self.store, config, None, layers, commit.reference.as_slice())?)
    }
}

/// What a container of the new image is by default: what this one is.
fn defaults_of(spec: &ContainerSpec, base: &ContainerDefaults) -> ContainerDefaults {
    let mut defaults = base.clone();
    // Set for every container, so not this one's own.
    let own = |entry: &&String| !["HOSTNAME=", "HOME=", "TERM="].iter().any(|name| entry.starts_with(name));
    defaults.env = spec.process.env.iter().filter(own).cloned().collect();
    let (entrypoint, command) = spec.entrypoint_and_command();
    let list = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    (defaults.entrypoint, defaults.cmd) = (list(entrypoint), list(command));
    defaults.user.clone_from(&spec.process.user);
    defaults.working_dir.clone_from(&spec.process.cwd);
    defaults.labels.extend(spec.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    defaults
}
