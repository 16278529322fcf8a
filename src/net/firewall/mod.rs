//! The packet filter: one table with fixed rules whose sets and maps hold all that changes.
//!
//! A network is a handful of elements ([`elements::of_network`]), a published port two ([`elements::of_port`]):
//! adding one costs the same whether there are ten or ten thousand. The rules stand in [`rules`].
//!
//! Invariants: the table is made by one batch, so it is whole or absent; its comment tells the version of the
//! rules. Each wharf root has a table of its own. Each element's comment tells whose it is.
//!
//! Not done: rootless, hosts without nf_tables. firewalld and foreign nft tables that drop forwarded packets cannot be
//! overruled from another table and are not ours to change: [`obstacles`] names them.

pub(super) mod elements;
mod foreign;
mod legacy;
mod rules;

pub use foreign::obstacles;

use std::io;

use super::nft::{Batch, Element, Family};
use super::{Error, Host, Result};
use crate::base::fs::{self, Context};
use crate::model::container::PublishedPort;
use crate::model::network::{Endpoint, NetworkRecord};

/// What the table must hold: read from the store when the table has to be built.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// All networks of the store.
    pub networks: Vec<NetworkRecord>,
    /// Published ports and endpoints of each running container.
    pub running: Vec<(Vec<PublishedPort>, Vec<Endpoint>)>,
}

/// Elements that go into one batch: a request must fit the socket's send buffer (208 KiB by default).
pub(super) const BATCH_ELEMENTS: usize = 400;

/// Makes sure that the table and its rules are there; fills it from `contents` when it had to be made (first
/// use in this boot, `nft flush ruleset`, another version of wharf). About 20 µs when it is there.
///
/// Also switches on forwarding and makes room in a foreign FORWARD chain that would drop our packets.
pub fn ensure(host: &Host, contents: impl FnOnce() -> Contents) -> Result<()> {
    let failed = |source| Error::Firewall { operation: format!("make table `{}`", host.table()), source };
    let found = host.filter()?.table_comment(Family::Inet, host.table()).map_err(failed)?;
    if found.as_deref() != Some(rules::VERSION) {
        let mut batch = Batch::new(Family::Inet, host.table());
        if found.is_some() {
            batch.delete_table();
        }
        rules::write(&mut batch);
        let made = host.filter()?.commit(batch);
        match made {
            // Another process made it meanwhile, from the same store.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            other => other.map_err(failed)?,
        }
        let contents = contents();
        let mut wanted: Vec<Element> = contents.networks.iter().flat_map(elements::of_network).collect();
        for (ports, endpoints) in &contents.running {
            wanted.extend(ports.iter().flat_map(|port| elements::of_port(port, endpoints)));
        }
        for part in wanted.chunks(BATCH_ELEMENTS) {
            add(host, part)?;
        }
    }
    forward_packets()?;
    foreign::make_room(host)?;
    legacy::make_room()
}

/// Removes the table of this root.
pub fn remove(host: &Host) -> Result<()> {
    let mut batch = Batch::new(Family::Inet, host.table());
    batch.delete_table();
    let mut filter = match host.filter() {
        Err(error) if is_not_in_kernel(&error) => return Ok(()),
        filter => filter?,
    };
    match filter.commit(batch) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => {
            other.map_err(|source| Error::Firewall { operation: format!("remove table `{}`", host.table()), source })
        }
    }
}

/// Whether the kernel has no nftables: then it has no rule of ours either.
fn is_not_in_kernel(error: &Error) -> bool {
    matches!(error, Error::Firewall { source, .. } if source.raw_os_error() == Some(libc::EPROTONOSUPPORT))
}

/// Adds elements at once. One that stands there with another value belongs to nobody any more (the port is
/// reserved by us) and is replaced.
pub(super) fn add(host: &Host, wanted: &[Element]) -> Result<()> {
    let failed = |source| Error::Firewall { operation: "add elements".to_owned(), source };
    let mut batch = Batch::new(Family::Inet, host.table());
    wanted.iter().for_each(|element| batch.add_element(element));
    match host.filter()?.commit(batch) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::EBUSY | libc::ENOTEMPTY)) => {}
        other => return other.map_err(failed),
    }
    for element in wanted {
        let mut batch = Batch::new(Family::Inet, host.table());
        let found = host.filter()?.element(Family::Inet, host.table(), element).map_err(failed)?;
        if found.as_ref().is_some_and(|found| found.value != element.value) {
            batch.delete_element(element);
        } else if found.is_some() {
            continue;
        }
        batch.add_element(element);
        host.filter()?.commit(batch).map_err(failed)?;
    }
    Ok(())
}

/// Removes elements; those that are missing are fine, and so is a missing table. A map's element with another
/// value than the given one is somebody else's and stays.
pub(super) fn delete(host: &Host, unwanted: &[Element]) -> Result<()> {
    let failed = |source| Error::Firewall { operation: "remove elements".to_owned(), source };
    let missing = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
    let mut filter = match host.filter() {
        Err(error) if is_not_in_kernel(&error) => return Ok(()),
        filter => filter?,
    };
    let mut present = Vec::with_capacity(unwanted.len());
    for element in unwanted {
        let found = filter.element(Family::Inet, host.table(), element).map_err(failed)?;
        if found.is_some_and(|found| found.value == element.value) {
            present.push(element);
        }
    }
    let mut batch = Batch::new(Family::Inet, host.table());
    present.iter().for_each(|element| batch.delete_element(element));
    match filter.commit(batch) {
        // Somebody removed one meanwhile: the others one by one.
        Err(error) if missing(&error) => {}
        other => return other.map_err(failed),
    }
    for element in present {
        let mut batch = Batch::new(Family::Inet, host.table());
        batch.delete_element(element);
        match filter.commit(batch) {
            Err(error) if missing(&error) => {}
            other => other.map_err(failed)?,
        }
    }
    Ok(())
}

/// Switches on IPv4 forwarding. Policies of foreign chains stay as they are.
fn forward_packets() -> Result<()> {
    let path = std::path::Path::new("/proc/sys/net/ipv4/ip_forward");
    if std::fs::read(path).context("read", path)?.first() != Some(&b'1') {
        std::fs::write(path, "1").context("write", path)?;
    }
    Ok(())
}

/// Switches on IPv6 forwarding, for the first network that speaks it. An interface that learns its routes from
/// router advertisements would stop doing so; it is told to go on (`accept_ra` 2).
pub(super) fn forward_ipv6() -> Result<()> {
    let path = std::path::Path::new("/proc/sys/net/ipv6/conf/all/forwarding");
    match fs::read_optional(path)? {
        Some(value) if value.first() == Some(&b'0') => {}
        _ => return Ok(()),
    }
    let folder = std::path::Path::new("/proc/sys/net/ipv6/conf");
    for entry in std::fs::read_dir(folder).context("read", folder)?.flatten() {
        let accept = entry.path().join("accept_ra");
        if std::fs::read(&accept).is_ok_and(|value| value.first() == Some(&b'1')) && entry.file_name() != "all" {
            std::fs::write(&accept, "2").context("write", &accept)?;
        }
    }
    Ok(std::fs::write(path, "1").context("write", path)?)
}
