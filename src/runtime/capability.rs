//! Capability sets by name.
//!
//! Source: capabilities(7), `linux/capability.h`; the default set is Docker's.

use super::Error;
use crate::model::container::Security;

/// A set of capabilities: bit n is capability number n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(pub u64);

/// Docker's fourteen: what a container's root has by default.
pub const DEFAULT: Set = Set(0xa804_25fb);

/// What `security` leaves of the capabilities that the kernel knows: the default set, `cap_add`, `cap_drop`.
///
/// Names are accepted with and without `CAP_`, in either case. Errors: a name that no kernel has.
pub fn of(security: &Security) -> Result<Set, Error> {
    let _ = security;
    todo!()
}
