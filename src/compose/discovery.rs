//! Which project is meant: its files, folder, environment, profiles and name, from flags, environment and disk.
//!
//! Order, as in Compose: the caller's environment; `--env-file`s or the `.env` beside the project; `COMPOSE_FILE`
//! from both; else the nearest compose file upward; then the `.env` beside what was found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::model::{is_env_file, read_env_files};
use super::node::Span;
use super::paths::clean;
use super::progress::Load;
use super::remote::{bring, is_address};
use super::{Error, Options, Scope};

/// Names of compose files, in order of preference.
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// Names of the files that are laid over them when they are beside.
const OVERRIDES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// The compose file of a folder: of the usual names the first that is there.
pub fn default_file(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Finds the project.
pub(crate) fn discover(load: &mut Load, options: &Options) -> Result<Scope, Error> {
    let absolute = |path: &Path| match path.to_str() {
        Some("-") => PathBuf::from("-"),
        _ => PathBuf::from(clean(&options.working_dir.join(path).to_string_lossy())),
    };
    let chosen = options.project_directory.as_deref().map(absolute);
    let mut files: Vec<PathBuf> = Vec::with_capacity(options.files.len());
    // Where the files of the last address lie: what relative paths in the project start from.
    let mut brought: Option<PathBuf> = None;
    for file in &options.files {
        match file.to_str().filter(|text| is_address(text)) {
            Some(address) => {
                let file = bring(load, address, Span::default())?;
                brought = file.parent().map(Path::to_owned);
                files.push(file);
            }
            None => files.push(absolute(file)),
        }
    }
    // A project from elsewhere takes its name and its `.env` from the folder that it is used in.
    let begins_elsewhere = options.files.iter().find(|file| file.as_os_str() != "-");
    let begins_elsewhere = begins_elsewhere.and_then(|file| file.to_str()).is_some_and(is_address);
    let folder = |files: &[PathBuf]| {
        if begins_elsewhere {
            return chosen.clone().unwrap_or_else(|| options.working_dir.clone());
        }
        let beside = files.iter().find(|file| file.as_os_str() != "-").and_then(|file| file.parent());
        chosen.clone().or_else(|| beside.map(Path::to_owned)).unwrap_or_else(|| options.working_dir.clone())
    };
    let mut environment = options.environment.clone();
    let mut env_files = env_files(options, &folder(&files), &absolute)?;
    // Pipes that the user named are waited for (`--env-file <(command)`).
    let place = options.env_files.is_empty().then(Span::default);
    extend(load, &mut environment, &env_files, place)?;
    if files.is_empty() {
        files = files_of_environment(load, &environment, &absolute)?;
    }
    if files.is_empty() {
        files = search(load, &folder(&files));
    }
    // The compose file may lie in another folder than the one the search began in, with a `.env` beside it.
    let found = self::env_files(options, &folder(&files), &absolute)?;
    if found != env_files {
        extend(load, &mut environment, &found, place)?;
        env_files = found;
    }
    let project_directory = folder(&files);
    if env_files.is_empty() && options.env_files.is_empty() {
        load.sources.insert(project_directory.join(".env"));
    }
    let project_name = name(options, &environment, &project_directory)?;
    let project_directory = chosen.clone().or(brought).unwrap_or(project_directory);
    let profiles = match options.profiles.as_slice() {
        // Without any, the profile of no name is active, as in Compose: `profiles: ["${DEBUG:+debug}"]` is on by default.
        [] => {
            let text = environment.get("COMPOSE_PROFILES").map_or("", String::as_str);
            text.split(',').map(|profile| profile.trim().to_owned()).collect()
        }
        profiles => profiles.to_vec(),
    };
    Ok(Scope { files, project_directory, env_files, environment, project_name, profiles })
}

/// Adds what the files say and the environment does not.
fn extend(
    load: &mut Load,
    environment: &mut BTreeMap<String, String>,
    files: &[PathBuf],
    place: Option<Span>,
) -> Result<(), Error> {
    for (key, value) in read_env_files(load, files, environment, place)? {
        environment.entry(key).or_insert(value);
    }
    Ok(())
}

fn env_files(options: &Options, folder: &Path, absolute: &dyn Fn(&Path) -> PathBuf) -> Result<Vec<PathBuf>, Error> {
    if !options.env_files.is_empty() {
        return Ok(options.env_files.iter().map(|file| absolute(file)).collect());
    }
    if let Some(list) = options.environment.get("COMPOSE_ENV_FILES").filter(|list| !list.is_empty()) {
        return Ok(list.split(',').map(|file| absolute(Path::new(file))).collect());
    }
    if switch(&options.environment, "COMPOSE_DISABLE_ENV_FILE")? {
        return Ok(Vec::new());
    }
    let file = folder.join(".env");
    Ok(if is_env_file(&file) { vec![file] } else { Vec::new() })
}

/// The value of a boolean variable; unset is false.
fn switch(environment: &BTreeMap<String, String>, variable: &str) -> Result<bool, Error> {
    match environment.get(variable).map(String::as_str) {
        None => Ok(false),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        Some(value) => Err(Error::Switch { variable: variable.to_owned(), value: value.to_owned() }),
    }
}

fn files_of_environment(
    load: &mut Load,
    environment: &BTreeMap<String, String>,
    absolute: &dyn Fn(&Path) -> PathBuf,
) -> Result<Vec<PathBuf>, Error> {
    let Some(list) = environment.get("COMPOSE_FILE").filter(|list| !list.is_empty()) else { return Ok(Vec::new()) };
    let separator = environment.get("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty());
    let files: Vec<PathBuf> =
        list.split(separator.map_or(":", String::as_str)).map(|file| absolute(Path::new(file))).collect();
    match files.iter().find(|file| file.as_os_str() != "-" && !file.exists()) {
        Some(missing) => {
            Err(load.fail(Span::default(), format!("COMPOSE_FILE names {}, which does not exist", missing.display())))
        }
        None => Ok(files),
    }
}

/// The nearest compose file in `folder` or above it, and its override file.
fn search(load: &mut Load, folder: &Path) -> Vec<PathBuf> {
    for folder in folder.ancestors() {
        if let Some(file) = preferred(load, folder, &NAMES) {
            load.sources.extend(OVERRIDES.iter().map(|name| folder.join(name)));
            return [Some(file), preferred(load, folder, &OVERRIDES)].into_iter().flatten().collect();
        }
    }
    Vec::new()
}

/// The first of `names` that exists in `folder`; others beside it are warned about.
fn preferred(load: &mut Load, folder: &Path, names: &[&str]) -> Option<PathBuf> {
    let mut present = names.iter().map(|name| folder.join(name)).filter(|file| file.exists());
    let first = present.next()?;
    if present.next().is_some() {
        let message = format!("several compose files are in {}, using {}", folder.display(), first.display());
        load.warn(Span::default(), message);
    }
    Some(first)
}

/// The project's name before its files are read.
fn name(options: &Options, environment: &BTreeMap<String, String>, folder: &Path) -> Result<String, Error> {
    match chosen_name(options, environment) {
        Some(name) if normalize_name(&name) == name => Ok(name),
        Some(name) => Err(Error::ProjectName { name }),
        None => Ok(normalize_name(&folder.file_name().unwrap_or_default().to_string_lossy())),
    }
}

/// The name that a flag or variable gives, which no file changes.
pub(crate) fn chosen_name(options: &Options, environment: &BTreeMap<String, String>) -> Option<String> {
    let flag = options.project_name.as_ref().filter(|name| !name.is_empty());
    flag.or_else(|| environment.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty())).cloned()
}

/// Makes a project name of any text: lower-case, without what cannot be in one.
pub fn normalize_name(text: &str) -> String {
    let lower = text.to_lowercase();
    let kept: String =
        lower.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-')).collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}
