//! The project that verbs act on, and the carrying out of what they plan.

use std::sync::atomic::AtomicBool;

use super::members::{InScope, Member};
use super::progress::Reporter;
use super::signals::{Interruption, interruptible};
use super::{Context, Failure, Mistake, Outcome};
use crate::compose::{Loaded, Options};
use crate::engine::execute::Execution;
use crate::engine::{self, Engine};
use crate::graph::plan::{Action, Plan};
use crate::model::project::Project;

/// The project in scope: by its files, or only by its name (`-p`), which is enough to find its containers.
pub struct ProjectInScope {
    /// Its name.
    pub name: String,
    /// What the files say.
    pub loaded: Option<Loaded>,
}

impl ProjectInScope {
    /// The project, where there are files.
    pub fn project(&self) -> Option<&Project> {
        self.loaded.as_ref().map(|loaded| &loaded.project)
    }
}

/// What names on the command line mean to a verb that acts on whole services where it can.
#[allow(clippy::large_enum_variant, reason = "there is one value of it in a process: its size does not matter")]
pub enum Targets<'a> {
    /// Services of the project in scope; empty is all of them.
    Services(ProjectInScope),
    /// Containers.
    Containers(Vec<&'a Member>),
}

impl Context {
    /// Loads the project in scope, or finds its name; `None` outside of projects.
    pub fn project_in_scope(&self, services: &[String]) -> Result<Option<ProjectInScope>, Failure> {
        let scope = self.discover()?;
        if !scope.files.is_empty() {
            let options = Options { services: services.to_vec(), ..self.compose_options()? };
            let loaded = self.load(&options)?;
            return Ok(Some(ProjectInScope { name: loaded.project.name.clone(), loaded: Some(loaded) }));
        }
        let named = self.global.project_name.is_some() || scope.environment.contains_key("COMPOSE_PROJECT_NAME");
        Ok(named.then_some(ProjectInScope { name: scope.project_name, loaded: None }))
    }

    /// The project in scope, which must have files.
    pub fn required_project(&self, services: &[String]) -> Result<Loaded, Failure> {
        let loaded = self.load_project(services)?;
        self.warn_unsupported(&loaded);
        Ok(loaded)
    }

