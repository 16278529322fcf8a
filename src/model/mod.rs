//! Plain data that crosses layers: what a project says, what a container is, what an image holds.
//!
//! No behaviour beyond reading and writing these values; nothing here touches the system.

pub mod artifact;
pub mod container;
pub mod event;
pub mod git;
pub mod image;
pub mod journal;
pub mod network;
pub mod project;
pub mod reference;
pub mod volume;
