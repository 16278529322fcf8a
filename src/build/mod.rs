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

mod error;
mod request;

pub use error::{Error, Mark};
pub use request::{BuildNetwork, BuildRequest, DockerfileSource, SecretSource};

/// Parses and validates the Dockerfile of a request and resolves its stages, without network, store or
/// any change (`--check`).
///
/// Errors: `Syntax` with the place in the file, `Empty`, `DockerfileMissing`, `Ignore`.
pub fn check(request: &BuildRequest) -> Result<(), Error> {
    let _ = request;
    todo!("the front end lands next")
}
