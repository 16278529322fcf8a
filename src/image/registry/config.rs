//! Which hosts stand for a registry, and how they are reached.
//!
//! `/etc/wharf/registries.json` (or the file that `WHARF_REGISTRIES` names), all keys optional:
//!
//! ```json
//! {
//!   "docker.io": {"mirrors": ["https://mirror.example.com/hub"]},
//!   "registry.lan:5000": {"insecure": true},
//!   "registry.example.com": {"ca": "/etc/ssl/example.pem"}
//! }
//! ```
//!
//! Mirrors are asked in order before the registry itself; one that does not answer or does not have the image is
//! passed over. `insecure` means HTTP. `ca` is a PEM file trusted besides the system's (`SSL_CERT_FILE` is honoured);
//! `/etc/docker/certs.d/<host>/*.crt` are, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::base::fs;
use crate::image::{Error, Result};

/// Largest file of settings or certificates.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Settings of registries by host.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(in crate::image) struct Config {
    registries: BTreeMap<String, Registry>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Registry {
    mirrors: Vec<String>,
    insecure: bool,
    ca: Option<PathBuf>,
}

/// Where to send requests.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// `https://registry-1.docker.io/v2/`.
    pub(super) base: reqwest::Url,
    /// Name under which credentials are kept.
    pub(super) credentials: String,
    /// Further certificates to trust, PEM.
    pub(super) certificates: Vec<PathBuf>,
}

impl Config {
    /// Reads the settings of this host; none when there is no file.
    pub(in crate::image) fn read() -> Result<Self> {
        let named = std::env::var_os("WHARF_REGISTRIES").filter(|name| !name.is_empty());
        let path = named.map_or_else(|| PathBuf::from("/etc/wharf/registries.json"), PathBuf::from);
        match fs::read_limited(&path, FILE_BYTES_MAX) {
            Ok(content) => serde_json::from_slice(&content).map_err(|source| Error::Settings { path, source }),
            Err(error) if error.is_not_found() => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Uses HTTP for a registry, whatever the settings say.
    pub(in crate::image) fn allow_http(&mut self, registry: &str) {
        self.registries.entry(registry.to_owned()).or_default().insecure = true;
    }

    /// The endpoints for a registry: its mirrors, then itself.
    pub(super) fn endpoints(&self, registry: &str) -> Result<Vec<Endpoint>> {
        let default = Registry::default();
        let settings = self.registries.get(registry).unwrap_or(&default);
        let mut endpoints = Vec::new();
        for mirror in &settings.mirrors {
            let invalid = || Error::Unsupported { what: format!("the mirror `{mirror}` of {registry} is not a URL") };
            let mut base = reqwest::Url::parse(mirror).map_err(|_| invalid())?;
            let host = base.host_str().ok_or_else(invalid)?.to_owned();
            let host = base.port().map_or(host.clone(), |port| format!("{host}:{port}"));
            if base.scheme() == "http" && !self.is_insecure(&host) {
                return Err(Error::Unsupported {
                    what: format!(
                        "the mirror `{mirror}` of {registry} uses HTTP and {host} is not configured insecure"
                    ),
                });
            }
            base.set_path(&format!("{}/v2/", base.path().trim_end_matches('/')));
            endpoints.push(self.endpoint(base, &host, &host));
        }
        let (host, credentials) = match registry {
            "docker.io" => ("registry-1.docker.io", "https://index.docker.io/v1/"),
            other => (other, other),
        };
        let scheme = if self.is_insecure(host) { "http" } else { "https" };
        let base = reqwest::Url::parse(&format!("{scheme}://{host}/v2/"))
            .map_err(|_| Error::Unsupported { what: format!("`{registry}` is not a host") })?;
        endpoints.push(self.endpoint(base, host, credentials));
        Ok(endpoints)
    }

    fn endpoint(&self, base: reqwest::Url, host: &str, credentials: &str) -> Endpoint {
        let mut certificates: Vec<PathBuf> =
            self.registries.get(host).and_then(|settings| settings.ca.clone()).into_iter().collect();
        if base.scheme() == "https"
            && let Ok(entries) = std::fs::read_dir(Path::new("/etc/docker/certs.d").join(host))
        {
            let files = entries.flatten().map(|entry| entry.path());
            certificates.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "crt")));
        }
        Endpoint { base, credentials: credentials.to_owned(), certificates }
    }

    /// Whether HTTP may be used: on loopback unless a certificate is configured, and where the settings say so.
    fn is_insecure(&self, host: &str) -> bool {
        match self.registries.get(host) {
            Some(settings) => settings.insecure || (is_loopback(host) && settings.ca.is_none()),
            None => is_loopback(host),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The certificates in a PEM file.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<reqwest::Certificate>> {
    let content = fs::read_limited(path, FILE_BYTES_MAX)?;
    match reqwest::Certificate::from_pem_bundle(&content) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Error::Unsupported { what: format!("{} is not a PEM file of certificates", path.display()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(settings: &str, registry: &str) -> Result<Vec<String>> {
        let config: Config = serde_json::from_str(settings).unwrap();
        Ok(config.endpoints(registry)?.into_iter().map(|endpoint| endpoint.base.to_string()).collect())
    }

    #[test]
    fn only_loopback_and_insecure_registries_use_http() {
        for (registry, base) in [
            ("docker.io", "https://registry-1.docker.io/v2/"),
            ("ghcr.io", "https://ghcr.io/v2/"),
            ("localhost:5000", "http://localhost:5000/v2/"),
            ("127.0.0.2:80", "http://127.0.0.2/v2/"),
            ("[::1]:5000", "http://[::1]:5000/v2/"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2/"),
            ("localhost.example.com", "https://localhost.example.com/v2/"),
            ("lan:5000", "http://lan:5000/v2/"),
        ] {
            assert_eq!(bases(r#"{"lan:5000": {"insecure": true}}"#, registry).unwrap(), [base]);
        }
    }

    #[test]
    fn mirrors_come_first() {
        let settings = r#"{"docker.io": {"mirrors": ["https://m.example.com/hub/", "http://127.0.0.1:1"]}}"#;
        let expected = ["https://m.example.com/hub/v2/", "http://127.0.0.1:1/v2/", "https://registry-1.docker.io/v2/"];
        assert_eq!(bases(settings, "docker.io").unwrap(), expected);
        assert!(bases(r#"{"docker.io": {"mirrors": ["http://m.example.com"]}}"#, "docker.io").is_err());
        assert!(bases(r#"{"docker.io": {"mirrors": ["m"]}}"#, "docker.io").is_err());
        assert!(serde_json::from_str::<Config>(r#"{"x": {"unsecure": true}}"#).is_err());
    }
}
