//! What the words of a template do.
//!
//! Source: Go `text/template` "Functions"; docker/cli `templates/templates.go` for json, join, upper, pad ...

use std::cmp::Ordering;

use serde_json::Value;

/// Longest text that padding makes.
const PAD_MAX: usize = 10_000;

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let wrong = |expected: &str| format!("`{name}` takes {expected}");
    Ok(match (name, arguments) {
        ("json", [value]) => value.to_string().into(),
        ("upper", [value]) => plain(value).to_uppercase().into(),
        ("lower", [value]) => plain(value).to_lowercase().into(),
        ("title", [value]) => title(&plain(value)).into(),
        ("len", [value]) => match value {
            Value::String(text) => text.len().into(),
            Value::Array(values) => values.len().into(),
            Value::Object(fields) => fields.len().into(),
            Value::Null => 0.into(),
            _ => return Err(wrong("a text, a list or a map")),
        },
        ("join", [Value::Array(values), Value::String(between)]) => {
            values.iter().map(plain).collect::<Vec<_>>().join(between).into()
        }
        ("join", [Value::Null, _]) => "".into(),
        ("split", [text, Value::String(at)]) => {
            plain(text).split(at.as_str()).map(Value::from).collect::<Vec<_>>().into()
        }
        ("truncate", [text, Value::Number(width)]) => {
            let width = width.as_u64().and_then(|width| usize::try_from(width).ok()).unwrap_or(usize::MAX);
            plain(text).chars().take(width).collect::<String>().into()
        }
        ("pad", [text, before, after]) => {
            let count = |value: &Value| value.as_u64().map_or(0, |count| count.min(PAD_MAX as u64) as usize);
            let text = plain(text);
            if text.is_empty() {
                "".into()
            } else {
                format!("{}{text}{}", " ".repeat(count(before)), " ".repeat(count(after))).into()
            }
        }
        ("print", values) => print(values).into(),
        ("slice", [value, from]) => slice(value, from, None)?,
        ("slice", [value, from, to]) => slice(value, from, Some(to))?,
        ("html", [value]) => {
            escape(&plain(value), &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")])
                .into()
        }
        ("js", [value]) => escape(
            &plain(value),
            &[
                ('\\', "\\\\"),
                ('\'', "\\'"),
                ('"', "\\\""),
                ('<', "\\u003C"),
                ('>', "\\u003E"),
                ('&', "\\u0026"),
                ('=', "\\u003D"),
            ],
        )
        .into(),
        ("urlquery", [value]) => url_query(&plain(value)).into(),
        ("println", values) => (values.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n").into(),
        ("printf", [Value::String(format), values @ ..]) => printf(format, values).into(),
        ("index", [first, keys @ ..]) => keys.iter().try_fold(first.clone(), |value, key| index(&value, key))?,
        ("not", [value]) => (!is_true(value)).into(),
        ("and", [first, rest @ ..]) => {
            rest.iter().fold(first, |value, next| if is_true(value) { next } else { value }).clone()
        }
        ("or", [first, rest @ ..]) => {
            rest.iter().fold(first, |value, next| if is_true(value) { value } else { next }).clone()
        }
        ("eq", [first, rest @ ..]) if !rest.is_empty() => rest.iter().any(|other| same(first, other)).into(),
        ("ne", [a, b]) => (!same(a, b)).into(),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let order = compare(a, b).ok_or_else(|| wrong("two numbers or two texts"))?;
            match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }
            .into()
        }
        (
            "json" | "upper" | "lower" | "title" | "len" | "join" | "split" | "truncate" | "pad" | "printf" | "index"
            | "not" | "and" | "or" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "slice" | "html" | "js" | "urlquery",
            _,
        ) => return Err(wrong("other values than these")),
        _ => return Err(format!("function `{name}` is not defined")),
    })
}

/// Whether a value counts as true: not false, 0, empty or nothing.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The text of a value as Go prints it: `[a b]`, `map[k:v]`, `<nil>`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut pairs: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

