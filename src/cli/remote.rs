//! Projects from elsewhere: `-f oci://host/name:tag`, `-f https://host/path.git#ref:folder` and the same in `include`.
//!
//! The files of each digest lie in a folder of their own, in the user's cache: `~/.cache/wharf/compose/<digest>`, and
//! those of each commit in `~/.cache/wharf/compose/git/<commit>-<repository>`. A tag or branch is asked for in its
//! registry or repository every time, a digest or commit only once.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use super::show::table::Table;
use super::{Context, Failure, Mistake};
use crate::base::error::Explain;
use crate::base::fs;
use crate::base::id::{Digest, random_hex};
use crate::build::{GitError, GitSource};
use crate::compose::remote::{OCI, is_address, is_git_repository};
use crate::compose::{self, Loaded, Options, Remote, Unavailable, artifact};
use crate::image::{self, ArtifactOptions};
use crate::model::reference::Reference;

/// What brings addresses here. `insecure` are registries to speak HTTP to.
pub fn remote(insecure: &[String]) -> Remote {
    let insecure = insecure.to_vec();
    Remote::new(move |address| match is_git_repository(address) {
        true => bring_repository(address),
        false => bring(address, &insecure),
    })
}

/// Errors: the user does not want addresses of this kind.
fn check_switch(variable: &str) -> Result<(), Unavailable> {
    let enabled = std::env::var(variable).unwrap_or_default();
    match matches!(enabled.to_ascii_lowercase().as_str(), "0" | "f" | "false") {
        true => Err(plain(&format!("addresses are switched off by {variable}"))),
        false => Ok(()),
    }
}

/// The compose file of a repository: its folder's, or the file that the address names. Links in it do not lead out.
fn bring_repository(address: &str) -> Result<PathBuf, Unavailable> {
    check_switch("COMPOSE_EXPERIMENTAL_GIT_REMOTE")?;
    let failed = |error: GitError| {
        let mut message = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            message.push_str(&format!(": {cause}"));
        }
        plain(&message)
    };
    let mut source = GitSource::parse(address).map_err(failed)?;
    let wanted = source.subdir.take().unwrap_or_default();
    let commit = source.remote_commit().map_err(failed)?;
    let commit = commit.filter(|commit| commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let Some(commit) = commit else {
        let reference = source.reference.as_deref().unwrap_or("HEAD");
        return Err(Unavailable {
            message: format!("the repository has no `{reference}`"),
            hint: Some("a branch, a tag or a whole commit can be named".into()),
        });
    };
    let cache = cache_folder().join("git");
    let repository = Digest::of(source.remote.as_bytes());
    let tree = cache.join(format!("{commit}-{}", &repository.hex()[..12]));
    if !tree.is_dir() {
        // Compose files come from the repository itself; its submodules only where they are asked for.
        source.submodules = Some(source.submodules == Some(true));
        source.keep_git_dir = None;
        source.checksum.get_or_insert(commit);
        keep(&cache, &tree, |temporary| {
            let checkout = source.fetch(temporary).map_err(failed)?;
            Ok(checkout.folder)
        })?;
    }
    let below = |path: &Path| {
        path.canonicalize().ok().filter(|path| tree.canonicalize().is_ok_and(|tree| path.starts_with(tree)))
    };
    let missing = || plain(&format!("the repository has no `{wanted}`"));
    let place = below(&tree.join(wanted.trim_start_matches('/'))).ok_or_else(missing)?;
    if !place.is_dir() {
        return Ok(place);
    }
    let file = compose::default_file(&place).and_then(|file| below(&file));
    file.ok_or_else(|| match wanted.as_str() {
        "" => plain("the repository has no compose file"),
        wanted => plain(&format!("there is no compose file in `{wanted}` of the repository")),
    })
}

