//! How errors carry what a user needs beyond their text: a hint, source locations and an exit code.
//!
//! Each module has its own `thiserror` enum whose variants carry their nouns. Only `cli` turns an error
//! into text: `error: …`, one `caused by: …` line a source, the excerpt at each span, then `hint: …`.

use std::path::PathBuf;

/// A place in a file that a user wrote. Lines and columns count from 1; columns count characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Location {
    /// The file as the user named it, or its absolute path.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One excerpt to show below an error: where, how long, and what to say at the caret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Where the offending text begins.
    pub location: Location,
    /// Its length in characters; 0 is shown as one caret.
    pub length: usize,
    /// The line(s) of source to show, without the line break.
    pub source: String,
    /// What stands beside the caret ("expected a number").
    pub label: String,
}

/// The attribute of a service that an error is about, for those who know where it was written.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attribute {
    /// Its dotted path below the service (`healthcheck.interval`); where the same can be said in several ways, all
    /// of them.
    pub names: Vec<String>,
    /// The text in it that is wrong; empty when it is the whole.
    pub value: String,
}

impl Attribute {
    /// The attribute of these names, in which `value` is wrong.
    pub fn new(names: &[&str], value: impl Into<String>) -> Self {
        Self { names: names.iter().map(ToString::to_string).collect(), value: value.into() }
    }
}

/// What an error knows beyond its message. Every public error enum implements it.
pub trait Explain: std::error::Error {
    /// What to do about it, as an imperative sentence fragment without "hint:".
    fn hint(&self) -> Option<String> {
        None
    }

    /// The places in the user's files that caused it; the first is the main one.
    fn excerpts(&self) -> Vec<Excerpt> {
        Vec::new()
    }

    /// The attribute of a service that it is about.
    fn attribute(&self) -> Option<Attribute> {
        None
    }

    /// The exit code of a container command that ends with this error: 125 by default, 126 for a command
    /// that cannot be executed, 127 for one that was not found. Compose verbs exit 1 whatever it says.
    fn exit_code(&self) -> u8 {
        125
    }
}
