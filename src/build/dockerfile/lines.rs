//! A Dockerfile's text as instructions: continuation lines joined, comments dropped, heredoc bodies taken.
//!
//! Every [`Line`] knows which physical line each of its bytes came from, so that an error can point at the
//! word it is about. Parser directives (`# escape=`) are read here because they change how lines are joined.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#format>, BuildKit `parser/parser.go`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::expand::{Syntax, expand};
use crate::base::error::Location;
use crate::build::error::{Error, Mark};

/// Longest physical line in bytes, as in BuildKit.
const LINE_LENGTH_MAX: usize = 65_535;
/// Most instructions of a file: no image has that many layers, and each takes memory.
const INSTRUCTIONS_MAX: usize = 20_000;
/// Most comments above one instruction that are kept.
const COMMENTS_MAX: usize = 100;
/// Most heredocs that one instruction may open.
const HEREDOCS_MAX: usize = 1000;

/// The text of a Dockerfile and where it came from.
#[derive(Debug)]
pub struct Source {
    /// The file as errors name it.
    pub path: PathBuf,
    /// Its physical lines without line ends.
    lines: Vec<String>,
}

/// What the parser directives at the top say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The escape character.
    pub escape: char,
    /// `# syntax=`: recorded, the built-in front end is always used.
    pub syntax: Option<String>,
    /// `# check=`.
    pub check: Option<String>,
}

/// One instruction as text.
#[derive(Debug, Clone)]
pub struct Line {
    source: Arc<Source>,
    /// The joined text without the leading blanks of its first line.
    pub text: String,
    /// Where the pieces of `text` come from, in order.
    pieces: Vec<Piece>,
    /// First and last physical line, from 1.
    pub lines: (usize, usize),
    /// Bodies of its heredocs in order.
    pub heredocs: Vec<Heredoc>,
    /// Comments directly above, without `#`.
    pub comments: Vec<String>,
    /// The last line of the instruction, when an empty one interrupts it.
    pub empty_continuation: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    offset: usize,
    line: usize,
    column_byte: usize,
}

/// A heredoc: its word and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator, which is also the file name in COPY.
    pub name: String,
    /// Whether variables in it are expanded (its word was not quoted).
    pub expand: bool,
    /// `<<-`: leading tabs are dropped.
    pub chomp: bool,
    /// The number before `<<`; 0 when there is none.
    pub descriptor: u32,
    /// The lines of the body, each with its line end.
    pub content: String,
}

