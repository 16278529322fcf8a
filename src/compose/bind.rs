//! Gives every attribute its type and its place in the order of the canonical form.
//!
//! Durations, sizes, commands and lists that may be mappings become what `config` prints; attributes that are
//! empty are left out; mistakes in them are noted, all of them.

use super::attributes::{self, Attribute, Kind};
use super::interpolate::{Cast, shortest};
use super::model::VALUE_KEY;
use super::node::{Map, Mark, Node, Value};
use super::path::{ITEM, Path};
use super::progress::Load;
use super::values::{
    bytes, cast, command, device_count, duration, file_mode, hosts, list, many_options, map_value, ssh, text_map,
    text_of, texts, ulimit, unsigned, variables, whole,
};

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

pub(super) fn sorted(map: &Map) -> Vec<(&String, &Node)> {
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
