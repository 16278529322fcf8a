//! What a changed file means: the `develop.watch` rules of the services, and the mapping from a path to actions.
//!
//! A rule concerns what lies below its path, less what is ignored (the build's `.dockerignore`, editors' temporary
//! files, `.git`, the rule's own `ignore`), and only what its `include` names, where it has one.
//!
//! Pure but for [`Rules::of`], which resolves links in the paths and reads ignore files.
//! Source: docker/compose `pkg/compose/watch.go`, `pkg/watch/ephemeral.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{Error, Result};
use crate::build::ignore::Patterns;
use crate::model::project::{OptionalMap, Service};

/// Editors' temporary and lock files, and `.git`: in any folder.
const EPHEMERAL: [&str; 16] = [
    "**/*___jb_old___",
    "**/*___jb_tmp___",
    "**/.idea/**",
    "**/.#*",
    "**/#*#",
    "**/4913",
    "**/*~",
    "**/.*.swp",
    "**/.*.swx",
    "**/.*.swo",
    "**/.*.swn",
    "**/.*.kate-swp",
    "**/*-go-tmp-umask",
    "**/.goutputstream-*",
    "**/.git",
    "**/.idea",
];

/// What is done when a file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Action {
    /// Copy it into the containers.
    #[serde(rename = "sync")]
    Sync,
    /// Build the image and make the containers anew.
    #[serde(rename = "rebuild")]
    Rebuild,
    /// Restart the containers.
    #[serde(rename = "restart")]
    Restart,
    /// Copy, then restart.
    #[serde(rename = "sync+restart")]
    SyncRestart,
    /// Copy, then run a command in the containers.
    #[serde(rename = "sync+exec")]
    SyncExec,
}

impl Action {
    fn copies(self) -> bool {
        matches!(self, Self::Sync | Self::SyncRestart | Self::SyncExec)
    }
}

/// The command of `sync+exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Command {
    /// Program and arguments.
    pub command: Option<Vec<String>>,
    /// As whom.
    pub user: Option<String>,
    /// With all capabilities.
    pub privileged: bool,
    /// Where.
    pub working_dir: Option<String>,
    /// Further environment.
    pub environment: Option<OptionalMap>,
}

/// `develop:` in canonical form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Develop {
    watch: Option<Vec<Declared>>,
}

#[derive(Debug, Deserialize)]
struct Declared {
    path: PathBuf,
    action: Action,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    include: Option<Vec<String>>,
    #[serde(default)]
    ignore: Option<Vec<String>>,
    #[serde(default)]
    initial_sync: Option<bool>,
    #[serde(default)]
    exec: Option<Command>,
}

/// One rule, ready to judge paths.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The service it belongs to.
    pub service: String,
    /// The file or folder, absolute, without links.
    pub path: PathBuf,
    /// What to do.
    pub action: Action,
    /// The command of [`Action::SyncExec`].
    pub exec: Command,
    /// Copy everything when a container is first seen.
    pub initial_sync: bool,
    target: PathBuf,
    /// The target was written with `/` at its end: a single file goes into it.
    target_is_folder: bool,
    include: Option<Patterns>,
    ignore: Patterns,
    build: Option<Arc<BuildIgnore>>,
    ephemeral: Arc<Patterns>,
    /// Folders of the host that the service mounts: what lies below is in the container already.
    binds: Vec<PathBuf>,
}

/// A service's `.dockerignore`.
#[derive(Debug)]
struct BuildIgnore {
    context: PathBuf,
    patterns: Patterns,
}

/// A file to bring into the containers of a service as it is now: to be copied, or removed where it is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Copy {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where it belongs in the container, absolute.
    pub target: PathBuf,
    /// How many folders of the rule lie above it: 1 directly below the rule's path, 0 the path itself.
    pub depth: usize,
}

/// What a batch of changes asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Files to copy, by service.
    pub copies: BTreeMap<String, BTreeSet<Copy>>,
    /// Services to build and make anew, with a file that asked for it.
    pub rebuild: BTreeMap<String, PathBuf>,
    /// Services to restart.
    pub restart: BTreeSet<String>,
    /// Services to restart once their files are copied.
    pub restart_after_copy: BTreeSet<String>,
    /// Rules (by their number) whose command is to be run.
    pub exec: BTreeSet<usize>,
}

