//! The forms that values may have, and those that many attributes share: the words in which [`super::schema`] is
//! written.

use Form::{Either, List, MapOf, Object, Scalar, Set, Word};

/// Kinds of scalars, to be combined.
pub(crate) mod scalars {
    pub const TEXT: u8 = 1;
    pub const FLAG: u8 = 2;
    pub const WHOLE: u8 = 4;
    pub const NUMBER: u8 = 8;
    pub const NULL: u8 = 16;
}
use scalars::{FLAG, NULL, NUMBER, TEXT, WHOLE};

/// A form that a value may have.
pub(crate) enum Form {
    /// Anything.
    Any,
    /// One of these kinds of scalars.
    Scalar(u8),
    /// Text, or a whole number between two bounds.
    Bounded(i64, i64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text that a test accepts, with what it is called.
    Word(fn(&str) -> bool, &'static str),
    /// A list.
    List(&'static Form),
    /// A list in which nothing stands twice.
    Set(&'static Form),
    /// A mapping from free keys. Keys that the test refuses are unknown, or unchecked where the flag says so.
    MapOf(fn(&str) -> bool, &'static Form, Others),
    /// A mapping with these attributes.
    Object(&'static Attributes),
    /// Any of these, told apart by type.
    Either(&'static [Form]),
}

/// What becomes of keys that a mapping does not foresee.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    Refused,
    Unchecked,
}

/// The attributes of one kind of mapping.
pub(crate) struct Attributes {
    pub known: &'static [(&'static str, Form)],
    pub required: &'static [&'static str],
    /// Whether `x-…` is welcome.
    pub extensions: bool,
    pub others: Others,
}

pub(super) const fn object(known: &'static [(&'static str, Form)]) -> Attributes {
    Attributes { known, required: &[], extensions: true, others: Others::Refused }
}

pub(super) const fn closed(known: &'static [(&'static str, Form)]) -> Attributes {
    Attributes { known, required: &[], extensions: false, others: Others::Refused }
}

pub(super) const fn requiring(mut attributes: Attributes, required: &'static [&'static str]) -> Attributes {
    attributes.required = required;
    attributes
}

pub(super) fn is_name(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

pub(super) fn is_not_empty(key: &str) -> bool {
    !key.is_empty()
}

pub(super) fn is_lower_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase())
}

pub(super) fn is_container_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(2).any(|pair| {
        pair[0].is_ascii_alphanumeric() && (pair[1].is_ascii_alphanumeric() || matches!(pair[1], b'_' | b'.' | b'-'))
    })
}

pub(super) fn is_pull_policy(text: &str) -> bool {
    const WORDS: [&str; 8] = ["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"];
    let every = || {
        text.split("every_").skip(1).any(|rest| {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0 && matches!(rest.as_bytes().get(digits), Some(b'w' | b'd' | b'h' | b'm' | b's'))
        })
    };
    WORDS.iter().any(|word| text.contains(word)) || every()
}

pub(super) const STRING: Form = Scalar(TEXT);
/// What the text says is `bind`'s to check.
pub(super) const DURATION: Form = Word(|_| true, "a duration such as 500ms, 30s or 1m30s");
pub(super) const STRING_OR_FLAG: Form = Scalar(TEXT | FLAG);
pub(super) const STRING_OR_WHOLE: Form = Scalar(TEXT | WHOLE);
pub(super) const STRING_OR_NUMBER: Form = Scalar(TEXT | NUMBER);
pub(super) const STRINGS: Form = List(&STRING);
pub(super) const STRING_SET: Form = Set(&STRING);
pub(super) const STRING_OR_SET: Form = Either(&[STRING, STRING_SET]);
pub(super) const COMMAND: Form = Either(&[Scalar(NULL | TEXT), STRINGS]);
pub(super) const PAIRS: Form =
    Either(&[MapOf(is_not_empty, &Scalar(TEXT | NUMBER | FLAG | NULL), Others::Refused), STRING_SET]);
pub(super) const HOSTS: Form = Either(&[MapOf(is_not_empty, &Either(&[STRING, STRINGS]), Others::Refused), STRING_SET]);
pub(super) const DRIVER_OPTIONS: Form = MapOf(is_not_empty, &STRING_OR_NUMBER, Others::Unchecked);
pub(super) const FILES: Form = List(&Either(&[
    STRING,
    Object(&object(&[
        ("gid", STRING),
        ("mode", STRING_OR_NUMBER),
        ("source", STRING),
        ("target", STRING),
        ("uid", STRING),
    ])),
]));
pub(super) const ULIMITS: Form = MapOf(
    is_lower_word,
    &Either(&[
        STRING_OR_WHOLE,
        Object(&requiring(object(&[("hard", STRING_OR_WHOLE), ("soft", STRING_OR_WHOLE)]), &["soft", "hard"])),
    ]),
    Others::Unchecked,
);
