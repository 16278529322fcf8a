//! Text to [`Project`]: finds the compose files, reads them, and makes one validated, canonical project of them.
//!
//! ```text
//! discovery   which files, which project folder, which .env, which name
//! for each file, for each document in it:
//!   yaml         text -> Node tree with positions (anchors, aliases, merge keys resolved)
//!   interpolate  ${VARIABLES} in values, then casts of the attributes that are not text
//!   include      other compose files below this one
//!   reset        drops what !reset and !override name from what was read before
//!   extends      base services below the services that name them
//!   merge        onto what was read before; unicity: one entry a key in lists that are sets
//!   schema       unknown attributes and wrong types, all of them at once
//!   canonical    short forms -> long forms
//! defaults, checks, paths (absolute), normalise (implicit network, names, implied dependencies)
//! bind           every attribute gets its type (durations, sizes, flags ...) in Compose's own order
//! profiles, consistency, env files -> Project, and the tree that `config` prints
//! explain        where each value comes from, out of places and what `trace` has noted on the way
//! artifact       the files of a project as they are published, and published ones as files
//! ```
//!
//! Invariants: pure but for reading files; the caller's environment is an argument. Every mistake has a place
//! in a file when it stems from one. Input, nodes, nesting and text are bounded (see [`limits`]), so hostile
//! files end in an error and not in a dead machine.
//!
//! It does not look at images, at what runs, or at the host beyond the files that are named.
//!
//! Specification: <https://github.com/compose-spec/compose-spec/blob/main/spec.md>.

pub mod artifact;
mod attributes;
mod bind;
mod canonical;
mod checks;
mod consistency;
mod defaults;
mod discovery;
mod dotenv;
mod error;
mod explain;
mod extends;
mod form;
mod interpolate;
pub mod limits;
mod merge;
mod model;
pub mod node;
mod normalize;
mod output;
mod path;
mod paths;
mod ports;
mod progress;
mod project;
pub mod remote;
mod reset;
mod resolve;
mod scalar;
mod schema;
mod template;
mod trace;
mod unicity;
mod unsupported;
#[cfg(test)]
mod unsupported_tests;
mod validate;
mod values;
mod volumes;
mod words;
mod yaml;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::base::error::Location;
use crate::model::project::Project;

use model::{Model, Settings};
use node::{Span, Value};
use progress::Load;
use trace::Trace;

pub use discovery::default_file;
pub use discovery::normalize_name;
pub use error::{Error, Mistake};
pub use explain::{Explanation, Origin};
pub use node::Node;
pub use output::yaml_text;
pub use remote::{Remote, Unavailable};
pub use template::Variable;
pub use trace::Used;

/// What to load, as flags and environment say it.
#[derive(Debug, Clone)]
pub struct Options {
    /// `-f`, in order; `-` is standard input. Empty: `COMPOSE_FILE`, else found from `working_dir` upward.
    pub files: Vec<PathBuf>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `--profile`; `*` is all. Empty: `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
    /// `--env-file`. Empty: `COMPOSE_ENV_FILES`, else `.env` in the project folder.
    pub env_files: Vec<PathBuf>,
    /// The caller's environment; it wins over every env file.
    pub environment: BTreeMap<String, String>,
    /// Where relative paths on the command line start; absolute.
    pub working_dir: PathBuf,
    /// Services named on the command line: their profiles are enabled.
    pub services: Vec<String>,
    /// Keep only `services` and what they depend on (`config web`). The others become disabled services.
    pub only_services: bool,
    /// Keep networks, volumes, configs and secrets that no enabled service uses (`--all-resources`).
    pub all_resources: bool,
    /// Substitute variables (off: `config --no-interpolate`; what depends on one is not in the [`Project`] then).
    pub interpolate: bool,
    /// Fill in implicit networks, names and dependencies (off: `config --no-normalize`).
    pub normalize: bool,
    /// Make paths absolute (off: `config --no-path-resolution`).
    pub resolve_paths: bool,
    /// Read `env_file`s and unset variables into `environment` (off: `config --no-env-resolution`).
    pub resolve_environment: bool,
    /// Check references between services, networks, volumes … (off: `config --no-consistency`).
    pub check_consistency: bool,
    /// Collect where each value comes from (`config --explain`).
    pub explain: bool,
    /// Brings `oci://…` here. Without, only files of this machine can be named.
    pub remote: Option<Remote>,
}

