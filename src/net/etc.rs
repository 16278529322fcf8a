//! The content of a container's /etc/hosts and /etc/resolv.conf.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Error, Result};
use crate::model::container::{ContainerSpec, NetworkMode};
use crate::model::network::Endpoint;

/// Where a container's supervisor answers.
const EMBEDDED_SERVER: &str = "127.0.0.11";
/// A resolv.conf or hosts file of the host larger than this is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcFiles {
    /// /etc/hosts.
    pub hosts: String,
    /// /etc/resolv.conf. Both are bind mounts: rewrite in place, never rename.
    pub resolv_conf: String,
}

/// Returns both files for a container with these endpoints (those of [`super::endpoint::connect`]).
///
/// A container in networks asks 127.0.0.11 (its supervisor); one without or with the host's network gets the
/// host's servers, or those of its spec. `host-gateway` in `extra_hosts` is the gateway of its default route.
/// Errors: `Invalid` for an extra host that is not `name:address` or `name=address`.
pub fn etc_files(spec: &ContainerSpec, endpoints: &[Endpoint]) -> Result<EtcFiles> {
    let embedded = !endpoints.is_empty();
    Ok(EtcFiles { hosts: hosts(spec, endpoints)?, resolv_conf: resolv_conf(spec, &ResolvConf::of_host(), embedded) })
}

