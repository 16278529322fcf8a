//! Addresses in use: one file an address in `leases/` of the network's run folder, made exclusively, so that no
//! lock is needed and giving one out costs the same in a full network.
//!
//! A free address is looked for from a place that the container's name gives: `web-1` gets the same address each
//! time, as long as nobody else has it, and an address that was just given back is seldom given to another.
//!
//! A file says which container has the address and over which link. When the link is gone, and was not just about to
//! be made (the file's date tells), the holder is dead and the next one takes the address over.

use std::fs;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::subnet::Range;
use super::{Error, Host, Result};
use crate::base::fs::Context;
use crate::base::id::{ContainerId, Digest, NetworkId};
use crate::model::network::{NetworkRecord, Subnet};

/// A lease whose link does not exist yet is being made; one older than this is dead.
const MAKING: Duration = Duration::from_secs(20);

/// Who asks for an address.
pub(super) struct Tenant<'a> {
    /// The container.
    pub container: &'a ContainerId,
    /// Its name: the place to look from.
    pub name: &'a str,
    /// Name of the link on the host that will have the address.
    pub link: &'a str,
}

/// Folder of a network's leases.
pub(super) fn folder(host: &Host, network: &NetworkId) -> PathBuf {
    host.run_folder().join(network.as_str()).join("leases")
}

/// Leases an address of `subnet`: `fixed`, or a free one that is not in `reserved`.
///
/// Errors: `FixedAddress`, `AddressInUse`, `NoFreeAddress`.
pub(super) fn take(
    host: &Host,
    network: &NetworkRecord,
    subnet: &Subnet,
    tenant: &Tenant<'_>,
    fixed: Option<IpAddr>,
    reserved: &[(NetworkId, IpAddr)],
) -> Result<IpAddr> {
    let folder = folder(host, &network.id);
    fs::create_dir_all(&folder).context("create folder", &folder)?;
    let range = Range::new(subnet.address, subnet.prefix);
    if let Some(address) = fixed {
        check_fixed(network, subnet, range, address)?;
        return match occupy(host, &folder, tenant, address)? {
            None => Ok(address),
            Some(holder) => Err(Error::AddressInUse { address, network: network.name.clone(), holder }),
        };
    }
    let is_reserved = |address: IpAddr| {
        address == subnet.gateway
            || subnet.reserved.contains(&address)
            || reserved.iter().any(|(id, taken)| *taken == address && *id == network.id)
    };
    for address in candidates(range, subnet, tenant.name) {
        if !is_reserved(address) && occupy(host, &folder, tenant, address)?.is_none() {
            return Ok(address);
        }
    }
    Err(Error::NoFreeAddress { network: network.name.clone(), subnet: range.to_string() })
}

/// Notes that the link of a lease exists: from now on the lease is alive as long as the link.
pub(super) fn settle(host: &Host, network: &NetworkId, addresses: &[IpAddr]) -> Result<()> {
    let folder = folder(host, network);
    for address in addresses {
        let path = folder.join(address.to_string());
        let file = fs::File::open(&path).context("open", &path)?;
        file.set_modified(SystemTime::UNIX_EPOCH).context("date", &path)?;
    }
    Ok(())
}

/// Gives back all addresses that the container has in the network.
pub(super) fn release(host: &Host, network: &NetworkId, container: &ContainerId, addresses: &[IpAddr]) -> Result<()> {
    let folder = folder(host, network);
    for address in addresses {
        let path = folder.join(address.to_string());
        if read(&path).is_some_and(|(holder, _)| holder == container.as_str()) {
            crate::base::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn check_fixed(network: &NetworkRecord, subnet: &Subnet, range: Range, address: IpAddr) -> Result<()> {
    let refuse = |reason| Err(Error::FixedAddress { address, network: network.name.clone(), reason });
    if !subnet.chosen {
        return refuse("its subnet was chosen by wharf and may be another one tomorrow");
    }
    if !range.contains(address) {
        return Err(Error::OutsideSubnet { what: "address", address: address.to_string(), subnet: range.to_string() });
    }
    if address == subnet.gateway {
        return refuse("it is the gateway's");
    }
    if address == range.first() || (range.is_ipv4() && address == range.last()) {
        return refuse("it is the address of the whole network or of all in it");
    }
    Ok(())
}

/// The pool's addresses once around, from the name's place on.
fn candidates(range: Range, subnet: &Subnet, name: &str) -> impl Iterator<Item = IpAddr> {
    /// More than a bridge has ports: a pool where so many in a row are taken is full.
    const TRIES_MAX: u128 = 4096;
    let pool = subnet.pool.map_or(range, |(address, prefix)| Range::new(address, prefix));
    let count = pool.last_offset().saturating_add(1);
    let hash = Digest::of(name.as_bytes());
    let start = u128::from_str_radix(&hash.hex()[..16], 16).unwrap_or(0) % count;
    (0..count.min(TRIES_MAX))
        .filter_map(move |step| pool.nth((start + step) % count))
        .filter(move |address| *address != range.first() && !(range.is_ipv4() && *address == range.last()))
}

/// Writes the lease file; returns the holder when somebody else has the address.
fn occupy(host: &Host, folder: &Path, tenant: &Tenant<'_>, address: IpAddr) -> Result<Option<String>> {
    let path = folder.join(address.to_string());
    // Written before it has its name: a lease that says nothing, of one who was killed, would be anybody's.
    let content = format!("{} {}\n", tenant.container, tenant.link);
    let file = rustix::fs::open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from(0o600));
    let file = file.context("create a file in", folder)?;
    rustix::io::write(&file, content.as_bytes()).context("write", &path)?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    // Twice: the second time after a dead lease was cleared away.
    for _ in 0..2 {
        match rustix::fs::linkat(CWD, unnamed.as_str(), CWD, &path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => return Ok(None),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).context("create", &path).map_err(Into::into),
        }
        match holder(host, &path, tenant.container)? {
            Some(holder) => return Ok(Some(holder)),
            None => crate::base::fs::remove_file(&path)?,
        }
    }
    Ok(Some("that started at the same time".to_owned()))
}

/// Who holds a lease; `None` when it is nobody that lives, or the asking container itself from an earlier start.
fn holder(host: &Host, path: &Path, asking: &ContainerId) -> Result<Option<String>> {
    let Some((container, link)) = read(path) else {
        return Ok(is_new(path).then(|| "that is just starting".to_owned()));
    };
    if container == asking.as_str() {
        return Ok(None);
    }
    let alive = host.links()?.link(&link)?.is_some() || is_new(path);
    Ok(alive.then(|| container.chars().take(12).collect()))
}

fn is_new(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|data| data.modified()).map(|time| time.elapsed().unwrap_or_default());
    age.is_ok_and(|age| age < MAKING)
}

/// The container and the link that a lease names.
pub(super) fn read(path: &Path) -> Option<(String, String)> {
    let text = fs::read_to_string(path).ok()?;
    let (container, link) = text.trim().split_once(' ')?;
    Some((container.to_owned(), link.to_owned()))
}
