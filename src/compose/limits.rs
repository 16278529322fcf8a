//! What one load may cost at most, so that hostile files end in an error within a second and 200 MB.
//!
//! The figures leave two orders of magnitude above the largest real projects.

use std::time::Duration;

/// Bytes of one YAML file.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// How long a pipe that a file names may take to give its content; one on the command line may take its time.
pub const PIPE_PATIENCE: Duration = Duration::from_millis(800);

/// Bytes of one env or label file, and of its values after substitution.
pub const ENV_FILE_BYTES_MAX: u64 = 4 << 20;

/// Variables in one env or label file.
pub const VARIABLES_MAX: usize = 10_000;

/// Nodes of all files together, each alias, merge key and `extends` counted as often as it is expanded.
pub const NODES_MAX: usize = 100_000;

/// Nodes that are walked over because one more document is laid over them, all documents together.
pub const NODES_WALKED_MAX: usize = 30 * NODES_MAX;

/// Bytes of text in those nodes.
pub const TEXT_BYTES_MAX: usize = 32 << 20;

/// Levels of nesting in YAML.
pub const DEPTH_MAX: usize = 64;

/// Compose files that one load may read, over `include` and `extends`.
pub const FILES_MAX: usize = 500;

/// Levels of `include`, and links of a chain of `extends`.
pub const CHAIN_MAX: usize = 32;

/// Levels of `${A:-${B:-…}}`.
pub const SUBSTITUTION_DEPTH_MAX: usize = 64;

/// Dollar signs in one value.
pub const SUBSTITUTIONS_MAX: usize = 100_000;

/// Bytes that one substituted value may grow to.
pub const SUBSTITUTED_BYTES_MAX: usize = 1 << 20;

/// Mistakes that are collected before the loader gives up.
pub const MISTAKES_MAX: usize = 50;
