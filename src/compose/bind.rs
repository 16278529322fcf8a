//! Gives every attribute its type and its place in the order of the canonical form.
//!
//! Durations, sizes, commands and lists that may be mappings become what `config` prints; attributes that are
//! empty are left out; mistakes in them are noted, all of them.

use super::attributes::{self, Attribute, Kind};
use super::error::shorten;
use super::interpolate::{Cast, shortest};
use super::model::VALUE_KEY;
use super::node::{Map, Mark, Node, Value};
use super::path::{ITEM, Path};
use super::progress::Load;
use super::words;
use crate::base::units;

/// The sections of a project, in print order, with what one of their entries holds.
pub(crate) static SECTIONS: &[(&str, &[Attribute])] = &[
    ("services", attributes::SERVICE),
    ("networks", attributes::NETWORK),
    ("volumes", attributes::VOLUME),
    ("secrets", attributes::FILE_OBJECT),
    ("configs", attributes::FILE_OBJECT),
    ("models", attributes::MODEL),
];

/// Returns `root` in print order with typed values. Keys `x-…` come last.
///
/// Mistakes are noted and left out; the caller ends the load when it has found the others.
pub(crate) fn bind(load: &mut Load, root: &Node) -> Node {
    let mut bound = Map::new();
    let empty = Map::new();
    let map = root.as_map().unwrap_or(&empty);
    if let Some(name) = map.get("name") {
        bound.insert("name".into(), name.clone());
    }
    for (section, attributes) in SECTIONS {
        let node = map.get(*section);
        let entries = node.and_then(Node::as_map).unwrap_or(&empty);
        let path = Path::default().join(section);
        let mut out = Map::new();
        for (key, entry) in sorted(entries) {
            let fields = entry.as_map().unwrap_or(&empty);
            let value = bind_fields(load, fields, attributes, path.join(key));
            out.insert(key.clone(), entry.with_value(Value::Map(value)));
        }
        if !out.is_empty() || *section == "services" {
            let place = node.map_or_else(Node::null, Node::clone_place);
            bound.insert((*section).to_owned(), place.with_value(Value::Map(out)));
        }
    }
    add_extensions(&mut bound, map);
    root.with_value(Value::Map(bound))
}

