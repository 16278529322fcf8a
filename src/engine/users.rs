//! Whose users a container's are: the host's, another container's, or ids of its own.
//!
//! Ids of its own come from the ranges that /etc/subuid and /etc/subgid give to `wharf` (or `containers`), else from
//! [`DEFAULT`]. They are written into the container's spec and are free again when that is gone: nothing else
//! remembers them. The place in the range is drawn by the container's id, so that containers of several stores rarely
//! meet.
//!
//! Source: subuid(5), podman-run(1) `--userns`, moby `daemon/daemon_unix.go` for what does not go together.

use super::{Engine, Error, Result};
use crate::base::id::ContainerId;
use crate::model::container::{ContainerSpec, IDS_DEFAULT, IdMap, NamespaceMode, NetworkMode, UserNamespaceMode};
use crate::store::Lock;

/// Where nobody says otherwise: the upper part of what systemd sets aside for containers, above all that useradd
/// gives to people. Source: <https://systemd.io/UIDS-GIDS/>.
const DEFAULT: Range = Range { first: 0x6000_0000, count: 0x1000_0000 };
/// Fewer have not even the system's own users.
const IDS_MIN: u32 = 1024;
/// Who a range is looked for, in /etc/subuid and /etc/subgid.
const OWNERS: [&str; 2] = ["wharf", "containers"];
/// More than any subuid file has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Ids of the host, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

/// Reads `--userns` and `userns_mode`; `find` knows containers by `container:NAME` and the like.
pub fn parse(text: &str, find: impl FnOnce(&str) -> Result<Option<ContainerId>>) -> Result<UserNamespaceMode> {
    let expected = "host, auto, auto:size=NUMBER or container:NAME";
    let wrong = || Error::Value { what: "userns_mode".into(), value: text.to_owned(), expected: expected.to_owned() };
    match text {
        "" | "host" => return Ok(UserNamespaceMode::Host),
        "auto" | "private" => return Ok(UserNamespaceMode::Auto { size: None }),
        _ => {}
    }
    if let Some(options) = text.strip_prefix("auto:") {
        let size = options.strip_prefix("size=").and_then(|size| size.parse::<u32>().ok()).ok_or_else(wrong)?;
        if size < IDS_MIN {
            let reason = format!("a user namespace needs at least {IDS_MIN} ids, `{text}` has fewer");
            return Err(refused(text, &reason));
        }
        return Ok(UserNamespaceMode::Auto { size: Some(size) });
    }
    find(text)?.map(UserNamespaceMode::Container).ok_or_else(wrong)
}

fn refused(value: &str, reason: &str) -> Error {
    Error::Refused { what: "userns_mode".into(), value: value.to_owned(), reason: reason.to_owned() }
}

impl Engine {
    /// Gives `spec` its ids. Whoever gets the lock holds it until the container's record is written.
    pub(super) fn settle_users(&self, spec: &mut ContainerSpec) -> Result<Option<Lock>> {
        let UserNamespaceMode::Auto { size } = spec.security.user else {
            return match spec.security.user.clone() {
                UserNamespaceMode::Container(other) => self.share_users(spec, &[other]).map(|()| None),
                _ => Ok(None),
            };
        };
        let shared = shared_with(spec);
        if !shared.is_empty() {
            // A namespace belongs to one user namespace: who joins it joins that.
            return self.share_users(spec, &shared).map(|()| None);
        }
        check(spec)?;
        let size = size.unwrap_or(IDS_DEFAULT);
        let (uids, gids) = ranges();
        let lock = self.store.lock_ids()?;
        let taken: Vec<ContainerSpec> = self
            .store
            .containers()
            .list()?
            .into_iter()
            .map(|(spec, _)| spec)
            .filter(|spec| !spec.uid_maps.is_empty())
            .collect();
        let wish = u32::from_str_radix(&spec.id.as_str()[..8], 16).unwrap_or(0);
        let offset = choose(uids.count.min(gids.count), size, wish, |offset| {
            let meets = |maps: &[IdMap], range: Range| maps.iter().any(|map| overlap(*map, range.first + offset, size));
            taken.iter().any(|spec| meets(&spec.uid_maps, uids) || meets(&spec.gid_maps, gids))
        });
        let offset = offset.ok_or_else(|| {
            let reason = format!("no {size} ids are free on the host for a user namespace: give more to `wharf` in /etc/subuid and /etc/subgid");
            refused("", &reason)
        })?;
        let map = |range: Range| vec![IdMap { inside: 0, outside: range.first + offset, count: size }];
        (spec.uid_maps, spec.gid_maps) = (map(uids), map(gids));
        Ok(Some(lock))
    }

