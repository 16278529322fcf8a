//! Addresses in use: one file an endpoint in `net/<network>/` of the run folder, gone after a reboot.
//!
//! `<container>.quiet` beside an endpoint holds a time, milliseconds since 1970: until then names do not lead to that
//! container as long as another one has them. Rolling updates write it: for new containers until they work, for old
//! ones before they are stopped. A command that is killed in between leaves nothing that does not end by itself.
//!
//! Beside them `generation` holds a number, eight bytes in the host's byte order, that grows with each change of
//! the network's endpoints: who keeps an answer asks it with one pread(2) whether the answer still holds.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::lock::Lock;
use super::{Result, Store};
use crate::base::fs::{self, Context, Durability};
use crate::base::id::{ContainerId, NetworkId};
use crate::model::network::Endpoint;

/// How the name of a file ends that says until when a container is quiet.
pub const QUIET: &str = "quiet";

/// The time in such a file.
pub fn quiet_until(content: &[u8]) -> Option<SystemTime> {
    let milliseconds = std::str::from_utf8(content).ok()?.trim().parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))
}

/// Access to endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints<'a> {
    store: &'a Store,
}

impl<'a> Endpoints<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Records an endpoint, replacing the container's former one in that network.
    ///
    /// Who chooses its addresses holds the network's lock from the choice to the end of this call.
    pub fn put(&self, endpoint: &Endpoint) -> Result<()> {
        let folder = self.folder(&endpoint.network);
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", endpoint.container));
        super::write_record(&path, endpoint, Durability::Volatile)?;
        self.bump(&endpoint.network)
    }

    /// The endpoint of a container in a network.
    pub fn get(&self, network: &NetworkId, container: &ContainerId) -> Result<Option<Endpoint>> {
        super::read_record(&self.folder(network).join(format!("{container}.json")))
    }

    /// All endpoints of a network.
    pub fn list(&self, network: &NetworkId) -> Result<Vec<Endpoint>> {
        let folder = self.folder(network);
        let mut endpoints = Vec::new();
        for file in super::entries(&folder)? {
            if file.ends_with(".json") {
                endpoints.extend(super::read_record::<Endpoint>(&folder.join(file))?);
            }
        }
        Ok(endpoints)
    }

    /// Removes the endpoint of a container in a network; one that is missing is fine.
    pub fn remove(&self, network: &NetworkId, container: &ContainerId) -> Result<()> {
        let path = self.folder(network).join(format!("{container}.json"));
        match std::fs::remove_file(&path) {
            Ok(()) => self.bump(network),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(fs::Error { operation: "remove", path, source }.into()),
        }
    }

    /// Keeps names from leading to a container of a network until `until`; `None` lets them again.
    pub fn set_quiet(&self, network: &NetworkId, container: &ContainerId, until: Option<SystemTime>) -> Result<()> {
        let folder = self.folder(network);
        let path = folder.join(format!("{container}.{QUIET}"));
        match until {
            None if !path.exists() => return Ok(()),
            None => fs::remove_file(&path)?,
            Some(until) => {
                fs::create_dir_all(&folder)?;
                let since = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                fs::write_atomic(&path, since.as_millis().to_string().as_bytes(), Durability::Volatile)?;
            }
        }
        self.bump(network)
    }

    /// The number that grows with each change; 0 before the first one.
    pub fn generation(&self, network: &NetworkId) -> Result<u64> {
        let path = self.generation_path(network);
        match File::open(&path) {
            Ok(file) => read_generation(&file).context("read", &path).map_err(Into::into),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(source) => Err(fs::Error { operation: "open", path, source }.into()),
        }
    }

    /// The file of that number, to be kept open by who asks often.
    pub fn generation_path(&self, network: &NetworkId) -> PathBuf {
        self.folder(network).join("generation")
    }

    /// The run folder of a network. May be missing.
    pub fn folder(&self, network: &NetworkId) -> PathBuf {
        self.store.paths().run.join("net").join(network.as_str())
    }

    fn bump(&self, network: &NetworkId) -> Result<()> {
        let path = self.generation_path(network);
        let _one_at_a_time = Lock::exclusive(&self.folder(network).join("generation.lock"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .context("open", &path)?;
        let next = read_generation(&file).context("read", &path)?.wrapping_add(1);
        Ok(file.write_all_at(&next.to_ne_bytes(), 0).context("write", &path)?)
    }
}

fn read_generation(file: &File) -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(if read == bytes.len() { u64::from_ne_bytes(bytes) } else { 0 })
}
