//! Who owns files in a container, seen from the host.
//!
//! On disk files have the ids that they have inside. In the tree that a running container with a user namespace sees
//! they show as the host's ids of its users, and files are made there only as one of them: the host's root is not.

use crate::model::container::{ContainerSpec, IdMap};
use crate::sys::security::FileUser;

/// The ranges that translate owners. Without any nothing is translated.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    uids: Vec<IdMap>,
    gids: Vec<IdMap>,
}

impl Owners {
    /// Those of the files that the processes of a container see.
    pub fn inside(spec: &ContainerSpec) -> Self {
        Self { uids: spec.uid_maps.clone(), gids: spec.gid_maps.clone() }
    }

    /// The host's ids of an owner inside; of one that the container does not have: of its root.
    pub fn to_host(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let map = |maps: &[IdMap], id| IdMap::to_host(maps, id).or_else(|| IdMap::to_host(maps, 0)).unwrap_or(id);
        (map(&self.uids, uid), map(&self.gids, gid))
    }

    /// The owner inside; one that is not of the container stays.
    pub fn to_inside(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let map = |maps: &[IdMap], id| IdMap::from_host(maps, id).unwrap_or(id);
        (map(&self.uids, uid), map(&self.gids, gid))
    }

    /// Lets this thread make files as root of the container, until the answer is dropped.
    pub fn act(&self) -> std::io::Result<Option<FileUser>> {
        if self.uids.is_empty() {
            return Ok(None);
        }
        let (uid, gid) = self.to_host((0, 0));
        Ok(Some(FileUser::new(uid, gid)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let map = |outside| vec![IdMap { inside: 0, outside, count: 1000 }];
        let owners = Owners { uids: map(70_000), gids: map(90_000) };
        for (inside, outside) in [((0, 0), (70_000, 90_000)), ((999, 5), (70_999, 90_005))] {
            assert_eq!(owners.to_host(inside), outside);
            assert_eq!(owners.to_inside(outside), inside);
        }
        assert_eq!(owners.to_host((1000, 1)), (70_000, 90_001));
        assert_eq!(owners.to_inside((5, 91_000)), (5, 91_000));
        assert_eq!(Owners::default().to_host((5, 6)), (5, 6));
    }
}
