//! The typed values of attributes: durations, sizes, modes, commands, lists that may be mappings.
//!
//! Each function notes what is wrong with a value and gives `None`, or leaves it out.

use super::bind::sorted;
use super::error::shorten;
use super::interpolate::Cast;
use super::node::{Map, Node, Value};
use super::path::{ITEM, Path};
use super::progress::Load;
use super::words;
use crate::base::units;

pub(super) fn list(items: Vec<Node>) -> Option<Value> {
    (!items.is_empty()).then_some(Value::Sequence(items))
}

pub(super) fn map_value(map: Map) -> Option<Value> {
    (!map.is_empty()).then_some(Value::Map(map))
}

/// Notes that the value is not what it should be.
pub(super) fn wrong(load: &mut Load, node: &Node, expected: &str, path: Path<'_>) {
    let shown = node.scalar_text().map_or_else(|| node.kind().to_owned(), |text| format!("`{}`", shorten(&text)));
    load.mistake(node.place(), format!("{path} must be {expected}, not {shown}"));
}

pub(super) fn text_of(load: &mut Load, node: &Node, path: Path<'_>) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        _ => {
            wrong(load, node, "a string", path);
            None
        }
    }
}

pub(super) fn cast(load: &mut Load, node: &Node, cast: Cast, path: Path<'_>) -> Option<Value> {
    let expected = match (&node.value, cast) {
        (Value::Text(text), cast) => match cast.apply(text, load, node.span) {
            Ok(value) => return Some(value),
            Err(expected) => expected,
        },
        (Value::Bool(_), Cast::Flag) => return Some(node.value.clone()),
        (Value::Integer(_) | Value::Float(_), Cast::Short) => return Some(node.value.clone()),
        (_, Cast::Flag) => "true or false",
        _ => "a number",
    };
    wrong(load, node, expected, path);
    None
}

pub(super) fn whole(load: &mut Load, node: &Node, path: Path<'_>) -> Option<i64> {
    match &node.value {
        Value::Integer(number) => return Some(*number),
        Value::Float(number) if number.is_finite() => return Some(*number as i64),
        Value::Text(text) => {
            if let Ok(number) = text.parse() {
                return Some(number);
            }
        }
        _ => {}
    }
    wrong(load, node, "a whole number", path);
    None
}

pub(super) fn unsigned(load: &mut Load, node: &Node, most: u64, path: Path<'_>) -> Option<i64> {
    match &node.value {
        Value::Integer(number) if u64::try_from(*number).is_ok_and(|number| number <= most) => Some(*number),
        Value::Float(number) if *number >= 0.0 && *number <= most as f64 => Some(*number as i64),
        _ => {
            wrong(load, node, "a whole number, 0 at least", path);
            None
        }
    }
}

pub(super) fn bytes(load: &mut Load, node: &Node, path: Path<'_>) -> Option<i64> {
    match &node.value {
        Value::Integer(number) => Some(*number),
        Value::Float(number) => {
            let message = format!("{path}: `{number}` is not a whole number and is ignored, as in Docker Compose");
            load.warn(node.place(), message);
            Some(0)
        }
        Value::Text(text) => {
            let size = text.parse().ok().or_else(|| i64::try_from(units::parse_bytes(text).ok()?).ok()).or_else(|| {
                // A number with an exponent, which is a size to Docker too.
                text.parse::<f64>().ok().filter(|number| *number >= 0.0 && *number < i64::MAX as f64).map(|n| n as i64)
            });
            if size.is_none() {
                wrong(load, node, "a size such as 64m or 1.5g", path);
            }
            size
        }
        _ => {
            wrong(load, node, "a size such as 64m or 1.5g", path);
            None
        }
    }
}

