//! Clears away what belongs to nothing that lives: after crashes and kills.
//!
//! It touches nothing of another wharf root: only what this root's run folder and table know. A link that is being
//! made is known by its lease, which is written before.

use std::path::Path;

use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::nft::{Batch, Element, Family};
use super::rtnl::{Existing, Step};
use super::{Error, Host, Result, lease};
use crate::base::fs::Context;
use crate::base::id::{ContainerId, NetworkId};
use crate::model::network::NetworkRecord;

/// What was cleared away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healed {
    /// In words, one line each: `bridge wh-3f00aa12bc`, `lease 10.210.0.7`.
    pub removed: Vec<String>,
}

/// Sets and maps whose elements belong to a container or a network, as their comments say.
const SETS: [&str; 12] = [
    "ports4",
    "ports4_on",
    "ports6",
    "ports6_on",
    "open4",
    "open6",
    "bridges",
    "closed",
    "outward",
    "same",
    "own4",
    "own6",
];

/// Removes bridges, links, leases, records and packet filter elements that this root made and that belong to no
/// network in `networks` and no container for which `is_alive` says yes (running, or being started).
///
/// Touches nothing of another wharf root: only what this root's run folder and table know.
pub fn heal(host: &Host, networks: &[NetworkRecord], is_alive: &dyn Fn(&ContainerId) -> bool) -> Result<Healed> {
    let mut healed = Healed::default();
    clear_leases(host, is_alive, &mut healed)?;
    clear_elements(host, networks, is_alive, &mut healed)?;
    Ok(healed)
}

fn clear_leases(host: &Host, is_alive: &dyn Fn(&ContainerId) -> bool, healed: &mut Healed) -> Result<()> {
    let store = host.store()?;
    for name in names_in(host.run_folder())? {
        let Ok(network) = name.parse::<NetworkId>() else { continue };
        let folder = lease::folder(host, &network);
        for address in names_in(&folder)? {
            let path = folder.join(&address);
            let Some((container, link)) = lease::read(&path) else { continue };
            if container.parse().is_ok_and(|container| is_alive(&container)) {
                continue;
            }
            remove_link(host, &link, healed)?;
            crate::base::fs::remove_file(&path)?;
            healed.removed.push(format!("lease {address}"));
        }
        for endpoint in store.endpoints().list(&network)? {
            if !is_alive(&endpoint.container) {
                store.endpoints().remove(&network, &endpoint.container)?;
                healed.removed.push(format!("endpoint of {} in {}", endpoint.container.short(), endpoint.network_name));
            }
        }
    }
    Ok(())
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("read folder", folder)?,
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn remove_link(host: &Host, name: &str, healed: &mut Healed) -> Result<()> {
    if !name.starts_with("wh-") || host.links()?.link(name)?.is_none() {
        return Ok(());
    }
    let message = RouteNetlinkMessage::DelLink(LinkUnspec::new_with_name(name).build());
    let step = Step { what: "remove link", message, existing: Existing::Change };
    match host.links()?.execute(name, vec![step]) {
        // Its namespace died at the same moment.
        Err(Error::Link { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {}
        other => other?,
    }
    healed.removed.push(format!("link {name}"));
    Ok(())
}

fn clear_elements(
    host: &Host,
    networks: &[NetworkRecord],
    is_alive: &dyn Fn(&ContainerId) -> bool,
    healed: &mut Healed,
) -> Result<()> {
    let failed = |source| Error::Firewall { operation: "list elements".to_owned(), source };
    // Comments hold short ids; who lives is asked by whole ones, of the containers in the records that are left.
    let mut alive: Vec<String> = Vec::new();
    let store = host.store()?;
    for network in networks {
        for endpoint in store.endpoints().list(&network.id)? {
            if is_alive(&endpoint.container) {
                alive.push(endpoint.container.short().to_owned());
            }
        }
    }
    for set in SETS {
        let found = host.filter()?.elements(Family::Inet, host.table(), set).map_err(failed)?;
        for element in found {
            let orphan = match element.comment.split_once(' ') {
                Some(("container", id)) => !alive.iter().any(|known| known == id),
                Some(("network", id)) => !networks.iter().any(|network| network.id.short() == id),
                _ => false,
            };
            if !orphan {
                continue;
            }
            if set == "bridges" {
                let name = String::from_utf8_lossy(&element.key).trim_end_matches('\0').to_owned();
                remove_link(host, &name, healed)?;
            }
            let key = Element { set, key: element.key, key_end: element.key_end, value: None, comment: String::new() };
            let mut batch = Batch::new(Family::Inet, host.table());
            batch.delete_element(&key);
            match host.filter()?.commit(batch) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                other => {
                    other.map_err(|source| Error::Firewall { operation: "remove an element".to_owned(), source })?
                }
            }
            healed.removed.push(format!("filter element of {} in {set}", element.comment));
        }
    }
    Ok(())
}
