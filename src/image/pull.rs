//! An image from a registry: manifest, config, layers, record, in this order.
//!
//! The network is driven by a current-thread runtime in a thread of its own, so callers may be inside a runtime or
//! have none. Layers come [`LAYERS_AT_ONCE`] at a time. What is in the store already is not fetched.

use std::collections::HashSet;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::download::{self, Arrived, Wanted};
use super::online::apart;
use super::platform::Platform;
use super::registry::{Client, Config, Timing};
use super::{Error, Result, index, manifest};
use crate::base::id::Digest;
use crate::model::event::Progress;
use crate::model::image::{BlobRecord, Image, ImageConfig};
use crate::model::reference::Reference;
use crate::store::Store;

/// Layers under way at once: more than cores, because some wait for the network.
const LAYERS_AT_ONCE: usize = 3;

/// When to ask the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Always; what is here already is not fetched again.
    Always,
    /// Only when no image of that name is here.
    #[default]
    Missing,
    /// Never: an image that is not here is an error.
    Never,
}

/// Which images of an index are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Platforms {
    /// The one that suits this host best.
    #[default]
    Host,
    /// One for each of these, such as `linux/amd64`, `linux/arm64/v8`.
    Of(Vec<String>),
    /// All for Linux.
    All,
}

impl Platforms {
    /// One platform, or this host's.
    pub fn one(platform: Option<&str>) -> Self {
        platform.map_or(Self::Host, |platform| Self::Of(vec![platform.to_owned()]))
    }
}

/// How to pull.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// For which platforms.
    pub platforms: Platforms,
    /// When to ask the registry.
    pub policy: PullPolicy,
    /// Fetch compressed layers, too, that are missing although their unpacked layer is here. Nothing but the exact
    /// repetition of a push or a proof of the layer needs them.
    pub blobs: bool,
}

/// Makes the image that `reference` names present in the store and returns it.
///
/// Reports one resource `Image <reference>` and one a layer below it (its digest's first 12 digits).
pub fn pull(store: &Store, reference: &Reference, options: &PullOptions, progress: &dyn Progress) -> Result<Image> {
    pull_patiently(store, reference, options, progress, Timing::default(), None)
}

/// [`pull`] with another patience and other settings of registries.
pub(super) fn pull_patiently(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &dyn Progress,
    timing: Timing,
    config: Option<Config>,
) -> Result<Image> {
    let wish = Wish::new(options)?;
    if options.policy != PullPolicy::Always {
        match here(store, reference, &wish)? {
            Some(image) => return Ok(image),
            None if options.policy == PullPolicy::Never => {
                return Err(Error::NotHere { reference: reference.to_string() });
            }
            None => {}
        }
    }
    store.sweep_leftovers()?;
    let config = config.map_or_else(Config::read, Ok)?;
    let resource = format!("Image {reference}");
    progress.working(&resource, "Pulling");
    let clients = Client::for_reference(reference, &config, timing)?;
    let pulled = async || pull_from_first(store, clients, reference, &wish, &resource, progress).await;
    let image = apart("registry", pulled)?;
    progress.done(&resource, "Pulled");
    Ok(image)
}

/// What to look for.
struct Wish {
    /// One image for each; all that there are when empty.
    platforms: Vec<Platform>,
    /// Whether the user named them.
    must_suit: bool,
    /// Whether compressed layers are wanted, too.
    blobs: bool,
}

impl Wish {
    fn new(options: &PullOptions) -> Result<Self> {
        let (platforms, must_suit) = match &options.platforms {
            Platforms::Host => (vec![Platform::host()], false),
            Platforms::Of(names) => (names.iter().map(|name| Platform::parse(name)).collect::<Result<Vec<_>>>()?, true),
            Platforms::All => (Vec::new(), false),
        };
        Ok(Self { platforms, must_suit, blobs: options.blobs })
    }

