//! `EXPOSE`: `[[ip:]host:]port[-port][/proto]` -> `port/proto`, one entry a port.

/// Reads one word of EXPOSE. Host address and host port are dropped, as BuildKit does.
///
/// Errors: what is wrong, as a sentence fragment.
pub fn exposed(word: &str) -> Result<Vec<String>, String> {
    let port = word.rsplit_once(':').map_or(word, |(_, port)| port);
    let (range, protocol) = port.split_once('/').unwrap_or((port, ""));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        other => return Err(format!("`{other}` is not a protocol (tcp, udp or sctp)")),
    };
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is not a port (0 to 65535)"));
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    if last < first {
        return Err(format!("the port range `{range}` ends before it begins"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::exposed;

    #[test]
    fn ranges_and_protocols() {
        assert_eq!(exposed("80"), Ok(vec!["80/tcp".into()]));
        assert_eq!(exposed("127.0.0.1:8080:80-81/UDP"), Ok(vec!["80/udp".into(), "81/udp".into()]));
        for wrong in ["", "x", "80/x", "70000", "9-8", "<port>"] {
            assert!(exposed(wrong).is_err(), "{wrong}");
        }
    }
}
