//! Expansion of `$name` and `${name…}` in a word, with quotes and escapes, as the builder's shell-like lexer does it.
//!
//! ```text
//! $v ${v}                     value, empty when unset
//! ${v:-w} ${v-w}              default            ${v:+w} ${v+w}   alternative
//! ${v:?e} ${v?e}              error when unset (or empty)
//! ${v#p} ${v##p} ${v%p} ${v%%p}   without the shortest, longest prefix or suffix that matches
//! ${v/p/r} ${v//p/r}          first, every match replaced; p knows `*` and `?`, not `[]`
//! ```
//!
//! Inside `'` nothing is special; inside `"` only `$` and an escaped `"`, `$` or escape character. The work is
//! bounded: nesting by [`DEPTH_MAX`], pattern matching by [`MATCH_STEPS_MAX`], the result by [`LENGTH_MAX`].
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#environment-replacement>, BuildKit `shell/lex.go`.

use std::collections::BTreeSet;

/// Deepest nesting of `${…${…}…}`.
const DEPTH_MAX: usize = 100;
/// Most comparisons that one pattern may cost; a 64 KiB value with a simple pattern needs a fraction of it.
const MATCH_STEPS_MAX: u64 = 50_000_000;
/// Longest result in characters.
const LENGTH_MAX: usize = 1 << 20;

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote, brace or slash is not closed.
    #[error("`{word}` ends where {expected} is expected")]
    Unfinished {
        /// The whole word.
        word: String,
        /// What is missing.
        expected: &'static str,
    },
    /// `${}`, `${:`, `${{`.
    #[error("bad substitution in `{word}`")]
    BadSubstitution {
        /// The whole word.
        word: String,
    },
    /// An operator after the name that does not exist.
    #[error("unsupported modifier `{modifier}` in `{word}`")]
    UnsupportedModifier {
        /// The whole word.
        word: String,
        /// The operator.
        modifier: String,
    },
    /// `${name:?message}` with an unset or empty name.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message of the Dockerfile.
        message: String,
    },
    /// A pattern ends in an escape character.
    #[error("the pattern `{pattern}` ends in an escape character")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// Too deep, too long or too costly.
    #[error("the expansion of `{word}` is too large")]
    TooLarge {
        /// The beginning of the word.
        word: String,
    },
}

/// How a word is read.
#[derive(Debug, Clone, Copy)]
pub struct Syntax {
    /// The escape character, `\` or `` ` ``.
    pub escape: char,
    /// Whether quotes are special (not in heredoc files).
    pub quotes: bool,
    /// Whether quotes stay in the result.
    pub keep_quotes: bool,
    /// Whether escape characters stay in the result.
    pub keep_escapes: bool,
    /// Whether variables that are not set stay as written.
    pub keep_unset: bool,
}

impl Syntax {
    /// The syntax of instruction arguments.
    pub fn new(escape: char) -> Self {
        Self { escape, quotes: true, keep_quotes: false, keep_escapes: false, keep_unset: false }
    }
}

/// An expanded word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The whole text.
    pub text: String,
    /// The text split at spaces that were not quoted.
    pub words: Vec<String>,
    /// Variables that were read and set.
    pub used: BTreeSet<String>,
    /// Variables that were read and not set.
    pub unset: BTreeSet<String>,
}

/// Expands `word` with the variables that `value_of` knows.
pub fn expand(word: &str, syntax: Syntax, value_of: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer {
        word,
        chars: word.chars().collect(),
        at: 0,
        depth: 0,
        syntax,
        value_of,
        used: BTreeSet::new(),
        unset: BTreeSet::new(),
    };
    let (text, words) = lexer.read_until(None, syntax.keep_escapes)?;
    Ok(Expanded { text, words, used: lexer.used, unset: lexer.unset })
}

struct Lexer<'a> {
    word: &'a str,
    chars: Vec<char>,
    at: usize,
    depth: usize,
    syntax: Syntax,
    value_of: &'a dyn Fn(&str) -> Option<String>,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
}

