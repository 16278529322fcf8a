//! Requests that change a registry: uploads and manifests.
//!
//! Source: distribution spec, "Push".

use std::fs::File;
use std::os::unix::fs::FileExt;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::client::{Client, passes};
use crate::base::id::Digest;
use crate::image::{Error, Result};

/// Bytes of one request of an upload: enough for object stores behind registries, few enough to hold in memory.
const CHUNK_BYTES: u64 = 8 << 20;

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Upload {
    /// It was there.
    Exists,
    /// It was taken from another repository of the registry.
    Mounted,
    /// It was sent.
    Sent,
}

impl Client {
    /// Makes sure that the repository has a blob. `others` are repositories of this registry that may have it.
    /// `sent` is told how many bytes have gone.
    pub(in crate::image) async fn upload(
        &self,
        digest: &Digest,
        file: &File,
        size_bytes: u64,
        others: &[String],
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<Upload> {
        if self.has_blob(digest).await? {
            return Ok(Upload::Exists);
        }
        for other in others {
            let url = self.url(&format!("{}/blobs/uploads/?mount={digest}&from={other}", self.repository()))?;
            let response = self.change(Method::POST, &url, &empty_body(), Vec::new()).await?;
            match response.status() {
                StatusCode::CREATED => return Ok(Upload::Mounted),
                StatusCode::ACCEPTED => {
                    let place = self.location(&response, &url)?;
                    self.send_chunks(place, digest, file, size_bytes, sent).await?;
                    return Ok(Upload::Sent);
                }
                // Not allowed to read there: it is sent instead.
                _ => {}
            }
        }
        let url = self.url(&format!("{}/blobs/uploads/", self.repository()))?;
        let response = self.change(Method::POST, &url, &empty_body(), Vec::new()).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.refusal(response).await);
        }
        let place = self.location(&response, &url)?;
        self.send_chunks(place, digest, file, size_bytes, sent).await?;
        Ok(Upload::Sent)
    }

    /// Whether the repository has a blob, or takes it over from `other`, a repository of the same registry.
    pub(in crate::image) async fn has_or_mounts(&self, digest: &Digest, other: Option<&str>) -> Result<bool> {
        if self.has_blob(digest).await? {
            return Ok(true);
        }
        let Some(other) = other else { return Ok(false) };
        let url = self.url(&format!("{}/blobs/uploads/?mount={digest}&from={other}", self.repository()))?;
        let response = self.change(Method::POST, &url, &empty_body(), Vec::new()).await?;
        // Else it has begun an upload, which it forgets in time.
        Ok(response.status() == StatusCode::CREATED)
    }

    /// Puts a manifest under a tag or digest; returns the digest that the registry gave it.
    pub(in crate::image) async fn put_manifest(&self, name: &str, media_type: &str, content: &[u8]) -> Result<Digest> {
        let url = self.url(&format!("{}/manifests/{name}", self.repository()))?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, self.value(media_type)?)]);
        let response = self.change(Method::PUT, &url, &headers, content.to_vec()).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        Ok(Digest::of(content))
    }

    async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let url = self.blob_url(digest)?;
        let response = self.change(Method::HEAD, &url, &HeaderMap::new(), Vec::new()).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            // A registry that hands its blobs out from elsewhere has it.
            status if status.is_success() || status.is_redirection() => Ok(true),
            _ => Err(self.refusal(response).await),
        }
    }

    /// Sends a file piece by piece; after a failure that passes, asks how far it came and goes on there.
    async fn send_chunks(
        &self,
        mut place: Url,
        digest: &Digest,
        file: &File,
        size_bytes: u64,
        sent: &(dyn Fn(u64) + Sync),
    ) -> Result<()> {
        let (mut offset, mut attempt) = (0, 1);
        while offset < size_bytes {
            let length = CHUNK_BYTES.min(size_bytes - offset);
            let mut chunk = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut chunk, offset).map_err(|source| Error::Read { source })?;
            let range = format!("{offset}-{}", offset + length - 1);
            let headers = HeaderMap::from_iter([
                (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (CONTENT_RANGE, self.value(&range)?),
            ]);
            let error = match self.change(Method::PATCH, &place, &headers, chunk).await {
                Ok(response) if response.status() == StatusCode::ACCEPTED => {
                    place = self.location(&response, &place)?;
                    offset += length;
                    attempt = 1;
                    sent(offset);
                    continue;
                }
                Ok(response)
                    if !passes(response.status()) && response.status() != StatusCode::RANGE_NOT_SATISFIABLE =>
                {
                    return Err(self.refusal(response).await);
                }
                Ok(response) => self.refusal(response).await,
                Err(error) if error.passes() => error,
                Err(error) => return Err(error),
            };
            if attempt >= self.timing().attempts {
                return Err(error);
            }
            self.pause(attempt, &error).await;
            attempt += 1;
            let response = self.change(Method::GET, &place, &HeaderMap::new(), Vec::new()).await?;
            if response.status() != StatusCode::NO_CONTENT {
                return Err(error);
            }
            offset = received(&response).min(size_bytes);
            place = self.location(&response, &place)?;
        }
        place.query_pairs_mut().append_pair("digest", digest.as_str());
        let response = self.change(Method::PUT, &place, &empty_body(), Vec::new()).await?;
        if response.status() != StatusCode::CREATED {
            return Err(self.refusal(response).await);
        }
        Ok(())
    }

    fn location(&self, response: &Response, base: &Url) -> Result<Url> {
        let target = response.headers().get(LOCATION).and_then(|value| base.join(value.to_str().ok()?).ok());
        let target = target.ok_or_else(|| self.bad_answer("an upload without a place"))?;
        if base.scheme() == "https" && target.scheme() != "https" {
            return Err(self.bad_answer("an upload from HTTPS to HTTP"));
        }
        Ok(target)
    }
}

fn empty_body() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("0"))])
}

/// How many bytes of an upload the registry has: `Range: 0-N`.
fn received(response: &Response) -> u64 {
    let range = response.headers().get(RANGE).and_then(|value| value.to_str().ok());
    let last = range.and_then(|range| range.rsplit('-').next()?.trim().parse::<u64>().ok());
    last.map_or(0, |last| if last == 0 { 0 } else { last + 1 })
}