/// A path that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute.
    pub path: PathBuf,
    /// It is, or was, a folder.
    pub is_folder: bool,
}

/// All rules of the services that are watched.
#[derive(Debug, Default)]
pub struct Rules {
    /// In the order of services and of each service's list.
    pub rules: Vec<Rule>,
    /// What the user should know about them.
    pub warnings: Vec<String>,
}

impl Rules {
    /// The rules of these services.
    ///
    /// Errors: `rebuild` without a build, `sync+exec` without a command, a pattern that is malformed.
    pub fn of<'p>(services: impl IntoIterator<Item = &'p Service>) -> Result<Self> {
        let fail = |pattern: (String, &'static str)| Error::Pattern { pattern: pattern.0, reason: pattern.1 };
        let ephemeral = Arc::new(Patterns::new(EPHEMERAL).map_err(fail)?);
        let mut all = Self::default();
        for service in services {
            let develop = service.develop.clone().unwrap_or_default();
            let develop = Option::<Develop>::deserialize(develop)
                .map_err(|source| Error::Rules { service: service.name.clone(), source })?;
            let declared = develop.unwrap_or_default().watch.unwrap_or_default();
            let build = if declared.is_empty() { None } else { build_ignore(service)? };
            let binds: Vec<PathBuf> = service
                .volumes
                .iter()
                .filter(|mount| mount.kind == "bind")
                .filter_map(|mount| Some(resolved(Path::new(mount.source.as_ref()?))))
                .collect();
            for rule in declared {
                let rule = Rule {
                    service: service.name.clone(),
                    path: resolved(&rule.path),
                    action: rule.action,
                    exec: rule.exec.unwrap_or_default(),
                    initial_sync: rule.initial_sync.unwrap_or_default(),
                    target_is_folder: rule.target.as_ref().is_some_and(|target| target.ends_with('/')),
                    target: Path::new("/").join(rule.target.unwrap_or_default()),
                    include: rule
                        .include
                        .filter(|list| !list.is_empty())
                        .map(|list| Patterns::new(list.iter().map(String::as_str)))
                        .transpose()
                        .map_err(fail)?,
                    ignore: Patterns::new(rule.ignore.iter().flatten().map(String::as_str)).map_err(fail)?,
                    build: build.clone(),
                    ephemeral: Arc::clone(&ephemeral),
                    binds: binds.clone(),
                };
                all.add(service, rule)?;
            }
        }
        Ok(all)
    }

    fn add(&mut self, service: &Service, rule: Rule) -> Result<()> {
        let name = &service.name;
        if rule.action == Action::Rebuild && service.build.is_none() {
            return Err(Error::NoBuild { service: name.clone() });
        }
        if rule.action == Action::SyncExec && rule.exec.command.as_ref().is_none_or(Vec::is_empty) {
            return Err(Error::NoCommand { service: name.clone() });
        }
        if rule.action.copies() && rule.is_mounted(&rule.path) {
            let path = rule.path.display();
            if rule.action != Action::SyncExec {
                // A container writes into what it mounts: with a restart that would never end.
                self.warnings.push(format!("service `{name}` mounts {path}, so that it is not watched for it"));
                return Ok(());
            }
            self.warnings.push(format!("service `{name}` mounts {path} already: nothing is copied"));
        }
        if rule.is_ignored(&rule.path) {
            let path = rule.path.display();
            self.warnings.push(format!("service `{name}`: {path} is ignored (.dockerignore): its rule has no effect"));
        }
        self.rules.push(rule);
        Ok(())
    }

    /// What `changes` ask for.
    pub fn effects(&self, changes: &[Change]) -> Effects {
        let mut effects = Effects::default();
        for change in changes {
            for (number, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.concerns(&change.path)) {
                if rule.action.copies()
                    && let Some(copy) = rule.copy(change)
                {
                    effects.copies.entry(rule.service.clone()).or_default().insert(copy);
                }
                if change.is_folder {
                    // What was in it counts, and is told of by itself.
                    continue;
                }
                match rule.action {
                    Action::Sync => {}
                    Action::Rebuild => {
                        effects.rebuild.entry(rule.service.clone()).or_insert_with(|| change.path.clone());
                    }
                    Action::Restart => _ = effects.restart.insert(rule.service.clone()),
                    Action::SyncRestart => _ = effects.restart_after_copy.insert(rule.service.clone()),
                    Action::SyncExec => _ = effects.exec.insert(number),
                }
            }
        }
        effects
    }

    /// Whether something in the folder `path` may concern a rule.
    pub fn may_concern_below(&self, path: &Path) -> bool {
        self.rules.iter().any(|rule| path.starts_with(&rule.path) && rule.may_concern_below(path))
    }

    /// Whether `path` concerns a rule.
    pub fn concern(&self, path: &Path) -> bool {
        self.rules.iter().any(|rule| rule.concerns(path))
    }
}

