//! Logins: checked with the registry, kept by the user's credential helper or in Docker's config file.
//!
//! Source: docker/cli `cli/command/registry/login.go`, <https://docs.docker.com/reference/cli/docker/login/>.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::online::apart;
use super::registry::{Client, Config, Credentials, Timing};
use super::{Error, Result};
use crate::base::fs::{self, Durability};
use crate::model::reference::Reference;

/// Under this name Docker keeps what belongs to Docker Hub.
pub const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// Largest config file.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// Where a login was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// By this helper.
    Helper(String),
    /// In this file, readable by everybody who can read the file.
    File(PathBuf),
}

/// Asks a registry whether it accepts a user's password, and keeps it.
pub fn login(server: &str, user: &str, password: &str) -> Result<Kept> {
    let server = normal(server);
    let registry = if server == DOCKER_HUB { "docker.io" } else { &server };
    let reference: Reference = format!("{registry}/login")
        .parse()
        .map_err(|_| Error::Unsupported { what: format!("`{server}` is not a host") })?;
    let client = Client::for_reference(&reference, &Config::read()?, Timing::default())?.pop();
    let client = client.ok_or(Error::NotHere { reference: server.clone() })?;
    let credentials = Credentials::Password(user.to_owned(), password.to_owned());
    apart("registry", async || client.check_login(credentials).await)?;
    keep(&server, user, password)
}

/// Forgets a login; returns whether there was one.
pub fn logout(server: &str) -> Result<bool> {
    let server = normal(server);
    let path = config_file()?;
    let mut config = read(&path)?;
    if let Some(helper) = helper_for(&config, &server) {
        ask_helper(&helper, "erase", server.as_bytes())?;
    }
    let removed = config.get_mut("auths").and_then(Value::as_object_mut).and_then(|auths| auths.remove(&server));
    if removed.is_some() {
        write(&path, &config)?;
    }
    Ok(removed.is_some())
}

/// Docker Hub's many names are one.
fn normal(server: &str) -> String {
    let host = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    match host {
        "" | "docker.io" | "index.docker.io" | "index.docker.io/v1" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.split('/').next().unwrap_or(other).to_owned(),
    }
}

fn keep(server: &str, user: &str, password: &str) -> Result<Kept> {
    use base64::Engine;
    let path = config_file()?;
    let mut config = read(&path)?;
    if let Some(helper) = helper_for(&config, server) {
        let request = json!({ "ServerURL": server, "Username": user, "Secret": password });
        ask_helper(&helper, "store", request.to_string().as_bytes())?;
        // Docker marks the servers that a helper knows.
        entry(&mut config, server, json!({}));
        write(&path, &config)?;
        return Ok(Kept::Helper(helper));
    }
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    entry(&mut config, server, json!({ "auth": auth }));
    write(&path, &config)?;
    Ok(Kept::File(path))
}

fn entry(config: &mut Map<String, Value>, server: &str, value: Value) {
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    if let Value::Object(auths) = auths {
        auths.insert(server.to_owned(), value);
    }
}

/// The helper that keeps the login of `server` according to the content of Docker's config file.
///
/// Errors: `Document` when that is not JSON of the right shape.
pub fn helper_of(config: &[u8], server: &str) -> Result<Option<String>> {
    let config = serde_json::from_slice(config).map_err(|source| Error::Document { what: "config".into(), source })?;
    Ok(helper_for(&config, &normal(server)))
}

fn helper_for(config: &Map<String, Value>, server: &str) -> Option<String> {
    let own = config.get("credHelpers").and_then(|helpers| helpers.get(server)).and_then(Value::as_str);
    let helper = own.or_else(|| config.get("credsStore").and_then(Value::as_str))?;
    // The name becomes a program's: nothing that leads elsewhere.
    let is_name = helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    (is_name && !helper.is_empty()).then(|| helper.to_owned())
}

fn ask_helper(helper: &str, verb: &str, input: &[u8]) -> Result<()> {
    let program = format!("docker-credential-{helper}");
    let failed = |reason: String| Error::CredentialHelper { program: program.clone(), reason };
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why at its end.
        drop(stdin.write_all(input));
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(failed(String::from_utf8_lossy(&said).trim().to_owned()))
}

fn config_file() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder).join("config.json"));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.ok_or_else(|| Error::Unsupported { what: "HOME is not set: no place for logins".into() })?;
    Ok(PathBuf::from(home).join(".docker/config.json"))
}

fn read(path: &std::path::Path) -> Result<Map<String, Value>> {
    match fs::read_limited(path, CONFIG_BYTES_MAX) {
        Ok(content) if content.iter().all(u8::is_ascii_whitespace) => Ok(Map::new()),
        Ok(content) => {
            serde_json::from_slice(&content).map_err(|source| Error::Settings { path: path.to_owned(), source })
        }
        Err(error) if error.is_not_found() => Ok(Map::new()),
        Err(error) => Err(error.into()),
    }
}

fn write(path: &std::path::Path, config: &Map<String, Value>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_vec_pretty(config).map_err(|source| Error::Document { what: "config".into(), source })?;
    fs::write_atomic(path, &text, Durability::Durable)?;
    let mode = std::fs::Permissions::from_mode(0o600);
    fs::Context::context(std::fs::set_permissions(path, mode), "change the mode of", path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_has_one_name() {
        for name in ["", "docker.io", "https://index.docker.io/v1/", "index.docker.io"] {
            assert_eq!(normal(name), DOCKER_HUB, "{name}");
        }
        assert_eq!(normal("https://registry.example.com:5000/"), "registry.example.com:5000");
    }

    #[test]
    fn helpers_are_names() {
        let config = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let both = config(r#"{"credsStore": "pass", "credHelpers": {"a.test": "ecr-login"}}"#);
        assert_eq!(helper_for(&both, "a.test").as_deref(), Some("ecr-login"));
        assert_eq!(helper_for(&both, "b.test").as_deref(), Some("pass"));
        assert_eq!(helper_for(&config(r#"{"credsStore": "../../tmp/x"}"#), "b.test"), None);
        assert_eq!(helper_for(&config("{}"), "b.test"), None);
    }
}
