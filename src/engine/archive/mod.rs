//! Files of a container, or of the host, as a tar stream: `cp`, `export`.
//!
//! A container may rename and replace what is copied while it is copied. So nothing is opened by a path of more than
//! one name: reading goes down by handles that follow no link, writing resolves inside the root (`openat2`).
//!
//! Source: docker/cli `cli/command/container/cp.go`; CVE-2018-15664, CVE-2019-14271.

mod extract;
mod write;

pub use extract::{Destination, extract};
pub use write::{Archive, open_child};