pub(super) fn duration(load: &mut Load, node: &Node, path: Path<'_>) -> Option<String> {
    let text = node.scalar_text().unwrap_or_default();
    let (sign, magnitude) = match text.strip_prefix(['-', '+']) {
        Some(magnitude) if text.starts_with('-') => ("-", magnitude),
        Some(magnitude) => ("", magnitude),
        None => ("", text.as_str()),
    };
    match units::parse_duration(magnitude) {
        Ok(duration) => {
            let shown = units::format_duration(duration);
            Some(if shown == "0s" { shown } else { format!("{sign}{shown}") })
        }
        Err(_) => {
            wrong(load, node, "a duration such as 500ms, 30s or 1m30s", path);
            None
        }
    }
}

pub(super) fn texts(load: &mut Load, node: &Node, path: Path<'_>, numbers: bool) -> Vec<Node> {
    match &node.value {
        Value::Text(_) => vec![node.clone()],
        Value::Sequence(items) => items
            .iter()
            .filter_map(|item| {
                let text = match numbers {
                    true => item.scalar_text()?,
                    false => text_of(load, item, path.join(ITEM))?,
                };
                Some(item.with_value(Value::Text(text)))
            })
            .collect(),
        _ => {
            wrong(load, node, "a list of strings", path);
            Vec::new()
        }
    }
}

pub(super) fn command(load: &mut Load, node: &Node) -> Option<Value> {
    let items = match &node.value {
        Value::Text(text) => match words::split(text) {
            Ok(words) => {
                if let Some(rest) = words.ignored {
                    load.warn(
                        node.span,
                        format!(
                            "`{}` is ignored: this is not a shell, write [\"sh\", \"-c\", …] for one",
                            shorten(&rest)
                        ),
                    );
                }
                words.words.into_iter().map(|word| Node::from(word).at(node.span, node.key)).collect()
            }
            Err(error) => {
                load.mistake(node.place(), error.to_string());
                return None;
            }
        },
        Value::Sequence(items) => items.clone(),
        _ => return None,
    };
    Some(Value::Sequence(items))
}

