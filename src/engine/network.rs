//! Networks: made from a project's definition or from flags, and removed.

use std::collections::BTreeMap;

use super::{Engine, Error, Result};
use crate::base::id::NetworkId;
use crate::graph::{hash, observed::label};
use crate::model::network::NetworkRecord;
use crate::model::project::{Network, Project};
use crate::net;

impl Engine {
    /// The record of a network; the default one is made when it is first asked for.
    pub fn network_by_name(&self, name: &str) -> Result<NetworkRecord> {
        match self.store.networks().find(name) {
            Err(error) if error.is_not_found() && name == net::network::DEFAULT_NAME => {
                self.create_network(net::network::Wish { name: name.to_owned(), ..Default::default() })
            }
            result => Ok(result?),
        }
    }

    /// Makes the network with this key of a project. One that exists is returned as it is.
    pub fn create_project_network(&self, project: &Project, key: &str, network: &Network) -> Result<NetworkRecord> {
        match network.driver.as_deref() {
            None | Some("" | "bridge" | "default") => {}
            Some(driver) => {
                return Err(Error::Unsupported { what: format!("network driver `{driver}` of network `{key}`") });
            }
        }
        let mut labels = network.labels.clone();
        labels.insert(label::PROJECT.into(), project.name.clone());
        labels.insert(label::NETWORK.into(), key.to_owned());
        labels.insert(label::CONFIG_HASH.into(), hash::network(network));
        labels.insert(label::VERSION.into(), env!("CARGO_PKG_VERSION").to_owned());
        self.create_network(net::network::Wish {
            name: network.name.clone(),
            internal: network.internal,
            ipam: network.ipam.clone(),
            families: net::subnet::Families {
                ipv4: network.enable_ipv4.unwrap_or(true),
                ipv6: network.enable_ipv6.unwrap_or(false),
            },
            options: network.driver_opts.clone(),
            labels,
        })
    }

    /// Makes a network. One of that name that exists is returned as it is.
    pub fn create_network(&self, wish: net::network::Wish) -> Result<NetworkRecord> {
        // Subnets are chosen among all networks: one at a time.
        let _lock = self.store.networks().lock_all()?;
        if let Ok(record) = self.store.networks().find(&wish.name) {
            return Ok(record);
        }
        let existing = self.store.networks().list()?;
        let host = net::Host::new(self.store.paths());
        let record = net::network::record(&host, &existing, wish)?;
        self.store.networks().create(&record)?;
        Ok(record)
    }

    /// What of the host drops the packets of containers, in words; nothing where it cannot be asked.
    pub fn network_obstacles(&self) -> Vec<String> {
        net::firewall::obstacles(&net::Host::new(self.store.paths())).unwrap_or_default()
    }

    /// Removes a network that no container uses. One that is gone already is fine.
    pub fn remove_network(&self, id: &NetworkId) -> Result<()> {
        let record = match self.store.networks().get(id) {
            Err(error) if error.is_not_found() => return Ok(()),
            record => record?,
        };
        let containers = self.store.containers().list()?;
        let users: Vec<_> = containers
            .into_iter()
            .filter(|(spec, _)| spec.network.networks().any(|network| network == id))
            .map(|(spec, _)| spec.name)
            .collect();
        if !users.is_empty() {
            return Err(Error::NetworkInUse { name: record.name, users });
        }
        let host = net::Host::new(self.store.paths());
        net::network::remove(&host, &record)?;
        // Held so that no network is made between the look and the removal of the table.
        let _lock = self.store.networks().lock_all()?;
        self.store.networks().remove(id)?;
        if self.store.networks().is_empty()? {
            net::firewall::remove(&host)?;
        }
        Ok(())
    }

    /// Which containers use which network, by name.
    pub fn network_users(&self) -> Result<BTreeMap<NetworkId, Vec<String>>> {
        let mut users: BTreeMap<NetworkId, Vec<String>> = BTreeMap::new();
        for (spec, _) in self.store.containers().list()? {
            for network in spec.network.networks() {
                users.entry(network.clone()).or_default().push(spec.name.clone());
            }
        }
        Ok(users)
    }
}
