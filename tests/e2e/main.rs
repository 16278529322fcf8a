//! Whole projects and containers, through the real program, on this machine.
//!
//! Each test has a [`world::World`] of its own: folders, networks and control groups that no other test sees,
//! and that must be gone without a trace when it ends. They need root, `busybox` (static) and, for
//! `flask_redis`, the package index of Python.

mod apparmor;
mod attached;
mod attributes;
mod build_image;
mod build_services;
mod change;
mod converge;
mod docker;
mod faults;
mod files;
mod flask_redis;
mod hooks;
mod limits;
mod look;
mod mistakes;
mod oci;
mod platforms;
mod probes;
mod project;
mod propagation;
mod provided;
mod published;
mod races;
mod refusals;
mod registry;
mod rolling;
mod rolling_client;
mod run;
mod stress;
mod systemd;
mod terminal;
mod trouble;
mod tutorials;
mod userns;
#[cfg(target_arch = "x86_64")]
mod vm;
mod wait;
mod watch;
mod world;
