//! Substitutes variables in the values of a document, then casts the attributes that are not text.
//!
//! Keys are left alone. All mistakes of the document are noted.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::error::shorten;
use super::node::{Node, Value};
use super::path::{ITEM, Path};
use super::progress::Load;
use super::{Error, template};

/// Substitutes and casts everything below `root`.
pub(crate) fn interpolate(
    load: &mut Load,
    root: &mut Node,
    environment: &BTreeMap<String, String>,
) -> Result<(), Error> {
    walk(load, root, Path::default(), environment)
}

fn walk(load: &mut Load, node: &mut Node, path: Path<'_>, environment: &BTreeMap<String, String>) -> Result<(), Error> {
    match &mut node.value {
        Value::Map(map) => {
            for (key, value) in map {
                walk(load, value, path.join(key), environment)?;
            }
        }
        Value::Sequence(items) => {
            for item in items {
                walk(load, item, path.join(ITEM), environment)?;
            }
        }
        Value::Text(text) => {
            let mut written = None;
            if text.contains('$') {
                let replaced = substitute(load, text, node.span, environment);
                let Some(replaced) = replaced else { return Ok(()) };
                load.charge(node.span, replaced.len().saturating_sub(text.len()))?;
                written = Some(std::mem::replace(text, replaced));
            }
            if let Some(cast) = cast_of(path.segments()) {
                match cast.apply(text, load, node.span) {
                    Ok(value) => node.value = value,
                    Err(expected) => {
                        let shown =
                            if text.is_empty() { "an empty string".to_owned() } else { format!("`{}`", shorten(text)) };
                        let origin = written.map(|text| format!(" (from `{}`)", shorten(&text))).unwrap_or_default();
                        load.mistake(node.span, format!("{path} must be {expected}, not {shown}{origin}"));
                    }
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn substitute(
    load: &mut Load,
    text: &str,
    span: super::node::Span,
    environment: &BTreeMap<String, String>,
) -> Option<String> {
    let mut unset = BTreeSet::new();
    let mut note = |name: &str| {
        if !unset.contains(name) {
            unset.insert(name.to_owned());
        }
    };
    let used = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        let value = environment.get(name).cloned();
        if load.trace.is_some() {
            used.borrow_mut().push((name.to_owned(), value.clone()));
        }
        value
    };
    let result = template::substitute(text, &lookup, &mut note);
    if let Some(trace) = &mut load.trace {
        trace.substitute(span, text, used.into_inner());
    }
    for name in unset {
        load.warn(span, format!("variable `{name}` is not set, using an empty string"));
    }
    match result {
        Ok(replaced) => Some(replaced),
        Err(error) => {
            let hint = match &error {
                template::Error::Invalid { .. } => Some("write $$ for a dollar sign".into()),
                template::Error::Required { name, .. } => Some(format!("set {name} in the environment or in .env")),
                _ => None,
            };
            load.mistake_with_hint(span, error.to_string(), hint);
            None
        }
    }
}

/// What an attribute's text is turned into.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cast {
    Flag,
    Integer,
    Float,
    /// A float of 32 bits, which is how it prints.
    Short,
}

impl Cast {
    /// The value that `text` stands for, else what was expected.
    pub fn apply(self, text: &str, load: &mut Load, span: super::node::Span) -> Result<Value, &'static str> {
        match self {
            Self::Flag => match text.to_lowercase().as_str() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                "y" | "yes" | "on" => {
                    load.warn(span, format!("`{text}` is not a boolean in YAML 1.2, write true"));
                    Ok(Value::Bool(true))
                }
                "n" | "no" | "off" => {
                    load.warn(span, format!("`{text}` is not a boolean in YAML 1.2, write false"));
                    Ok(Value::Bool(false))
                }
                _ => Err("true or false"),
            },
            Self::Integer => text.parse().map(Value::Integer).map_err(|_| "a whole number"),
            Self::Float => text.parse().map(Value::Float).map_err(|_| "a number"),
            Self::Short => text.parse().map(|value: f32| Value::Float(shortest(value))).map_err(|_| "a number"),
        }
    }
}

/// The 64 bit number that is written with the digits of a 32 bit one.
pub(crate) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn cast_of(path: &[&str]) -> Option<Cast> {
    let cast = match path {
        ["services", _, rest @ ..] => match rest {
            ["cpu_count" | "cpu_period" | "cpu_quota" | "cpu_rt_period" | "cpu_rt_runtime" | "cpu_shares"]
            | ["oom_score_adj" | "pids_limit" | "scale"]
            | ["deploy", "replicas"]
            | ["deploy", "update_config" | "rollback_config", "parallelism"]
            | ["deploy", "restart_policy", "max_attempts"]
            | ["deploy", "placement", "max_replicas_per_node"]
            | ["healthcheck", "retries"]
            | ["ports", ITEM, "target"]
            | ["ulimits", _]
            | ["ulimits", _, "hard" | "soft"] => Cast::Integer,
            ["cpu_percent"] | ["deploy", "update_config" | "rollback_config", "max_failure_ratio"] => Cast::Float,
            ["cpus"] => Cast::Short,
            ["init" | "oom_kill_disable" | "privileged" | "read_only" | "stdin_open" | "tty"]
            | ["depends_on", _, "required" | "restart"]
            | ["healthcheck", "disable"]
            | ["volumes", ITEM, "read_only"]
            | ["volumes", ITEM, "volume", "nocopy"] => Cast::Flag,
            _ => return None,
        },
        ["networks", _, "external" | "internal" | "attachable" | "enable_ipv4" | "enable_ipv6"]
        | ["volumes" | "secrets" | "configs", _, "external"] => Cast::Flag,
        _ => return None,
    };
    Some(cast)
}
