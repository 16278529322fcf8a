//! Holds a tree against the forms of `schema` and notes every mistake, with what was expected and, for unknown
//! attributes, what may have been meant.

use std::collections::HashMap;

use super::error::shorten;
use super::form::scalars::{FLAG, NULL, NUMBER, TEXT, WHOLE};
use super::form::{Attributes, Form, Others};
use super::node::{Map, Node, Span, Value};
use super::path::{ITEM, Path};
use super::progress::Load;
use super::schema;

/// Checks a whole merged file.
pub(crate) fn validate(load: &mut Load, root: &Node) {
    check(load, root, &schema::ROOT, Path::default());
}

/// Checks the value of `include`, which is gone when the rest is checked.
pub(crate) fn validate_include(load: &mut Load, node: &Node) {
    let path = Path::default();
    check(load, node, &schema::INCLUDE, path.join("include"));
}

fn check(load: &mut Load, node: &Node, form: &'static Form, path: Path<'_>) {
    if load.is_full() || load.is_template(node) {
        return;
    }
    match form {
        Form::Any => {}
        Form::Scalar(kinds) => {
            if kind(node) & kinds == 0 {
                expected(load, node, form, path);
            }
        }
        Form::Bounded(least, most) => match &node.value {
            Value::Text(_) => {}
            Value::Integer(number) if (least..=most).contains(&number) => {}
            Value::Integer(number) => {
                let message = match *most {
                    i64::MAX => format!("{path} must be {least} at least, not {number}"),
                    most => format!("{path} must be between {least} and {most}, not {number}"),
                };
                load.mistake(node.place(), message);
            }
            _ => expected(load, node, form, path),
        },
        Form::Choice(words) => match node.as_str() {
            Some(text) if words.contains(&text) => {}
            Some(text) => {
                let message = format!("{path} must be {}, not `{}`", alternatives(words), shorten(text));
                load.mistake_with_hint(node.place(), message, meant(text, words.iter().copied()));
            }
            None => expected(load, node, form, path),
        },
        Form::Word(test, name) => match node.as_str() {
            Some(text) if test(text) => {}
            Some(text) => load.mistake(node.place(), format!("{path} must be {name}, not `{}`", shorten(text))),
            None => expected(load, node, form, path),
        },
        Form::List(item) => check_list(load, node, form, item, path),
        Form::Set(item) => {
            check_list(load, node, form, item, path);
            check_doubles(load, node, path);
        }
        Form::MapOf(test, value, others) => match node.as_map() {
            Some(map) => check_map(load, map, *test, value, *others, path),
            None => expected(load, node, form, path),
        },
        Form::Object(attributes) => match node.as_map() {
            Some(map) => check_object(load, node, map, attributes, path),
            None => expected(load, node, form, path),
        },
        Form::Either(forms) => match forms.iter().find(|form| fits(node, form)) {
            Some(form) => check(load, node, form, path),
            None => expected(load, node, form, path),
        },
    }
}

fn kind(node: &Node) -> u8 {
    match node.value {
        Value::Null => NULL,
        Value::Bool(_) => FLAG,
        Value::Integer(_) => WHOLE | NUMBER,
        Value::Float(number) if number.fract() == 0.0 => WHOLE | NUMBER,
        Value::Float(_) => NUMBER,
        Value::Text(_) => TEXT,
        Value::Sequence(_) | Value::Map(_) => 0,
    }
}

/// Whether a form is the one to check this node against, by type alone.
fn fits(node: &Node, form: &Form) -> bool {
    match form {
        Form::Any => true,
        Form::Scalar(kinds) => kind(node) & kinds != 0,
        Form::Bounded(..) => kind(node) & (TEXT | WHOLE) != 0,
        Form::Choice(_) | Form::Word(..) => kind(node) & TEXT != 0,
        Form::List(_) | Form::Set(_) => matches!(node.value, Value::Sequence(_)),
        Form::MapOf(..) | Form::Object(_) => matches!(node.value, Value::Map(_)),
        Form::Either(forms) => forms.iter().any(|form| fits(node, form)),
    }
}

fn expected(load: &mut Load, node: &Node, form: &Form, path: Path<'_>) {
    let mut names = Vec::new();
    describe(form, &mut names);
    let shown = match &node.value {
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {
            format!("{} ({})", node.kind(), node.scalar_text().unwrap_or_default())
        }
        _ => node.kind().to_owned(),
    };
    let wants_text_only = names == ["a string"];
    let hint = match &node.value {
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) if wants_text_only => {
            Some(format!("write \"{}\" in quotes", node.scalar_text().unwrap_or_default()))
        }
        Value::Null => Some("give it a value, or remove the line".into()),
        _ => None,
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    load.mistake_with_hint(node.place(), format!("{path} must be {}, not {shown}", join(&names)), hint);
}

