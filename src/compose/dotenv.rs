//! Env files: `.env`, `--env-file`, a service's `env_file` and `label_file`.
//!
//! ```text
//! KEY=value # comment      unquoted: trimmed, `$VARIABLES` substituted, ends at the line or at ` #`
//! KEY: value               the same
//! export KEY="a\n$B"       double quotes: escapes, substitution, may run over lines
//! KEY='as it $is'          single quotes: as written, may run over lines
//! KEY                      taken from the environment, if it is set there
//! ```
//! `format: raw` files are `KEY=value` lines without quotes, comments after values or substitution.
//!
//! Source: the behaviour of Docker Compose; <https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/#env-file-syntax>.

use std::collections::BTreeMap;

use super::limits::{ENV_FILE_BYTES_MAX, VARIABLES_MAX};
use super::template;

/// A mistake in an env file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Variables by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// Adds the variables of `text` to `variables`.
///
/// Substitution asks `lookup` first, then what `variables` holds so far.
pub(crate) fn parse(
    text: &str,
    variables: &mut Variables,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser { whole: text, rest: text, lookup, grown: 0 };
    let mut statements = 0;
    while parser.skip_to_statement() {
        statements += 1;
        if statements > VARIABLES_MAX {
            return Err(parser.fail(format!("more than {VARIABLES_MAX} variables in one file")));
        }
        parser.statement(variables)?;
    }
    Ok(())
}

/// Adds the variables of a `format: raw` file: what follows the first `=` is the value, whatever it holds.
pub(crate) fn parse_raw(
    text: &str,
    variables: &mut Variables,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line, lookup(line.trim_end())),
        };
        let fail = |message: String| Error { line: index + 1, message };
        if index >= VARIABLES_MAX {
            return Err(fail(format!("more than {VARIABLES_MAX} lines in one file")));
        }
        if name.is_empty() {
            return Err(fail("no variable name before `=`".into()));
        }
        if name.contains(char::is_whitespace) {
            return Err(fail(format!("variable name `{name}` contains white space")));
        }
        if let Some(value) = value {
            variables.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Bytes of all values so far: substitution must not multiply them without end.
    grown: usize,
}

impl<'a> Parser<'a> {
    fn fail(&self, message: impl Into<String>) -> Error {
        let read = self.whole.len() - self.rest.len();
        Error { line: self.whole[..read].matches('\n').count() + 1, message: message.into() }
    }

    /// Skips white space and comment lines. Returns whether something follows.
    fn skip_to_statement(&mut self) -> bool {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return !self.rest.is_empty();
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
    }

    fn statement(&mut self, variables: &mut Variables) -> Result<(), Error> {
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(char::is_whitespace)
        {
            self.rest = after.trim_start_matches(is_blank);
        }
        let end = self.name_end()?;
        let name = self.rest[..end].trim_end();
        if name.contains(' ') {
            return Err(self.fail(format!("variable name `{name}` contains a space")));
        }
        let name = name.to_owned();
        match self.rest[end..].chars().next() {
            Some(c @ ('=' | ':')) => {
                self.rest = self.rest[end + c.len_utf8()..].trim_start_matches(is_blank);
                let value = self.value(variables)?;
                self.grown += value.len();
                if self.grown as u64 > ENV_FILE_BYTES_MAX {
                    return Err(self.fail(format!("the values are longer than {ENV_FILE_BYTES_MAX} bytes together")));
                }
                variables.insert(name, value);
            }
            _ => {
                self.rest = &self.rest[end..];
                if let Some(value) = (self.lookup)(&name) {
                    variables.insert(name, value);
                }
            }
        }
        Ok(())
    }

    /// Where the name ends: before `=`, `:` or the end of the line.
    fn name_end(&self) -> Result<usize, Error> {
        for (at, c) in self.rest.char_indices() {
            match c {
                '=' | ':' | '\n' => return Ok(at),
                '_' | '.' | '-' | '[' | ']' => {}
                c if is_blank(c) || c.is_alphabetic() || c.is_numeric() => {}
                c => {
                    let line: String = self.rest.lines().next().unwrap_or_default().chars().take(80).collect();
                    return Err(self.fail(format!("unexpected character `{c}` in a variable name: `{line}`")));
                }
            }
        }
        Ok(self.rest.len())
    }

