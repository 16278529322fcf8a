//! Compose files from elsewhere: `oci://…` and git repositories, on the command line, in `include` and in `extends`.
//!
//! The loader knows no network. Whoever loads gives it a [`Remote`], which brings the files of an address to a folder
//! of this machine; from there on they are files as any.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use super::node::Span;
use super::progress::Load;
use crate::model::git::is_git;

/// How addresses of artifacts in registries begin.
pub const OCI: &str = "oci://";

/// Addresses that one load may name.
const ADDRESSES_MAX: usize = 64;

/// Why an address could not be brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// What is wrong, lower-case, no period.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Brings the main compose file of an address here and returns its path, in a folder with what belongs to it.
type Fetch = dyn Fn(&str) -> Result<PathBuf, Unavailable> + Send + Sync;

/// Brings compose files from elsewhere, each address once.
#[derive(Clone)]
pub struct Remote {
    fetch: Arc<Fetch>,
    known: Arc<Mutex<HashMap<String, PathBuf>>>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote")
    }
}

impl Remote {
    /// One that asks `fetch`, which is told the address as written.
    pub fn new(fetch: impl Fn(&str) -> Result<PathBuf, Unavailable> + Send + Sync + 'static) -> Self {
        Self { fetch: Arc::new(fetch), known: Arc::default() }
    }

    fn get(&self, address: &str) -> Result<PathBuf, Unavailable> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = known.get(address) {
            return Ok(path.clone());
        }
        if known.len() >= ADDRESSES_MAX {
            let message = format!("more than {ADDRESSES_MAX} addresses are included");
            return Err(Unavailable { message, hint: None });
        }
        let path = (self.fetch)(address)?;
        known.insert(address.to_owned(), path.clone());
        Ok(path)
    }
}

/// Whether a path is an address of something that is not on this machine.
pub fn is_address(path: &str) -> bool {
    path.contains("://") || is_git_repository(path)
}

/// Whether an address is one of a git repository.
pub fn is_git_repository(path: &str) -> bool {
    // Without `.git` it may be a folder: Go's sources lie in such.
    is_git(path) || (path.starts_with("github.com/") && path.contains(".git"))
}

/// Brings what the text at `place` names here.
///
/// Errors: another kind of address than [`OCI`] and git's; what the [`Remote`] says, or that there is none.
pub(crate) fn bring(load: &mut Load, address: &str, place: Span) -> Result<PathBuf, Error> {
    let is_known = address.starts_with(OCI) || is_git_repository(address);
    let remote = match (&load.remote, is_known) {
        (Some(remote), true) => remote.clone(),
        (None, true) => return Err(load.fail(place, format!("`{address}` is remote: only files can be used here"))),
        (_, false) => {
            let message = format!("`{address}` is an address that compose files cannot come from");
            return Err(load.fail_with_hint(
                place,
                message,
                Some(format!("use a file, {OCI}REGISTRY/NAME:TAG, or https://HOST/PATH.git#REF:FOLDER")),
            ));
        }
    };
    remote
        .get(address)
        .map_err(|error| load.fail_with_hint(place, format!("cannot get `{address}`: {}", error.message), error.hint))
}
