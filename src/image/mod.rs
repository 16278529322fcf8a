//! Images from elsewhere: registries, `docker save` and OCI archives, plain tars; and their removal.
//!
//! ```text
//! registry --HTTPS--> spool file --> inflate --> unpack (openat2) --> layer folder
//!                 \-> sha256 = blob digest   \-> sha256 = diff id        | one syncfs, then
//! archive --------------------------------------^                        v image record, tag
//! ```
//!
//! Nothing is visible before it is verified, and no image before all its layers survive a power cut.
//! Nothing here runs anything, knows a container, or pushes.

mod archive;
mod archive_files;
#[cfg(test)]
mod archive_tests;
mod artifact;
mod cache;
mod cache_export;
mod changes;
mod check;
#[cfg(test)]
mod check_tests;
mod copy;
mod digest;
mod download;
mod error;
#[cfg(test)]
mod hostile_tests;
mod http;
mod index;
mod inflate;
mod layer;
pub mod login;
mod manifest;
mod online;
mod platform;
mod pull;
#[cfg(test)]
mod pull_tests;
mod push;
mod registry;
mod remove;
mod same;
mod save;
mod tags;
pub mod tar_reader;
#[cfg(test)]
mod test_registries;
mod unpack;
#[cfg(test)]
mod unpack_tests;

pub use archive::{ImportOptions, Loaded, import, load, load_layout, publish};
pub use artifact::{ArtifactOptions, OciVersion, fetch_artifact, publish_application, publish_artifact};
pub use cache::{ALIAS, CachePlace, CacheSource};
pub use cache_export::{inline_cache, write_cache};
pub use changes::apply_changes;
pub use check::{Checked, Damage, Part, Repair, check, repair};
pub use copy::{Copied, copy_image};
pub use digest::resolve_digests;
pub use error::{Error, Result};
pub use http::{Downloaded, download};
pub use index::{find, is_foreign, name, platforms_of, resolve, tag};
pub use layer::layer_of_folder;
pub use manifest::refers_to;
pub use platform::Platform;
pub use pull::{Platforms, PullOptions, PullPolicy, pull};
pub use push::{Pushed, push};
pub use remove::{Removed, remove};
pub use save::{Saved, save};
pub use tags::{manifest_of, tags};
pub use unpack::{Limits, unpack};
