//! `ADD https://…` and remote contexts: one file, set aside below the store's `tmp/`, its digest checked.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#add>, BuildKit `source/http`.

use std::collections::BTreeMap;

use super::copy::{CopyError, Manner, copy_file};
use super::request::SecretSource;
use super::target::Target;
use crate::base::id::Digest;
use crate::image;
use crate::store::{BlobWriter, Store};

/// Mode of fetched files.
const MODE: u32 = 0o600;
/// Largest file that is fetched.
const BYTES_MAX: u64 = 64 << 30;
/// What a file is called whose URL has no name.
const UNNAMED: &str = "__unnamed__";

/// Why a URL cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server, or the way to it.
    #[error(transparent)]
    Download(#[from] image::Error),
    /// The content is another one.
    #[error("its digest is {actual}, not {expected}")]
    Checksum {
        /// What the Dockerfile says.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A secret with a header cannot be read.
    #[error(transparent)]
    File(#[from] crate::base::fs::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
}

/// A fetched file.
#[derive(Debug)]
pub struct Fetched {
    /// Its name.
    pub name: String,
    /// Digest of its content.
    pub digest: Digest,
    /// When it was last changed, seconds since 1970; 0 when the server does not say.
    pub modified_seconds: i64,
    file: BlobWriter,
}

impl Fetched {
    /// Writes it into a layer.
    pub fn copy(&self, target: &mut Target<'_>, manner: &Manner<'_>) -> Result<(), CopyError> {
        let mtime_ns = i128::from(self.modified_seconds) * 1_000_000_000;
        copy_file(target, &self.name, self.open()?, manner, MODE, mtime_ns)
    }

    /// Its content.
    pub fn open(&self) -> Result<std::fs::File, CopyError> {
        Ok(self.file.reader().map_err(Box::new)?)
    }
}

/// Fetches a URL; `secrets` may hold `HTTP_AUTH_HEADER_<host>` or `HTTP_AUTH_TOKEN_<host>`.
pub fn fetch(
    store: &Store,
    url: &str,
    checksum: Option<&Digest>,
    secrets: &BTreeMap<String, SecretSource>,
) -> Result<Fetched, FetchError> {
    let mut file = store.blobs().begin()?;
    let headers = authorization(url, secrets)?;
    let downloaded = image::download(url, &headers, BYTES_MAX, &mut file)?;
    let digest = file.digest();
    if let Some(expected) = checksum.filter(|expected| **expected != digest) {
        return Err(FetchError::Checksum { expected: expected.clone(), actual: digest });
    }
    Ok(Fetched { name: name_of(url), digest, modified_seconds: downloaded.modified_seconds.unwrap_or(0), file })
}

/// The name that the file of a URL gets: the last component of its path.
pub fn name_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let name = super::interpret::clean(path);
    match name.rsplit('/').next().filter(|name| !name.is_empty()) {
        Some(name) => super::git::percent_decoded(&name.replace('+', "%2B"))
            .filter(|name| !name.contains(['/', '\0']) && name != "." && name != "..")
            .unwrap_or_else(|| name.to_owned()),
        None => UNNAMED.into(),
    }
}

fn authorization(
    url: &str,
    secrets: &BTreeMap<String, SecretSource>,
) -> Result<Vec<(String, String)>, crate::base::fs::Error> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    for (prefix, scheme) in [("HTTP_AUTH_HEADER_", ""), ("HTTP_AUTH_TOKEN_", "Bearer ")] {
        if let Some(secret) = secrets.get(&format!("{prefix}{host}")) {
            let content = secret.read()?;
            let text = String::from_utf8_lossy(&content);
            return Ok(vec![("authorization".into(), format!("{scheme}{}", text.trim()))]);
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn names_are_the_last_component_of_the_path() {
        for (url, name) in [
            ("https://h/a/b.txt?x=/y#z", "b.txt"),
            ("https://h", "__unnamed__"),
            ("https://h/?q", "__unnamed__"),
            ("https://h/a%20b", "a b"),
            ("https://h/a%2Fb", "a%2Fb"),
            ("https://h/a+b/", "a+b"),
            ("https://h/a/..", "__unnamed__"),
        ] {
            assert_eq!(name_of(url), name, "{url}");
        }
    }
}
