//! A client of the distribution API.
//!
//! ```text
//! reference -> endpoints (mirrors first, the registry last) -> manifest -> config, layers
//! 401 -> challenge -> credentials of the Docker config -> token, kept for the repository
//! ```
//!
//! Invariants: HTTP only to loopback and to registries configured `insecure`; what authorises a request goes to no
//! other host than the one that asked for it, whatever a redirect says; nothing is believed before its digest was
//! verified; every answer, retry and wait has a bound.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>,
//! <https://distribution.github.io/distribution/spec/auth/token/>.

mod auth;
mod client;
mod config;
mod upload;

pub(super) use auth::Credentials;
pub(super) use client::{Client, Timing, install_tls};
pub(super) use config::Config;
pub(super) use upload::Upload;
