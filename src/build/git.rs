//! Git repositories as sources: of `ADD`, of the build context and of named contexts.
//!
//! ```text
//! https://host/path.git#ref:folder    git@host:path#ref    ssh://  git://    …?branch=&tag=&subdir=&checksum=
//! ```
//!
//! The host's `git` does the work with an environment of its own: no configuration but the credential helpers, no
//! hooks, no prompts, only the protocols that are named here. What it checks out is read by path afterwards, as any
//! foreign tree is.
//!
//! Source: <https://docs.docker.com/build/concepts/context/#git-repositories>.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::interpret::clean;
pub use crate::model::git::is_git;

/// Most of git's own words that an error shows, in bytes.
const MESSAGE_BYTES_MAX: usize = 2000;
/// What git may speak.
const PROTOCOLS: &str = "https:http:ssh:git";

/// A repository and what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitSource {
    /// What git is given.
    pub remote: String,
    /// Branch, tag or commit; `None` is the remote's HEAD.
    pub reference: Option<String>,
    /// A folder of the repository instead of its root.
    pub subdir: Option<String>,
    /// What the commit (or the annotated tag) must begin with.
    pub checksum: Option<String>,
    /// Whether `.git` stays.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched.
    pub submodules: Option<bool>,
}

/// Why a repository cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// A query or fragment that is wrong.
    #[error("{reason}")]
    Address {
        /// What is wrong.
        reason: String,
    },
    /// There is no git.
    #[error("git is not installed on this host, and only git can fetch a repository")]
    NoGit,
    /// Git failed.
    #[error("git {command} failed: {message}")]
    Failed {
        /// Its first word.
        command: String,
        /// What it said.
        message: String,
    },
    /// The commit is another one.
    #[error("the commit is {actual}, not {expected}")]
    Checksum {
        /// What is wanted.
        expected: String,
        /// What is there.
        actual: String,
    },
    /// The folder is not in the repository.
    #[error("the repository has no folder `{subdir}`")]
    Subdir {
        /// The folder.
        subdir: String,
    },
    /// The system refused to start git.
    #[error("cannot run git")]
    Start {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl GitSource {
    /// Reads an address.
    ///
    /// Errors: `Address` for an unknown or repeated query, or one that contradicts another.
    pub fn parse(text: &str) -> Result<Self, GitError> {
        let address = |reason: String| GitError::Address { reason };
        let text = match text.strip_prefix("github.com/") {
            Some(rest) => format!("https://github.com/{rest}"),
            None => text.to_owned(),
        };
        let (text, fragment) = text.split_once('#').unwrap_or((&text, ""));
        let (remote, query) = text.split_once('?').unwrap_or((text, ""));
        if remote.starts_with('-') {
            return Err(address(format!("`{remote}` is not the address of a repository")));
        }
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let mut source =
            Self { remote: remote.into(), reference: some(reference), subdir: some(subdir), ..Self::default() };
        let (mut tag, mut branch) = (None, None);
        let mut seen = std::collections::BTreeSet::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value).ok_or_else(|| address(format!("the query {pair:?} is malformed")))?;
            if !seen.insert(key.to_owned()) {
                return Err(address(format!("query {key:?} has multiple values")));
            }
            let is_switch = matches!(key, "submodules" | "keep-git-dir");
            if value.is_empty() && !is_switch {
                return Err(address(format!("query {key:?} has no value")));
            }
            let switch = || match value.as_str() {
                "" | "1" | "t" | "true" | "TRUE" | "True" | "T" => Ok(true),
                "0" | "f" | "false" | "FALSE" | "False" | "F" => Ok(false),
                _ => Err(address(format!("invalid {key} value: {value:?}"))),
            };
            match key {
                "ref" => set(&mut source.reference, "ref", value)?,
                "subdir" => set(&mut source.subdir, "subdir", value)?,
                "tag" => tag = Some(prefixed("refs/tags/", value)),
                "branch" => branch = Some(prefixed("refs/heads/", value)),
                "checksum" | "commit" => source.checksum = Some(value),
                "keep-git-dir" => source.keep_git_dir = Some(switch()?),
                "submodules" => source.submodules = Some(switch()?),
                "mtime" | "fetch-by-commit" => {}
                _ => return Err(address(format!("unexpected query {key:?}"))),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err(address("branch conflicts with tag".into()));
        }
        if let Some(name) = tag.or(branch) {
            set(&mut source.reference, "ref", name)?;
        }
        if source.reference.is_none() {
            source.reference.clone_from(&source.checksum);
        }
        if source.reference.as_ref().is_some_and(|name| name.starts_with('-')) {
            return Err(address("a ref cannot begin with `-`".into()));
        }
        Ok(source)
    }

    /// Fetches the repository below `folder`, which must be empty; returns the folder that is wanted of it and the
    /// commit.
    pub fn fetch(&self, folder: &Path) -> Result<Checkout, GitError> {
        let tree = folder.join("tree");
        let run = |arguments: &[&str]| git(folder, &tree, arguments);
        std::fs::create_dir_all(folder).map_err(|source| GitError::Start { source })?;
        run(&["init", "--quiet", "--", path_text(&tree)])?;
        run(&["remote", "add", "origin", &self.remote])?;
        let wanted = self.reference.as_deref().unwrap_or("HEAD");
        let shallow = run(&["fetch", "--quiet", "--depth=1", "--no-tags", "--", "origin", wanted]);
        // Plain file servers hand out whole histories only.
        let fetched = match shallow {
            Err(GitError::Failed { message, .. }) if message.contains("does not support shallow") => {
                run(&["fetch", "--quiet", "--no-tags", "--", "origin", wanted])
            }
            shallow => shallow,
        };
        let commit = match fetched {
            Ok(_) => run(&["rev-parse", "--verify", "FETCH_HEAD"])?,
            // A server that does not hand out single commits, or an abbreviated one.
            Err(error) if is_commit(wanted) => {
                run(&["fetch", "--quiet", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*"])?;
                run(&["rev-parse", "--verify", &format!("{wanted}^{{commit}}")]).map_err(|_| error)?
            }
            Err(error) => return Err(error),
        };
        let object = commit.trim().to_owned();
        let commit = run(&["rev-parse", "--verify", &format!("{object}^{{commit}}")])?.trim().to_owned();
        if let Some(expected) = &self.checksum
            && !object.starts_with(expected.as_str())
            && !commit.starts_with(expected.as_str())
        {
            return Err(GitError::Checksum { expected: expected.clone(), actual: object });
        }
        run(&["checkout", "--quiet", "--detach", &commit])?;
        if self.submodules != Some(false) && tree.join(".gitmodules").exists() {
            run(&["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
        }
        let time_seconds = run(&["log", "-1", "--format=%ct", &commit])?.trim().parse().unwrap_or(0);
        tidy(&tree, self.keep_git_dir == Some(true)).map_err(|source| GitError::Start { source })?;
        let folder = match &self.subdir {
            None => tree,
            Some(subdir) => self.below(&tree, subdir)?,
        };
        Ok(Checkout { folder, time_seconds })
    }

    /// A folder of the tree; links in it must not lead out.
    fn below(&self, tree: &Path, subdir: &str) -> Result<PathBuf, GitError> {
        let path = tree.join(clean(subdir).trim_start_matches('/'));
        let missing = || GitError::Subdir { subdir: subdir.to_owned() };
        let (path, tree) = (path.canonicalize().map_err(|_| missing())?, tree.canonicalize().map_err(|_| missing())?);
        if path.starts_with(&tree) && path.is_dir() { Ok(path) } else { Err(missing()) }
    }

    /// The commit that the remote has for it now, without fetching; `None` when only fetching tells.
    pub fn remote_commit(&self) -> Result<Option<String>, GitError> {
        let wanted = self.reference.as_deref().unwrap_or("HEAD");
        if wanted.len() == 40 && is_commit(wanted) {
            return Ok(Some(wanted.to_owned()));
        }
        let peeled = format!("{wanted}^{{}}");
        let here = Path::new("/");
        let listed = git(here, here, &["ls-remote", "--", &self.remote, wanted, &peeled])?;
        let mut lines: Vec<(&str, &str)> = listed.lines().filter_map(|line| line.split_once('\t')).collect();
        // A tag's commit before the tag itself, a tag before a branch of the same name.
        lines.sort_by_key(|(_, name)| (!name.ends_with("^{}"), !name.starts_with("refs/tags/")));
        Ok(lines.first().map(|(commit, _)| (*commit).to_owned()))
    }
}

/// A fetched repository.
#[derive(Debug)]
pub struct Checkout {
    /// The wanted folder.
    pub folder: PathBuf,
    /// When it was made, seconds since 1970.
    pub time_seconds: i64,
}

fn set(slot: &mut Option<String>, name: &str, value: String) -> Result<(), GitError> {
    match slot {
        Some(old) if *old != value => {
            Err(GitError::Address { reason: format!("{name} conflicts: {old:?} vs {value:?}") })
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

fn prefixed(prefix: &str, name: String) -> String {
    if name.starts_with(prefix) { name } else { format!("{prefix}{name}") }
}

pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn path_text(path: &Path) -> &str {
    // Below the store's own folder, whose path is text in all but the strangest installations.
    path.to_str().unwrap_or_default()
}

/// Takes `.git` away unless it is to stay, and gives everything else a mode that does not depend on our umask.
fn tidy(folder: &Path, keep_git_dir: bool) -> std::io::Result<()> {
    let set_mode = |path: &Path, mode: u32| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    set_mode(folder, 0o755)?;
    for entry in std::fs::read_dir(folder)? {
        let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
        let kind = entry?;
        if path.file_name() == Some(OsStr::new(".git")) {
            match keep_git_dir {
                true => {}
                false if kind.is_dir() => std::fs::remove_dir_all(&path)?,
                false => std::fs::remove_file(&path)?,
            }
        } else if kind.is_dir() {
            tidy(&path, keep_git_dir)?;
        } else if kind.is_file() {
            let is_program = path.symlink_metadata()?.permissions().mode() & 0o100 != 0;
            set_mode(&path, if is_program { 0o755 } else { 0o644 })?;
        }
    }
    Ok(())
}

/// The credential settings of the user's own configuration, as arguments: all that is taken from it.
fn credential_helpers() -> Vec<OsString> {
    let mut arguments = Vec::new();
    for scope in ["--system", "--global"] {
        let list = Command::new("git").args(["config", scope, "--null", "--get-regexp", "^credential\\."]).output();
        let Ok(list) = list else { continue };
        for pair in list.stdout.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
            let Some(end) = pair.iter().position(|byte| *byte == b'\n') else { continue };
            let mut setting = pair.to_vec();
            setting[end] = b'=';
            arguments.push("-c".into());
            arguments.push(OsString::from_vec(setting));
        }
    }
    arguments
}

/// Variables that git and what it starts may see: where to find things, how to reach servers, how to log in.
fn is_passed_on(name: &OsStr) -> bool {
    const NAMES: [&str; 14] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR",
        "SSH_AUTH_SOCK",
        "SSH_AGENT_PID",
        "GIT_SSH_COMMAND",
        "GIT_SSL_CAINFO",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "GIT_ASKPASS",
        "TMPDIR",
    ];
    let Some(name) = name.to_str() else { return false };
    NAMES.contains(&name) || super::interpret::PROXY_ARGS.contains(&name)
}

/// What the shell ends with when it does not find the program.
const NOT_FOUND: i32 = 127;
/// Runs a program until it ends or this shell is told to; then all of its group end, helpers that wait for a server
/// included, which do not notice that git is gone.
const IN_ITS_GROUP: &str = r#"trap 'trap - TERM; kill 0' TERM; "$@" & wait $!"#;

/// Runs git in `tree` (or above it, while that is not there) and returns what it printed.
fn git(folder: &Path, tree: &Path, arguments: &[&str]) -> Result<String, GitError> {
    let mut command = Command::new("sh");
    command
        .args(["-c", IN_ITS_GROUP, "sh", "git"])
        .process_group(0)
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.symlinks=true"])
        .args(["-c", "protocol.file.allow=never", "-c", "protocol.ext.allow=never", "-c", "init.defaultBranch=main"])
        .args(["-c", "gc.auto=0", "-c", "advice.detachedHead=false", "-c", "transfer.fsckObjects=true"])
        .args(["-c", "fetch.fsckObjects=true", "-c", "filter.lfs.required=false"])
        .args(["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"])
        .args(credential_helpers())
        .args(arguments)
        .current_dir(if tree.is_dir() { tree } else { folder })
        .stdin(Stdio::null())
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| is_passed_on(name)))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ALLOW_PROTOCOL", PROTOCOLS)
        .env("GIT_PROTOCOL_FROM_USER", "0")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_ADVICE", "0")
        .env("LC_ALL", "C");
    if std::env::var_os("GIT_SSH_COMMAND").is_none() {
        command.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
    }
    // A killed build takes git along, and its helpers.
    crate::sys::process::end_with_starter(&mut command, libc::SIGTERM);
    let output = command.output().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => GitError::NoGit,
        _ => GitError::Start { source },
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    if output.status.code() == Some(NOT_FOUND) {
        return Err(GitError::NoGit);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message: String = text.trim().chars().take(MESSAGE_BYTES_MAX).collect();
    Err(GitError::Failed { command: arguments.first().copied().unwrap_or_default().to_owned(), message })
}

#[cfg(test)]
mod tests {
    use super::GitSource;

    #[test]
    fn addresses() {
        let source = GitSource::parse("https://h/x.git?tag=v1&keep-git-dir&checksum=abc#:a/b").expect("an address");
        assert_eq!(source.remote, "https://h/x.git");
        assert_eq!(source.reference.as_deref(), Some("refs/tags/v1"));
        assert_eq!(source.subdir.as_deref(), Some("a/b"));
        assert_eq!((source.keep_git_dir, source.checksum.as_deref()), (Some(true), Some("abc")));
        for wrong in ["h.git?x=1", "h.git?tag=a&branch=b", "h.git?ref=a&ref=b", "h.git?ref=", "h.git?tag=a#b", "-u"] {
            assert!(GitSource::parse(wrong).is_err(), "{wrong}");
        }
        assert!(GitSource::parse("h.git#--upload-pack=x").is_err());
    }
}
