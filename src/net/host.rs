//! One wharf root's connection to the network of the host.

use std::cell::{RefCell, RefMut};
use std::path::{Path, PathBuf};

use super::{Result, nft, rtnl};
use crate::base::id::Digest;
use crate::base::paths::Paths;
use crate::store::Store;

/// The host's network as one wharf root uses it: two netlink sockets, the name of its table, its run folder.
///
/// The sockets belong to the network namespace in which they are first used and are opened then. A value is
/// cheap and must not be shared between processes: make a new one after a fork.
pub struct Host {
    paths: Paths,
    table: String,
    run: PathBuf,
    links: RefCell<Option<rtnl::Socket>>,
    filter: RefCell<Option<nft::Socket>>,
}

impl Host {
    /// The host's network for the wharf root at `paths`.
    pub fn new(paths: &Paths) -> Self {
        Self {
            paths: paths.clone(),
            table: table_name(paths),
            run: paths.run.join("net"),
            links: RefCell::new(None),
            filter: RefCell::new(None),
        }
    }

    /// Name of the nftables table (family `inet`): `wharf`, or `wharf-` and 8 digits for another root.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The folder of endpoint records and leases: one folder a network in it, named by its id.
    pub fn run_folder(&self) -> &Path {
        &self.run
    }

    pub(super) fn store(&self) -> Result<Store> {
        Ok(Store::open(&self.paths)?)
    }

    pub(super) fn links(&self) -> Result<RefMut<'_, rtnl::Socket>> {
        let mut links = self.links.borrow_mut();
        if links.is_none() {
            *links = Some(rtnl::Socket::open()?);
        }
        // The option was filled just above.
        Ok(RefMut::map(links, |links| links.as_mut().expect("opened above")))
    }

    pub(super) fn filter(&self) -> Result<RefMut<'_, nft::Socket>> {
        let mut filter = self.filter.borrow_mut();
        if filter.is_none() {
            *filter = Some(nft::Socket::open()?);
        }
        // The option was filled just above.
        Ok(RefMut::map(filter, |filter| filter.as_mut().expect("opened above")))
    }
}

/// Two roots on one host have a table each, so that neither can disturb the other.
fn table_name(paths: &Paths) -> String {
    if paths.run == Path::new("/run/wharf") {
        return "wharf".to_owned();
    }
    let digest = Digest::of(paths.run.as_os_str().as_encoded_bytes());
    format!("wharf-{}", &digest.hex()[..8])
}
