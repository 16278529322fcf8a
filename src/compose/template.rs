//! `$NAME` and `${NAME:-default}` in text.
//!
//! ```text
//! $$            a dollar sign
//! $NAME ${NAME} the value, empty with a warning when unset
//! ${NAME:-X} ${NAME-X}   X when unset or empty / when unset
//! ${NAME:?X} ${NAME?X}   error X when unset or empty / when unset
//! ${NAME:+X} ${NAME+X}   X when set and not empty / when set, else nothing
//! ```
//! X is substituted in turn, only when it is used. Other dollar signs stay as they are; `${` that begins none of
//! these is an error. A substitution does not cross the end of its line.
//!
//! Specification: <https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md>.

use super::limits::{SUBSTITUTED_BYTES_MAX, SUBSTITUTION_DEPTH_MAX, SUBSTITUTIONS_MAX};

/// Why text cannot be substituted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `${` that is not followed by one of the forms.
    #[error("`{text}` is not a valid substitution")]
    Invalid {
        /// From the dollar sign on.
        text: String,
    },
    /// `${NAME:?message}` of a variable without a value.
    #[error("variable `{name}` must be set{}{message}", if message.is_empty() { "" } else { ": " })]
    Required {
        /// The variable.
        name: String,
        /// What the file says about it.
        message: String,
    },
    /// Defaults within defaults without end.
    #[error("substitutions are nested more than {SUBSTITUTION_DEPTH_MAX} levels deep")]
    TooDeep,
    /// A value that grows without bound.
    #[error("the value has more than {SUBSTITUTIONS_MAX} substitutions or grows beyond {SUBSTITUTED_BYTES_MAX} bytes")]
    TooLong,
}

/// Substitutes variables in `text`. `lookup` gives values; `unset` hears of every variable that had none.
pub(crate) fn substitute(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    Substitution { lookup, unset, count: 0 }.expand(text, &mut out, 0)?;
    Ok(out)
}

struct Substitution<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    unset: &'a mut dyn FnMut(&str),
    count: usize,
}

impl Substitution<'_> {
    fn expand(&mut self, text: &str, out: &mut String, depth: usize) -> Result<(), Error> {
        if depth > SUBSTITUTION_DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            rest = if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                after
            } else if let Some(braced) = after.strip_prefix('{') {
                self.braced(&rest[at..], braced, out, depth)?
            } else {
                let name = name_of(after);
                if name.is_empty() {
                    out.push('$');
                } else {
                    self.plain(name, out);
                }
                &after[name.len()..]
            };
            self.count += 1;
            let grown = out.len() > SUBSTITUTED_BYTES_MAX && out.len() > text.len();
            if grown || self.count > SUBSTITUTIONS_MAX {
                return Err(Error::TooLong);
            }
        }
        out.push_str(rest);
        Ok(())
    }

    fn plain(&mut self, name: &str, out: &mut String) {
        match (self.lookup)(name) {
            Some(value) => out.push_str(&value),
            None => (self.unset)(name),
        }
    }

    /// Expands what follows `${`; returns what follows its brace.
    fn braced<'t>(&mut self, whole: &str, inner: &'t str, out: &mut String, depth: usize) -> Result<&'t str, Error> {
        let invalid = || Error::Invalid { text: whole.lines().next().unwrap_or_default().chars().take(80).collect() };
        let name = name_of(inner);
        let after = &inner[name.len()..];
        if name.is_empty() {
            return Err(invalid());
        }
        if let Some(rest) = after.strip_prefix('}') {
            self.plain(name, out);
            return Ok(rest);
        }
        let (empty_counts_as_unset, after) = match after.strip_prefix(':') {
            Some(after) => (true, after),
            None => (false, after),
        };
        let operator = after.chars().next().filter(|c| matches!(c, '-' | '?' | '+')).ok_or_else(invalid)?;
        let operand_and_rest = &after[1..];
        let end = closing_brace(operand_and_rest)?.ok_or_else(invalid)?;
        let (operand, rest) = (&operand_and_rest[..end], &operand_and_rest[end + 1..]);
        let value = (self.lookup)(name);
        let present = value.as_ref().is_some_and(|value| !(empty_counts_as_unset && value.is_empty()));
        match (operator, present) {
            ('-', false) | ('+', true) => self.expand(operand, out, depth + 1)?,
            ('?', false) => {
                let mut message = String::new();
                self.expand(operand, &mut message, depth + 1)?;
                return Err(Error::Required { name: name.to_owned(), message });
            }
            _ => out.push_str(&value.unwrap_or_default()),
        }
        Ok(rest)
    }
}

/// A variable that text names, and what the text says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What stands for it where it has no value; may hold variables in turn.
    pub default: String,
    /// What stands for it where it has a value.
    pub presence: String,
    /// Whether the project does not load without it.
    pub required: bool,
}

/// Calls `found` with every variable that `text` names, also in defaults, in the order of the text.
///
/// What is no substitution is passed over: loading the project tells about it.
pub(crate) fn variables(text: &str, found: &mut dyn FnMut(Variable)) {
    // As deep as substitution goes: nothing beyond that depth would ever be substituted.
    variables_to_depth(text, found, SUBSTITUTION_DEPTH_MAX);
}

