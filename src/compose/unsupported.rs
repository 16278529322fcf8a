//! The attributes that the specification knows and wharf does not act on, each with the reason: one table, to shrink.

use super::node::{Node, Value};
use super::path::{ITEM, Path};

/// Finds them below the root of a bound tree; `found` hears of each with its path and the reason.
pub(crate) fn find(root: &Node, found: &mut dyn FnMut(&Node, String, &'static str)) {
    walk(root, Path::default(), found);
}

const WINDOWS: &str = "it is for containers of Windows";
const SWARM: &str = "there is no Swarm";
const DRIVERS: &str = "there are no plugins, and no such driver is built in";
const NOT_YET: &str = "wharf does not do that yet";

/// Options of networks that are acted on.
const NETWORK_OPTIONS: [&str; 4] = [
    "com.docker.network.driver.mtu",
    "com.docker.network.bridge.name",
    "com.docker.network.bridge.enable_ip_masquerade",
    "com.docker.network.bridge.enable_icc",
];

/// Why a node has no effect; `None` for all that have one.
fn reason(node: &Node, path: &[&str]) -> Option<&'static str> {
    let text = node.as_str().unwrap_or_default();
    let when = |condition: bool, reason| condition.then_some(reason);
    match path {
        ["services", _, rest @ ..] => match rest {
            ["cpu_count" | "cpu_percent" | "credential_spec"] => Some(WINDOWS),
            ["isolation"] | ["build", "isolation"] => when(!matches!(text, "" | "default"), WINDOWS),
            // The same runtime by all its names.
            ["runtime"] => when(
                !matches!(text, "" | "runc" | "crun" | "io.containerd.runc.v2"),
                "containers run under wharf's own runtime",
            ),
            ["storage_opt"] => Some("a limit for a container's files needs project quotas (xfs with pquota)"),
            ["use_api_socket"] => Some("there is no daemon, so there is no socket of its API"),
            ["deploy", "endpoint_mode"] | ["deploy", "placement"] => {
                when(node.as_map().is_none_or(|map| !map.is_empty()), SWARM)
            }
            ["deploy", "rollback_config"] => {
                Some("a rollback (update_config.failure_action) brings back all containers from before at once")
            }
            ["deploy", "resources", _, "generic_resources"] => Some(SWARM),
            ["deploy", "restart_policy", "delay" | "window"] => {
                Some("pauses between restarts grow from 100 ms to a minute, as those of `restart`")
            }
            ["deploy", "resources", "limits", "devices"]
            | ["gpus", ITEM, "options"]
            | ["deploy", "resources", "reservations", "devices", ITEM, "options"] => Some(NOT_YET),
            ["build", "provenance" | "sbom"] => {
                when(!matches!(text, "" | "false"), "images are made without attestations")
            }
            ["build", "entitlements", ITEM] => {
                when(!matches!(text, "network.host" | "security.insecure"), "no such entitlement is known here")
            }
            ["networks", _, "driver_opts", key] => {
                when(*key != "com.docker.network.endpoint.ifname", "no such option is known here")
            }
            ["logging", "driver"] => when(!matches!(text, "json-file" | "local" | "none" | ""), DRIVERS),
            // Where nothing has labels, there is nothing to relabel.
            ["volumes", ITEM, "bind", "selinux"] => {
                when(std::path::Path::new("/sys/fs/selinux/enforce").exists(), NOT_YET)
            }
            ["volumes", ITEM, "type"] => when(matches!(text, "npipe" | "cluster"), WINDOWS),
            _ => None,
        },
        ["networks", _, "driver"] => when(!matches!(text, "bridge" | "host" | "none" | "default"), DRIVERS),
        ["networks", _, "driver_opts", key] => when(!NETWORK_OPTIONS.contains(key), "no such option is known here"),
        ["networks", _, "ipam", "options"] => Some("the driver of addresses has no options"),
        ["networks", _, "ipam", "driver"] => when(text != "default", DRIVERS),
        ["volumes", _, "driver"] => when(text != "local", DRIVERS),
        ["secrets" | "configs", _, "driver" | "template_driver"] => Some(DRIVERS),
        ["models", _, "context_size" | "runtime_flags"] => Some(NOT_YET),
        _ => None,
    }
}

fn walk(node: &Node, path: Path<'_>, found: &mut dyn FnMut(&Node, String, &'static str)) {
    if let Some(reason) = reason(node, path.segments()) {
        found(node, path.to_string(), reason);
        return;
    }
    match &node.value {
        Value::Map(map) => map.iter().for_each(|(key, value)| walk(value, path.join(key), found)),
        Value::Sequence(items) => items.iter().for_each(|item| walk(item, path.join(ITEM), found)),
        _ => {}
    }
}