fn sorted(map: &Map) -> Vec<(&String, &Node)> {
    let mut entries: Vec<(&String, &Node)> = map.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

fn add_extensions(out: &mut Map, map: &Map) {
    for (key, value) in sorted(map) {
        if key.starts_with("x-") && key != VALUE_KEY {
            out.insert(key.clone(), value.clone());
        }
    }
}

fn bind_fields(load: &mut Load, map: &Map, attributes: &'static [Attribute], path: Path<'_>) -> Map {
    let mut out = Map::with_capacity(map.len() + 2);
    for (name, kind) in attributes {
        let bound = match (map.get(*name), kind) {
            (Some(node), _) if !node.is_null() => bind_value(load, node, kind, path.join(name)),
            (_, Kind::Command) => Some(Node { mark: Mark::JsonOnly, ..Node::null() }),
            (_, Kind::Always(fields)) => {
                let fields = bind_fields(load, &Map::new(), fields, path.join(name));
                Some(Node { mark: Mark::JsonOnly, ..Value::Map(fields).into() })
            }
            (_, Kind::OptOut | Kind::Yes) => Some(true.into()),
            _ => None,
        };
        if let Some(bound) = bound {
            out.insert((*name).to_owned(), bound);
        }
    }
    add_extensions(&mut out, map);
    out
}

/// The typed value; `None` when it is empty and left out, or wrong.
fn bind_value(load: &mut Load, node: &Node, kind: &'static Kind, path: Path<'_>) -> Option<Node> {
    if load.is_template(node) {
        return Some(node.clone());
    }
    let value = match kind {
        Kind::Text => {
            let text = text_of(load, node, path)?;
            (!text.is_empty()).then_some(Value::Text(text))?
        }
        Kind::Flag => match cast(load, node, Cast::Flag, path)? {
            Value::Bool(false) => return None,
            value => value,
        },
        Kind::MaybeFlag | Kind::OptOut | Kind::Yes => cast(load, node, Cast::Flag, path)?,
        Kind::Int => match whole(load, node, path)? {
            0 => return None,
            number => Value::Integer(number),
        },
        Kind::MaybeInt => Value::Integer(whole(load, node, path)?),
        Kind::Unsigned(most) => match unsigned(load, node, *most, path)? {
            0 => return None,
            number => Value::Integer(number),
        },
        Kind::MaybeUnsigned => Value::Integer(unsigned(load, node, u64::MAX, path)?),
        Kind::Short | Kind::Cpus => match cast(load, node, Cast::Short, path)? {
            Value::Integer(0) => return None,
            Value::Float(0.0) => return None,
            Value::Float(number) => Value::Float(shortest(number as f32)),
            value => value,
        },
        Kind::Bytes => match bytes(load, node, path)? {
            0 => return None,
            size => Value::Text(size.to_string()),
        },
        Kind::Duration | Kind::MaybeDuration => {
            let text = duration(load, node, path)?;
            if matches!(kind, Kind::Duration) && text == "0s" {
                return None;
            }
            Value::Text(text)
        }
        Kind::Texts => list(texts(load, node, path, false))?,
        Kind::NumberTexts => list(texts(load, node, path, true))?,
        Kind::Command => command(load, node)?,
        Kind::Test => match &node.value {
            Value::Text(text) => Value::Sequence(vec!["CMD-SHELL".into(), text.as_str().into()]),
            _ => list(texts(load, node, path, false))?,
        },
        Kind::Variables => map_value(variables(load, node, path))?,
        Kind::TextMap | Kind::Labels => map_value(text_map(load, node, path))?,
        Kind::ManyOptions => map_value(many_options(node))?,
        Kind::Hosts => list(hosts(load, node, path))?,
        Kind::Ssh => list(ssh(node))?,
        Kind::DeviceCount => device_count(load, node, path)?,
        Kind::FileMode => file_mode(load, node, path)?,
        Kind::Ulimit => ulimit(load, node, path)?,
        Kind::Struct(fields) => Value::Map(bind_fields(load, node.as_map()?, fields, path)),
        Kind::Always(fields) => {
            let value = Value::Map(bind_fields(load, node.as_map()?, fields, path));
            let empty = value.eq(&Value::Map(Map::new()));
            let mark = if empty { Mark::JsonOnly } else { Mark::None };
            return Some(Node { mark, ..node.with_value(value) });
        }
        Kind::ListOf(kind) => {
            let items = node.as_sequence()?.iter();
            list(items.filter_map(|item| bind_value(load, item, kind, path.join(ITEM))).collect())?
        }
        Kind::MapOf(kind) => {
            let mut out = Map::new();
            for (key, value) in sorted(node.as_map()?) {
                if key.starts_with("x-") && value.as_map().is_none() && !value.is_null() {
                    continue;
                }
                if value.is_null() {
                    out.insert(key.clone(), value.clone());
                } else if let Some(bound) = bind_value(load, value, kind, path.join(key)) {
                    out.insert(key.clone(), bound);
                }
            }
            map_value(out)?
        }
    };
    Some(node.with_value(value))
}

fn list(items: Vec<Node>) -> Option<Value> {
    (!items.is_empty()).then_some(Value::Sequence(items))
}

fn map_value(map: Map) -> Option<Value> {
    (!map.is_empty()).then_some(Value::Map(map))
}

/// Notes that the value is not what it should be.
fn wrong(load: &mut Load, node: &Node, expected: &str, path: Path<'_>) {
    let shown = node.scalar_text().map_or_else(|| node.kind().to_owned(), |text| format!("`{}`", shorten(&text)));
    load.mistake(node.place(), format!("{path} must be {expected}, not {shown}"));
}

fn text_of(load: &mut Load, node: &Node, path: Path<'_>) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        _ => {
            wrong(load, node, "a string", path);
            None
        }
    }
}

