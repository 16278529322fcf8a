//! Gets the images of services: from the store, the registry or a build, all at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::build_request::build_request;
use super::contexts;
use super::service::{HAS_NO_IMAGE, image_name, in_service};
use super::{Engine, Error, Result};
use crate::base::threads;
use crate::build::{self, BuildRequest, DockerfileSource, RemoteContext};
use crate::graph::plan::Action;
use crate::image::{self, Platforms, PullOptions};
use crate::model::event::{Event, EventStatus, Progress};
use crate::model::image::Image;
use crate::model::project::{Build, Project, Service};
use crate::model::reference::Reference;

/// When images are pulled or built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Take what is here, get what is not.
    #[default]
    Missing,
    /// Ask the registry each time.
    Always,
    /// Never ask it.
    Never,
}

/// What `up`, `build` and `pull` were told about images.
#[derive(Debug, Clone, Default)]
pub struct ImageWish {
    /// `--pull`, above the services' `pull_policy`.
    pub pull: Option<PullPolicy>,
    /// `--build`: build what can be built, though it is here.
    pub build: bool,
    /// `--no-build`: build nothing.
    pub no_build: bool,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--pull` of `build`: newest base images.
    pub pull_base: bool,
    /// `--build-arg`, above the file's.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--ssh`, besides the file's.
    pub ssh: Vec<String>,
    /// Build for all platforms that the file names, not only for one that runs here.
    pub all_platforms: bool,
}

