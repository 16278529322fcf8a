//! Work with registries and servers: asynchronous inside, one call from outside.

use super::registry::{Client, Config, Timing};
use super::{Error, Result};
use crate::model::reference::Reference;

/// Runs `work` on a thread named `name` with a runtime of its own, as callers may be inside one or have none.
pub(super) fn apart<T: Send>(name: &str, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.into());
        let work = || runtime()?.block_on(work());
        let handle = thread.spawn_scoped(scope, work).map_err(|source| Error::Thread { source })?;
        let ended = || Error::Thread { source: std::io::Error::other("a thread ended without a result") };
        handle.join().unwrap_or_else(|_| Err(ended()))
    })
}

/// The same with a client for the registry of `reference` itself (mirrors are for pulls), over HTTP if `insecure`.
pub(super) fn with_client<T: Send>(
    reference: &Reference,
    insecure: bool,
    work: impl AsyncFnOnce(Client) -> Result<T> + Send,
) -> Result<T> {
    apart("registry", async || {
        let mut config = Config::read()?;
        if insecure {
            config.allow_http(&reference.registry);
        }
        let client = Client::for_reference(reference, &config, Timing::default())?.pop();
        work(client.ok_or_else(|| Error::UnknownImage { reference: reference.to_string() })?).await
    })
}

/// A runtime for this thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|source| Error::Thread { source })
}
