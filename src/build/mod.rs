//! Dockerfile -> image: the front end, the build graph, the step cache and the execution of steps.
//!
//! ```text
//! text -> dockerfile: instructions with positions -> plan: stages, reachable ones only, arguments resolved
//!      -> stages in parallel, each step: key = parent key + instruction + digests of what it reads
//!           found in the store's step cache: take its layer      else: execute, commit the layer by content
//!      -> image config + layers -> store, tags
//! ```
//!
//! There is no context upload: files are hashed where they lie (a stat cache remembers unchanged ones) and
//! copied once, into the layer. A build killed at any moment leaves only temporary folders of the store.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/>, BuildKit's newest stable front end.

mod dockerfile;
mod error;
mod ignore;
mod interpret;
mod mode;
mod plan;
mod platform;
mod ports;
mod request;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::base::fs;
use crate::model::image::ImageConfig;
use dockerfile::Dockerfile;

pub use error::{Error, Mark};
pub use request::{BuildNetwork, BuildRequest, DockerfileSource, SecretSource};

/// Largest Dockerfile that is read. Real ones have a few kilobytes.
const DOCKERFILE_BYTES_MAX: u64 = 4 << 20;

/// Parses and validates the Dockerfile of a request and resolves its stages, without network, store or
/// any change (`--check`).
///
/// Errors: `Syntax` with the place in the file, `Empty`, `DockerfileMissing`, `Ignore`.
pub fn check(request: &BuildRequest) -> Result<(), Error> {
    let plan = plan::Plan::new(read_dockerfile(request)?, request)?;
    let mut states: BTreeMap<usize, interpret::State> = BTreeMap::new();
    for index in plan.reachable() {
        let state = match &plan.stages[index].base {
            plan::Base::Stage(base) => states.get(base).map(interpret::State::of_stage).unwrap_or_default(),
            // What an image brings along is not known without the network.
            _ => interpret::State::of_image(&ImageConfig::default(), &plan),
        };
        states.insert(index, interpret::interpret(&plan, index, state)?.state);
    }
    Ok(())
}

/// Reads and parses the Dockerfile of a request.
fn read_dockerfile(request: &BuildRequest) -> Result<Dockerfile, Error> {
    let (path, text) = match &request.dockerfile {
        DockerfileSource::Inline(text) => (PathBuf::from("Dockerfile"), text.clone()),
        DockerfileSource::Path(path) => {
            let mut path = path.clone();
            if path.ends_with("Dockerfile") && !path.exists() && path.with_file_name("dockerfile").exists() {
                path.set_file_name("dockerfile");
            }
            let content = match fs::read_limited(&path, DOCKERFILE_BYTES_MAX) {
                Err(error) if error.is_not_found() => return Err(Error::DockerfileMissing { path }),
                content => content?,
            };
            (path, String::from_utf8_lossy(&content).into_owned())
        }
    };
    dockerfile::parse_dockerfile(&path, &text)
}

/// Builds the image of `request` and returns it; its tags are set.
pub fn build(
    store: &crate::store::Store,
    request: &BuildRequest,
    progress: &dyn crate::model::event::Progress,
) -> Result<crate::model::image::Image, Error> {
    let _ = (store, request, progress);
    todo!()
}
