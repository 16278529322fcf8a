//! `--network`, as a name or in long form, any number of times.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::cli::{Failure, Mistake};
use crate::engine::Engine;
use crate::model::container::NetworkMode;
use crate::model::network::Attachment;

/// One `--network`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    name: String,
    aliases: Vec<String>,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    mac: Option<String>,
    interface: Option<String>,
    gateway_priority: i64,
}

/// The driver option that names an interface.
const INTERFACE: &str = "com.docker.network.endpoint.ifname";

impl Wish {
    /// Reads `NETWORK`, or `name=NETWORK,alias=NAME,ip=ADDRESS,…`.
    fn parse(text: &str) -> Result<Self, Mistake> {
        if !text.contains('=') {
            return Ok(Self { name: text.to_owned(), ..Self::default() });
        }
        let invalid = |reason: &str| Mistake::value("--network", text, reason);
        let mut wish = Self::default();
        for field in text.split(',') {
            let (key, value) = field.split_once('=').ok_or_else(|| invalid("its fields are KEY=VALUE"))?;
            match key {
                "name" => value.clone_into(&mut wish.name),
                "alias" => wish.aliases.push(value.to_owned()),
                "ip" => wish.ipv4 = Some(value.parse().map_err(|_| invalid("`ip` takes an IPv4 address"))?),
                "ip6" => wish.ipv6 = Some(value.parse().map_err(|_| invalid("`ip6` takes an IPv6 address"))?),
                "mac-address" => wish.mac = Some(value.to_owned()),
                "gw-priority" => {
                    wish.gateway_priority = value.parse().map_err(|_| invalid("`gw-priority` takes a number"))?;
                }
                "driver-opt" => match value.split_once('=') {
                    Some((INTERFACE, name)) => wish.interface = Some(name.to_owned()),
                    _ => return Err(invalid("the driver has the option com.docker.network.endpoint.ifname only")),
                },
                _ => {
                    let reason = "it has the fields name, alias, ip, ip6, mac-address, gw-priority and driver-opt";
                    return Err(invalid(reason));
                }
            }
        }
        if wish.name.is_empty() {
            return Err(invalid("the field `name` says which network"));
        }
        Ok(wish)
    }

    fn apply(self, attachment: &mut Attachment) {
        attachment.aliases.extend(self.aliases);
        attachment.ipv4 = self.ipv4;
        attachment.ipv6 = self.ipv6;
        attachment.mac = self.mac;
        attachment.interface = self.interface;
        attachment.gateway_priority = self.gateway_priority;
    }
}

/// The networks that flags ask for; without any, the default one. `aliases` are names in the first.
pub fn mode(engine: &Engine, flags: &[String], aliases: &[String]) -> Result<NetworkMode, Failure> {
    let mut wishes = flags.iter().map(|text| Wish::parse(text)).collect::<Result<Vec<_>, _>>()?.into_iter();
    let Some(first) = wishes.next() else { return Ok(engine.network_mode_by_name(None, aliases)?) };
    let mut mode = engine.network_mode_by_name(Some(&first.name), aliases)?;
    if let NetworkMode::Networks { attachments } = &mut mode
        && let Some(attachment) = attachments.first_mut()
    {
        first.apply(attachment);
    }
    for wish in wishes {
        let further = engine.network_mode_by_name(Some(&wish.name), &[])?;
        let (NetworkMode::Networks { attachments }, NetworkMode::Networks { attachments: mut more }) =
            (&mut mode, further)
        else {
            let text = "none, host and container:NAME are networks alone: they go with no other --network";
            return Err(Mistake::usage(text).into());
        };
        if let Some(mut attachment) = more.pop() {
            if attachments.iter().any(|known| known.network == attachment.network) {
                return Err(Mistake::value("--network", &wish.name, "it is given twice").into());
            }
            wish.apply(&mut attachment);
            attachments.push(attachment);
        }
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_name_or_fields() {
        assert_eq!(Wish::parse("back").map(|wish| wish.name).ok(), Some("back".into()));
        let wish = Wish::parse("name=back,alias=a,alias=b,ip=10.1.2.3,gw-priority=5").expect("good fields");
        assert_eq!((wish.aliases.len(), wish.ipv4, wish.gateway_priority), (2, Some(Ipv4Addr::new(10, 1, 2, 3)), 5));
        for bad in ["alias=a", "name=x,ip=y", "name=x,colour=red", "name=x,driver-opt=a=b"] {
            assert!(Wish::parse(bad).is_err(), "{bad}");
        }
    }
}
