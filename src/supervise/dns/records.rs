//! The names of a container's networks, read from the endpoint records in the run folder.
//!
//! They are read again when a network's generation, a number in a file beside them, has grown: one pread(2) a query
//! and network. The generation is read before the records, so that a change in between is seen the next time.
//! Names lie in one text and are found by binary search: a thousand of them take some 40 kB.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::packet::Record;
use crate::base::fs::read_limited;
use crate::base::id::ContainerId;
use crate::model::network::Endpoint;
use crate::store::{QUIET, quiet_until};

/// A network has at most 1023 containers (ports of a bridge); what is beyond this is not read.
const RECORDS_MAX: usize = 2048;
/// A record with more names than anybody would write by hand.
const RECORD_BYTES_MAX: u64 = 256 << 10;
/// Names by which a container finds the host.
const HOST_NAMES: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];

/// The names of one network.
struct Network {
    folder: PathBuf,
    generation: Option<File>,
    seen: Option<u64>,
    /// Its name in lower case with a dot before: `web.front` is `web` in `front`.
    suffix: String,
}

/// Where a name stands in the text, and which container has it.
#[derive(Clone, Copy)]
struct Name {
    start: u32,
    length: u16,
    holder: u16,
}

struct Holder {
    network: u16,
    first_name: Name,
    ipv4: Option<std::net::Ipv4Addr>,
    ipv6: Option<std::net::Ipv6Addr>,
    /// Until then it has names only where nobody else has them.
    quiet_until: Option<SystemTime>,
}

impl Holder {
    fn is_quiet(&self, now: SystemTime) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }
}

/// What is known of all networks of a container.
pub(super) struct Records {
    container: ContainerId,
    networks: Vec<Network>,
    text: String,
    names: Vec<Name>,
    holders: Vec<Holder>,
    gateways: Vec<IpAddr>,
    /// Names of the container's own for others.
    links: BTreeMap<String, String>,
    turn: usize,
}

impl Records {
    /// Nothing is read before the first question.
    pub(super) fn new(container: ContainerId, folders: Vec<PathBuf>) -> Self {
        let network = |folder| Network { folder, generation: None, seen: None, suffix: String::new() };
        Self {
            container,
            networks: folders.into_iter().map(network).collect(),
            text: String::new(),
            names: Vec::new(),
            holders: Vec::new(),
            gateways: Vec::new(),
            links: BTreeMap::new(),
            turn: 0,
        }
    }

    /// The addresses of a name in lower case; `None` when it is unknown here. The first is another one each time.
    pub(super) fn addresses(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        self.refresh();
        if HOST_NAMES.contains(&name) && !self.gateways.is_empty() {
            return Some(self.gateways.clone());
        }
        let name = self.links.get(name).cloned().unwrap_or_else(|| name.to_owned());
        let name = name.as_str();
        let mut holders: BTreeSet<u16> = self.find(name).collect();
        for (place, network) in self.networks.iter().enumerate() {
            if let Some(rest) = name.strip_suffix(network.suffix.as_str()).filter(|_| !network.suffix.is_empty()) {
                let inside = |holder: &u16| usize::from(self.holders[usize::from(*holder)].network) == place;
                holders.extend(self.find(rest).filter(inside));
            }
        }
        if holders.is_empty() {
            return None;
        }
        if holders.iter().any(|holder| self.holders[usize::from(*holder)].quiet_until.is_some()) {
            let now = SystemTime::now();
            let speaks = |holder: &u16| !self.holders[usize::from(*holder)].is_quiet(now);
            if holders.iter().any(speaks) {
                holders.retain(speaks);
            }
        }
        let mut addresses = Vec::with_capacity(holders.len());
        for holder in holders {
            let holder = &self.holders[usize::from(holder)];
            addresses.extend(holder.ipv4.map(IpAddr::from));
            addresses.extend(holder.ipv6.map(IpAddr::from));
        }
        if !addresses.is_empty() {
            self.turn = self.turn.wrapping_add(1);
            let count = addresses.len();
            addresses.rotate_left(self.turn % count);
        }
        Some(addresses)
    }

    /// `container.network` of an address.
    pub(super) fn pointers(&mut self, address: IpAddr) -> Vec<Record> {
        self.refresh();
        let has = |holder: &&Holder| {
            holder.ipv4.map(IpAddr::from) == Some(address) || holder.ipv6.map(IpAddr::from) == Some(address)
        };
        let holders = self.holders.iter().filter(has);
        let name = |holder: &Holder| {
            let suffix = &self.networks[usize::from(holder.network)].suffix;
            Record::Pointer(format!("{}{suffix}", self.text_of(holder.first_name)))
        };
        holders.map(name).collect()
    }

