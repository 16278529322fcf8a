//! The arguments of an instruction: flags, words, `name=value` pairs and the JSON form.
//!
//! Quotes and escapes stay in words and values: expansion removes them later, with the variables known.
//!
//! Source: BuildKit `parser/split_command.go`, `parser/line_parsers.go`, `instructions/bflag.go`.

use super::lines::Line;
use super::suggest::suggestion;
use crate::build::error::Error;

/// The blanks that separate words. (Line breaks do not occur in a joined line.)
const BLANKS: [char; 5] = [' ', '\t', '\u{b}', '\u{c}', '\r'];

/// A command, its flags as typed and the rest of the line.
#[derive(Debug)]
pub struct Split<'a> {
    /// The instruction's name as typed.
    pub command: &'a str,
    /// `--name[=value]`, quotes and escapes resolved.
    pub flags: Vec<String>,
    /// Everything after the flags, trimmed.
    pub rest: &'a str,
}

/// Splits a line into command, flags and rest.
pub fn split_command(text: &str, escape: char) -> Split<'_> {
    let text = text.trim();
    let end = text.find(BLANKS).unwrap_or(text.len());
    let (command, rest) = text.split_at(end);
    let (flags, rest) = split_flags(rest.trim_start_matches(BLANKS), escape);
    Split { command, flags, rest: rest.trim() }
}

/// Takes the words that begin with `--`; a lone `--` ends them.
fn split_flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (word, length) = flag_word(rest, escape);
        rest = rest[length..].trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    (flags, rest)
}

/// One flag without its quotes and escapes, and its length in the text.
fn flag_word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((offset, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, offset),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => word.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => word.push(c),
        }
    }
    (word, text.len())
}

/// Splits at blanks.
pub fn split_blanks(text: &str) -> Vec<String> {
    text.split(BLANKS).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Splits at blanks that are neither quoted nor escaped; quotes and escapes stay.
pub fn split_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // An escape character at the very end is dropped.
            let Some(escaped) = chars.next() else { break };
            word.push(c);
            word.push(escaped);
            continue;
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A `name=value` pair, or the old `name value` form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name as typed.
    pub name: String,
    /// The value as typed.
    pub value: String,
    /// Written without `=`.
    pub legacy: bool,
}

/// Reads the pairs of ENV and LABEL.
pub fn pairs(line: &Line, command: &str, rest: &str, escape: char) -> Result<Vec<Pair>, Error> {
    let words = split_words(rest, escape);
    let Some(first) = words.first() else {
        return Err(line.error("", format!("{command} requires at least one argument")));
    };
    if !first.contains('=') {
        let Some((name, value)) = rest.split_once(BLANKS) else {
            return Err(line.error(rest, format!("{command} must have two arguments, a name and a value")));
        };
        let value = value.trim_start_matches(BLANKS).to_owned();
        return Ok(vec![Pair { name: name.to_owned(), value, legacy: true }]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            None => Err(line.error(word, format!("expected name=value, found `{word}`"))),
            Some(("", _)) => Err(line.error(word, format!("{command} names can not be blank"))),
            Some((name, value)) => Ok(Pair { name: name.to_owned(), value: value.to_owned(), legacy: false }),
        })
        .collect()
}

/// The arguments of a command: in JSON form, or one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// `["a", "b"]`.
    Json(Vec<String>),
    /// Anything else.
    Text(String),
}

/// Tells the JSON form from text. What begins with `[` but is not JSON is text; JSON of something else than
/// strings is an error.
pub fn form(line: &Line, rest: &str) -> Result<Form, Error> {
    if rest.starts_with('[')
        && let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(rest)
    {
        let strings = values.into_iter().map(|value| match value {
            serde_json::Value::String(text) => Some(text),
            _ => None,
        });
        return match strings.collect() {
            Some(strings) => Ok(Form::Json(strings)),
            None => Err(line.error(rest, "the JSON form must be an array of strings")),
        };
    }
    Ok(Form::Text(rest.to_owned()))
}

/// The flags of one instruction, taken by name; [`Flags::finish`] complains about those that are left.
#[derive(Debug)]
pub struct Flags<'a> {
    line: &'a Line,
    given: Vec<(String, Option<String>)>,
    known: Vec<&'static str>,
}

impl<'a> Flags<'a> {
    /// The flags of a line as typed.
    pub fn new(line: &'a Line, flags: &[String]) -> Self {
        let given = flags.iter().map(|flag| {
            let flag = flag.trim_start_matches("--");
            match flag.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (flag.to_owned(), None),
            }
        });
        Self { line, given: given.collect(), known: Vec::new() }
    }

    /// The values of a flag that may be repeated.
    pub fn values(&mut self, name: &'static str) -> Result<Vec<String>, Error> {
        self.known.push(name);
        let (taken, left) = std::mem::take(&mut self.given).into_iter().partition(|(given, _)| given == name);
        self.given = left;
        let taken: Vec<(String, Option<String>)> = taken;
        taken.into_iter().map(|(_, value)| value.ok_or_else(|| self.without_value(name))).collect()
    }

    /// The value of a flag that may stand once.
    pub fn value(&mut self, name: &'static str) -> Result<Option<String>, Error> {
        let mut values = self.values(name)?;
        if values.len() > 1 {
            return Err(self.duplicate(name));
        }
        Ok(values.pop())
    }

    /// A flag that is there, or `=true`, or `=false`.
    pub fn switch(&mut self, name: &'static str) -> Result<Option<bool>, Error> {
        self.known.push(name);
        let (taken, left) = std::mem::take(&mut self.given).into_iter().partition(|(given, _)| given == name);
        self.given = left;
        let taken: Vec<(String, Option<String>)> = taken;
        if taken.len() > 1 {
            return Err(self.duplicate(name));
        }
        let Some((_, value)) = taken.into_iter().next() else { return Ok(None) };
        match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some("") => Err(self.without_value(name)),
            Some(other) => {
                Err(self.line.error(&format!("--{name}"), format!("--{name} is true or false, not `{other}`")))
            }
        }
    }

    /// Complains about a flag that the instruction does not have.
    pub fn finish(self) -> Result<(), Error> {
        let Some((name, _)) = self.given.first() else { return Ok(()) };
        let flag = format!("--{name}");
        let mark = self.line.mark_of(&flag);
        let hint = suggestion(name, &self.known).map(|known| format!("did you mean --{known}?"));
        let message = match &hint {
            Some(hint) => format!("unknown flag {flag} ({hint})"),
            None => format!("unknown flag {flag}"),
        };
        Err(Error::Syntax { mark, message, hint: None })
    }

    fn without_value(&self, name: &str) -> Error {
        self.line.error(&format!("--{name}"), format!("--{name} needs a value"))
    }

    fn duplicate(&self, name: &str) -> Error {
        self.line.error(&format!("--{name}"), format!("--{name} can be used only once"))
    }
}
