//! Text that looks like a secret. A guess, to ask the user about: it finds the usual, not everything.
//!
//! Source of the kinds: DefangLabs/secret-detector, which Docker Compose asks.

/// What looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// What it looks like.
    pub kind: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// The line's beginning.
    pub text: String,
}

/// Characters of a line that are shown.
const SHOWN_MAX: usize = 100;

/// Words in keys whose values are secrets.
const WORDS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "private_key",
    "access_key",
    "credential",
];

/// Finds what looks like a secret, at most one finding a line.
pub(super) fn find(text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate();
    let finding = |(number, line): (usize, &str)| {
        let kind = kind(line)?;
        let text = line.trim().chars().take(SHOWN_MAX).collect();
        Some(Finding { kind, line: number + 1, text })
    };
    lines.filter_map(finding).collect()
}

fn kind(line: &str) -> Option<&'static str> {
    if line.contains("-----BEGIN ") && line.contains("PRIVATE KEY") {
        return Some("Private Key");
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/');
    for word in line.split(|c| !is_word(c)) {
        let all = |rest: &str, length: usize| rest.len() >= length && rest.bytes().all(|b| b.is_ascii_alphanumeric());
        if word.len() == 20 && word.starts_with("AKIA") && all(word, 20) {
            return Some("AWS Client ID");
        }
        if ["ghp_", "gho_", "ghu_", "ghs_", "ghr_"].iter().any(|p| word.strip_prefix(p).is_some_and(|r| all(r, 36))) {
            return Some("GitHub authentication token");
        }
        if word.starts_with("eyJ") && word.matches('.').count() == 2 && word.len() > 40 {
            return Some("JSON Web Token");
        }
    }
    if has_password_in_url(line) {
        return Some("URL with password");
    }
    has_secret_value(line).then_some("Secret Keyword")
}

/// `scheme://user:password@host`
fn has_password_in_url(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', ' ', '"', '\'', '?', '#']).next().unwrap_or_default();
        let login = authority.rsplit_once('@').and_then(|(login, _)| login.split_once(':'));
        login.is_some_and(|(_, password)| is_literal(password))
    })
}

/// `DB_PASSWORD: hunter2`, `token = "x"`
fn has_secret_value(line: &str) -> bool {
    let line = line.trim().trim_start_matches("- ");
    let Some(at) = line.find([':', '=']) else { return false };
    let (key, value) = (line[..at].trim(), line[at + 1..].trim());
    let key = key.trim_matches(['"', '\'']).to_ascii_lowercase();
    let is_path = value.starts_with('/') || value.starts_with("./");
    let is_name = !key.contains(' ') && WORDS.iter().any(|word| key.contains(word)) && !key.ends_with("_file");
    is_name && is_literal(value) && !is_path
}

/// Whether a value stands there itself and does not come from a variable.
fn is_literal(value: &str) -> bool {
    let value = value.trim_matches(['"', '\'']);
    !value.is_empty() && !value.starts_with(['$', '#', '{', '[', '&', '*', '<']) && value != "null" && value != "true"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_secrets_are_found_and_what_refers_to_them_is_not() {
        let secrets = [
            ("  POSTGRES_PASSWORD: hunter2", "Secret Keyword"),
            ("      - API_KEY=abc", "Secret Keyword"),
            ("token = \"x\"", "Secret Keyword"),
            ("URL: postgres://me:pw@db/x", "URL with password"),
            ("k: AKIAIOSFODNN7EXAMPLE", "AWS Client ID"),
            ("A=ghp_0123456789abcdefghij0123456789abcdef", "GitHub authentication token"),
            ("-----BEGIN RSA PRIVATE KEY-----", "Private Key"),
        ];
        for (line, kind) in secrets {
            assert_eq!(find(line).first().map(|finding| finding.kind), Some(kind), "{line}");
        }
        let harmless = [
            "  POSTGRES_PASSWORD: ${PASSWORD}",
            "  POSTGRES_PASSWORD_FILE: /run/secrets/db",
            "secrets:",
            "  secrets: [db]",
            "image: registry:5000/token",
            "url: http://localhost:80/",
            "command: echo a token: x",
            "url: postgres://$USER:$PW@db",
        ];
        for line in harmless {
            assert_eq!(find(line), [], "{line}");
        }
        assert_eq!(find("a: b\n\nmy_secret: x\n")[0].line, 3);
    }
}
