//! The options of a mount: flags of the mount itself, propagation, and what its file system takes.

use super::{Error, refused};
use crate::sys::mount::{ATIME_MASK, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, STRICTATIME};

/// The options of one mount, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Whether it shows a path of the host.
    pub bind: bool,
    /// Whether the mounts below that come along.
    pub recursive: bool,
    /// `MOUNT_ATTR_*` of the mount to set, and to clear before.
    pub set: u64,
    pub clear: u64,
    /// The same for it and all mounts below it.
    pub set_recursive: u64,
    pub clear_recursive: u64,
    /// `MS_*` with `MS_REC`, in order.
    pub propagation: Vec<u64>,
    /// Whether a tmpfs begins with what lies at its target.
    pub copy_up: bool,
    /// What the file system takes: `key` or `key=value`.
    pub data: Vec<(String, Option<String>)>,
}

/// Flags of a mount by name: bits to set, bits to clear.
const FLAGS: [(&str, u64, u64); 17] = [
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
    ("nosymfollow", NOSYMFOLLOW, 0),
    ("symfollow", 0, NOSYMFOLLOW),
    ("noatime", NOATIME, ATIME_MASK),
    ("strictatime", STRICTATIME, ATIME_MASK),
    ("relatime", 0, ATIME_MASK),
    ("norelatime", 0, ATIME_MASK),
    ("atime", 0, ATIME_MASK),
];
/// Every kind of propagation by name.
const PROPAGATION: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];
/// What says nothing that is not so anyway.
const WITHOUT_EFFECT: [&str; 8] =
    ["defaults", "async", "loud", "nomand", "noiversion", "nostrictatime", "nolazytime", "remount"];

/// The names of all options that are understood, for those who ask for features.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = ["bind", "rbind", "tmpcopyup"].map(str::to_owned).to_vec();
    for (name, ..) in FLAGS {
        names.push(name.to_owned());
        names.push(format!("r{name}"));
    }
    for (name, _) in PROPAGATION {
        names.push(name.to_owned());
        names.push(format!("r{name}"));
    }
    names.extend(WITHOUT_EFFECT.map(str::to_owned));
    names.sort_unstable();
    names
}

/// `MS_*` of `rslave`; with `MS_REC` for those with an `r`.
pub(super) fn propagation(name: &str) -> Option<u64> {
    PROPAGATION.into_iter().find_map(|(known, flag)| match name.strip_prefix('r') {
        Some(rest) if rest == known => Some(flag | libc::MS_REC),
        _ => (name == known).then_some(flag),
    })
}

impl Options {
    /// Reads the options of the mount number `number`. Errors: one that a bind mount does not take.
    pub fn parse(options: &[String], kind: &str, number: usize) -> Result<Self, Error> {
        let mut read = Self { bind: kind == "bind", ..Self::default() };
        for option in options {
            read.add(option, number)?;
        }
        if let (true, Some((name, _))) = (read.bind, read.data.first()) {
            return refused(&format!("mounts[{number}].options"), &format!("a bind mount has no option `{name}`"));
        }
        Ok(read)
    }

    fn add(&mut self, option: &str, number: usize) -> Result<(), Error> {
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" | "ridmap" => {
                let field = format!("mounts[{number}].options");
                return refused(&field, &format!("`{option}` is not supported in bundles"));
            }
            name if WITHOUT_EFFECT.contains(&name) => {}
            name => {
                if let Some(flags) = propagation(name) {
                    self.propagation.push(flags);
                } else if let Some((set, clear)) = flag(name) {
                    self.clear |= set | clear;
                    self.set = (self.set & !clear) | set;
                } else if let Some((set, clear)) = name.strip_prefix('r').and_then(flag) {
                    self.clear_recursive |= set | clear;
                    self.set_recursive = (self.set_recursive & !clear) | set;
                } else {
                    let (key, value) = match name.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (name, None),
                    };
                    self.data.push((key.to_owned(), value));
                }
            }
        }
        Ok(())
    }
}

fn flag(name: &str) -> Option<(u64, u64)> {
    FLAGS.into_iter().find(|(known, ..)| *known == name).map(|(_, set, clear)| (set, clear))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str], kind: &str) -> Result<Options, String> {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        Options::parse(&options, kind, 3).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_sorted() {
        let options = parse(&["rbind", "ro", "nosuid", "rro", "rprivate", "noatime", "rw"], "none").unwrap();
        assert!(options.bind && options.recursive);
        assert_eq!(options.set, NOSUID | NOATIME);
        assert_eq!(options.clear, NOSUID | RDONLY | NOATIME | ATIME_MASK);
        assert_eq!((options.set_recursive, options.clear_recursive), (RDONLY, RDONLY));
        assert_eq!(options.propagation, [libc::MS_PRIVATE | libc::MS_REC]);
        let tmpfs = parse(&["size=64k", "mode=755", "relatime", "rw", "tmpcopyup", "sync"], "tmpfs").unwrap();
        assert_eq!(tmpfs.data[0], ("size".into(), Some("64k".into())));
        assert_eq!(tmpfs.data[2], ("sync".into(), None));
        assert!(tmpfs.copy_up && !tmpfs.bind);
    }

    #[test]
    fn what_a_bind_mount_does_not_take_is_an_error() {
        assert!(parse(&["size=1"], "bind").unwrap_err().contains("mounts[3].options"));
        assert!(parse(&["idmap"], "bind").unwrap_err().contains("idmap"));
    }
}
