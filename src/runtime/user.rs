//! Who a process runs as: `user[:group]` looked up in the root's own /etc/passwd and /etc/group.
//!
//! The files belong to whoever made the image: they are read inside the root, only when regular, never blocking,
//! and at most 1 MiB of each. Numbers are strict: `1000foo` is a name. Malformed lines are skipped.
//!
//! Source: passwd(5), group(5); Docker's rules for `--user` and `--group-add`.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;

use super::{Error, root};

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

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// More than any image has; a bound on what a hostile one makes us read.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Ids above are not representable for every tool; Docker's limit.
const ID_MAX: u32 = i32::MAX as u32;

/// Resolves `user` (`name|uid[:group|gid]`; empty is root) and `additional_groups` inside `root`.
///
/// Without a group, the groups that list the user in /etc/group are added, as Docker does. Errors: a name that
/// the files do not have, an id out of range, a file that is not a small regular one.
pub fn resolve(root: BorrowedFd<'_>, user: &str, additional_groups: &[String]) -> Result<User, Error> {
    resolve_from(|path| read(root, path), user, additional_groups)
}

/// Reads a user file; one that is missing is empty.
pub(super) fn read(root: BorrowedFd<'_>, path: &'static str) -> Result<String, Error> {
    match root::read_in_root(root, Path::new(path), FILE_BYTES_MAX) {
        Ok(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(String::new()),
        Err(errno) => Err(Error::UserFile { path, source: errno.into() }),
    }
}

/// [`resolve`] with a way to read the two files.
pub(super) fn resolve_from(
    read: impl Fn(&'static str) -> Result<String, Error>,
    user: &str,
    additional_groups: &[String],
) -> Result<User, Error> {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let passwd = read(PASSWD)?;
    let account = find_account(&passwd, user)?;
    let needs_groups = !group.is_empty() || !additional_groups.is_empty() || account.name.is_some();
    let group_file = if needs_groups { read(GROUP)? } else { String::new() };
    let mut groups = Vec::new();
    let gid = if group.is_empty() {
        if let Some(name) = account.name {
            groups.extend(groups_of(&group_file, name));
        }
        account.gid
    } else {
        find_group(&group_file, group)?
    };
    for name in additional_groups {
        groups.push(find_group(&group_file, name)?);
    }
    // A group that is forbidden something stays so when a set-group-id program changes the first group
    // (CVE-2022-36109): it is among the further ones too.
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid: account.uid, gid, groups, home: account.home.unwrap_or("/").to_owned() })
}

struct Account<'a> {
    name: Option<&'a str>,
    uid: u32,
    gid: u32,
    home: Option<&'a str>,
}

/// The account of a name or number; a number without an entry is fine, its group is 0.
fn find_account<'a>(passwd: &'a str, user: &str) -> Result<Account<'a>, Error> {
    let number = if user.is_empty() { Some(0) } else { parse_id(user)? };
    let entries = || passwd.lines().filter_map(parse_account);
    let found = entries().find(|entry| entry.name == Some(user));
    let found = found.or_else(|| entries().find(|entry| Some(entry.uid) == number));
    match (found, number) {
        (Some(entry), _) => Ok(entry),
        (None, Some(uid)) => Ok(Account { name: None, uid, gid: 0, home: None }),
        (None, None) => Err(Error::UnknownUser { user: user.to_owned() }),
    }
}

/// `name:password:uid:gid:comment:home:shell`
fn parse_account(line: &str) -> Option<Account<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    let home = fields.nth(1).filter(|home| !home.is_empty());
    Some(Account { name: Some(name), uid, gid, home })
}

fn find_group(file: &str, group: &str) -> Result<u32, Error> {
    let named = file.lines().filter_map(parse_group).find(|(name, ..)| *name == group);
    match (named, parse_id(group)?) {
        (Some((_, gid, _)), _) => Ok(gid),
        (None, Some(gid)) => Ok(gid),
        (None, None) => Err(Error::UnknownGroup { group: group.to_owned() }),
    }
}

fn groups_of<'a>(file: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    file.lines()
        .filter_map(parse_group)
        .filter(move |(.., members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
}

/// `name:password:gid:member,member`
fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or("")))
}

/// A strict number; `None` for a name. Errors: a number out of range.
fn parse_id(text: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= ID_MAX => Ok(Some(id)),
        _ => Err(Error::IdOutOfRange { id: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD_TEXT: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nbob:x:1000:1000::/home/bob:/bin/sh\n\
                               42:x:77:78::/number:\n+::::::\n";
    const GROUP_TEXT: &str = "root:x:0:\nbob:x:1000:\naudio:x:29:bob,eve\nvideo:x:44:bob\nbad:x:y:bob\n";

    fn check(user: &str, additional: &[&str]) -> Result<User, String> {
        let files = |path| Ok(if path == PASSWD { PASSWD_TEXT.into() } else { GROUP_TEXT.into() });
        let additional: Vec<String> = additional.iter().map(ToString::to_string).collect();
        resolve_from(files, user, &additional).map_err(|error| error.to_string())
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<User, String> {
        Ok(User { uid, gid, groups: groups.to_vec(), home: home.into() })
    }

    #[test]
    fn names_numbers_and_groups() {
        assert_eq!(check("", &[]), user(0, 0, &[0], "/root"));
        assert_eq!(check("bob", &[]), user(1000, 1000, &[29, 44, 1000], "/home/bob"));
        assert_eq!(check("1000", &[]), user(1000, 1000, &[29, 44, 1000], "/home/bob"));
        assert_eq!(check("bob:audio", &[]), user(1000, 29, &[29], "/home/bob"));
        assert_eq!(check("5000", &["video", "7", "7"]), user(5000, 0, &[0, 7, 44], "/"));
        assert_eq!(check("5000:5001", &[]), user(5000, 5001, &[5001], "/"));
        assert_eq!(check("42", &[]), user(77, 78, &[78], "/number"), "a name that looks like a number is a name first");
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        for (text, message) in [
            ("eve", "unable to find user eve: no matching entries in passwd file"),
            ("1000foo", "unable to find user 1000foo: no matching entries in passwd file"),
            ("bob:nobody", "unable to find group nobody: no matching entries in group file"),
            ("4294967296", "`4294967296` is not a user or group id between 0 and 2147483647"),
            ("-1", "unable to find user -1: no matching entries in passwd file"),
        ] {
            assert_eq!(check(text, &[]).unwrap_err(), message);
        }
    }
}