    fn text_of(&self, name: Name) -> &str {
        // Names were cut from this very text.
        self.text.get(name.start as usize..name.start as usize + usize::from(name.length)).unwrap_or_default()
    }

    fn find(&self, name: &str) -> impl Iterator<Item = u16> {
        let start = self.names.partition_point(|known| self.text_of(*known) < name);
        self.names[start..].iter().take_while(move |known| self.text_of(**known) == name).map(|known| known.holder)
    }

    /// Reads everything again when a generation has changed.
    fn refresh(&mut self) {
        let mut changed = false;
        for network in &mut self.networks {
            let generation = network.generation();
            if generation != network.seen || generation.is_none() {
                network.seen = generation;
                changed = true;
            }
        }
        if changed {
            self.read();
        }
    }

    fn read(&mut self) {
        self.text.clear();
        self.names.clear();
        self.holders.clear();
        self.gateways.clear();
        self.links.clear();
        let mut containers: Vec<ContainerId> = Vec::new();
        for place in 0..self.networks.len() {
            let (first, mut quiet) = (self.holders.len(), Vec::new());
            let Ok(entries) = std::fs::read_dir(&self.networks[place].folder) else { continue };
            for entry in entries.flatten().take(RECORDS_MAX) {
                let path = entry.path();
                let Some(extension) = path.extension() else { continue };
                if extension == QUIET {
                    let until = read_limited(&path, RECORD_BYTES_MAX).ok().and_then(|bytes| quiet_until(&bytes));
                    quiet.push((path.file_stem().unwrap_or_default().to_owned(), until));
                }
                if extension != "json" {
                    continue;
                }
                // One that is gone meanwhile, or is none: its container does not exist as far as names go.
                let Ok(bytes) = read_limited(&path, RECORD_BYTES_MAX) else { continue };
                let Ok(endpoint) = serde_json::from_slice::<Endpoint>(&bytes) else { continue };
                self.add(place, &endpoint);
                if self.holders.len() > containers.len() {
                    containers.push(endpoint.container);
                }
            }
            for (container, until) in quiet {
                let is_it = |place: &usize| container == containers[*place].as_str();
                if let Some(place) = (first..containers.len()).find(is_it) {
                    self.holders[place].quiet_until = until;
                }
            }
        }
        let text = std::mem::take(&mut self.text);
        let slice = |name: &Name| text.get(name.start as usize..name.start as usize + usize::from(name.length));
        self.names.sort_unstable_by(|one, other| slice(one).cmp(&slice(other)));
        self.text = text;
    }

    fn add(&mut self, place: usize, endpoint: &Endpoint) {
        let (Ok(holder), Ok(network)) = (u16::try_from(self.holders.len()), u16::try_from(place)) else { return };
        let known = &mut self.networks[place];
        if known.suffix.is_empty() {
            known.suffix = format!(".{}", endpoint.network_name.to_ascii_lowercase());
        }
        if endpoint.container == self.container && endpoint.default_route {
            self.gateways.clone_from(&endpoint.gateways);
        }
        if endpoint.container == self.container {
            self.links.extend(endpoint.links.clone());
        }
        let mut first_name = None;
        for name in &endpoint.names {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let (Ok(start), Ok(length)) = (u32::try_from(self.text.len()), u16::try_from(name.len())) else { return };
            self.text.push_str(&name);
            let name = Name { start, length, holder };
            first_name.get_or_insert(name);
            self.names.push(name);
        }
        let first_name = first_name.unwrap_or(Name { start: 0, length: 0, holder });
        self.holders.push(Holder {
            network,
            first_name,
            ipv4: endpoint.ipv4.map(|(address, _)| address),
            ipv6: endpoint.ipv6.map(|(address, _)| address),
            quiet_until: None,
        });
    }
}

impl Network {
    /// The number that grows with each change; `None` while there is none.
    fn generation(&mut self) -> Option<u64> {
        if self.generation.is_none() {
            self.generation = File::open(self.folder.join("generation")).ok();
        }
        let mut bytes = [0; 8];
        let read = self.generation.as_ref()?.read_at(&mut bytes, 0).ok()?;
        (read == bytes.len()).then(|| u64::from_ne_bytes(bytes))
    }
}
