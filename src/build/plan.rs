//! Dockerfile + arguments -> stages with what each of them needs, in an order in which they can be built. Pure.
//!
//! ```text
//! global ARGs -> FROM of every stage: an earlier stage, `scratch`, a named context or an image
//!             -> `--from` of COPY and RUN --mount: a stage by name or number, a named context or an image
//!             -> target and what it reaches; a circle is an error that names it
//! ```
//!
//! Only reachable stages are interpreted and built.
//!
//! Source: BuildKit `dockerfile2llb/convert.go` (buildDispatchStates, toCommand, buildMetaArgs).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::dockerfile::expand::{Expanded, Syntax, expand};
use super::dockerfile::instruction::{Instruction, Kind};
use super::dockerfile::lines::Line;
use super::dockerfile::{Dockerfile, suggestion};
use super::epoch::{self, Epoch};
use super::error::{Error, Mark};
use super::ignore::Patterns;
use super::lint::{Linter, Rule, meant};
use super::platform::Platform;
use super::remote::is_remote;
use super::request::BuildRequest;
use crate::model::reference::Reference;

/// Everything about a build that its Dockerfile and arguments say.
#[derive(Debug)]
pub struct Plan {
    /// Escape character of the Dockerfile.
    pub escape: char,
    /// Its stages in order, unreachable ones too.
    pub stages: Vec<Stage>,
    /// The stage whose image is wanted.
    pub target: usize,
    /// Global variables: platform arguments and global ARGs.
    pub globals: BTreeMap<String, String>,
    /// Build arguments that were given.
    pub args: BTreeMap<String, String>,
    /// Where the time of what is made comes from.
    pub wanted_epoch: Epoch,
    /// The time of what is made, seconds since 1970.
    pub epoch: Option<i64>,
    /// Build checks.
    pub lint: Linter,
    /// The context's ignore file, for a check; `None` where it does not matter.
    pub ignore: Option<Patterns>,
    /// What is built for, unless a FROM says otherwise.
    pub platform: Platform,
    contexts: BTreeMap<String, Origin>,
    /// Names of all global arguments, with a value or not.
    declared: BTreeSet<String>,
}

/// One stage.
#[derive(Debug)]
pub struct Stage {
    /// `AS name`.
    pub name: Option<String>,
    /// How progress names it: its name or `stage-N`.
    pub label: String,
    /// What it begins with.
    pub base: Base,
    /// Its own platform.
    pub platform: Option<Platform>,
    /// Its FROM.
    pub from: Line,
    /// Its instructions; those of ONBUILD come first once the base is known.
    pub instructions: Vec<Planned>,
}

/// An instruction and where it reads from.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The instruction.
    pub instruction: Instruction,
    /// For COPY one origin, for RUN one a mount; `None` is the build context.
    pub origins: Vec<Option<Origin>>,
}

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// Another stage.
    Stage(usize),
    /// An image.
    Image(Reference),
    /// A folder of the host (a named context).
    Folder(PathBuf),
    /// A named context that has to be fetched.
    Remote(String),
}

/// Where COPY and RUN mounts read from besides the build context.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Another stage.
    Stage(usize),
    /// An image.
    Image(Reference),
    /// A folder of the host (a named context).
    Folder(PathBuf),
    /// A named context that has to be fetched.
    Remote(String),
    /// Nothing (`scratch`).
    Scratch,
}