fn cast(load: &mut Load, node: &Node, cast: Cast, path: Path<'_>) -> Option<Value> {
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

fn whole(load: &mut Load, node: &Node, path: Path<'_>) -> Option<i64> {
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

fn unsigned(load: &mut Load, node: &Node, most: u64, path: Path<'_>) -> Option<i64> {
    match &node.value {
        Value::Integer(number) if u64::try_from(*number).is_ok_and(|number| number <= most) => Some(*number),
        Value::Float(number) if *number >= 0.0 && *number <= most as f64 => Some(*number as i64),
        _ => {
            wrong(load, node, "a whole number, 0 at least", path);
            None
        }
    }
}

fn bytes(load: &mut Load, node: &Node, path: Path<'_>) -> Option<i64> {
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

fn duration(load: &mut Load, node: &Node, path: Path<'_>) -> Option<String> {
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

fn texts(load: &mut Load, node: &Node, path: Path<'_>, numbers: bool) -> Vec<Node> {
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

fn command(load: &mut Load, node: &Node) -> Option<Value> {
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
fn entries(node: &Node) -> Vec<(String, Option<Node>)> {
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

fn sorted_map(mut entries: Vec<(String, Node)>) -> Map {
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries.into_iter().collect()
}

fn variables(load: &mut Load, node: &Node, path: Path<'_>) -> Map {
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

fn text_map(load: &mut Load, node: &Node, path: Path<'_>) -> Map {
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

fn many_options(node: &Node) -> Map {
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

fn hosts(load: &mut Load, node: &Node, path: Path<'_>) -> Vec<Node> {
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

fn ssh(node: &Node) -> Vec<Node> {
    let empty = Map::new();
    sorted(node.as_map().unwrap_or(&empty))
        .into_iter()
        .map(|(id, path)| match path.scalar_text() {
            Some(text) if !text.is_empty() => path.with_value(Value::Text(format!("{id}={text}"))),
            _ => path.with_value(Value::Text(id.clone())),
        })
        .collect()
}

fn device_count(load: &mut Load, node: &Node, path: Path<'_>) -> Option<Value> {
    let count = match &node.value {
        Value::Integer(count) => Some(*count),
        Value::Text(text) if text.eq_ignore_ascii_case("all") => Some(-1),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    match count {
        Some(0) => None,
        Some(count) => Some(Value::Integer(count)),
        None => {
            wrong(load, node, "a whole number or `all`", path);
            None
        }
    }
}

fn file_mode(load: &mut Load, node: &Node, path: Path<'_>) -> Option<Value> {
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

fn ulimit(load: &mut Load, node: &Node, path: Path<'_>) -> Option<Value> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that a service prints for one attribute, or its mistake.
    fn check(name: &str, value: Value) -> String {
        let mut load = Load::default();
        let service: Map = [(name.to_owned(), Node::from(value))].into_iter().collect();
        let bound = bind_fields(&mut load, &service, attributes::SERVICE, Path::default());
        match load.check() {
            Ok(()) => bound
                .get(name)
                .map_or("-".into(), |node| crate::compose::output::json(node, Path::default()).to_string()),
            Err(error) => format!("error: {error}"),
        }
    }

    fn text(name: &str, text: &str) -> String {
        check(name, Value::Text(text.into()))
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for (given, expected) in [
            ("1d", "\"24h0m0s\""),
            ("1w", "\"168h0m0s\""),
            ("90s", "\"1m30s\""),
            ("1h2m3s", "\"1h2m3s\""),
            ("1.5s", "\"1.5s\""),
            ("100us", "\"100µs\""),
            ("-1s", "\"-1s\""),
            ("0", "\"0s\""),
        ] {
            assert_eq!(text("stop_grace_period", given), expected, "{given}");
        }
        for wrong in ["", "5", "5x", "s"] {
            assert!(text("stop_grace_period", wrong).starts_with("error: stop_grace_period must be a duration"));
        }
    }

    #[test]
    fn sizes_print_as_bytes() {
        for (given, expected) in [
            ("64m", "\"67108864\""),
            ("1.5g", "\"1610612736\""),
            ("1 KiB", "\"1024\""),
            ("-1", "\"-1\""),
            ("512", "\"512\""),
            ("0", "-"),
        ] {
            assert_eq!(text("memswap_limit", given), expected, "{given}");
        }
        assert_eq!(check("mem_limit", Value::Integer(1024)), "\"1024\"");
        assert!(text("mem_limit", "lots").starts_with("error: mem_limit must be a size"));
    }

    #[test]
    fn numbers_and_booleans_may_be_text() {
        assert_eq!(text("cpus", "0.1"), "0.1");
        assert_eq!(text("pids_limit", "10"), "10");
        assert_eq!(text("tty", "yes"), "true");
        assert_eq!(text("tty", "false"), "-");
        assert_eq!(text("init", "false"), "false");
        assert!(text("init", "maybe").starts_with("error: init must be true or false"));
    }
}
