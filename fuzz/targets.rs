//! One function a parser of foreign bytes: it may refuse what it is given, and nothing else; what it accepts has to
//! keep the promises that are asserted here.

#![allow(dead_code, reason = "each fuzz target uses one of them")]

use std::path::PathBuf;

use wharf::build::{BuildRequest, DockerfileSource, IgnorePatterns};
use wharf::compose::{self, Options};
use wharf::image::{Limits, login, refers_to, unpack};
use wharf::model::reference::Reference;

/// Everything that is done with a Dockerfile before the first byte is fetched: parsing, expansion, checks.
pub fn dockerfile(bytes: &[u8]) {
    let mut request = BuildRequest::new("/nowhere");
    request.ignore_file = false;
    request.dockerfile = DockerfileSource::Inline(String::from_utf8_lossy(bytes).into_owned());
    if let Err(error) = wharf::build::check(&request) {
        // The words, the excerpt and the caret are made of the same foreign bytes.
        let _words = (error.to_string(), wharf::base::error::Explain::excerpts(&error));
    }
}

/// Compose files, divided by lines `#### NAME`; the first is `compose.yaml`. What loads is printed as YAML that loads
/// to the same; what does not has places that lie in its files.
pub fn compose(bytes: &[u8]) {
    let folder = Scratch::new();
    let text = String::from_utf8_lossy(bytes);
    for (number, part) in text.split("#### ").enumerate() {
        let (name, content) = match number {
            0 => ("compose.yaml", part),
            _ => part.split_once('\n').unwrap_or((part, "")),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !name.is_empty() && name.len() < 64 && name.chars().all(is_name) && name.chars().any(char::is_alphanumeric) {
            std::fs::write(folder.0.join(name), content).expect("a file in a folder for temporary files");
        }
    }
    let environment = [("FOO", "foo"), ("EMPTY", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut options = Options::new(folder.0.clone(), environment.into());
    options.files = vec!["compose.yaml".into()];
    options.project_name = Some("fuzz".to_owned());
    options.explain = true;
    match compose::load(&options) {
        Ok(loaded) => {
            let yaml = loaded.to_yaml();
            std::fs::write(folder.0.join("printed.yaml"), &yaml).expect("a file in a folder for temporary files");
            options.files = vec!["printed.yaml".into()];
            // What it depends on may be a service that no profile enables, which is not printed.
            options.check_consistency = false;
            match compose::load(&options) {
                Ok(again) => assert_eq!(again.to_json(), loaded.to_json(), "{text}\n---\n{yaml}"),
                Err(error) => panic!("{error}: {:?}\n{text}\n---\n{yaml}", error.mistakes()),
            }
        }
        Err(error) => {
            // The words, the excerpt and the caret are made of the same foreign bytes.
            let _words = error.to_string();
            for excerpt in wharf::base::error::Explain::excerpts(&error) {
                assert!(excerpt.location.line > 0 && excerpt.location.column > 0, "{excerpt:?}");
            }
        }
    }
    options.files = vec!["compose.yaml".into()];
    let _variables = compose::variables(&options);
}

/// An ignore file, and paths judged by it: both ways of asking agree.
pub fn ignore_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(patterns) = IgnorePatterns::new(text.lines()) else { return };
    for path in ["a", "a/b", "node_modules/x/y.js", ".git", "ä/ö", "a b/[c]", "x.go", "deep/er/and/deep/er.md"] {
        assert!(patterns.hides(path) || !patterns.hides_all() || patterns.shows_some(), "{path} by {text}");
    }
}

/// A reference: what is printed means the same again.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(reference) = text.parse::<Reference>() else { return };
    for printed in [reference.to_string(), reference.familiar(), reference.canonical()] {
        assert_eq!(printed.parse::<Reference>().ok().as_ref(), Some(&reference), "{text} printed as {printed}");
    }
    assert!(!reference.repository.split('/').any(|part| part.is_empty() || part == ".."), "{text}");
}

/// A manifest or an index: what it refers to are digests, and not more than can be stacked.
pub fn manifest(bytes: &[u8]) {
    if let Ok(digests) = refers_to(bytes) {
        assert!(digests.iter().all(|digest| digest.hex().len() == 64));
    }
}

/// A layer, also a compressed one's content: nothing is made outside of its folder, and no more than the limits.
pub fn layer(bytes: &[u8]) {
    let folder = Scratch::new();
    let root = folder.0.join("outer/root");
    std::fs::create_dir_all(&root).expect("a folder for temporary files");
    let limits = Limits { entries: 1000, bytes: 1 << 20, depth: 32 };
    let size_bytes = unpack(bytes, &root, &limits).unwrap_or(0);
    assert!(size_bytes <= limits.bytes, "{size_bytes}");
    for (outside, entries) in [(folder.0.join("outer"), 1), (folder.0.clone(), 1)] {
        assert_eq!(std::fs::read_dir(&outside).expect("it is still there").count(), entries, "{}", outside.display());
    }
}

/// The file with the user's logins.
pub fn credentials(bytes: &[u8]) {
    if let Ok(Some(helper)) = login::helper_of(bytes, "registry.test") {
        assert!(!helper.contains('/') && !helper.is_empty(), "{helper}");
        // Programs are not run here.
        return;
    }
    if !String::from_utf8_lossy(bytes).contains("cred") {
        let _login = docker_credential::get_credential_from_reader(bytes, "registry.test");
    }
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("wharf-fuzz-{}", wharf::base::id::random_hex(8)));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