impl Rule {
    /// Whether a change of `path` is a matter of this rule.
    pub fn concerns(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.path) else { return false };
        if self.is_ignored(path) {
            return false;
        }
        let is_root = below.as_os_str().is_empty();
        self.include.as_ref().is_none_or(|include| is_root || include.hides(&below.to_string_lossy()))
    }

    /// The copy that a change of this rule asks for; none when the containers have the file by a mount.
    pub fn copy(&self, change: &Change) -> Option<Copy> {
        if !self.action.copies() || self.is_mounted(&change.path) {
            return None;
        }
        let below = change.path.strip_prefix(&self.path).ok()?;
        let depth = below.components().count();
        // The folder itself is there as long as the container: its content is what changes.
        if depth == 0 && change.is_folder {
            return None;
        }
        let target = match (depth, self.target_is_folder) {
            (0, true) => self.target.join(self.path.file_name()?),
            (0, false) => self.target.clone(),
            _ => self.target.join(below),
        };
        Some(Copy { host: change.path.clone(), target, depth })
    }

    fn is_mounted(&self, path: &Path) -> bool {
        self.binds.iter().any(|bind| path.starts_with(bind))
    }

    /// The lists of patterns, each with `path` relative to where its patterns begin.
    fn lists<'s>(&'s self, path: &'s Path) -> impl Iterator<Item = (&'s Patterns, &'s Path)> {
        let build = self.build.as_deref();
        let build = build.and_then(|build| Some((&build.patterns, path.strip_prefix(&build.context).ok()?)));
        let below = path.strip_prefix(&self.path).unwrap_or(Path::new(""));
        let lists = [Some((&self.ignore, below)), Some((self.ephemeral.as_ref(), below)), build];
        lists.into_iter().flatten().filter(|(_, below)| !below.as_os_str().is_empty())
    }

    fn is_ignored(&self, path: &Path) -> bool {
        self.lists(path).any(|(patterns, below)| patterns.hides(&below.to_string_lossy()))
    }

    fn may_concern_below(&self, path: &Path) -> bool {
        !self.lists(path).any(|(patterns, below)| {
            let below = below.to_string_lossy();
            patterns.hides(&below) && !patterns.may_show_below(&below)
        })
    }
}

/// The ignore file of a service's build, where its context is a folder of this host.
fn build_ignore(service: &Service) -> Result<Option<Arc<BuildIgnore>>> {
    let Some(build) = service.build.as_ref().filter(|build| build.context.starts_with('/')) else { return Ok(None) };
    let context = PathBuf::from(&build.context);
    let dockerfile = context.join(build.dockerfile.as_deref().unwrap_or("Dockerfile"));
    let patterns = Patterns::of_build(&context, Some(&dockerfile))?;
    // A context that lets in only what it names (`*`, then `!…`) would leave nothing to watch: as in Compose, such
    // a list ignores nothing.
    let patterns = if patterns.hides_all() { Patterns::default() } else { patterns };
    Ok(Some(Arc::new(BuildIgnore { context: resolved(&context), patterns })))
}

/// The files that [`Rules::of`] reads for a service, there or not.
pub fn ignore_files(service: &Service) -> Vec<PathBuf> {
    let watches = service.develop.as_ref().is_some_and(|develop| !develop.is_null());
    let Some(build) = service.build.as_ref().filter(|build| watches && build.context.starts_with('/')) else {
        return Vec::new();
    };
    let context = PathBuf::from(&build.context);
    let dockerfile = build.dockerfile.as_deref().unwrap_or("Dockerfile");
    vec![context.join(format!("{dockerfile}.dockerignore")), context.join(".dockerignore")]
}

/// `path` without links, as far as it exists.
pub fn resolved(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(found), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { found } else { found.join(rest) };
        }
    }
    path.to_owned()
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