/// How one image is to be had.
pub(super) enum Need<'p> {
    Pull(Reference),
    Build(&'p Build),
    /// Pull, and build if that fails.
    PullElseBuild(Reference, &'p Build),
}

impl Engine {
    /// Makes sure that the images of `services` are here. What has to be pulled or built is done in parallel;
    /// services with the same image share the work.
    ///
    /// Errors: the first failure, with its service. The others are finished first.
    pub fn ensure_images(
        &self,
        project: &Project,
        services: &[&Service],
        wish: &ImageWish,
        progress: &dyn Progress,
    ) -> Result<()> {
        let needs = self.needs(project, services, wish)?;
        if needs.is_empty() {
            return Ok(());
        }
        for round in contexts::rounds(project, &needs)? {
            self.satisfy_all(project, &round, wish, progress)?;
        }
        Ok(())
    }

    /// Gets images that do not need each other, all at once.
    fn satisfy_all(
        &self,
        project: &Project,
        needs: &[&(&Service, Need<'_>)],
        wish: &ImageWish,
        progress: &dyn Progress,
    ) -> Result<()> {
        let queue = Mutex::new(needs.iter());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Vec<Result<()>> {
            std::iter::from_fn(next)
                .map(|(service, need)| self.satisfy(project, service, need, wish, progress))
                .collect()
        };
        let count = self.parallel.map_or(needs.len(), |limit| needs.len().min(limit));
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..count).map(|_| threads::begin(scope, work)).collect();
            workers.into_iter().flat_map(threads::Work::join).collect()
        });
        Error::of_several(results.into_iter().filter_map(Result::err).collect())
    }

    /// What [`Engine::ensure_images`] would do, and why.
    pub fn plan_images(
        &self,
        project: &Project,
        services: &[&Service],
        wish: &ImageWish,
    ) -> Result<Vec<(Action, String)>> {
        let mut actions = Vec::new();
        for (image, (service, need)) in self.needs(project, services, wish)? {
            let is_here = image::resolve(&self.store, &image.parse()?, service.platform.as_deref())?.is_some();
            let build = matches!(need, Need::Build(_));
            let why = match (is_here, build) {
                (false, _) => "it is not here",
                (true, true) => "asked for",
                (true, false) => "its pull policy says so",
            };
            let service = service.name.clone();
            actions.push((Action::GetImage { service, image, build }, why.to_owned()));
        }
        Ok(actions)
    }

    fn needs<'p>(
        &self,
        project: &'p Project,
        services: &[&'p Service],
        wish: &ImageWish,
    ) -> Result<BTreeMap<String, (&'p Service, Need<'p>)>> {
        let mut needs: BTreeMap<String, (&Service, Need<'_>)> = BTreeMap::new();
        for service in services.iter().copied() {
            let name = image_name(project, service);
            if needs.contains_key(&name) {
                continue;
            }
            if let Some(need) =
                self.need(&name, service, wish).map_err(|error| in_service(project, service, HAS_NO_IMAGE, error))?
            {
                needs.insert(name, (service, need));
            }
        }
        contexts::add_built(project, &mut needs);
        for service in services.iter().copied() {
            for (name, reference) in further_images(service)? {
                let is_here = self.store.images().resolve(&reference)?.is_some();
                let pull = match wish.pull {
                    Some(PullPolicy::Always) => true,
                    Some(PullPolicy::Never) => false,
                    Some(PullPolicy::Missing) | None => !is_here,
                };
                if pull && !needs.contains_key(&name) {
                    needs.insert(name, (service, Need::Pull(reference)));
                }
            }
        }
        Ok(needs)
    }

    fn need<'p>(&self, name: &str, service: &'p Service, wish: &ImageWish) -> Result<Option<Need<'p>>> {
        let reference: Reference = name.parse()?;
        if let Some(build) = &service.build
            && wish.build
        {
            return Ok(Some(Need::Build(build)));
        }
        let here = image::resolve(&self.store, &reference, service.platform.as_deref())?;
        let policy = service.pull_policy.as_deref().unwrap_or("missing");
        let policy = match (wish.pull, policy) {
            (Some(policy), _) => policy,
            (None, "always") => PullPolicy::Always,
            (None, "never") => PullPolicy::Never,
            (None, "build") => match &service.build {
                Some(build) if !wish.no_build => return Ok(Some(Need::Build(build))),
                _ => PullPolicy::Missing,
            },
            (None, text) if refresh_period(text).is_some_and(|period| self.is_older(&reference, period)) => {
                PullPolicy::Always
            }
            (None, _) => PullPolicy::Missing,
        };
        let build = service.build.as_ref().filter(|_| !wish.no_build);
        Ok(match (policy, here, build) {
            (PullPolicy::Missing | PullPolicy::Never, Some(_), _) => None,
            // A service with a build of its own is asked for in the registry only where the file says so.
            (PullPolicy::Always | PullPolicy::Missing, _, Some(build))
                if service.image.is_none() || service.pull_policy.is_none() =>
            {
                Some(Need::Build(build))
            }
            (PullPolicy::Always | PullPolicy::Missing, _, Some(build)) => Some(Need::PullElseBuild(reference, build)),
            (PullPolicy::Never, None, Some(build)) => Some(Need::Build(build)),
            (PullPolicy::Never, None, None) => {
                return Err(Error::ImageMissing { image: name.to_owned(), reason: "pull policy never" });
            }
            (PullPolicy::Always | PullPolicy::Missing, _, None) if service.image.is_none() => {
                return Err(Error::ImageMissing {
                    image: name.to_owned(),
                    reason: "it is built, and --no-build was given",
                });
            }
            (PullPolicy::Always | PullPolicy::Missing, _, None) => Some(Need::Pull(reference)),
        })
    }

    /// Whether the registry was asked for an image longer ago than `period`. A pull that finds nothing new counts: it
    /// gives the name again.
    fn is_older(&self, reference: &Reference, period: Duration) -> bool {
        let named_at = self.store.images().named_at(reference);
        named_at.and_then(|time| time.elapsed().ok()).is_none_or(|age| age > period)
    }

    fn satisfy(
        &self,
        project: &Project,
        service: &Service,
        need: &Need<'_>,
        wish: &ImageWish,
        progress: &dyn Progress,
    ) -> Result<()> {
        match need {
            Need::Pull(reference) => self
                .pull(reference, PullPolicy::Always, Platforms::one(service.platform.as_deref()), progress)
                .map(drop)
                .map_err(|error| in_service(project, service, HAS_NO_IMAGE, error)),
            Need::Build(build) => self.build_service(project, service, build, wish, progress),
            Need::PullElseBuild(reference, build) => {
                let platforms = Platforms::one(service.platform.as_deref());
                if self.pull(reference, PullPolicy::Always, platforms, &crate::model::event::Silent).is_err() {
                    self.build_service(project, service, build, wish, progress)?;
                }
                Ok(())
            }
        }
    }

    /// Pulls an image, for this host or for other platforms.
    pub fn pull(
        &self,
        reference: &Reference,
        policy: PullPolicy,
        platforms: Platforms,
        progress: &dyn Progress,
    ) -> Result<Image> {
        let policy = match policy {
            PullPolicy::Missing => image::PullPolicy::Missing,
            PullPolicy::Always => image::PullPolicy::Always,
            PullPolicy::Never => image::PullPolicy::Never,
        };
        let options = PullOptions { platforms, policy, ..PullOptions::default() };
        image::pull(&self.store, reference, &options, progress).map_err(|error| {
            progress.report(Event::new(&format!("Image {reference}"), EventStatus::Error, "Error"));
            error.into()
        })
    }

    /// The image that `name` stands for; pulled first where it is not here (or always, or never).
    pub fn image(
        &self,
        name: &str,
        policy: PullPolicy,
        platform: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Image> {
        if policy != PullPolicy::Always
            && let Some(image) = self.image_here(name, platform)?
        {
            return Ok(image);
        }
        let reference: Reference = name.parse()?;
        if policy == PullPolicy::Never {
            // Somebody who may not ask the registry takes what there is.
            if self.store.images().resolve(&reference)?.is_some() {
                return Ok(image::find(&self.store, name, platform)?);
            }
            return Err(Error::ImageMissing { image: name.to_owned(), reason: "--pull never" });
        }
        // Whoever comes here has found that it is not here, or wants the newest.
        self.pull(&reference, PullPolicy::Always, Platforms::one(platform), progress)
    }

    /// The image that `name` (or an id, or the beginning of one) stands for here, for a platform where one is asked
    /// for; `None` when it is not here.
    pub fn image_here(&self, name: &str, platform: Option<&str>) -> Result<Option<Image>> {
        match image::find(&self.store, name, platform) {
            Ok(image) => {
                let is_foreign = platform.is_none()
                    && name.parse().is_ok_and(|reference| image::is_foreign(&self.store, &reference, &image));
                Ok(Some(image).filter(|_| !is_foreign))
            }
            Err(image::Error::NoPlatform { .. }) => Ok(None),
            Err(image::Error::Store(error)) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether programs of an image run here: natively, or by the host's binfmt.
    ///
    /// Errors: `Foreign`.
    pub fn check_platform(&self, image: &Image) -> Result<()> {
        match crate::runtime::binfmt::obstacle(&image.config.architecture) {
            None => Ok(()),
            Some(obstacle) => {
                Err(Error::Foreign { platform: image::Platform::of(&image.config).to_string(), obstacle })
            }
        }
    }

    /// The image of a service, which must be here by now.
    pub fn service_image(&self, project: &Project, service: &Service) -> Result<Image> {
        let name = image_name(project, service);
        let image = image::resolve(&self.store, &name.parse()?, service.platform.as_deref())?;
        image.ok_or(Error::ImageMissing { image: name, reason: "it was there a moment ago" })
    }

    /// Builds the image of a service.
    pub fn build_service(
        &self,
        project: &Project,
        service: &Service,
        build: &Build,
        wish: &ImageWish,
        progress: &dyn Progress,
    ) -> Result<()> {
        let fail = |error| in_service(project, service, "cannot be built", error);
        let mut request = build_request(project, service, build, wish).map_err(fail)?;
        progress.working(&service.name, "Building");
        let fetched = self.fetch_context(build, &mut request);
        let _context = fetched.map_err(|error| {
            progress.report(Event::new(&service.name, EventStatus::Error, "Error"));
            fail(error)
        })?;
        let platforms = match wish.all_platforms {
            true => build.platforms.as_slice(),
            false => &[],
        };
        let built = match platforms {
            [] | [_] => build::build(&self.store, &request, progress).map(drop),
            several => build::build_for(&self.store, &request, several, progress).map(drop),
        };
        match built {
            Ok(()) => {
                progress.done(&service.name, "Built");
                Ok(())
            }
            Err(error) => {
                progress.report(Event::new(&service.name, EventStatus::Error, "Error"));
                Err(fail(error.into()))
            }
        }
    }

    /// Checks the Dockerfile of a service without building anything.
    pub fn check_service(
        &self,
        project: &Project,
        service: &Service,
        build: &Build,
        wish: &ImageWish,
    ) -> Result<build::Checked> {
        let fail = |error| in_service(project, service, "cannot be built", error);
        let mut request = build_request(project, service, build, wish).map_err(fail)?;
        let _context = self.fetch_context(build, &mut request).map_err(fail)?;
        build::check(&request).map_err(|error| fail(error.into()))
    }

    /// Fetches the context of a build that is no folder of this host; the request reads from it while it lives.
    fn fetch_context(&self, build: &Build, request: &mut BuildRequest) -> Result<Option<RemoteContext>> {
        if !build::is_remote(&build.context) {
            return Ok(None);
        }
        let context = build::fetch_context(&self.store, &build.context, &request.secrets)?;
        request.context.clone_from(&context.folder);
        request.context_time_seconds = context.time_seconds;
        request.ignore_file = false;
        if build.dockerfile_inline.is_none() {
            let name = build.dockerfile.as_deref().unwrap_or("Dockerfile");
            request.dockerfile = match &context.dockerfile {
                Some(text) => DockerfileSource::Inline(text.clone()),
                None => DockerfileSource::Path(context.file(name)?),
            };
        }
        Ok(Some(context))
    }

    /// Removes an image by name or id.
    pub fn remove_image(&self, reference: &str) -> Result<()> {
        Ok(image::remove(&self.store, reference, None, false).map(drop)?)
    }
}

/// The images that a service needs besides its own: of mounts, and of hooks.
fn further_images(service: &Service) -> Result<Vec<(String, Reference)>> {
    let mounts = service.volumes.iter().filter(|mount| mount.kind == "image").filter_map(|mount| mount.source.as_ref());
    let hooks = service.pre_start.iter().filter_map(|hook| hook.image.as_ref());
    mounts.chain(hooks).map(|name| Ok((name.clone(), name.parse()?))).collect()
}

/// The age at which `daily`, `weekly` and `every_<duration>` ask the registry again.
fn refresh_period(policy: &str) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(86_400);
    match policy {
        "daily" => Some(DAY),
        "weekly" => Some(7 * DAY),
        _ => policy.strip_prefix("every_").and_then(|text| crate::base::units::parse_duration(text).ok()),
    }
}
