//! Writes out what is implied: the `default` network, names of resources, dependencies of `links` and friends.

use std::collections::BTreeMap;

use super::node::{Map, Node, Value};
use super::paths::clean;

/// Normalises a canonical tree whose project has this name.
pub(crate) fn normalize(root: &mut Node, project: &str, environment: &BTreeMap<String, String>) {
    let Some(root) = root.as_map_mut() else { return };
    let mut uses_default_network = false;
    if let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) {
        for service in services.values_mut().filter_map(Node::as_map_mut) {
            uses_default_network |= connect(service);
            fill_service(service, environment);
        }
    }
    if uses_default_network {
        let networks = root.entry("networks".into()).or_insert_with(|| Value::Map(Map::new()).into());
        if networks.is_null() {
            networks.value = Value::Map(Map::new());
        }
        if let Some(networks) = networks.as_map_mut() {
            networks.entry("default".into()).or_insert_with(Node::null);
        }
    }
    for section in ["networks", "volumes", "configs", "secrets"] {
        if let Some(resources) = root.get_mut(section).and_then(Node::as_map_mut) {
            resources.iter_mut().for_each(|(key, resource)| name_resource(project, key, resource));
        }
    }
}

/// Connects a service without networks to `default`; returns whether it uses that network.
fn connect(service: &mut Map) -> bool {
    if service.contains_key("provider") || service.contains_key("network_mode") {
        return false;
    }
    let networks = service.entry("networks".into()).or_insert_with(Node::null);
    match &networks.value {
        Value::Map(map) if !map.is_empty() => map.contains_key("default"),
        _ => {
            networks.value = Value::Map([("default".to_owned(), Node::null())].into_iter().collect());
            true
        }
    }
}

fn fill_service(service: &mut Map, environment: &BTreeMap<String, String>) {
    if let Some(policy) = service.get_mut("pull_policy").filter(|policy| policy.as_str() == Some("if_not_present")) {
        policy.value = Value::Text("missing".into());
    }
    if let Some(build) = service.get_mut("build").and_then(Node::as_map_mut) {
        build.entry("context".into()).or_insert_with(|| ".".into());
        if !build.contains_key("dockerfile") && !build.contains_key("dockerfile_inline") {
            build.insert("dockerfile".into(), "Dockerfile".into());
        }
        if let Some(arguments) = build.get_mut("args") {
            inherit(arguments, environment, false);
        }
    }
    if let Some(variables) = service.get_mut("environment") {
        inherit(variables, environment, true);
    }
    let mounts = match service.get_mut("volumes").map(|node| &mut node.value) {
        Some(Value::Sequence(items)) => items.as_mut_slice(),
        _ => &mut [],
    };
    for mount in mounts {
        if let Some(Value::Text(target)) =
            mount.as_map_mut().and_then(|map| map.get_mut("target")).map(|node| &mut node.value)
        {
            *target = clean(target);
        }
    }
    imply_dependencies(service);
    inherit_hook_image(service);
}

/// Gives values to `KEY` and `KEY: null` from the environment; those it lacks stay or go.
fn inherit(node: &mut Node, environment: &BTreeMap<String, String>, keep_unset: bool) {
    match &mut node.value {
        Value::Map(map) => map.retain(|key, value| match (value.is_null(), environment.get(key)) {
            (true, Some(found)) => {
                value.value = Value::Text(found.clone());
                true
            }
            (true, None) => keep_unset,
            (false, _) => true,
        }),
        Value::Sequence(items) => items.retain_mut(|item| match &mut item.value {
            Value::Text(text) if !text.contains('=') => match environment.get(text) {
                Some(found) => {
                    *text = format!("{text}={found}");
                    true
                }
                None => keep_unset,
            },
            _ => true,
        }),
        _ => {}
    }
}

/// Adds the dependencies that `links`, shared namespaces and `volumes_from` imply.
fn imply_dependencies(service: &mut Map) {
    let mut implied: Vec<(String, bool, Node)> = Vec::new();
    let texts = |key: &str| service.get(key).and_then(Node::as_sequence).unwrap_or_default();
    for link in texts("links") {
        let text = link.as_str().unwrap_or_default();
        let parts: Vec<&str> = text.split(':').collect();
        let name = if parts.len() == 2 { parts[0] } else { text };
        implied.push((name.to_owned(), true, link.clone_place()));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(node) = service.get(key)
            && let Some(name) = node.as_str().and_then(|text| text.strip_prefix("service:"))
        {
            implied.push((name.to_owned(), true, node.clone_place()));
        }
    }
    for source in texts("volumes_from") {
        let text = source.as_str().unwrap_or_default();
        if !text.starts_with("container:") {
            let name = text.split(':').next().unwrap_or_default();
            implied.push((name.to_owned(), false, source.clone_place()));
        }
    }
    if implied.is_empty() {
        return;
    }
    let depends_on = service.entry("depends_on".into()).or_insert_with(|| Value::Map(Map::new()).into());
    let Some(depends_on) = depends_on.as_map_mut() else { return };
    for (name, restart, place) in implied {
        depends_on.entry(name).or_insert_with(|| {
            let entries = [
                ("condition", Node::from("service_started")),
                ("restart", Node::from(restart)),
                ("required", Node::from(true)),
            ];
            place.with_value(super::canonical::mapping(entries)).at(place.place(), place.place())
        });
    }
}

fn inherit_hook_image(service: &mut Map) {
    let Some(image) = service.get("image").filter(|image| image.as_str().is_some_and(|text| !text.is_empty())) else {
        return;
    };
    let image = image.clone();
    if let Some(Value::Sequence(hooks)) = service.get_mut("pre_start").map(|node| &mut node.value) {
        for hook in hooks.iter_mut().filter_map(Node::as_map_mut) {
            hook.entry("image".into()).or_insert_with(|| image.clone());
        }
    }
}

fn name_resource(project: &str, key: &str, resource: &mut Node) {
    if resource.is_null() {
        resource.value = Value::Map(Map::new());
    }
    let Some(map) = resource.as_map_mut() else { return };
    if map.get("name").is_some_and(|name| !name.is_null()) {
        return;
    }
    let external = matches!(map.get("external").map(|node| &node.value), Some(Value::Bool(true)));
    let name = if external { key.to_owned() } else { format!("{project}_{key}") };
    map.insert("name".into(), name.into());
}
