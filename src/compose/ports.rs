//! The short form of `ports`: `[[address:][published]:]target[/protocol]`, with ranges.
//!
//! Source: the behaviour of docker/go-connections `ParsePortSpec`.

use std::net::IpAddr;

use super::error::shorten;

/// One published port, as the long form has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShortPort {
    pub host_ip: Option<String>,
    /// A port or, for one target, a range to choose from.
    pub published: Option<String>,
    pub target: u16,
    pub protocol: String,
}

/// A short form that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a port: {reason}")]
pub(crate) struct InvalidPort {
    pub text: String,
    pub reason: String,
}

/// Reads one entry; a range of targets gives one port each.
pub(crate) fn parse(text: &str) -> Result<Vec<ShortPort>, InvalidPort> {
    let fail = |reason: String| InvalidPort { text: shorten(text), reason: shorten(&reason) };
    let (rest, target) = text.rsplit_once(':').unwrap_or(("", text));
    let (address, published) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (target, protocol) = match target.split_once('/') {
        Some((target, "")) => (target, "tcp".to_owned()),
        Some((target, protocol)) => (target, protocol.to_ascii_lowercase()),
        None => (target, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(fail(format!("protocol `{protocol}` is not tcp, udp or sctp")));
    }
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(fail(format!("`{address}` is not an IP address")));
    }
    if target.is_empty() {
        return Err(fail("no container port".into()));
    }
    let (first, last) =
        range(target).ok_or_else(|| fail(format!("container port `{target}` is not 1 to 65535 or a range")))?;
    if first == 0 {
        return Err(fail("container port 0".into()));
    }
    let host = match published {
        "" => None,
        published => Some(
            range(published).ok_or_else(|| fail(format!("host port `{published}` is not 0 to 65535 or a range")))?,
        ),
    };
    if let Some((host_first, host_last)) = host
        && host_last - host_first != last - first
        && first != last
    {
        return Err(fail(format!("the ranges {target} and {published} have different lengths")));
    }
    let mut ports: Vec<ShortPort> = (first..=last)
        .map(|target| ShortPort {
            host_ip: (!address.is_empty()).then(|| address.to_owned()),
            published: host.map(|(host_first, host_last)| match first == last && host_first != host_last {
                true => format!("{host_first}-{host_last}"),
                false => (host_first + (target - first)).to_string(),
            }),
            target,
            protocol: protocol.clone(),
        })
        .collect();
    // Compose sorts a range by the text of its ports.
    ports.sort_by_cached_key(|port| format!("{}/", port.target));
    Ok(ports)
}

fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match text.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            (first <= last).then_some((first, last))
        }
        None => port(text).map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(ports) => ports
                .iter()
                .map(|port| {
                    format!(
                        "{}|{}|{}/{}",
                        port.host_ip.as_deref().unwrap_or("*"),
                        port.published.as_deref().unwrap_or("any"),
                        port.target,
                        port.protocol
                    )
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => format!("error: {}", error.reason),
        }
    }

    #[test]
    fn short_ports_are_read() {
        for (text, expected) in [
            ("80", "*|any|80/tcp"),
            ("8080:80", "*|8080|80/tcp"),
            ("127.0.0.1:8080:80/UDP", "127.0.0.1|8080|80/udp"),
            ("127.0.0.1::80", "127.0.0.1|any|80/tcp"),
            ("[::1]:8080:80", "::1|8080|80/tcp"),
            ("::1:8080:80", "::1|8080|80/tcp"),
            ("9-10", "*|any|10/tcp *|any|9/tcp"),
            ("8000-8001:80-81", "*|8000|80/tcp *|8001|81/tcp"),
            ("8000-8010:80", "*|8000-8010|80/tcp"),
            ("0:80", "*|0|80/tcp"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_port_says_why() {
        for (text, expected) in [
            ("host:80:80", "error: `host` is not an IP address"),
            ("80:", "error: no container port"),
            ("70000:80", "error: host port `70000` is not 0 to 65535 or a range"),
            ("80:b", "error: container port `b` is not 1 to 65535 or a range"),
            ("0", "error: container port 0"),
            ("80/icmp", "error: protocol `icmp` is not tcp, udp or sctp"),
            ("80-83:8080-8081", "error: the ranges 8080-8081 and 80-83 have different lengths"),
            ("81-80", "error: container port `81-80` is not 1 to 65535 or a range"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
