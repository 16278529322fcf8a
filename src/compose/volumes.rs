//! The short form of a service's `volumes`: `[source:]target[:option,…]`.
//!
//! A source that begins with `.`, `/`, `~`, `\\` or a drive letter is a path on the host (a bind mount), any
//! other is the name of a volume. Options that are not known are ignored, as in Compose.

use super::error::shorten;

/// A mount, as the long form has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ShortVolume {
    pub is_bind: bool,
    pub source: Option<String>,
    pub target: String,
    pub read_only: bool,
    pub nocopy: bool,
    pub propagation: Option<String>,
    pub selinux: Option<String>,
    /// Whether a user namespace's ids are the host's own there, as `--mount` has it.
    pub idmap: bool,
}

/// A short form that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a mount: {reason}")]
pub(crate) struct InvalidVolume {
    pub text: String,
    pub reason: &'static str,
}

/// Reads one entry.
pub(crate) fn parse(text: &str) -> Result<ShortVolume, InvalidVolume> {
    let fail = |reason| InvalidVolume { text: shorten(text), reason };
    if text.is_empty() {
        return Err(fail("it is empty"));
    }
    if text.len() <= 2 {
        return Ok(ShortVolume { target: text.to_owned(), ..ShortVolume::default() });
    }
    let fields = split(text);
    if fields.iter().any(|field| field.is_empty()) {
        return Err(fail("nothing stands between two colons"));
    }
    let mut volume = ShortVolume::default();
    match fields.as_slice() {
        [target] => volume.target = (*target).to_owned(),
        [source, target, options @ ..] => {
            volume.source = Some((*source).to_owned());
            volume.target = (*target).to_owned();
            match options {
                [] => {}
                [options] => options.split(',').for_each(|option| volume.set(option)),
                _ => return Err(fail("it has too many colons")),
            }
        }
        [] => return Err(fail("it is empty")),
    }
    volume.is_bind = volume.source.as_deref().is_some_and(is_path);
    Ok(volume)
}

impl ShortVolume {
    fn set(&mut self, option: &str) {
        match option {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "nocopy" => self.nocopy = true,
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                self.propagation = Some(option.to_owned());
            }
            "idmap" => self.idmap = true,
            "z" | "Z" => self.selinux = Some(option.to_owned()),
            _ => {}
        }
    }
}

/// Splits at colons, but not after a drive letter nor inside of `${…}`.
fn split(text: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut start = 0;
    let mut substitutions = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '$' if text[at + 1..].starts_with('{') => substitutions += 1,
            '}' => substitutions = substitutions.saturating_sub(1),
            ':' if substitutions == 0 && !is_drive(&text[start..at]) => {
                fields.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    fields.push(&text[start..]);
    fields
}

fn is_drive(field: &str) -> bool {
    let mut characters = field.chars();
    characters.next().is_some_and(char::is_alphabetic) && characters.next().is_none()
}

/// Whether a source is a path on the host and not the name of a volume.
fn is_path(source: &str) -> bool {
    let drive = source.split_once(':').is_some_and(|(drive, _)| is_drive(drive));
    source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || drive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_volumes_are_read() {
        let bind = |source: &str, target: &str| ShortVolume {
            is_bind: true,
            source: Some(source.into()),
            target: target.into(),
            ..ShortVolume::default()
        };
        let volume = |source: &str, target: &str| ShortVolume { is_bind: false, ..bind(source, target) };
        for (text, expected) in [
            ("/data", ShortVolume { target: "/data".into(), ..ShortVolume::default() }),
            ("data", ShortVolume { target: "data".into(), ..ShortVolume::default() }),
            ("data:/data", volume("data", "/data")),
            ("./src:/app", bind("./src", "/app")),
            ("~/x:/app:ro", ShortVolume { read_only: true, ..bind("~/x", "/app") }),
            ("data:/d:nocopy,bogus", ShortVolume { nocopy: true, ..volume("data", "/d") }),
            (
                "/a:/b:rslave,Z",
                ShortVolume { propagation: Some("rslave".into()), selinux: Some("Z".into()), ..bind("/a", "/b") },
            ),
            ("/a:/b:idmap,ro", ShortVolume { idmap: true, read_only: true, ..bind("/a", "/b") }),
            ("C:\\data:/data", bind("C:\\data", "/data")),
            ("${X:-a}:/data", volume("${X:-a}", "/data")),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_mount_is_an_error() {
        for text in ["", ":/data", "aa::/data", "aa:/b:ro:z", "data:/b:"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
