//! Fills in what the specification says where a file says nothing.

use super::node::{Map, Node};

/// Sets defaults in everything below `root`, which is canonical.
pub(crate) fn fill(root: &mut Node) {
    for service in maps(root, "services") {
        if let Some(build) = service.get_mut("build").and_then(Node::as_map_mut) {
            build.entry("context".into()).or_insert_with(|| ".".into());
        }
        for secret in items(service.get_mut("secrets")) {
            let target = format!("/run/secrets/{}", secret.get("source").and_then(Node::as_str).unwrap_or_default());
            secret.entry("target".into()).or_insert_with(|| target.into());
        }
        for port in items(service.get_mut("ports")) {
            port.entry("protocol".into()).or_insert_with(|| "tcp".into());
            port.entry("mode".into()).or_insert_with(|| "ingress".into());
        }
        for mount in items(service.get_mut("volumes")) {
            if let Some(bind) = mount.get_mut("bind").and_then(Node::as_map_mut) {
                bind.entry("create_host_path".into()).or_insert_with(|| true.into());
            }
        }
        items(service.get_mut("gpus")).for_each(default_count);
        let reserved = service
            .get_mut("deploy")
            .and_then(|deploy| deploy.as_map_mut()?.get_mut("resources"))
            .and_then(|resources| resources.as_map_mut()?.get_mut("reservations"))
            .and_then(|reservations| reservations.as_map_mut()?.get_mut("devices"));
        items(reserved).for_each(default_count);
    }
}

fn default_count(device: &mut Map) {
    if !device.contains_key("count") && !device.contains_key("device_ids") {
        device.insert("count".into(), "all".into());
    }
}

/// The mappings below a section of the file.
fn maps<'a>(root: &'a mut Node, section: &str) -> impl Iterator<Item = &'a mut Map> {
    let section = root.as_map_mut().and_then(|map| map.get_mut(section)).and_then(Node::as_map_mut);
    section.into_iter().flat_map(|map| map.values_mut()).filter_map(Node::as_map_mut)
}

/// The mappings in a list.
fn items(list: Option<&mut Node>) -> impl Iterator<Item = &mut Map> {
    let items = match list.map(|node| &mut node.value) {
        Some(super::node::Value::Sequence(items)) => Some(items),
        _ => None,
    };
    items.into_iter().flatten().filter_map(Node::as_map_mut)
}
