//! Requests to one registry for one repository.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, HeaderMap, HeaderValue, LINK, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;

use super::auth::{Challenge, Credentials, credentials};
use super::config::{Config, Endpoint, read_certificates};
use crate::base::id::Digest;
use crate::image::{Error, Result};
use crate::model::reference::Reference;

/// Largest manifest: the limit that registries have.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Largest answer of an error or a token that is read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// A document is given up after so many times the patience for one byte.
const DOCUMENT_STALLS: u32 = 4;
/// Pages of a list of tags, of a thousand each.
const TAG_PAGES_MAX: usize = 100;
/// Redirects followed for one request.
const REDIRECTS_MAX: usize = 5;
/// A registry that wants a longer pause than this is told to the user instead.
const PAUSE_MAX: Duration = Duration::from_secs(20);
/// What manifests may be.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// How long a registry may think before it begins to answer; Docker's patience, too.
const ANSWER: Duration = Duration::from_secs(15);
/// Attempts at a registry that takes the connection and says nothing.
const SILENT_ATTEMPTS: u32 = 2;

/// How patient the client is.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct Timing {
    /// For a connection.
    pub(in crate::image) connect: Duration,
    /// Without a byte.
    pub(in crate::image) stall: Duration,
    /// Before the second attempt; doubled each time.
    pub(in crate::image) pause: Duration,
    /// Attempts in a row that bring nothing.
    pub(in crate::image) attempts: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            pause: Duration::from_millis(400),
            attempts: 5,
        }
    }
}

/// A registry (or a mirror of it) and a repository.
pub(in crate::image) struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    registry: String,
    repository: String,
    timing: Timing,
    /// What authorises requests to an origin.
    authorization: tokio::sync::Mutex<HashMap<String, HeaderValue>>,
}

/// A manifest or an index, verified.
pub(in crate::image) struct Fetched {
    pub(in crate::image) content: Vec<u8>,
    pub(in crate::image) digest: Digest,
}

/// A token server's answer.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// One page of a list of tags.
#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

