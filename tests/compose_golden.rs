//! Loads each folder of `tests/data/compose` and compares the whole result, or the whole error.
//!
//! A folder holds compose files and `expected.json`, `expected.yaml` or `expected.txt` (the error with its
//! excerpts and hints, or the warnings), and may hold `options.json`: `files`, `project_name`, `profiles`,
//! `services`, `environment`, `env_files`, `folder`, `only_services`, `all_resources`, `no_interpolate`. `@DIR@` stands for the folder.
//! `UPDATE_EXPECT=1` writes the expected files anew; read the difference before you commit it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use wharf::base::error::Explain;
use wharf::compose::{self, Loaded, Options};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    files: Vec<PathBuf>,
    folder: String,
    project_name: Option<String>,
    profiles: Vec<String>,
    services: Vec<String>,
    environment: BTreeMap<String, String>,
    env_files: Vec<PathBuf>,
    only_services: bool,
    all_resources: bool,
    no_interpolate: bool,
}

fn load(folder: &Path) -> Result<Loaded, compose::Error> {
    let case: Case = fs::read(folder.join("options.json"))
        .map(|bytes| serde_json::from_slice(&bytes).expect("options.json is well-formed"))
        .unwrap_or_default();
    let mut options = Options::new(folder.join(case.folder), case.environment);
    options.files = case.files;
    options.project_name = case.project_name;
    options.profiles = case.profiles;
    options.services = case.services;
    options.env_files = case.env_files;
    options.only_services = case.only_services;
    options.all_resources = case.all_resources;
    options.interpolate = !case.no_interpolate;
    compose::load(&options)
}

/// Everything that a user is shown about an error.
fn describe(error: &compose::Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("  caused by: {cause}\n"));
        source = cause.source();
    }
    for excerpt in error.excerpts() {
        let indent = " ".repeat(excerpt.location.column.saturating_sub(1));
        let caret = "^".repeat(excerpt.length.max(1));
        let caret = format!("{indent}{caret} {}", excerpt.label);
        text.push_str(&format!("  --> {}\n   | {}\n   | {}\n", excerpt.location, excerpt.source, caret.trim_end()));
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

fn warnings(loaded: &Loaded) -> String {
    loaded
        .warnings
        .iter()
        .chain(&compose::unsupported(loaded))
        .map(|warning| match &warning.location {
            Some(location) => format!("{location}: {}\n", warning.message),
            None => format!("{}\n", warning.message),
        })
        .collect()
}

/// What the folder's expected files must hold, by name.
fn outcome(folder: &Path) -> BTreeMap<&'static str, String> {
    let mut outcome = BTreeMap::new();
    match load(folder) {
        Ok(loaded) => {
            outcome.insert("expected.json", loaded.to_json());
            if folder.join("expected.yaml").exists() {
                outcome.insert("expected.yaml", loaded.to_yaml());
            }
            let warnings = warnings(&loaded);
            if !warnings.is_empty() {
                outcome.insert("expected.txt", warnings);
            }
        }
        Err(error) => {
            outcome.insert("expected.txt", describe(&error));
        }
    }
    let place = folder.display().to_string();
    outcome.values_mut().for_each(|text| *text = text.replace(&place, "@DIR@"));
    outcome
}

#[test]
fn every_case_loads_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/compose");
    let mut folders: Vec<PathBuf> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 20, "the cases are missing");
    let mut failures = Vec::new();
    for folder in folders {
        let outcome = outcome(&folder);
        for name in ["expected.json", "expected.yaml", "expected.txt"] {
            let file = folder.join(name);
            let expected = fs::read_to_string(&file).unwrap_or_default();
            let found = outcome.get(name).map_or("", String::as_str);
            if update && !found.is_empty() {
                fs::write(&file, found).unwrap();
            } else if update {
                drop(fs::remove_file(&file));
            } else if expected != found {
                failures.push(format!("{}\n--- expected\n{expected}\n--- found\n{found}", file.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn yaml_output_loads_to_the_same_project() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/compose");
    let scratch = std::env::temp_dir().join(format!("wharf-compose-{}", std::process::id()));
    fs::create_dir_all(&scratch).unwrap();
    let mut compared = 0;
    for entry in fs::read_dir(&data).unwrap() {
        let folder = entry.unwrap().path();
        // What still holds variables can be another project the next time.
        if folder.ends_with("no-interpolate") {
            continue;
        }
        let Ok(first) = load(&folder) else { continue };
        let file = scratch.join("compose.yaml");
        fs::write(&file, first.to_yaml()).unwrap();
        let mut options = Options::new(scratch.clone(), BTreeMap::new());
        options.files = vec![file];
        options.profiles = vec!["*".into()];
        options.all_resources = true;
        let second = compose::load(&options).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        assert_eq!(first.to_json(), second.to_json(), "{}", folder.display());
        compared += 1;
    }
    fs::remove_dir_all(&scratch).unwrap();
    assert!(compared > 10);
}
