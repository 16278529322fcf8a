//! YAML text to trees: one [`Node`] per document, aliases and merge keys resolved, places kept.
//!
//! The parser gives events; this builds trees on a stack of its own, so nesting costs no call stack. What is an
//! error here: bad syntax, keys that are not text, a key twice in one mapping, an alias inside its own anchor,
//! and more nodes, text or nesting than the limits allow (aliases count as often as they are used).
//!
//! Source: <https://yaml.org/spec/1.2.2/>; merge keys: <https://yaml.org/type/merge.html>.

use std::collections::HashMap;

use indexmap::map::Entry;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::Error;
use super::limits::DEPTH_MAX;
use super::node::{Map, Mark, Node, Span, Value};
use super::progress::Load;
use super::scalar;

/// Parses all documents of a file that `load` has read.
pub(crate) fn parse(load: &mut Load, file: u32) -> Result<Vec<Node>, Error> {
    let text = load.text(file);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut builder = Builder { load, file, stack: Vec::new(), anchors: HashMap::new(), documents: Vec::new() };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.event(event, span)?,
            Err(error) => {
                let mark = error.marker();
                let span = Span { file, line: mark.line() as u32, column: mark.col() as u32 + 1, length: 1 };
                let message = match error.info() {
                    // The parser's own limit on what stands in brackets, below which ours is.
                    "recursion limit exceeded" => "nested too deep".to_owned(),
                    info => format!("not valid YAML: {info}"),
                };
                return Err(builder.load.fail(span, message));
            }
        }
    }
    Ok(builder.documents)
}

/// A collection that is still open.
enum Frame {
    Sequence { items: Vec<Node> },
    Map { map: Map, key: Option<(String, Span)>, merged: Vec<Node> },
}

struct Open {
    frame: Frame,
    span: Span,
    mark: Mark,
    anchor: usize,
}

struct Builder<'a> {
    load: &'a mut Load,
    file: u32,
    stack: Vec<Open>,
    /// Finished nodes by anchor. An anchor that is not here yet encloses its alias.
    anchors: HashMap<usize, Node>,
    documents: Vec<Node>,
}