    fn value(&mut self, variables: &Variables) -> Result<String, Error> {
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote, variables),
            _ => {
                let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
                let value = line.split(" #").next().unwrap_or_default().trim_end();
                let value = self.substitute(value, variables)?;
                self.rest = rest;
                Ok(value)
            }
        }
    }

    fn quoted(&mut self, quote: char, variables: &Variables) -> Result<String, Error> {
        let mut value = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            if c == quote {
                let value = match quote {
                    '"' => self.substitute(&unescape(&value), variables)?,
                    _ => value,
                };
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
            if c != '\\' {
                value.push(c);
                continue;
            }
            // A backslash before the quote keeps it from ending the value; other escapes are `unescape`'s.
            match characters.next() {
                Some((_, next)) if next == quote => value.push(next),
                Some((_, next)) => value.extend(['\\', next]),
                None => break,
            }
        }
        let line: String = self.rest.lines().next().unwrap_or_default().chars().take(80).collect();
        Err(self.fail(format!("quoted value has no end: {line}")))
    }

    fn substitute(&self, value: &str, variables: &Variables) -> Result<String, Error> {
        let lookup = |name: &str| (self.lookup)(name).or_else(|| variables.get(name).cloned());
        template::substitute(value, &lookup, &mut |_| {}).map_err(|error| self.fail(error.to_string()))
    }
}

/// White space within a line.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

/// Replaces the escapes of a double-quoted value; others stay as they are.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let Some(c) = after.chars().next() else {
            out.push('\\');
            return out;
        };
        let mut taken = c.len_utf8();
        match c {
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'v' => out.push('\u{b}'),
            '"' => out.push('"'),
            '\\' => out.push('\\'),
            // Substitution comes after this, and to it `$$` is a dollar sign.
            '$' => out.push_str("$$"),
            '0' => match octal(&after[1..]) {
                Some(c) => {
                    out.push(c);
                    taken += 3;
                }
                None => out.push_str("\\0"),
            },
            c => out.extend(['\\', c]),
        }
        rest = &after[taken..];
    }
    out.push_str(rest);
    out
}

fn octal(text: &str) -> Option<char> {
    let digits = text.get(..3)?;
    digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)).then_some(())?;
    u32::from_str_radix(digits, 8).ok().filter(|code| *code < 256).and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Vec<(String, String)> {
        let mut variables = Variables::new();
        let lookup = |name: &str| (name == "HOST").then(|| "host".to_owned());
        parse(text, &mut variables, &lookup).unwrap();
        variables.into_iter().collect()
    }

    #[track_caller]
    fn check_one(text: &str, value: &str) {
        assert_eq!(check(text), [("A".to_owned(), value.to_owned())], "{text:?}");
    }

    #[test]
    fn values_are_read_as_compose_reads_them() {
        check_one("A=1", "1");
        check_one("A: 1\n", "1");
        check_one("  export A = 1 2  # comment", "1 2");
        check_one("A=1#2", "1#2");
        check_one("A=", "");
        check_one("A='$HOST \\' \"'", "$HOST ' \"");
        check_one("A=\"$HOST ${HOST}\\n\\t\\\"\\$HOST \\x\"", "host host\n\t\"$HOST \\x");
        check_one("A=\"\\0101\"", "A");
        check_one("A=\"one\ntwo\"", "one\ntwo");
        check_one("A=$HOST", "host");
        check_one("\u{feff}A=1\r\n", "1");
        check_one("# comment\n\n#\nA=1", "1");
        check_one("A=x=y", "x=y");
    }

    #[test]
    fn later_lines_see_earlier_ones_and_bare_names_are_inherited() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(check("A=1\nB=$A$A\nHOST\nNONE\n"), [pair("A", "1"), pair("B", "11"), pair("HOST", "host")]);
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line, part) in [
            ("A=1\nB C=2", 2, "contains a space"),
            ("\nA!=1", 2, "unexpected character `!`"),
            ("A=\"x\nB=2", 1, "has no end"),
            ("A=${", 1, "not a valid substitution"),
        ] {
            let error = parse(text, &mut Variables::new(), &|_| None).unwrap_err();
            assert_eq!(error.line, line, "{text:?}");
            assert!(error.message.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn raw_files_are_taken_as_they_are() {
        let mut variables = Variables::new();
        parse_raw("A=\"x\" # $y\n# c\nB= 1 \n", &mut variables, &|_| None).unwrap();
        assert_eq!(variables["A"], "\"x\" # $y");
        assert_eq!(variables["B"], " 1 ");
        assert!(parse_raw("export A=1", &mut variables, &|_| None).is_err());
    }

    #[test]
    fn values_cannot_double_without_end() {
        let mut text = String::from("A0=xxxxxxxxxx\n");
        for index in 0..64 {
            text.push_str(&format!("A{}=$A{index}$A{index}\n", index + 1));
        }
        assert!(parse(&text, &mut Variables::new(), &|_| None).is_err());
    }
}