fn hosts(spec: &ContainerSpec, endpoints: &[Endpoint]) -> Result<String> {
    let mut text = match spec.network {
        NetworkMode::Host => {
            let bytes = crate::base::fs::read_limited(std::path::Path::new("/etc/hosts"), FILE_BYTES_MAX);
            let mut text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text
        }
        _ => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n\
              ff02::2\tip6-allrouters\n"
            .to_owned(),
    };
    let gateways = default_endpoint(endpoints).map_or(&[][..], |endpoint| &endpoint.gateways);
    for extra in &spec.extra_hosts {
        for (name, address) in extra_host(extra, gateways)? {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    let own_name = match &spec.domainname {
        Some(domain) if !domain.is_empty() => format!("{0}.{domain} {0}", spec.hostname),
        _ => spec.hostname.clone(),
    };
    for endpoint in endpoints {
        let addresses = endpoint.ipv4.map(|(address, _)| IpAddr::from(address));
        let addresses = addresses.into_iter().chain(endpoint.ipv6.map(|(address, _)| IpAddr::from(address)));
        for address in addresses {
            let _ = writeln!(text, "{address}\t{own_name}");
        }
    }
    Ok(text)
}

fn default_endpoint(endpoints: &[Endpoint]) -> Option<&Endpoint> {
    endpoints.iter().find(|endpoint| endpoint.default_route)
}

/// Reads `name:address`, `name=address` (either with IPv6 in brackets or bare) or `name:host-gateway`.
fn extra_host(text: &str, gateways: &[IpAddr]) -> Result<Vec<(String, IpAddr)>> {
    let invalid = |reason| Error::Invalid { what: "extra host", text: text.to_owned(), reason };
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| invalid("it must look like name:address"))?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(invalid("the name is empty or has blanks"));
    }
    if address == "host-gateway" {
        // An internal network has no gateway: the name stays unknown there.
        return Ok(gateways.iter().map(|gateway| (name.to_owned(), *gateway)).collect());
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = bare.parse().map_err(|_| invalid("the address is not an IP address"))?;
    Ok(vec![(name.to_owned(), address)])
}

fn resolv_conf(spec: &ContainerSpec, host: &ResolvConf, embedded: bool) -> String {
    let mut text = String::new();
    let or_host = |own: &[String], host: &[String]| if own.is_empty() { host.to_vec() } else { own.to_vec() };
    if embedded {
        let _ = writeln!(text, "nameserver {EMBEDDED_SERVER}");
    } else {
        let servers: Vec<String> = host.servers.iter().map(IpAddr::to_string).collect();
        for server in or_host(&spec.dns, &servers) {
            let _ = writeln!(text, "nameserver {server}");
        }
    }
    // `.` alone says: no search domains (Docker's rule).
    let search: Vec<String> =
        or_host(&spec.dns_search, &host.search).into_iter().filter(|domain| domain != ".").collect();
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let mut options = or_host(&spec.dns_options, &host.options);
    if embedded && !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

/// What a resolv.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// `nameserver` lines; a server with a zone (`fe80::1%eth0`) is left out.
    pub servers: Vec<IpAddr>,
    /// The last `search` or `domain` line.
    pub search: Vec<String>,
    /// `options`.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Path of the host's file.
    pub const PATH: &'static str = "/etc/resolv.conf";

    /// The host's. A missing file names no server.
    pub fn of_host() -> Self {
        let bytes = crate::base::fs::read_limited(std::path::Path::new(Self::PATH), FILE_BYTES_MAX);
        Self::parse(&String::from_utf8_lossy(&bytes.unwrap_or_default()))
    }

    /// Reads the text of such a file.
    ///
    /// Source: resolv.conf(5).
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => found.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                Some("options") => found.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::spec;

    fn endpoint(ipv4: [u8; 4], gateway: Option<[u8; 4]>) -> Endpoint {
        Endpoint {
            container: crate::base::id::ContainerId::random(),
            network: crate::base::id::NetworkId::random(),
            network_name: "front".into(),
            names: vec!["web".into()],
            interface: "eth0".into(),
            ipv4: Some((ipv4.into(), 24)),
            ipv6: None,
            gateways: gateway.into_iter().map(IpAddr::from).collect(),
            default_route: gateway.is_some(),
            mac: String::new(),
            host_link: String::new(),
            link_local: Vec::new(),
            links: Default::default(),
        }
    }

    #[test]
    fn hosts_has_the_containers_own_names_and_the_wished_ones() {
        let mut spec = spec("web", &[]);
        spec.hostname = "box".into();
        spec.domainname = Some("example.org".into());
        spec.extra_hosts =
            ["db:10.0.0.9", "six=[fd00::1]", "up:fd00::2", "host:host-gateway"].map(str::to_owned).into();
        let endpoints = [endpoint([10, 1, 0, 2], Some([10, 1, 0, 1])), endpoint([10, 2, 0, 2], None)];
        let files = etc_files(&spec, &endpoints).unwrap();
        let lines: Vec<&str> = files.hosts.lines().collect();
        assert_eq!(
            lines,
            [
                "127.0.0.1\tlocalhost",
                "::1\tlocalhost ip6-localhost ip6-loopback",
                "ff02::1\tip6-allnodes",
                "ff02::2\tip6-allrouters",
                "10.0.0.9\tdb",
                "fd00::1\tsix",
                "fd00::2\tup",
                "10.1.0.1\thost",
                "10.1.0.2\tbox.example.org box",
                "10.2.0.2\tbox.example.org box",
            ]
        );
        for wrong in ["db", ":1.2.3.4", "db:x", "a b:1.2.3.4", "db:1.2.3.4\n5.6.7.8 bank"] {
            spec.extra_hosts = vec![wrong.to_owned()];
            assert!(etc_files(&spec, &endpoints).is_err(), "{wrong}");
        }
    }

    #[test]
    fn resolv_conf_names_the_supervisor_or_the_hosts_servers() {
        let host = ResolvConf::parse(
            "# made by hand\nnameserver 192.0.2.53 ; first\nnameserver fe80::1%eth0\nnameserver fd00::53\n\
             domain old.example\nsearch corp.example lab.example\noptions edns0 trust-ad\n",
        );
        assert_eq!(host.servers.len(), 2);
        let mut spec = spec("web", &[]);
        assert_eq!(
            resolv_conf(&spec, &host, true),
            "nameserver 127.0.0.11\nsearch corp.example lab.example\noptions edns0 trust-ad ndots:0\n"
        );
        assert_eq!(
            resolv_conf(&spec, &host, false),
            "nameserver 192.0.2.53\nnameserver fd00::53\nsearch corp.example lab.example\noptions edns0 trust-ad\n"
        );
        spec.dns = vec!["9.9.9.9".into()];
        spec.dns_search = vec![".".into()];
        spec.dns_options = vec!["ndots:2".into()];
        assert_eq!(resolv_conf(&spec, &host, true), "nameserver 127.0.0.11\noptions ndots:2\n");
        assert_eq!(resolv_conf(&spec, &host, false), "nameserver 9.9.9.9\noptions ndots:2\n");
        assert_eq!(ResolvConf::parse("nameserver\noptions\nsearch\nnonsense \0 x"), ResolvConf::default());
    }
}
