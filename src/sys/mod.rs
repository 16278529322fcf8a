//! The only unsafe code: one wrapper a system call.

pub mod daemon;
pub mod socket;