    /// The manifests of an index that are wanted, each once.
    fn choose<'i>(&self, index: &'i ImageIndex) -> Result<Vec<&'i Descriptor>> {
        if self.platforms.is_empty() {
            return manifest::all(index);
        }
        let mut chosen: Vec<&Descriptor> = Vec::new();
        for platform in &self.platforms {
            let found = manifest::choose(index, platform)?;
            if chosen.iter().all(|known| known.digest() != found.digest()) {
                chosen.push(found);
            }
        }
        Ok(chosen)
    }
}

/// The image of that name that is here, when nothing of what is wanted is missing.
fn here(store: &Store, reference: &Reference, wish: &Wish) -> Result<Option<Image>> {
    let Some(meant) = store.images().resolve(reference)?.filter(|image| is_whole(store, image)) else {
        return Ok(None);
    };
    if !wish.must_suit {
        // What one has of all is only known to the registry; so is an image for this host of an index of which only
        // another one was pulled.
        let is_foreign = index::is_foreign(store, reference, &meant);
        return Ok(Some(meant).filter(|_| !wish.platforms.is_empty() && !is_foreign));
    }
    let mut first = None;
    for platform in &wish.platforms {
        let found = index::resolve(store, reference, Some(&platform.to_string()))?;
        match found.filter(|image| is_whole(store, image)) {
            Some(image) => first = first.or(Some(image)),
            None => return Ok(None),
        }
    }
    Ok(first)
}

/// Whether all layers are here: somebody may have removed one by hand, or a repair.
fn is_whole(store: &Store, image: &Image) -> bool {
    image.layers.iter().all(|layer| store.layers().exists(&layer.diff_id))
}

fn suits(wanted: &Platform, config: &ImageConfig) -> bool {
    config.architecture.is_empty() || wanted.distance(&Platform::of(config)).is_some()
}

/// Asks one endpoint after the other until one has the image; the last one's error counts.
async fn pull_from_first(
    store: &Store,
    clients: Vec<Client>,
    reference: &Reference,
    wish: &Wish,
    resource: &str,
    progress: &dyn Progress,
) -> Result<Image> {
    let last = clients.len().saturating_sub(1);
    for (number, client) in clients.iter().enumerate() {
        match pull_from(store, client, reference, wish, resource, progress).await {
            Err(error) if number < last && error.is_of_the_endpoint() => {}
            other => return other,
        }
    }
    Err(Error::UnknownImage { reference: reference.to_string() })
}

async fn pull_from(
    store: &Store,
    client: &Client,
    reference: &Reference,
    wish: &Wish,
    resource: &str,
    progress: &dyn Progress,
) -> Result<Image> {
    let top = client.manifest(reference, reference.manifest_name()).await?;
    let mut images = Vec::new();
    let document = match manifest::parse(&top.content)? {
        manifest::Document::Manifest(found) => {
            images.push(pull_image(store, client, &found, &top.content, wish, resource, progress).await?);
            None
        }
        manifest::Document::Index(index) => {
            for descriptor in wish.choose(&index)? {
                let fetched = client.manifest(reference, manifest::digest_of(descriptor)?.as_str()).await?;
                let manifest::Document::Manifest(found) = manifest::parse(&fetched.content)? else {
                    return Err(Error::DamagedArchive { reason: "an index refers to an index" });
                };
                images.push(pull_image(store, client, &found, &fetched.content, wish, resource, progress).await?);
            }
            Some(store.blobs().put(&top.content)?)
        }
    };
    let meant = index::name(store, reference, document.as_ref(), &images)?;
    if reference.digest.is_none() {
        // What the tag meant today.
        let pinned = Reference { tag: None, digest: Some(top.digest), ..reference.clone() };
        index::name(store, &pinned, document.as_ref(), &images)?;
    }
    // Whoever asked for a platform means that one.
    Ok(if wish.must_suit { images.swap_remove(0) } else { meant })
}

