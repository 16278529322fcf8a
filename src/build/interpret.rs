//! One stage: instructions + what its base is -> the config of its image and the steps that make layers. Pure.
//!
//! Variables live in two places, as in BuildKit: the *build environment* (base env, ARG and ENV in order), which
//! expands words and is seen by RUN, and the image's own `Env`, which only ENV changes.
//!
//! Source: BuildKit `dockerfile2llb/convert.go` (dispatch*).

use std::collections::BTreeMap;

use serde_json::Value;

use super::dockerfile::expand::{Expanded, Syntax, expand};
use super::dockerfile::instruction::{Command, Copy, Healthcheck, Kind, Run, RunNetwork};
use super::dockerfile::lines::{Line, heredoc_word};
use super::dockerfile::mount::{MountKind, RunMount};
use super::dockerfile::words::{Form, Pair};
use super::error::Error;
use super::git::is_git;
use super::lint::{Rule, is_secret, meant};
use super::mode::Chmod;
use super::plan::{Base, Origin, Plan, Planned};
use super::platform::Platform;
use super::ports::exposed;
use crate::model::image::{ContainerDefaults, History, ImageConfig, ImageHealthcheck};

/// PATH of images that have none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What BuildKit writes into the history, so that tools recognise it.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";
/// Most variables of a stage.
const VARIABLES_MAX: usize = 4096;
/// Longest title of a step in progress output, in characters.
const TITLE_LENGTH_MAX: usize = 120;
/// Predefined arguments that need no ARG: they reach RUN, but neither history nor cache key.
pub const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What a stage inherits, and what it hands on.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The image so far.
    pub image: ImageConfig,
    /// The build environment in order.
    pub environment: Vec<(String, String)>,
    /// ARGs declared so far with the values they got, for the history.
    arguments: Vec<(String, Option<String>)>,
    /// Whether a WORKDIR of this Dockerfile was met.
    workdir_set: bool,
}

/// A stage that is ready to be executed.
#[derive(Debug)]
pub struct Interpreted {
    /// Its final state.
    pub state: State,
    /// What makes its layers, in order.
    pub steps: Vec<Step>,
}

/// One instruction that makes a layer.
#[derive(Debug)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// The instruction, for progress.
    pub title: String,
    /// Its place, for errors.
    pub line: Line,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Runs a command.
    Run(RunAction),
    /// Copies files.
    Copy(CopyAction),
    /// Makes the working folder.
    Workdir {
        /// Absolute path.
        path: String,
        /// Whose it is.
        user: String,
    },
}

/// A command to run.
#[derive(Debug)]
pub struct RunAction {
    /// Program and arguments.
    pub args: Vec<String>,
    /// A script to be mounted at /dev/pipes/NAME.
    pub script: Option<(String, String)>,
    /// `KEY=value`, without proxies and secrets.
    pub env: Vec<String>,
    /// Working folder.
    pub cwd: String,
    /// `user[:group]`, empty for root.
    pub user: String,
    /// Mounts and where they read from.
    pub mounts: Vec<(RunMount, Option<Origin>)>,
    /// Network.
    pub network: RunNetwork,
    /// `--security=insecure`.
    pub insecure: bool,
}

/// Files to copy.
#[derive(Debug)]
pub struct CopyAction {
    /// ADD.
    pub add: bool,
    /// Paths or URLs, expanded.
    pub sources: Vec<String>,
    /// Files with their content, expanded.
    pub inline: Vec<(String, String)>,
    /// Absolute, with a trailing slash where a folder is meant.
    pub destination: String,
    /// `user[:group]`.
    pub chown: Option<String>,
    /// Mode change.
    pub chmod: Option<Chmod>,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: Option<bool>,
    /// Whether archives are unpacked.
    pub unpack: Option<bool>,
    /// Where from; `None` is the build context.
    pub origin: Option<Origin>,
}