impl Options {
    /// The options of a command without flags, called in `working_dir` (absolute) with `environment`.
    pub fn new(working_dir: PathBuf, environment: BTreeMap<String, String>) -> Self {
        Self {
            files: Vec::new(),
            project_name: None,
            project_directory: None,
            profiles: Vec::new(),
            env_files: Vec::new(),
            environment,
            working_dir,
            services: Vec::new(),
            only_services: false,
            all_resources: false,
            interpolate: true,
            normalize: true,
            resolve_paths: true,
            resolve_environment: true,
            check_consistency: true,
            explain: false,
            remote: None,
        }
    }
}

/// Something that the user should know and that does not stop the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// One sentence, lower-case, no period.
    pub message: String,
    /// The place in a file, when it stems from one.
    pub location: Option<Location>,
}

/// A loaded project with the tree that `config` prints.
#[derive(Debug)]
pub struct Loaded {
    /// The project.
    pub project: Project,
    /// The same in canonical form, in the order in which Compose prints it. Where variables were not substituted:
    /// the merged files, sorted by key, with every service and resource.
    pub tree: Node,
    /// What was noticed on the way, in the order of the phases.
    pub warnings: Vec<Warning>,
    /// Every file that was read, or would have been had it been there; absolute.
    pub sources: Vec<PathBuf>,
    /// Where each value comes from, if that was asked for.
    pub explanations: Vec<Explanation>,
    /// What of the specification this project uses and wharf does not act on yet.
    unsupported: Vec<Warning>,
    /// Whether variables were substituted: dollar signs are doubled in output then, so that it can be loaded again.
    interpolated: bool,
}

impl Loaded {
    /// The project as `config --format json` prints it, with a line break at the end.
    pub fn to_json(&self) -> String {
        match self.interpolated {
            true => self.escaped(output::json_text(&self.tree)) + "\n",
            false => output::whole_json_text(&self.tree) + "\n",
        }
    }

    /// The project as `config` prints it.
    pub fn to_yaml(&self) -> String {
        self.escaped(output::yaml_text(&self.tree))
    }

    fn escaped(&self, text: String) -> String {
        if self.interpolated { text.replace('$', "$$") } else { text }
    }
}

/// Where a project is, before any compose file is read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The compose files, absolute (or `-`), in merge order. Empty: there is no project here.
    pub files: Vec<PathBuf>,
    /// The project folder, absolute.
    pub project_directory: PathBuf,
    /// The env files that were read.
    pub env_files: Vec<PathBuf>,
    /// The caller's environment over that of the env files.
    pub environment: BTreeMap<String, String>,
    /// The name that flags, environment or the folder give; a `name:` in the files may still replace the last.
    pub project_name: String,
    /// Profiles from flags or `COMPOSE_PROFILES`.
    pub profiles: Vec<String>,
}

/// Finds the project in scope without reading its files. No file is not an error: `files` is empty then.
pub fn discover(options: &Options) -> Result<Scope, Error> {
    let mut load = Load::default();
    load.remote = options.remote.clone();
    discovery::discover(&mut load, options)
}

/// The words of a command that is written as one text, split as in a compose file.
///
/// Errors: quotes without a partner; the text says so.
pub fn split_command(text: &str) -> Result<Vec<String>, String> {
    words::split(text).map(|words| words.words).map_err(|error| error.to_string())
}