/// Fetches one image and records it.
async fn pull_image(
    store: &Store,
    client: &Client,
    found: &ImageManifest,
    content: &[u8],
    wish: &Wish,
    resource: &str,
    progress: &dyn Progress,
) -> Result<Image> {
    let config_digest = manifest::digest_of(found.config())?;
    store.lease()?.protect(&config_digest)?;
    let config_content = match store.blobs().read(&config_digest, found.config().size()) {
        Ok(content) if Digest::of(&content) == config_digest => content,
        _ => client.blob(&config_digest, found.config().size()).await?,
    };
    let config: ImageConfig =
        serde_json::from_slice(&config_content).map_err(|source| Error::Document { what: "config".into(), source })?;
    check_platform(&config, wish, resource, progress)?;
    let wanted = wanted_layers(found, &config, wish.blobs)?;
    let arrived = fetch_layers(client, store, &wanted, resource, progress).await?;
    let layers = publish(store, &wanted, arrived)?;
    let image =
        Image { id: store.blobs().put(&config_content)?, manifest: Some(store.blobs().put(content)?), config, layers };
    store.images().add(&image)?;
    Ok(image)
}

/// A manifest without an index says nothing of its platform; the config does. Unless the user named a platform
/// another one is only worth a warning, as in Docker: it may run under an emulator.
fn check_platform(config: &ImageConfig, wish: &Wish, resource: &str, progress: &dyn Progress) -> Result<()> {
    if wish.platforms.is_empty() || wish.platforms.iter().any(|platform| suits(platform, config)) {
        return Ok(());
    }
    let (wanted, offered) = (wish.platforms[0].to_string(), Platform::of(config).to_string());
    if wish.must_suit {
        return Err(Error::NoPlatform { wanted, offered: vec![offered] });
    }
    progress.warning(resource, &format!("the image is for {offered}, this host is {wanted}"));
    Ok(())
}

fn wanted_layers(found: &ImageManifest, config: &ImageConfig, needs_blob: bool) -> Result<Vec<Wanted>> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != found.layers().len() {
        return Err(Error::DamagedArchive { reason: "its config and its manifest disagree on the number of layers" });
    }
    let wanted = found.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
        let blob = BlobRecord {
            digest: manifest::digest_of(layer)?,
            size_bytes: layer.size(),
            media_type: layer.media_type().to_string(),
        };
        Ok(Wanted { diff_id: diff_id.clone(), blob, needs_blob })
    });
    wanted.collect()
}

/// Fetches each layer once, however often the image has it.
async fn fetch_layers(
    client: &Client,
    store: &Store,
    wanted: &[Wanted],
    resource: &str,
    progress: &dyn Progress,
) -> Result<Vec<Arrived>> {
    let mut seen = HashSet::new();
    let once = wanted.iter().filter(|layer| seen.insert(&layer.diff_id));
    let fetches: Vec<_> = once.map(|layer| download::layer(client, store, layer, resource, progress)).collect();
    stream::iter(fetches).buffer_unordered(LAYERS_AT_ONCE).try_collect().await
}

/// One sync for everything, then layers and blobs get their final names.
pub(super) fn publish(
    store: &Store,
    wanted: &[Wanted],
    arrived: Vec<Arrived>,
) -> Result<Vec<crate::model::image::LayerRecord>> {
    let is_new = arrived.iter().any(|layer| layer.spool.is_some());
    let diff_ids = arrived.iter().map(|layer| &layer.record.diff_id);
    if is_new {
        store.sync()?;
        store.layers().confirm(diff_ids)?;
    } else {
        store.layers().make_durable(diff_ids)?;
    }
    let mut records = std::collections::HashMap::new();
    for Arrived { mut record, spool } in arrived {
        if let Some(spool) = spool
            && spool.publish().is_err()
        {
            // Somebody pruned downloads meanwhile; the image does not need the blob to run.
            record.blob = None;
        }
        if record.blob.is_none() {
            record.blob = super::layer::kept_blob(store, &record)?;
        }
        records.insert(record.diff_id.clone(), record);
    }
    if is_new {
        store.blobs().sync_folder()?;
    }
    Ok(wanted.iter().filter_map(|layer| records.get(&layer.diff_id).cloned()).collect())
}
