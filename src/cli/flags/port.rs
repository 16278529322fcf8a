//! `-p [address:][host port or range:]port or range[/protocol]`, as `docker run` has it.
//!
//! Source: docker/go-connections `nat.ParsePortSpec`.

use std::net::IpAddr;

use crate::cli::Mistake;
use crate::model::container::{PortBinding, Protocol};

/// Reads one value; a range of container ports gives one binding each.
pub fn parse(text: &str) -> Result<Vec<PortBinding>, Mistake> {
    let invalid = |reason: &str| Mistake::value("-p", text, reason);
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, protocol)) => {
            (rest, parse_protocol(protocol).ok_or_else(|| invalid("the protocol is tcp, udp or sctp"))?)
        }
        None => (text, Protocol::Tcp),
    };
    let (outside, container) = rest.rsplit_once(':').map_or((None, rest), |(outside, port)| (Some(outside), port));
    let container = range(container).ok_or_else(|| invalid("it takes [address:][host port:]port, such as 8080:80"))?;
    let (host_ip, host) = match outside {
        None => (None, None),
        Some(outside) => split_host(outside).ok_or_else(|| {
            invalid("before the port stands a host port, or an address and a host port: 127.0.0.1:8080:80")
        })?,
    };
    let count = u32::from(container.1) - u32::from(container.0) + 1;
    if let Some(host) = host
        && count > 1
        && u32::from(host.1) - u32::from(host.0) + 1 != count
    {
        return Err(invalid("the two ranges differ in length"));
    }
    Ok((container.0..=container.1)
        .enumerate()
        .map(|(offset, container_port)| {
            let host_port = host.map(|(first, last)| {
                // One port may have a range to choose from; several ports have one each.
                let own = first.saturating_add(u16::try_from(offset).unwrap_or(u16::MAX));
                if count > 1 { (own, own) } else { (first, last) }
            });
            PortBinding { host_ip, host_port, container_port, protocol }
        })
        .collect())
}

/// `80` or `80/udp` of `--expose`, ranges written out.
pub fn parse_exposed(text: &str) -> Result<Vec<String>, Mistake> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let ports = range(ports)
        .filter(|_| parse_protocol(protocol).is_some())
        .ok_or_else(|| Mistake::value("--expose", text, "it takes a port or a range, such as 80 or 8000-8010/udp"))?;
    Ok((ports.0..=ports.1).map(|port| format!("{port}/{protocol}")).collect())
}

fn parse_protocol(text: &str) -> Option<Protocol> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// First and last port.
type PortRange = (u16, u16);

/// `80` or `80-90`.
fn range(text: &str) -> Option<PortRange> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((first, last)) => Some((port(first)?, port(last)?)).filter(|(first, last)| first <= last),
    }
}

/// What stands before the container's port: `8080`, `127.0.0.1:8080`, `127.0.0.1:`, `[::1]:8080`.
fn split_host(text: &str) -> Option<(Option<IpAddr>, Option<PortRange>)> {
    let (address, port) = match text.rsplit_once(':') {
        Some((address, port)) => (address, port),
        // Only an address may be empty of a port: `:80` is any host port.
        None => ("", text),
    };
    let address = match address {
        "" => None,
        text => Some(text.trim_start_matches('[').trim_end_matches(']').parse().ok()?),
    };
    let port = if port.is_empty() { None } else { Some(range(port)?) };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(
        host_ip: Option<&str>,
        host_port: Option<(u16, u16)>,
        container_port: u16,
        protocol: Protocol,
    ) -> PortBinding {
        PortBinding { host_ip: host_ip.map(|ip| ip.parse().expect("an address")), host_port, container_port, protocol }
    }

    #[test]
    fn ports_as_docker_reads_them() {
        use Protocol::{Tcp, Udp};
        for (text, expected) in [
            ("80", vec![binding(None, None, 80, Tcp)]),
            ("8080:80", vec![binding(None, Some((8080, 8080)), 80, Tcp)]),
            ("8080:80/udp", vec![binding(None, Some((8080, 8080)), 80, Udp)]),
            ("127.0.0.1:8080:80", vec![binding(Some("127.0.0.1"), Some((8080, 8080)), 80, Tcp)]),
            ("127.0.0.1::80", vec![binding(Some("127.0.0.1"), None, 80, Tcp)]),
            ("[::1]:8080:80", vec![binding(Some("::1"), Some((8080, 8080)), 80, Tcp)]),
            ("8000-8010:80", vec![binding(None, Some((8000, 8010)), 80, Tcp)]),
            (
                "8000-8001:80-81",
                vec![binding(None, Some((8000, 8000)), 80, Tcp), binding(None, Some((8001, 8001)), 81, Tcp)],
            ),
        ] {
            assert_eq!(parse(text).map_err(|error| error.to_string()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in ["", "0", "x", "80/x", "1-3:1-2", "65536:1", "a:1:2", "3-1", "1:2:3", ":", "80:", "[::1]:80"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_exposed("80-81/udp").ok(), Some(vec!["80/udp".to_owned(), "81/udp".to_owned()]));
        assert!(parse_exposed("80/x").is_err());
    }
}