impl CopyAction {
    /// Everything at `source` in the build context.
    pub fn of_context(source: &str) -> Self {
        Self {
            add: false,
            sources: vec![if source.is_empty() { "/".to_owned() } else { source.to_owned() }],
            inline: Vec::new(),
            destination: "/".into(),
            chown: None,
            chmod: None,
            parents: false,
            exclude: Vec::new(),
            checksum: None,
            keep_git_dir: None,
            unpack: None,
            origin: None,
        }
    }
}

impl State {
    /// The state in which a stage begins that is based on an image (or on nothing).
    pub fn of_image(config: &ImageConfig, platform: &Platform) -> Self {
        let mut image = config.clone();
        image.created = None;
        image.config.on_build.clear();
        if image.os.is_empty() {
            image.os.clone_from(&platform.os);
        }
        if image.architecture.is_empty() {
            image.architecture.clone_from(&platform.architecture);
            image.variant = Some(platform.variant.clone()).filter(|variant| !variant.is_empty());
        }
        if !image.config.env.iter().any(|pair| pair.starts_with("PATH=")) {
            image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let mut state = Self { image, ..Self::default() };
        for pair in state.image.config.env.clone() {
            let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
            state.set(name, value);
        }
        state
    }

    /// The state in which a stage begins that is based on nothing.
    pub fn of_nothing(platform: &Platform) -> Self {
        let mut state = Self::of_image(&ImageConfig::default(), platform);
        state.image.config.working_dir = "/".into();
        state
    }

    /// The state in which a stage begins that is based on another one.
    pub fn of_stage(base: &State) -> Self {
        let mut state = base.clone();
        state.image.config.on_build.clear();
        state
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.environment.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.environment.push((name.to_owned(), value.to_owned())),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `KEY=value` of the build environment.
    fn pairs(&self) -> Vec<String> {
        self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn workdir(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }
}

/// Interprets a stage.
///
/// Errors: `Syntax` for what can only be told with variables known.
pub fn interpret(plan: &Plan, index: usize, state: State) -> Result<Interpreted, Error> {
    let mut stage = Stage { plan, state, steps: Vec::new(), cmd_set: false, last: BTreeMap::new() };
    let base_folder = stage.state.image.config.working_dir.clone();
    if !base_folder.is_empty() {
        stage.state.image.config.working_dir = joined(&base_folder, "/");
    }
    if let Base::Folder(_) | Base::Remote(_) = &plan.stages[index].base {
        stage.begin_with_folder(index);
    }
    for planned in &plan.stages[index].instructions {
        stage.dispatch(planned)?;
    }
    Ok(Interpreted { state: stage.state, steps: stage.steps })
}

struct Stage<'a> {
    plan: &'a Plan,
    state: State,
    steps: Vec<Step>,
    /// Whether CMD was set in this stage: an ENTRYPOINT then keeps it.
    cmd_set: bool,
    /// The last CMD, ENTRYPOINT and HEALTHCHECK.
    last: BTreeMap<&'static str, Line>,
}

impl Stage<'_> {
    /// A named context in the place of a base image: its files are the first layer.
    fn begin_with_folder(&mut self, index: usize) {
        let stage = &self.plan.stages[index];
        let origin = match &stage.base {
            Base::Folder(path) => Origin::Folder(path.clone()),
            Base::Remote(address) => Origin::Remote(address.clone()),
            _ => return,
        };
        let action = CopyAction { origin: Some(origin), ..CopyAction::of_context("/") };
        let line = stage.from.clone();
        self.step(&line, Action::Copy(action));
        self.history(format!("{} # buildkit", line.text.trim()), false);
    }

    fn config(&mut self) -> &mut ContainerDefaults {
        &mut self.state.image.config
    }

    fn dispatch(&mut self, planned: &Planned) -> Result<(), Error> {
        let line = &planned.instruction.line;
        match &planned.instruction.kind {
            // Stages are split at FROM.
            Kind::From(_) => Ok(()),
            Kind::Arg(pairs) => self.arg(line, pairs),
            Kind::Env(pairs) => self.env(line, pairs),
            Kind::Label(pairs) => self.label(line, pairs),
            Kind::Run(run) => self.run(planned, run),
            Kind::Copy(copy) => self.copy(planned, copy),
            Kind::Cmd(command) => {
                self.check_command(line, "CMD", Some(command));
                let args = self.arguments_of(command);
                self.history(format!("CMD {}", quoted(&args)), true);
                self.config().cmd = Some(args);
                self.config().args_escaped = Some(true);
                self.cmd_set = true;
                Ok(())
            }
            Kind::Entrypoint(command) => {
                self.check_command(line, "ENTRYPOINT", Some(command));
                let args = self.arguments_of(command);
                self.history(format!("ENTRYPOINT {}", quoted(&args)), true);
                self.config().entrypoint = Some(args).filter(|args| !args.is_empty());
                if !self.cmd_set {
                    self.config().cmd = None;
                }
                Ok(())
            }
            Kind::Shell(shell) => {
                self.config().shell = Some(shell.clone());
                self.history(format!("SHELL [{}]", shell.join(" ")), true);
                Ok(())
            }
            Kind::Expose(words) => self.expose(line, words),
            Kind::Volume(paths) => {
                let paths = self.expand_all(line, paths)?;
                if paths.iter().any(String::is_empty) {
                    return Err(line.error("", "the path of a VOLUME cannot be empty"));
                }
                self.history(format!("VOLUME [{}]", paths.join(" ")), true);
                let empty = || Value::Object(serde_json::Map::new());
                self.config().volumes.extend(paths.into_iter().map(|path| (path, empty())));
                Ok(())
            }
            Kind::User(user) => {
                let user = self.expand(line, user)?;
                self.history(format!("USER {user}"), true);
                self.config().user = user;
                Ok(())
            }
            Kind::Workdir(path) => self.workdir(line, path),
            Kind::StopSignal(signal) => {
                let name = self.expand(line, signal)?;
                if !is_signal(&name) {
                    return Err(
                        line.error(signal, format!("`{name}` is not a signal (a name or a number from 1 to 64)"))
                    );
                }
                self.history(format!("STOPSIGNAL {name}"), true);
                self.config().stop_signal = Some(name);
                Ok(())
            }
            Kind::Maintainer(name) => {
                self.state.image.author = Some(name.clone());
                self.history(format!("MAINTAINER {name}"), true);
                Ok(())
            }
            Kind::Healthcheck(check) => {
                self.check_command(line, "HEALTHCHECK", None);
                self.healthcheck(check);
                Ok(())
            }
            Kind::Onbuild(text) => {
                self.config().on_build.push(text.clone());
                Ok(())
            }
        }
    }

    fn history(&mut self, created_by: String, empty_layer: bool) {
        self.state.image.history.push(History {
            created: None,
            created_by: Some(created_by),
            author: None,
            comment: Some(HISTORY_COMMENT.into()),
            empty_layer,
        });
    }

    fn step(&mut self, line: &Line, action: Action) {
        let text = line.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut title: String = text.chars().take(TITLE_LENGTH_MAX).collect();
        if title.len() < text.len() {
            title.push('…');
        }
        self.steps.push(Step { action, title, line: line.clone() });
    }

    fn lexed(&self, line: &Line, word: &str, syntax: Syntax) -> Result<Expanded, Error> {
        let value_of = |name: &str| self.state.get(name).map(str::to_owned);
        let expanded = expand(word, syntax, &value_of).map_err(|error| line.error(word, error.to_string()))?;
        for name in &expanded.unset {
            if !self.state.arguments.iter().any(|(known, _)| known == name) && !is_of_scanner(name) {
                let known = self.state.environment.iter().map(|(name, _)| name.as_str());
                let detail = format!("Usage of undefined variable '${name}'{}", meant(name, known, "$"));
                self.plan.lint.warn(Rule::UndefinedVar, line, detail);
            }
        }
        Ok(expanded)
    }

    fn expand(&self, line: &Line, word: &str) -> Result<String, Error> {
        self.lexed(line, word, Syntax::new(self.plan.escape)).map(|expanded| expanded.text)
    }

    fn expand_all(&self, line: &Line, words: &[String]) -> Result<Vec<String>, Error> {
        words.iter().map(|word| self.expand(line, word)).collect()
    }

    fn arg(&mut self, line: &Line, pairs: &[(String, Option<String>)]) -> Result<(), Error> {
        let mut texts = Vec::new();
        self.check_count(line, pairs.len())?;
        for (name, default) in pairs {
            self.check_secret(line, "ARG", name);
            let value = match (self.plan.args.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.expand(line, default)?),
                (None, None) => self.plan.globals.get(name).cloned(),
            };
            texts.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            if let Some(value) = value.as_ref().filter(|_| !is_of_scanner(name)) {
                self.state.set(name, value);
            }
            match self.state.arguments.iter_mut().find(|(known, _)| known == name) {
                Some((_, old)) => *old = value,
                None => self.state.arguments.push((name.clone(), value)),
            }
        }
        self.history(format!("ARG {}", texts.join(" ")), true);
        Ok(())
    }

