//! The tree as text: JSON and YAML exactly as `docker compose config` writes them.

use super::model::VALUE_KEY;
use super::node::{Mark, Node, Value, format_float};
use super::path::{ITEM, Path};
use super::scalar;

/// A tree as a JSON value. Nested `x-…` and top-level `models` are not part of it, as in Compose.
pub(crate) fn json(node: &Node, path: Path<'_>) -> serde_json::Value {
    use serde_json::Value as Json;
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => Json::from(*number as i64),
        Value::Float(number) => Json::from(*number),
        Value::Text(text) => Json::String(text.clone()),
        Value::Sequence(items) => Json::Array(items.iter().map(|item| json(item, path.join(ITEM))).collect()),
        Value::Map(map) => {
            let mut entries: Vec<(&String, &Node)> = map.iter().filter(|(key, _)| is_json_key(key, path)).collect();
            if path.segments().is_empty() {
                // Compose builds the top level as a Go map, which prints sorted.
                entries.sort_by_key(|(key, _)| *key);
            }
            let capital = is_capitalised(path.segments());
            let entries = entries
                .into_iter()
                .map(|(key, value)| (if capital { capitalise(key) } else { key.clone() }, json(value, path.join(key))));
            Json::Object(entries.collect())
        }
    }
}

fn is_json_key(key: &str, path: Path<'_>) -> bool {
    match path.segments() {
        [] => key != "models",
        // These keys are names that the user chose.
        ["services" | "networks" | "volumes" | "secrets" | "configs"] | ["services", _, "depends_on" | "networks"] => {
            true
        }
        ["services", _] | ["networks" | "volumes" | "secrets" | "configs", _] => !key.starts_with("x-"),
        ["services", _, "environment" | "labels" | "annotations" | "sysctls"] => true,
        [.., "labels" | "args" | "driver_opts" | "options" | "environment" | "additional_contexts"] => true,
        [first, ..] if first.starts_with("x-") => true,
        _ => !key.starts_with("x-"),
    }
}

/// Compose forgot the JSON names of these fields.
fn is_capitalised(path: &[&str]) -> bool {
    matches!(path, ["services", _, "blkio_config", _, ITEM])
}

fn capitalise(key: &str) -> String {
    let mut characters = key.chars();
    characters.next().map(|first| first.to_ascii_uppercase().to_string() + characters.as_str()).unwrap_or_default()
}

/// JSON text with two spaces of indentation and Go's escapes for HTML.
pub(crate) fn json_text(node: &Node) -> String {
    escape_html(serde_json::to_string_pretty(&json(node, Path::default())).unwrap_or_default())
}

/// A merged tree that was not interpolated, as it is printed: keys sorted, nothing left out.
pub(crate) fn as_written(node: &Node) -> Node {
    let value = match &node.value {
        Value::Map(map) => {
            let mut entries: Vec<(&String, &Node)> = map.iter().filter(|(key, _)| *key != VALUE_KEY).collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Map(entries.into_iter().map(|(key, value)| (key.clone(), as_written(value))).collect())
        }
        Value::Sequence(items) => Value::Sequence(items.iter().map(as_written).collect()),
        scalar => scalar.clone(),
    };
    node.with_value(value)
}

/// All that a tree holds as a JSON value.
pub(crate) fn whole_json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Sequence(items) => items.iter().map(whole_json).collect(),
        Value::Map(map) => map.iter().map(|(key, value)| (key.clone(), whole_json(value))).collect(),
        _ => json(node, Path::default()),
    }
}

/// JSON text of all that a tree holds.
pub(crate) fn whole_json_text(node: &Node) -> String {
    escape_html(serde_json::to_string_pretty(&whole_json(node)).unwrap_or_default())
}

