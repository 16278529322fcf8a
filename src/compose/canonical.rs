//! Writes every short form out: `build: .` becomes `{context: .}`, `"8080:80"` a port with its parts.

use super::node::{Map, Node, Value};
use super::path::{ITEM, Path};
use super::progress::Load;
use super::{Error, ports, volumes};

/// Turns everything below `root` into long forms. `lenient`: leave alone what cannot be read, because variables
/// were not substituted.
pub(crate) fn canonical(load: &mut Load, root: &mut Node, lenient: bool) -> Result<(), Error> {
    walk(load, root, Path::default(), lenient)
}

/// A mapping from keys to nodes, in this order.
pub(crate) fn mapping<const N: usize>(entries: [(&str, Node); N]) -> Value {
    Value::Map(entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect())
}

fn walk(load: &mut Load, node: &mut Node, path: Path<'_>, lenient: bool) -> Result<(), Error> {
    shorten(load, node, path, lenient)?;
    match &mut node.value {
        Value::Map(map) => {
            for (key, value) in map {
                walk(load, value, path.join(key), lenient)?;
            }
        }
        Value::Sequence(items) => {
            for item in items {
                walk(load, item, path.join(ITEM), lenient)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Gives the parts of a short form its place, but not those that it leaves to defaults.
fn place_parts(node: &mut Node, defaults: &[&str]) {
    let place = node.span;
    for (key, part) in node.as_map_mut().into_iter().flatten() {
        if !part.place().is_known() && !defaults.contains(&key.as_str()) {
            part.span = place;
        }
    }
}

/// Rewrites the node itself if it is in a short form.
fn shorten(load: &mut Load, node: &mut Node, path: Path<'_>, lenient: bool) -> Result<(), Error> {
    match path.segments() {
        ["services", _, rest @ ..] => match rest {
            ["build"] => wrap(node, "context"),
            ["extends"] => wrap(node, "service"),
            ["label_file" | "dns"] | ["develop", "watch", ITEM, "ignore" | "include"] => list_of_one(node),
            ["networks" | "models"] => keys(node),
            ["depends_on"] => depends_on(node),
            ["env_file"] => {
                list_of_one(node);
                if let Value::Sequence(items) = &mut node.value {
                    items.iter_mut().for_each(env_file);
                }
            }
            ["gpus"] => {
                if let Value::Text(_) = node.value {
                    let all = node.with_value(mapping([("count", "all".into())]));
                    node.value = Value::Sequence(vec![all]);
                }
            }
            ["build", "provenance" | "sbom"] => {
                if let Some(text) = node.scalar_text() {
                    node.value = Value::Text(text);
                }
            }
            ["build", "additional_contexts"] => additional_contexts(load, node, lenient),
            ["build", "ssh"] => ssh(load, node),
            ["secrets" | "configs", ITEM] | ["build", "secrets", ITEM] => wrap(node, "source"),
            ["devices", ITEM] => device(load, node, lenient),
            ["volumes", ITEM] => volume(load, node, lenient),
            ["ports"] => port_list(load, node, lenient)?,
            ["ulimits", _] | ["build", "ulimits", _]
                if matches!(node.value, Value::Text(_) | Value::Float(_)) && !load.is_template(node) =>
            {
                load.mistake(node.place(), format!("{path} must be a whole number, or `soft` and `hard`"));
            }
            _ => {}
        },
        ["volumes" | "networks" | "secrets" | "configs", _] => external(load, node, path),
        ["include", ITEM] => wrap(node, "path"),
        _ => {}
    }
    Ok(())
}

fn wrap(node: &mut Node, key: &str) {
    if let Value::Text(_) = node.value {
        let text = node.clone();
        node.value = mapping([(key, text)]);
    }
}

fn list_of_one(node: &mut Node) {
    if let Value::Text(_) = node.value {
        let text = node.clone();
        node.value = Value::Sequence(vec![text]);
    }
}

fn keys(node: &mut Node) {
    if let Value::Sequence(items) = &node.value {
        let entries =
            items.iter().filter_map(|item| Some((item.as_str()?.to_owned(), Node::null().at(item.span, item.span))));
        node.value = Value::Map(entries.collect());
    }
}

fn depends_on(node: &mut Node) {
    let dependency = || mapping([("condition", "service_started".into()), ("required", true.into())]);
    match &mut node.value {
        Value::Sequence(items) => {
            let entries = items.iter().filter_map(|item| {
                Some((item.as_str()?.to_owned(), Node::from(dependency()).at(item.span, item.span)))
            });
            node.value = Value::Map(entries.collect());
        }
        Value::Map(map) => {
            for dependency in map.values_mut().filter_map(Node::as_map_mut) {
                dependency.entry("condition".into()).or_insert_with(|| "service_started".into());
                dependency.entry("required".into()).or_insert_with(|| true.into());
            }
        }
        _ => {}
    }
}

fn env_file(item: &mut Node) {
    wrap(item, "path");
    if let Some(map) = item.as_map_mut() {
        map.entry("required".into()).or_insert_with(|| true.into());
    }
}

fn additional_contexts(load: &mut Load, node: &mut Node, lenient: bool) {
    let Value::Sequence(items) = &node.value else { return };
    let mut map = Map::new();
    for item in items {
        match item.as_str().and_then(|text| text.split_once('=')) {
            Some((name, context)) => {
                map.insert(name.to_owned(), Node::from(context).at(item.span, item.span));
            }
            None if lenient => return,
            None => load.mistake(item.place(), "an additional context must be NAME=CONTEXT".into()),
        }
    }
    node.value = Value::Map(map);
}

fn ssh(load: &mut Load, node: &mut Node) {
    let Value::Sequence(items) = &node.value else { return };
    let mut map = Map::new();
    for item in items {
        match item.as_str().map(|text| (text, text.split_once('='))) {
            Some((_, Some((id, path)))) => {
                map.insert(id.to_owned(), Node::from(path).at(item.span, item.span));
            }
            Some(("default", None)) => {
                map.insert("default".into(), item.clone_place());
            }
            _ => load.mistake(item.place(), "an ssh entry must be `default` or ID=PATH".into()),
        }
    }
    node.value = Value::Map(map);
}

fn device(load: &mut Load, node: &mut Node, lenient: bool) {
    let Some(text) = node.as_str() else { return };
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 && !lenient {
        load.mistake(node.place(), format!("`{text}` is not SOURCE[:TARGET[:PERMISSIONS]]"));
        return;
    }
    let part = |index: usize| parts.get(index).copied().filter(|part| !part.is_empty());
    let source = part(0).unwrap_or_default();
    let defaults: &[&str] = if parts.len() < 3 { &["permissions"] } else { &[] };
    node.value = mapping([
        ("source", source.into()),
        ("target", part(1).unwrap_or(source).into()),
        ("permissions", parts.get(2).copied().unwrap_or("rwm").into()),
    ]);
    place_parts(node, defaults);
}

fn volume(load: &mut Load, node: &mut Node, lenient: bool) {
    let Some(text) = node.as_str() else { return };
    let volume = match volumes::parse(text) {
        Ok(volume) => volume,
        Err(_) if lenient => return,
        Err(error) => return load.mistake(node.place(), error.to_string()),
    };
    let text_length = text.len();
    let mut map = Map::new();
    let mut set = |key: &str, value: Node| map.insert(key.to_owned(), value);
    set("type", if volume.is_bind { "bind" } else { "volume" }.into());
    if let Some(source) = volume.source {
        set("source", source.into());
    }
    set("target", super::paths::clean(&volume.target).into());
    if volume.read_only {
        set("read_only", true.into());
    }
    // Of a volume it says nothing, as in `--volume`: what is in one is the namespace's own.
    let idmap = volume.is_bind && volume.idmap;
    if volume.is_bind || volume.propagation.is_some() || volume.selinux.is_some() {
        let mut bind = Map::new();
        if volume.is_bind {
            bind.insert("create_host_path".into(), true.into());
        }
        bind.extend(volume.propagation.map(|value| ("propagation".to_owned(), value.into())));
        bind.extend(volume.selinux.map(|value| ("selinux".to_owned(), value.into())));
        bind.extend(idmap.then(|| ("x-idmap".to_owned(), true.into())));
        set("bind", Value::Map(bind).into());
    }
    // Compose gives no options to mounts of one or two characters.
    if (!volume.is_bind && text_length > 2) || volume.nocopy {
        let nocopy = volume.nocopy.then(|| ("nocopy".to_owned(), Node::from(true)));
        set("volume", Value::Map(nocopy.into_iter().collect()).into());
    }
    node.value = Value::Map(map);
    place_parts(node, &[]);
}

fn port_list(load: &mut Load, node: &mut Node, lenient: bool) -> Result<(), Error> {
    let Value::Sequence(items) = &mut node.value else { return Ok(()) };
    let is_template = |item: &Node| item.as_str().is_some_and(|text| ports::parse(text).is_err());
    if lenient && items.iter().any(is_template) {
        // A list is written out as a whole or not at all, as in Compose.
        return Ok(());
    }
    let mut all = Vec::with_capacity(items.len());
    for item in std::mem::take(items) {
        let text = match &item.value {
            Value::Text(text) => text.clone(),
            Value::Integer(port) => port.to_string(),
            // `80.0` is 80, and `80.5` no port.
            Value::Float(port) => port.to_string(),
            _ => {
                all.push(item);
                continue;
            }
        };
        match ports::parse(&text) {
            Ok(ports) => {
                for port in ports {
                    // A port is several values; a range of them counts as two each.
                    load.charge(item.span, 0)?;
                    load.charge(item.span, 0)?;
                    let mut port = item.with_value(port_map(port));
                    place_parts(&mut port, if text.contains('/') { &["mode"] } else { &["mode", "protocol"] });
                    all.push(port);
                }
            }
            Err(error) => load.mistake_with_hint(
                item.place(),
                error.to_string(),
                Some("write [ADDRESS:][HOST_PORT:]CONTAINER_PORT[/PROTOCOL]".into()),
            ),
        }
    }
    *items = all;
    Ok(())
}

fn port_map(port: ports::ShortPort) -> Value {
    let mut map = Map::new();
    map.insert("mode".into(), "ingress".into());
    map.extend(port.host_ip.map(|address| ("host_ip".to_owned(), address.into())));
    map.insert("target".into(), Value::Integer(i64::from(port.target)).into());
    map.extend(port.published.map(|published| ("published".to_owned(), published.into())));
    map.insert("protocol".into(), port.protocol.into());
    Value::Map(map)
}

/// `external: {name: x}` is `external: true` with `name: x`.
fn external(load: &mut Load, node: &mut Node, path: Path<'_>) {
    let Some(map) = node.as_map_mut() else { return };
    let Some(external) = map.get_mut("external") else { return };
    let Value::Map(old) = &external.value else { return };
    let name = old.get("name").cloned();
    let place = external.place();
    external.value = Value::Bool(true);
    let Some(name) = name else { return };
    load.warn(place, format!("{path}: `external.name` is deprecated, set `name` and `external: true`"));
    match map.get("name") {
        Some(other) if *other != name => {
            load.mistake(place, format!("{path}: `name` and `external.name` differ, use `name` only"));
        }
        Some(_) => {}
        None => {
            map.insert("name".into(), name);
        }
    }
}