    /// Gives `spec` the ids of the containers that it shares namespaces with.
    fn share_users(&self, spec: &mut ContainerSpec, others: &[ContainerId]) -> Result<()> {
        let mut shared: Option<ContainerSpec> = None;
        for id in others {
            let other = self.store.containers().spec(id)?;
            match &shared {
                Some(first) if (&first.uid_maps, &first.gid_maps) != (&other.uid_maps, &other.gid_maps) => {
                    let reason = format!(
                        "the containers {} and {} have different user namespaces: both cannot be joined",
                        first.name, other.name
                    );
                    return Err(refused("", &reason));
                }
                _ => shared = Some(other),
            }
        }
        let Some(other) = shared else { return Ok(()) };
        if other.uid_maps.is_empty() {
            if matches!(spec.security.user, UserNamespaceMode::Auto { .. }) {
                let reason = format!(
                    "the container {} has the host's users, and who shares its namespaces has them too: leave userns out, or give it to both",
                    other.name
                );
                return Err(refused("", &reason));
            }
            spec.security.user = UserNamespaceMode::Host;
            return Ok(());
        }
        check(spec)?;
        (spec.uid_maps, spec.gid_maps) = (other.uid_maps, other.gid_maps);
        spec.security.user = UserNamespaceMode::Container(other.id);
        Ok(())
    }
}

/// The containers whose namespaces it shares.
fn shared_with(spec: &ContainerSpec) -> Vec<ContainerId> {
    let network = match &spec.network {
        NetworkMode::Container { id } => Some(id.clone()),
        _ => None,
    };
    let of = |mode: &NamespaceMode| match mode {
        NamespaceMode::Container(id) => Some(id.clone()),
        _ => None,
    };
    let security = &spec.security;
    [network, of(&security.pid), of(&security.ipc), of(&security.uts)].into_iter().flatten().collect()
}

/// What does not go with a user namespace, in Docker's words.
fn check(spec: &ContainerSpec) -> Result<()> {
    if spec.security.privileged {
        return Err(refused(
            "",
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        ));
    }
    if spec.network == NetworkMode::Host {
        return Err(refused("", "cannot share the host's network namespace when user namespaces are enabled"));
    }
    if spec.security.pid == NamespaceMode::Host {
        return Err(refused("", "cannot share the host PID namespace when user namespaces are enabled"));
    }
    Ok(())
}

/// The host's users and groups that containers may have.
fn ranges() -> (Range, Range) {
    let read = |path: &str| {
        let content = crate::base::fs::read_limited(path.as_ref(), FILE_BYTES_MAX).unwrap_or_default();
        range_of(&String::from_utf8_lossy(&content))
    };
    match (read("/etc/subuid"), read("/etc/subgid")) {
        (Some(uids), Some(gids)) => (uids, gids),
        _ => (DEFAULT, DEFAULT),
    }
}

/// The first range of [`OWNERS`] in a subuid file: `name:first:count`.
fn range_of(file: &str) -> Option<Range> {
    let entry = |line: &str, owner: &str| {
        let mut fields = line.trim().split(':');
        let is_owner = fields.next() == Some(owner);
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        // The last id is not one: it says "none" to the kernel.
        let count = count.min(u32::MAX.checked_sub(first)?);
        (is_owner && first > 0 && count >= IDS_MIN).then_some(Range { first, count })
    };
    OWNERS.iter().find_map(|owner| file.lines().find_map(|line| entry(line, owner)))
}

fn overlap(map: IdMap, first: u32, count: u32) -> bool {
    let end = |first: u32, count: u32| u64::from(first) + u64::from(count);
    u64::from(map.outside) < end(first, count) && u64::from(first) < end(map.outside, map.count)
}

/// The offset of a free place for `size` ids in a range of `count`, from the `wish`th place on.
fn choose(count: u32, size: u32, wish: u32, is_taken: impl Fn(u32) -> bool) -> Option<u32> {
    let places = count / size;
    let begin = wish.checked_rem(places)?;
    (begin..places).chain(0..begin).map(|place| place * size).find(|offset| !is_taken(*offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let read = |text| {
            let find = |text: &str| Ok(text.strip_prefix("container:").map(|_| ContainerId::random()));
            parse(text, find).map_err(|error| error.to_string())
        };
        assert_eq!(read("host"), Ok(UserNamespaceMode::Host));
        assert_eq!(read("private"), Ok(UserNamespaceMode::Auto { size: None }));
        assert_eq!(read("auto:size=4096"), Ok(UserNamespaceMode::Auto { size: Some(4096) }));
        assert!(matches!(read("container:x"), Ok(UserNamespaceMode::Container(_))));
        for wrong in ["keep-id", "auto:size=x", "auto:", "auto:size=10", "ns:/proc/1/ns/user"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn subuid_files() {
        let range = |first, count| Some(Range { first, count });
        assert_eq!(range_of("me:100000:65536\ncontainers:200000:65536\nwharf:300000:70000\n"), range(300_000, 70_000));
        assert_eq!(range_of("containers:2147483647:2147483648\n"), range(2_147_483_647, 2_147_483_648));
        assert_eq!(range_of("wharf:4294967000:65536\nwharf:x:1\nwharf\nwharf:0:65536\n\n"), None);
    }

    #[test]
    fn places_are_free_and_inside() {
        let taken = [0, 10, 20];
        assert_eq!(choose(45, 10, 1, |offset| taken.contains(&offset)), Some(30));
        assert_eq!(choose(45, 10, 0, |offset| offset < 30), Some(30));
        assert_eq!(choose(45, 10, 7, |_| true), None);
        assert_eq!(choose(9, 10, 0, |_| false), None);
        let map = IdMap { inside: 0, outside: 100, count: 10 };
        for (first, count, expected) in [(90, 10, false), (91, 10, true), (109, 1, true), (110, 5, false)] {
            assert_eq!(overlap(map, first, count), expected);
        }
    }
}
