//! From the merged tree to the [`Project`]: profiles, selection, unused resources, env files, typed services.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::model::VALUE_KEY;
use super::node::{Map, Node, Value};
use super::path::Path;
use super::progress::Load;
use super::validate::nearest;
use super::{Error, Options, Scope, consistency, output, resolve};
use crate::model::project::{FileObject, Locations, Project, Service};

/// Values of configs and secrets that come from the environment, by section and key.
type Values = BTreeMap<(&'static str, String), String>;

/// Collects the values that [`super::bind`] leaves out of the printed form.
pub(crate) fn take_values(root: &Node) -> Values {
    let mut values = Values::new();
    for section in ["configs", "secrets"] {
        for (key, node) in root.get(section).and_then(Node::as_map).into_iter().flatten() {
            if let Some(value) = node.get(VALUE_KEY).and_then(Node::as_str) {
                values.insert((section, key.clone()), value.to_owned());
            }
        }
    }
    values
}

/// Finishes a bound tree: what is left in it is what `config` prints.
pub(crate) fn finish(
    load: &mut Load,
    tree: &mut Node,
    options: &Options,
    scope: Scope,
    values: &Values,
) -> Result<Project, Error> {
    let mut disabled = Map::new();
    let selected = select_by_profile(tree, &mut disabled, &scope.profiles, &options.services);
    let profiles = match selected {
        Ok(profiles) => profiles,
        // A service that was left out because it is wrong is not one that does not exist.
        Err(error) => return Err(load.check().err().unwrap_or(error)),
    };
    if options.check_consistency && options.interpolate {
        consistency::check(load, tree, &disabled);
    }
    load.check()?;
    if options.only_services && !options.services.is_empty() {
        select_by_name(tree, &mut disabled, &options.services);
    }
    if !options.all_resources {
        drop_unused(tree);
    }
    for service in services_mut(tree) {
        if options.resolve_environment {
            resolve::environment(load, service, &scope.environment)?;
        }
        resolve::labels(load, service)?;
    }
    let mut project = Project {
        name: scope.project_name,
        working_dir: scope.project_directory,
        compose_files: scope.files,
        env_files: scope.env_files,
        environment: scope.environment,
        profiles: profiles.into_iter().filter(|profile| !profile.is_empty()).collect(),
        services: typed_services(load, tree.get("services").and_then(Node::as_map)),
        disabled_services: typed_services(load, Some(&disabled)),
        networks: typed(load, tree, "networks"),
        models: typed(load, tree, "models"),
        volumes: typed(load, tree, "volumes"),
        configs: typed(load, tree, "configs"),
        secrets: typed(load, tree, "secrets"),
        locations: Locations::default(),
        underscores: false,
    };
    for ((section, key), value) in values {
        let objects: &mut BTreeMap<String, FileObject> =
            if *section == "configs" { &mut project.configs } else { &mut project.secrets };
        if let Some(object) = objects.get_mut(key) {
            object.content = Some(value.clone());
        }
    }
    locate(load, tree, &mut String::new(), &mut project.locations);
    load.check()?;
    Ok(project)
}

fn services_mut(tree: &mut Node) -> impl Iterator<Item = &mut Node> {
    let services = tree.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut);
    services.into_iter().flat_map(|map| map.values_mut())
}

/// Moves services that no active profile enables to `disabled`; returns the active profiles.
fn select_by_profile(
    tree: &mut Node,
    disabled: &mut Map,
    profiles: &[String],
    named: &[String],
) -> Result<Vec<String>, Error> {
    let mut active: Vec<String> = profiles.to_vec();
    let Some(services) = tree.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut) else {
        return Ok(active);
    };
    let own = |service: &Node| -> Vec<String> {
        let profiles = service.get("profiles").and_then(Node::as_sequence).unwrap_or_default();
        profiles.iter().filter_map(|profile| profile.as_str().map(str::to_owned)).collect()
    };
    let enabled = |service: &Node, active: &[String]| {
        let own = own(service);
        own.is_empty() || active.iter().any(|profile| profile == "*" || own.contains(profile))
    };
    let before = active.clone();
    for name in named {
        let Some(service) = services.get(name) else {
            let nearest = nearest(name, services.keys().map(String::as_str)).map(str::to_owned);
            return Err(Error::NoService { name: name.clone(), nearest });
        };
        if !enabled(service, &before) {
            active.extend(own(service));
        }
    }
    let all = std::mem::take(services);
    for (name, service) in all {
        let to = if enabled(&service, &active) { &mut *services } else { &mut *disabled };
        to.insert(name, service);
    }
    Ok(active)
}

/// Moves what is neither named nor a dependency of what is named to `disabled`.
fn select_by_name(tree: &mut Node, disabled: &mut Map, named: &[String]) {
    let Some(services) = tree.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut) else {
        return;
    };
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = named.to_vec();
    while let Some(name) = open.pop() {
        let Some(service) = services.get(&name) else { continue };
        if wanted.insert(name) {
            open.extend(
                service.get("depends_on").and_then(Node::as_map).into_iter().flat_map(|map| map.keys().cloned()),
            );
        }
    }
    let all = std::mem::take(services);
    for (name, mut service) in all {
        if !wanted.contains(&name) {
            disabled.insert(name, service);
            continue;
        }
        if let Some(depends_on) =
            service.as_map_mut().and_then(|map| map.get_mut("depends_on")).and_then(Node::as_map_mut)
        {
            depends_on.retain(|name, _| wanted.contains(name));
        }
        services.insert(name, service);
    }
}

