//! One file of a web server: what `ADD https://…`, remote contexts and remote archives need.
//!
//! Bounded in size, redirects and patience. A redirect from HTTPS to HTTP is refused, and headers that the caller
//! gave go to the first host only.

use std::io::Write;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, LOCATION};
use reqwest::{StatusCode, Url};

use super::{Error, Result};

/// Redirects followed for one download.
const REDIRECTS_MAX: usize = 10;
/// For a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Without a byte.
const STALL: Duration = Duration::from_secs(60);
/// Attempts at a server that fails in a way that passes.
const ATTEMPTS: u32 = 3;
/// Before the second attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// What a server said about a file besides its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Downloaded {
    /// `Last-Modified`, seconds since 1970.
    pub modified_seconds: Option<i64>,
    /// Bytes of the content.
    pub size_bytes: u64,
}

/// Writes the file at `url` to `output`; `headers` are sent to its host. At most `limit_bytes`.
///
/// Errors: `Unreachable`, `Refused` with the server's status, `Stalled`, `Broken`, `BadAnswer`.
pub fn download(
    url: &str,
    headers: &[(String, String)],
    limit_bytes: u64,
    output: &mut (dyn Write + Send),
) -> Result<Downloaded> {
    let url = Url::parse(url).map_err(|_| Error::Unsupported { what: format!("`{url}` is not a URL") })?;
    let headers: Vec<(HeaderName, HeaderValue)> = headers
        .iter()
        .map(|(name, value)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::Unsupported { what: "a header has a control character".into() })?;
    super::online::apart("download", async || patiently(&url, &headers, limit_bytes, output).await)
}

async fn patiently(
    url: &Url,
    headers: &[(HeaderName, HeaderValue)],
    limit_bytes: u64,
    output: &mut (dyn Write + Send),
) -> Result<Downloaded> {
    let server = Server { host: url.host_str().unwrap_or_default().to_owned(), client: client(url)? };
    let mut attempt = 1;
    let response = loop {
        match server.open(url, headers).await {
            Err(error) if attempt < ATTEMPTS && error.passes() => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            other => break other?,
        }
    };
    server.receive(response, limit_bytes, output).await
}

fn client(url: &Url) -> Result<reqwest::Client> {
    super::registry::install_tls();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .referer(false);
    if url.host_str() == Some("localhost") {
        let addresses = [([127, 0, 0, 1], 0).into(), (std::net::Ipv6Addr::LOCALHOST, 0).into()];
        builder = builder.resolve_to_addrs("localhost", &addresses);
    }
    let unreachable = |source: reqwest::Error| Error::Unreachable {
        registry: url.host_str().unwrap_or_default().to_owned(),
        error: source.without_url(),
    };
    builder.build().map_err(unreachable)
}

struct Server {
    host: String,
    client: reqwest::Client,
}

impl Server {
    async fn open(&self, url: &Url, headers: &[(HeaderName, HeaderValue)]) -> Result<reqwest::Response> {
        let mut url = url.clone();
        for hop in 0..=REDIRECTS_MAX {
            let own = if hop == 0 { headers } else { &[] };
            let request = self.client.get(url.clone()).headers(own.iter().cloned().collect::<HeaderMap>());
            let response = match tokio::time::timeout(STALL, request.send()).await {
                Ok(response) => response.map_err(|source| Error::Unreachable {
                    registry: self.host.clone(),
                    error: source.without_url(),
                })?,
                Err(_) => return Err(self.stalled()),
            };
            let status = response.status();
            if status == StatusCode::OK {
                return Ok(response);
            }
            if !status.is_redirection() {
                let message = status.canonical_reason().unwrap_or("unknown status").to_owned();
                return Err(Error::Refused { registry: self.host.clone(), status: status.as_u16(), message });
            }
            let target = response.headers().get(LOCATION).and_then(|value| url.join(value.to_str().ok()?).ok());
            let target = target.ok_or_else(|| self.bad_answer("a redirect without a target"))?;
            if url.scheme() == "https" && target.scheme() != "https" {
                return Err(self.bad_answer("a redirect from HTTPS to HTTP"));
            }
            url = target;
        }
        Err(self.bad_answer("too many redirects"))
    }

    async fn receive(
        &self,
        mut response: reqwest::Response,
        limit_bytes: u64,
        output: &mut (dyn Write + Send),
    ) -> Result<Downloaded> {
        let modified = response.headers().get(LAST_MODIFIED).and_then(|value| value.to_str().ok());
        let modified = modified.and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
        let modified_seconds = modified.map(|time| time.timestamp().as_second());
        let mut size_bytes = 0u64;
        loop {
            let chunk = match tokio::time::timeout(STALL, response.chunk()).await {
                Ok(chunk) => chunk
                    .map_err(|source| Error::Broken { registry: self.host.clone(), source: source.without_url() })?,
                Err(_) => return Err(self.stalled()),
            };
            let Some(chunk) = chunk else { return Ok(Downloaded { modified_seconds, size_bytes }) };
            size_bytes += chunk.len() as u64;
            if size_bytes > limit_bytes {
                return Err(self.bad_answer("more than is allowed"));
            }
            output.write_all(&chunk).map_err(|source| Error::Read { source })?;
        }
    }

    fn stalled(&self) -> Error {
        Error::Stalled { registry: self.host.clone(), seconds: STALL.as_secs() }
    }

    fn bad_answer(&self, what: &'static str) -> Error {
        Error::BadAnswer { registry: self.host.clone(), what }
    }
}
