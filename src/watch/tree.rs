//! What the watched files were like when they were last looked at.
//!
//! Events only say where to look; whether something changed is decided here, by comparing. So a lost event costs
//! a look at everything, a doubled one costs nothing, and polling is looking without events.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::rules::{Change, Rules};

/// What is watched.
#[derive(Debug, Default)]
pub struct Scope {
    /// The rules.
    pub rules: Rules,
    /// Single files that the project was read from; they may be missing.
    pub sources: Vec<PathBuf>,
}

impl Scope {
    /// The paths where watching begins: files, or folders with all below them.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.rules.rules.iter().map(|rule| rule.path.as_path()).chain(self.sources.iter().map(PathBuf::as_path))
    }

    /// Whether `path` is one of the files that the project was read from.
    pub fn is_source(&self, path: &Path) -> bool {
        self.sources.iter().any(|source| source == path)
    }

    fn is_watched(&self, path: &Path) -> bool {
        self.is_source(path) || self.rules.concern(path)
    }
}

/// What decides whether a path is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    is_folder: bool,
    mode: u32,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let file = Self {
            is_folder: metadata.is_dir(),
            mode: metadata.mode(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        // A folder changes with each entry; those are told of by themselves.
        if file.is_folder { Self { size: 0, inode: 0, modified: (0, 0), changed: (0, 0), ..file } } else { file }
    }
}

/// How far a look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The path; below it only when it is a folder that was not known.
    New,
    /// Everything below it.
    All,
}

/// The known state of all watched paths.
#[derive(Debug, Default)]
pub struct Tree {
    stamps: BTreeMap<PathBuf, Stamp>,
}

impl Tree {
    /// Whether something is known at `path`.
    pub fn has(&self, path: &Path) -> bool {
        self.stamps.contains_key(path)
    }

    /// All files (no folders) at and below `path`.
    pub fn files_below<'s>(&'s self, path: &'s Path) -> impl Iterator<Item = Change> + 's {
        self.below(path).filter(|(_, stamp)| !stamp.is_folder).map(|(path, _)| change(path, false))
    }

    /// Compares `path` with what is known of it, and adds what changed. `enter` is called for each folder before it
    /// is listed, so that what happens in it from then on is told.
    pub fn look(
        &mut self,
        path: &Path,
        depth: Depth,
        scope: &Scope,
        enter: &mut dyn FnMut(&Path),
        changes: &mut Vec<Change>,
    ) {
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            let watched = scope.is_watched(&path);
            let enters = scope.rules.may_concern_below(&path);
            if !watched && !enters {
                continue;
            }
            let stamp = match fs::symlink_metadata(&path) {
                Ok(metadata) => Stamp::of(&metadata),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    self.forget(&path, changes);
                    continue;
                }
                // What cannot be read is as it was.
                Err(_) => continue,
            };
            if stamp.is_folder && !enters {
                continue;
            }
            let before = self.stamps.insert(path.clone(), stamp);
            if before.is_some_and(|before| before.is_folder && !stamp.is_folder) {
                self.forget_below(&path, changes);
            }
            if before != Some(stamp) && watched {
                changes.push(change(&path, stamp.is_folder));
            }
            if stamp.is_folder && (depth == Depth::All || before.is_none_or(|before| !before.is_folder)) {
                enter(&path);
                self.list(&path, &mut open, changes);
            }
        }
    }

    /// Puts the content of a folder among the paths to look at, and drops what is no longer in it.
    fn list(&mut self, folder: &Path, open: &mut Vec<PathBuf>, changes: &mut Vec<Change>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        let present: std::collections::BTreeSet<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        let gone: Vec<PathBuf> = self
            .below(folder)
            .map(|(path, _)| path)
            .filter(|path| path.parent() == Some(folder) && !present.contains(*path))
            .cloned()
            .collect();
        for path in gone {
            self.forget(&path, changes);
        }
        open.extend(present);
    }

    fn forget(&mut self, path: &Path, changes: &mut Vec<Change>) {
        if let Some(stamp) = self.stamps.remove(path) {
            changes.push(change(path, stamp.is_folder));
        }
        self.forget_below(path, changes);
    }

    fn forget_below(&mut self, path: &Path, changes: &mut Vec<Change>) {
        let gone: Vec<PathBuf> = self.below(path).map(|(path, _)| path).filter(|gone| *gone != path).cloned().collect();
        for path in gone {
            if let Some(stamp) = self.stamps.remove(&path) {
                changes.push(change(&path, stamp.is_folder));
            }
        }
    }

    fn below<'s>(&'s self, path: &'s Path) -> impl Iterator<Item = (&'s PathBuf, &'s Stamp)> {
        // Paths are compared part by part: all that begins with `path` stands behind it.
        let from = (Bound::Included(path), Bound::Unbounded);
        self.stamps.range::<Path, _>(from).take_while(move |(found, _)| found.starts_with(path))
    }
}

