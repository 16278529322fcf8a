//! Whether mounts that are made later come through a bind, and which way.
//!
//! Source: mount_namespaces(7), "Shared subtrees".

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags};

use super::Error;

/// The flag (`MS_*`) of a propagation by its name in a mount; `None` when there is none of that name.
pub(super) fn flag(name: Option<&str>) -> Option<u64> {
    match name.unwrap_or("rprivate") {
        "private" | "rprivate" | "" => Some(libc::MS_PRIVATE),
        "slave" | "rslave" => Some(libc::MS_SLAVE),
        "shared" | "rshared" => Some(libc::MS_SHARED),
        _ => None,
    }
}

/// Refuses a propagation that nothing would come of, in Docker's words: the mount that `place` lies on hands nothing on.
pub(super) fn check(flag: u64, place: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    if flag == libc::MS_PRIVATE {
        return Ok(());
    }
    let failed = |source| Error::Step { step: format!("look at the mount of {}", path.display()), source };
    let stat = rustix::fs::statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    let number = stat.map_err(|errno| failed(errno.into()))?.stx_mnt_id;
    let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
    // A mount that is not in the table is another namespace's, and is as it is.
    let Some((mounted_on, is_shared, is_slave)) = find(&table, number) else { return Ok(()) };
    if is_shared || (is_slave && flag == libc::MS_SLAVE) {
        return Ok(());
    }
    let wanted = if flag == libc::MS_SLAVE { "shared or slave" } else { "shared" };
    Err(Error::Propagation { path: path.to_owned(), mounted_on: PathBuf::from(mounted_on), wanted })
}

/// Where the mount of this number is, and whether it is shared, and a slave. Source: proc_pid_mountinfo(5).
fn find(table: &str, number: u64) -> Option<(&str, bool, bool)> {
    let line = table.lines().find(|line| line.split(' ').next().and_then(|id| id.parse().ok()) == Some(number))?;
    let mut fields = line.split(' ');
    let place = fields.nth(4)?;
    let tags: Vec<&str> = fields.skip(1).take_while(|field| *field != "-").collect();
    let has = |tag: &str| tags.iter().any(|field| field.starts_with(tag));
    Some((place, has("shared:"), has("master:")))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn tags_are_read_from_mountinfo() {
        let table = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                     36 35 98:0 /a /b rw,noatime master:1 - ext3 /dev/root rw\n\
                     37 35 98:0 /a /c rw,noatime shared:2 master:1 - ext3 /shared:x rw\n";
        assert_eq!(find(table, 27), Some(("/", false, false)));
        assert_eq!(find(table, 36), Some(("/b", false, true)));
        assert_eq!(find(table, 37), Some(("/c", true, true)));
        assert_eq!(find(table, 3), None);
    }
}
