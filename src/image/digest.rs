//! What tags stand for: digests from registries, without a pull.

use super::online::runtime;
use super::registry::{Client, Config, Timing};
use super::{Error, Result};
use crate::base::id::Digest;
use crate::model::reference::Reference;

/// Asks the registries for the digests that `references` stand for, all at once; the answers come in their order.
///
/// The digest is that of the manifest or, for images of several platforms, of their index: what
/// `name@digest` pins on every machine.
pub fn resolve_digests(references: &[Reference]) -> Result<Vec<Result<Digest>>> {
    let config = Config::read()?;
    let answers = references.iter().map(|reference| resolve(reference, &config));
    Ok(runtime()?.block_on(futures_util::future::join_all(answers)))
}

async fn resolve(reference: &Reference, config: &Config) -> Result<Digest> {
    if let Some(digest) = &reference.digest {
        return Ok(digest.clone());
    }
    let clients = Client::for_reference(reference, config, Timing::default())?;
    let last = clients.len().saturating_sub(1);
    for (number, client) in clients.iter().enumerate() {
        match client.manifest(reference, reference.manifest_name()).await {
            Err(error) if number < last && error.is_of_the_endpoint() => {}
            answer => return Ok(answer?.digest),
        }
    }
    Err(Error::UnknownImage { reference: reference.to_string() })
}