fn change(path: &Path, is_folder: bool) -> Change {
    Change { path: path.to_owned(), is_folder }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::project::Service;

    struct Fixture {
        folder: PathBuf,
        scope: Scope,
        tree: Tree,
    }

    impl Fixture {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("wharf-tree-{name}-{}", std::process::id()));
            drop(fs::remove_dir_all(&folder));
            fs::create_dir_all(folder.join("src/sub")).unwrap();
            fs::write(folder.join("src/sub/a"), "1").unwrap();
            fs::write(folder.join("src/b.swp"), "1").unwrap();
            let folder = folder.canonicalize().unwrap();
            let rule = serde_json::json!({"path": folder.join("src"), "action": "sync", "target": "/app", "ignore": ["*.swp", "skipped"]});
            let develop = serde_json::json!({"watch": [rule]});
            let service = Service { name: "web".into(), develop: Some(develop), ..Service::default() };
            let rules = Rules::of([&service]).unwrap();
            let scope = Scope { rules, sources: vec![folder.join("compose.yaml")] };
            let mut fixture = Self { folder, scope, tree: Tree::default() };
            fixture.changes(Depth::All);
            fixture
        }

        /// What changed since the last look, sorted.
        fn changes(&mut self, depth: Depth) -> Vec<String> {
            let mut changes = Vec::new();
            let roots: Vec<PathBuf> = self.scope.roots().map(Path::to_owned).collect();
            for root in roots {
                self.tree.look(&root, depth, &self.scope, &mut |_| {}, &mut changes);
            }
            let mut names: Vec<_> = changes
                .iter()
                .map(|change| change.path.strip_prefix(&self.folder).unwrap().display().to_string())
                .collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_look_finds_what_changed_and_nothing_else() {
        let mut fixture = Fixture::new("look");
        assert_eq!(fixture.changes(Depth::All), Vec::<String>::new());
        let src = fixture.folder.join("src");
        fs::create_dir_all(src.join("new/deep")).unwrap();
        fs::create_dir_all(src.join("skipped")).unwrap();
        fs::write(src.join("new/deep/file"), "x").unwrap();
        fs::write(src.join("skipped/file"), "x").unwrap();
        fs::write(src.join("c.swp"), "x").unwrap();
        fs::write(src.join("sub/a"), "2").unwrap();
        std::os::unix::fs::symlink("nowhere", src.join("link")).unwrap();
        fs::write(fixture.folder.join("compose.yaml"), "x").unwrap();
        fs::write(fixture.folder.join("other.yaml"), "x").unwrap();
        let expected = ["compose.yaml", "src/link", "src/new", "src/new/deep", "src/new/deep/file", "src/sub/a"];
        assert_eq!(fixture.changes(Depth::All), expected);
        // A folder becomes a file, a file and the rest go.
        fs::remove_dir_all(src.join("new")).unwrap();
        fs::write(src.join("new"), "file").unwrap();
        fs::remove_file(src.join("link")).unwrap();
        fs::remove_dir_all(src.join("sub")).unwrap();
        let gone = ["src/link", "src/new", "src/new/deep", "src/new/deep/file", "src/sub", "src/sub/a"];
        assert_eq!(fixture.changes(Depth::All), gone);
        fs::remove_dir_all(&src).unwrap();
        assert_eq!(fixture.changes(Depth::New), ["src", "src/new"]);
        fs::remove_dir_all(&fixture.folder).unwrap();
    }
}