impl Heredoc {
    /// The body without leading tabs where `<<-` asks for it.
    pub fn chomped(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

impl Line {
    /// The file as errors name it.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// The instruction's name as typed.
    pub fn command(&self) -> &str {
        self.text.split_whitespace().next().unwrap_or_default()
    }

    /// All lines of the file.
    pub fn all_lines(&self) -> &[String] {
        &self.source.lines
    }

    /// The place of `length` bytes of `text` from `offset`.
    pub fn mark(&self, offset: usize, length: usize) -> Box<Mark> {
        let piece = self.pieces.iter().rev().find(|piece| piece.offset <= offset).or(self.pieces.first());
        let (line, byte) = piece
            .map_or((self.lines.0, 0), |piece| (piece.line, piece.column_byte + offset.saturating_sub(piece.offset)));
        let source = self.source.lines.get(line - 1).cloned().unwrap_or_default();
        let before = source.get(..byte).unwrap_or(&source);
        let location = Location { file: self.source.path.clone(), line, column: before.chars().count() + 1 };
        let rest = source.len().saturating_sub(byte);
        Box::new(Mark { location, length: length.min(rest), source })
    }

    /// The place of the first appearance of `word`, else of the whole instruction.
    pub fn mark_of(&self, word: &str) -> Box<Mark> {
        match self.text.find(word).filter(|_| !word.is_empty()) {
            Some(offset) => self.mark(offset, word.len()),
            None => self.mark(0, self.text.trim_end().len()),
        }
    }

    /// An error about the file's first line, where its directives are.
    pub fn error_of_file(&self, message: String) -> Error {
        let source = self.source.lines.first().cloned().unwrap_or_default();
        let location = Location { file: self.source.path.clone(), line: 1, column: 1 };
        Error::Syntax { mark: Box::new(Mark { location, length: source.len(), source }), message, hint: None }
    }

    /// A syntax error about `word`.
    pub fn error(&self, word: &str, message: impl Into<String>) -> Error {
        Error::Syntax { mark: self.mark_of(word), message: message.into(), hint: None }
    }
}

/// Splits a Dockerfile into instructions.
///
/// Errors: `Syntax` for a line that is too long, a wrong or repeated directive or an unterminated heredoc;
/// `Empty` when there is no instruction.
pub fn split(path: &Path, text: &str) -> Result<(Directives, Vec<Line>), Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let raw: Vec<&str> = text.split_inclusive('\n').collect();
    let source = Arc::new(Source {
        path: path.to_owned(),
        lines: raw.iter().map(|line| line.trim_end_matches(['\r', '\n']).to_owned()).collect(),
    });
    if let Some(index) = raw.iter().position(|line| line.len() > LINE_LENGTH_MAX) {
        let location = Location { file: path.to_owned(), line: index + 1, column: 1 };
        let mark = Box::new(Mark { location, length: 0, source: source.lines[index].chars().take(80).collect() });
        let message = format!("the line is longer than {LINE_LENGTH_MAX} bytes");
        return Err(Error::Syntax { mark, message, hint: None });
    }
    let mut splitter = Splitter {
        source,
        raw,
        at: 0,
        directives: Directives { escape: '\\', syntax: None, check: None },
        directives_done: false,
        escape_seen: false,
        comments: Vec::new(),
    };
    let mut lines = Vec::new();
    while let Some(line) = splitter.next_line()? {
        if lines.len() >= INSTRUCTIONS_MAX {
            return Err(line.error("", format!("more than {INSTRUCTIONS_MAX} instructions")));
        }
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    Ok((splitter.directives, lines))
}

struct Splitter<'a> {
    source: Arc<Source>,
    raw: Vec<&'a str>,
    at: usize,
    directives: Directives,
    directives_done: bool,
    escape_seen: bool,
    comments: Vec<String>,
}

impl Splitter<'_> {
    fn next_line(&mut self) -> Result<Option<Line>, Error> {
        while self.at < self.raw.len() {
            let index = self.at;
            let physical = self.source.lines[index].clone();
            self.at += 1;
            let trimmed = physical.trim_start();
            let is_directive = self.read_directive(index, trimmed)?;
            match trimmed.strip_prefix('#').map(str::trim) {
                Some("") => self.comments.clear(),
                Some(comment) if !is_directive && self.comments.len() < COMMENTS_MAX => {
                    self.comments.push(comment.to_owned());
                }
                _ => {}
            }
            let content = if trimmed.starts_with('#') { "" } else { trimmed };
            let (piece, continued) = self.without_continuation(content);
            if piece.is_empty() && !continued {
                continue;
            }
            let mut line = Line {
                source: self.source.clone(),
                text: piece.to_owned(),
                pieces: vec![Piece { offset: 0, line: index + 1, column_byte: physical.len() - trimmed.len() }],
                lines: (index + 1, index + 1),
                heredocs: Vec::new(),
                comments: std::mem::take(&mut self.comments),
                empty_continuation: None,
            };
            if continued {
                self.join_continuations(&mut line);
            }
            self.take_heredocs(&mut line)?;
            line.lines.1 = self.at;
            return Ok(Some(line));
        }
        Ok(None)
    }

