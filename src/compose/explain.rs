//! `config --explain`: every value of a project with where it comes from.

use super::node::{Node, Value};
use super::progress::Load;
use super::trace::{Trace, Used, text_of};
use crate::base::error::Location;

/// One value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Where it stands: `services.web.ports[0].target`. Keys with dots or brackets are in quotes.
    pub path: String,
    /// The value in one line; `None`: a tag removed it.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// The text in the file, where variables made the value of it.
    pub template: Option<String>,
    /// The variables that were looked up.
    pub variables: Vec<Used>,
    /// What it was laid over, the nearest first: place and value there.
    pub over: Vec<(Location, String)>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A compose file.
    File(Location),
    /// A line of an env file, which a place in a compose file names.
    EnvFile(Location, Location),
    /// No file says it: it is what the specification says where nothing is written.
    Default,
    /// The name of the project, from a flag, a variable or the folder.
    ProjectName,
}

/// Explains every value below `tree`, in its order, and what tags removed.
pub(super) fn explain(load: &mut Load, tree: &Node, project_name: &str) -> Vec<Explanation> {
    let Some(trace) = load.trace.take() else { return Vec::new() };
    let mut all = Vec::new();
    walk(load, &trace, None, tree, &mut String::new(), &mut all);
    if let Some(name) = all.iter_mut().find(|one| one.path == "name")
        && name.value.as_deref() == Some(project_name)
        && name.template.is_none()
        && tree.get("name").is_none_or(|node| !node.place().is_known())
    {
        name.origin = Origin::ProjectName;
    }
    for (path, tag, place, text) in trace.removals() {
        let Some(location) = load.location(*tag) else { continue };
        all.push(Explanation {
            path: path.clone(),
            value: None,
            origin: Origin::File(location),
            template: None,
            variables: Vec::new(),
            over: load.location(*place).map(|place| (place, text.clone())).into_iter().collect(),
        });
    }
    load.trace = Some(trace);
    all
}

/// Explains what is below `node`, which may be an item of `list`.
fn walk(load: &Load, trace: &Trace, list: Option<&Node>, node: &Node, path: &mut String, all: &mut Vec<Explanation>) {
    let length = path.len();
    match &node.value {
        Value::Map(map) if !map.is_empty() => {
            for (key, value) in map {
                join(path, key);
                walk(load, trace, None, value, path, all);
                path.truncate(length);
            }
        }
        Value::Sequence(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(load, trace, Some(node), item, path, all);
                path.truncate(length);
            }
        }
        // Shown in JSON only, because nothing is there.
        Value::Null | Value::Map(_) if node.mark == super::node::Mark::JsonOnly => {}
        _ => all.push(explain_one(load, trace, list, node, path)),
    }
}

fn explain_one(load: &Load, trace: &Trace, list: Option<&Node>, node: &Node, path: &str) -> Explanation {
    let place = node.place();
    let value = text_of(node);
    let (template, variables) = trace.template(place).cloned().unzip();
    let name = path.rsplit('.').next().unwrap_or_default().trim_matches('"');
    let line = trace.is_env_file(place).then(|| trace.definition(name, &value)).flatten();
    let origin = match (load.location(place), line) {
        (Some(location), Some((file, line))) => Origin::EnvFile(Location { file, line, column: 1 }, location),
        (Some(location), None) => Origin::File(location),
        (None, _) => Origin::Default,
    };
    let of_list = list.map_or(&[][..], |list| trace.below(list.place()));
    let below = trace.below(place).iter().chain(of_list);
    let over = below.filter_map(|(span, text)| Some((load.location(*span)?, text.clone()))).collect();
    let variables = variables.unwrap_or_default();
    Explanation { path: path.to_owned(), value: Some(value), origin, template, variables, over }
}

/// Adds a key to a path; one that holds what separates keys stands in quotes.
fn join(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    match key.is_empty() || key.contains(['.', '[', ']', '"', ' ']) {
        true => path.push_str(&format!("{key:?}")),
        false => path.push_str(key),
    }
}
