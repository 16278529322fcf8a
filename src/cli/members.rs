//! The containers that a command line may mean: those of the project in scope, else all.
//!
//! A name is a service of the project in scope, else a container's name or id. The compose files are read only
//! when a name is neither (to say whether it is a service without containers), or when they may rename the project.

use crate::base::fs::read_limited;
use crate::cli::{Context, Failure, Mistake};
use crate::compose::Scope;
use crate::engine::Engine;
use crate::graph::observed::label;
use crate::model::container::{ContainerSpec, ContainerState, Status};

/// Largest compose file that is searched for a `name:`; a larger one is loaded.
const COMPOSE_BYTES_MAX: u64 = 1 << 20;

/// A container with what its labels say.
#[derive(Debug)]
pub struct Member {
    /// What it is.
    pub spec: ContainerSpec,
    /// How it fares.
    pub state: ContainerState,
}

impl Member {
    fn label(&self, name: &str) -> Option<&str> {
        self.spec.labels.get(name).map(String::as_str)
    }

    /// The project that it belongs to.
    pub fn project(&self) -> Option<&str> {
        self.label(label::PROJECT)
    }

    /// The service that it is an instance of.
    pub fn service(&self) -> Option<&str> {
        self.label(label::SERVICE)
    }

    /// The number of the replica; 0 for a container without one.
    pub fn number(&self) -> u32 {
        self.label(label::NUMBER).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Made by `run`.
    pub fn is_one_off(&self) -> bool {
        self.label(label::ONEOFF) == Some("True")
    }

    /// Whether it runs, paused or not.
    pub fn is_up(&self) -> bool {
        matches!(self.state.status, Status::Running | Status::Paused | Status::Restarting)
    }

    /// The name without the project's, as log prefixes show it.
    pub fn short_name(&self) -> &str {
        let stripped = self
            .project()
            .and_then(|project| self.spec.name.strip_prefix(project).and_then(|rest| rest.strip_prefix(['-', '_'])));
        stripped.filter(|name| !name.is_empty()).unwrap_or(&self.spec.name)
    }
}

/// The engine, the project in scope and all containers, read once.
pub struct InScope {
    /// The engine.
    pub engine: Engine,
    /// The project in scope by its name; `None` outside of projects.
    pub project: Option<String>,
    members: Vec<Member>,
}

impl Context {
    /// Reads what exists, and finds the project in scope. For verbs that start nothing.
    pub fn in_scope(&self) -> Result<InScope, Failure> {
        self.in_scope_of(self.engine()?)
    }

    /// The same for a verb on the container `name` alone: outside of projects nothing else is read, so that it takes
    /// the same time among many. Whatever is not a container's name or id is looked for among all.
    pub fn in_scope_of_one(&self, name: &str) -> Result<InScope, Failure> {
        let engine = self.engine()?;
        if self.project_name()?.is_none()
            && let Ok(id) = engine.store().containers().find(name)
            && let (Ok(spec), Ok(state)) =
                (engine.store().containers().spec(&id), engine.store().containers().state(&id))
        {
            return Ok(InScope { engine, project: None, members: vec![Member { spec, state }] });
        }
        self.in_scope_of(engine)
    }

    /// Reads what exists through an engine that is open.
    pub fn in_scope_of(&self, engine: Engine) -> Result<InScope, Failure> {
        let project = self.project_name()?;
        let mut members: Vec<Member> =
            engine.store().containers().list()?.into_iter().map(|(spec, state)| Member { spec, state }).collect();
        // Newest first, as the store has them, outside of projects; by service and number inside.
        if project.is_some() {
            members
                .sort_by(|a, b| (a.service(), a.number(), &a.spec.name).cmp(&(b.service(), b.number(), &b.spec.name)));
        }
        Ok(InScope { engine, project, members })
    }

    /// The name of the project in scope, with as little reading as possible; `None` outside of projects.
    pub fn project_name(&self) -> Result<Option<String>, Failure> {
        let scope = self.discover()?;
        if self.global.project_name.is_some() {
            return Ok(Some(scope.project_name));
        }
        // A name in the environment alone makes no project of a folder: the containers are all the user's.
        if scope.files.is_empty() {
            return Ok(None);
        }
        if !scope.environment.contains_key("COMPOSE_PROJECT_NAME") && may_name_the_project(&scope) {
            return Ok(Some(self.load_project(&[])?.project.name));
        }
        Ok(Some(scope.project_name))
    }
}

/// Whether a `name:` may stand at the top level of one of the files. A wrong yes costs only time.
fn may_name_the_project(scope: &Scope) -> bool {
    scope.files.iter().any(|file| match read_limited(file, COMPOSE_BYTES_MAX) {
        Ok(content) => content.split(|byte| *byte == b'\n').any(|line| {
            let unquoted = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
            ["name", "\"name\"", "'name'", "{", "?", "<<", "---"]
                .iter()
                .any(|start| unquoted.starts_with(start.as_bytes()))
        }),
        Err(_) => true,
    })
}

impl InScope {
    /// All containers of the host.
    pub fn all(&self) -> &[Member] {
        &self.members
    }