/// Loads the project in scope.
///
/// Errors: [`Error::NoFile`] where there is none, [`Error::Invalid`] with every mistake that could be found.
pub fn load(options: &Options) -> Result<Loaded, Error> {
    let mut load = Load::default();
    load.remote = options.remote.clone();
    load.lenient = !options.interpolate;
    load.trace = options.explain.then(|| Box::new(Trace::new(options.environment.clone())));
    let mut scope = discovery::discover(&mut load, options)?;
    if scope.files.is_empty() {
        return Err(Error::NoFile { folder: scope.project_directory });
    }
    let documents = parse_files(&mut load, &scope.files)?;
    scope.project_name = project::name(&mut load, options, &scope, &documents)?;
    scope.environment.insert("COMPOSE_PROJECT_NAME".into(), scope.project_name.clone());
    let settings = Settings {
        interpolate: options.interpolate,
        resolve_paths: options.resolve_paths,
        home: options.environment.get("HOME").cloned(),
    };
    let mut model = Model::new(&settings, scope.project_directory.clone(), scope.environment.clone());
    let mut tree = model.merge_files(&mut load, documents)?;
    let Some(map) = tree.as_map_mut().filter(|map| !map.is_empty()) else {
        load.check()?;
        let files: Vec<String> = scope.files.iter().map(|file| file.display().to_string()).collect();
        return Err(load.fail(Span::default(), format!("{} holds nothing", files.join(", "))));
    };
    let name = map.get("name").map_or_else(Node::null, Node::clone_place);
    map.insert("name".into(), name.with_value(Value::Text(scope.project_name.clone())));
    if options.normalize {
        normalize::normalize(&mut tree, &scope.project_name, &scope.environment);
    }
    let values = project::take_values(&tree);
    let written = (!options.interpolate).then(|| output::as_written(&tree));
    let mut tree = bind::bind(&mut load, &tree);
    let project = project::finish(&mut load, &mut tree, options, scope, &values)?;
    let explanations = explain::explain(&mut load, &tree, &project.name);
    let mut unsupported = Vec::new();
    unsupported::find(&tree, &mut |node, path, reason| {
        let span = if node.key.is_known() { node.key } else { node.span };
        let value = node.as_str().map(|text| format!(" (`{text}`)")).unwrap_or_default();
        let message = format!("{path}{value} has no effect: {reason}");
        unsupported.push(Warning { message, location: load.location(span) });
    });
    let interpolated = written.is_none();
    let tree = written.unwrap_or(tree);
    let sources = load.sources.iter().cloned().collect();
    let warnings = load.take_warnings();
    Ok(Loaded { project, tree, warnings, sources, explanations, unsupported, interpolated })
}

/// The variables that the project's files name, by name. Of several that say different things of one, the first counts.
///
/// Errors: those of [`load`] without substitution: a project that lacks a required variable can be asked for it.
pub fn variables(options: &Options) -> Result<BTreeMap<String, Variable>, Error> {
    let raw = Options {
        interpolate: false,
        resolve_environment: false,
        check_consistency: false,
        all_resources: true,
        profiles: vec!["*".into()],
        services: Vec::new(),
        only_services: false,
        ..options.clone()
    };
    let mut variables = BTreeMap::new();
    load(&raw)?.tree.walk_texts(&mut |text| {
        template::variables(text, &mut |variable| {
            variables.entry(variable.name.clone()).or_insert(variable);
        });
    });
    Ok(variables)
}

/// Parses the files of the command line, before anything is done with them: their `name:` comes first.
fn parse_files(load: &mut Load, files: &[PathBuf]) -> Result<Vec<(PathBuf, Vec<Node>)>, Error> {
    let mut documents = Vec::with_capacity(files.len());
    let mut unreadable = Vec::new();
    for file in files {
        let index = if file.as_os_str() == "-" { load.read_standard_input()? } else { load.read(file)? };
        match yaml::parse(load, index) {
            Ok(parsed) => documents.push((file.clone(), parsed)),
            // What cannot be read further is no reason not to look at the other files.
            Err(Error::Invalid { mistakes }) => unreadable.extend(mistakes),
            Err(error) => return Err(error),
        }
    }
    if unreadable.is_empty() { Ok(documents) } else { Err(Error::Invalid { mistakes: unreadable }) }
}

/// The attributes of `loaded` that the specification knows and wharf does not act on yet.
pub fn unsupported(loaded: &Loaded) -> Vec<Warning> {
    loaded.unsupported.clone()
}

/// Reads the first document of any YAML or JSON file, within the limits for compose files.
///
/// Errors: it cannot be read, or is none.
pub fn read_document(path: &std::path::Path) -> Result<serde_json::Value, Error> {
    let mut load = Load::default();
    let file = load.read(path)?;
    let documents = yaml::parse(&mut load, file)?;
    load.check()?;
    Ok(documents.first().map(output::whole_json).unwrap_or_default())
}