/// Go's `Sprint`: a space between two values that are no texts.
fn print(values: &[Value]) -> String {
    let mut text = String::new();
    for (place, value) in values.iter().enumerate() {
        let is_spaced = place > 0 && !value.is_string() && !values[place - 1].is_string();
        text.push_str(if is_spaced { " " } else { "" });
        text.push_str(&plain(value));
    }
    text
}

fn slice(value: &Value, from: &Value, to: Option<&Value>) -> Result<Value, String> {
    let place = |number: &Value| number.as_u64().and_then(|number| usize::try_from(number).ok());
    let out_of_range = || format!("`slice` goes out of the range of {}", plain(value));
    let from = place(from).ok_or_else(out_of_range)?;
    let to = to.map(|to| place(to).ok_or_else(out_of_range)).transpose()?;
    match value {
        Value::String(text) => text.get(from..to.unwrap_or(text.len())).map(Value::from),
        Value::Array(values) => values.get(from..to.unwrap_or(values.len())).map(|part| part.to_vec().into()),
        _ => None,
    }
    .ok_or_else(out_of_range)
}

fn escape(text: &str, with: &[(char, &str)]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match with.iter().find(|(special, _)| *special == character) {
            Some((_, other)) => escaped.push_str(other),
            None => escaped.push(character),
        }
    }
    escaped
}

fn url_query(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            b' ' => escaped.push('+'),
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        // A key that a map does not have is its type's empty value: a text in nearly all of Docker's maps.
        (Value::Object(fields), Value::String(name)) => Ok(fields.get(name).cloned().unwrap_or_else(|| "".into())),
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Array(values), Value::Number(number)) => {
            let place = number.as_u64().and_then(|place| usize::try_from(place).ok());
            let found = place.and_then(|place| values.get(place)).cloned();
            found.ok_or_else(|| format!("index out of range: {number}"))
        }
        _ => Err(format!("`index` finds no {key} in {}", plain(value))),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    compare(a, b).map_or_else(|| a == b, |order| order == Ordering::Equal)
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn title(text: &str) -> String {
    let mut is_start = true;
    text.chars()
        .map(|character| {
            let shown = if is_start { character.to_ascii_uppercase() } else { character };
            is_start = character.is_whitespace();
            shown
        })
        .collect()
}

/// `%s`, `%v`, `%d`, `%q`, `%t`, `%f`, `%x` with width, `-` and precision; `%%`.
fn printf(format: &str, values: &[Value]) -> String {
    let mut text = String::new();
    let mut values = values.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find(|c: char| !(c.is_ascii_digit() || "+-# .".contains(c))).unwrap_or(rest.len());
        let (flags, behind) = rest.split_at(end);
        let Some(verb) = behind.chars().next() else { break };
        rest = &behind[verb.len_utf8()..];
        if verb == '%' {
            text.push('%');
            continue;
        }
        let Some(value) = values.next() else {
            text.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let (width, precision) = flags.trim_start_matches(['-', '+', '#', ' ']).split_once('.').map_or_else(
            || (flags.trim_start_matches(['-', '+', '#', ' ']), None),
            |(width, precision)| (width, precision.parse::<usize>().ok()),
        );
        let mut shown = match verb {
            'q' => format!("{:?}", plain(value)),
            'x' => value.as_i64().map_or_else(|| plain(value), |number| format!("{number:x}")),
            'f' => {
                let precision = precision.unwrap_or(6).min(100);
                value.as_f64().map_or_else(|| plain(value), |number| format!("{number:.precision$}"))
            }
            _ => plain(value),
        };
        if verb == 's'
            && let Some(precision) = precision
        {
            shown = shown.chars().take(precision).collect();
        }
        let missing = width.parse::<usize>().unwrap_or(0).min(PAD_MAX).saturating_sub(shown.chars().count());
        let padding = if width.starts_with('0') && verb == 'd' { "0" } else { " " }.repeat(missing);
        if flags.contains('-') {
            text.push_str(&(shown + &padding));
        } else {
            text.push_str(&(padding + &shown));
        }
    }
    text + rest
}
