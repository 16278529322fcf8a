//! One set of compose files merged into one tree: the phases up to absolute paths, and `include`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::limits::{CHAIN_MAX, ENV_FILE_BYTES_MAX, PIPE_PATIENCE};
use super::node::{Map, Node, Span, Value};
use super::paths::{Folders, clean};
use super::progress::Load;
use super::remote::{bring, is_address};
use super::reset::Resets;
use super::{
    Error, canonical, checks, defaults, dotenv, extends, interpolate, merge, path, paths, unicity, validate, yaml,
};
use crate::base::fs;

/// What holds for the whole load.
pub(crate) struct Settings {
    pub interpolate: bool,
    pub resolve_paths: bool,
    /// Where `~` is.
    pub home: Option<String>,
}

/// Files that are merged together: those of the command line, or those of one `include` entry.
pub(crate) struct Model<'a> {
    pub settings: &'a Settings,
    /// What relative paths start in, absolute.
    pub folder: PathBuf,
    /// What variables are substituted from.
    pub environment: BTreeMap<String, String>,
    /// The files whose `include` led here.
    pub included: Vec<PathBuf>,
    /// Files that services extend, by path.
    pub bases: HashMap<PathBuf, extends::Base>,
}

impl<'a> Model<'a> {
    /// A model without any file yet.
    pub fn new(settings: &'a Settings, folder: PathBuf, environment: BTreeMap<String, String>) -> Self {
        Self { settings, folder, environment, included: Vec::new(), bases: HashMap::new() }
    }

    /// `path` below this model's folder.
    pub fn absolute(&self, path: &str) -> PathBuf {
        match path.starts_with('/') {
            true => PathBuf::from(clean(path)),
            false => PathBuf::from(clean(&format!("{}/{path}", self.folder.display()))),
        }
    }

    /// Merges the documents of files, in order.
    pub fn merge_files(&mut self, load: &mut Load, files: Vec<(PathBuf, Vec<Node>)>) -> Result<Node, Error> {
        let mut tree: Node = Value::Map(Map::new()).into();
        for (file, documents) in files {
            for document in documents {
                tree = self.add_document(load, &file, tree, document)?;
            }
        }
        defaults::fill(&mut tree);
        checks::check(load, &tree);
        load.leave_out_wrong(&mut tree);
        if self.settings.resolve_paths {
            let folders = Folders { base: &self.folder, home: self.settings.home.as_deref() };
            paths::resolve(load, &mut tree, &folders);
        }
        self.take_values(load, &mut tree);
        Ok(tree)
    }

    fn add_document(
        &mut self,
        load: &mut Load,
        file: &Path,
        mut tree: Node,
        mut document: Node,
    ) -> Result<Node, Error> {
        load.charge_document(&document)?;
        let resets = Resets::take(&mut document);
        let Value::Map(_) = document.value else {
            let message = format!("a compose file must be a mapping, not {}", document.kind());
            return Err(load.fail(document.place(), message));
        };
        if self.settings.interpolate {
            interpolate::interpolate(load, &mut document, &self.environment)?;
        }
        load.leave_out_wrong(&mut document);
        self.include(load, file, &mut document, &resets)?;
        resets.apply(load, &mut tree);
        self.extend_services(load, file, &mut document, &resets)?;
        let mut tree = merge::merge(load, tree, document, path::Path::default())?;
        unicity::enforce(load, &mut tree, false);
        validate::validate(load, &tree);
        load.leave_out_wrong(&mut tree);
        if let Some(version) = tree.as_map_mut().and_then(|map| map.shift_remove("version")) {
            load.warn(version.key, "`version` is obsolete and ignored, remove it".into());
        }
        canonical::canonical(load, &mut tree, !self.settings.interpolate)?;
        load.leave_out_wrong(&mut tree);
        drop_empty_dns(&mut tree);
        unicity::enforce(load, &mut tree, true);
        if load.is_full() { load.check().map(|()| tree) } else { Ok(tree) }
    }

