//! `.dockerignore` and `--exclude`: patterns that hide paths, in the grammar of the builder.
//!
//! ```text
//! *  ?  [a-z] [^a]     within one component          **   any number of components, none too
//! !pattern             shows again                   \x   x itself
//! ```
//!
//! Every pattern is anchored at the root. The last pattern that matches a path *or a folder above it* decides, so
//! `!a/b` shows a file below the hidden folder `a` (unlike `.gitignore`).
//!
//! Source: <https://docs.docker.com/build/concepts/context/#dockerignore-files>; moby `patternmatcher`.

use std::path::{Path, PathBuf};

use super::error::Error;
use crate::base::error::Location;
use crate::base::fs;

/// Largest ignore file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A list of patterns in order.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

/// How the patterns fared on one path; a folder's is handed to what is below it.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Whether the path is hidden.
    pub hidden: bool,
    matched: Vec<bool>,
}

#[derive(Debug, Clone)]
struct Pattern {
    shows: bool,
    text: String,
    form: Form,
}

/// The cheap forms are also what gives `**x` its meaning: any path that ends in `x`.
#[derive(Debug, Clone)]
enum Form {
    Exact,
    Prefix(String),
    Suffix(String),
    Tokens(Vec<Token>),
}

#[derive(Debug, Clone)]
enum Token {
    Literal(char),
    /// One character but `/`.
    Any,
    /// Any characters but `/`.
    Star,
    /// Nothing, or anything that ends in `/`.
    Folders,
    /// Anything.
    Everything,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Patterns {
    /// Compiles patterns as they stand in `--exclude`.
    ///
    /// Errors: the pattern that is malformed, and why.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, (String, &'static str)> {
        let mut patterns = Vec::new();
        for text in texts {
            let trimmed = text.trim();
            if trimmed.is_empty() {
                continue;
            }
            patterns.push(Pattern::new(trimmed).map_err(|reason| (text.to_owned(), reason))?);
        }
        Ok(Self { patterns })
    }

    /// Reads the ignore file of a build: `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore`
    /// in the context. No file, no patterns.
    ///
    /// Errors: `Ignore` for a malformed pattern; the system's.
    pub fn of_build(context: &Path, dockerfile: Option<&Path>) -> Result<Self, Error> {
        let own = dockerfile.map(|path| {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(".dockerignore");
            path.with_file_name(name)
        });
        for path in own.into_iter().chain([context.join(".dockerignore")]) {
            match fs::read_limited(&path, FILE_BYTES_MAX) {
                Ok(content) => return Self::of_file(&path, &String::from_utf8_lossy(&content)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self::default())
    }

    fn of_file(path: &Path, text: &str) -> Result<Self, Error> {
        let mut patterns = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let Some(pattern) = file_line(line) else { continue };
            let pattern = Pattern::new(&pattern).map_err(|reason| Error::Ignore {
                location: Location { file: path.to_owned(), line: index + 1, column: 1 },
                message: format!("the pattern `{}` is malformed: {reason}", line.trim()),
            })?;
            patterns.push(pattern);
        }
        Ok(Self { patterns })
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern shows again what another one hides.
    pub fn shows_some(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.shows)
    }

    /// Whether a pattern hides everything.
    pub fn hides_all(&self) -> bool {
        self.patterns.iter().any(|pattern| matches!(pattern.text.as_str(), "*" | "**" | "**/*"))
    }

    /// Judges the folder `path` (relative, no leading `/`), given the verdict on the folder that holds it.
    pub fn judge(&self, path: &str, parent: &Verdict) -> Verdict {
        let matched = self.patterns.iter().enumerate();
        let matched: Vec<bool> = matched.map(|(index, pattern)| parent.has(index) || pattern.matches(path)).collect();
        let last = self.patterns.iter().zip(&matched).rfind(|(_, matched)| **matched);
        Verdict { hidden: last.is_some_and(|(pattern, _)| !pattern.shows), matched }
    }

    /// Whether `path` is hidden, given the verdict on the folder that holds it.
    pub fn hides_in(&self, path: &str, parent: &Verdict) -> bool {
        let mut patterns = self.patterns.iter().enumerate().rev();
        let last = patterns.find(|(index, pattern)| parent.has(*index) || pattern.matches(path));
        last.is_some_and(|(_, pattern)| !pattern.shows)
    }

    /// Judges a path by itself, with all folders above it.
    pub fn hides(&self, path: &str) -> bool {
        let mut verdict = Verdict::default();
        for (index, _) in path.match_indices('/') {
            verdict = self.judge(&path[..index], &verdict);
        }
        self.hides_in(path, &verdict)
    }

    /// Whether something below the hidden folder `path` may be shown again.
    pub fn may_show_below(&self, path: &str) -> bool {
        self.may_match_below(path, true)
    }

    /// Whether a plain pattern may match something below the folder `path`, which it does not match itself.
    pub fn may_hide_below(&self, path: &str) -> bool {
        self.may_match_below(path, false)
    }

    fn may_match_below(&self, path: &str, shows: bool) -> bool {
        self.patterns.iter().filter(|pattern| pattern.shows == shows).any(|pattern| {
            let literal = pattern.text.split('/').take_while(|part| !part.contains(['*', '?', '[', '\\']));
            literal.zip(path.split('/')).all(|(wanted, part)| wanted == part)
        })
    }
}

impl Verdict {
    fn has(&self, index: usize) -> bool {
        self.matched.get(index).copied().unwrap_or(false)
    }
}

/// A shell pattern for one component of a path: `*`, `?`, classes and escapes.
#[derive(Debug)]
pub struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// Whether a component of a path is a pattern at all.
    pub fn is_pattern(component: &str) -> bool {
        component.contains(['*', '?', '[', '\\'])
    }