/// The main file of an address, fetched unless what it means today is in the cache.
fn bring(address: &str, insecure: &[String]) -> Result<PathBuf, Unavailable> {
    check_switch("COMPOSE_EXPERIMENTAL_OCI_REMOTE")?;
    let name = address.strip_prefix(OCI).unwrap_or(address);
    let reference: Reference =
        name.parse().map_err(|error: crate::model::reference::InvalidReference| plain(&error.to_string()))?;
    let cache = cache_folder();
    let folder = |digest: &Digest| cache.join(digest.hex());
    let main = |digest: &Digest| folder(digest).join(artifact::MAIN);
    if let Some(digest) = reference.digest.as_ref().filter(|digest| main(digest).is_file()) {
        return Ok(main(digest));
    }
    let options = ArtifactOptions { insecure: insecure.contains(&reference.registry), version: None };
    let is_here = |digest: &Digest| main(digest).is_file();
    let (digest, parts) = image::fetch_artifact(&reference, options, &is_here).map_err(|error| unavailable(&error))?;
    if let Some(parts) = parts {
        keep(&cache, &folder(&digest), |temporary| {
            artifact::unpack(&parts, temporary).map_err(|error| plain(&error.to_string()))?;
            Ok(temporary.to_owned())
        })?;
    }
    Ok(main(&digest))
}

/// Has the files made beside their folder, and moves what `make` returns there whole. Another command may have been
/// faster.
fn keep(
    cache: &Path,
    folder: &Path,
    make: impl FnOnce(&Path) -> Result<PathBuf, Unavailable>,
) -> Result<(), Unavailable> {
    let temporary = cache.join(format!(".tmp-{}", random_hex(8)));
    let file = |error: fs::Error| unavailable(&error);
    fs::create_dir_all(&temporary).map_err(file)?;
    let result = make(&temporary).and_then(|made| match std::fs::rename(&made, folder) {
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(plain(&format!("cannot make {}: {error}", folder.display()))),
        Ok(()) => fs::sync_folder(cache).map_err(file),
    });
    // After the move it may not be there any more.
    drop(fs::remove_dir_all(&temporary));
    result
}

fn cache_folder() -> PathBuf {
    let folder = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    base.unwrap_or_else(|| PathBuf::from("/var/cache")).join("wharf/compose")
}

fn plain(message: &str) -> Unavailable {
    Unavailable { message: message.to_owned(), hint: None }
}

/// An error with its causes in one line.
fn unavailable(error: &dyn Explain) -> Unavailable {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    Unavailable { message, hint: error.hint() }
}

impl Context {
    /// Says where a project from elsewhere lies, and asks whether its variables are right unless `yes`.
    ///
    /// Errors: the user does not want it, or there is nobody to ask.
    pub fn confirm_remote(&self, loaded: &Loaded, yes: bool) -> Result<(), Failure> {
        let address = self.global.files.first().and_then(|file| file.to_str()).filter(|file| is_address(file));
        let Some(address) = address else { return Ok(()) };
        if !self.reports_json() && !self.global.dry_run {
            let folder = loaded.project.working_dir.display();
            self.say(&format!("Your compose stack \"{address}\" is stored in \"{folder}\""));
        }
        if yes || self.global.dry_run {
            return Ok(());
        }
        let variables = compose::variables(&Options { services: Vec::new(), ..self.compose_options()? })?;
        if variables.is_empty() {
            return Ok(());
        }
        let mut table = Table::wide(["VARIABLE", "VALUE", "SOURCE", "REQUIRED", "DEFAULT"]);
        for variable in variables.into_values() {
            let own = loaded.project.environment.get(&variable.name).cloned();
            let (value, source) = match (own, variable.default.as_str()) {
                (Some(value), _) => (value, "environment"),
                (None, "") => ("<unset>".to_owned(), "none"),
                (None, default) => (default.to_owned(), "compose file"),
            };
            let required = if variable.required { "yes" } else { "no" };
            table.row(vec![variable.name, value, source.to_owned(), required.to_owned(), variable.default]);
        }
        let mut text = b"\nFound the following variables in configuration:\n".to_vec();
        table.write(&mut text)?;
        text.extend_from_slice(b"\nDo you want to proceed with these variables? [Y/n]: ");
        let mut err = std::io::stderr().lock();
        err.write_all(&text)?;
        let mut answer = String::new();
        let answered = std::io::stdin().lock().read_line(&mut answer)? > 0;
        match answered && matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes") {
            true => Ok(()),
            false => {
                writeln!(err)?;
                let hint = Some("--yes answers the question".to_owned());
                Err(Mistake::Usage { text: "operation cancelled by user".into(), hint }.into())
            }
        }
    }
}
