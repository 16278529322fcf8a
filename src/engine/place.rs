//! Where in the compose files the cause of an error was written.

use crate::base::error::{Attribute, Excerpt, Location};
use crate::base::fs::read_limited;
use crate::model::project::{Project, Service};

/// Largest file that is read again to find a value, in bytes.
const SOURCE_BYTES_MAX: u64 = 4 << 20;

/// The place of an attribute of `service`, at the wrong value where the line has it. `None` when the file does not
/// say the attribute at all.
pub(super) fn of(project: &Project, service: &Service, attribute: &Attribute) -> Option<Excerpt> {
    let mut first = None;
    for name in &attribute.names {
        let path = format!("services.{}.{name}", service.name);
        let below = |key: &str| key.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let places = project.locations.0.range(path.clone()..).take_while(|(key, _)| key.starts_with(&path));
        for (_, location) in places.filter(|(key, _)| below(key)) {
            let Some(line) = line_at(location) else { continue };
            if let Some(excerpt) = find(location, &line, &attribute.value) {
                return Some(excerpt);
            }
            first.get_or_insert_with(|| behind_key(location, &line));
        }
    }
    first
}

fn line_at(location: &Location) -> Option<String> {
    let content = read_limited(&location.file, SOURCE_BYTES_MAX).ok()?;
    let line = content.split(|byte| *byte == b'\n').nth(location.line.checked_sub(1)?)?;
    Some(String::from_utf8_lossy(line).trim_end().to_owned())
}

/// The excerpt of `value` where it stands in the line as a word of its own, from the location on.
fn find(location: &Location, line: &str, value: &str) -> Option<Excerpt> {
    if value.is_empty() {
        return None;
    }
    let begin = line.char_indices().nth(location.column.saturating_sub(1))?.0;
    let is_word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    let (at, _) = line[begin..].match_indices(value).map(|(at, text)| (begin + at, text)).find(|(at, text)| {
        !is_word(line[..*at].chars().next_back()) && !is_word(line[at + text.len()..].chars().next())
    })?;
    let location = Location { column: line[..at].chars().count() + 1, ..location.clone() };
    Some(Excerpt { location, length: value.chars().count(), source: line.to_owned(), label: String::new() })
}

/// The excerpt of what stands at the location: what follows the colon where it is a key with its value.
fn behind_key(location: &Location, line: &str) -> Excerpt {
    let skipped = location.column.saturating_sub(1);
    let text: String = line.chars().skip(skipped).collect();
    let (column, length) = match text.split_once(": ").map(|(key, value)| (key, value.trim_start())) {
        Some((key, value)) if !value.is_empty() && !key.contains([' ', '"', '\'']) => {
            let length = value.split(" #").next().unwrap_or(value).trim_end().chars().count();
            (location.column + text.chars().count() - value.chars().count(), length)
        }
        _ => (location.column, text.chars().take_while(|character| *character != ':').count()),
    };
    Excerpt { location: Location { column, ..location.clone() }, length, source: line.to_owned(), label: String::new() }
}
