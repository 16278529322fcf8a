//! An image from one repository to another, as it is: every platform, the same digests.

use std::fs::File;
use std::io::Write;

use serde::Deserialize;
use sha2::Digest as _;

use super::artifact::ArtifactOptions;
use super::online::with_client;
use super::registry::{Client, Config, Timing};
use super::{Error, Result};
use crate::base::fs::Context as _;
use crate::base::id::Digest;
use crate::model::reference::Reference;

/// Manifests of one image, over its platforms and what describes them.
const MANIFESTS_MAX: usize = 256;

/// An image that is in the other repository now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Media type of its manifest or index.
    pub media_type: String,
    /// Digest of that.
    pub digest: Digest,
    /// Its size in bytes.
    pub size_bytes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Blob>,
    #[serde(default)]
    layers: Vec<Blob>,
    #[serde(default)]
    manifests: Vec<Blob>,
}

#[derive(Deserialize)]
struct Blob {
    digest: String,
    size: u64,
    /// Layers that may not be redistributed lie elsewhere.
    #[serde(default)]
    urls: Vec<String>,
}

/// Copies what `source` means in its registry into the repository of `target`, without a tag.
///
/// Blobs go through a nameless temporary file where the registry cannot take them over itself.
pub fn copy_image(source: &Reference, target: &Reference, options: ArtifactOptions) -> Result<Copied> {
    with_client(target, options.insecure, async |to| {
        let config = Config::read()?;
        let from = Client::for_reference(source, &config, Timing::default())?.pop();
        let from = from.ok_or_else(|| Error::UnknownImage { reference: source.to_string() })?;
        let mountable = (source.registry == target.registry).then_some(source.repository.as_str());
        let top = from.manifest(source, source.manifest_name()).await?;
        // Depth first: a manifest is put when everything that it names is there.
        let mut waiting = vec![(top.digest.clone(), top.content, false)];
        let (mut result, mut count) = (None, 0);
        while let Some((digest, content, ready)) = waiting.pop() {
            count += 1;
            if count > 2 * MANIFESTS_MAX {
                return Err(Error::Unsupported { what: format!("{source} has more than {MANIFESTS_MAX} manifests") });
            }
            let document: Document = serde_json::from_slice(&content)
                .map_err(|source| Error::Document { what: "manifest".into(), source })?;
            if !ready && !document.manifests.is_empty() {
                waiting.push((digest, content, true));
                for inner in document.manifests {
                    let digest = parse(&inner.digest)?;
                    let fetched = from.manifest(source, digest.as_str()).await?;
                    waiting.push((digest, fetched.content, false));
                }
                continue;
            }
            for blob in document.config.iter().chain(&document.layers).filter(|blob| blob.urls.is_empty()) {
                copy_blob(&from, &to, &parse(&blob.digest)?, blob.size, mountable).await?;
            }
            let kind = if document.manifests.is_empty() { "manifest" } else { "index" };
            let media_type = document.media_type.unwrap_or_else(|| format!("application/vnd.oci.image.{kind}.v1+json"));
            to.put_manifest(digest.as_str(), &media_type, &content).await?;
            result = Some(Copied { media_type, digest, size_bytes: content.len() as u64 });
        }
        result.ok_or_else(|| Error::UnknownImage { reference: source.to_string() })
    })
}

fn parse(digest: &str) -> Result<Digest> {
    digest.parse().map_err(|_| Error::Unsupported { what: format!("`{digest}` is not a sha256 digest") })
}

async fn copy_blob(from: &Client, to: &Client, digest: &Digest, size: u64, mountable: Option<&str>) -> Result<()> {
    if to.has_or_mounts(digest, mountable).await? {
        return Ok(());
    }
    let file = download(from, digest, size).await?;
    to.upload(digest, &file, size, &[], &|_| {}).await?;
    Ok(())
}

/// Downloads a blob into a file without a name and verifies it.
async fn download(from: &Client, digest: &Digest, size: u64) -> Result<File> {
    let wrong = |reason| Error::WrongContent { digest: digest.clone(), reason };
    let folder = std::env::temp_dir();
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let mut file = File::from(rustix::fs::open(&folder, flags, mode).context("create a file in", &folder)?);
    let (mut written, mut attempt, mut hasher) = (0_u64, 1, sha2::Sha256::new());
    loop {
        let error = match from.stream(digest, written).await {
            Ok((mut response, begins)) => {
                if begins != written {
                    rustix::fs::ftruncate(&file, 0).context("shorten a file in", &folder)?;
                    std::io::Seek::rewind(&mut file).context("rewind a file in", &folder)?;
                    (written, hasher) = (0, sha2::Sha256::new());
                }
                loop {
                    match from.chunk(&mut response).await {
                        Ok(None) => break None,
                        Ok(Some(chunk)) => {
                            written += chunk.as_ref().len() as u64;
                            if written > size {
                                return Err(wrong("it is larger than the manifest says"));
                            }
                            hasher.update(chunk.as_ref());
                            file.write_all(chunk.as_ref()).context("write a file in", &folder)?;
                            attempt = 1;
                        }
                        Err(error) => break Some(error),
                    }
                }
            }
            Err(error) => Some(error),
        };
        match error {
            None if written == size => break,
            None => return Err(wrong("it is smaller than the manifest says")),
            Some(error) if attempt < from.timing().attempts && error.passes() => {
                from.pause(attempt, &error).await;
                attempt += 1;
            }
            Some(error) => return Err(error),
        }
    }
    if Digest::from_sha256(&hasher.finalize()) != *digest {
        return Err(wrong("it has another digest"));
    }
    Ok(file)
}