    /// All values see the environment before the instruction.
    fn expand_pairs(&self, line: &Line, pairs: &[Pair]) -> Result<Vec<(String, String)>, Error> {
        pairs.iter().map(|pair| Ok((self.expand(line, &pair.name)?, self.expand(line, &pair.value)?))).collect()
    }

    fn env(&mut self, line: &Line, pairs: &[Pair]) -> Result<(), Error> {
        let mut text = String::from("ENV");
        self.check_count(line, pairs.len())?;
        let expanded = self.expand_pairs(line, pairs)?;
        self.check_legacy(line, pairs);
        for (name, value) in expanded {
            self.check_secret(line, "ENV", &name);
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(line.error("", format!("`{name}` is not a name for a variable")));
            }
            text.push_str(&format!(" {name}={value}"));
            self.state.set(&name, &value);
            let pair = format!("{name}={value}");
            let prefix = format!("{name}=");
            match self.config().env.iter_mut().find(|old| old.starts_with(&prefix) || **old == name) {
                Some(old) => *old = pair,
                None => self.config().env.push(pair),
            }
        }
        self.history(text, true);
        Ok(())
    }

    fn label(&mut self, line: &Line, pairs: &[Pair]) -> Result<(), Error> {
        let mut text = String::from("LABEL");
        self.check_legacy(line, pairs);
        for (name, value) in self.expand_pairs(line, pairs)? {
            text.push_str(&format!(" {name}={value}"));
            self.config().labels.insert(name, value);
        }
        self.history(text, true);
        Ok(())
    }

    /// Refuses what no program could be started with; every further variable would make the rest slower.
    fn check_count(&self, line: &Line, more: usize) -> Result<(), Error> {
        let known = self.state.environment.len().max(self.state.arguments.len());
        match known + more > VARIABLES_MAX {
            true => Err(line.error("", format!("a stage cannot have more than {VARIABLES_MAX} variables"))),
            false => Ok(()),
        }
    }

    fn check_secret(&self, line: &Line, instruction: &str, name: &str) {
        if is_secret(name) {
            let detail = format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})");
            self.plan.lint.warn(Rule::SecretsUsedInArgOrEnv, line, detail);
        }
    }

    fn check_legacy(&self, line: &Line, pairs: &[Pair]) {
        if pairs.iter().any(|pair| pair.legacy) {
            let name = line.command();
            let detail = format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
            self.plan.lint.warn(Rule::LegacyKeyValueFormat, line, detail);
        }
    }

    fn check_command(&mut self, line: &Line, kind: &'static str, command: Option<&Command>) {
        let lint = &self.plan.lint;
        if let Some(earlier) = self.last.insert(kind, line.clone()) {
            let detail = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                line.command()
            );
            lint.warn(Rule::MultipleInstructionsDisallowed, &earlier, detail);
        }
        let has_shell = self.state.image.config.shell.as_ref().is_some_and(|shell| !shell.is_empty());
        if matches!(command, Some(Command { form: Form::Text(_) })) && !has_shell {
            let detail = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                line.command()
            );
            lint.warn(Rule::JSONArgsRecommended, line, detail);
        }
    }

    fn check_port(&self, line: &Line, port: &str) {
        let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
        if protocol != protocol.to_lowercase() {
            let detail = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
            self.plan.lint.warn(Rule::ExposeProtoCasing, line, detail);
        }
        if port.contains(':') {
            let detail =
                format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
            self.plan.lint.warn(Rule::ExposeInvalidFormat, line, detail);
        }
    }

    /// Whether the ignore file hides a source. One that shows some files again is too clever to be sure.
    fn check_ignored(&self, line: &Line, copy: &Copy, sources: &[String]) {
        let Some(ignore) = self.plan.ignore.as_ref().filter(|ignore| !ignore.shows_some()) else { return };
        for source in sources.iter().filter(|source| copy.from.is_none() && !is_url(source) && !is_git(source)) {
            let path = clean(source);
            let path = path.trim_start_matches('/');
            if if path.is_empty() { ignore.hides_all() } else { ignore.hides(path) } {
                let verb = if copy.add { "Add" } else { "Copy" };
                let shown = if path.is_empty() { "." } else { path };
                let detail = format!("Attempting to {verb} file {shown:?} that is excluded by .dockerignore");
                self.plan.lint.warn(Rule::CopyIgnoredFile, line, detail);
            }
        }
    }

    fn shell(&self) -> Vec<String> {
        match &self.state.image.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".into(), "-c".into()],
        }
    }

    fn with_shell(&self, text: String) -> Vec<String> {
        let mut args = self.shell();
        args.push(text);
        args
    }

    fn arguments_of(&self, command: &Command) -> Vec<String> {
        match &command.form {
            Form::Json(args) => args.clone(),
            Form::Text(text) => self.with_shell(text.clone()),
        }
    }

    fn expose(&mut self, line: &Line, words: &[String]) -> Result<(), Error> {
        let mut text = Vec::new();
        for word in words {
            for port in self.lexed(line, word, Syntax::new(self.plan.escape))?.words {
                self.check_port(line, &port);
                let ports = exposed(&port).map_err(|reason| line.error(word, format!("EXPOSE {port}: {reason}")))?;
                let empty = || Value::Object(serde_json::Map::new());
                self.config().exposed_ports.extend(ports.into_iter().map(|port| (port, empty())));
                text.push(port);
            }
        }
        self.history(format!("EXPOSE [{}]", text.join(" ")), true);
        Ok(())
    }

    fn workdir(&mut self, line: &Line, path: &str) -> Result<(), Error> {
        let path = self.expand(line, path)?;
        if !self.state.workdir_set && !path.starts_with('/') {
            let detail = format!("Relative workdir {path:?} can have unexpected results if the base image changes");
            self.plan.lint.warn(Rule::WorkdirRelativePath, line, detail);
        }
        self.state.workdir_set = true;
        let path = joined(&path, self.state.workdir());
        self.config().working_dir.clone_from(&path);
        let makes_layer = path != "/";
        self.history(format!("WORKDIR {path}"), !makes_layer);
        if makes_layer {
            let user = self.state.image.config.user.clone();
            self.step(line, Action::Workdir { path, user });
        }
        Ok(())
    }

    fn healthcheck(&mut self, check: &Healthcheck) {
        let nanoseconds = |duration: Option<std::time::Duration>| {
            duration.map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
        };
        let text =
            |duration: Option<std::time::Duration>| crate::base::units::format_duration(duration.unwrap_or_default());
        self.history(
            format!(
                "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
                check.test.join(" "),
                text(check.interval),
                text(check.timeout),
                text(check.start_period),
                text(check.start_interval),
                check.retries
            ),
            true,
        );
        self.config().healthcheck = Some(ImageHealthcheck {
            test: check.test.clone(),
            interval: nanoseconds(check.interval),
            timeout: nanoseconds(check.timeout),
            start_period: nanoseconds(check.start_period),
            start_interval: nanoseconds(check.start_interval),
            retries: check.retries.into(),
        });
    }

    fn run(&mut self, planned: &Planned, run: &Run) -> Result<(), Error> {
        let line = &planned.instruction.line;
        if !run.devices.is_empty() {
            // As in BuildKit, where only the experimental front end knows it.
            return Err(line.error("--device", "RUN --device is not part of the stable Dockerfile language"));
        }
        let (text, script) = self.run_command(line, run)?;
        let args = match (&run.form, text, &script) {
            (Form::Json(args), _, _) => args.clone(),
            (Form::Text(_), text, _) => self.with_shell(text),
        };
        let history = format!("RUN {}{} # buildkit", self.argument_prefix(), args.join(" "));
        let mounts = run.parse_mounts(line, &|word| self.expand(line, word))?;
        for mount in &mounts {
            self.check_mount(line, mount)?;
        }
        let action = RunAction {
            args,
            script,
            env: self.state.pairs(),
            cwd: self.state.workdir().to_owned(),
            user: self.state.image.config.user.clone(),
            mounts: mounts.into_iter().zip(planned.origins.iter().cloned()).collect(),
            network: run.network,
            insecure: run.insecure,
        };
        self.step(line, Action::Run(action));
        self.history(history, false);
        Ok(())
    }

    fn check_mount(&self, line: &Line, mount: &RunMount) -> Result<(), Error> {
        let target = joined(mount.target.as_deref().unwrap_or_default(), self.state.workdir());
        if clean(&target) == "/" && !matches!(mount.kind, MountKind::Secret | MountKind::Ssh) {
            return Err(line.error("--mount", "a mount cannot have `/` as its target"));
        }
        Ok(())
    }

    /// The shell text of a RUN, with its heredocs put where they belong.
    fn run_command(&self, line: &Line, run: &Run) -> Result<(String, Option<(String, String)>), Error> {
        let Form::Text(text) = &run.form else { return Ok((String::new(), None)) };
        let Some(first) = run.heredocs.first() else { return Ok((text.clone(), None)) };
        if heredoc_word(text).is_none() {
            // A heredoc of the shell's own: give it the whole text back.
            let mut whole = text.clone();
            for heredoc in &run.heredocs {
                whole.push('\n');
                whole.push_str(&heredoc.content);
                whole.push_str(&heredoc.name);
            }
            return Ok((whole, None));
        }
        let body = first.chomped();
        if !body.starts_with("#!") {
            return Ok((body, None));
        }
        if first.name.contains('/') || first.name == "." || first.name == ".." {
            return Err(line.error(&first.name, format!("`{}` is not a name for a script", first.name)));
        }
        Ok((format!("/dev/pipes/{}", first.name), Some((first.name.clone(), body))))
    }

    /// `|2 A=1 B=2 ` when there are build arguments.
    fn argument_prefix(&self) -> String {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        for (name, value) in &self.state.arguments {
            let value = self.state.get(name).map(str::to_owned).or_else(|| value.clone()).unwrap_or_default();
            match pairs.iter_mut().find(|(known, _)| known == name) {
                Some((_, old)) => *old = value,
                None => pairs.push((name, value)),
            }
        }
        if pairs.is_empty() {
            return String::new();
        }
        let count = pairs.len();
        pairs.into_iter().fold(format!("|{count} "), |text, (name, value)| format!("{text}{name}={value} "))
    }

    fn copy(&mut self, planned: &Planned, copy: &Copy) -> Result<(), Error> {
        let line = &planned.instruction.line;
        let chown = copy.chown.as_ref().map(|text| self.expand(line, text)).transpose()?;
        let chmod_text = copy.chmod.as_ref().map(|text| self.expand(line, text)).transpose()?;
        let chmod_text = chmod_text.filter(|text| !text.is_empty());
        let chmod = chmod_text.as_ref().map(|text| {
            Chmod::parse(text).ok_or_else(|| {
                let message = format!("`{text}` is not a mode: octal from 0 to 07777, or symbolic such as u+rwX,go-w");
                line.error(copy.chmod.as_deref().unwrap_or_default(), message)
            })
        });
        let chmod = chmod.transpose()?;
        let sources = self.expand_all(line, &copy.sources)?;
        let destination = self.expand(line, &copy.destination)?;
        self.check_sources(line, copy, &sources)?;
        self.check_ignored(line, copy, &sources);
        let checksum = copy.checksum.as_ref().map(|text| self.expand(line, text)).transpose()?;
        let mut inline = Vec::new();
        for heredoc in &copy.heredocs {
            let syntax = Syntax { quotes: false, ..Syntax::new('\\') };
            let mut content = heredoc.chomped();
            if heredoc.expand {
                content = self.lexed(line, &content, syntax)?.text;
            }
            inline.push((heredoc.name.clone(), content));
        }
        let mut text = String::from(if copy.add { "ADD" } else { "COPY" });
        if copy.parents {
            text.push_str(" --parents");
        }
        for (flag, value) in [("chown", &chown), ("chmod", &chmod_text)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                text.push_str(&format!(" --{flag}={value}"));
            }
        }
        sources.iter().for_each(|source| text.push_str(&format!(" {source}")));
        inline.iter().for_each(|(name, _)| text.push_str(&format!(" <<{name}")));
        text.push_str(&format!(" {destination} # buildkit"));
        let action = CopyAction {
            add: copy.add,
            sources,
            inline,
            destination: destination_path(&destination, self.state.workdir()),
            chown: chown.filter(|chown| !chown.is_empty()),
            chmod,
            parents: copy.parents,
            exclude: copy.exclude.clone(),
            checksum,
            keep_git_dir: copy.keep_git_dir,
            unpack: copy.unpack,
            origin: planned.origins.first().cloned().flatten(),
        };
        self.step(line, Action::Copy(action));
        self.history(text, false);
        Ok(())
    }

    fn check_sources(&self, line: &Line, copy: &Copy, sources: &[String]) -> Result<(), Error> {
        let remote = |source: &str| is_url(source) || is_git(source);
        if let Some(source) = sources.iter().find(|source| !copy.add && remote(source)) {
            let hint = Some("use ADD for remote sources".to_owned());
            let message = format!("the source `{source}` of COPY cannot be remote");
            return Err(Error::Syntax { mark: line.mark_of(source), message, hint });
        }
        if copy.checksum.is_some() {
            if copy.sources.len() != 1 {
                return Err(line.error("--checksum", "--checksum needs exactly one source"));
            }
            if !remote(&sources[0]) {
                return Err(line.error("--checksum", "--checksum is for URLs and git repositories"));
            }
        }
        Ok(())
    }
}

