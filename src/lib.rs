//! wharf: a compose-first, daemonless container orchestrator with its own runtime.
//!
//! The modules stand in layers. A module names only what stands below it; modules of one layer do not
//! know each other. `tests/layers.rs` reads this list and fails on an upward or sideways `use`.

// layer 10: words, tables, progress, exit codes: the only place that prints
pub mod cli;
// layer 9: further front doors: containers of OCI bundles; keeps running containers as the files on disk say
pub mod oci;
pub mod watch;
// layer 8: one file per verb on containers; runs a plan's steps
pub mod engine;
// layer 7: Dockerfile -> image
pub mod build;
// layer 6: the process that stays with a container
pub mod supervise;
// layer 5: mechanisms that do not know each other
pub mod image;
pub mod log;
pub mod net;
pub mod runtime;
// layer 4: everything on disk, all locks, garbage collection
pub mod store;
// layer 3: pure: Project + Observed -> Plan, and a scheduler over a trait
pub mod graph;
// layer 2: pure: text -> Project
pub mod compose;
// layer 1: plain data that crosses layers | the only unsafe code
pub mod model;
#[allow(unsafe_code, reason = "here and nowhere else: one wrapper a system call")]
pub mod sys;
// layer 0: ids, units, file helpers, errors
pub mod base;
