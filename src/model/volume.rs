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

impl VolumeRecord {
    /// A driver option; empty when it is not set.
    pub fn option(&self, name: &str) -> &str {
        self.options.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The options of its mount (`o`), each by itself.
    pub fn mount_options(&self) -> Vec<&str> {
        self.option("o").split(',').filter(|option| !option.is_empty()).collect()
    }

    /// Whether its content lives in memory, for as long as a container uses it.
    pub fn is_memory(&self) -> bool {
        self.option("type") == "tmpfs"
    }
}
