//! Reads a service's `env_file`s into its `environment` and its `label_file`s into its `labels`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::limits::{ENV_FILE_BYTES_MAX, PIPE_PATIENCE};
use super::model::{env_file_error, reason};
use super::node::{Map, Node, Span, Value};
use super::progress::Load;
use super::{Error, dotenv};

/// Resolves variables of one bound service; `env_file` is gone afterwards.
///
/// `environment` wins over the files, later files over earlier ones. Substitution in the files sees the
/// project's environment first, then the service's own variables, then earlier lines.
pub(crate) fn environment(
    load: &mut Load,
    service: &mut Node,
    project: &BTreeMap<String, String>,
) -> Result<(), Error> {
    let Some(map) = service.as_map_mut() else { return Ok(()) };
    let mut own: Vec<(String, Node)> = match map.get("environment").map(|node| &node.value) {
        Some(Value::Map(own)) => own.iter().map(|(key, node)| (key.clone(), node.clone())).collect(),
        _ => Vec::new(),
    };
    for (key, node) in &mut own {
        if let (true, Some(value)) = (node.is_null(), project.get(key)) {
            if let Some(trace) = &mut load.trace {
                trace.substitute(node.place(), key, vec![(key.clone(), Some(value.clone()))]);
            }
            node.value = Value::Text(value.clone());
        }
    }
    let values: BTreeMap<&str, &str> =
        own.iter().filter_map(|(key, node)| Some((key.as_str(), node.as_str()?))).collect();
    let lookup = |name: &str| project.get(name).cloned().or_else(|| values.get(name).map(|value| (*value).to_owned()));
    let mut variables = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut places: BTreeMap<String, Node> = BTreeMap::new();
    for file in map.get("env_file").and_then(Node::as_sequence).unwrap_or_default() {
        read(load, file, &mut variables, &lookup)?;
        for key in variables.keys() {
            places.entry(key.clone()).or_insert_with(|| file.clone_place());
        }
    }
    for _ in &variables {
        load.charge(map.get("env_file").map_or_else(Span::default, Node::place), 0)?;
    }
    let mut merged: BTreeMap<String, Node> = variables
        .into_iter()
        .map(|(key, value)| {
            let place = places.get(&key).map_or_else(Node::null, Node::clone_place);
            (key, place.with_value(Value::Text(value)))
        })
        .collect();
    merged.extend(own);
    map.shift_remove("env_file");
    set(map, "environment", merged);
    Ok(())
}

/// Resolves labels of one bound service; `label_file` is gone afterwards.
pub(crate) fn labels(load: &mut Load, service: &mut Node) -> Result<(), Error> {
    let Some(map) = service.as_map_mut() else { return Ok(()) };
    let Some(files) = map.get("label_file").and_then(Node::as_sequence) else { return Ok(()) };
    let mut labels = BTreeMap::new();
    for file in files {
        let before = labels.clone();
        read(load, file, &mut labels, &|name| before.get(name).cloned())?;
    }
    map.shift_remove("label_file");
    let mut merged: BTreeMap<String, Node> = labels.into_iter().map(|(key, value)| (key, Node::from(value))).collect();
    if let Some(Value::Map(own)) = map.get("labels").map(|node| &node.value) {
        merged.extend(own.iter().map(|(key, node)| (key.clone(), node.clone())));
    }
    set(map, "labels", merged);
    Ok(())
}

/// Sets an attribute where print order wants it.
fn set(map: &mut Map, key: &str, entries: BTreeMap<String, Node>) {
    if entries.is_empty() {
        map.shift_remove(key);
        return;
    }
    let value = Value::Map(entries.into_iter().collect());
    if let Some(node) = map.get_mut(key) {
        node.value = value;
        return;
    }
    let order = |name: &str| super::attributes::SERVICE.iter().position(|(known, _)| *known == name);
    let at = map.keys().position(|other| order(other).is_none_or(|other| Some(other) > order(key)));
    map.shift_insert(at.unwrap_or(map.len()), key.to_owned(), value.into());
}

/// Adds the variables of one file, which is a path or `{path, required, format}`.
fn read(
    load: &mut Load,
    file: &Node,
    variables: &mut BTreeMap<String, String>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Error> {
    let path = PathBuf::from(file.as_str().or_else(|| file.get("path")?.as_str()).unwrap_or_default());
    let required = file.get("required").map(|node| &node.value) != Some(&Value::Bool(false));
    load.sources.insert(path.clone());
    let bytes = match crate::base::fs::read_limited_within(&path, ENV_FILE_BYTES_MAX, PIPE_PATIENCE) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() && !required => return Ok(()),
        Err(error) => {
            let place = file.get("path").map_or(file.place(), Node::place);
            let message = format!("cannot read {}: {}", path.display(), reason(&error.source));
            return Err(load.fail(place, message));
        }
    };
    load.charge(file.place(), bytes.len())?;
    let text = String::from_utf8_lossy(&bytes);
    let result = match file.get("format").and_then(Node::as_str) {
        None | Some("" | ".env") => dotenv::parse(&text, variables, lookup),
        Some("raw") => dotenv::parse_raw(&text, variables, lookup),
        Some(other) => {
            let place = file.get("format").map_or(file.place(), Node::place);
            return Err(load.fail(place, format!("`{other}` is not a format of env files: leave it out, or use raw")));
        }
    };
    if let Some(trace) = &mut load.trace {
        trace.define(&path, &text, variables);
        trace.env_file(file.place());
    }
    result.map_err(|error| env_file_error(load, &path, &bytes, error))
}
