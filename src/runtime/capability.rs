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

/// CAP_KILL: an init signals processes of other users.
pub(super) const KILL: u32 = 5;

/// How many capabilities a set can have: names of later kernels are dropped too.
pub(super) const COUNT: u32 = 64;

/// Names by number. Source: `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Set {
    /// Whether capability `number` is in it.
    pub fn contains(self, number: u32) -> bool {
        number < u64::BITS && self.0 & (1 << number) != 0
    }

    /// What is in both.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The number of a capability: `NET_ADMIN`, `cap_net_admin`.
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare).map(|position| position as u32)
}

/// The names of all capabilities, without `CAP_`.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter()
}

/// The capabilities that this process may hand on: its bounding set, which is what the kernel knows unless
/// somebody took some away.
pub fn available() -> Set {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    Set(line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(DEFAULT.0))
}

/// What `security` leaves of the `available` capabilities: the default set, `cap_add`, `cap_drop`.
///
/// Names are accepted with and without `CAP_`, in either case; `ALL` is every one. What is dropped by name and
/// added by `ALL` is dropped, and the reverse. Errors: a name that no kernel has.
pub fn of(security: &Security, available: Set) -> Result<Set, Error> {
    if security.privileged {
        return Ok(available);
    }
    let (add_all, add) = parse(&security.cap_add)?;
    let (drop_all, drop) = parse(&security.cap_drop)?;
    let base = match (add_all, drop_all) {
        (true, _) => !drop,
        (false, true) => add,
        (false, false) => (DEFAULT.0 & !drop) | add,
    };
    Ok(Set(base).intersection(available))
}

fn parse(names: &[String]) -> Result<(bool, u64), Error> {
    let (mut all, mut set) = (false, 0);
    for name in names {
        if name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case("cap_all") {
            all = true;
        } else {
            let unknown = || Error::Unknown { kind: "capability", name: name.clone() };
            set |= 1u64 << number(name).ok_or_else(unknown)?;
        }
    }
    Ok((all, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str]) -> u64 {
        let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let security = Security { cap_add: strings(add), cap_drop: strings(drop), ..Security::default() };
        of(&security, Set((1 << 41) - 1)).unwrap().0
    }

    #[test]
    fn dockers_fourteen() {
        assert_eq!(check(&[], &[]), 0xa804_25fb);
        assert_eq!(DEFAULT.0.count_ones(), 14);
    }

    #[test]
    fn added_and_dropped() {
        assert_eq!(check(&["NET_ADMIN"], &[]), 0xa804_25fb | 1 << 12);
        assert_eq!(check(&["cap_net_admin"], &["ALL"]), 1 << 12);
        assert_eq!(check(&["ALL"], &["CAP_SYS_ADMIN"]), ((1 << 41) - 1) & !(1 << 21));
        assert_eq!(check(&[], &["all"]), 0);
        assert_eq!(check(&[], &["chown", "MKNOD"]), 0xa804_25fb & !1 & !(1 << 27));
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let security = Security { cap_add: vec!["NET_ADMIM".into()], ..Security::default() };
        assert_eq!(of(&security, DEFAULT).unwrap_err().to_string(), "`NET_ADMIM` is not a capability");
    }
}