    /// Reads the models that `include` names and lays this document over them.
    fn include(&mut self, load: &mut Load, file: &Path, document: &mut Node, resets: &Resets) -> Result<(), Error> {
        let Some(include) = document.as_map_mut().and_then(|map| map.shift_remove("include")) else { return Ok(()) };
        if include.is_null() {
            return Ok(());
        }
        let before = load.mistake_count();
        validate::validate_include(load, &include);
        if load.mistake_count() > before {
            return Ok(());
        }
        let mut included = self.included.clone();
        included.push(file.to_owned());
        for entry in include.as_sequence().unwrap_or_default() {
            let imported = self.read_included(load, entry, &included)?;
            import(load, imported, document, resets)?;
        }
        Ok(())
    }

    fn read_included(&mut self, load: &mut Load, entry: &Node, included: &[PathBuf]) -> Result<Node, Error> {
        let place = entry.place();
        let texts = |key: &str| match entry.get(key) {
            Some(node) => texts_of(node),
            None => Vec::new(),
        };
        let named = match entry.as_str() {
            Some(path) => vec![path.to_owned()],
            None => texts("path"),
        };
        let mut files: Vec<PathBuf> = Vec::with_capacity(named.len());
        for path in &named {
            files.push(match is_address(path) {
                true => bring(load, path, place)?,
                false => self.absolute(path),
            });
        }
        let Some(main) = files.first() else {
            return Err(load.fail(place, "an entry of include needs a `path`".into()));
        };
        if included.contains(main) || included.len() >= CHAIN_MAX {
            let chain: Vec<String> =
                included.iter().chain(std::iter::once(main)).map(|path| path.display().to_string()).collect();
            let first = chain.iter().position(|path| Some(path) == chain.last()).unwrap_or_default();
            return Err(load.fail(place, format!("files include each other: {}", chain[first..].join(" -> "))));
        }
        let folder = match entry.get("project_directory").and_then(Node::as_str) {
            Some(folder) if !folder.is_empty() => self.absolute(folder),
            _ => main.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        let environment = self.included_environment(load, entry, &folder, &texts("env_file"))?;
        let mut model = Model::new(self.settings, folder, environment);
        model.included = included.to_vec();
        let mut documents = Vec::with_capacity(files.len());
        for file in files {
            let index = load.read_named(&file, place)?;
            documents.push((file, yaml::parse(load, index)?));
        }
        model.merge_files(load, documents)
    }

    /// This model's environment over that of the entry's env files.
    fn included_environment(
        &self,
        load: &mut Load,
        entry: &Node,
        folder: &Path,
        named: &[String],
    ) -> Result<BTreeMap<String, String>, Error> {
        let mut files = Vec::new();
        if named.is_empty() {
            let file = folder.join(".env");
            files.extend(is_env_file(&file).then_some(file));
        }
        let place = entry.get("env_file").map_or(entry.place(), Node::place);
        for name in named.iter().filter(|name| *name != "/dev/null") {
            let file = self.absolute(name);
            if !is_env_file(&file) {
                let what = if file.exists() { "is a folder" } else { "does not exist" };
                return Err(load.fail(place, format!("env file {} {what}", file.display())));
            }
            files.push(file);
        }
        let mut environment = read_env_files(load, &files, &self.environment, Some(place))?;
        environment.extend(self.environment.clone());
        Ok(environment)
    }

    /// Keeps the values of configs and secrets that come from the environment: an included file has its own.
    fn take_values(&self, load: &mut Load, tree: &mut Node) {
        for section in ["configs", "secrets"] {
            let Some(objects) = tree.as_map_mut().and_then(|map| map.get_mut(section)).and_then(Node::as_map_mut)
            else {
                continue;
            };
            for object in objects.values_mut() {
                let value =
                    object.get("environment").and_then(Node::as_str).and_then(|name| self.environment.get(name));
                if let (Some(value), Some(map)) = (value.cloned(), object.as_map_mut()) {
                    map.insert(VALUE_KEY.into(), value.into());
                }
            }
        }
        // `environment: [KEY]` takes KEY from the environment of the file that says so.
        let services = tree.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut);
        for service in services.into_iter().flat_map(|map| map.values_mut()) {
            let Some(environment) = service.as_map_mut().and_then(|map| map.get_mut("environment")) else { continue };
            let Value::Sequence(items) = &mut environment.value else { continue };
            for item in items {
                if let Value::Text(text) = &mut item.value
                    && let Some(value) = self.environment.get(text)
                {
                    if let Some(trace) = &mut load.trace {
                        trace.substitute(item.span, text, vec![(text.clone(), Some(value.clone()))]);
                    }
                    *text = format!("{text}={value}");
                }
            }
        }
    }
}

