//! User namespaces: root inside is nobody on the host.
//!
//! ```text
//! supervisor                      helper               the container's process
//!   clone(NEWUSER) ────────────►  waits
//!   writes its uid_map, gid_map,
//!   opens its namespace ───────►  ends
//!   maps owners of layers and volumes through it (idmapped mounts)
//!   clone ─────────────────────►  setns(user), clone
//!                                 (NEWPID …, PARENT) ─►  becomes root inside, then as every first process
//! ```
//! The namespaces of a container belong to its user namespace: who joins one of them joins that too, and it outlives
//! the process as long as they do (a network namespace that waits for the next start).
//!
//! What is on disk keeps the ids that it would have without: only the mounts show them shifted. A bind mount of the
//! host's files is not shifted: root inside may there what anybody may.
//!
//! Source: user_namespaces(7), MOUNT_ATTR_IDMAP in mount_setattr(2); moby `daemon/oci_linux.go` for what is joined.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::user::User;
use super::{Error, running};
use crate::model::container::IdMap;
use crate::sys::process;

/// A user namespace and its ids.
#[derive(Debug)]
pub(super) struct Ids {
    namespace: OwnedFd,
    uids: Vec<IdMap>,
    gids: Vec<IdMap>,
}

impl Ids {
    /// Makes a user namespace with these ranges.
    pub fn make(uids: &[IdMap], gids: &[IdMap]) -> Result<Self, Error> {
        let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| Error::Step { step: "make a pipe".into(), source: errno.into() })?;
        let helper = process::clone_process(libc::CLONE_NEWUSER, None, || {
            // Without this it would never see the end of the pipe.
            process::close_inherited(go.as_fd());
            let mut byte = [0u8; 1];
            while rustix::io::read(&wait, &mut byte) == Err(Errno::INTR) {}
            0
        })
        .map_err(|errno| Error::UserNamespace { source: errno.into() })?;
        let write = |name: &str, maps: &[IdMap]| {
            let path = format!("/proc/{}/{name}", helper.pid);
            let failed = |source| Error::Step { step: format!("write {path}"), source };
            std::fs::write(&path, text(maps)).map_err(failed)
        };
        let namespace = write("uid_map", uids).and_then(|()| write("gid_map", gids)).and_then(|()| {
            let path = format!("/proc/{}/ns/user", helper.pid);
            let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            opened.map_err(|errno| Error::Step { step: format!("open {path}"), source: errno.into() })
        });
        drop(go);
        running::reap(helper.pidfd.as_fd())?;
        Ok(Self { namespace: namespace?, uids: uids.to_vec(), gids: gids.to_vec() })
    }

    /// The user namespace that owns `namespace`, which a container with these ranges joins.
    ///
    /// Errors: it is the host's.
    pub fn of_owner(namespace: BorrowedFd<'_>, uids: &[IdMap], gids: &[IdMap]) -> Result<Self, Error> {
        let refused =
            |errno: Errno| Error::Step { step: "find the user namespace to join".into(), source: errno.into() };
        let owner = process::owner_of_namespace(namespace).map_err(refused)?;
        let own = rustix::fs::open("/proc/self/ns/user", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        if same(owner.as_fd(), own.map_err(refused)?.as_fd()).map_err(refused)? {
            return Err(Error::UserNamespacesDiffer);
        }
        Ok(Self { namespace: owner, uids: uids.to_vec(), gids: gids.to_vec() })
    }

    /// Refuses a namespace that belongs to other users.
    pub fn check_owner(&self, namespace: BorrowedFd<'_>) -> Result<(), Error> {
        let is_ours = process::owner_of_namespace(namespace).and_then(|owner| same(owner.as_fd(), self.as_fd()));
        if is_ours == Ok(true) { Ok(()) } else { Err(Error::UserNamespacesDiffer) }
    }

    /// The host's ids of a user and a group inside.
    pub fn on_host(&self, uid: u32, gid: u32) -> Result<(u32, u32), Error> {
        on_host(&self.uids, &self.gids, uid, gid)
    }

    /// Refuses a user whose ids the ranges do not have; returns the user's id on the host.
    pub fn check_in(uids: &[IdMap], gids: &[IdMap], user: &User) -> Result<u32, Error> {
        user.groups.iter().try_for_each(|gid| on_host(uids, gids, user.uid, *gid).map(drop))?;
        on_host(uids, gids, user.uid, user.gid).map(|(uid, _)| uid)
    }

    /// [`Ids::check_in`] of these ranges.
    pub fn check(&self, user: &User) -> Result<u32, Error> {
        Self::check_in(&self.uids, &self.gids, user)
    }

    /// The highest group inside.
    pub fn last_group(&self) -> u32 {
        self.gids.iter().map(|map| map.inside + (map.count - 1)).max().unwrap_or(0)
    }
}

impl AsFd for Ids {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

fn on_host(uids: &[IdMap], gids: &[IdMap], uid: u32, gid: u32) -> Result<(u32, u32), Error> {
    let missing = |kind, id| Error::UnmappedId { kind, id };
    let uid_outside = IdMap::to_host(uids, uid).ok_or_else(|| missing("user", uid))?;
    Ok((uid_outside, IdMap::to_host(gids, gid).ok_or_else(|| missing("group", gid))?))
}

/// Whether two descriptors are of one namespace.
fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, Errno> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// What /proc/PID/uid_map takes.
fn text(maps: &[IdMap]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.inside, map.outside, map.count)).collect()
}