    /// Compiles a pattern. Errors: why it is malformed.
    pub fn new(component: &str) -> Result<Self, &'static str> {
        check_syntax(component)?;
        let mut tokens = Vec::new();
        let mut chars = component.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '[' => class(&mut chars),
                '\\' => Token::Literal(chars.next().unwrap_or('\\')),
                c => Token::Literal(c),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether it matches a name.
    pub fn matches(&self, name: &str) -> bool {
        matches(&self.tokens, name)
    }
}

/// One line of an ignore file as a pattern; `None` for comments and empty lines.
fn file_line(line: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let line = line.trim();
    let (mark, rest) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", line),
    };
    if rest.is_empty() {
        return (!mark.is_empty()).then(|| mark.to_owned());
    }
    let cleaned = clean(rest);
    let cleaned = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
    Some(format!("{mark}{cleaned}"))
}

impl Pattern {
    fn new(text: &str) -> Result<Self, &'static str> {
        let cleaned = clean(text);
        let (shows, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err("`!` alone shows nothing"),
            Some(rest) => (true, rest),
            None => (false, cleaned.as_str()),
        };
        check_syntax(text)?;
        Ok(Self { shows, text: text.to_owned(), form: Form::of(text) })
    }

    fn matches(&self, path: &str) -> bool {
        match &self.form {
            Form::Exact => path == self.text,
            Form::Prefix(prefix) => path.starts_with(prefix),
            Form::Suffix(suffix) => path.ends_with(suffix) || suffix.strip_prefix('/').is_some_and(|name| name == path),
            Form::Tokens(tokens) => matches(tokens, path),
        }
    }
}

impl Form {
    fn of(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        // What the pattern still is, if nothing else than `**` at one end is special.
        let (mut suffix, mut prefix, mut special) = (false, false, false);
        let mut first = true;
        while let Some(c) = chars.next() {
            match c {
                '*' if chars.peek() == Some(&'*') => {
                    chars.next();
                    if chars.peek() == Some(&'/') {
                        chars.next();
                    }
                    if chars.peek().is_none() {
                        prefix = !suffix && !special;
                        special |= !prefix;
                        tokens.push(Token::Everything);
                    } else {
                        special = true;
                        tokens.push(Token::Folders);
                    }
                    if first {
                        (suffix, prefix, special) = (true, false, false);
                    }
                }
                '*' => {
                    special = true;
                    tokens.push(Token::Star);
                }
                '?' => {
                    special = true;
                    tokens.push(Token::Any);
                }
                '\\' => {
                    special |= chars.peek().is_some();
                    tokens.push(Token::Literal(chars.next().unwrap_or('\\')));
                }
                '[' => {
                    special = true;
                    tokens.push(class(&mut chars));
                }
                c => tokens.push(Token::Literal(c)),
            }
            first = false;
        }
        if special {
            Self::Tokens(tokens)
        } else if suffix {
            Self::Suffix(text[2..].to_owned())
        } else if prefix {
            Self::Prefix(text[..text.len() - 2].to_owned())
        } else {
            Self::Exact
        }
    }
}

/// Reads a character class after its `[`; [`check_syntax`] has seen that it is closed.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Token {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while let Some(c) = chars.next() {
        if c == ']' && !ranges.is_empty() {
            break;
        }
        let low = if c == '\\' { chars.next().unwrap_or('\\') } else { c };
        let mut high = low;
        if chars.next_if_eq(&'-').is_some() {
            high = match chars.next() {
                Some('\\') => chars.next().unwrap_or('\\'),
                Some(c) => c,
                None => low,
            };
        }
        ranges.push((low, high));
    }
    Token::Class { negated, ranges }
}

