//! What happened on this host, as `events` shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::container::ContainerSpec;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub time: jiff::Timestamp,
    /// To what kind of thing.
    pub kind: Kind,
    /// What, in Docker's words: `start`, `die`, `health_status: healthy`, `exec_start: sh -c ls`.
    pub action: String,
    /// To which: an id, an image's name, a volume's name.
    pub id: String,
    /// What else there is to know: name, image, labels, exit code.
    pub attributes: BTreeMap<String, String>,
}

/// A kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

impl Entry {
    /// An entry of this moment.
    pub fn new(kind: Kind, action: impl Into<String>, id: impl Into<String>) -> Self {
        let (action, id) = (action.into(), id.into());
        Self { time: jiff::Timestamp::now(), kind, action, id, attributes: BTreeMap::new() }
    }

    /// The same for a container, with its labels, image and name.
    pub fn of_container(spec: &ContainerSpec, action: impl Into<String>) -> Self {
        let mut entry = Self::new(Kind::Container, action, spec.id.as_str());
        entry.attributes.clone_from(&spec.labels);
        entry.with("image", &spec.image).with("name", &spec.name)
    }

    /// With one attribute more.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(key.to_owned(), value.into());
        self
    }
}
