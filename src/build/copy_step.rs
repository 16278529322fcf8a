//! COPY and ADD: what they select, the keys of that, and the layer that it becomes.
//!
//! Files of a build context are usually hashed first, because then most steps are known. A context that nobody has
//! read yet, for a step that was never done on these layers, is hashed while it is copied: each file is read once.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::content::{Findings, digest_files, digest_groups, field};
use super::copier::PARALLEL_ITEMS;
use super::copy::{Manner, copy_groups, copy_inline};
use super::dockerfile::lines::Line;
use super::error::Error;
use super::execute::{Executor, Running, digest, identity};
use super::fetch::{Fetched, fetch, name_of};
use super::git::{GitSource, is_git};
use super::ignore::Patterns;
use super::interpret::{CopyAction, is_url};
use super::plan::Origin;
use super::remote::TemporaryFolder;
use super::select::{Group, SelectError, Wish, select};
use super::target::Target;
use super::tree::Tree;
use crate::base::id::Digest;
use crate::image::ALIAS;
use crate::store::StepRecord;

impl Executor<'_> {
    /// Copies, or takes the layer that is remembered.
    pub(super) fn copy_step(&self, running: &Running<'_>, action: &CopyAction) -> Result<(StepRecord, bool), Error> {
        let line = &running.step.line;
        let (mut key, cheap) = self.copy_keys(running, action);
        if let Some(cheap) = &cheap
            && let Some(record) = self.remembered(running, cheap)?
        {
            return Ok((record, true));
        }
        let mut remote = self.remote_sources(line, action, &mut key)?;
        let (source, mut groups) = self.selected(line, action)?;
        let tree = source.get(self)?;
        let cache = match &source {
            Source::Context => Some(&self.context()?.cache),
            _ => None,
        };
        let mut copy = |groups: &[Group], findings: &Findings| {
            self.fill(running, |target, below| {
                let owner = action.chown.as_ref().map(|user| self.owner(line, below, user)).transpose()?;
                let unpack = action.unpack.unwrap_or(action.add);
                let manner = Manner { destination: &action.destination, owner, chmod: action.chmod.as_ref(), unpack };
                let fail = |error| self.copy_error(line, error);
                copy_groups(target, tree, groups, &manner, findings).map_err(fail)?;
                for source in &mut remote {
                    self.copy_remote(line, action, source, target, &manner)?;
                }
                for (name, content) in &action.inline {
                    let now_ns = jiff::Timestamp::now().as_nanosecond();
                    copy_inline(target, name, &mut content.as_bytes(), &manner, None, now_ns).map_err(fail)?;
                }
                Ok(())
            })
        };
        let mut made = None;
        match self.unread(running, action, &source, &groups, &key)? {
            Some(hint) => {
                let findings = Findings::with_digests();
                let writer = copy(&groups, &findings)?;
                findings.give_digests(&mut groups, cache);
                self.store.cache().remember(&hint)?;
                made = Some((writer, findings));
            }
            None => digest_files(tree, &mut groups, cache)?,
        }
        key.update(digest_groups(&groups));
        let key = digest(key);
        let mut result = self.cached_or(running, &key, || {
            let (writer, findings) = match made {
                Some(made) => made,
                None => {
                    let findings = Findings::default();
                    (copy(&groups, &findings)?, findings)
                }
            };
            Ok((self.commit(writer)?, !findings.has_changed()))
        })?;
        if let Some(cheap) = cheap {
            let data = serde_json::json!({ ALIAS: result.0.key });
            self.store.cache().remember(&StepRecord { key: cheap.clone(), data, ..result.0.clone() })?;
            // Who exports it writes both keys.
            result.0.data = serde_json::json!({ ALIAS: cheap });
        }
        Ok(result)
    }

    /// The key of what the step itself says, to which its files are added; and the cheap key, for which nothing in the
    /// other tree needs to be looked at.
    pub(super) fn copy_keys(&self, running: &Running<'_>, action: &CopyAction) -> (Sha256, Option<Digest>) {
        let mut key = self.key(running, if action.add { "add" } else { "copy" });
        field(&mut key, action.destination.as_bytes());
        field(&mut key, action.chown.as_deref().unwrap_or("").as_bytes());
        field(&mut key, format!("{:?} {:?}", action.chmod, action.unpack).as_bytes());
        for (name, content) in &action.inline {
            field(&mut key, name.as_bytes());
            field(&mut key, content.as_bytes());
        }
        let cheap = match &action.origin {
            Some(origin @ (Origin::Stage(_) | Origin::Image(_))) => {
                let mut cheap = key.clone();
                field(&mut cheap, identity(&self.layers_of(origin)).as_bytes());
                field(&mut cheap, format!("{:?} {} {:?}", action.sources, action.parents, action.exclude).as_bytes());
                Some(digest(cheap))
            }
            _ => None,
        };
        (key, cheap)
    }

    /// The key of a step that copies files of the host, which are hashed.
    pub(super) fn key_of_files(&self, running: &Running<'_>, action: &CopyAction) -> Result<Digest, Error> {
        let (mut key, _) = self.copy_keys(running, action);
        let (source, mut groups) = self.selected(&running.step.line, action)?;
        let cache = match &source {
            Source::Context => Some(&self.context()?.cache),
            _ => None,
        };
        digest_files(source.get(self)?, &mut groups, cache)?;
        key.update(digest_groups(&groups));
        Ok(digest(key))
    }

    /// Whether files are to be hashed while they are copied: many of them, none hashed before, for a step that cannot
    /// be remembered. Returns what lets the next build know that it can.
    fn unread(
        &self,
        running: &Running<'_>,
        action: &CopyAction,
        source: &Source,
        groups: &[Group],
        key: &Sha256,
    ) -> Result<Option<StepRecord>, Error> {
        let items = || groups.iter().flat_map(|group| &group.items);
        // What ADD unpacks is read by another way.
        if !matches!(source, Source::Context) || action.add || items().count() < PARALLEL_ITEMS {
            return Ok(None);
        }
        let cache = &self.context()?.cache;
        if !self.sources.is_empty() || items().any(|item| cache.knows(&item.source)) {
            return Ok(None);
        }
        let mut hint = key.clone();
        field(&mut hint, format!("unread {:?} {} {:?}", action.sources, action.parents, action.exclude).as_bytes());
        let hint = digest(hint);
        if !self.is_forgetful(running) && self.store.cache().step(&hint)?.is_some() {
            return Ok(None);
        }
        Ok(Some(StepRecord {
            key: hint,
            description: running.step.title.clone(),
            created: jiff::Timestamp::now(),
            layers: Vec::new(),
            data: serde_json::Value::Null,
        }))
    }

    /// What ADD fetches, with what the step's key has to know of it. What a checksum names is not fetched yet.
    fn remote_sources(&self, line: &Line, action: &CopyAction, key: &mut Sha256) -> Result<Vec<Remote>, Error> {
        let mut remote = Vec::new();
        for text in &action.sources {
            if is_git(text) {
                let fail = |error| Error::Git { mark: line.mark_of(text), address: text.clone(), source: error };
                let mut source = GitSource::parse(text).map_err(fail)?;
                source.keep_git_dir = action.keep_git_dir.or(source.keep_git_dir);
                source.checksum = action.checksum.clone().or(source.checksum);
                let commit = source.remote_commit().map_err(fail)?.unwrap_or_default();
                field(key, format!("{source:?} {commit}").as_bytes());
                remote.push(Remote::Git(source, text.clone()));
            } else if is_url(text) {
                let checksum = action.checksum.as_deref().map(|text| {
                    text.parse::<Digest>().map_err(|_| {
                        line.error(text, format!("`{text}` is not a checksum (sha256: and 64 hexadecimal digits)"))
                    })
                });
                let checksum = checksum.transpose()?;
                let file = match &checksum {
                    Some(_) => None,
                    None => Some(self.fetch(line, text, None)?),
                };
                let digest = file.as_ref().map(|file| &file.digest).or(checksum.as_ref());
                field(key, digest.map_or("", Digest::as_str).as_bytes());
                field(key, name_of(text).as_bytes());
                remote.push(Remote::Url { url: text.clone(), checksum, file });
            }
        }
        Ok(remote)
    }

    fn fetch(&self, line: &Line, url: &str, checksum: Option<&Digest>) -> Result<Fetched, Error> {
        fetch(self.store, url, checksum, &self.request.secrets).map_err(|source| Error::Fetch {
            mark: line.mark_of(url),
            url: url.to_owned(),
            source,
        })
    }

    fn copy_remote(
        &self,
        line: &Line,
        action: &CopyAction,
        source: &mut Remote,
        target: &mut Target<'_>,
        manner: &Manner<'_>,
    ) -> Result<(), Error> {
        match source {
            Remote::Url { url, checksum, file } => {
                let fetched = match file.take() {
                    Some(file) => file,
                    None => self.fetch(line, url, checksum.as_ref())?,
                };
                let manner = Manner { unpack: action.unpack.unwrap_or(false), ..*manner };
                fetched.copy(target, &manner).map_err(|error| self.copy_error(line, error))
            }
            Remote::Git(source, text) => {
                let folder = TemporaryFolder::new(self.store)?;
                let checkout = source.fetch(folder.path()).map_err(|error| Error::Git {
                    mark: line.mark_of(text),
                    address: text.clone(),
                    source: error,
                })?;
                let tree = Tree::folder(&checkout.folder)?;
                let none = Patterns::default();
                let exclude = self.excluded(line, action)?;
                let sources = ["/".to_owned()];
                let wish =
                    Wish { sources: &sources, parents: false, exclude: &exclude, ignore: &none, keep_owner: false };
                let mut groups = select(&tree, &wish).map_err(|error| self.select_error(line, action, error))?;
                // The commit's time, so that the same commit makes the same layer.
                let mtime_ns = i128::from(checkout.time_seconds) * 1_000_000_000;
                groups.iter_mut().flat_map(|group| &mut group.items).for_each(|item| item.meta.mtime_ns = mtime_ns);
                let manner = Manner { unpack: false, ..*manner };
                let findings = Findings::default();
                copy_groups(target, &tree, &groups, &manner, &findings).map_err(|error| self.copy_error(line, error))
            }
        }
    }

    fn excluded(&self, line: &Line, action: &CopyAction) -> Result<Patterns, Error> {
        Patterns::new(action.exclude.iter().map(String::as_str)).map_err(|(pattern, reason)| {
            line.error(&pattern, format!("the pattern `{pattern}` is malformed: {reason}"))
        })
    }

    fn selected(&self, line: &Line, action: &CopyAction) -> Result<(Source, Vec<Group>), Error> {
        let local: Vec<String> =
            action.sources.iter().filter(|source| !is_url(source) && !is_git(source)).cloned().collect();
        let exclude = self.excluded(line, action)?;
        let ignore = match &action.origin {
            // A named context has an ignore file of its own.
            Some(Origin::Folder(path)) => Patterns::of_build(path, None)?,
            _ => Patterns::default(),
        };
        let source = match &action.origin {
            None if local.is_empty() => return Ok((Source::None, Vec::new())),
            None => Source::Context,
            Some(Origin::Folder(path)) => Source::Tree(Tree::folder(path)?),
            Some(origin) => Source::Tree(self.tree(&self.made_layers_of(origin)?)?),
        };
        let from_host = matches!(action.origin, None | Some(Origin::Folder(_)));
        let wish = Wish {
            sources: &local,
            parents: action.parents,
            exclude: &exclude,
            ignore: if action.origin.is_none() { &self.ignore } else { &ignore },
            keep_owner: !from_host,
        };
        let tree = source.get(self)?;
        let groups = select(tree, &wish).map_err(|error| self.select_error(line, action, error))?;
        Ok((source, groups))
    }

    fn select_error(&self, line: &Line, action: &CopyAction, error: SelectError) -> Error {
        let SelectError::Missing { path, ignored } = &error else {
            return Error::Copy { mark: line.mark_of(""), source: Box::new(error), hint: None };
        };
        let place = match &action.origin {
            None => format!("the build context {}", self.request.context.display()),
            Some(Origin::Stage(index)) => format!("the stage {}", self.plan.stages[*index].label),
            Some(Origin::Image(reference)) => format!("the image {reference}"),
            Some(Origin::Folder(path)) => path.display().to_string(),
            Some(Origin::Remote(address)) => address.clone(),
            Some(Origin::Scratch) => "scratch".into(),
        };
        let dockerfile = match &self.request.dockerfile {
            super::request::DockerfileSource::Path(path) => Some(path.as_path()),
            super::request::DockerfileSource::Inline(_) => None,
        };
        let hint = if *ignored {
            let file = super::ignore::ignore_file(&self.request.context, dockerfile);
            format!("it exists, but {} hides it", file.display())
        } else {
            format!("paths are relative to {place}")
        };
        Error::Copy { mark: line.mark_of(path), source: Box::new(error), hint: Some(hint) }
    }

    /// The digest of a part of the build context, for a mount.
    pub fn context_digest(&self, line: &Line, source: &str) -> Result<[u8; 32], Error> {
        let (source, mut groups) = self.selected(line, &CopyAction::of_context(source))?;
        digest_files(source.get(self)?, &mut groups, Some(&self.context()?.cache))?;
        Ok(digest_groups(&groups))
    }

    /// Copies what is at `source` of another stage, an image or a folder into `folder`, which is empty.
    pub fn copy_origin(&self, line: &Line, origin: &Origin, source: &str, folder: &Path) -> Result<(), Error> {
        let action = CopyAction { origin: Some(origin.clone()), ..CopyAction::of_context(source) };
        self.copy_selected(line, &action, folder)
    }

    /// Copies a part of the build context, without what is ignored, to the same place below `folder`.
    pub fn copy_context(&self, line: &Line, source: &str, folder: &Path) -> Result<(), Error> {
        let mut action = CopyAction::of_context(source);
        // With its parents, so that it lies where it lies in the context.
        action.parents = true;
        if super::interpret::clean(source) == "/" {
            action.parents = false;
        }
        self.copy_selected(line, &action, folder)
    }

    /// Copies what `action` selects into `folder`, which is empty, with the owners and modes that it has.
    fn copy_selected(&self, line: &Line, action: &CopyAction, folder: &Path) -> Result<(), Error> {
        let (files, groups) = self.selected(line, action)?;
        let nothing = self.tree(&[])?;
        let mut target = Target::new(folder, &nothing)?;
        let manner = Manner { destination: "/", owner: None, chmod: None, unpack: false };
        copy_groups(&mut target, files.get(self)?, &groups, &manner, &Findings::default())
            .map_err(|error| self.copy_error(line, error))?;
        Ok(target.finish()?)
    }
}

/// Something that ADD fetches.
enum Remote {
    /// A repository, and what the Dockerfile calls it.
    Git(GitSource, String),
    /// A file; fetched already unless its checksum says what it is.
    Url { url: String, checksum: Option<Digest>, file: Option<Fetched> },
}

/// Where the files of a COPY are.
enum Source {
    None,
    Context,
    Tree(Tree),
}

impl Source {
    fn get<'s>(&'s self, executor: &'s Executor<'_>) -> Result<&'s Tree, Error> {
        match self {
            Self::Tree(tree) => Ok(tree),
            Self::Context | Self::None => Ok(&executor.context()?.tree),
        }
    }
}