/// The key that merges other mappings into this one. It cannot be confused with a key that was read: those
/// never hold a line break before text.
const MERGE_KEY: &str = "<<";

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: saphyr_parser::Span) -> Result<(), Error> {
        let span = Span {
            file: self.file,
            line: span.start.line() as u32,
            column: span.start.col() as u32 + 1,
            length: if span.start.line() == span.end.line() { span.len() as u32 } else { 0 },
        };
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), span)?,
            Event::SequenceStart(anchor, tag) => {
                self.open(Frame::Sequence { items: Vec::new() }, anchor, tag.as_deref(), span)?;
            }
            Event::MappingStart(anchor, tag) => {
                let frame = Frame::Map { map: Map::new(), key: None, merged: Vec::new() };
                self.open(frame, anchor, tag.as_deref(), span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(self.load.fail(span, "this alias is inside the value that it stands for".into()));
                };
                let node = self.load.copy(node)?;
                self.push(node, span)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame, anchor: usize, tag: Option<&Tag>, span: Span) -> Result<(), Error> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(self.load.fail(span, format!("nested more than {DEPTH_MAX} levels deep")));
        }
        if let Some(Open { frame: Frame::Map { key: None, .. }, .. }) = self.stack.last() {
            return Err(self.load.fail(span, "a key must be a string".into()));
        }
        self.load.charge(span, 0)?;
        // The span of a collection's first event is empty; point at its first character.
        let span = Span { length: 1, ..span };
        self.stack.push(Open { frame, span, mark: mark_of(tag), anchor });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let value = match open.frame {
            Frame::Sequence { items } => Value::Sequence(items),
            Frame::Map { mut map, merged, .. } => {
                // Keys of the mapping win over merged ones, earlier merged ones over later.
                for source in merged {
                    self.merge(&mut map, source)?;
                }
                Value::Map(map)
            }
        };
        let node = Node { value, span: open.span, key: Span::default(), mark: open.mark };
        self.anchor(open.anchor, &node)?;
        self.push(node, open.span)
    }

    fn merge(&mut self, map: &mut Map, source: Node) -> Result<(), Error> {
        match source.value {
            Value::Map(entries) => {
                for (key, value) in entries {
                    map.entry(key).or_insert(value);
                }
                Ok(())
            }
            Value::Sequence(items) => {
                for item in items {
                    if !matches!(item.value, Value::Map(_)) {
                        return Err(self.load.fail(item.span, "`<<` merges mappings only".into()));
                    }
                    self.merge(map, item)?;
                }
                Ok(())
            }
            _ => Err(self.load.fail(source.span, "`<<` merges mappings only".into())),
        }
    }

    fn anchor(&mut self, anchor: usize, node: &Node) -> Result<(), Error> {
        if anchor > 0 {
            let node = self.load.copy(node)?;
            self.anchors.insert(anchor, node);
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Error> {
        self.load.charge(span, text.len())?;
        let is_merge_key = style == ScalarStyle::Plain && text == MERGE_KEY && tag.is_none();
        if is_merge_key && let Some(Open { frame: Frame::Map { key: key @ None, .. }, .. }) = self.stack.last_mut() {
            *key = Some((String::new(), Span::default()));
            return Ok(());
        }
        let value = self.scalar_value(text, style, tag, span)?;
        let node = Node { value, span, key: Span::default(), mark: mark_of(tag) };
        self.anchor(anchor, &node)?;
        self.push(node, span)
    }

    fn scalar_value(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Value, Error> {
        let core = tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
        let value = match core {
            None if style == ScalarStyle::Plain && tag.is_none_or(is_mark) => scalar::resolve(text),
            None | Some("str") => Value::Text(text.to_owned()),
            Some("binary") => {
                use base64::Engine as _;
                let compact: String = text.split_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD.decode(compact).ok();
                match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                    Some(text) => Value::Text(text),
                    None => return Err(self.load.fail(span, "`!!binary` is not base64 of UTF-8 text".into())),
                }
            }
            Some(kind) => {
                let value = match (kind, scalar::resolve(text)) {
                    ("float", Value::Integer(number)) => Value::Float(number as f64),
                    (_, value) => value,
                };
                let fits = match &value {
                    Value::Null => kind == "null",
                    Value::Bool(_) => kind == "bool",
                    Value::Integer(_) => kind == "int",
                    Value::Float(_) => kind == "float",
                    _ => !matches!(kind, "null" | "bool" | "int" | "float" | "map" | "seq"),
                };
                if !fits {
                    return Err(self.load.fail(span, format!("`{text}` is not a `!!{kind}`")));
                }
                value
            }
        };
        Ok(value)
    }

    /// Puts a finished node where the open collection expects one.
    fn push(&mut self, mut node: Node, span: Span) -> Result<(), Error> {
        let Some(open) = self.stack.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.frame {
            Frame::Sequence { items } => items.push(node),
            Frame::Map { map, key, merged } => match key.take() {
                None => {
                    let Value::Text(text) = node.value else {
                        let shown = node.scalar_text().unwrap_or_else(|| node.kind().to_owned());
                        let message = format!("a key must be a string, not {shown}");
                        let hint = Some(format!("write \"{shown}\" in quotes"));
                        self.load.mistake_with_hint(span, message, hint);
                        *key = Some((shown, span));
                        return Ok(());
                    };
                    *key = Some((text, span));
                }
                Some((text, place)) if text.is_empty() && !place.is_known() => {
                    if !merged.is_empty() {
                        return Err(self.load.fail(span, "`<<` stands twice in one mapping".into()));
                    }
                    merged.push(node);
                }
                Some((text, place)) => {
                    node.key = place;
                    match map.entry(text) {
                        Entry::Vacant(entry) => drop(entry.insert(node)),
                        Entry::Occupied(earlier) => {
                            let first = earlier.get().key;
                            let message = format!("`{}` is set already in line {}", earlier.key(), first.line);
                            self.load.mistake_of_several(place, message, None, &[(first, "the first")]);
                        }
                    }
                }
            },
        }
        Ok(())
    }
}

fn mark_of(tag: Option<&Tag>) -> Mark {
    match tag {
        Some(tag) if tag.handle == "!" && tag.suffix == "reset" => Mark::Reset,
        Some(tag) if tag.handle == "!" && tag.suffix == "override" => Mark::Override,
        _ => Mark::None,
    }
}

fn is_mark(tag: &Tag) -> bool {
    mark_of(Some(tag)) != Mark::None
}
