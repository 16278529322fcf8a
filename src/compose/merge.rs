//! Lays one tree over another: later files over earlier ones, a service over the one that it extends.
//!
//! Mappings merge key by key, lists append, scalars replace, `null` keeps what is below. The attributes whose
//! rule is different stand in [`rule`]. What appending doubles, `unicity` removes afterwards.
//!
//! Specification: <https://github.com/compose-spec/compose-spec/blob/main/13-merge.md>.

use std::collections::{HashMap, HashSet};

use indexmap::map::Entry;

use super::Error;
use super::node::{Map, Node, Value};
use super::path::Path;
use super::progress::Load;

/// How an attribute merges.
enum Rule {
    /// As its type says.
    Default,
    /// The upper one alone.
    Replace,
    /// As lists of `key=value`.
    Pairs,
    /// As lists, without what is there already.
    Hosts,
    /// As mappings; text is the `context`.
    Build,
    /// As mappings; a list names dependencies without options.
    Dependencies,
    /// As mappings; a list names keys without options.
    Keys,
    /// Options merge where the driver is the same.
    Logging,
    /// By subnet.
    Subnets,
}

fn rule(path: &[&str]) -> Rule {
    match path {
        ["services", _, rest @ ..] => match rest {
            ["command" | "entrypoint"] | ["healthcheck", "test"] | ["ulimits", _] => Rule::Replace,
            ["annotations" | "dns" | "dns_opt" | "dns_search" | "env_file" | "label_file"]
            | ["environment" | "labels" | "sysctls" | "tmpfs"]
            | ["build", "args" | "additional_contexts" | "labels"]
            | ["deploy", "labels"] => Rule::Pairs,
            ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Hosts,
            ["build"] => Rule::Build,
            ["depends_on"] => Rule::Dependencies,
            ["networks" | "models"] => Rule::Keys,
            ["logging"] => Rule::Logging,
            _ => Rule::Default,
        },
        ["networks" | "volumes", _, "labels"] => Rule::Pairs,
        ["networks", _, "ipam", "config"] => Rule::Subnets,
        _ => Rule::Default,
    }
}

/// Returns `upper` laid over `lower`.
pub(crate) fn merge(load: &mut Load, lower: Node, upper: Node, path: Path<'_>) -> Result<Node, Error> {
    match rule(path.segments()) {
        Rule::Default => by_type(load, lower, upper, path),
        Rule::Replace => {
            load.replaced(&upper, &lower);
            Ok(upper)
        }
        Rule::Pairs => {
            let place = if upper.is_null() { lower.clone_place() } else { upper.clone_place() };
            let mut items = into_pairs(load, lower, path)?;
            items.extend(into_pairs(load, upper, path)?);
            Ok(place.with_value(Value::Sequence(items)))
        }
        Rule::Hosts => {
            let place = lower.clone_place();
            let mut items = into_pairs(load, lower, path)?;
            let known: HashSet<String> = items.iter().map(Node::fingerprint).collect();
            let added = into_pairs(load, upper, path)?;
            items.extend(added.into_iter().filter(|item| !known.contains(&item.fingerprint())));
            Ok(place.with_value(Value::Sequence(items)))
        }
        Rule::Build => merge_maps(load, into_build(lower), into_build(upper), path),
        Rule::Dependencies => {
            let dependency = || {
                let entries = [("condition", Node::from("service_started")), ("required", Node::from(true))];
                Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            };
            let lower = into_keys(load, lower, &dependency, path)?;
            let upper = into_keys(load, upper, &dependency, path)?;
            merge_maps(load, lower, upper, path)
        }
        Rule::Keys => {
            let lower = into_keys(load, lower, &|| Value::Null, path)?;
            let upper = into_keys(load, upper, &|| Value::Null, path)?;
            merge_maps(load, lower, upper, path)
        }
        Rule::Logging => {
            let same = match (lower.get("driver"), upper.get("driver")) {
                (Some(lower), Some(upper)) => lower == upper,
                _ => true,
            };
            if same || upper.is_null() {
                return by_type(load, lower, upper, path);
            }
            load.replaced(&upper, &lower);
            Ok(upper)
        }
        Rule::Subnets => merge_subnets(load, lower, upper, path),
    }
}

fn by_type(load: &mut Load, lower: Node, upper: Node, path: Path<'_>) -> Result<Node, Error> {
    if upper.is_null() {
        return Ok(lower);
    }
    match (&lower.value, &upper.value) {
        (Value::Map(_), _) => merge_maps(load, lower, upper, path),
        (Value::Sequence(_), Value::Sequence(_)) => {
            let mut lower = lower;
            if let (Value::Sequence(items), Value::Sequence(added)) = (&mut lower.value, upper.value) {
                items.extend(added);
            }
            Ok(lower)
        }
        (Value::Sequence(_), _) => Err(cannot_merge(load, &lower, &upper, path)),
        _ => {
            load.replaced(&upper, &lower);
            Ok(upper)
        }
    }
}

