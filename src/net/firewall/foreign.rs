//! Room for our packets in the FORWARD chain of iptables, which Docker and ufw let drop what they do not know.
//!
//! A packet must be accepted by every table. Where `ip filter FORWARD` exists, two rules at its head accept what
//! comes from or goes to an interface `wh-*`; our own table still decides about it. They are written as iptables
//! writes its own (`-A FORWARD -i wh-+ -j ACCEPT`), so iptables can list and keep them. They stay when wharf's
//! table goes: another wharf root may rely on them, and without interfaces of that name they match nothing.

use crate::net::nft::expression::{Expression, FIRST, Meta};
use crate::net::nft::{Batch, Family, FoundChain, Hook};
use crate::net::{Error, Host, Result};

const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";
/// Tells our rules from others.
const COMMENT: &str = "wharf";
/// Names of our interfaces begin so.
const PREFIX: &[u8] = b"wh-";

/// What of the host's own packet filter drops the packets of containers, with what to do about it: base chains of
/// nftables that drop what they do not know, and firewalld. These are somebody's own rules, so they are not touched.
pub fn obstacles(host: &Host) -> Result<Vec<String>> {
    let failed = |source| Error::Firewall { operation: "list the chains".to_owned(), source };
    let mut filter = host.filter()?;
    let mut obstacles = Vec::new();
    for (family, word) in [(Family::Inet, "inet"), (Family::Ip, "ip"), (Family::Ip6, "ip6")] {
        for FoundChain { table, name, hook, drops } in filter.base_chains(family).map_err(failed)? {
            let has_room = family != Family::Inet && table == TABLE && name == CHAIN;
            let is_firewalld = table == "firewalld" && name == "filter_FORWARD";
            let concerns = hook == Hook::Forward as u32 && (drops || is_firewalld) && !has_room;
            if !concerns || filter.table_mentions(family, &table, PREFIX).map_err(failed)? {
                continue;
            }
            obstacles.push(match is_firewalld {
                true => "firewalld rejects the packets of containers: let it trust their interfaces with \
                         `firewall-cmd --permanent --zone=trusted --add-interface=wh-+ && firewall-cmd --reload`"
                    .to_owned(),
                false => format!(
                    "chain `{name}` of nftables' table `{word} {table}` drops the packets of containers: let them \
                     pass with `nft 'insert rule {word} {table} {name} iifname \"wh-*\" accept'` and \
                     `nft 'insert rule {word} {table} {name} oifname \"wh-*\" accept'`"
                ),
            });
        }
    }
    Ok(obstacles)
}

/// Puts the two rules at the head of both FORWARD chains where these exist and do not have them.
pub(super) fn make_room(host: &Host) -> Result<()> {
    for family in [Family::Ip, Family::Ip6] {
        make_room_in(host, family)
            .map_err(|source| Error::Firewall { operation: format!("add a rule to {TABLE} {CHAIN}"), source })??;
    }
    Ok(())
}

fn make_room_in(host: &Host, family: Family) -> std::io::Result<Result<()>> {
    let mut filter = match host.filter() {
        Ok(filter) => filter,
        Err(error) => return Ok(Err(error)),
    };
    if !filter.has_chain(family, TABLE, CHAIN)? {
        return Ok(Ok(()));
    }
    let ours = filter.rule_comments(family, TABLE, CHAIN)?.iter().filter(|comment| *comment == COMMENT).count();
    if ours >= 2 {
        return Ok(Ok(()));
    }
    let mut batch = Batch::new(family, TABLE);
    for meta in [Meta::OutName, Meta::InName] {
        let rule = [
            Expression::Meta(meta, FIRST),
            Expression::Equal(PREFIX.to_vec()),
            Expression::Counter,
            Expression::Accept,
        ];
        batch.insert_rule(CHAIN, &rule, COMMENT);
    }
    filter.commit(batch)?;
    Ok(Ok(()))
}
