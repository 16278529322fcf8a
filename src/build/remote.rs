//! Build contexts that are not a folder of this host: git repositories, archives of a web server or of a stream.
//!
//! Each is put into a folder below the store's `tmp/` and is gone with its [`RemoteContext`]; what a killed build
//! leaves is swept with everything else there. A stream or a file that is no archive is the Dockerfile itself.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::DOCKERFILE_BYTES_MAX;
use super::archive::unpack_if_archive;
use super::error::Error;
use super::fetch::{FetchError, fetch};
use super::git::{GitSource, is_git};
use super::request::SecretSource;
use super::target::Target;
use super::tree::Tree;
use crate::base::fs;
use crate::store::Store;

/// A context that was fetched.
#[derive(Debug)]
pub struct RemoteContext {
    /// Its files.
    pub folder: PathBuf,
    /// The Dockerfile's text, when that is what came.
    pub dockerfile: Option<String>,
    /// The time of its commit, seconds since 1970, for a git repository.
    pub time_seconds: Option<i64>,
    _root: TemporaryFolder,
}

impl RemoteContext {
    /// The path of a file of the context, which must not lie outside of it whatever its links say.
    pub fn file(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.folder.join(name.trim_start_matches('/'));
        let Ok(real) = path.canonicalize() else { return Err(Error::DockerfileMissing { path }) };
        match self.folder.canonicalize() {
            Ok(folder) if real.starts_with(&folder) => Ok(real),
            _ => Err(Error::DockerfileMissing { path }),
        }
    }
}

/// A folder that is removed with its value.
#[derive(Debug)]
pub(super) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    pub(super) fn new(store: &Store) -> Result<Self, Error> {
        let path = store.temporary_path()?;
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What stays is swept once this process is gone.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Whether a text names a context that has to be fetched.
pub fn is_remote(text: &str) -> bool {
    is_git(text) || text.starts_with("http://") || text.starts_with("https://") || text.starts_with("github.com/")
}

/// Fetches the context at an address.
///
/// Errors: `Context` with what git, the server or the archive's reader said.
pub fn fetch_context(
    store: &Store,
    address: &str,
    secrets: &BTreeMap<String, SecretSource>,
) -> Result<RemoteContext, Error> {
    store.sweep_leftovers()?;
    let fail = |reason: String| Error::Context { name: address.to_owned(), reason };
    let root = TemporaryFolder::new(store)?;
    if is_git(address) || address.starts_with("github.com/") {
        let source = GitSource::parse(address).map_err(|error| fail(told(&error)))?;
        let checkout = source.fetch(root.path()).map_err(|error| fail(told(&error)))?;
        let time_seconds = Some(checkout.time_seconds);
        return Ok(RemoteContext { folder: checkout.folder, dockerfile: None, time_seconds, _root: root });
    }
    let file = fetch(store, address, None, secrets).map_err(|error: FetchError| fail(told(&error)))?;
    let content = file.open().map_err(|error| fail(told(&error)))?;
    unpacked(store, root, content, &fail)
}

/// Reads a context from a stream: an archive, also compressed, or a Dockerfile.
pub fn read_context(store: &Store, stream: &mut dyn Read) -> Result<RemoteContext, Error> {
    store.sweep_leftovers()?;
    let fail = |reason: String| Error::Context { name: "-".into(), reason };
    let mut file = store.blobs().begin()?;
    std::io::copy(stream, &mut file).and_then(|_| file.flush()).map_err(|error| fail(error.to_string()))?;
    let content = file.reader()?;
    unpacked(store, TemporaryFolder::new(store)?, content, &fail)
}

fn unpacked(
    store: &Store,
    root: TemporaryFolder,
    mut content: std::fs::File,
    fail: &dyn Fn(String) -> Error,
) -> Result<RemoteContext, Error> {
    let empty = TemporaryFolder::new(store)?;
    let copy = content.try_clone().map_err(|error| fail(error.to_string()))?;
    let below = Tree::folder(empty.path())?;
    let mut target = Target::new(root.path(), &below)?;
    let is_archive = unpack_if_archive(&mut target, copy, Path::new(""), None).map_err(|error| fail(told(&error)))?;
    target.finish()?;
    let folder = root.path().to_owned();
    if is_archive {
        return Ok(RemoteContext { folder, dockerfile: None, time_seconds: None, _root: root });
    }
    use std::io::Seek;
    let mut text = Vec::new();
    content.rewind().map_err(|error| fail(error.to_string()))?;
    content.take(DOCKERFILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| fail(error.to_string()))?;
    if text.len() as u64 > DOCKERFILE_BYTES_MAX {
        return Err(fail("it is neither an archive nor small enough to be a Dockerfile".into()));
    }
    let dockerfile = Some(String::from_utf8_lossy(&text).into_owned());
    Ok(RemoteContext { folder, dockerfile, time_seconds: None, _root: root })
}

/// An error with its causes in one line.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