fn escape_html(text: String) -> String {
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// YAML text with two spaces of indentation, as Go's encoder writes it.
pub fn yaml_text(node: &Node) -> String {
    let mut writer = Writer { out: String::new() };
    match shown(node) {
        0 => writer.out.push_str("{}\n"),
        _ => writer.map(node, 0, false),
    }
    writer.out
}

/// How many entries or items of a collection YAML shows.
fn shown(node: &Node) -> usize {
    match &node.value {
        Value::Map(map) => map.values().filter(|value| is_shown(value)).count(),
        Value::Sequence(items) => items.len(),
        _ => 0,
    }
}

fn is_shown(node: &Node) -> bool {
    match (node.mark, &node.value) {
        (Mark::JsonOnly, Value::Map(_)) => shown(node) > 0,
        (Mark::JsonOnly, _) => false,
        _ => true,
    }
}

struct Writer {
    out: String,
}

impl Writer {
    fn indent(&mut self, level: usize) {
        self.out.extend(std::iter::repeat_n(' ', level * 2));
    }

    /// Writes the entries of a mapping; `inline`: the first one continues a line (`- key: value`).
    fn map(&mut self, node: &Node, level: usize, inline: bool) {
        let entries = node.as_map().into_iter().flatten().filter(|(_, value)| is_shown(value));
        for (index, (key, value)) in entries.enumerate() {
            if !(inline && index == 0) {
                self.indent(level);
            }
            let key = scalar_text(key, level);
            self.out.push_str(&key);
            self.out.push(':');
            self.value(value, level + 1, true);
        }
    }

    /// Writes a value after `key:` or `-`, with the line's end.
    fn value(&mut self, node: &Node, level: usize, after_key: bool) {
        let text = match &node.value {
            Value::Null => "null".to_owned(),
            Value::Bool(flag) => flag.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => format_float(*number),
            Value::Text(text) => scalar_text(text, level),
            Value::Map(_) if shown(node) == 0 => "{}".to_owned(),
            Value::Sequence(items) if items.is_empty() => "[]".to_owned(),
            Value::Map(_) => {
                self.out.push(if after_key { '\n' } else { ' ' });
                self.map(node, level, !after_key);
                return;
            }
            Value::Sequence(items) => {
                self.out.push(if after_key { '\n' } else { ' ' });
                for (index, item) in items.iter().enumerate() {
                    if after_key || index > 0 {
                        self.indent(level);
                    }
                    self.out.push('-');
                    self.value(item, level + 1, false);
                }
                return;
            }
        };
        self.out.push(' ');
        self.out.push_str(&text);
        self.out.push('\n');
    }
}

/// A scalar in the style that Go's encoder chooses.
fn scalar_text(text: &str, level: usize) -> String {
    let resolves_to_text = matches!(scalar::resolve(text), Value::Text(_)) && !is_old_literal(text) && text != "<<";
    if text.contains('\n') && resolves_to_text && block_allowed(text) {
        return literal(text, level);
    }
    if !resolves_to_text || text.contains('\n') || text.chars().any(is_special) {
        return double_quoted(text);
    }
    if plain_allowed(text) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// What YAML 1.1 reads as a boolean, a base 60 number or a date.
fn is_old_literal(text: &str) -> bool {
    let boolean = matches!(
        text,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF"
    );
    boolean || is_base_60(text) || is_date(text)
}

fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = whole.split(':');
    let first = parts.next().unwrap_or_default();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let rest: Vec<&str> = parts.collect();
    first.starts_with(|c: char| c.is_ascii_digit())
        && digits(first)
        && !rest.is_empty()
        && rest.iter().all(|part| {
            (1..=2).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && (part.len() == 1 || part.as_bytes()[0] < b'6')
        })
        && digits(fraction)
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let date =
        digits(0..4) && bytes.get(4) == Some(&b'-') && digits(5..7) && bytes.get(7) == Some(&b'-') && digits(8..10);
    date && (bytes.len() == 10
        || (matches!(bytes.get(10), Some(b'T' | b't' | b' ')) && digits(11..13) && bytes.get(13) == Some(&b':')))
}

fn is_special(c: char) -> bool {
    (c.is_control() && c != '\n') || matches!(c, '\u{feff}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn block_allowed(text: &str) -> bool {
    !text.starts_with([' ', '\n'])
        && !text.contains(" \n")
        && !text.ends_with(' ')
        && !text.chars().any(|c| is_special(c) && c != '\t')
}

fn plain_allowed(text: &str) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let second_is_blank = text.chars().nth(1).is_none_or(|c| c == ' ' || c == '\t');
    let first_ok = match first {
        '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => false,
        '-' | '?' | ':' => !second_is_blank,
        _ => true,
    };
    first_ok
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && !text.contains(": ")
        && !text.ends_with(':')
        && !text.contains(" #")
        && !text.starts_with("---")
        && !text.starts_with("...")
}

fn double_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if is_special(c) && (c as u32) < 0x100 => out.push_str(&format!("\\x{:02X}", c as u32)),
            c if is_special(c) => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn literal(text: &str, level: usize) -> String {
    let chomping = match (text.ends_with("\n\n"), text.ends_with('\n')) {
        (true, _) => "|+",
        (_, true) => "|",
        _ => "|-",
    };
    let mut out = chomping.to_owned();
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.extend(std::iter::repeat_n(' ', level * 2));
            out.push_str(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_quoted_where_they_would_be_read_as_something_else() {
        for (text, expected) in [
            ("nginx:latest", "nginx:latest"),
            ("8080", "\"8080\""),
            ("true", "\"true\""),
            ("yes", "\"yes\""),
            ("", "\"\""),
            ("22:22", "\"22:22\""),
            ("a: b", "'a: b'"),
            ("it's #1", "'it''s #1'"),
            ("*", "'*'"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("a\tb", "\"a\\tb\""),
            ("a\nb", "|-\n  a\n  b"),
            ("a\n", "|\n  a"),
            (" a\nb", "\" a\\nb\""),
            ("2024-01-01", "\"2024-01-01\""),
        ] {
            assert_eq!(scalar_text(text, 1), expected, "{text:?}");
        }
    }
}
