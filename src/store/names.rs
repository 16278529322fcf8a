//! Unique names: a symlink `names/<kind>/<name>` whose target is the id.
//!
//! symlink(2) is atomic with its content and fails when the name is taken. `lock/names` is held around the change
//! of a name together with the object's folder or record, so under it a name without its object is a leftover of
//! a command that died, and is taken over.

use std::io;
use std::path::{Path, PathBuf};

use super::{Error, Kind, Result, Store};
use crate::base::fs::{self, Context};

/// Longest name: it is a file name, with room for a suffix.
const NAME_BYTES_MAX: usize = 240;

/// Refuses what is not `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, Docker's grammar, which is also safe as a file name.
pub(super) fn check(kind: Kind, name: &str) -> Result<()> {
    let good = name
        .bytes()
        .enumerate()
        .all(|(index, byte)| byte.is_ascii_alphanumeric() || (index > 0 && matches!(byte, b'_' | b'.' | b'-')));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !good {
        return Err(Error::InvalidName { kind, name: name.to_owned() });
    }
    Ok(())
}

/// The id that `name` means in `folder`; the object itself may be gone.
pub(super) fn lookup(folder: &Path, name: &str) -> Result<Option<String>> {
    let path = folder.join(name);
    match std::fs::read_link(&path) {
        Ok(target) => Ok(target.into_os_string().into_string().ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(None),
        // A text too long for a file name is no name.
        Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => Ok(None),
        Err(source) => Err(fs::Error { operation: "read", path, source }.into()),
    }
}

/// Takes `name` for `id`; `exists` tells whether an id still has its object. The caller holds `lock/names`.
pub(super) fn take(kind: Kind, folder: &Path, name: &str, id: &str, exists: impl Fn(&str) -> bool) -> Result<()> {
    check(kind, name)?;
    let path = folder.join(name);
    match std::os::unix::fs::symlink(id, &path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return Ok(other.context("create", &path)?),
    }
    if let Some(holder) = lookup(folder, name)?
        && exists(&holder)
    {
        return Err(Error::NameInUse { kind, name: name.to_owned(), holder });
    }
    fs::remove_file(&path)?;
    Ok(std::os::unix::fs::symlink(id, &path).context("create", &path)?)
}

/// Gives `name` up if it means `id`. The caller holds `lock/names`.
pub(super) fn release(folder: &Path, name: &str, id: &str) -> Result<()> {
    if lookup(folder, name)?.as_deref() == Some(id) {
        fs::remove_file(&folder.join(name))?;
    }
    Ok(())
}

/// Finds the id in `ids` that equals `text` or is the only one to begin with it.
pub(super) fn by_prefix(kind: Kind, text: &str, ids: impl IntoIterator<Item = String>) -> Result<String> {
    if text.is_empty() || text.len() > 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::not_found(kind, text));
    }
    let mut matches: Vec<String> = ids.into_iter().filter(|id| id.starts_with(text)).collect();
    match matches.len() {
        0 => Err(Error::not_found(kind, text)),
        1 => Ok(matches.remove(0)),
        count => Err(Error::Ambiguous { kind, prefix: text.to_owned(), count }),
    }
}

impl Store {
    pub(super) fn lock_names(&self) -> Result<super::Lock> {
        Ok(super::Lock::exclusive(&self.root("lock/names"))?)
    }

    pub(super) fn names_folder(&self, kind: &str) -> PathBuf {
        self.root("names").join(kind)
    }
}