/// The key below which the value of `environment: NAME` travels with a config or secret; never printed.
pub(crate) const VALUE_KEY: &str = "x-#value";

/// Text, or a list of texts.
pub(crate) fn texts_of(node: &Node) -> Vec<String> {
    match &node.value {
        Value::Text(text) => vec![text.clone()],
        Value::Sequence(items) => items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

/// What the system said, without its number.
pub(crate) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Whether something that can be read is there.
pub(crate) fn is_env_file(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_dir())
}

/// Reads env files in order; later ones win, and see earlier ones below `environment`.
///
/// `place` is where a file names them, or nowhere for those that are just there: a pipe must give its content soon
/// then. Without, the user named them on the command line, and a pipe is waited for.
pub(crate) fn read_env_files(
    load: &mut Load,
    files: &[PathBuf],
    environment: &BTreeMap<String, String>,
    place: Option<Span>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut variables = BTreeMap::new();
    for file in files {
        load.sources.insert(file.clone());
        let bytes = match place {
            None => fs::read_limited(file, ENV_FILE_BYTES_MAX)?,
            Some(place) => fs::read_limited_within(file, ENV_FILE_BYTES_MAX, PIPE_PATIENCE).map_err(|error| {
                load.fail(place, format!("cannot read {}: {}", file.display(), reason(&error.source)))
            })?,
        };
        load.charge(Span::default(), bytes.len())?;
        let text = String::from_utf8_lossy(&bytes);
        let lookup = |name: &str| environment.get(name).cloned();
        if let Err(error) = dotenv::parse(&text, &mut variables, &lookup) {
            return Err(env_file_error(load, file, &bytes, error));
        }
        if let Some(trace) = &mut load.trace {
            trace.define(file, &text, &variables);
        }
    }
    Ok(variables)
}

/// A mistake in an env file, with its line.
pub(crate) fn env_file_error(load: &mut Load, file: &Path, bytes: &[u8], error: dotenv::Error) -> Error {
    match load.add(file, bytes.to_vec()) {
        Ok(index) => {
            let span = Span { file: index, line: error.line as u32, column: 1, length: 0 };
            load.fail(span, error.message)
        }
        Err(error) => error,
    }
}

/// Lays the document over what was imported, resource by resource.
fn import(load: &mut Load, imported: Node, document: &mut Node, resets: &Resets) -> Result<(), Error> {
    let Value::Map(mut imported) = imported.value else { return Ok(()) };
    for section in ["services", "volumes", "networks", "secrets", "configs", "models"] {
        let Some(Node { value: Value::Map(resources), span, key, .. }) = imported.shift_remove(section) else {
            continue;
        };
        let Some(map) = document.as_map_mut() else { return Ok(()) };
        let target = map.entry(section.to_owned()).or_insert_with(|| Node::null().at(span, key));
        if target.is_null() {
            target.value = Value::Map(Map::new());
        }
        // A section of another type is validation's to refuse.
        let Value::Map(target) = &mut target.value else { continue };
        for (name, mut resource) in resources {
            let merged = match target.shift_remove(&name) {
                None => resource,
                Some(own) => {
                    resets.apply_below(load, &mut resource, section, &name);
                    merge::merge(load, resource, own, path::Path::default().join(section).join(&name))?
                }
            };
            target.insert(name, merged);
        }
    }
    Ok(())
}

/// `dns: [""]`, from a variable that is not set, means no name server.
fn drop_empty_dns(tree: &mut Node) {
    let services = tree.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut);
    for service in services.into_iter().flat_map(|map| map.values_mut()) {
        let dns = service.as_map_mut().and_then(|map| map.get_mut("dns"));
        if let Some(Node { value: Value::Sequence(items), .. }) = dns {
            items.retain(|item| !item.is_null() && item.as_str() != Some(""));
        }
    }
}
