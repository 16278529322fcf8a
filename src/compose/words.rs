//! Splits a command that is written as text into its words, as Compose does.
//!
//! Quotes and backslashes work as in a shell; there are no variables, globs or pipes. What follows a `;`, `&`,
//! `|`, `<` or `>` outside of quotes is cut off.
//!
//! Source: the behaviour of mattn/go-shellwords.

/// The words of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub words: Vec<String>,
    /// What was cut off.
    pub ignored: Option<String>,
}

/// Why a command cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A quote, backslash or parenthesis that is not closed.
    #[error("this command has a quote or parenthesis without its partner")]
    Unbalanced,
    /// More words than any command has.
    #[error("this command has more than {WORDS_MAX} words")]
    TooLong,
}

/// Words of one command; the kernel takes 2 MiB of them at most.
const WORDS_MAX: usize = 10_000;

#[derive(Default)]
struct State {
    single: bool,
    double: bool,
    backtick: bool,
    dollar: bool,
}

impl State {
    fn is_quoted(&self) -> bool {
        self.single || self.double || self.backtick || self.dollar
    }
}

/// Splits `text`.
pub(crate) fn split(text: &str) -> Result<Words, Error> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut begun = false;
    let mut escaped = false;
    let mut state = State::default();
    let mut ignored = None;
    for (at, c) in text.char_indices() {
        if escaped {
            word.push(match c {
                't' => '\t',
                'n' => '\n',
                c => c,
            });
            (escaped, begun) = (false, true);
            continue;
        }
        match c {
            '\\' if state.single => word.push(c),
            '\\' => escaped = true,
            ' ' | '\t' | '\r' | '\n' if state.is_quoted() => word.push(c),
            ' ' | '\t' | '\r' | '\n' => {
                if words.len() > WORDS_MAX {
                    return Err(Error::TooLong);
                }
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                word.clear();
                begun = false;
            }
            '"' if !state.single && !state.dollar => {
                begun |= state.double;
                state.double = !state.double;
            }
            '\'' if !state.double && !state.dollar => {
                begun |= state.single;
                state.single = !state.single;
            }
            '(' if !state.single && !state.double && !state.backtick => {
                if state.dollar || !word.ends_with('$') {
                    return Err(Error::Unbalanced);
                }
                state.dollar = true;
                word.push(c);
            }
            ';' | '&' | '|' | '<' | '>' if !state.is_quoted() => {
                // `2>` is a redirection as a whole.
                if c == '>' && word.starts_with(|first: char| first.is_ascii_digit()) {
                    begun = false;
                }
                ignored = Some(text[at..].to_owned());
                break;
            }
            c => {
                match c {
                    '`' if !state.single && !state.double && !state.dollar => state.backtick = !state.backtick,
                    ')' if !state.single && !state.double && !state.backtick => state.dollar = !state.dollar,
                    _ => {}
                }
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    if escaped || state.is_quoted() { Err(Error::Unbalanced) } else { Ok(Words { words, ignored }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, words: &[&str]) {
        assert_eq!(split(text).map(|words| words.words), Ok(words.iter().map(|word| word.to_string()).collect()));
    }

    #[test]
    fn words_are_split_as_in_a_shell() {
        check("a  b\tc", &["a", "b", "c"]);
        check("sh -c 'echo \"$A\" && b'", &["sh", "-c", "echo \"$A\" && b"]);
        check("a \"b c\" '' d\\ e", &["a", "b c", "", "d e"]);
        check("a=$(b c) `d e`", &["a=$(b c)", "`d e`"]);
        check("", &[]);
    }

    #[test]
    fn what_a_shell_would_do_is_cut_off_and_reported() {
        let words = split("run me > out").unwrap();
        assert_eq!(words.words, ["run", "me"]);
        assert_eq!(words.ignored.as_deref(), Some("> out"));
        check("run 2> out", &["run"]);
    }

    #[test]
    fn quotes_must_be_closed() {
        for text in ["'a", "\"a", "a\\", "(a", "a)", "`a"] {
            assert_eq!(split(text), Err(Error::Unbalanced), "{text}");
        }
    }
}