fn describe(form: &Form, names: &mut Vec<String>) {
    let mut name = |text: &str| {
        if !names.iter().any(|name| name == text) {
            names.push(text.to_owned());
        }
    };
    match form {
        Form::Any => name("anything"),
        Form::Scalar(kinds) => {
            for (bit, text) in [
                (TEXT, "a string"),
                (FLAG, "a boolean"),
                (WHOLE, "a whole number"),
                (NUMBER, "a number"),
                (NULL, "null"),
            ] {
                if kinds & bit != 0 {
                    name(text);
                }
            }
        }
        Form::Bounded(..) => name("a whole number"),
        Form::Choice(words) => name(&alternatives(words)),
        Form::Word(_, text) => name(text),
        Form::List(item) | Form::Set(item) => match item {
            Form::Scalar(TEXT) => name("a list of strings"),
            _ => name("a list"),
        },
        Form::MapOf(..) | Form::Object(_) => name("a mapping"),
        Form::Either(forms) => forms.iter().for_each(|form| describe(form, names)),
    }
}

fn alternatives(words: &[&str]) -> String {
    join(words)
}

fn join(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn check_list(load: &mut Load, node: &Node, form: &'static Form, item: &'static Form, path: Path<'_>) {
    match node.as_sequence() {
        Some(items) => items.iter().for_each(|node| check(load, node, item, path.join(ITEM))),
        None => expected(load, node, form, path),
    }
}

fn check_doubles(load: &mut Load, node: &Node, path: Path<'_>) {
    let mut seen = HashMap::new();
    for item in node.as_sequence().unwrap_or_default() {
        if let Some(first) = seen.insert(item.fingerprint(), item.place()) {
            let message = format!("{path} has this entry twice");
            load.mistake_of_several(item.place(), message, None, &[(first, "the first")]);
        }
    }
}

fn check_map(load: &mut Load, map: &Map, test: fn(&str) -> bool, value: &'static Form, others: Others, path: Path<'_>) {
    for (key, node) in map {
        if test(key) {
            check(load, node, value, path.join(key));
        } else if others == Others::Refused {
            let message = match key.as_str() {
                "" => format!("{path} has an empty key"),
                key => format!("{path} cannot have the name `{}`", shorten(key)),
            };
            let hint = "use letters, digits, `_`, `.` and `-`".to_owned();
            load.mistake_with_hint(key_place(node), message, Some(hint));
        }
    }
}

fn key_place(node: &Node) -> Span {
    if node.key.is_known() { node.key } else { node.span }
}

fn check_object(load: &mut Load, node: &Node, map: &Map, attributes: &'static Attributes, path: Path<'_>) {
    for (key, value) in map {
        // The tables are short and sorted by name.
        match attributes.known.binary_search_by_key(&key.as_str(), |(name, _)| name) {
            Ok(index) => check(load, value, &attributes.known[index].1, path.join(key)),
            Err(_) if attributes.extensions && key.starts_with("x-") => {}
            Err(_) if attributes.others == Others::Unchecked => {}
            Err(_) => unknown(load, key, value, attributes, path),
        }
    }
    for required in attributes.required {
        if !map.contains_key(*required) {
            let place = if node.key.is_known() { node.key } else { node.span };
            load.mistake(place, format!("{path} needs `{required}`"));
        }
    }
}

fn unknown(load: &mut Load, key: &str, value: &Node, attributes: &'static Attributes, path: Path<'_>) {
    if load.is_full() {
        return;
    }
    let names = || attributes.known.iter().map(|(name, _)| *name);
    let hint = meant(key, names()).or_else(|| belongs_elsewhere(key, value, path));
    let message = match path.segments() {
        [] => format!("unknown attribute `{}` at the top level", shorten(key)),
        _ => format!("unknown attribute `{}` in {path}", shorten(key)),
    };
    load.mistake_with_hint(key_place(value), message, hint);
}

/// The known word that differs least, if it differs little.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect();
    let most = (word.chars().count() / 3).max(1);
    known
        .map(|name| (strsim::damerau_levenshtein(&word, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

fn meant<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    nearest(word, known).map(|name| format!("did you mean `{name}`?"))
}

/// Where an attribute stands that was written at the wrong level.
fn belongs_elsewhere(key: &str, value: &Node, path: Path<'_>) -> Option<String> {
    let has = |attributes: &Attributes| attributes.known.iter().any(|(name, _)| *name == key);
    match path.segments() {
        [] if has(&schema::SERVICE) => Some(format!("`{key}` belongs to a service, below `services:`")),
        [] if value.get("image").or(value.get("build")).is_some() => {
            Some(format!("`{key}` looks like a service: it belongs below `services:`"))
        }
        ["services", _] => [
            ("build", &schema::BUILD),
            ("deploy", &schema::DEPLOY),
            ("healthcheck", &schema::HEALTHCHECK),
            ("logging", &schema::LOGGING),
        ]
        .into_iter()
        .find(|(_, attributes)| has(attributes))
        .map(|(parent, _)| format!("`{key}` belongs below `{parent}:`")),
        ["services", _, _] if has(&schema::SERVICE) => {
            Some(format!("`{key}` belongs to the service itself, one level up"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(form: &Form) {
        match form {
            Form::Object(attributes) => {
                assert!(attributes.known.is_sorted_by_key(|(name, _)| *name), "{:?}", attributes.known[0].0);
                attributes.known.iter().for_each(|(_, form)| sorted(form));
            }
            Form::List(form) | Form::Set(form) | Form::MapOf(_, form, _) => sorted(form),
            Form::Either(forms) => forms.iter().for_each(sorted),
            _ => {}
        }
    }

    #[test]
    fn the_tables_are_sorted_for_binary_search() {
        sorted(&schema::ROOT);
    }
}
