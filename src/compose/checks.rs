//! What the forms cannot say: attributes that exclude each other, addresses that are none.

use super::error::shorten;
use super::node::{Node, Value};
use super::path::{ITEM, Path};
use super::progress::Load;

/// Checks everything below `root`, which is canonical.
pub(crate) fn check(load: &mut Load, root: &Node) {
    walk(load, root, Path::default());
}

fn walk(load: &mut Load, node: &Node, path: Path<'_>) {
    match path.segments() {
        ["volumes", _] => external_alone(load, node, path),
        ["configs", _] => one_source(load, node, &["file", "environment", "content"], path),
        ["secrets", _] => one_source(load, node, &["file", "environment"], path),
        ["services", _, "ports", ITEM] => port(load, node),
        ["services", _, "develop", "watch", ITEM, "path"] if node.as_str() == Some("") => {
            load.mistake(node.place(), format!("{path} is empty"));
        }
        ["services", _, "gpus", ITEM] | ["services", _, "deploy", "resources", "reservations", "devices", ITEM]
            if node.get("count").is_some() && node.get("device_ids").is_some() =>
        {
            load.mistake(node.place(), format!("{path} has both `count` and `device_ids`, use one"));
        }
        _ => {}
    }
    match &node.value {
        Value::Map(map) => map.iter().for_each(|(key, value)| walk(load, value, path.join(key))),
        Value::Sequence(items) => items.iter().for_each(|item| walk(load, item, path.join(ITEM))),
        _ => {}
    }
}

fn external_alone(load: &mut Load, node: &Node, path: Path<'_>) {
    let Some(map) = node.as_map() else { return };
    if map.get("external").map(|external| &external.value) != Some(&Value::Bool(true)) {
        return;
    }
    for (key, value) in map {
        if !matches!(key.as_str(), "name" | "external") && !key.starts_with("x-") {
            load.mistake(value.key, format!("{path} is external, so `{key}` cannot be set here"));
        }
    }
}

fn one_source(load: &mut Load, node: &Node, keys: &[&str], path: Path<'_>) {
    let Some(map) = node.as_map() else { return };
    let given: Vec<&str> = keys.iter().copied().filter(|key| map.contains_key(*key)).collect();
    let names = keys.join(", ");
    match given.as_slice() {
        [] if !map.contains_key("driver") && !map.contains_key("external") => {
            load.mistake(node.key, format!("{path} needs one of {names}"));
        }
        [_, second, ..] => {
            let place = |key: &&str| map.get(*key).map_or(node.place(), |value| value.key);
            let message = format!("{path} can have only one of {names}");
            load.mistake_of_several(place(second), message, None, &[(place(&given[0]), "the other one")]);
        }
        _ => {}
    }
}

fn port(load: &mut Load, node: &Node) {
    if let Some(address) = node.get("host_ip")
        && let Some(text) = address.as_str()
        && text.parse::<std::net::IpAddr>().is_err()
        && !load.is_template(address)
    {
        load.mistake(address.place(), format!("`{}` is not an IP address", shorten(text)));
    }
    if let Some(target) = node.get("target")
        && let Value::Integer(number) = target.value
        && !(1..=65535).contains(&number)
    {
        load.mistake(target.place(), format!("container port {number} is not 1 to 65535"));
    }
}
