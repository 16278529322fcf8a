//! What a container, network or volume is made from, as one number: another number means that it must be
//! made again.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::base::id::to_hex;
use crate::model::project::{Network, Project, Service};

/// Fields that do not make a container another one. Source: docker/compose `pkg/compose/hash.go`; `pre_stop` is read
/// from the file when it is needed.
const WITHOUT_EFFECT: [&str; 9] =
    ["build", "pull_policy", "pull_refresh_after", "scale", "depends_on", "profiles", "develop", "attach", "pre_stop"];
/// The same of `deploy`: how many containers there are, and how they are replaced.
const DEPLOY_WITHOUT_EFFECT: [&str; 6] =
    ["replicas", "update_config", "rollback_config", "mode", "endpoint_mode", "placement"];

/// The hash of a service: its canonical form without what does not concern one container, and the content
/// of its configs and secrets (`contents`), which Compose forgets.
pub fn service(service: &Service, contents: Option<&str>) -> String {
    let mut value = service.canonical.clone();
    if let Value::Object(fields) = &mut value {
        for field in WITHOUT_EFFECT {
            fields.remove(field);
        }
        if let Some(Value::Object(deploy)) = fields.get_mut("deploy") {
            for field in DEPLOY_WITHOUT_EFFECT {
                deploy.remove(field);
            }
            if deploy.is_empty() {
                fields.remove("deploy");
            }
        }
    }
    let mut hash = Sha256::new();
    write_sorted(&value, &mut hash);
    hash.update(contents.unwrap_or_default());
    to_hex(&hash.finalize())
}

/// The hash of a network's definition.
pub fn network(network: &Network) -> String {
    // The debug text names every field of the definition, and changes whenever one of them does.
    to_hex(&Sha256::digest(format!("{network:?}")))
}

/// The hash of a volume's definition.
pub fn volume(volume: &crate::model::project::Volume) -> String {
    to_hex(&Sha256::digest(format!("{volume:?}")))
}

/// `service hash` for each service, as `config --hash` prints it.
pub fn all(project: &Project) -> Vec<(String, String)> {
    project.services.iter().map(|(name, value)| (name.clone(), service(value, None))).collect()
}

/// Feeds `value` as JSON with sorted keys, so that the order of a file's lines does not count.
fn write_sorted(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            hash.update(b"{");
            for (key, value) in fields {
                hash.update(Value::from(key.as_str()).to_string());
                hash.update(b":");
                write_sorted(value, hash);
                hash.update(b",");
            }
            hash.update(b"}");
        }
        Value::Array(items) => {
            hash.update(b"[");
            for item in items {
                write_sorted(item, hash);
                hash.update(b",");
            }
            hash.update(b"]");
        }
        scalar => hash.update(scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(canonical: Value) -> String {
        service(&Service { canonical, ..Service::default() }, None)
    }

    #[test]
    fn order_and_replicas_do_not_count() {
        let first = json!({"image": "a", "environment": {"X": "1", "Y": "2"}, "deploy": {"replicas": 2}});
        let second = json!({"deploy": {"replicas": 5}, "environment": {"Y": "2", "X": "1"}, "image": "a", "depends_on": {"b": {}}});
        assert_eq!(of(first), of(second));
    }

    #[test]
    fn what_concerns_the_container_counts() {
        let base = json!({"image": "a", "command": ["x"]});
        for other in [
            json!({"image": "b", "command": ["x"]}),
            json!({"image": "a", "command": ["x", "y"]}),
            json!({"image": "a"}),
        ] {
            assert_ne!(of(base.clone()), of(other));
        }
        let service_of = |contents| service(&Service { canonical: base.clone(), ..Service::default() }, contents);
        assert_ne!(service_of(Some("secret one")), service_of(Some("secret two")));
    }
}
