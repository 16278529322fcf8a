//! Which files a COPY means: sources with wildcards, ignore file, `--exclude` and `--parents` -> a list of files.
//!
//! A folder given as a source means its content; a link given as a source means what it points to; links below
//! are copied as links. A wildcard that matches nothing is fine, a plain path that is missing is not.
//!
//! Source: BuildKit `dockerfile2llb/convert_copy.go`, tonistiigi/fsutil `copy/copy.go`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::ignore::{Glob, Patterns, Verdict};
use super::interpret::clean;
use super::tree::{Meta, Tree, look_at, names_in, read_link};
use crate::base::fs::{self, Context};

/// Deepest nesting of folders that is copied.
const DEPTH_MAX: usize = 1000;

/// One file to copy.
#[derive(Debug, Clone)]
pub struct Item {
    /// Resolved path in the tree.
    pub source: PathBuf,
    /// Path below the destination; empty for the source itself.
    pub target: PathBuf,
    /// What it is.
    pub meta: Meta,
    /// Target of a link.
    pub link: Option<PathBuf>,
    /// Digest of content and attributes, once computed.
    pub digest: [u8; 32],
}

/// One source that was found, with all that is below it.
#[derive(Debug)]
pub struct Group {
    /// The last component of the path as typed: a file keeps it when its destination is a folder.
    pub name: std::ffi::OsString,
    /// The source first, folders before what is in them.
    pub items: Vec<Item>,
}

/// What to select.
pub struct Wish<'a> {
    /// Paths, wildcards allowed.
    pub sources: &'a [String],
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: &'a Patterns,
    /// The ignore file of the context; empty for other trees.
    pub ignore: &'a Patterns,
    /// Whether owners are those of the tree; in the build context everything belongs to root.
    pub keep_owner: bool,
}

/// Why nothing can be selected.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// A plain path that does not exist.
    #[error("`{path}` does not exist")]
    Missing {
        /// The path as typed.
        path: String,
        /// Whether it exists but the ignore file hides it.
        ignored: bool,
    },
    /// A wildcard that is malformed.
    #[error("the pattern `{pattern}` is malformed: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: &'static str,
    },
    /// Too many nested folders.
    #[error("`{}` has more than {DEPTH_MAX} nested folders", path.display())]
    Deep {
        /// Where.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] fs::Error),
}

/// Finds the files of all sources, in order.
pub fn select(tree: &Tree, wish: &Wish<'_>) -> Result<Vec<Group>, SelectError> {
    let mut groups = Vec::new();
    for source in wish.sources {
        if wish.parents {
            select_with_parents(tree, wish, source, &mut groups)?;
            continue;
        }
        for path in expand_wildcards(tree, source)? {
            match select_path(tree, wish, &path, None)? {
                Some(group) => groups.push(group),
                None if Glob::is_pattern(source) => {}
                None => {
                    let resolved = tree.resolve(Path::new(&clean(source)), true)?;
                    let ignored = tree.look(&resolved)?.is_some();
                    return Err(SelectError::Missing { path: source.clone(), ignored });
                }
            }
        }
    }
    Ok(groups)
}

/// `--parents`: everything below the root (or the pivot before `/./`) that the rest of the path matches.
fn select_with_parents(tree: &Tree, wish: &Wish<'_>, source: &str, groups: &mut Vec<Group>) -> Result<(), SelectError> {
    let (pivot, rest) = source.split_once("/./").unwrap_or(("/", source));
    let rest = clean(rest);
    let pattern = rest.trim_start_matches('/');
    let include = Patterns::new([pattern]).map_err(|(pattern, reason)| SelectError::Pattern { pattern, reason })?;
    let mut found = false;
    for path in expand_wildcards(tree, pivot)? {
        // The root itself matches `.`, everything in other words.
        let filter = (!pattern.is_empty()).then_some(&include);
        if let Some(group) = select_path(tree, wish, &path, filter)? {
            found |= group.items.len() > 1;
            groups.push(group);
        }
    }
    if !found && !Glob::is_pattern(source) {
        return Err(SelectError::Missing { path: source.to_owned(), ignored: false });
    }
    Ok(())
}

/// The paths that a source means; itself when it has no wildcard. Links are not followed below the first one.
fn expand_wildcards(tree: &Tree, source: &str) -> Result<Vec<PathBuf>, SelectError> {
    let cleaned = clean(source);
    let parts: Vec<&str> = cleaned.split('/').filter(|part| !part.is_empty()).collect();
    let Some(first) = parts.iter().position(|part| Glob::is_pattern(part)) else {
        return Ok(vec![PathBuf::from(&cleaned)]);
    };
    let base = tree.resolve(&parts[..first].iter().collect::<PathBuf>(), true)?;
    let mut open = vec![base];
    for part in &parts[first..] {
        let glob = Glob::new(part).map_err(|reason| SelectError::Pattern { pattern: source.to_owned(), reason })?;
        let mut next = Vec::new();
        for folder in open {
            if !tree.look(&folder)?.is_some_and(|meta| meta.is_folder()) {
                continue;
            }
            let handle = tree.open_folder(&folder)?;
            let names = names_in(handle.as_fd()).context("list", &tree.display(&folder))?;
            next.extend(
                names.iter().filter(|name| glob.matches(&name.to_string_lossy())).map(|name| folder.join(name)),
            );
        }
        open = next;
    }
    Ok(open)
}