    /// The containers of the project in scope that `up` made; outside of projects, all.
    pub fn own(&self) -> impl Iterator<Item = &Member> {
        self.own_with_one_offs().filter(|member| self.project.is_none() || !member.is_one_off())
    }

    /// The same with those of `run`.
    pub fn own_with_one_offs(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| self.project.is_none() || member.project() == self.project.as_deref())
    }

    /// The containers of one service of the project in scope.
    pub fn of_service(&self, service: &str) -> Vec<&Member> {
        self.own().filter(|member| self.project.is_some() && member.service() == Some(service)).collect()
    }

    /// What the names mean, each container once; all of [`Self::own`] without names.
    ///
    /// Errors: a name that is neither a service nor a container.
    pub fn select(&self, context: &Context, names: &[String]) -> Result<Vec<&Member>, Failure> {
        if names.is_empty() {
            return Ok(self.own().collect());
        }
        let mut selected: Vec<&Member> = Vec::new();
        for name in names {
            for member in self.meaning(context, name)? {
                if !selected.iter().any(|other| other.spec.id == member.spec.id) {
                    selected.push(member);
                }
            }
        }
        Ok(selected)
    }

    /// What one name means: a service's containers, else one container.
    pub fn meaning(&self, context: &Context, name: &str) -> Result<Vec<&Member>, Failure> {
        let service = self.of_service(name);
        if !service.is_empty() {
            return Ok(service);
        }
        if let Some(member) = self.find(name)? {
            return Ok(vec![member]);
        }
        if self.project.is_none() {
            return self.container(name).map(|member| vec![member]);
        }
        let mut known = self.services();
        if !context.discover()?.files.is_empty() {
            let project = context.load_project(&[])?.project;
            if project.services.contains_key(name) || project.disabled_services.contains_key(name) {
                return Ok(Vec::new());
            }
            known.extend(project.services.keys().cloned());
        }
        known.sort();
        known.dedup();
        Err(Mistake::NoSuchService { name: name.to_owned(), known }.into())
    }

    /// One running container: that of a service (the lowest number, or `index`), or the one named.
    pub fn running(&self, context: &Context, name: &str, index: Option<u32>) -> Result<&Member, Failure> {
        let meaning = self.meaning(context, name)?;
        let is_service = meaning.iter().any(|member| self.project.is_some() && member.service() == Some(name));
        let chosen = match index {
            Some(index) if is_service || meaning.is_empty() => {
                let replica = meaning.into_iter().find(|member| member.number() == index);
                Some(replica.ok_or_else(|| Mistake::NoSuchReplica { name: name.to_owned(), index })?)
            }
            _ => {
                let first_up = meaning.iter().copied().find(|member| member.is_up());
                first_up.or(meaning.first().copied())
            }
        };
        match chosen {
            Some(member) if member.is_up() => Ok(member),
            Some(member) if !is_service => Err(Mistake::ContainerNotRunning { name: member.spec.name.clone() }.into()),
            _ => Err(Mistake::NotRunning { name: name.to_owned() }.into()),
        }
    }

    /// One container, running or not: that of a service (the lowest number, or `index`), or the one named.
    pub fn one(&self, context: &Context, name: &str, index: Option<u32>) -> Result<&Member, Failure> {
        let meaning = self.meaning(context, name)?;
        let chosen = match index {
            Some(index) if self.project.is_some() => meaning.into_iter().find(|member| member.number() == index),
            _ => meaning.into_iter().next(),
        };
        match (chosen, index) {
            (Some(member), _) => Ok(member),
            (None, Some(index)) => Err(Mistake::NoSuchReplica { name: name.to_owned(), index }.into()),
            (None, None) => Err(Mistake::NotRunning { name: name.to_owned() }.into()),
        }
    }

    /// The container of this name or id.
    pub fn container(&self, name: &str) -> Result<&Member, Failure> {
        self.find(name)?.ok_or_else(|| {
            let known = self.members.iter().map(|member| member.spec.name.clone()).collect();
            Mistake::NoSuchContainer { name: name.to_owned(), known }.into()
        })
    }

    /// The services of the project in scope that have containers, each once, in order.
    pub fn services(&self) -> Vec<String> {
        if self.project.is_none() {
            return Vec::new();
        }
        let mut services: Vec<String> = self.own().filter_map(|member| member.service().map(str::to_owned)).collect();
        services.sort();
        services.dedup();
        services
    }

    fn find(&self, name: &str) -> Result<Option<&Member>, Failure> {
        let exact = |member: &&Member| member.spec.name == name || member.spec.id.as_str() == name;
        if let Some(member) = self.members.iter().find(exact) {
            return Ok(Some(member));
        }
        let is_prefix = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut matching = self.members.iter().filter(|member| is_prefix && member.spec.id.as_str().starts_with(name));
        match (matching.next(), matching.next()) {
            (Some(_), Some(_)) => Err(Mistake::AmbiguousId { prefix: name.to_owned() }.into()),
            (found, _) => Ok(found),
        }
    }
}
