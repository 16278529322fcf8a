//! What a registry says of a repository without anything being pulled: its tags, a manifest as it is.

use super::Result;
use super::online::with_client;
use crate::base::id::Digest;
use crate::model::reference::Reference;

/// All tags of the repository of `reference`, in the registry's order.
pub fn tags(reference: &Reference) -> Result<Vec<String>> {
    with_client(reference, false, async |client| client.tags().await)
}

/// The manifest or index that `reference` means in its registry: its bytes, which its digest was proved by.
pub fn manifest_of(reference: &Reference) -> Result<(Digest, Vec<u8>)> {
    with_client(reference, false, async |client| {
        let fetched = client.manifest(reference, reference.manifest_name()).await?;
        Ok((fetched.digest, fetched.content))
    })
}
