//! Networks: one record each, under a unique name.

use std::path::PathBuf;

use super::lock::Lock;
use super::{Error, Kind, Result, Store, names};
use crate::base::fs::{self, Durability};
use crate::base::id::NetworkId;
use crate::model::journal::{self, Entry};
use crate::model::network::NetworkRecord;

/// Access to networks.
#[derive(Debug, Clone, Copy)]
pub struct Networks<'a> {
    store: &'a Store,
}

impl<'a> Networks<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Records a network under its unique name, durably.
    ///
    /// Who chooses its subnets holds [`Networks::lock_all`] from the choice to the end of this call.
    /// Errors: `InvalidName`, `NameInUse`.
    pub fn create(&self, record: &NetworkRecord) -> Result<()> {
        let folder = self.store.names_folder("networks");
        let _names = self.store.lock_names()?;
        let exists = |id: &str| id.parse().is_ok_and(|id| self.exists(&id));
        names::take(Kind::Network, &folder, &record.name, record.id.as_str(), exists)?;
        super::write_record(&self.path(&record.id), record, Durability::Durable)?;
        self.note("create", record);
        Ok(fs::sync_folder(&folder)?)
    }

    /// A network by its id.
    pub fn get(&self, id: &NetworkId) -> Result<NetworkRecord> {
        super::read_record(&self.path(id))?.ok_or_else(|| Error::not_found(Kind::Network, id.as_str()))
    }

    /// The network with this name, this id, or the only one whose id begins so.
    pub fn find(&self, text: &str) -> Result<NetworkRecord> {
        if names::check(Kind::Network, text).is_ok()
            && let Some(id) = names::lookup(&self.store.names_folder("networks"), text)?
            && let Ok(id) = id.parse::<NetworkId>()
            && let Some(record) = super::read_record(&self.path(&id))?
        {
            return Ok(record);
        }
        let ids = self.ids()?.into_iter().map(String::from);
        let id = names::by_prefix(Kind::Network, text, ids)?;
        self.get(&id.parse().map_err(|_| Error::not_found(Kind::Network, text))?)
    }

    /// All networks, oldest first.
    pub fn list(&self) -> Result<Vec<NetworkRecord>> {
        let mut records = Vec::new();
        for id in self.ids()? {
            records.extend(super::read_record::<NetworkRecord>(&self.path(&id))?);
        }
        records.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.name.cmp(&b.name)));
        Ok(records)
    }

    /// Removes a network's record, name and run folder. The caller holds its lock and has found it unused.
    pub fn remove(&self, id: &NetworkId) -> Result<()> {
        let folder = self.store.names_folder("networks");
        {
            let _names = self.store.lock_names()?;
            let record = super::read_record::<NetworkRecord>(&self.path(id))?;
            fs::remove_file(&self.path(id))?;
            if let Some(record) = record {
                names::release(&folder, &record.name, id.as_str())?;
                self.note("destroy", &record);
            }
            fs::sync_folder(&self.store.root("networks"))?;
        }
        Ok(fs::remove_dir_all(&self.store.paths().run.join("net").join(id.as_str()))?)
    }

    /// Waits for the lock of one network: held while addresses are given out, or it is made or removed.
    pub fn lock(&self, id: &NetworkId) -> Result<Lock> {
        Ok(Lock::exclusive(&self.store.paths().run.join("lock").join(format!("network-{id}")))?)
    }

    /// Waits for the lock of all networks: held while subnets are chosen. Taken before the lock of one network.
    pub fn lock_all(&self) -> Result<Lock> {
        Ok(Lock::exclusive(&self.store.paths().run.join("lock/networks"))?)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.ids()?.is_empty())
    }

    fn note(&self, action: &str, record: &NetworkRecord) {
        let entry = Entry::new(journal::Kind::Network, action, record.id.as_str());
        self.store.journal().note(&entry.with("name", &record.name).with("type", "bridge"));
    }

    fn exists(&self, id: &NetworkId) -> bool {
        self.path(id).exists()
    }

    fn ids(&self) -> Result<Vec<NetworkId>> {
        let files = super::entries(&self.store.root("networks"))?;
        Ok(files.iter().filter_map(|file| file.strip_suffix(".json")?.parse().ok()).collect())
    }

    fn path(&self, id: &NetworkId) -> PathBuf {
        self.store.root("networks").join(format!("{id}.json"))
    }
}
