//! Who has a port: for the error message only, by looking through /proc.
//!
//! Source: proc_pid_net(5), `tcp`; the address is in hexadecimal, words in the host's byte order.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::model::container::Protocol;

/// Lines of /proc/net/tcp that are looked at.
const LINES_MAX: usize = 200_000;

/// Returns `pid 4121, python3` for the process that has the port on this address or on every one.
pub(super) fn find(address: IpAddr, port: u16, protocol: Protocol) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        let mut lines = text.lines().skip(1).take(LINES_MAX);
        lines.find_map(|line| matching_inode(line, address, port, protocol).map(str::to_owned))
    })?;
    process_with(&format!("socket:[{inode}]"))
}

fn matching_inode<'a>(line: &'a str, address: IpAddr, port: u16, protocol: Protocol) -> Option<&'a str> {
    const LISTENING: &str = "0A";
    let words: Vec<&'a str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    let (hex, local_port) = local.split_once(':')?;
    if u16::from_str_radix(local_port, 16).ok()? != port || (protocol == Protocol::Tcp && *state != LISTENING) {
        return None;
    }
    let bound = parse_address(hex)?;
    let conflicts = bound.is_unspecified() || address.is_unspecified() || bound == address;
    (conflicts && *inode != "0").then_some(*inode)
}

fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |place: usize| u32::from_str_radix(hex.get(place * 8..place * 8 + 8)?, 16).ok();
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into()),
        32 => {
            let mut octets = [0u8; 16];
            for place in 0..4 {
                octets[place * 4..place * 4 + 4].copy_from_slice(&word(place)?.to_ne_bytes());
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

/// The oldest of the processes that have the socket: a server, and not one of its workers or what it has just forked.
fn process_with(link: &str) -> Option<String> {
    let mut oldest: Option<(u64, String)> = None;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        // Processes that end meanwhile are skipped.
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors
            .flatten()
            .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == link));
        if holds && let Some(started) = start_time(&process.path()) {
            let command = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            if oldest.as_ref().is_none_or(|(other, _)| started < *other) {
                oldest = Some((started, format!("pid {pid}, {}", command.trim())));
            }
        }
    }
    oldest.map(|(_, text)| text)
}

/// In clock ticks since boot. Source: proc_pid_stat(5), field 22; the name before may have any character.
fn start_time(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}
