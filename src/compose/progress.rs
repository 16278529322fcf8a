//! One load in progress: the files read so far, what was found wrong, and what it has cost.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::limits::{
    FILE_BYTES_MAX, FILES_MAX, MISTAKES_MAX, NODES_MAX, NODES_WALKED_MAX, PIPE_PATIENCE, TEXT_BYTES_MAX,
};
use super::model::reason;
use super::node::{Node, Span, Value};
use super::remote::Remote;
use super::trace::Trace;
use super::validate::nearest;
use super::{Error, Mistake, Warning};
use crate::base::error::{Excerpt, Location};
use crate::base::fs;

/// Characters of a message or a line of source that are shown.
const MESSAGE_CHARACTERS_MAX: usize = 500;

/// The beginning of `text` without what would steer a terminal; tabs stay, so that columns do.
fn printable(text: &str, characters_max: usize) -> String {
    let shown = |c: char| if c.is_control() && !matches!(c, '\t' | '\n') { '\u{fffd}' } else { c };
    text.chars().take(characters_max).map(shown).collect()
}

/// A file whose text is kept for excerpts.
struct SourceFile {
    path: PathBuf,
    text: Rc<str>,
}

/// The state that every phase shares.
#[derive(Default)]
pub(crate) struct Load {
    files: Vec<SourceFile>,
    /// What brings addresses here.
    pub remote: Option<Remote>,
    /// Variables were not substituted: text with a dollar sign may stand for anything.
    pub lenient: bool,
    /// Every file that was read, or would have been had it been there.
    pub sources: BTreeSet<PathBuf>,
    /// What explains values, where that was asked for.
    pub trace: Option<Box<Trace>>,
    mistakes: Vec<Mistake>,
    /// Where those are: what stands there is left out by the next phase.
    broken: HashSet<Span>,
    /// Where something was left out, down to the second key: `volumes.data`. What is missed there or refers to it is
    /// no mistake of its own.
    left_out: HashSet<String>,
    warnings: Vec<Warning>,
    nodes: usize,
    nodes_walked: usize,
    text_bytes: usize,
}

impl Load {
    /// Reads a YAML file and returns its index.
    pub fn read(&mut self, path: &Path) -> Result<u32, Error> {
        self.sources.insert(path.to_owned());
        let bytes = fs::read_limited(path, FILE_BYTES_MAX)?;
        self.add(path, bytes)
    }

    /// Reads a YAML file that the text at `place` names and returns its index.
    pub fn read_named(&mut self, path: &Path, place: Span) -> Result<u32, Error> {
        self.sources.insert(path.to_owned());
        match fs::read_limited_within(path, FILE_BYTES_MAX, PIPE_PATIENCE) {
            Ok(bytes) => self.add(path, bytes),
            Err(error) => Err(self.fail(place, format!("cannot read {}: {}", path.display(), reason(&error.source)))),
        }
    }