    fn join_continuations(&mut self, line: &mut Line) {
        let mut has_empty = false;
        while self.at < self.raw.len() {
            let physical = self.source.lines[self.at].clone();
            self.at += 1;
            let trimmed = physical.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                has_empty |= trimmed.is_empty();
                continue;
            }
            let (piece, continued) = self.without_continuation(&physical);
            line.pieces.push(Piece { offset: line.text.len(), line: self.at, column_byte: 0 });
            line.text.push_str(piece);
            if !continued {
                break;
            }
        }
        line.empty_continuation = has_empty.then_some(self.at);
    }

    /// The line without its continuation character, and whether it had one: an escape character that is
    /// followed by blanks only and does not itself follow one.
    fn without_continuation<'t>(&self, line: &'t str) -> (&'t str, bool) {
        let escape = self.directives.escape;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(piece) if !piece.ends_with(escape) => (piece, true),
            _ => (line, false),
        }
    }

    fn read_directive(&mut self, index: usize, line: &str) -> Result<bool, Error> {
        if self.directives_done {
            return Ok(false);
        }
        let Some((name, value)) = directive(line) else {
            self.directives_done = true;
            return Ok(false);
        };
        let fail = |message: String| {
            let source = self.source.lines[index].clone();
            let column = source.chars().count() - line.chars().count() + 1;
            let location = Location { file: self.source.path.clone(), line: index + 1, column };
            Err(Error::Syntax { mark: Box::new(Mark { location, length: line.len(), source }), message, hint: None })
        };
        let repeated = match name.as_str() {
            "escape" => std::mem::replace(&mut self.escape_seen, true),
            "syntax" => self.directives.syntax.replace(value.to_owned()).is_some(),
            _ => self.directives.check.replace(value.to_owned()).is_some(),
        };
        if repeated {
            return fail(format!("only one `{name}` parser directive can be used"));
        }
        if name == "escape" {
            match value {
                "\\" => self.directives.escape = '\\',
                "`" => self.directives.escape = '`',
                other => return fail(format!("the escape character is `\\` or `` ` ``, not `{other}`")),
            }
        }
        Ok(true)
    }

    fn take_heredocs(&mut self, line: &mut Line) -> Result<(), Error> {
        let command = line.text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        let opens = match command.as_str() {
            "run" | "copy" | "add" => true,
            "onbuild" => line
                .text
                .split_whitespace()
                .nth(1)
                .is_some_and(|word| ["run", "copy", "add"].iter().any(|name| word.eq_ignore_ascii_case(name))),
            _ => false,
        };
        if !opens || !line.text.contains("<<") || is_json_form(&line.text, command == "onbuild") {
            return Ok(());
        }
        for mut heredoc in heredocs_of(&line.text) {
            let mut terminated = false;
            while self.at < self.raw.len() {
                let physical = &self.source.lines[self.at];
                let raw = self.raw[self.at];
                self.at += 1;
                let candidate = if heredoc.chomp { physical.trim_start_matches('\t') } else { physical };
                if candidate == heredoc.name {
                    terminated = true;
                    break;
                }
                heredoc.content.push_str(raw);
            }
            if !terminated {
                let hint = format!("end it with a line that holds only `{}`", heredoc.name);
                let mark = line.mark_of("<<");
                return Err(Error::Syntax { mark, message: "unterminated heredoc".into(), hint: Some(hint) });
            }
            line.heredocs.push(heredoc);
            if line.heredocs.len() > HEREDOCS_MAX {
                return Err(line.error("<<", format!("more than {HEREDOCS_MAX} heredocs")));
            }
        }
        Ok(())
    }
}

/// Splits `# name=value` when it is one of the known directives.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let value = value.trim();
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((name, value))
}

/// Whether the arguments after command and flags are in JSON form, which has no heredocs.
fn is_json_form(text: &str, onbuild: bool) -> bool {
    let mut words = text.split_whitespace().skip(if onbuild { 2 } else { 1 });
    let Some(first) = words.find(|word| !word.starts_with("--")) else { return false };
    let Some(offset) = text.find(first) else { return false };
    first.starts_with('[') && serde_json::from_str::<Vec<String>>(&text[offset..]).is_ok()
}

/// The heredocs that a line opens. Words that cannot be lexed open none, as in BuildKit.
fn heredocs_of(text: &str) -> Vec<Heredoc> {
    let syntax = Syntax { keep_quotes: true, keep_escapes: true, keep_unset: true, ..Syntax::new('\\') };
    let words = expand(text, syntax, &|_| None).map(|expanded| expanded.words).unwrap_or_default();
    words.iter().filter_map(|word| heredoc_word(word)).collect()
}

/// Reads `[n]<<[-]word`; `None` when it is something else.
pub fn heredoc_word(word: &str) -> Option<Heredoc> {
    let digits = word.find(|c: char| !c.is_ascii_digit())?;
    let rest = word[digits..].strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let syntax = Syntax { keep_unset: true, ..Syntax::new('\\') };
    let [name] = expand(rest, syntax, &|_| None).ok()?.words.try_into().ok()?;
    let raw = expand(rest, Syntax { keep_quotes: true, ..syntax }, &|_| None).ok()?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = quotes(&name) == quotes(&raw.text);
    let descriptor = word[..digits].parse().unwrap_or(0);
    Some(Heredoc { name, expand, chomp, descriptor, content: String::new() })
}