fn variables_to_depth(text: &str, found: &mut dyn FnMut(Variable), depth: usize) {
    let mut rest = text;
    while let Some(at) = rest.find('$').filter(|_| depth > 0) {
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
            continue;
        }
        let inner = after.strip_prefix('{');
        let name = name_of(inner.unwrap_or(after));
        rest = &inner.unwrap_or(after)[name.len()..];
        if name.is_empty() {
            continue;
        }
        let mut variable = Variable { name: name.to_owned(), ..Variable::default() };
        let operand = inner.and_then(|_| {
            let after = rest.strip_prefix(':').unwrap_or(rest);
            let operator = after.chars().next().filter(|c| matches!(c, '-' | '?' | '+'))?;
            let end = closing_brace(&after[1..]).ok().flatten()?;
            rest = &after[1 + end + 1..];
            Some((operator, &after[1..=end]))
        });
        match operand {
            Some(('-', text)) => variable.default = text.to_owned(),
            Some(('+', text)) => variable.presence = text.to_owned(),
            Some(_) => variable.required = true,
            None => {}
        }
        found(variable);
        if let Some((_, text)) = operand {
            variables_to_depth(text, found, depth - 1);
        }
    }
}

/// The longest variable name that `text` begins with.
fn name_of(text: &str) -> &str {
    let end = text
        .bytes()
        .enumerate()
        .position(|(at, byte)| !(byte == b'_' || byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit())));
    &text[..end.unwrap_or(text.len())]
}

/// The brace that closes an operand: the balancing one of this line, else its last one.
///
/// The character after an opening brace never closes it, as in Compose (`${A:-{}}` is `{}`).
fn closing_brace(text: &str) -> Result<Option<usize>, Error> {
    let mut open = 1usize;
    let mut last = None;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\n' => break,
            b'}' => {
                last = Some(at);
                open -= 1;
                if open == 0 {
                    return Ok(last);
                }
            }
            b'{' => {
                open += 1;
                if open > SUBSTITUTION_DEPTH_MAX {
                    return Err(Error::TooDeep);
                }
                match bytes.next() {
                    Some((at, b'}')) => last = Some(at),
                    Some((_, b'\n')) | None => break,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, Error> {
        let lookup = |name: &str| match name {
            "FOO" => Some("foo".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("$FOO".to_owned()),
            _ => None,
        };
        substitute(text, &lookup, &mut |_| {})
    }

    #[test]
    fn every_form_gives_what_the_specification_says() {
        for (text, expected) in [
            ("plain", "plain"),
            ("$FOO-${FOO}", "foo-foo"),
            ("$$FOO $${FOO}", "$FOO ${FOO}"),
            ("a$ $1 $(x) $", "a$ $1 $(x) $"),
            ("[$UNSET]", "[]"),
            ("${UNSET:-d} ${UNSET-d} ${EMPTY:-d} ${EMPTY-d}", "d d d "),
            ("${FOO:-d} ${FOO-d}", "foo foo"),
            ("${FOO:+y} ${FOO+y} ${EMPTY:+y} ${EMPTY+y} ${UNSET+y}.", "y y  y ."),
            ("${FOO:?no} ${EMPTY?no}", "foo "),
            ("${UNSET:-${FOO}} ${UNSET:-${ALSO:-x}}y", "foo xy"),
            ("${UNSET:-$$x}", "$x"),
            ("${UNSET:-{}}", "{}"),
            ("${UNSET:-a:-b}", "a:-b"),
            ("${UNSET:-http://x?y}", "http://x?y"),
            ("$DOLLAR", "$FOO"),
            ("${FOO:-${}", "foo"),
        ] {
            assert_eq!(check(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_begins_like_a_substitution_must_be_one() {
        for text in ["${}", "${ FOO }", "${FOO", "${FOO!x}", "${1}", "${UNSET:-a\nb}", "${FOO:}", "${UNSET:-${}"] {
            assert!(matches!(check(text), Err(Error::Invalid { .. })), "{text}: {:?}", check(text));
        }
    }

    #[test]
    fn a_required_variable_says_what_the_file_says() {
        let error = check("${UNSET:?set it to $FOO}").unwrap_err();
        assert_eq!(error.to_string(), "variable `UNSET` must be set: set it to foo");
        assert!(check("${EMPTY:?}").is_err());
    }

    #[test]
    fn variables_are_found_wherever_they_stand() {
        let mut seen = Vec::new();
        variables("$A ${B:-${C-x}y} ${D:?why} $$E ${F+g$H} ${} ${1} ${I", &mut |variable| {
            seen.push(format!(
                "{}={}|{}{}",
                variable.name,
                variable.default,
                variable.presence,
                if variable.required { "!" } else { "" }
            ));
        });
        assert_eq!(seen, ["A=|", "B=${C-x}y|", "C=x|", "D=|!", "F=|g$H", "H=|", "I=|"]);
    }

    #[test]
    fn unset_variables_are_reported_but_not_those_with_a_default() {
        let mut names = Vec::new();
        let result = substitute("$A ${B} ${C:-x}", &|_| None, &mut |name| names.push(name.to_owned()));
        assert_eq!((result.as_deref(), names), (Ok("  x"), vec!["A".to_owned(), "B".to_owned()]));
    }

    #[test]
    fn nesting_and_growth_are_bounded() {
        let deep = "${A:-".repeat(10_000) + &"}".repeat(10_000);
        assert_eq!(check(&deep), Err(Error::TooDeep));
        let long = "x".repeat(SUBSTITUTED_BYTES_MAX);
        let result = substitute("$A$A", &|_| Some(long.clone()), &mut |_| {});
        assert_eq!(result, Err(Error::TooLong));
    }
}