/// Collects words: spaces from variables and plain text separate them, quoted and escaped ones do not.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn push_splitting(&mut self, c: char) {
        if !c.is_whitespace() {
            self.current.push(c);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    fn unfinished(&self, expected: &'static str) -> ExpandError {
        ExpandError::Unfinished { word: self.excerpt(), expected }
    }

    fn excerpt(&self) -> String {
        self.word.chars().take(200).collect()
    }

    fn read_until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<(String, Vec<String>), ExpandError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(ExpandError::TooLarge { word: self.excerpt() });
        }
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                self.depth -= 1;
                return Ok((text, words.finish()));
            }
            if text.len() > LENGTH_MAX {
                return Err(ExpandError::TooLarge { word: self.excerpt() });
            }
            match c {
                '$' => {
                    let value = self.read_variable(keep_escapes)?;
                    value.chars().for_each(|c| words.push_splitting(c));
                    text.push_str(&value);
                }
                '\'' | '"' if self.syntax.quotes => {
                    let quoted =
                        if c == '\'' { self.read_single_quoted()? } else { self.read_double_quoted(keep_escapes)? };
                    words.current.push_str(&quoted);
                    text.push_str(&quoted);
                }
                '<' => {
                    let marker = self.read_heredoc_marker();
                    words.current.push_str(&marker);
                    text.push_str(&marker);
                }
                c if c == self.syntax.escape => {
                    self.at += 1;
                    if keep_escapes {
                        words.current.push(c);
                        text.push(c);
                    }
                    let Some(escaped) = self.next() else { break };
                    words.current.push(escaped);
                    text.push(escaped);
                }
                c => {
                    self.at += 1;
                    words.push_splitting(c);
                    text.push(c);
                }
            }
        }
        self.depth -= 1;
        match stop {
            Some('/') => Err(self.unfinished("`/`")),
            Some(_) => Err(self.unfinished("`}`")),
            None => Ok((text, words.finish())),
        }
    }

    fn read_single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.at += 1;
        if self.syntax.keep_quotes {
            text.push('\'');
        }
        loop {
            match self.next() {
                None => return Err(self.unfinished("a closing single quote")),
                Some('\'') => break,
                Some(c) => text.push(c),
            }
        }
        if self.syntax.keep_quotes {
            text.push('\'');
        }
        Ok(text)
    }

    fn read_double_quoted(&mut self, keep_escapes: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        self.at += 1;
        if self.syntax.keep_quotes {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => return Err(self.unfinished("a closing double quote")),
                Some('"') => break,
                Some('$') => text.push_str(&self.read_variable(keep_escapes)?),
                Some(c) => {
                    self.at += 1;
                    if c != self.syntax.escape {
                        text.push(c);
                        continue;
                    }
                    if keep_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if matches!(escaped, '"' | '$') || escaped == self.syntax.escape => {
                            self.at += 1;
                            text.push(escaped);
                        }
                        Some(_) => text.push(c),
                    }
                }
            }
            if text.len() > LENGTH_MAX {
                return Err(ExpandError::TooLarge { word: self.excerpt() });
            }
        }
        self.at += 1;
        if self.syntax.keep_quotes {
            text.push('"');
        }
        Ok(text)
    }

    /// `<<` and the blanks after it stay one word with what follows.
    fn read_heredoc_marker(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".into();
        }
        self.at += 1;
        let mut text = String::from("<<");
        while let Some(c @ (' ' | '\t' | '\r')) = self.peek() {
            self.at += 1;
            text.push(c);
        }
        text
    }

    fn read_variable(&mut self, keep_escapes: bool) -> Result<String, ExpandError> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.read_name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.value(&name) {
                None if self.syntax.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.at += 1;
        match self.peek() {
            None => return Err(self.unfinished("`}`")),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution { word: self.excerpt() }),
            Some(_) => {}
        }
        let name = self.read_name();
        let operator = self.next().ok_or_else(|| self.unfinished("`}`"))?;
        match operator {
            '}' => Ok(match self.value(&name) {
                None if self.syntax.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            ':' => {
                let operator = self.next().ok_or_else(|| self.unfinished("`}`"))?;
                if !matches!(operator, '-' | '+' | '?') {
                    return Err(self.unsupported(format!(":{operator}")));
                }
                self.conditional(&name, operator, true, keep_escapes)
            }
            '-' | '+' | '?' => self.conditional(&name, operator, false, keep_escapes),
            '#' | '%' => self.trimmed(&name, operator),
            '/' => self.replaced(&name),
            other => Err(self.unsupported(other.to_string())),
        }
    }

    fn unsupported(&self, modifier: String) -> ExpandError {
        ExpandError::UnsupportedModifier { word: self.excerpt(), modifier }
    }

    fn conditional(
        &mut self,
        name: &str,
        operator: char,
        empty_is_unset: bool,
        _keep_escapes: bool,
    ) -> Result<String, ExpandError> {
        let (word, _) = self.read_until(Some('}'), false)?;
        let value = self.value(name);
        if value.is_none() && self.syntax.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let missing = value.as_ref().is_none_or(|value| empty_is_unset && value.is_empty());
        match (operator, missing) {
            ('-', true) | ('+', false) => Ok(word),
            ('+', true) => Ok(String::new()),
            ('?', true) if !word.is_empty() => Err(ExpandError::Required { name: name.into(), message: word }),
            ('?', true) => {
                let state = if value.is_none() { "unset" } else { "empty" };
                Err(ExpandError::Required { name: name.into(), message: format!("must not be {state}") })
            }
            _ => Ok(value.unwrap_or_default()),
        }
    }

    fn trimmed(&mut self, name: &str, operator: char) -> Result<String, ExpandError> {
        let (mut pattern, _) = self.read_until(Some('}'), true)?;
        let longest = pattern.starts_with(operator);
        if longest {
            pattern.remove(0);
        }
        let Some(value) = self.value(name) else {
            let double = if longest { operator.to_string() } else { String::new() };
            return Ok(if self.syntax.keep_unset {
                format!("${{{name}{operator}{double}{pattern}}}")
            } else {
                String::new()
            });
        };
        let mut tokens = parse_pattern(&pattern)?;
        let mut text: Vec<char> = value.chars().collect();
        // A suffix is a prefix of the reversed text.
        if operator == '%' {
            tokens.reverse();
            text.reverse();
        }
        let mut steps = 0;
        let end = match_at(&tokens, &text, 0, longest, &mut steps)
            .map_err(|()| ExpandError::TooLarge { word: self.excerpt() })?
            .unwrap_or(0);
        let mut rest = text.split_off(end);
        if operator == '%' {
            rest.reverse();
        }
        Ok(rest.into_iter().collect())
    }

    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let every = self.peek() == Some('/');
        self.at += usize::from(every);
        let (pattern, _) = self.read_until(Some('/'), true)?;
        let (replacement, _) = self.read_until(Some('}'), true)?;
        let Some(value) = self.value(name) else {
            return Ok(if self.syntax.keep_unset {
                format!("${{{name}/{pattern}/{replacement}}}")
            } else {
                String::new()
            });
        };
        let too_large = || ExpandError::TooLarge { word: self.excerpt() };
        let tokens = parse_pattern(&pattern)?;
        let text: Vec<char> = value.chars().collect();
        let (mut result, mut at, mut steps) = (String::new(), 0, 0);
        while at <= text.len() {
            match match_at(&tokens, &text, at, true, &mut steps).map_err(|()| too_large())? {
                Some(end) => {
                    result.push_str(&replacement);
                    // An empty match consumes nothing: keep the character and go on.
                    if end == at {
                        result.extend(text.get(at));
                        at += 1;
                    } else {
                        at = end;
                    }
                    if !every || (at >= text.len() && end != at) {
                        break;
                    }
                    if at == text.len() {
                        break;
                    }
                }
                None => {
                    result.extend(text.get(at));
                    at += 1;
                }
            }
            if result.len() > LENGTH_MAX {
                return Err(too_large());
            }
        }
        result.extend(text.get(at..).unwrap_or_default());
        Ok(result)
    }

    /// A run of digits, one special parameter, or letters, digits and `_`; empty when there is none.
    fn read_name(&mut self) -> String {
        let Some(first) = self.peek() else { return String::new() };
        if first.is_numeric() {
            return self.take_while(char::is_numeric);
        }
        if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
            self.at += 1;
            return first.to_string();
        }
        self.take_while(|c| c.is_alphanumeric() || c == '_')
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.value_of)(name);
        if value.is_some() { &mut self.used } else { &mut self.unset }.insert(name.to_owned());
        value
    }
}