/// The entries of a mapping, or of a list of `key=value`.
pub(super) fn entries(node: &Node) -> Vec<(String, Option<Node>)> {
    match &node.value {
        Value::Map(map) => map.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect(),
        Value::Sequence(items) => items
            .iter()
            .filter_map(|item| {
                let text = item.scalar_text()?;
                Some(match text.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(Node::from(value).at(item.span, item.span))),
                    None => (text, Some(item.clone_place().at(item.span, item.span))),
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn sorted_map(mut entries: Vec<(String, Node)>) -> Map {
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries.into_iter().collect()
}

pub(super) fn variables(load: &mut Load, node: &Node, path: Path<'_>) -> Map {
    let mut out = Vec::new();
    for (key, value) in entries(node) {
        if matches!(node.value, Value::Sequence(_)) && key.ends_with(char::is_whitespace) {
            load.mistake(node.place(), format!("{path}: variable `{key}` has white space before `=`"));
        }
        let Some(value) = value else { continue };
        let typed = match value.scalar_text() {
            Some(text) => Value::Text(text),
            None => Value::Null,
        };
        out.push((key, value.with_value(typed)));
    }
    sorted_map(out)
}

pub(super) fn text_map(load: &mut Load, node: &Node, path: Path<'_>) -> Map {
    if !matches!(node.value, Value::Map(_) | Value::Sequence(_)) {
        wrong(load, node, "a mapping", path);
    }
    let texts = entries(node).into_iter().filter_map(|(key, value)| {
        let value = value?;
        let text = value.scalar_text().unwrap_or_default();
        Some((key, value.with_value(Value::Text(text))))
    });
    sorted_map(texts.collect())
}

pub(super) fn many_options(node: &Node) -> Map {
    let lists = entries(node).into_iter().filter_map(|(key, value)| {
        let value = value?;
        let items = match &value.value {
            Value::Sequence(items) => items.iter().filter_map(Node::scalar_text).map(Node::from).collect(),
            _ => value.scalar_text().map(Node::from).into_iter().collect(),
        };
        Some((key, value.with_value(Value::Sequence(items))))
    });
    sorted_map(lists.collect())
}

/// Addresses of one host; more would not fit into a line of /etc/hosts either.
const HOST_ADDRESSES_MAX: usize = 1000;

pub(super) fn hosts(load: &mut Load, node: &Node, path: Path<'_>) -> Vec<Node> {
    let mut lines: Vec<Node> = Vec::new();
    let mut add = |load: &mut Load, host: &str, address: &str, at: &Node| {
        if host.is_empty() || host.contains([':', '=']) {
            load.mistake(at.place(), format!("{path}: `{host}` is not a host name"));
            return;
        }
        let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let address = bare.filter(|bare| !bare.is_empty()).unwrap_or(address);
        lines.push(at.with_value(Value::Text(format!("{host}={address}"))));
    };
    match &node.value {
        Value::Map(map) => {
            for (host, value) in map {
                match &value.value {
                    Value::Sequence(items) => {
                        for item in items {
                            add(load, host, &item.scalar_text().unwrap_or_default(), item);
                        }
                    }
                    _ => add(load, host, &value.scalar_text().unwrap_or_default(), value),
                }
            }
        }
        Value::Sequence(items) => {
            for item in items {
                let text = item.scalar_text().unwrap_or_default();
                match text.split_once('=').or_else(|| text.split_once(':')) {
                    Some((host, addresses)) => {
                        addresses
                            .split(',')
                            .take(HOST_ADDRESSES_MAX)
                            .for_each(|address| add(load, host, address, item));
                    }
                    None => load.mistake(item.place(), format!("{path}: `{text}` is not HOST=ADDRESS")),
                }
            }
        }
        _ => {}
    }
    lines.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    lines
}

pub(super) fn ssh(node: &Node) -> Vec<Node> {
    let empty = Map::new();
    sorted(node.as_map().unwrap_or(&empty))
        .into_iter()
        .map(|(id, path)| match path.scalar_text() {
            Some(text) if !text.is_empty() => path.with_value(Value::Text(format!("{id}={text}"))),
            _ => path.with_value(Value::Text(id.clone())),
        })
        .collect()
}

pub(super) fn device_count(load: &mut Load, node: &Node, path: Path<'_>) -> Option<Value> {
    let count = match &node.value {
        Value::Integer(count) => Some(*count),
        Value::Text(text) if text.eq_ignore_ascii_case("all") => Some(-1),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    match count {
        // None is said as none: a count that is left out means all.
        Some(count) => Some(Value::Integer(count)),
        None => {
            wrong(load, node, "a whole number or `all`", path);
            None
        }
    }
}

pub(super) fn file_mode(load: &mut Load, node: &Node, path: Path<'_>) -> Option<Value> {
    let mode = match &node.value {
        Value::Integer(mode) => Some(*mode),
        Value::Text(text) => i64::from_str_radix(text, 8).ok(),
        _ => None,
    };
    match mode {
        Some(mode) if mode < 0 => Some(Value::Text(format!("0-{:o}", mode.unsigned_abs()))),
        Some(mode) => Some(Value::Text(format!("0{mode:o}"))),
        None => {
            wrong(load, node, "an octal mode such as \"0440\"", path);
            None
        }
    }
}

pub(super) fn ulimit(load: &mut Load, node: &Node, path: Path<'_>) -> Option<Value> {
    let Some(map) = node.as_map() else {
        return match whole(load, node, path)? {
            // Compose prints no values for a limit of 0; both limits count as 0 then.
            0 => Some(Value::Map(Map::new())),
            limit => Some(Value::Integer(limit)),
        };
    };
    let mut out = Map::new();
    for key in ["soft", "hard"] {
        if let Some(node) = map.get(key) {
            let limit = whole(load, node, path.join(key))?;
            if limit != 0 {
                out.insert(key.to_owned(), node.with_value(Value::Integer(limit)));
            }
        }
    }
    Some(Value::Map(out))
}