/// Arguments that only say what a scanner of images does.
fn is_of_scanner(name: &str) -> bool {
    matches!(name, "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE")
}

/// Whether a source of ADD is fetched over HTTP.
pub fn is_url(source: &str) -> bool {
    (source.starts_with("http://") || source.starts_with("https://")) && !is_git(source)
}

/// Go's `%q` of a list of strings.
fn quoted(args: &[String]) -> String {
    let texts: Vec<String> = args.iter().map(|arg| Value::String(arg.clone()).to_string()).collect();
    format!("[{}]", texts.join(" "))
}

/// `path` below `folder` unless it is absolute; absolute ones are kept as typed.
fn joined(path: &str, folder: &str) -> String {
    if path.is_empty() {
        return folder.to_owned();
    }
    if path.starts_with('/') { path.to_owned() } else { clean(&format!("{folder}/{path}")) }
}

/// The destination of a COPY as an absolute path; a trailing slash says that a folder is meant.
fn destination_path(path: &str, folder: &str) -> String {
    let folder_meant = path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.");
    let mut absolute = clean(&joined(path, folder));
    if folder_meant && !absolute.ends_with('/') {
        absolute.push('/');
    }
    absolute
}

/// An absolute path without `.`, `..` and double slashes.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX"));
    if let Some(offset) = real_time {
        let number = offset.strip_prefix(['+', '-']).unwrap_or("");
        return offset.is_empty() || number.parse::<u8>().is_ok_and(|number| number <= 15);
    }
    const NAMES: [&str; 36] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "UNUSED", "EMT",
    ];
    NAMES.contains(&name)
}

/// The variables of proxies that were given as build arguments.
pub fn proxy_environment(args: &BTreeMap<String, String>) -> Vec<String> {
    let given = PROXY_ARGS.iter().filter_map(|name| args.get(*name).map(|value| format!("{name}={value}")));
    given.collect()
}
