//! The output of containers on our own stdout and stderr: prefixes and colours, the merging of several logs, and
//! the loop that follows them.

pub mod follow;
pub mod newcomers;
pub mod printer;
