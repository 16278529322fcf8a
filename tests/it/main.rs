//! The command line as users see it: whole stdout, stderr and exit code of the real program.
//!
//! Each test has an environment of its own (folders, no variables of the caller). Nothing is started here, so these
//! tests need root only where the store does; containers that run are for `e2e`.

mod config;
mod environment;
mod help;
mod tables;
mod usage;
