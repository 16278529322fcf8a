//! What a registry says of a repository without anything being pulled: its tags, a manifest as it is.

use super::registry::{Client, Config, Timing};
use super::{Error, Result};
use crate::base::id::Digest;
use crate::model::reference::Reference;

/// All tags of the repository of `reference`, in the registry's order.
pub fn tags(reference: &Reference) -> Result<Vec<String>> {
    online(reference, async |client| client.tags().await)
}

/// The manifest or index that `reference` means in its registry: its bytes, which its digest was proved by.
pub fn manifest_of(reference: &Reference) -> Result<(Digest, Vec<u8>)> {
    online(reference, async |client| {
        let fetched = client.manifest(reference, reference.manifest_name()).await?;
        Ok((fetched.digest, fetched.content))
    })
}

/// Runs `work` on a thread with a runtime of its own, as callers may be inside one or have none. Mirrors are for
/// pulls: the registry itself is asked.
pub(super) fn online<T: Send>(reference: &Reference, work: impl AsyncFnOnce(Client) -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let client = Client::for_reference(reference, &Config::read()?, Timing::default())?.pop();
            let client = client.ok_or_else(|| Error::UnknownImage { reference: reference.to_string() })?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|source| Error::Thread { source })?;
            runtime.block_on(work(client))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