/// What Go's `filepath.Match` calls a malformed pattern: an open class, an empty one, an escape at the end.
fn check_syntax(text: &str) -> Result<(), &'static str> {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.next().is_none() => return Err("it ends in an escape character"),
            '[' => {
                chars.next_if_eq(&'^');
                let mut count = 0;
                loop {
                    match chars.next() {
                        Some(']') if count > 0 => break,
                        None | Some('-' | ']') => return Err("the character class is not closed or empty"),
                        Some('\\') if chars.next().is_none() => return Err("the character class is not closed"),
                        Some(_) => {}
                    }
                    if chars.next_if_eq(&'-').is_some() {
                        match chars.next() {
                            None | Some('-' | ']') => return Err("the range in the character class has no end"),
                            Some('\\') if chars.next().is_none() => return Err("the character class is not closed"),
                            Some(_) => {}
                        }
                    }
                    count += 1;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Runs all alternatives side by side, so that no pattern takes exponential time.
fn matches(tokens: &[Token], path: &str) -> bool {
    // `inside[i]`: within the `Folders` token i, which may only end after a `/`.
    let mut active = vec![false; tokens.len() + 1];
    let mut inside = vec![false; tokens.len() + 1];
    active[0] = true;
    let skip_optional = |active: &mut Vec<bool>| {
        for (index, token) in tokens.iter().enumerate() {
            if active[index] && matches!(token, Token::Star | Token::Folders | Token::Everything) {
                active[index + 1] = true;
            }
        }
    };
    skip_optional(&mut active);
    for c in path.chars() {
        let mut next = vec![false; tokens.len() + 1];
        let mut next_inside = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate() {
            let here = active[index];
            match token {
                Token::Literal(literal) => next[index + 1] |= here && *literal == c,
                Token::Any => next[index + 1] |= here && c != '/',
                Token::Star => next[index] |= here && c != '/',
                Token::Everything => next[index] |= here,
                Token::Class { negated, ranges } => {
                    let found = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                    next[index + 1] |= here && found != *negated;
                }
                Token::Folders => {
                    if here || inside[index] {
                        next_inside[index] = true;
                        next[index + 1] |= c == '/';
                    }
                }
            }
        }
        skip_optional(&mut next);
        active = next;
        inside = next_inside;
    }
    active[tokens.len()]
}

/// Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

/// The ignore file that a build would read, for messages.
pub fn ignore_file(context: &Path, dockerfile: Option<&Path>) -> PathBuf {
    let own = dockerfile.map(|path| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".dockerignore");
        path.with_file_name(name)
    });
    own.filter(|path| path.exists()).unwrap_or_else(|| context.join(".dockerignore"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(patterns: &[&str], paths: &[&str]) -> Vec<String> {
        let text = patterns.join("\n");
        let patterns = Patterns::of_file(Path::new(".dockerignore"), &text).unwrap_or_else(|error| panic!("{error}"));
        paths.iter().filter(|path| patterns.hides(path)).map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn the_last_match_on_a_path_or_a_folder_above_decides() {
        let paths = ["a", "a/b", "a/b/c", "b", "b/a", "x.log", "d/x.log"];
        assert_eq!(hidden(&["a"], &paths), ["a", "a/b", "a/b/c"]);
        assert_eq!(hidden(&["a", "!a/b"], &paths), ["a"]);
        assert_eq!(hidden(&["!a/b", "a"], &paths), ["a", "a/b", "a/b/c"]);
        assert_eq!(hidden(&["/a/"], &paths), ["a", "a/b", "a/b/c"]);
        assert_eq!(hidden(&["*.log"], &paths), ["x.log"]);
        assert_eq!(hidden(&["**/*.log"], &paths), ["x.log", "d/x.log"]);
        assert_eq!(hidden(&["**/a"], &paths), ["a", "a/b", "a/b/c", "b/a"]);
        assert_eq!(hidden(&["a/**", "# comment", " # no comment"], &paths), ["a/b", "a/b/c"]);
        assert_eq!(hidden(&["[^b]", "?/[a-b]"], &paths), ["a", "a/b", "a/b/c", "b/a", "d/x.log"]);
    }

    #[test]
    fn malformed_patterns_are_errors_with_their_line() {
        for wrong in ["a[", "[]a]", "x\\", "!"] {
            let error =
                Patterns::of_file(Path::new("i"), &format!("ok\n{wrong}")).map(|_| ()).map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|text| text.starts_with("i:2:1: ")), "{wrong}: {error:?}");
        }
    }

    #[test]
    fn folders_that_cannot_show_anything_need_no_walk() {
        let patterns = Patterns::new(["node_modules", "!src/keep"]).unwrap_or_default();
        assert!(!patterns.may_show_below("node_modules"));
        assert!(patterns.may_show_below("src"));
    }
}
