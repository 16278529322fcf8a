//! What changed, in words.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::base::error::Explain;
use crate::engine;
use crate::model::project::Project;

/// Shows paths as the user knows them.
#[derive(Debug, Clone)]
pub struct Names {
    folder: PathBuf,
}

impl Names {
    /// Relative to the project's folder.
    pub fn of(project: &Project) -> Self {
        Self { folder: super::rules::resolved(&project.working_dir) }
    }

    /// The path, relative where it lies below the project's folder.
    pub fn short(&self, path: &Path) -> String {
        path.strip_prefix(&self.folder).unwrap_or(path).display().to_string()
    }

    /// Several of them, not too many.
    pub fn list<'p>(&self, paths: impl ExactSizeIterator<Item = &'p PathBuf>) -> String {
        let more = paths.len().saturating_sub(3);
        let mut names: Vec<String> = paths.take(3).map(|path| self.short(path)).collect();
        if more > 0 {
            names.push(format!("{more} more"));
        }
        names.join(", ")
    }
}

/// What was done with the files of one container.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Files, links and folders that were written.
    pub copied: usize,
    /// What was removed.
    pub removed: usize,
    /// What could not be.
    pub failed: usize,
}

impl Counts {
    /// `web: synced src/a.py`, `web: synced 12 files, removed 3`.
    pub fn words(self, service: &str, first: Option<String>) -> String {
        match (self.copied, self.removed, first) {
            (1, 0, Some(first)) => format!("{service}: synced {first}"),
            (0, 1, Some(first)) => format!("{service}: removed {first}"),
            (copied, 0, _) => format!("{service}: synced {copied} file{}", plural(copied)),
            (0, removed, _) => format!("{service}: removed {removed} files"),
            (copied, removed, _) => format!("{service}: synced {copied} file{}, removed {removed}", plural(copied)),
        }
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Files that could not be brought into a container.
#[derive(Debug, thiserror::Error)]
#[error("{files} file{} could not be synced into {container}", plural(*files))]
pub struct CopyFailed {
    /// The container.
    pub container: String,
    /// How many.
    pub files: usize,
    /// Why the first one could not.
    #[source]
    pub error: engine::Error,
}

impl Explain for CopyFailed {
    fn hint(&self) -> Option<String> {
        self.error.hint()
    }
}

/// What differs between two readings of a project: `web: environment, ports`, `db is new`.
pub fn differences(old: &Project, new: &Project) -> Vec<String> {
    let mut found = Vec::new();
    for (name, service) in &new.services {
        let Some(before) = old.services.get(name) else {
            found.push(format!("{name} is new"));
            continue;
        };
        let (Some(now), Some(then)) = (service.canonical.as_object(), before.canonical.as_object()) else { continue };
        let keys: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
        let changed: Vec<&str> =
            keys.into_iter().filter(|key| now.get(*key) != then.get(*key)).map(String::as_str).collect();
        if !changed.is_empty() {
            found.push(format!("{name}: {}", changed.join(", ")));
        }
    }
    found.extend(
        old.services.keys().filter(|name| !new.services.contains_key(*name)).map(|name| format!("{name} is gone")),
    );
    if old.networks != new.networks {
        found.push("networks".into());
    }
    if old.volumes != new.volumes {
        found.push("volumes".into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::project::Service;

    #[test]
    fn differences_name_attributes() {
        let project = |services: &[(&str, serde_json::Value)]| Project {
            services: services
                .iter()
                .map(|(name, canonical)| {
                    (name.to_string(), Service { canonical: canonical.clone(), ..Service::default() })
                })
                .collect(),
            ..Project::default()
        };
        let old = project(&[
            ("a", serde_json::json!({"image": "x", "ports": []})),
            ("b", serde_json::json!({"image": "x"})),
            ("c", serde_json::json!({})),
        ]);
        let new = project(&[
            ("a", serde_json::json!({"image": "y", "user": "1"})),
            ("b", serde_json::json!({"image": "x"})),
            ("d", serde_json::json!({})),
        ]);
        assert_eq!(differences(&old, &new), ["a: image, ports, user", "d is new", "c is gone"]);
        assert_eq!(differences(&old, &old), Vec::<String>::new());
    }

    #[test]
    fn few_files_are_named() {
        let words = |copied, removed| Counts { copied, removed, failed: 0 }.words("web", Some("a".into()));
        assert_eq!(words(1, 0), "web: synced a");
        assert_eq!(words(0, 1), "web: removed a");
        assert_eq!(words(2, 0), "web: synced 2 files");
        assert_eq!(words(1, 2), "web: synced 1 file, removed 2");
    }
}
