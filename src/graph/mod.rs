//! What has to be done, in which order, and why: pure functions over a project and one reading of the host.
//!
//! ```text
//! Project ──► dependency::Graph ─┐
//! Observed ──────────────────────┼──► converge::up / teardown::down … ──► Plan ──► schedule::run
//! wish (flags) ──────────────────┘                                        │
//!                                                                         └──► its text is what --dry-run prints
//! ```
//!
//! Invariant: nothing here reads a file, a clock or the kernel. Whatever a decision needs is in [`Observed`].

pub mod converge;
pub mod dependency;
mod error;
pub mod hash;
pub mod observed;
pub mod plan;
pub mod render;
pub mod schedule;
pub mod teardown;

pub use error::Error;
pub use observed::Observed;
pub use plan::{Action, Plan, Step, StepId};

#[cfg(test)]
mod generated_tests;
#[cfg(test)]
mod tests;
