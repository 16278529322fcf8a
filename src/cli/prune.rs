//! What `prune` of each kind of object removes, and how it tells.

use std::io::{self, Write};

use jiff::Timestamp;

use super::members::Member;
use super::show::filter::{Filters, age_limit};
use super::{Failure, Mistake};
use crate::engine::Engine;
use crate::model::image::Image;
use crate::net::network::DEFAULT_NAME;
use crate::store::{GcOptions, GcReport};

/// Which of the unused objects are meant: by label and age.
pub struct Chosen {
    filters: Filters,
    until: Option<Timestamp>,
}

impl Chosen {
    /// By the filters `label`, `label!` and `until`, as far as `filters` may have them.
    pub fn by(filters: Filters) -> Result<Self, Mistake> {
        let until = age_limit(&filters)?;
        Ok(Self { filters, until })
    }

    fn is_old(&self, created: Option<Timestamp>) -> bool {
        self.until.is_none_or(|until| created.is_some_and(|created| created < until))
    }

    /// Of builds' memories, which have no labels: those before this moment.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

/// Removes containers that do not run; returns their ids and the bytes that their file systems took.
pub fn containers(engine: &Engine, chosen: &Chosen) -> Result<(Vec<String>, u64), Failure> {
    let (mut removed, mut freed) = (Vec::new(), 0);
    for (spec, state) in engine.store().containers().list()? {
        let member = Member { spec, state };
        let spec = &member.spec;
        if !member.is_up() && chosen.is_old(Some(spec.created)) && chosen.filters.accept_labels(&spec.labels) {
            freed += crate::base::fs::tree_bytes(&engine.store().containers().upper_folder(&spec.id));
            engine.remove(&spec.id, false, false)?;
            removed.push(spec.id.to_string());
        }
    }
    Ok((removed, freed))
}

/// Removes networks that no container uses; returns their names.
pub fn networks(engine: &Engine, chosen: &Chosen) -> Result<Vec<String>, Failure> {
    let users = engine.network_users()?;
    let mut removed = Vec::new();
    for network in engine.store().networks().list()? {
        let is_free = network.name != DEFAULT_NAME && users.get(&network.id).is_none_or(Vec::is_empty);
        if is_free && chosen.is_old(Some(network.created)) && chosen.filters.accept_labels(&network.labels) {
            engine.remove_network(&network.id)?;
            removed.push(network.name);
        }
    }
    Ok(removed)
}

/// Removes volumes that no container uses: `all`, or those without a name; returns their names and bytes.
pub fn volumes(engine: &Engine, all: bool, chosen: &Chosen) -> Result<(Vec<String>, u64), Failure> {
    let (mut removed, mut freed) = (Vec::new(), 0);
    for volume in engine.store().volumes().list()? {
        let wanted = (all || volume.anonymous) && chosen.filters.accept_labels(&volume.labels);
        if wanted && engine.store().volumes().containers_using(&volume.name)?.is_empty() {
            freed += crate::base::fs::tree_bytes(&engine.store().volumes().data_folder(&volume.name));
            engine.remove_volume(&volume.name)?;
            removed.push(volume.name);
        }
    }
    Ok((removed, freed))
}

/// Removes images as `options` say.
pub fn images(engine: &Engine, options: &GcOptions, chosen: &Chosen) -> Result<GcReport, Failure> {
    let is_chosen =
        |image: &Image| chosen.is_old(created(image)) && chosen.filters.accept_labels(&image.config.config.labels);
    Ok(engine.store().gc_chosen(options, &|image, _| is_chosen(image))?)
}

/// When an image was made.
pub fn created(image: &Image) -> Option<Timestamp> {
    image.config.created.as_ref()?.parse().ok()
}

/// Tells what of `kind` is gone, in Docker's words; nothing where nothing is.
pub fn tell(out: &mut impl Write, kind: &str, removed: &[String]) -> io::Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    writeln!(out, "Deleted {kind}:\n{}\n", removed.join("\n"))
}

/// The same of images: the names that they had, then their ids.
pub fn tell_images(out: &mut impl Write, report: &GcReport) -> io::Result<()> {
    let lines = report.images.iter().flat_map(|(id, names)| {
        let names = names.iter().map(|name| format!("untagged: {name}"));
        names.chain([format!("deleted: {id}")])
    });
    tell(out, "Images", &lines.collect::<Vec<_>>())
}