impl Plan {
    /// Plans a build.
    ///
    /// Errors: `Syntax` for a base or stage that does not exist, a bad platform, a circle; `Target`.
    pub fn new(file: Dockerfile, request: &BuildRequest) -> Result<Self, Error> {
        let args = given_args(request);
        let host = Platform::host();
        let platform = match &request.platform {
            Some(text) => Platform::parse(text).ok_or_else(|| Error::Platform { platform: text.clone() })?,
            None => host.clone(),
        };
        let target_name = request
            .target
            .clone()
            .or_else(|| match &file.stages.last()?.from.kind {
                Kind::From(from) => from.name.clone(),
                _ => None,
            })
            .unwrap_or_else(|| "default".into());
        let mut globals = platform_args(&host, &platform, &target_name);
        for (name, value) in &mut globals {
            if let Some(given) = args.get(name) {
                value.clone_from(given);
            }
        }
        let above = args.get("BUILDKIT_DOCKERFILE_CHECK").map(String::as_str);
        let lint = Linter::new(&file, above).map_err(|message| match file.stages.first() {
            Some(stage) => stage.from.line.error_of_file(message),
            None => Error::Empty { path: PathBuf::new() },
        })?;
        lint.check_file(&file);
        let mut plan = Self {
            lint,
            wanted_epoch: Epoch::None,
            epoch: None,
            ignore: None,
            escape: file.directives.escape,
            stages: Vec::new(),
            target: 0,
            globals,
            args,
            platform,
            contexts: named_contexts(request)?,
            declared: BTreeSet::new(),
        };
        plan.check_defaults(&file);
        for instruction in &file.globals {
            plan.add_globals(instruction)?;
        }
        for stage in file.stages {
            plan.add_stage(stage)?;
        }
        for index in 0..plan.stages.len() {
            plan.find_origins(index)?;
        }
        plan.wanted_epoch = epoch::wanted(&plan, request)?;
        plan.target = plan.find_target(request.target.as_deref())?;
        plan.check_circles()?;
        plan.check_order()?;
        Ok(plan)
    }

    /// Whether every base is a name even when no build argument is given.
    fn check_defaults(&self, file: &Dockerfile) {
        let mut globals = self.globals.clone();
        let value = |globals: &BTreeMap<String, String>, word: &str| {
            expand(word, Syntax::new(self.escape), &|name| globals.get(name).cloned()).map(|expanded| expanded.text)
        };
        for instruction in &file.globals {
            let Kind::Arg(pairs) = &instruction.kind else { continue };
            for (name, default) in pairs {
                let Some(default) = default else { continue };
                let Ok(text) = value(&globals, default) else { return };
                globals.insert(name.clone(), text);
            }
        }
        for stage in &file.stages {
            let Kind::From(from) = &stage.from.kind else { continue };
            let Ok(text) = value(&globals, &from.base) else { return };
            if text.parse::<Reference>().is_err() {
                let detail = format!("Default value for ARG {} results in empty or invalid base image name", from.base);
                self.lint.warn(Rule::InvalidDefaultArgInFrom, &stage.from.line, detail);
            }
        }
    }

    /// Reports variables of FROM that no ARG declares.
    fn check_declared(&self, line: &Line, expanded: &Expanded) {
        for name in expanded.unset.iter().filter(|name| !self.declared.contains(*name)) {
            let known = self.globals.keys().chain(&self.declared).map(String::as_str);
            let detail = format!("FROM argument '{name}' is not declared{}", meant(name, known, ""));
            self.lint.warn(Rule::UndefinedArgInFrom, line, detail);
        }
    }

    fn check_platform(&self, line: &Line, typed: &str, stage: Option<&str>, expanded: &Expanded) {
        let is_target = expanded.used.len() == 1 && expanded.used.contains("TARGETPLATFORM");
        if is_target && expanded.unset.is_empty() && self.globals.get("TARGETPLATFORM") == Some(&expanded.text) {
            let detail =
                format!("Setting platform to predefined {typed} in FROM is redundant as this is the default behavior");
            self.lint.warn(Rule::RedundantTargetPlatform, line, detail);
        }
        if !expanded.used.is_empty() || !expanded.unset.is_empty() {
            return;
        }
        let Some(platform) = Platform::parse(&expanded.text) else { return };
        let stage = stage.unwrap_or_default();
        if !stage.contains(&platform.os) && !stage.contains(&platform.architecture) {
            let detail = format!("FROM --platform flag should not use constant value {:?}", expanded.text);
            self.lint.warn(Rule::FromPlatformFlagConstDisallowed, line, detail);
        }
    }

