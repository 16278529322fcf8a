//! Builds that take the image of another service as a context (`additional_contexts: {base: "service:base"}`): that
//! image is built first.

use std::collections::{BTreeMap, BTreeSet};

use super::images::Need;
use super::service::image_name;
use super::{Error, Result};
use crate::model::project::{Build, Project, Service};

/// Images to be had, by name.
pub(super) type Needs<'p> = BTreeMap<String, (&'p Service, Need<'p>)>;

/// The service whose image an additional context is.
pub(super) fn service<'p>(project: &'p Project, context: &str) -> Option<&'p Service> {
    let name = context.strip_prefix("service:")?;
    project.services.get(name).or_else(|| project.disabled_services.get(name))
}

fn services<'a, 'p>(project: &'p Project, build: &'a Build) -> impl Iterator<Item = &'p Service> + use<'a, 'p> {
    build.additional_contexts.values().filter_map(|context| service(project, context))
}

fn build_of<'p>(need: &Need<'p>) -> Option<&'p Build> {
    match need {
        Need::Build(build) | Need::PullElseBuild(_, build) => Some(build),
        Need::Pull(_) => None,
    }
}

/// Adds the builds that others need; what has not changed comes from the cache.
pub(super) fn add_built<'p>(project: &'p Project, needs: &mut Needs<'p>) {
    let mut waiting: Vec<&Build> = needs.values().filter_map(|(_, need)| build_of(need)).collect();
    while let Some(build) = waiting.pop() {
        for service in services(project, build) {
            let Some(build) = &service.build else { continue };
            let name = image_name(project, service);
            if let std::collections::btree_map::Entry::Vacant(entry) = needs.entry(name) {
                entry.insert((service, Need::Build(build)));
                waiting.push(build);
            }
        }
    }
}

/// The needs in rounds: what a build takes as a context is had in an earlier one.
///
/// Errors: services that take each other.
pub(super) fn rounds<'n, 'p>(project: &Project, needs: &'n Needs<'p>) -> Result<Vec<Vec<&'n (&'p Service, Need<'p>)>>> {
    let mut left: BTreeSet<&str> = needs.keys().map(String::as_str).collect();
    let mut rounds = Vec::new();
    while !left.is_empty() {
        let waits = |name: &&str| {
            let build = build_of(&needs[*name].1);
            build.is_some_and(|build| {
                services(project, build).any(|service| left.contains(image_name(project, service).as_str()))
            })
        };
        let (waiting, ready): (BTreeSet<&str>, BTreeSet<&str>) = left.iter().copied().partition(waits);
        if ready.is_empty() {
            let names: Vec<&str> = waiting.iter().map(|name| needs[*name].0.name.as_str()).collect();
            let what = format!("the builds of {} take each other as additional contexts", names.join(", "));
            return Err(Error::Unsupported { what });
        }
        rounds.push(ready.iter().map(|name| &needs[*name]).collect());
        left = waiting;
    }
    Ok(rounds)
}
