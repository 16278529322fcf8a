//! Addresses of git repositories, as Docker writes them.

/// Whether a text means a git repository. `github.com/…` without a scheme does not: that is a folder, too.
pub fn is_git(text: &str) -> bool {
    if let Some((scheme, rest)) = text.split_once("://") {
        let path = rest.split(['#', '?']).next().unwrap_or(rest);
        return match scheme.to_ascii_lowercase().as_str() {
            "git" | "ssh" => true,
            "http" | "https" => path.trim_end_matches('/').ends_with(".git"),
            _ => false,
        };
    }
    // user@host:path, as scp has it.
    let Some((host, path)) = text.split_once(':') else { return false };
    let Some((user, host)) = host.split_once('@') else { return false };
    let word = |text: &str| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    word(user) && word(host) && !path.is_empty()
}

#[cfg(test)]
mod tests {
    use super::is_git;

    #[test]
    fn addresses() {
        for git in ["git@host:a/b.git", "https://h/x.git#main", "git://h/x", "ssh://git@h/x", "http://h/x.git?tag=v1"] {
            assert!(is_git(git), "{git}");
        }
        for other in ["https://h/x.tar.gz", "a/b", "./x.git", "C:x", "@h:x", "-o@h:x", "user@-h:x", "file:///x.git"] {
            assert!(!is_git(other), "{other}");
        }
    }
}
