//! Where wharf keeps things. One value, made once, handed down: no other code names these folders.

use std::path::{Path, PathBuf};

/// The two folders below which everything of wharf lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What survives a reboot: images, layers, volumes, container records. `/var/lib/wharf`.
    pub root: PathBuf,
    /// What does not: sockets, FIFOs, locks of running containers, addresses. `/run/wharf`, a tmpfs.
    pub run: PathBuf,
}

impl Paths {
    /// The folders of this host: `WHARF_ROOT` and `WHARF_RUN` where set, else the defaults.
    ///
    /// Two roots on one host do not see each other's containers; tests rely on that.
    pub fn from_environment() -> Self {
        let folder = |variable: &str, default: &str| {
            std::env::var_os(variable)
                .filter(|value| !value.is_empty())
                .map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self { root: folder("WHARF_ROOT", "/var/lib/wharf"), run: folder("WHARF_RUN", "/run/wharf") }
    }

    /// Paths below two given folders.
    pub fn new(root: impl AsRef<Path>, run: impl AsRef<Path>) -> Self {
        Self { root: root.as_ref().to_owned(), run: run.as_ref().to_owned() }
    }

    /// A name that belongs to these folders alone, for things outside of them (control groups, tables of the
    /// packet filter): `wharf`, or `wharf-` and 8 digits for other folders than the default ones.
    pub fn instance(&self) -> String {
        if self.run == Path::new("/run/wharf") {
            return "wharf".to_owned();
        }
        let digest = super::id::Digest::of(self.run.as_os_str().as_encoded_bytes());
        format!("wharf-{}", &digest.hex()[..8])
    }
}
