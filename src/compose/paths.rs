//! Makes the relative paths of a tree absolute, against the folder that its file counts as being in.
//!
//! Text alone decides, except for `develop.watch`, whose symbolic links are followed so that the watcher's
//! events can be told apart.

use std::path::{Path as FilePath, PathBuf};

use super::node::{Node, Value};
use super::path::{ITEM, Path};
use super::progress::Load;

/// The folders that relative paths start in.
pub(crate) struct Folders<'a> {
    /// For plain relative paths; absolute.
    pub base: &'a FilePath,
    /// For `~`, if it is known.
    pub home: Option<&'a str>,
}

/// Shortens a path by its text: no `.`, `..`, doubled or trailing slashes. Empty becomes `.`.
///
/// Source: Go's `path.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

impl Folders<'_> {
    /// `path` below the base, unless it is absolute.
    pub fn absolute(&self, path: &str) -> String {
        let path = self.expand(path);
        if path.is_empty() || path.starts_with('/') { path } else { self.join(&path) }
    }

    /// As [`Folders::absolute`], but Windows' absolute paths stay and the empty path is the base.
    fn absolute_any(&self, path: &str) -> String {
        let path = self.expand(path);
        if path.starts_with('/') || is_windows_absolute(&path) { path } else { self.join(&path) }
    }

    fn join(&self, path: &str) -> String {
        clean(&format!("{}/{path}", self.base.display()))
    }

    fn expand(&self, path: &str) -> String {
        match (path.strip_prefix('~'), self.home) {
            (Some(rest), Some(home)) => clean(&format!("{home}/{rest}")),
            _ => path.to_owned(),
        }
    }
}

fn is_windows_absolute(path: &str) -> bool {
    let bytes = path.as_bytes();
    let separator = |at: usize| matches!(bytes.get(at), Some(b'/' | b'\\'));
    (separator(0) && separator(1)) || (bytes.get(1) == Some(&b':') && separator(2))
}

/// Makes every path below `root` absolute.
pub(crate) fn resolve(load: &mut Load, root: &mut Node, folders: &Folders<'_>) {
    walk(load, root, Path::default(), folders);
}

fn walk(load: &mut Load, node: &mut Node, path: Path<'_>, folders: &Folders<'_>) {
    match path.segments() {
        ["services", _, rest @ ..] => match rest {
            ["build", "context"] | ["build", "additional_contexts", _] => {
                edit(node, |text| if is_remote(text) { text.to_owned() } else { folders.absolute(text) });
            }
            ["build", "ssh", _] => edit(node, |text| folders.absolute_any(text)),
            ["env_file", ITEM, "path"] | ["label_file", ITEM] | ["extends", "file"] => {
                edit(node, |text| folders.absolute(text));
            }
            ["develop", "watch", ITEM, "path"] => {
                edit(node, |text| follow_links(&folders.absolute(text)));
            }
            ["volumes", ITEM] => bind_source(load, node, folders),
            _ => {}
        },
        ["configs" | "secrets", _, "file"] => edit(node, |text| folders.absolute_any(text)),
        ["volumes", _] => bind_device(node, folders),
        _ => {}
    }
    match &mut node.value {
        Value::Map(map) => {
            for (key, value) in map {
                walk(load, value, path.join(key), folders);
            }
        }
        Value::Sequence(items) => {
            for item in items {
                walk(load, item, path.join(ITEM), folders);
            }
        }
        _ => {}
    }
}

fn edit(node: &mut Node, change: impl FnOnce(&str) -> String) {
    if let Value::Text(text) = &mut node.value {
        *text = change(text);
    }
}

/// Whether a build context is not a folder of this machine.
fn is_remote(context: &str) -> bool {
    context.contains("://") || ["service:", "github.com/", "git@"].iter().any(|prefix| context.starts_with(prefix))
}

fn bind_source(load: &mut Load, node: &mut Node, folders: &Folders<'_>) {
    let place = node.place();
    let Some(map) = node.as_map_mut() else { return };
    if map.get("type").and_then(Node::as_str) != Some("bind") {
        return;
    }
    match map.get_mut("source") {
        Some(source) => edit(source, |text| folders.absolute_any(text)),
        None => load.mistake(place, "a mount of type `bind` needs a `source`".into()),
    }
}

/// A local volume with `o: bind` is a bind mount in disguise.
fn bind_device(node: &mut Node, folders: &Folders<'_>) {
    let is_local = node.get("driver").and_then(Node::as_str) == Some("local");
    let is_bind = node.get_path(&["driver_opts", "o"]).and_then(Node::as_str) == Some("bind");
    if !is_local || !is_bind {
        return;
    }
    let options = node.as_map_mut().and_then(|map| map.get_mut("driver_opts")).and_then(Node::as_map_mut);
    if let Some(device) = options.and_then(|options| options.get_mut("device")) {
        edit(device, |text| folders.absolute_any(text));
    }
}

/// Replaces the first part of the path that is a symbolic link by what it leads to.
fn follow_links(path: &str) -> String {
    let mut current = PathBuf::new();
    let mut parts = FilePath::new(path).components();
    while let Some(part) = parts.next() {
        current.push(part);
        if current.is_symlink() {
            let Ok(real) = std::fs::canonicalize(&current) else { return path.to_owned() };
            let rest = parts.as_path();
            let full = if rest.as_os_str().is_empty() { real } else { real.join(rest) };
            return full.to_string_lossy().into_owned();
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_their_text() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("/a/./b//c/", "/a/b/c"),
            ("/../a", "/a"),
            ("a/../..", ".."),
            ("../a/..", ".."),
            ("./a", "a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn relative_paths_start_in_the_base_and_tilde_is_home() {
        let folders = Folders { base: FilePath::new("/project"), home: Some("/home/me") };
        for (path, expected) in
            [("x", "/project/x"), ("../x", "/x"), ("/x/", "/x/"), ("~/x", "/home/me/x"), ("", ""), (".", "/project")]
        {
            assert_eq!(folders.absolute(path), expected, "{path}");
        }
        assert_eq!(folders.absolute_any("C:\\x"), "C:\\x");
    }
}