/// Drops resources that no enabled service uses.
fn drop_unused(tree: &mut Node) {
    let mut used: BTreeSet<(&str, String)> = BTreeSet::new();
    for service in services_mut(tree) {
        for section in ["networks", "models"] {
            let keys = service.get(section).and_then(Node::as_map).into_iter().flat_map(Map::keys);
            used.extend(keys.map(|key| (section, key.clone())));
        }
        let mut sources = |section: &'static str, list: Option<&Node>, wanted: &dyn Fn(&Node) -> bool| {
            for item in list.and_then(Node::as_sequence).unwrap_or_default().iter().filter(|item| wanted(item)) {
                if let Some(source) = item.get("source").and_then(Node::as_str) {
                    used.insert((section, source.to_owned()));
                }
            }
        };
        let is_volume = |mount: &Node| mount.get("type").and_then(Node::as_str) == Some("volume");
        sources("volumes", service.get("volumes"), &is_volume);
        sources("secrets", service.get("secrets"), &|_| true);
        sources("secrets", service.get_path(&["build", "secrets"]), &|_| true);
        sources("configs", service.get("configs"), &|_| true);
    }
    let Some(map) = tree.as_map_mut() else { return };
    for section in ["networks", "volumes", "secrets", "configs", "models"] {
        let Some(resources) = map.get_mut(section).and_then(Node::as_map_mut) else { continue };
        resources.retain(|key, _| used.contains(&(section, key.clone())));
        if resources.is_empty() {
            map.shift_remove(section);
        }
    }
}

fn typed_services(load: &mut Load, services: Option<&Map>) -> BTreeMap<String, Service> {
    let mut out = BTreeMap::new();
    for (name, node) in services.into_iter().flatten() {
        let canonical = output::json(node, Path::default().join("services").join(name));
        match Service::deserialize(&canonical) {
            Ok(service) => {
                out.insert(name.clone(), Service { name: name.clone(), canonical, ..service });
            }
            Err(_) if load.lenient => {}
            Err(error) => load.mistake(node.key, format!("service `{name}`: {error}")),
        }
    }
    out
}

fn typed<T: DeserializeOwned>(load: &mut Load, tree: &Node, section: &'static str) -> BTreeMap<String, T> {
    let mut out = BTreeMap::new();
    for (key, node) in tree.get(section).and_then(Node::as_map).into_iter().flatten() {
        match serde_json::from_value(output::json(node, Path::default().join(section).join(key))) {
            Ok(resource) => {
                out.insert(key.clone(), resource);
            }
            Err(_) if load.lenient => {}
            Err(error) => load.mistake(node.key, format!("{section}.{key}: {error}")),
        }
    }
    out
}

/// Notes where everything below `node` was written.
fn locate(load: &Load, node: &Node, path: &mut String, locations: &mut Locations) {
    let mut visit = |key: &str, child: &Node| {
        let length = path.len();
        if length > 0 {
            path.push('.');
        }
        path.push_str(key);
        let span = if child.key.is_known() { child.key } else { child.span };
        if let Some(location) = load.location(span) {
            locations.0.insert(path.clone(), location);
        }
        locate(load, child, path, locations);
        path.truncate(length);
    };
    match &node.value {
        Value::Map(map) => map.iter().for_each(|(key, child)| visit(key, child)),
        Value::Sequence(items) => {
            items.iter().enumerate().for_each(|(index, item)| visit(&index.to_string(), item));
        }
        _ => {}
    }
}

/// Takes the project's name from its files, unless a flag or variable chose one.
pub(crate) fn name(
    load: &mut Load,
    options: &Options,
    scope: &Scope,
    documents: &[(PathBuf, Vec<Node>)],
) -> Result<String, Error> {
    if let Some(name) = super::discovery::chosen_name(options, &scope.environment) {
        return Ok(name);
    }
    let named = documents
        .iter()
        .flat_map(|(_, documents)| documents)
        .filter_map(|document| document.get("name"))
        .rfind(|name| name.as_str().is_some_and(|text| !text.is_empty()));
    let hint = || Some("choose one with -p, or with `name:` in the file".to_owned());
    let Some(node) = named else {
        if scope.project_name.is_empty() {
            let folder = scope.project_directory.display().to_string();
            let message = format!("the folder {folder} does not give a project name");
            return Err(load.fail_with_hint(super::node::Span::default(), message, hint()));
        }
        return Ok(scope.project_name.clone());
    };
    let text = node.as_str().unwrap_or_default();
    let lookup = |name: &str| scope.environment.get(name).cloned();
    let substituted = match options.interpolate {
        true => super::template::substitute(text, &lookup, &mut |_| {})
            .map_err(|error| load.fail(node.place(), error.to_string()))?,
        false => text.to_owned(),
    };
    let name = super::discovery::normalize_name(&substituted);
    if name.is_empty() {
        let message = format!("`{text}` does not give a project name");
        return Err(load.fail_with_hint(node.place(), message, hint()));
    }
    Ok(name)
}
