//! Who a process runs as: `user[:group]` looked up in the root's own /etc/passwd and /etc/group.
//!
//! The files belong to whoever made the image: they are read inside the root, only when regular, never blocking,
//! and at most 1 MiB of each. Numbers are strict: `1000foo` is a name.

use std::os::fd::BorrowedFd;

use super::Error;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Further groups, sorted, without duplicates.
    pub groups: Vec<u32>,
    /// Home folder from the root's passwd, `/` when it has none for this user.
    pub home: String,
}

/// Resolves `user` (`name|uid[:group|gid]`; empty is root) and `additional_groups` inside `root`.
///
/// Without a group, the groups that list the user in /etc/group are added, as Docker does. Errors: a name that
/// the files do not have.
pub fn resolve(root: BorrowedFd<'_>, user: &str, additional_groups: &[String]) -> Result<User, Error> {
    let _ = (root, user, additional_groups);
    todo!()
}
