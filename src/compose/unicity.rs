//! Removes doubles from the lists that are sets: the last entry with a key wins, at the place of the first.

use indexmap::map::Entry;

use super::node::{Node, Value};
use super::path::{ITEM, Path};
use super::progress::Load;
use super::volumes;

/// Removes doubles everywhere below `root`. `strict`: what cannot be an entry is a mistake; else it is left for
/// `validate` to say so.
pub(crate) fn enforce(load: &mut Load, root: &mut Node, strict: bool) {
    walk(load, root, Path::default(), strict);
}

/// What makes two entries of a list the same.
enum Identity {
    /// The text before `=`.
    Name,
    /// The mount point.
    MountTarget,
    /// The path inside.
    DeviceTarget,
    /// Address, published and target port, protocol.
    Port,
    /// The port.
    Expose,
    /// The path of the file.
    EnvFile,
    /// The path at which the config or secret is seen, below a default folder.
    FileTarget(&'static str),
}

fn identity(path: &[&str]) -> Option<Identity> {
    let identity = match path {
        ["services", _, rest @ ..] => match rest {
            ["annotations" | "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "environment"]
            | ["labels" | "links" | "profiles" | "sysctls" | "tmpfs"]
            | ["build", "args" | "additional_contexts" | "tags" | "labels"]
            | ["deploy", "labels"]
            | ["networks", _, "aliases" | "link_local_ips"] => Identity::Name,
            ["volumes"] => Identity::MountTarget,
            ["devices"] => Identity::DeviceTarget,
            ["ports"] => Identity::Port,
            ["expose"] => Identity::Expose,
            ["env_file"] => Identity::EnvFile,
            ["configs"] => Identity::FileTarget(""),
            ["secrets"] => Identity::FileTarget("/run/secrets"),
            _ => return None,
        },
        ["networks", _, "labels"] | ["networks", _, "ipam", "options"] => Identity::Name,
        _ => return None,
    };
    Some(identity)
}

fn walk(load: &mut Load, node: &mut Node, path: Path<'_>, strict: bool) {
    match &mut node.value {
        Value::Map(map) => {
            for (key, value) in map {
                walk(load, value, path.join(key), strict);
            }
        }
        Value::Sequence(items) => {
            if let Some(identity) = identity(path.segments()) {
                let all = std::mem::take(items);
                *items = unique(load, all, &identity, path, strict);
            }
        }
        _ => {}
    }
}

fn unique(load: &mut Load, items: Vec<Node>, identity: &Identity, path: Path<'_>, strict: bool) -> Vec<Node> {
    let mut kept: indexmap::IndexMap<String, Node> = indexmap::IndexMap::with_capacity(items.len());
    for item in items {
        let key = match key_of(&item, identity) {
            Ok(key) => key,
            Err(message) if strict => {
                load.mistake(item.place(), format!("{}: {message}", path.join(ITEM)));
                continue;
            }
            Err(_) => item.fingerprint(),
        };
        match kept.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(item);
            }
            Entry::Occupied(mut entry) => {
                load.replaced(&item, entry.get());
                entry.insert(item);
            }
        }
    }
    kept.into_values().collect()
}

fn key_of(item: &Node, identity: &Identity) -> Result<String, String> {
    let unexpected = || format!("must be a string, not {}", item.kind());
    let field = |key: &str| item.get(key).filter(|value| !value.is_null());
    match identity {
        Identity::Name => {
            let text = item.as_str().ok_or_else(|| format!("must be a string, not {}", item.kind()))?;
            Ok(text.split_once('=').map_or(text, |(name, _)| name).to_owned())
        }
        Identity::MountTarget => match &item.value {
            Value::Map(_) => {
                let target = field("target").and_then(Node::as_str);
                target.map(str::to_owned).ok_or_else(|| "a mount needs a `target`".into())
            }
            // One that cannot be read is `canonical`'s to refuse.
            Value::Text(text) => Ok(volumes::parse(text).map_or_else(|_| text.clone(), |volume| volume.target)),
            _ => Ok(String::new()),
        },
        Identity::DeviceTarget => match &item.value {
            Value::Map(_) => {
                let target = field("target").and_then(Node::as_str);
                target.map(str::to_owned).ok_or_else(|| "a device needs a `target`".into())
            }
            Value::Text(text) => {
                let mut parts = text.split(':');
                let source = parts.next().unwrap_or_default();
                Ok(parts.next().unwrap_or(source).to_owned())
            }
            _ => Ok(String::new()),
        },
        Identity::Port => match &item.value {
            Value::Map(_) => {
                let target = field("target").ok_or("a port needs a `target`")?;
                // A number and its text are two keys, as in Compose.
                let shown = |key: &str| field(key).map(|node| format!("{:?}", node.value)).unwrap_or_default();
                let text = |key: &str, default: &str| {
                    field(key).and_then(Node::scalar_text).unwrap_or_else(|| default.to_owned())
                };
                Ok(format!(
                    "{}:{}:{:?}/{}",
                    text("host_ip", "0.0.0.0"),
                    shown("published"),
                    target.value,
                    text("protocol", "tcp")
                ))
            }
            Value::Text(text) => Ok(text.clone()),
            Value::Integer(port) => Ok(port.to_string()),
            _ => Ok(String::new()),
        },
        Identity::Expose => match &item.value {
            Value::Text(_) | Value::Integer(_) => Ok(item.scalar_text().unwrap_or_default()),
            _ => Err(unexpected()),
        },
        Identity::EnvFile => match &item.value {
            Value::Text(text) => Ok(text.clone()),
            Value::Map(_) => {
                let path = field("path").and_then(Node::as_str);
                path.map(str::to_owned).ok_or_else(|| "an env file needs a `path`".into())
            }
            _ => Ok(String::new()),
        },
        Identity::FileTarget(folder) => match &item.value {
            Value::Text(text) => Ok(format!("{folder}/{text}")),
            Value::Map(_) => match field("target") {
                Some(target) => target.as_str().map(str::to_owned).ok_or_else(unexpected),
                None => Ok(format!("{folder}/{}", field("source").and_then(Node::as_str).unwrap_or_default())),
            },
            _ => Err(unexpected()),
        },
    }
}
