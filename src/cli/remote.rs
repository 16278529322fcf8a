//! Projects from registries: `-f oci://host/name:tag` and the same in `include`.
//!
//! The files of each digest lie in a folder of their own, in the user's cache: `~/.cache/wharf/compose/<digest>`. A
//! tag is asked for in its registry every time, a digest only once.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use super::show::table::Table;
use super::{Context, Failure, Mistake};
use crate::base::error::Explain;
use crate::base::fs;
use crate::base::id::{Digest, random_hex};
use crate::compose::remote::OCI;
use crate::compose::{self, Loaded, Options, Remote, Unavailable, artifact};
use crate::image::{self, ArtifactOptions};
use crate::model::artifact::Part;
use crate::model::reference::Reference;

/// What brings addresses here. `insecure` are registries to speak HTTP to.
pub fn remote(insecure: &[String]) -> Remote {
    let insecure = insecure.to_vec();
    Remote::new(move |address| bring(address, &insecure))
}

/// The main file of an address, fetched unless what it means today is in the cache.
fn bring(address: &str, insecure: &[String]) -> Result<PathBuf, Unavailable> {
    let enabled = std::env::var("COMPOSE_EXPERIMENTAL_OCI_REMOTE").unwrap_or_default();
    if matches!(enabled.to_ascii_lowercase().as_str(), "0" | "f" | "false") {
        let message = "addresses are switched off by COMPOSE_EXPERIMENTAL_OCI_REMOTE".into();
        return Err(Unavailable { message, hint: None });
    }
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
        keep(&parts, &cache, &folder(&digest))?;
    }
    Ok(main(&digest))
}

/// Writes the files beside their folder and moves them there whole. Another command may have been faster.
fn keep(parts: &[Part], cache: &Path, folder: &Path) -> Result<(), Unavailable> {
    let temporary = cache.join(format!(".tmp-{}", random_hex(8)));
    let file = |error: fs::Error| unavailable(&error);
    fs::create_dir_all(&temporary).map_err(file)?;
    let result = artifact::unpack(parts, &temporary).map_err(|error| plain(&error.to_string())).and_then(|()| {
        match std::fs::rename(&temporary, folder) {
            Err(_) if folder.join(artifact::MAIN).is_file() => Ok(()),
            Err(error) => Err(plain(&format!("cannot make {}: {error}", folder.display()))),
            Ok(()) => fs::sync_folder(cache).map_err(file),
        }
    });
    // After the move it is not there any more.
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
        let address = self.global.files.first().and_then(|file| file.to_str()).filter(|file| file.starts_with(OCI));
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
