//! What a registry asks for with 401, and the credentials to answer it.

use docker_credential::{CredentialRetrievalError, DockerCredential};

/// What a `WWW-Authenticate` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads the header; Bearer is preferred where several are offered. `None` for schemes unknown here.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let mut basic = None;
        let mut rest = header.trim();
        while !rest.is_empty() {
            let (scheme, after) = rest.split_once(' ').unwrap_or((rest, ""));
            let (parameters, after) = parameters(after);
            rest = after.trim_start_matches([',', ' ']);
            let value = |key: &str| parameters.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
            if scheme.eq_ignore_ascii_case("bearer") {
                return Some(Self::Bearer { realm: value("realm")?, service: value("service"), scope: value("scope") });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }
}

/// Reads `key="value", key=value` up to the next scheme; returns what is left.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let Some((key, after)) = rest.split_once('=') else { return (found, "") };
        // A blank before the `=` means that another scheme has begun.
        if key.trim().contains(' ') {
            return (found, rest);
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut characters = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((index, character)) = characters.next() {
                    match character {
                        '"' => {
                            end = index + 1;
                            break;
                        }
                        '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                        other => value.push(other),
                    }
                }
                (value, &quoted[end..])
            }
            None => {
                let end = after.find([',', ' ']).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        found.push((key.trim().to_ascii_lowercase(), value));
        rest = after.trim_start_matches([',', ' ']);
        if rest.is_empty() {
            return (found, rest);
        }
    }
}

/// What the user has for a registry.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::image) enum Credentials {
    /// User name and password.
    Password(String, String),
    /// A token to get others with.
    Identity(String),
}

// Secrets do not belong into messages.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(..) => "Password(..)",
            Self::Identity(_) => "Identity(..)",
        })
    }
}

/// The credentials for `server` in the Docker config (`~/.docker/config.json`, `DOCKER_CONFIG`), its helpers asked;
/// else in Podman's. A helper that fails is reported, a missing entry is `None`.
pub(super) fn credentials(server: &str) -> std::result::Result<Option<Credentials>, String> {
    use CredentialRetrievalError as Missing;
    for read in [docker_credential::get_credential, docker_credential::get_podman_credential] {
        match read(server) {
            Ok(DockerCredential::UsernamePassword(user, password)) if user == "<token>" => {
                return Ok(Some(Credentials::Identity(password)));
            }
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok(Some(Credentials::Password(user, password)));
            }
            Ok(DockerCredential::IdentityToken(token)) => return Ok(Some(Credentials::Identity(token))),
            Err(Missing::ConfigNotFound | Missing::ConfigReadError | Missing::NoCredentialConfigured) => {}
            // Helpers say so on stdout when they know nothing of the server.
            Err(Missing::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.into(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        for (header, challenge) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
                Some(bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull"))),
            ),
            (r#"bearer realm="a\"b" , service=x"#, Some(bearer("a\"b", Some("x"), None))),
            (r#"Basic realm="x", Bearer realm="y""#, Some(bearer("y", None, None))),
            (r#"Basic realm="x y""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            ("Negotiate", None),
            ("Bearer", None),
            ("Bearer realm=\"unclosed", Some(bearer("unclosed", None, None))),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(header), challenge, "{header}");
        }
    }
}
