//! Volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A volume as it is kept in the store. Its content lies in `volumes/<name>/_data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its unique name.
    pub name: String,
    /// When it was made.
    pub created: jiff::Timestamp,
    /// Made for one container without a name.
    pub anonymous: bool,
    /// Driver options: `type`, `o`, `device` of a mount made when it is used.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}