    /// Reads YAML from standard input and returns its index.
    pub fn read_standard_input(&mut self) -> Result<u32, Error> {
        use std::io::Read as _;
        let path = Path::new("-");
        let mut bytes = Vec::new();
        let result = std::io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
        result.map_err(|source| fs::Error { operation: "read", path: path.to_owned(), source })?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(self.fail(Span::default(), format!("standard input is larger than {FILE_BYTES_MAX} bytes")));
        }
        self.add(path, bytes)
    }

    /// Takes the content of a file and returns its index.
    pub fn add(&mut self, path: &Path, bytes: Vec<u8>) -> Result<u32, Error> {
        if self.files.len() >= FILES_MAX {
            return Err(self.fail(
                Span::default(),
                format!("more than {FILES_MAX} compose files are included or extended; the last is {}", path.display()),
            ));
        }
        let index = self.files.len() as u32;
        let (text, valid) = match String::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let end = error.utf8_error().valid_up_to();
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(end))
            }
        };
        let place = valid.map(|end| {
            let before = &text[..end];
            let start = before.rfind('\n').map_or(0, |at| at + 1);
            Span {
                file: index,
                line: before.matches('\n').count() as u32 + 1,
                column: before[start..].chars().count() as u32 + 1,
                length: 1,
            }
        });
        self.files.push(SourceFile { path: path.to_owned(), text: text.into() });
        match place {
            Some(span) => Err(self.fail(span, "not UTF-8 text".into())),
            None => Ok(index),
        }
    }

    /// The text of a file.
    pub fn text(&self, file: u32) -> Rc<str> {
        Rc::clone(&self.files[file as usize].text)
    }

    /// Where a span is, if it is in a file.
    pub fn location(&self, span: Span) -> Option<Location> {
        let file = self.files.get(span.file as usize).filter(|_| span.is_known())?;
        Some(Location { file: file.path.clone(), line: span.line as usize, column: span.column as usize })
    }

    /// Notes a mistake; the phase goes on.
    pub fn mistake(&mut self, span: Span, message: String) {
        self.mistake_with_hint(span, message, None);
    }

    /// Notes a mistake and what to do about it.
    pub fn mistake_with_hint(&mut self, span: Span, message: String, hint: Option<String>) {
        self.mistake_of_several(span, message, hint, &[]);
    }

    /// Notes a mistake that several places make together: each of `others` with what to say beside it.
    pub fn mistake_of_several(&mut self, span: Span, message: String, hint: Option<String>, others: &[(Span, &str)]) {
        if self.is_full() {
            return;
        }
        let location = self.location(span);
        let source = location.as_ref().map(|at| self.line(span.file, at)).unwrap_or_default();
        let message = printable(&message, MESSAGE_CHARACTERS_MAX);
        let hint = hint.map(|hint| printable(&hint, MESSAGE_CHARACTERS_MAX));
        let others = others.iter().filter(|(other, _)| *other != span).filter_map(|(span, label)| {
            let location = self.location(*span)?;
            let source = self.line(span.file, &location);
            Some(Excerpt { location, length: span.length as usize, source, label: (*label).to_owned() })
        });
        let others = others.collect();
        let mistake = Mistake { message, location, length: span.length as usize, source, hint, others };
        if span.is_known() {
            self.broken.insert(span);
        }
        // One node that was copied by an alias or by `extends` is one mistake.
        if !self.mistakes.contains(&mistake) {
            self.mistakes.push(mistake);
        }
    }

    /// Leaves out what is wrong, so that the next phase can look at the rest and its mistakes are others.
    pub fn leave_out_wrong(&mut self, root: &mut Node) {
        if self.broken.is_empty() {
            return;
        }
        let Some(map) = root.as_map_mut() else { return };
        map.retain(|key, section| {
            if self.is_wrong(section) {
                self.left_out.insert(key.clone());
                return false;
            }
            let Some(entries) = section.as_map_mut() else {
                self.leave_out_below(section);
                return true;
            };
            entries.retain(|name, entry| {
                let wrong = self.is_wrong(entry);
                if wrong || self.leave_out_below(entry) {
                    self.left_out.insert(format!("{key}.{name}"));
                }
                !wrong
            });
            true
        });
    }

    fn is_wrong(&self, node: &Node) -> bool {
        self.broken.contains(&node.span) || self.broken.contains(&node.key)
    }

    /// Returns whether anything was left out.
    fn leave_out_below(&self, node: &mut Node) -> bool {
        let mut any = false;
        let mut keep = |node: &mut Node| {
            let wrong = self.is_wrong(node);
            any |= wrong || self.leave_out_below(node);
            !wrong
        };
        match &mut node.value {
            Value::Map(map) => map.retain(|_, node| keep(node)),
            Value::Sequence(items) => items.retain_mut(|node| keep(node)),
            _ => {}
        }
        any
    }

    /// Whether an entry of a section (`volumes`, `data`), or something in it, is or may be missing because it was
    /// wrong.
    pub fn may_be_left_out(&self, section: &str, name: &str) -> bool {
        let at_top = || self.left_out.iter().filter(|path| !path.contains('.')).map(String::as_str);
        self.left_out.contains(&format!("{section}.{name}")) || nearest(section, at_top()).is_some()
    }

    /// How many mistakes there are so far.
    pub fn mistake_count(&self) -> usize {
        self.mistakes.len()
    }

    /// Whether a value is a template that was not substituted, and so cannot be judged.
    pub fn is_template(&self, node: &Node) -> bool {
        self.lenient && node.as_str().is_some_and(|text| text.contains('$'))
    }

    /// Whether so many mistakes were noted that more are not worth looking for.
    pub fn is_full(&self) -> bool {
        self.mistakes.len() >= MISTAKES_MAX
    }

    /// The line at a place; empty when the place is too far to the right to show.
    fn line(&self, file: u32, at: &Location) -> String {
        let text = self.files.get(file as usize).map_or("", |file| &file.text);
        let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
        if at.column > MESSAGE_CHARACTERS_MAX { String::new() } else { printable(line, MESSAGE_CHARACTERS_MAX) }
    }

    /// The error that ends the load with this mistake and those noted before.
    pub fn fail(&mut self, span: Span, message: String) -> Error {
        self.fail_with_hint(span, message, None)
    }

    /// As [`Load::fail`], with other places that make the mistake.
    pub fn fail_of_several(&mut self, span: Span, message: String, others: &[(Span, &str)]) -> Error {
        self.mistakes.truncate(MISTAKES_MAX - 1);
        self.mistake_of_several(span, message, None, others);
        self.take_error()
    }

    /// As [`Load::fail`], with what to do about it.
    pub fn fail_with_hint(&mut self, span: Span, message: String, hint: Option<String>) -> Error {
        self.mistakes.truncate(MISTAKES_MAX - 1);
        self.mistake_with_hint(span, message, hint);
        self.take_error()
    }

    fn take_error(&mut self) -> Error {
        let mut mistakes = std::mem::take(&mut self.mistakes);
        mistakes.sort_by_cached_key(|mistake| match &mistake.location {
            Some(at) => (self.files.iter().position(|file| file.path == at.file), at.line, at.column),
            None => (Some(usize::MAX), 0, 0),
        });
        Error::Invalid { mistakes }
    }

    /// Ends the load here if a mistake was noted.
    pub fn check(&mut self) -> Result<(), Error> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(self.take_error()) }
    }

    /// Notes a warning, once.
    pub fn warn(&mut self, span: Span, message: String) {
        let message = printable(&message, MESSAGE_CHARACTERS_MAX);
        let warning = Warning { message, location: self.location(span) };
        if self.warnings.len() < 1000 && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// What was warned about.
    pub fn take_warnings(&mut self) -> Vec<Warning> {
        std::mem::take(&mut self.warnings)
    }

    /// Counts one node with so much text against the limits.
    pub fn charge(&mut self, span: Span, text_bytes: usize) -> Result<(), Error> {
        self.nodes += 1;
        self.text_bytes += text_bytes;
        if self.nodes > NODES_MAX {
            return Err(self.fail(
                span,
                format!(
                    "more than {NODES_MAX} values, counting aliases and extended services as often as they are used"
                ),
            ));
        }
        if self.text_bytes > TEXT_BYTES_MAX {
            return Err(self.fail(
                span,
                format!("more than {TEXT_BYTES_MAX} bytes of text, counting aliases as often as they are used"),
            ));
        }
        Ok(())
    }

    /// Counts the walk over all nodes so far that one more document costs.
    pub fn charge_document(&mut self, document: &Node) -> Result<(), Error> {
        self.nodes_walked += self.nodes;
        if self.nodes_walked > NODES_WALKED_MAX {
            let message = "too many documents are laid over a project of this size".to_owned();
            return Err(self.fail(document.place(), message));
        }
        Ok(())
    }

    /// Notes that `lower` loses to `upper`.
    pub fn replaced(&mut self, upper: &Node, lower: &Node) {
        if let Some(trace) = &mut self.trace {
            trace.replace(upper, lower);
        }
    }

    /// Copies a tree, counting all of it.
    pub fn copy(&mut self, node: &Node) -> Result<Node, Error> {
        self.charge_tree(node)?;
        Ok(node.clone())
    }

    fn charge_tree(&mut self, node: &Node) -> Result<(), Error> {
        match &node.value {
            Value::Text(text) => self.charge(node.span, text.len()),
            Value::Sequence(items) => {
                self.charge(node.span, 0)?;
                items.iter().try_for_each(|item| self.charge_tree(item))
            }
            Value::Map(map) => {
                self.charge(node.span, 0)?;
                map.iter().try_for_each(|(key, value)| {
                    self.text_bytes += key.len();
                    self.charge_tree(value)
                })
            }
            _ => self.charge(node.span, 0),
        }
    }
}
