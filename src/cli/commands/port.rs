use std::io::Write;

use crate::cli::members::Member;
use crate::cli::show::container;
use crate::cli::{Context, Mistake, Outcome};
use crate::model::container::PublishedPort;

/// Show where a port of a service or container is published
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A service, or a container
    target: String,
    /// The port inside, `80` or `80/udp`; all when left out
    private_port: Option<String>,
    /// Which replica of the service
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// tcp or udp
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp", hide_default_value = true)]
    protocol: String,
}

/// Prints the addresses, one a line.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scope = context.in_scope()?;
    let member = match context.docker {
        // A stopped container publishes nothing, which is no mistake.
        true => scope.container(&args.target)?,
        false => scope.running(context, &args.target, args.index)?,
    };
    let ports = container::publishers(&member.state);
    let mut out = context.output();
    match &args.private_port {
        None => {
            for port in &ports {
                writeln!(out, "{}/{} -> {}", port.container_port, port.protocol, address(port))?;
            }
        }
        Some(text) => {
            let (port, protocol) = wanted(text, &args.protocol)?;
            let addresses = addresses(member, &ports, port, &protocol)?;
            // Of a service, Compose tells one address, of a container Docker tells all.
            let is_service = args.target != member.spec.name && !member.spec.id.as_str().starts_with(&args.target);
            for address in &addresses[..if is_service { 1 } else { addresses.len() }] {
                writeln!(out, "{address}")?;
            }
        }
    }
    out.flush()?;
    Ok(0)
}

fn wanted(text: &str, protocol: &str) -> Result<(u16, String), Mistake> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, protocol));
    let port = port.parse().map_err(|_| Mistake::value("PRIVATE_PORT", text, "a port is a number from 1 to 65535"))?;
    Ok((port, protocol.to_ascii_lowercase()))
}

fn addresses(member: &Member, ports: &[PublishedPort], port: u16, protocol: &str) -> Result<Vec<String>, Mistake> {
    let found: Vec<String> = ports
        .iter()
        .filter(|other| other.container_port == port && other.protocol.to_string() == protocol)
        .map(address)
        .collect();
    if found.is_empty() {
        let container = member.spec.name.clone();
        return Err(Mistake::NotPublished { container, port, protocol: protocol.to_owned() });
    }
    Ok(found)
}

fn address(port: &PublishedPort) -> String {
    format!("{}:{}", container::bracketed(port.host_ip), port.host_port)
}
