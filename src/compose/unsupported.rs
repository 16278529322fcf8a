//! The attributes that the specification knows and wharf does not act on yet: one table, to shrink.

use super::node::{Node, Value};
use super::path::{ITEM, Path};

/// Finds them below the root of a bound tree; `found` hears of each with its path.
pub(crate) fn find(root: &Node, found: &mut dyn FnMut(&Node, String)) {
    walk(root, Path::default(), found);
}

fn is_unsupported(node: &Node, path: &[&str]) -> bool {
    let text = node.as_str().unwrap_or_default();
    match path {
        ["services", _, rest @ ..] => match rest {
            ["cgroup_parent" | "cpu_count" | "cpu_percent" | "cpu_rt_period" | "cpu_rt_runtime"]
            | ["credential_spec" | "external_links" | "isolation"]
            | ["runtime" | "storage_opt" | "use_api_socket"]
            | ["deploy", "endpoint_mode" | "rollback_config"]
            | ["deploy", "resources", _, "generic_resources"]
            | ["deploy", "resources", "limits", "devices"]
            | ["gpus", ITEM, "options"]
            | ["deploy", "resources", "reservations", "devices", ITEM, "options"]
            | ["deploy", "restart_policy", "delay" | "window"]
            | ["networks", _, "driver_opts" | "link_local_ips"]
            | ["build", "entitlements" | "isolation" | "privileged" | "provenance" | "sbom"]
            | ["volumes", ITEM, "consistency"] => true,
            ["logging", "driver"] => !matches!(text, "json-file" | "local" | "none" | ""),
            ["deploy", "placement"] => node.as_map().is_some_and(|map| !map.is_empty()),
            // Where nothing has labels, there is nothing to relabel.
            ["volumes", ITEM, "bind", "selinux"] => std::path::Path::new("/sys/fs/selinux/enforce").exists(),
            ["volumes", ITEM, "type"] => matches!(text, "npipe" | "cluster"),
            _ => false,
        },
        ["networks", _, "driver"] => !matches!(text, "bridge" | "host" | "none" | "default"),
        ["networks", _, "driver_opts"] | ["networks", _, "ipam", "options"] => true,
        ["networks", _, "ipam", "driver"] => text != "default",
        ["volumes", _, "driver"] => text != "local",
        ["secrets" | "configs", _, "driver" | "template_driver"] => true,
        ["models", _, "context_size" | "runtime_flags"] => true,
        _ => false,
    }
}

fn walk(node: &Node, path: Path<'_>, found: &mut dyn FnMut(&Node, String)) {
    if is_unsupported(node, path.segments()) {
        found(node, path.to_string());
        return;
    }
    match &node.value {
        Value::Map(map) => map.iter().for_each(|(key, value)| walk(value, path.join(key), found)),
        Value::Sequence(items) => items.iter().for_each(|item| walk(item, path.join(ITEM), found)),
        _ => {}
    }
}
