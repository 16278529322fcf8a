//! Image references: `redis`, `redis:7`, `ghcr.io/owner/app@sha256:…`, in Docker's grammar and with its defaults.
//!
//! Source: <https://github.com/distribution/reference> (grammar in `reference.go`, defaults in `normalize.go`).

use std::fmt;
use std::str::FromStr;

use crate::base::id::Digest;

/// A normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Registry host with optional port: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// Repository: `library/redis`, `owner/app`.
    pub repository: String,
    /// Tag; `latest` when neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest of a manifest.
    pub digest: Option<Digest>,
}

/// Text that is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct InvalidReference {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Longest name (registry and repository) that the grammar allows.
const NAME_LENGTH_MAX: usize = 255;
/// Longest tag.
const TAG_LENGTH_MAX: usize = 128;

impl Reference {
    /// The whole name, `docker.io/library/redis:7`, for tools that know no abbreviations.
    pub fn canonical(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{}/{}{tag}{digest}", self.registry, self.repository)
    }

    /// The name as people write it: without `docker.io/library/`, with tag or digest.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }

    /// The repository as people write it, without tag and digest.
    pub fn familiar_name(&self) -> String {
        if self.registry != "docker.io" {
            return format!("{}/{}", self.registry, self.repository);
        }
        let short = self.repository.strip_prefix("library/").filter(|rest| !rest.contains('/'));
        let name = short.unwrap_or(&self.repository);
        // What would read like a host (`docker.io/r.io/x`) needs one before it.
        if Self::is_without_host(name) { name.to_owned() } else { format!("docker.io/{}", self.repository) }
    }

    fn is_without_host(name: &str) -> bool {
        let first = name.split_once('/').map_or("", |(first, _)| first);
        !first.contains(['.', ':']) && first != "localhost" && first.bytes().all(|byte| !byte.is_ascii_uppercase())
    }

    /// What to ask the registry for: the digest, else the tag.
    pub fn manifest_name(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let invalid = |reason| InvalidReference { text: text.to_owned(), reason };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse::<Digest>().map_err(|_| invalid("the digest is not sha256: and 64 digits"))?))
            }
            None => (text, None),
        };
        let last_slash = rest.rfind('/').map_or(0, |index| index + 1);
        let (name, tag) = match rest[last_slash..].find(':') {
            Some(index) => (&rest[..last_slash + index], Some(&rest[last_slash + index + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(invalid)?;
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':'])
                    || first == "localhost"
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                check_registry(first).map_err(invalid)?;
                (if first == "index.docker.io" { "docker.io" } else { first }, path.to_owned())
            }
            _ => ("docker.io", name.to_owned()),
        };
        check_repository(&repository).map_err(invalid)?;
        let repository = if registry == "docker.io" && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        // Of the whole name, so that it can be read again as it is printed.
        if registry.len() + repository.len() >= NAME_LENGTH_MAX {
            return Err(invalid("the name is longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let good = tag.bytes().enumerate().all(|(i, b)| word(b) || (i > 0 && (b == b'.' || b == b'-')));
    if tag.is_empty() || tag.len() > TAG_LENGTH_MAX || !good {
        return Err("a tag has 1 to 128 letters, digits, `_`, `.` and `-`");
    }
    Ok(())
}

fn check_registry(host: &str) -> Result<(), &'static str> {
    const REASON: &str = "the registry is not a host name with an optional port";
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(REASON)?;
        if !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return Err(REASON);
        }
        match port.strip_prefix(':') {
            None if !port.is_empty() => return Err(REASON),
            port => ("v6", port),
        }
    } else {
        match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        }
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(label) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(REASON);
    }
    Ok(())
}

fn check_repository(path: &str) -> Result<(), &'static str> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the repository name must be lower case");
    }
    for part in path.split('/') {
        check_component(part)?;
    }
    Ok(())
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn check_component(part: &str) -> Result<(), &'static str> {
    const REASON: &str =
        "a repository name has lower-case letters, digits and single separators (`.`, `_`, `-`) between them";
    let bytes = part.as_bytes();
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !bytes.first().is_some_and(word) || !bytes.last().is_some_and(word) {
        return Err(REASON);
    }
    let mut index = 0;
    while index < bytes.len() {
        if word(&bytes[index]) {
            index += 1;
            continue;
        }
        let end = bytes[index..].iter().position(word).map_or(bytes.len(), |offset| index + offset);
        let separator = &part[index..end];
        if !(matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')) {
            return Err(REASON);
        }
        index = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_docker_hub() {
        for (text, registry, repository, name) in [
            ("redis", "docker.io", "library/redis", "latest"),
            ("redis:7", "docker.io", "library/redis", "7"),
            ("owner/app:1.0-rc.1", "docker.io", "owner/app", "1.0-rc.1"),
            ("docker.io/redis", "docker.io", "library/redis", "latest"),
            ("localhost/app", "localhost", "app", "latest"),
            ("localhost:5000/a/b__c/d---e:x", "localhost:5000", "a/b__c/d---e", "x"),
            ("127.0.0.1:5001/library/redis:7", "127.0.0.1:5001", "library/redis", "7"),
            ("[::1]:5000/app", "[::1]:5000", "app", "latest"),
            ("ghcr.io/owner/app", "ghcr.io", "owner/app", "latest"),
        ] {
            let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((reference.registry.as_str(), reference.repository.as_str()), (registry, repository), "{text}");
            assert_eq!(reference.manifest_name(), name, "{text}");
        }
    }

    #[test]
    fn familiar_names_drop_the_defaults() {
        for (text, familiar) in [
            ("docker.io/library/redis", "redis:latest"),
            ("docker.io/r.io/x", "docker.io/r.io/x:latest"),
            ("docker.io/library/a/b", "library/a/b:latest"),
            ("quay.io/a/b:c", "quay.io/a/b:c"),
            ("a/b", "a/b:latest"),
        ] {
            assert_eq!(text.parse::<Reference>().map(|r| r.familiar()), Ok(familiar.to_owned()));
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::of(b"x");
        let reference: Reference = format!("redis@{digest}").parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((reference.tag.as_deref(), reference.manifest_name()), (None, digest.as_str()));
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        for wrong in [
            "",
            ":",
            "Redis",
            "a//b",
            "a/",
            "/a",
            "redis:",
            "redis:a b",
            "redis@sha256:12",
            "a..b",
            "-a",
            "a_",
            "../x",
            "http://x/y",
            "a b",
            "–d",
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
    }
}
