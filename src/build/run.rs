//! RUN: a command in the embedded runtime, above the layers of its stage; what it writes is the new layer.

use sha2::Sha256;

use super::content::field;
use super::dockerfile::mount::MountKind;
use super::error::Error;
use super::execute::{Executor, Running, digest, identity, unsupported};
use super::interpret::RunAction;
use super::plan::Origin;
use crate::base::id::Digest;
use crate::model::image::LayerRecord;

impl Executor<'_> {
    /// Everything that a RUN depends on. Proxies, secrets and the content of cache mounts are not part of it.
    pub(super) fn run_key(&self, running: &Running<'_>, action: &RunAction) -> Result<Digest, Error> {
        let mut key = self.key(running, "run");
        for list in [&action.args, &action.env] {
            field(&mut key, &(list.len() as u64).to_le_bytes());
            list.iter().for_each(|text| field(&mut key, text.as_bytes()));
        }
        for text in [&action.cwd, &action.user] {
            field(&mut key, text.as_bytes());
        }
        field(&mut key, format!("{:?} {:?} {}", action.script, action.network, action.insecure).as_bytes());
        field(&mut key, format!("{:?} {:?}", self.request.network, self.request.extra_hosts).as_bytes());
        for (mount, origin) in &action.mounts {
            field(&mut key, format!("{mount:?}").as_bytes());
            self.add_origin(running, &mut key, mount.kind, mount.source.as_deref(), origin.as_ref())?;
        }
        Ok(digest(key))
    }

    fn add_origin(
        &self,
        running: &Running<'_>,
        key: &mut Sha256,
        kind: MountKind,
        source: Option<&str>,
        origin: Option<&Origin>,
    ) -> Result<(), Error> {
        match (kind, origin) {
            (MountKind::Bind, None) => {
                let content = self.context_digest(&running.step.line, source.unwrap_or(""))?;
                field(key, &content);
            }
            (MountKind::Bind | MountKind::Cache, Some(origin)) => {
                field(key, identity(&self.layers_of(origin)).as_bytes());
            }
            _ => {}
        }
        Ok(())
    }

    /// Runs the command and commits what it wrote.
    pub(super) fn run_step(&self, running: &Running<'_>, action: &RunAction) -> Result<LayerRecord, Error> {
        let _ = action;
        Err(unsupported(&running.step.line, "", "RUN"))
    }
}