fn cannot_merge(load: &mut Load, lower: &Node, upper: &Node, path: Path<'_>) -> Error {
    let message = format!("{path} is {} here, and {} in what it is laid over", upper.kind(), lower.kind());
    load.fail_of_several(upper.place(), message, &[(lower.place(), &format!("{} here", lower.kind()))])
}

fn merge_maps(load: &mut Load, lower: Node, upper: Node, path: Path<'_>) -> Result<Node, Error> {
    match (lower, upper) {
        (lower, upper) if upper.is_null() => Ok(lower),
        (lower, upper) if lower.is_null() => Ok(upper),
        (Node { value: Value::Map(mut lower), span, key, mark }, Node { value: Value::Map(upper), .. }) => {
            merge_into(load, &mut lower, upper, path)?;
            Ok(Node { value: Value::Map(lower), span, key, mark })
        }
        (lower, upper) => Err(cannot_merge(load, &lower, &upper, path)),
    }
}

/// Lays the entries of `upper` over those of `lower`.
fn merge_into(load: &mut Load, lower: &mut Map, upper: Map, path: Path<'_>) -> Result<(), Error> {
    for (key, value) in upper {
        match lower.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => {
                let below = std::mem::replace(entry.get_mut(), Node::null());
                let merged = merge(load, below, value, path.join(entry.key()))?;
                entry.insert(merged);
            }
        }
    }
    Ok(())
}

/// A list as it is, a mapping as sorted `key=value` texts, text as a list of one.
fn into_pairs(load: &mut Load, node: Node, path: Path<'_>) -> Result<Vec<Node>, Error> {
    let place = node.clone_place();
    match node.value {
        Value::Null => Ok(Vec::new()),
        Value::Sequence(items) => Ok(items),
        Value::Text(_) => Ok(vec![node]),
        Value::Map(map) => {
            let mut pairs: Vec<(String, Node)> = Vec::with_capacity(map.len());
            for (key, value) in map {
                match &value.value {
                    Value::Sequence(items) => {
                        for item in items {
                            pairs.push((format!("{key}={}", item.scalar_text().unwrap_or_default()), item.clone()));
                        }
                    }
                    Value::Null => pairs.push((key, value)),
                    Value::Map(_) => {
                        let message = format!("{path}.{key} must be a string, not a mapping");
                        return Err(load.fail(value.place(), message));
                    }
                    _ => {
                        let text = value.scalar_text().unwrap_or_default();
                        pairs.push((format!("{key}={text}"), value));
                    }
                }
            }
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(pairs.into_iter().map(|(text, at)| Node::from(text).at(at.place(), at.key)).collect())
        }
        _ => {
            let message = format!("{path} must be a list or a mapping, not {}", place.kind());
            Err(load.fail(place.place(), message))
        }
    }
}

fn into_build(node: Node) -> Node {
    match node.value {
        Value::Text(_) => {
            let place = node.clone_place();
            place.with_value(Value::Map([("context".to_owned(), node)].into_iter().collect()))
        }
        _ => node,
    }
}

fn into_keys(load: &mut Load, node: Node, value: &dyn Fn() -> Value, path: Path<'_>) -> Result<Node, Error> {
    let place = node.clone_place();
    let Value::Sequence(items) = node.value else { return Ok(node) };
    let mut map = Map::new();
    for item in items {
        match &item.value {
            Value::Text(key) => {
                map.insert(key.clone(), Node::from(value()).at(item.span, item.span));
            }
            _ => return Err(load.fail(item.place(), format!("{path} must list strings, not {}", item.kind()))),
        }
    }
    Ok(place.with_value(Value::Map(map)))
}

/// Lays subnets over subnets: the upper list says which there are; what the lower one says of the same subnet
/// stays below it.
fn merge_subnets(load: &mut Load, lower: Node, upper: Node, path: Path<'_>) -> Result<Node, Error> {
    if upper.is_null() {
        return Ok(lower);
    }
    let place = upper.clone_place();
    let (Value::Sequence(lower), Value::Sequence(upper)) = (lower.value, upper.value) else {
        return Err(load.fail(place.place(), format!("{path} must be a list")));
    };
    let subnet = |node: &Node| node.get("subnet").map(Node::fingerprint);
    let mut below: HashMap<Option<String>, Node> = lower.into_iter().map(|node| (subnet(&node), node)).collect();
    let mut merged = Vec::with_capacity(upper.len());
    for above in upper {
        merged.push(match below.remove(&subnet(&above)) {
            Some(below) => merge_maps(load, below, above, path)?,
            None => above,
        });
    }
    Ok(place.with_value(Value::Sequence(merged)))
}
