//! The untyped tree between text and project: values with the place that each was written at.
//!
//! Equality is that of values: where they were written does not count.

use indexmap::IndexMap;

/// A place in one of the loaded files. Line 0 is nowhere: the loader made the value itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Index of the file among those that were read.
    pub file: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Length in characters, 0 when it runs over several lines.
    pub length: u32,
}

impl Span {
    /// Whether it is a place in a file.
    pub fn is_known(self) -> bool {
        self.line > 0
    }
}

/// What a tag or a phase says about a node beyond its value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    #[default]
    None,
    /// `!reset`: drop this and what earlier files say here.
    Reset,
    /// `!override`: replace what earlier files say here.
    Override,
    /// An empty value that JSON output shows and YAML output does not.
    JsonOnly,
}

/// Keys in the order in which they were written.
pub type Map = IndexMap<String, Node>;

/// A value of YAML's core schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping.
    Map(Map),
}

/// A value, where it stands, and where its key stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where the value was written.
    pub span: Span,
    /// Where its key was written, if it has one.
    pub key: Span,
    /// What a tag says.
    pub mark: Mark,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self { value, span: Span::default(), key: Span::default(), mark: Mark::None }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned()).into()
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Value::Text(text).into()
    }
}

impl From<bool> for Node {
    fn from(flag: bool) -> Self {
        Value::Bool(flag).into()
    }
}

impl Node {
    /// A `null` without a place.
    pub fn null() -> Self {
        Value::Null.into()
    }

    /// A new value at the place of `self`.
    pub fn with_value(&self, value: Value) -> Self {
        Self { value, span: self.span, key: self.key, mark: Mark::None }
    }

    /// A `null` at the place of `self`, to give values to later.
    pub(crate) fn clone_place(&self) -> Self {
        Self { value: Value::Null, span: self.span, key: self.key, mark: Mark::None }
    }

    /// Puts this node at a place.
    pub fn at(mut self, span: Span, key: Span) -> Self {
        self.span = span;
        self.key = key;
        self
    }

    /// Its text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Its mapping, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Its mapping, if it is one.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Its items, if it is a list.
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The value below a key, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key)
    }

    /// The value below several keys in turn.
    pub fn get_path(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The place to point at: the value's, else the key's.
    pub fn place(&self) -> Span {
        if self.span.is_known() { self.span } else { self.key }
    }

    /// What it is, for messages: "a string", "a mapping".
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::Sequence(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Calls `visit` with every text below this node, keys left out.
    pub(crate) fn walk_texts(&self, visit: &mut dyn FnMut(&str)) {
        match &self.value {
            Value::Text(text) => visit(text),
            Value::Sequence(items) => items.iter().for_each(|item| item.walk_texts(visit)),
            Value::Map(map) => map.values().for_each(|value| value.walk_texts(visit)),
            _ => {}
        }
    }

    /// Text that is the same for equal values.
    pub(crate) fn fingerprint(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("{text:?}"),
            Value::Sequence(items) => {
                format!("[{}]", items.iter().map(Self::fingerprint).collect::<Vec<_>>().join(","))
            }
            Value::Map(map) => {
                let mut entries: Vec<String> =
                    map.iter().map(|(key, value)| format!("{key:?}:{}", value.fingerprint())).collect();
                entries.sort();
                format!("{{{}}}", entries.join(","))
            }
            _ => self.scalar_text().unwrap_or_else(|| "null".into()),
        }
    }

    /// A scalar as text; `None` for `null`, lists and mappings.
    pub fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) => Some(text.clone()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Float(number) => Some(format_float(*number)),
            _ => None,
        }
    }
}

/// Writes a number as Go's `%v` does, which is what labels and variables made from numbers look like.
pub fn format_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.into();
    }
    // Rust writes the shortest digits that round-trip, as Go does; only the choice of the exponent form differs.
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