    /// The named context of that name.
    pub fn context(&self, name: &str) -> Option<&Origin> {
        self.contexts.get(name)
    }

    /// Sets the time of what is made, also where instructions read it.
    pub fn set_epoch(&mut self, seconds: Option<i64>) {
        self.epoch = seconds;
        for variables in [&mut self.args, &mut self.globals] {
            match seconds {
                Some(seconds) => {
                    if let Some(value) = variables.get_mut(epoch::NAME) {
                        *value = seconds.to_string();
                    }
                }
                None => drop(variables.remove(epoch::NAME)),
            }
        }
    }

    /// Addresses of named contexts that reachable stages need and that have to be fetched.
    pub fn remotes(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for index in self.reachable() {
            let stage = &self.stages[index];
            if let Base::Remote(address) = &stage.base {
                found.insert(address.clone());
            }
            for origin in stage.instructions.iter().flat_map(|planned| planned.origins.iter().flatten()) {
                if let Origin::Remote(address) = origin {
                    found.insert(address.clone());
                }
            }
        }
        found
    }

    /// Puts what was fetched in the place of its address.
    pub fn settle(&mut self, address: &str, origin: &Origin) {
        let is_it = |other: &Origin| matches!(other, Origin::Remote(known) if known == address);
        for stage in &mut self.stages {
            if matches!(&stage.base, Base::Remote(known) if known == address) {
                stage.base = origin.clone().into();
            }
            let origins = stage.instructions.iter_mut().flat_map(|planned| planned.origins.iter_mut().flatten());
            origins.filter(|other| is_it(other)).for_each(|other| other.clone_from(origin));
        }
        self.contexts.values_mut().filter(|other| is_it(other)).for_each(|other| other.clone_from(origin));
    }

    fn add_globals(&mut self, instruction: &Instruction) -> Result<(), Error> {
        let Kind::Arg(pairs) = &instruction.kind else { return Ok(()) };
        for (name, default) in pairs {
            self.declared.insert(name.clone());
            let value = match (self.args.get(name), default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => self.expand_global(&instruction.line, default)?.text,
                (None, None) => continue,
            };
            self.globals.insert(name.clone(), value);
        }
        Ok(())
    }

    fn expand_global(&self, line: &Line, word: &str) -> Result<Expanded, Error> {
        expand(word, Syntax::new(self.escape), &|name| self.globals.get(name).cloned())
            .map_err(|error| line.error(word, error.to_string()))
    }

    fn add_stage(&mut self, text: super::dockerfile::StageText) -> Result<(), Error> {
        let Instruction { line, kind: Kind::From(from) } = text.from else { return Ok(()) };
        let base = self.expand_global(&line, &from.base)?;
        self.check_declared(&line, &base);
        if base.text.is_empty() {
            let hint = base.unset.iter().next().map(|name| {
                let known: Vec<&str> = self.globals.keys().chain(&self.declared).map(String::as_str).collect();
                match suggestion(name, &known) {
                    Some(near) => format!("did you mean ${near}?"),
                    None => format!("give ARG {name} a default before the first FROM, or pass --build-arg {name}=…"),
                }
            });
            let message = format!("the base `{}` is empty", from.base);
            return Err(Error::Syntax { mark: line.mark_of(&from.base), message, hint });
        }
        let name = from.name.as_deref();
        let platform = from.platform.as_ref().map(|text| self.stage_platform(&line, text, name)).transpose()?;
        let index = self.stages.len();
        let base = self.find_base(&line, &from, &base.text)?;
        let instructions = text.instructions.into_iter();
        self.stages.push(Stage {
            label: from.name.clone().unwrap_or_else(|| format!("stage-{index}")),
            name: from.name,
            base,
            platform,
            from: line,
            instructions: instructions.map(|instruction| Planned { instruction, origins: Vec::new() }).collect(),
        });
        Ok(())
    }

