//! Every attribute of the specification is acted on, or named by a warning, or here with its reason.

use serde::Deserialize;

use super::attributes::{self, Attribute, Kind};
use super::bind::SECTIONS;
use super::node::{Map, Node, Value};
use super::output::whole_json;
use super::unsupported;
use crate::model::project::{FileObject, Model, Network, Service, Volume};

/// What no code needs to read, though the model has it, and why.
const NEEDLESS: &[(&str, &str)] = &[
    ("annotations", "for the runtime of OCI bundles, of which wharf has none: kept in the canonical form"),
    ("attach", "read by the command line"),
    ("isolation", "of Linux there is one kind"),
    ("runtime", "runc and its like are what wharf does itself"),
    ("volumes.[].consistency", "of file shares with virtual machines: Linux is always consistent"),
    ("networks.key.driver_opts", "those that are known are read, others are warned about"),
    ("build", "the builder has a form of its own for it"),
    ("deploy.labels", "labels of a Swarm service; there is none"),
    ("env_file", "read into `environment` by the loader"),
    ("extends", "resolved by the loader"),
    ("label_file", "read into `labels` by the loader"),
    ("ports.[].app_protocol", "a note for people and proxies"),
    ("ports.[].mode", "`ingress` and `host` are the same on one host"),
    ("ports.[].name", "a note for people and proxies"),
    ("name", "of a model: services know it by its key"),
    ("external", "written as `external: true`"),
    ("driver_opts", "of configs and secrets: only with a driver, which is warned about"),
];

/// A value of this kind, with everything in it.
fn sample(kind: &Kind) -> Node {
    let text = || Node::from("text");
    match kind {
        Kind::Text | Kind::FileMode => text(),
        Kind::Flag | Kind::MaybeFlag | Kind::Yes | Kind::OptOut => true.into(),
        Kind::Int | Kind::MaybeInt | Kind::Unsigned(_) | Kind::MaybeUnsigned | Kind::DeviceCount | Kind::Ulimit => {
            Value::Integer(1).into()
        }
        Kind::Short | Kind::Cpus => Value::Float(0.5).into(),
        Kind::Bytes => "1024".into(),
        Kind::Duration | Kind::MaybeDuration => "1s".into(),
        Kind::Texts | Kind::NumberTexts | Kind::Command | Kind::Test | Kind::Hosts | Kind::Ssh => {
            Value::Sequence(vec![text()]).into()
        }
        Kind::Variables | Kind::TextMap | Kind::Labels => map([("key".to_owned(), text())]),
        Kind::ManyOptions => map([("key".to_owned(), Value::Sequence(vec![text()]).into())]),
        Kind::Struct(fields) | Kind::Always(fields) => all(fields),
        Kind::ListOf(kind) => Value::Sequence(vec![sample(kind)]).into(),
        Kind::MapOf(kind) => map([("key".to_owned(), sample(kind))]),
    }
}

fn map<const N: usize>(entries: [(String, Node); N]) -> Node {
    Value::Map(entries.into_iter().collect::<Map>()).into()
}

/// A mapping with every attribute.
fn all(attributes: &[Attribute]) -> Node {
    let value = |name: &str, kind: &Kind| match name {
        "condition" => "service_started".into(),
        _ => sample(kind),
    };
    let entries = attributes.iter().map(|(name, kind)| ((*name).to_owned(), value(name, kind)));
    Value::Map(entries.collect::<Map>()).into()
}

/// The attributes of `node` that reading it as a `T` ignores.
fn ignored<'de, T: Deserialize<'de>>(section: &str, node: &Node) -> Vec<String> {
    let json = whole_json(node);
    let mut ignored = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| {
        let parts = path.to_string();
        let parts = parts.split('.').filter(|part| *part != "?");
        let parts: Vec<&str> = parts.map(|part| if part.parse::<usize>().is_ok() { "[]" } else { part }).collect();
        ignored.push(parts.join("."));
    };
    let result: Result<T, _> = serde_ignored::deserialize(json_deserializer(json), &mut note);
    assert!(result.is_ok(), "{section}: {}", result.err().map(|error| error.to_string()).unwrap_or_default());
    ignored
}

fn json_deserializer<'de>(json: serde_json::Value) -> impl serde::Deserializer<'de, Error = serde_json::Error> {
    json
}

/// The attributes that are warned about, as `ignored` writes them.
fn warned(root: &Node) -> Vec<String> {
    let mut warned = Vec::new();
    unsupported::find(root, &mut |_, path, _| warned.push(path.replace("[]", ".[]")));
    warned
}

#[test]
fn what_the_engine_does_not_read_is_warned_about() {
    for (section, attributes) in SECTIONS {
        let entry = all(attributes);
        let root = map([((*section).to_owned(), map([("key".to_owned(), entry.clone())]))]);
        let prefix = format!("{section}.key.");
        let warned: Vec<String> =
            warned(&root).iter().filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned)).collect();
        let ignored = match *section {
            "services" => ignored::<Service>(section, &entry),
            "networks" => ignored::<Network>(section, &entry),
            "volumes" => ignored::<Volume>(section, &entry),
            "secrets" | "configs" => ignored::<FileObject>(section, &entry),
            "models" => ignored::<Model>(section, &entry),
            other => panic!("{other}: a section without a model"),
        };
        let covers = |above: &str, path: &str| {
            path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let silent: Vec<&String> = ignored
            .iter()
            .filter(|path| !warned.iter().any(|above| covers(above, path)))
            .filter(|path| !NEEDLESS.iter().any(|(above, _)| covers(above, path)))
            .collect();
        assert!(silent.is_empty(), "{section}: neither acted on nor warned about: {silent:?}");
    }
}

#[test]
fn values_that_have_no_effect_are_warned_about() {
    let service = |attribute: &str, value: Node| {
        let entry = map([(attribute.to_owned(), value)]);
        map([("services".to_owned(), map([("web".to_owned(), entry)]))])
    };
    let list = |item: Node| Node::from(Value::Sequence(vec![item]));
    let field = |key: &str, value: &str| map([(key.to_owned(), value.into())]);
    for (attribute, value, expected) in [
        ("logging", field("driver", "json-file"), None),
        ("logging", field("driver", "local"), None),
        ("logging", field("driver", "fluentd"), Some("services.web.logging.driver")),
        ("volumes", list(field("type", "bind")), None),
        ("volumes", list(field("type", "npipe")), Some("services.web.volumes[].type")),
        ("deploy", field("endpoint_mode", "vip"), Some("services.web.deploy.endpoint_mode")),
        ("storage_opt", field("size", "1g"), Some("services.web.storage_opt")),
        ("image", "x".into(), None),
    ] {
        let mut warned = Vec::new();
        unsupported::find(&service(attribute, value), &mut |_, path, _| warned.push(path));
        assert_eq!(warned, expected.into_iter().collect::<Vec<_>>(), "{attribute}");
    }
    for (section, attribute, value, expected) in [
        ("networks", "driver", "bridge", false),
        ("networks", "driver", "macvlan", true),
        ("volumes", "driver", "local", false),
        ("volumes", "driver", "rexray", true),
        ("secrets", "template_driver", "golang", true),
    ] {
        let root = map([(section.to_owned(), map([("key".to_owned(), field(attribute, value))]))]);
        assert_eq!(!warned(&root).is_empty(), expected, "{section}: {attribute}: {value}");
    }
    // Every attribute of a service that a table names exists.
    assert!(attributes::SERVICE.iter().any(|(name, _)| *name == "storage_opt"));
}
