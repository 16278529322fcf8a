//! What every layer may use: identifiers, units, paths, file helpers and the vocabulary of errors.
//!
//! Nothing here knows what a container is.

pub mod copy;
pub mod error;
pub mod folder_watch;
pub mod fs;
pub mod id;
pub mod paths;
pub mod threads;
pub mod units;
