//! A compose project as an OCI artifact: the words that Docker Compose and wharf share.
//!
//! Source: docker/compose `internal/oci/push.go`, `pkg/remote/oci.go`.

use std::collections::BTreeMap;

/// `artifactType` of the manifest (OCI 1.1).
pub const PROJECT_TYPE: &str = "application/vnd.docker.compose.project";
/// Media type of the config where the registry knows no artifact types (OCI 1.0).
pub const EMPTY_CONFIG_TYPE: &str = "application/vnd.docker.compose.config.empty.v1+json";
/// Media type of a compose file.
pub const FILE_TYPE: &str = "application/vnd.docker.compose.file+yaml";
/// Media type of an env file.
pub const ENV_FILE_TYPE: &str = "application/vnd.docker.compose.envfile";

/// Annotation with the version of the program that made it.
pub const VERSION: &str = "com.docker.compose.version";
/// Annotation of a compose file with its name.
pub const FILE: &str = "com.docker.compose.file";
/// Annotation of a compose file that others extend and that is not itself part of the project.
pub const EXTENDS: &str = "com.docker.compose.extends";
/// Annotation of an env file with its name.
pub const ENV_FILE: &str = "com.docker.compose.envfile";

/// One layer of such an artifact: a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// [`FILE_TYPE`] or [`ENV_FILE_TYPE`]; others are ignored by who reads it.
    pub media_type: String,
    /// What is said about it.
    pub annotations: BTreeMap<String, String>,
    /// The file.
    pub content: Vec<u8>,
}

impl Part {
    /// A compose file of that name; `extended` for one that services of others extend.
    pub fn file(name: &str, extended: bool, content: Vec<u8>) -> Self {
        let mut part = Self::new(FILE_TYPE, FILE, name, content);
        if extended {
            part.annotations.insert(EXTENDS.into(), "true".into());
        }
        part
    }

    /// An env file of that name.
    pub fn env_file(name: &str, content: Vec<u8>) -> Self {
        Self::new(ENV_FILE_TYPE, ENV_FILE, name, content)
    }

    fn new(media_type: &str, name_key: &str, name: &str, content: Vec<u8>) -> Self {
        let annotations = [(name_key, name), (VERSION, env!("CARGO_PKG_VERSION"))];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { media_type: media_type.to_owned(), annotations: annotations.into(), content }
    }
}
