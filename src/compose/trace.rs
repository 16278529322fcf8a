//! What `config --explain` tells beyond places: what was overridden, which variables a value came from, what a tag
//! removed. Collected only where it was asked for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::node::{Node, Span, Value};

/// Characters of a value that an explanation shows.
const VALUE_CHARACTERS_MAX: usize = 200;

/// What one load has seen, by the place where a value stands.
#[derive(Default)]
pub(crate) struct Trace {
    /// The caller's environment.
    caller: BTreeMap<String, String>,
    /// What a value was laid over: place and text, the nearest first.
    replaced: HashMap<Span, Vec<(Span, String)>>,
    /// The text that a value was substituted from, and the variables that were looked up for it.
    substituted: HashMap<Span, (String, Vec<Used>)>,
    /// What `!reset` took away: path, place of the tag, place and text of what was there.
    removed: Vec<(String, Span, Span, String)>,
    /// Variables of env files: value, file and line, in the order in which they were read.
    defined: HashMap<String, Vec<(String, PathBuf, usize)>>,
    /// The places in compose files that name the env files of services.
    env_files: HashSet<Span>,
}

/// A variable that was looked up, and where its value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Its name.
    pub name: String,
    /// Its value, if it had one.
    pub value: Option<String>,
    /// The env file and line that gave the value; `None`: the environment.
    pub file: Option<(PathBuf, usize)>,
}

impl Trace {
    /// A trace of a load for a caller with this environment.
    pub fn new(caller: BTreeMap<String, String>) -> Self {
        Self { caller, ..Self::default() }
    }

    /// Notes that `lower` lost to `upper`.
    pub fn replace(&mut self, upper: &Node, lower: &Node) {
        if upper.place() == lower.place() || !lower.place().is_known() {
            return;
        }
        let below = self.replaced.get(&lower.place()).cloned().unwrap_or_default();
        let all = self.replaced.entry(upper.place()).or_default();
        let entry = (lower.place(), text_of(lower));
        if !all.contains(&entry) {
            all.insert(0, entry);
            all.extend(below);
        }
    }

    /// Notes that a tag at `tag` removed `node` at `path`.
    pub fn remove(&mut self, path: String, tag: Span, node: &Node) {
        self.removed.push((path, tag, node.place(), text_of(node)));
    }

    /// Notes the text of a value and the variables that were looked up for it.
    pub fn substitute(&mut self, place: Span, text: &str, names: Vec<(String, Option<String>)>) {
        let used = names.into_iter().map(|(name, value)| self.origin(name, value)).collect();
        self.substituted.insert(place, (text.to_owned(), used));
    }

    /// Notes the variables that an env file gave.
    pub fn define(&mut self, file: &Path, text: &str, variables: &BTreeMap<String, String>) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start().trim_start_matches("export ");
            let name = line.split(['=', ':']).next().unwrap_or_default().trim();
            if let Some(value) = variables.get(name) {
                let places = self.defined.entry(name.to_owned()).or_default();
                places.push((value.clone(), file.to_owned(), number + 1));
            }
        }
    }

    /// Where a variable of this value came from.
    pub fn origin(&self, name: String, value: Option<String>) -> Used {
        let file = match &value {
            Some(value) if self.caller.get(&name) != Some(value) => self.definition(&name, value),
            _ => None,
        };
        Used { name, value, file }
    }

    /// The last env file and line that gave `name` this value.
    pub fn definition(&self, name: &str, value: &str) -> Option<(PathBuf, usize)> {
        let places = self.defined.get(name)?;
        places.iter().rfind(|(other, ..)| other == value).map(|(_, file, line)| (file.clone(), *line))
    }

    /// Notes a place that names an env file: values from the file have it as theirs.
    pub fn env_file(&mut self, place: Span) {
        self.env_files.insert(place);
    }

    /// Whether this place names an env file.
    pub fn is_env_file(&self, place: Span) -> bool {
        self.env_files.contains(&place)
    }

    /// What a value at this place was laid over.
    pub fn below(&self, place: Span) -> &[(Span, String)] {
        self.replaced.get(&place).map_or(&[], Vec::as_slice)
    }

    /// The text and the variables of a value at this place.
    pub fn template(&self, place: Span) -> Option<&(String, Vec<Used>)> {
        self.substituted.get(&place)
    }

    /// What tags removed: path, place of the tag, place and text of what was there.
    pub fn removals(&self) -> &[(String, Span, Span, String)] {
        &self.removed
    }
}

/// A value in one line.
pub(crate) fn text_of(node: &Node) -> String {
    let text = match &node.value {
        Value::Map(map) if map.is_empty() => "{}".to_owned(),
        Value::Null => "null".to_owned(),
        Value::Map(_) | Value::Sequence(_) => super::output::whole_json(node).to_string(),
        _ => node.scalar_text().unwrap_or_default(),
    };
    match text.char_indices().nth(VALUE_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