/// Errors in a registry's answer.
#[derive(Deserialize)]
struct Answer {
    errors: Vec<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Client {
    /// Clients for the mirrors of the reference's registry and the registry itself, in the order to ask them.
    pub(in crate::image) fn for_reference(reference: &Reference, config: &Config, timing: Timing) -> Result<Vec<Self>> {
        let endpoints = config.endpoints(&reference.registry)?;
        endpoints.into_iter().map(|endpoint| Self::new(reference, endpoint, timing)).collect()
    }

    fn new(reference: &Reference, endpoint: Endpoint, timing: Timing) -> Result<Self> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timing.connect)
            .http2_adaptive_window(true)
            .referer(false);
        if endpoint.base.scheme() == "http" {
            // Loopback and insecure registries need no certificates, and reading the system's takes milliseconds.
            builder = builder.tls_certs_only([]).no_proxy();
        } else {
            install_tls();
            for path in &endpoint.certificates {
                builder = builder.tls_certs_merge(read_certificates(path)?);
            }
        }
        if endpoint.base.host_str() == Some("localhost") {
            let addresses = [([127, 0, 0, 1], 0).into(), (std::net::Ipv6Addr::LOCALHOST, 0).into()];
            builder = builder.resolve_to_addrs("localhost", &addresses);
        }
        install_tls();
        let http = builder.build().map_err(|source| Error::Unreachable {
            registry: reference.registry.clone(),
            error: source.without_url(),
        })?;
        Ok(Self {
            http,
            registry: reference.registry.clone(),
            repository: reference.repository.clone(),
            endpoint,
            timing,
            authorization: tokio::sync::Mutex::default(),
        })
    }

    /// Asks whether the registry accepts a login.
    pub(in crate::image) async fn check_login(&self, login: Credentials) -> Result<()> {
        let url = self.endpoint.base.clone();
        let response = self.send(self.http.get(url.clone())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.expect(response, || self.bad_answer("it is no registry")).await.map(drop);
        }
        let challenge = self.challenge_of(&response)?;
        let value = match (challenge, &login) {
            (Challenge::Basic, Credentials::Password(user, password)) => secret(&basic(user, password))?,
            (Challenge::Basic, Credentials::Identity(_)) => return Err(self.unauthorized("it wants a password")),
            (Challenge::Bearer { realm, service, .. }, _) => {
                let token = self.token(&realm, service.as_deref(), Some(""), Some(login)).await?;
                secret(&format!("Bearer {token}"))?
            }
        };
        let response = self.send(self.http.get(url).header(AUTHORIZATION, value)).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(self.unauthorized("the user name or the password is wrong"))
            }
            _ => self.expect(response, || self.bad_answer("it is no registry")).await.map(drop),
        }
    }

    /// The repository.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// A value of a header.
    pub(super) fn value(&self, text: &str) -> Result<HeaderValue> {
        header(text)
    }

    /// How patient it is.
    pub(in crate::image) fn timing(&self) -> Timing {
        self.timing
    }

    /// The manifest or index of that name (a tag or a digest), verified.
    pub(in crate::image) async fn manifest(&self, reference: &Reference, name: &str) -> Result<Fetched> {
        let url = self.url(&format!("{}/manifests/{name}", self.repository))?;
        let accept = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES))]);
        let response = self.get_patiently(&url, &accept).await?;
        let response = self.expect(response, || Error::UnknownImage { reference: reference.to_string() }).await?;
        let announced = response
            .headers()
            .get("docker-content-digest")
            .and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        let content = self.body(response, MANIFEST_BYTES_MAX).await?;
        let digest = Digest::of(&content);
        let expected = name.parse::<Digest>().ok().or(announced).unwrap_or_else(|| digest.clone());
        if expected != digest {
            return Err(Error::WrongContent { digest: expected, reason: "the manifest has another digest" });
        }
        Ok(Fetched { content, digest })
    }

    /// The tags of the repository, page by page.
    pub(in crate::image) async fn tags(&self) -> Result<Vec<String>> {
        let mut url = self.url(&format!("{}/tags/list?n=1000", self.repository))?;
        let mut tags = Vec::new();
        for _ in 0..TAG_PAGES_MAX {
            let response = self.get_patiently(&url, &HeaderMap::new()).await?;
            let unknown = || Error::UnknownImage { reference: format!("{}/{}", self.registry, self.repository) };
            let response = self.expect(response, unknown).await?;
            let next = response.headers().get(LINK).and_then(|value| next_page(value.to_str().ok()?, &url));
            let content = self.body(response, MANIFEST_BYTES_MAX).await?;
            let page: Tags = serde_json::from_slice(&content)
                .map_err(|source| Error::Document { what: "list of tags".into(), source })?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) if origin(&next) == origin(&url) => url = next,
                _ => return Ok(tags),
            }
        }
        Err(self.bad_answer("a list of tags without an end"))
    }

    /// A small blob (a config), verified.
    pub(in crate::image) async fn blob(&self, digest: &Digest, size_bytes: u64) -> Result<Vec<u8>> {
        if size_bytes > MANIFEST_BYTES_MAX {
            return Err(Error::WrongContent { digest: digest.clone(), reason: "a config may have 4 MiB at most" });
        }
        let response = self.get_patiently(&self.blob_url(digest)?, &HeaderMap::new()).await?;
        let response = self.expect(response, || Error::MissingBlob { digest: digest.clone() }).await?;
        let content = self.body(response, size_bytes).await?;
        if Digest::of(&content) != *digest {
            return Err(Error::WrongContent { digest: digest.clone(), reason: "it has another digest" });
        }
        Ok(content)
    }

    /// Opens a blob for streaming from `offset` on. The second value tells where the stream begins: a server that
    /// cannot do ranges begins at 0.
    pub(in crate::image) async fn stream(&self, digest: &Digest, offset: u64) -> Result<(Response, u64)> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            headers.insert(RANGE, header(&format!("bytes={offset}-"))?);
        }
        let response = self.get(&self.blob_url(digest)?, &headers).await?;
        let response = self.expect(response, || Error::MissingBlob { digest: digest.clone() }).await?;
        let begins = if response.status() == StatusCode::PARTIAL_CONTENT { range_start(&response) } else { Some(0) };
        match begins {
            Some(begins) if begins <= offset => Ok((response, begins)),
            _ => Err(Error::WrongContent { digest: digest.clone(), reason: "the registry sent another range" }),
        }
    }

    /// Repeats a request while it fails in a way that passes.
    async fn get_patiently(&self, url: &Url, headers: &HeaderMap) -> Result<Response> {
        let mut attempt = 1;
        loop {
            let result = match self.get(url, headers).await {
                Ok(response) if passes(response.status()) => Err(self.refusal(response).await),
                other => other,
            };
            match result {
                Err(error @ Error::Stalled { .. }) if attempt >= SILENT_ATTEMPTS => return Err(error),
                Err(error) if attempt < self.timing.attempts && error.passes() => {
                    self.pause(attempt, &error).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// Waits before the next attempt: longer each time, or as long as the registry wished.
    pub(in crate::image) async fn pause(&self, attempt: u32, error: &Error) {
        let wished = match error {
            Error::RateLimited { retry_after_seconds: Some(seconds), .. } => Duration::from_secs(*seconds),
            _ => Duration::ZERO,
        };
        // Commands that failed at the same moment should not come back at the same moment.
        let spread = Duration::from_millis(u64::from(std::process::id()) % 100);
        let pause = self.timing.pause * 2u32.saturating_pow(attempt - 1) + spread;
        tokio::time::sleep(pause.max(wished).min(PAUSE_MAX)).await;
    }

    /// One request, authorised and redirected as needed.
    async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Response> {
        let response = self.follow(url, headers).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let is_anonymous = self.authorize(&response).await?;
        let response = self.follow(url, headers).await?;
        self.check_authorized(response, is_anonymous)
    }

    /// A request that changes something, authorised as needed; never redirected.
    pub(super) async fn change(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response> {
        let attempt = async || {
            let mut request = self.http.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(value) = self.authorization.lock().await.get(&origin(url)) {
                request = request.header(AUTHORIZATION, value.clone());
            }
            if !body.is_empty() {
                request = request.body(body.clone());
            }
            self.send(request).await
        };
        let response = attempt().await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let is_anonymous = self.authorize(&response).await?;
        self.check_authorized(attempt().await?, is_anonymous)
    }

    fn check_authorized(&self, response: Response, is_anonymous: bool) -> Result<Response> {
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(self.unauthorized(if is_anonymous {
                "it does not exist or needs a login"
            } else {
                "the login is not accepted"
            }));
        }
        Ok(response)
    }

    /// Answers the challenge of a refused request; returns whether the answer says nothing of who asks.
    ///
    /// Only the registry itself may ask: a host that it redirects to would get the user's password from us
    /// (CVE-2020-15157 of containerd).
    async fn authorize(&self, response: &Response) -> Result<bool> {
        if origin(response.url()) != origin(&self.endpoint.base) {
            return Err(self.bad_answer("a redirect to a host that asks for a login"));
        }
        let challenge = self.challenge_of(response)?;
        let (value, is_anonymous) = self.answer(challenge).await?;
        self.authorization.lock().await.insert(origin(&self.endpoint.base), value);
        Ok(is_anonymous)
    }

    fn challenge_of(&self, response: &Response) -> Result<Challenge> {
        let challenge = response
            .headers()
            .get_all("www-authenticate")
            .iter()
            .filter_map(|value| Challenge::parse(value.to_str().ok()?))
            .max_by_key(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        challenge.ok_or_else(|| self.unauthorized("it asks for a kind of login that is not supported"))
    }

    /// One request with its redirects. Each host gets only what was meant for it.
    async fn follow(&self, url: &Url, headers: &HeaderMap) -> Result<Response> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.http.request(Method::GET, url.clone()).headers(headers.clone());
            if let Some(value) = self.authorization.lock().await.get(&origin(&url)) {
                request = request.header(AUTHORIZATION, value.clone());
            }
            let response = self.send(request).await?;
            if !response.status().is_redirection() {
                return Ok(response);
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

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response> {
        let patience = self.timing.stall.min(ANSWER);
        match tokio::time::timeout(patience, request.send()).await {
            Ok(result) => result
                .map_err(|source| Error::Unreachable { registry: self.registry.clone(), error: source.without_url() }),
            Err(_) => Err(self.stalled(patience)),
        }
    }

    /// What to send in answer to a challenge, and whether that says nothing of who asks.
    async fn answer(&self, challenge: Challenge) -> Result<(HeaderValue, bool)> {
        let known = credentials(&self.endpoint.credentials).map_err(|reason| self.unauthorized(&reason))?;
        match challenge {
            Challenge::Basic => match known {
                Some(Credentials::Password(user, password)) => Ok((secret(&basic(&user, &password))?, false)),
                _ => Err(self.unauthorized("it needs a login")),
            },
            Challenge::Bearer { realm, service, scope } => {
                let is_anonymous = known.is_none();
                let token = self.token(&realm, service.as_deref(), scope.as_deref(), known).await?;
                Ok((secret(&format!("Bearer {token}"))?, is_anonymous))
            }
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        known: Option<Credentials>,
    ) -> Result<String> {
        let mut url = Url::parse(realm).map_err(|_| self.bad_answer("a token server that is not a URL"))?;
        if self.endpoint.base.scheme() == "https" && url.scheme() != "https" {
            return Err(self.bad_answer("a token server without HTTPS"));
        }
        let default_scope = format!("repository:{}:pull", self.repository);
        let scope = scope.unwrap_or(&default_scope);
        let mut parameters: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
        if !scope.is_empty() {
            parameters.push(("scope", scope));
        }
        let request = match &known {
            Some(Credentials::Identity(token)) => {
                parameters.extend([("grant_type", "refresh_token"), ("client_id", "wharf"), ("refresh_token", token)]);
                let mut form = Url::parse("form:").map_err(|_| self.bad_answer("a form"))?;
                form.query_pairs_mut().extend_pairs(&parameters);
                let body = form.query().unwrap_or_default().to_owned();
                self.http.post(url).header("content-type", "application/x-www-form-urlencoded").body(body)
            }
            Some(Credentials::Password(user, password)) => {
                url.query_pairs_mut().extend_pairs(&parameters);
                self.http.get(url).header(AUTHORIZATION, secret(&basic(user, password))?)
            }
            None => {
                url.query_pairs_mut().extend_pairs(&parameters);
                self.http.get(url)
            }
        };
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.unauthorized(if known.is_some() {
                    "the login is not accepted"
                } else {
                    "it needs a login"
                }));
            }
            status if !status.is_success() => return Err(self.refusal(response).await),
            _ => {}
        }
        let content = self.body(response, ANSWER_BYTES_MAX).await?;
        let token: Token = serde_json::from_slice(&content)
            .map_err(|source| Error::Document { what: "token server's answer".into(), source })?;
        token.token.or(token.access_token).ok_or_else(|| self.bad_answer("no token"))
    }

    /// The response if it is a success; `missing()` for 404, else what the registry says.
    async fn expect(&self, response: Response, missing: impl Fn() -> Error) -> Result<Response> {
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(missing()),
            _ => Err(self.refusal(response).await),
        }
    }

    pub(super) async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let retry_after_seconds =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Error::RateLimited { registry: self.registry.clone(), retry_after_seconds };
        }
        let content = self.body(response, ANSWER_BYTES_MAX).await.unwrap_or_default();
        let message = serde_json::from_slice::<Answer>(&content)
            .ok()
            .and_then(|answer| answer.errors.into_iter().next())
            .map(|error| if error.message.is_empty() { error.code } else { error.message })
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("unknown status").to_owned());
        if matches!(status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) {
            return self.unauthorized(&message);
        }
        Error::Refused { registry: self.registry.clone(), status: status.as_u16(), message }
    }

    async fn body(&self, response: Response, limit_bytes: u64) -> Result<Vec<u8>> {
        // Drop by drop, a small document would never stall and never end.
        let patience = self.timing.stall * DOCUMENT_STALLS;
        let content = tokio::time::timeout(patience, self.read_body(response, limit_bytes)).await;
        content.unwrap_or_else(|_| Err(self.stalled(patience)))
    }

    async fn read_body(&self, mut response: Response, limit_bytes: u64) -> Result<Vec<u8>> {
        if response.content_length().is_some_and(|announced| announced > limit_bytes) {
            return Err(self.bad_answer("more than it should"));
        }
        let mut content = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if content.len() as u64 + chunk.as_ref().len() as u64 > limit_bytes {
                return Err(self.bad_answer("more than it should"));
            }
            content.extend_from_slice(chunk.as_ref());
        }
        Ok(content)
    }

    /// The next piece of a body; `None` at its end.
    pub(in crate::image) async fn chunk(&self, response: &mut Response) -> Result<Option<Bytes>> {
        match tokio::time::timeout(self.timing.stall, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(source)) => Err(Error::Broken { registry: self.registry.clone(), source: source.without_url() }),
            Err(_) => Err(self.stalled(self.timing.stall)),
        }
    }

    pub(super) fn url(&self, path: &str) -> Result<Url> {
        self.endpoint.base.join(path).map_err(|_| self.bad_answer("a name that makes no URL"))
    }

    pub(super) fn blob_url(&self, digest: &Digest) -> Result<Url> {
        self.url(&format!("{}/blobs/{digest}", self.repository))
    }

    pub(in crate::image) fn stalled(&self, patience: Duration) -> Error {
        Error::Stalled { registry: self.registry.clone(), seconds: patience.as_secs() }
    }

    fn unauthorized(&self, reason: &str) -> Error {
        Error::Unauthorized {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn bad_answer(&self, what: &'static str) -> Error {
        Error::BadAnswer { registry: self.registry.clone(), what }
    }
}

/// Whether a request that was answered so is worth another attempt.
pub(super) fn passes(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Scheme, host and port: what a browser calls an origin.
fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn secret(text: &str) -> Result<HeaderValue> {
    let mut value = header(text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::Unsupported { what: "a credential has a control character".into() })
}

/// The address in `Link: <...>; rel="next"`.
fn next_page(link: &str, base: &Url) -> Option<Url> {
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    if rest.contains("next") { base.join(address).ok() } else { None }
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// Chooses the one implementation of cryptography that is compiled in.
pub(in crate::image) fn install_tls() {
    // It fails only when it is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
}
