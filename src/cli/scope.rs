//! What the command line is about: the project in scope, if there is one, and the names that were typed.
//!
//! The compose files are read by verbs that need the definition; those that only look at containers find the
//! project's name without reading a file ([`Context::discover`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::error::Location;
use crate::cli::{Context, Failure, Mistake, flags};
use crate::compose::{self, Loaded, Options, Scope};

impl Context {
    /// The flags before the verb and the environment, as the loader wants them.
    pub fn compose_options(&self) -> Result<Options, Failure> {
        let folder = std::env::current_dir()
            .map_err(|source| Mistake::System { operation: "find the current folder", source })?;
        // Interpolation is about text: a variable that is not UTF-8 cannot be named in a file.
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let global = &self.global;
        Ok(Options {
            files: global.files.clone(),
            project_name: global.project_name.clone(),
            project_directory: global.project_directory.clone(),
            profiles: global.profiles.clone(),
            env_files: global.env_files.clone(),
            all_resources: global.all_resources,
            remote: Some(self.remote.clone()),
            ..Options::new(folder, environment)
        })
    }

    /// Loads the project in scope; `services` are those named on the command line. Shows the warnings.
    pub fn load_project(&self, services: &[String]) -> Result<Loaded, Failure> {
        self.load(&Options { services: services.to_vec(), ..self.compose_options()? })
    }

    /// Loads the project that `options` describe. Shows the warnings.
    pub fn load(&self, options: &Options) -> Result<Loaded, Failure> {
        let mut loaded = compose::load(options)?;
        loaded.project.underscores =
            self.global.compatibility || flags::switch(&loaded.project.environment, "COMPOSE_COMPATIBILITY");
        for warning in &loaded.warnings {
            self.warn_at(&warning.message, warning.location.as_ref());
        }
        Ok(loaded)
    }

    /// Warns about attributes that are known to the specification and not yet to wharf.
    pub fn warn_unsupported(&self, loaded: &Loaded) {
        for warning in compose::unsupported(loaded) {
            self.warn_at(&warning.message, warning.location.as_ref());
        }
    }

    /// The project in scope without reading its files.
    pub fn discover(&self) -> Result<Scope, Failure> {
        if self.docker {
            return Ok(Scope::default());
        }
        Ok(compose::discover(&self.compose_options()?)?)
    }

    fn warn_at(&self, message: &str, location: Option<&Location>) {
        match location {
            Some(location) => self.warn(&format!("{}: {message}", shown_location(location))),
            None => self.warn(message),
        }
    }
}

/// A place in a file, its path relative to the current folder where it lies below it.
pub fn shown_location(location: &Location) -> String {
    format!("{}:{}:{}", shown_file(&location.file), location.line, location.column)
}

/// A file, relative to the current folder where it lies below it.
pub fn shown_file(file: &Path) -> String {
    let relative = std::env::current_dir().ok().and_then(|folder| file.strip_prefix(folder).ok().map(PathBuf::from));
    relative.as_deref().unwrap_or(file).display().to_string()
}