    /// What `names` mean: services where all of them are, else containers.
    ///
    /// Errors: a name that is neither; no name at all outside of projects.
    pub fn targets<'s>(&self, scope: &'s InScope, names: &[String]) -> Result<Targets<'s>, Failure> {
        let project = self.project_in_scope(&[])?;
        if let Some(mut project) = project {
            let labelled = scope.services();
            let is_service = |name: &String| {
                labelled.contains(name)
                    || project.project().is_some_and(|project| {
                        project.services.contains_key(name) || project.disabled_services.contains_key(name)
                    })
            };
            if names.iter().all(is_service) {
                let is_disabled = |name: &String| {
                    project.project().is_some_and(|project| project.disabled_services.contains_key(name))
                };
                if names.iter().any(is_disabled) {
                    // Naming a service enables its profiles.
                    let names: Vec<String> = names
                        .iter()
                        .filter(|name| {
                            project.project().is_some_and(|project| {
                                project.services.contains_key(*name) || project.disabled_services.contains_key(*name)
                            })
                        })
                        .cloned()
                        .collect();
                    if let Some(again) = self.project_in_scope(&names)? {
                        project = again;
                    }
                }
                return Ok(Targets::Services(project));
            }
        } else if names.is_empty() {
            return Err(Mistake::Usage {
                text: "name a container: there is no compose file in this folder or above it".into(),
                hint: Some("`wharf ps -a` lists containers".into()),
            }
            .into());
        }
        scope.select(self, names).map(Targets::Containers)
    }

    /// Opens the engine for verbs that start nothing, or that start from their only thread.
    pub fn engine(&self) -> Result<Engine, Failure> {
        let limit = self.global.parallel()?;
        Ok(Engine::open(&self.paths)?.limited(limit))
    }

    /// Opens the engine for verbs that start containers from several threads.
    pub fn engine_with_launcher(&self) -> Result<Engine, Failure> {
        let limit = self.global.parallel()?;
        Ok(Engine::open_with_launcher(&self.paths)?.limited(limit))
    }

    /// Carries out a verb of the engine below a progress display; Ctrl-C ends it after what is under way.
    pub fn perform<T: Send>(
        &self,
        reporter: Reporter,
        project: Option<&Project>,
        verb: impl FnOnce(&Execution<'_>) -> engine::Result<T> + Send,
    ) -> Result<T, Failure> {
        self.perform_until(Interruption::Graceful, reporter, project, verb)
    }

    /// The same for downloads and builds, which Ctrl-C ends at once.
    pub fn perform_transfer<T: Send>(
        &self,
        reporter: Reporter,
        project: Option<&Project>,
        verb: impl FnOnce(&Execution<'_>) -> engine::Result<T> + Send,
    ) -> Result<T, Failure> {
        self.perform_until(Interruption::AtOnce, reporter, project, verb)
    }

    /// Like [`Context::perform`], after `images` has got what `verb` needs; Ctrl-C ends that phase at once.
    pub fn perform_with_images<T: Send>(
        &self,
        reporter: Reporter,
        project: &Project,
        images: impl FnOnce(&Reporter) -> engine::Result<()> + Send,
        verb: impl FnOnce(&Execution<'_>) -> engine::Result<T> + Send,
    ) -> Result<T, Failure> {
        let reporter = self.get_images(reporter, images)?;
        self.perform(reporter, Some(project), verb)
    }

    /// Gets images below a progress display that goes on; Ctrl-C ends the process at once.
    pub fn get_images(
        &self,
        reporter: Reporter,
        images: impl FnOnce(&Reporter) -> engine::Result<()> + Send,
    ) -> Result<Reporter, Failure> {
        let got = interruptible(self, Interruption::AtOnce, || reporter.end_block(), |_| images(&reporter));
        match got.and_then(|got| got.map_err(Failure::of_engine)) {
            Ok(()) => Ok(reporter),
            Err(failure) => {
                reporter.finish();
                Err(failure)
            }
        }
    }

    fn perform_until<T: Send>(
        &self,
        interruption: Interruption,
        reporter: Reporter,
        project: Option<&Project>,
        verb: impl FnOnce(&Execution<'_>) -> engine::Result<T> + Send,
    ) -> Result<T, Failure> {
        let work =
            |cancelled: &AtomicBool| verb(&Execution { project, progress: &reporter, cancelled, on_start: None });
        let result = interruptible(self, interruption, || reporter.end_block(), work);
        reporter.finish();
        result?.map_err(Failure::of_engine)
    }

    /// Carries out a plan, or prints it with `--dry-run`.
    pub fn carry_out(&self, engine: &Engine, project: Option<&Project>, plan: &Plan) -> Outcome {
        if self.global.dry_run {
            return self.print_plan(plan);
        }
        self.perform(self.reporter("Running"), project, |execution| engine.execute(plan, execution))?;
        Ok(0)
    }

    /// Says what `--dry-run` leaves undone; `true` when that is so and the verb is to end with success.
    pub fn only_says(&self, steps: impl IntoIterator<Item = String>) -> Result<bool, Failure> {
        use std::io::Write;
        if self.global.dry_run {
            let mut out = self.output();
            for (number, step) in steps.into_iter().enumerate() {
                writeln!(out, "{}. {step}: asked for", number + 1)?;
            }
            out.flush()?;
        }
        Ok(self.global.dry_run)
    }

    /// Prints a plan: what `--dry-run` is for.
    pub fn print_plan(&self, plan: &Plan) -> Outcome {
        use std::io::Write;
        for warning in &plan.warnings {
            self.warn(warning);
        }
        let mut out = self.output();
        if plan.is_empty() {
            writeln!(out, "nothing to do")?;
        }
        write!(out, "{plan}")?;
        out.flush()?;
        Ok(0)
    }
}

/// A plan with one step for each container, all at once.
pub fn each(members: &[&Member], action: impl Fn(&Member) -> Action) -> Plan {
    let mut plan = Plan::default();
    for member in members {
        plan.push(action(member), Vec::new(), "asked for");
    }
    plan
}