    fn stage_platform(&self, line: &Line, text: &str, stage: Option<&str>) -> Result<Platform, Error> {
        let expanded = self.expand_global(line, text)?;
        self.check_declared(line, &expanded);
        self.check_platform(line, text, stage, &expanded);
        let near = || {
            let known: Vec<&str> = self.globals.keys().map(String::as_str).collect();
            let name = expanded.unset.iter().find_map(|name| suggestion(name, &known));
            name.map_or(String::new(), |name| format!(" (did you mean {name}?)"))
        };
        if expanded.text.is_empty() {
            return Err(line.error(text, format!("the platform `{text}` is empty{}", near())));
        }
        Platform::parse(&expanded.text).ok_or_else(|| {
            line.error(text, format!("`{}` is not a platform (os/arch[/variant]){}", expanded.text, near()))
        })
    }

    fn find_base(&self, line: &Line, from: &super::dockerfile::instruction::From, base: &str) -> Result<Base, Error> {
        // A named context replaces a stage of that name as a whole.
        if let Some(context) = from.name.as_ref().and_then(|name| self.contexts.get(name)) {
            return Ok(context.clone().into());
        }
        if let Some(index) = self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(base)) {
            return Ok(Base::Stage(index));
        }
        if base == "scratch" {
            return Ok(Base::Scratch);
        }
        if let Some(context) = self.contexts.get(base) {
            return Ok(context.clone().into());
        }
        self.image(line, &from.base, base).map(Base::Image)
    }

    fn image(&self, line: &Line, typed: &str, text: &str) -> Result<Reference, Error> {
        text.parse::<Reference>().map_err(|error| {
            let names: Vec<&str> = self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
            let hint = suggestion(text, &names).map(|near| format!("did you mean the stage {near}?"));
            Error::Syntax { mark: line.mark_of(typed), message: error.to_string(), hint }
        })
    }

    fn find_origins(&mut self, index: usize) -> Result<(), Error> {
        for position in 0..self.stages[index].instructions.len() {
            let instruction = &self.stages[index].instructions[position].instruction;
            let origins = self.origins_of(instruction)?;
            self.stages[index].instructions[position].origins = origins;
        }
        Ok(())
    }

    fn origins_of(&self, instruction: &Instruction) -> Result<Vec<Option<Origin>>, Error> {
        match &instruction.kind {
            Kind::Copy(copy) => {
                let Some(from) = &copy.from else { return Ok(vec![None]) };
                let expanded = expand(from, Syntax::new(self.escape), &|_| None);
                if expanded.is_ok_and(|expanded| expanded.text != *from) {
                    let mark = instruction.line.mark_of(&format!("--from={from}"));
                    let hint = "give the image a stage of its own (FROM … AS name) and name that".to_owned();
                    let message = "--from does not expand variables".to_owned();
                    return Err(Error::Syntax { mark, message, hint: Some(hint) });
                }
                Ok(vec![Some(self.origin(&instruction.line, from)?)])
            }
            Kind::Run(run) => run
                .mounts
                .iter()
                .map(|mount| {
                    let from = mount.split(',').filter_map(|field| field.split_once('='));
                    let from =
                        from.filter(|(key, _)| key.eq_ignore_ascii_case("from")).map(|(_, value)| value).next_back();
                    match from.filter(|from| !from.is_empty()) {
                        Some(from) => self.origin(&instruction.line, from).map(Some),
                        None => Ok(None),
                    }
                })
                .collect(),
            _ => Ok(Vec::new()),
        }
    }

    fn origin(&self, line: &Line, from: &str) -> Result<Origin, Error> {
        if let Ok(number) = from.parse::<usize>() {
            if number >= self.stages.len() {
                return Err(line.error(from, format!("there is no stage {number}")));
            }
            return Ok(Origin::Stage(number));
        }
        let name = from.to_lowercase();
        if let Some(index) = self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&name)) {
            return Ok(Origin::Stage(index));
        }
        if let Some(context) = self.contexts.get(from) {
            return Ok(context.clone());
        }
        if from == "scratch" {
            return Ok(Origin::Scratch);
        }
        self.image(line, from, from).map(Origin::Image)
    }

    /// A stage may only read from those before it. Checked for reachable stages, as BuildKit does.
    fn check_order(&self) -> Result<(), Error> {
        for index in self.reachable() {
            for planned in &self.stages[index].instructions {
                for origin in planned.origins.iter().flatten() {
                    let Origin::Stage(source) = origin else { continue };
                    if *source > index {
                        let (label, source) = (&self.stages[index].label, &self.stages[*source].label);
                        let message = format!("the stage `{source}` needs to be defined before the stage `{label}`");
                        return Err(planned.instruction.line.error(source, message));
                    }
                }
            }
        }
        Ok(())
    }

    /// The stages that a stage needs directly.
    pub fn needs(&self, index: usize) -> BTreeSet<usize> {
        let stage = &self.stages[index];
        let origins = stage.instructions.iter().flat_map(|planned| planned.origins.iter().flatten());
        let mut needs: BTreeSet<usize> = origins
            .filter_map(|origin| match origin {
                Origin::Stage(index) => Some(*index),
                _ => None,
            })
            .collect();
        if let Base::Stage(base) = stage.base {
            needs.insert(base);
        }
        needs
    }

    /// The platform of a stage: its own, else what is built for.
    pub fn platform_of(&self, index: usize) -> &Platform {
        self.stages[index].platform.as_ref().unwrap_or(&self.platform)
    }

    /// The images that reachable stages begin with or read from, each with the platform that is wanted of it.
    pub fn images(&self) -> BTreeSet<(Reference, Platform)> {
        let mut images = BTreeSet::new();
        for index in self.reachable() {
            let stage = &self.stages[index];
            let origins = stage.instructions.iter().flat_map(|planned| planned.origins.iter().flatten());
            images.extend(origins.filter_map(|origin| match origin {
                Origin::Image(reference) => Some((reference.clone(), self.platform.clone())),
                _ => None,
            }));
            if let Base::Image(reference) = &stage.base {
                images.insert((reference.clone(), self.platform_of(index).clone()));
            }
        }
        images
    }

    /// The ONBUILD instructions of a stage, for those that begin with it.
    pub fn own_triggers(&self, index: usize) -> Vec<String> {
        let kinds = self.stages[index].instructions.iter().map(|planned| &planned.instruction.kind);
        let triggers = kinds.filter_map(|kind| match kind {
            Kind::Onbuild(text) => Some(text.clone()),
            _ => None,
        });
        triggers.collect()
    }

    /// Where an image is named first, for errors.
    pub fn mark_of_image(&self, reference: &Reference) -> Box<Mark> {
        for stage in &self.stages {
            if stage.base == Base::Image(reference.clone()) {
                return match stage
                    .from
                    .text
                    .split_whitespace()
                    .find(|word| word.parse().ok().as_ref() == Some(reference))
                {
                    Some(word) => stage.from.mark_of(word),
                    None => stage.from.mark_of(""),
                };
            }
            for planned in &stage.instructions {
                if planned.origins.contains(&Some(Origin::Image(reference.clone()))) {
                    return planned.instruction.line.mark_of("");
                }
            }
        }
        self.stages[self.target].from.mark_of("")
    }

    /// The stages that the target needs and itself, each after those that it needs.
    pub fn reachable(&self) -> Vec<usize> {
        let mut order = Vec::new();
        let mut open = vec![(self.target, false)];
        let mut seen = BTreeSet::new();
        while let Some((index, expanded)) = open.pop() {
            if expanded {
                order.push(index);
            } else if seen.insert(index) {
                open.push((index, true));
                open.extend(self.needs(index).into_iter().map(|need| (need, false)));
            }
        }
        order
    }

    /// Puts the ONBUILD triggers of a stage's base before its own instructions.
    pub fn add_triggers(&mut self, index: usize, triggers: Vec<Instruction>) -> Result<(), Error> {
        let mut planned = Vec::with_capacity(triggers.len());
        for instruction in triggers {
            let origins = self.origins_of(&instruction)?;
            planned.push(Planned { instruction, origins });
        }
        self.stages[index].instructions.splice(0..0, planned);
        self.check_circles()?;
        self.check_order()
    }

    fn find_target(&self, wanted: Option<&str>) -> Result<usize, Error> {
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(self.stages.len() - 1) };
        let name = wanted.to_lowercase();
        if let Some(index) = self.stages.iter().rposition(|stage| stage.name.as_deref() == Some(&name)) {
            return Ok(index);
        }
        if let Some(index) = wanted.parse().ok().filter(|index| *index < self.stages.len()) {
            return Ok(index);
        }
        let names: Vec<&str> = self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        Err(Error::Target { target: wanted.to_owned(), near: suggestion(wanted, &names).map(str::to_owned) })
    }

    fn check_circles(&self) -> Result<(), Error> {
        // 0: new, 1: on the path, 2: done.
        let mut state = vec![0u8; self.stages.len()];
        for start in 0..self.stages.len() {
            let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
            if state[start] == 0 {
                state[start] = 1;
                path.push((start, self.needs(start).into_iter().collect()));
            }
            while let Some((index, needs)) = path.last_mut() {
                let index = *index;
                match needs.pop() {
                    None => {
                        state[index] = 2;
                        path.pop();
                    }
                    Some(need) if state[need] == 1 => {
                        let begin = path.iter().position(|(index, _)| *index == need).unwrap_or(0);
                        let circle = path[begin..].iter().map(|(index, _)| *index).chain([need]);
                        let names: Vec<&str> = circle.map(|index| self.stages[index].label.as_str()).collect();
                        let message = format!("circular dependency of stages: {}", names.join(" -> "));
                        return Err(self.stages[need].from.error("", message));
                    }
                    Some(need) if state[need] == 0 => {
                        state[need] = 1;
                        path.push((need, self.needs(need).into_iter().collect()));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

impl From<Origin> for Base {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Stage(index) => Self::Stage(index),
            Origin::Image(reference) => Self::Image(reference),
            Origin::Folder(path) => Self::Folder(path),
            Origin::Remote(address) => Self::Remote(address),
            Origin::Scratch => Self::Scratch,
        }
    }
}

/// The arguments that have a value: given ones, else the variable of wharf's own environment.
fn given_args(request: &BuildRequest) -> BTreeMap<String, String> {
    let value = |(name, value): (&String, &Option<String>)| {
        let value = value.clone().or_else(|| std::env::var(name).ok())?;
        Some((name.clone(), value))
    };
    request.args.iter().filter_map(value).collect()
}

fn named_contexts(request: &BuildRequest) -> Result<BTreeMap<String, Origin>, Error> {
    let mut contexts = BTreeMap::new();
    for (name, value) in &request.additional_contexts {
        let origin = if let Some(text) = value.strip_prefix("docker-image://") {
            let invalid = |error: crate::model::reference::InvalidReference| Error::Context {
                name: name.clone(),
                reason: error.to_string(),
            };
            Origin::Image(text.parse().map_err(invalid)?)
        } else if value.starts_with("oci-layout://") || is_remote(value) {
            Origin::Remote(value.clone())
        } else if value.contains("://") || value.starts_with("service:") || value.starts_with("target:") {
            let reason = format!("`{value}` is none of: a folder, docker-image://, oci-layout://, git, http");
            return Err(Error::Context { name: name.clone(), reason });
        } else {
            Origin::Folder(PathBuf::from(value))
        };
        contexts.insert(name.clone(), origin);
    }
    Ok(contexts)
}

fn platform_args(host: &Platform, target: &Platform, stage: &str) -> BTreeMap<String, String> {
    let pairs = [
        ("BUILDPLATFORM", host.to_string()),
        ("BUILDOS", host.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", host.architecture.clone()),
        ("BUILDVARIANT", host.variant.clone()),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", target.variant.clone()),
        ("TARGETSTAGE", stage.to_owned()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