/// One source with all that is below it; `None` when there is nothing to see.
fn select_path(
    tree: &Tree,
    wish: &Wish<'_>,
    path: &Path,
    include: Option<&Patterns>,
) -> Result<Option<Group>, SelectError> {
    let source = tree.resolve(path, true)?;
    let Some(meta) = tree.look(&source)? else { return Ok(None) };
    let ignored = !source.as_os_str().is_empty() && wish.ignore.hides(&source.to_string_lossy());
    if ignored && !meta.is_folder() {
        return Ok(None);
    }
    let mut walk = Walk { tree, wish, include, items: Vec::new(), pending: Vec::new() };
    let top =
        Item { link: None, source: source.clone(), target: PathBuf::new(), meta: walk.owned(meta), digest: [0; 32] };
    walk.items.push(top);
    if meta.is_folder() {
        let mut ignore = Verdict::default();
        let text = source.to_string_lossy();
        if !text.is_empty() {
            for (index, _) in text.match_indices('/') {
                ignore = wish.ignore.judge(&text[..index], &ignore);
            }
            ignore = wish.ignore.judge(&text, &ignore);
        }
        let handle = tree.open_folder(&source)?;
        let verdicts = Verdicts { ignore, include: Verdict::default(), exclude: Verdict::default() };
        walk.folder(handle.as_fd(), &source, Path::new(""), &verdicts, 0)?;
    }
    if ignored && walk.items.len() == 1 {
        return Ok(None);
    }
    let name = path.file_name().unwrap_or(OsStr::new("")).to_owned();
    Ok(Some(Group { name, items: walk.items }))
}

struct Verdicts {
    ignore: Verdict,
    include: Verdict,
    exclude: Verdict,
}

struct Walk<'a> {
    tree: &'a Tree,
    wish: &'a Wish<'a>,
    include: Option<&'a Patterns>,
    items: Vec<Item>,
    /// Folders that are copied only if something in them is.
    pending: Vec<Item>,
}

impl Walk<'_> {
    fn owned(&self, meta: Meta) -> Meta {
        if self.wish.keep_owner { meta } else { Meta { uid: 0, gid: 0, ..meta } }
    }

    fn folder(
        &mut self,
        handle: BorrowedFd<'_>,
        source: &Path,
        target: &Path,
        above: &Verdicts,
        depth: usize,
    ) -> Result<(), SelectError> {
        if depth > DEPTH_MAX {
            return Err(SelectError::Deep { path: self.tree.display(source) });
        }
        for name in names_in(handle).context("list", &self.tree.display(source))? {
            let (source, target) = (source.join(&name), target.join(&name));
            let meta = look_at(handle, Path::new(&name)).context("look at", &self.tree.display(&source))?;
            // A file that vanished while the folder was read was not there.
            let Some(meta) = meta else { continue };
            if meta.is_folder() {
                self.subfolder(handle, &name, source, target, meta, above, depth)?;
            } else if self.wants(&source, &target, above) && meta.kind != FileType::Socket {
                let link = (meta.kind == FileType::Symlink)
                    .then(|| read_link(handle, Path::new(&name)).context("read", &self.tree.display(&source)))
                    .transpose()?;
                let meta = self.owned(meta);
                self.take(Item { source, target, meta, link, digest: [0; 32] });
            }
        }
        Ok(())
    }

    fn wants(&self, source: &Path, target: &Path, above: &Verdicts) -> bool {
        // Most builds have no such patterns: no text is made for nothing.
        let hidden = |patterns: &Patterns, path: &Path, above: &Verdict| {
            !patterns.is_empty() && patterns.hides_in(&path.to_string_lossy(), above)
        };
        !hidden(self.wish.ignore, source, &above.ignore)
            && !hidden(self.wish.exclude, target, &above.exclude)
            && self.include.is_none_or(|include| hidden(include, target, &above.include))
    }

    fn take(&mut self, item: Item) {
        self.items.append(&mut self.pending);
        self.items.push(item);
    }

    #[allow(clippy::too_many_arguments, reason = "one call, and all of it is about one folder")]
    fn subfolder(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        source: PathBuf,
        target: PathBuf,
        meta: Meta,
        above: &Verdicts,
        depth: usize,
    ) -> Result<(), SelectError> {
        let judge = |patterns: &Patterns, path: &Path, above: &Verdict| {
            if patterns.is_empty() { Verdict::default() } else { patterns.judge(&path.to_string_lossy(), above) }
        };
        let verdicts = Verdicts {
            ignore: judge(self.wish.ignore, &source, &above.ignore),
            exclude: judge(self.wish.exclude, &target, &above.exclude),
            include: self.include.map_or(Verdict::default(), |include| judge(include, &target, &above.include)),
        };
        let (source_text, target_text) = (source.to_string_lossy(), target.to_string_lossy());
        let hidden = verdicts.ignore.hidden || verdicts.exclude.hidden;
        if (verdicts.ignore.hidden && !self.wish.ignore.may_show_below(&source_text))
            || (verdicts.exclude.hidden && !self.wish.exclude.may_show_below(&target_text))
        {
            return Ok(());
        }
        let included = self.include.is_none() || verdicts.include.hidden;
        if !included && !self.include.is_some_and(|include| include.may_hide_below(&target_text)) {
            return Ok(());
        }
        let item = Item {
            source: source.clone(),
            target: target.clone(),
            meta: self.owned(meta),
            link: None,
            digest: [0; 32],
        };
        let waits = hidden || !included;
        let mark = self.pending.len();
        if waits {
            self.pending.push(item);
        } else {
            self.take(item);
        }
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle =
            rustix::fs::openat(parent, name, flags, Mode::empty()).context("open", &self.tree.display(&source))?;
        self.folder(handle.as_fd(), &source, &target, &verdicts, depth + 1)?;
        // Nothing in it was taken: it is not either.
        self.pending.truncate(mark);
        Ok(())
    }
}