/// One element of a shell pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    Any,
    Star,
}

fn parse_pattern(pattern: &str) -> Result<Vec<Token>, ExpandError> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => match chars.next() {
                Some(escaped) => Token::Literal(escaped),
                None => return Err(ExpandError::BadPattern { pattern: pattern.to_owned() }),
            },
            c => Token::Literal(c),
        });
    }
    Ok(tokens)
}

/// Where the match of `tokens` that begins at `start` ends: the longest or the shortest one.
///
/// Runs all alternatives side by side (one flag a token), so that no pattern takes exponential time.
fn match_at(
    tokens: &[Token],
    text: &[char],
    start: usize,
    longest: bool,
    steps: &mut u64,
) -> Result<Option<usize>, ()> {
    let mut active = vec![false; tokens.len() + 1];
    active[0] = true;
    let skip_stars = |active: &mut Vec<bool>| {
        for (index, token) in tokens.iter().enumerate() {
            if active[index] && *token == Token::Star {
                active[index + 1] = true;
            }
        }
    };
    skip_stars(&mut active);
    let mut found = None;
    let mut at = start;
    loop {
        if active[tokens.len()] {
            found = Some(at);
            if !longest {
                break;
            }
        }
        let Some(&c) = text.get(at) else { break };
        *steps += tokens.len() as u64 + 1;
        if *steps > MATCH_STEPS_MAX {
            return Err(());
        }
        let mut next = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate() {
            if !active[index] {
                continue;
            }
            match token {
                Token::Star => next[index] = true,
                Token::Any => next[index + 1] = true,
                Token::Literal(literal) if *literal == c => next[index + 1] = true,
                Token::Literal(_) => {}
            }
        }
        skip_stars(&mut next);
        if !next.iter().any(|flag| *flag) {
            break;
        }
        active = next;
        at += 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(name: &str) -> Option<String> {
        let value = match name {
            "set" => "value",
            "empty" => "",
            "path" => "/usr/local/lib/libx.so.1.2",
            "spaces" => " a  b ",
            _ => return None,
        };
        Some(value.into())
    }

    fn check(word: &str, expected: &str) {
        let text = expand(word, Syntax::new('\\'), &value_of).map(|expanded| expanded.text);
        assert_eq!(text.as_deref(), Ok(expected), "{word}");
    }

    #[test]
    fn variables_take_defaults_alternatives_and_messages() {
        check("a${set}b$set", "avaluebvalue");
        check("${none:-x}${empty:-y}${empty-z}${set:+w}${none+v}", "xyw");
        check("${none:-${empty:-deep}}", "deep");
        for (word, message) in [
            ("${none:?gone}", "none: gone"),
            ("${none?}", "none: must not be unset"),
            ("${empty:?}", "empty: must not be empty"),
        ] {
            let error = expand(word, Syntax::new('\\'), &value_of).map_err(|error| error.to_string());
            assert_eq!(error, Err(message.to_owned()));
        }
    }

    #[test]
    fn patterns_cut_and_replace() {
        check("${path#*/}", "usr/local/lib/libx.so.1.2");
        check("${path##*/}", "libx.so.1.2");
        check("${path%.*}", "/usr/local/lib/libx.so.1");
        check("${path%%.*}", "/usr/local/lib/libx");
        check("${path/l?b/LIB}", "/usr/local/LIB/libx.so.1.2");
        check("${path//l?b/LIB}", "/usr/local/LIB/LIBx.so.1.2");
        check("${path/o*l/-}", "/usr/l-ib/libx.so.1.2".replace("-ib/l", "-").as_str());
        check("${set//a/}", "vlue");
        check("${set#none}", "value");
    }

    #[test]
    fn quotes_protect() {
        check(r#"'$set' "$set" \$set "\$set" "a\nb""#, r#"$set value $set $set a\nb"#);
        for wrong in ["'x", "\"x", "${set", "${}", "${{a}", "${set!x}", "${set:#x}", "${set/a}", "${set#a\\"] {
            assert!(expand(wrong, Syntax::new('\\'), &value_of).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_split_after_expansion() {
        let words = |word| expand(word, Syntax::new('\\'), &value_of).map(|expanded| expanded.words);
        assert_eq!(words("x${spaces}y"), Ok(vec!["x".into(), "a".into(), "b".into(), "y".into()]));
        assert_eq!(words("x\"${spaces}\"y z\\ z"), Ok(vec!["x a  b y".into(), "z z".into()]));
    }

    #[test]
    fn hostile_words_end_soon() {
        let deep = "${a:-".repeat(100_000);
        assert!(matches!(expand(&deep, Syntax::new('\\'), &value_of), Err(ExpandError::TooLarge { .. })));
        let value = |_: &str| Some("a".repeat(60_000));
        let costly = format!("${{v//{}b/c}}", "*a".repeat(1000));
        assert!(matches!(expand(&costly, Syntax::new('\\'), &value), Err(ExpandError::TooLarge { .. })));
    }
}
