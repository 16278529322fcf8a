//! Flags of `docker run` that few people type, and those that mean nothing here.

use std::net::IpAddr;
use std::path::PathBuf;

use super::container::replace;
use crate::base::units::parse_bytes;
use crate::cli::{Failure, Mistake};
use crate::engine::cdi;
use crate::engine::request::Request;
use crate::model::container::{BlockLimits, NamespaceMode, NetworkMode};

/// Flags that refine what a container is and may do.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "More")]
pub struct MoreFlags {
    /// File of labels
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Domain name inside
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// IPv4 address in the network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address in the network
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Hardware address
    #[arg(long, value_name = "ADDRESS")]
    mac_address: Option<String>,
    /// Search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Option of resolv.conf
    #[arg(long, value_name = "OPTION", visible_alias = "dns-opt")]
    dns_option: Vec<String>,
    /// Volumes of another container
    #[arg(long, value_name = "CONTAINER[:ro|rw]")]
    pub volumes_from: Vec<String>,
    /// File that gets the container's id
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// How readily memory is swapped, 0 to 100
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    memory_swappiness: Option<i64>,
    /// Do not kill when memory runs out
    #[arg(long)]
    oom_kill_disable: bool,
    /// How likely it is killed when the host's memory runs out, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
    /// Rule for devices: c 42:* rmw
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,
    /// Control group to make the container's in, instead of wharf's own
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    /// Control group namespace: host or private
    #[arg(long, value_name = "MODE")]
    cgroupns: Option<String>,
    /// User namespace: host, auto (root inside is nobody outside), auto:size=NUMBER or container:NAME
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Time between health checks in the start period
    #[arg(long, value_name = "DURATION")]
    pub health_start_interval: Option<String>,
    /// Other container to find by name
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub link: Vec<String>,
    #[arg(long, hide = true)]
    runtime: Option<String>,
    #[arg(long, hide = true)]
    disable_content_trust: bool,
    #[arg(long, hide = true)]
    volume_driver: Option<String>,
    #[arg(short, long = "attach", hide = true)]
    attach: Vec<String>,
    /// Address of the interface that nothing else knows of
    #[arg(long, value_name = "ADDRESS")]
    link_local_ip: Vec<IpAddr>,
    /// Share of the time of block devices beside others, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// The same on one device
    #[arg(long, value_name = "PATH:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Most bytes a second read from a device
    #[arg(long, value_name = "PATH:SIZE")]
    device_read_bps: Vec<String>,
    /// Most bytes a second written to a device
    #[arg(long, value_name = "PATH:SIZE")]
    device_write_bps: Vec<String>,
    /// Most operations a second of reading a device
    #[arg(long, value_name = "PATH:NUMBER")]
    device_read_iops: Vec<String>,
    /// Most operations a second of writing to a device
    #[arg(long, value_name = "PATH:NUMBER")]
    device_write_iops: Vec<String>,
    #[arg(long, hide = true)]
    annotation: Vec<String>,
    #[arg(long, hide = true)]
    isolation: Option<String>,
    #[arg(long, hide = true)]
    kernel_memory: Option<String>,
    #[arg(long, hide = true)]
    storage_opt: Vec<String>,
    #[arg(long, hide = true)]
    use_api_socket: bool,
    /// GPUs: all, a number, or device=ID
    #[arg(long, value_name = "REQUEST")]
    gpus: Option<String>,
}

impl MoreFlags {
    /// Lays the flags over `request`.
    pub fn apply(&self, request: &mut Request) -> Result<(), Failure> {
        for file in &self.label_file {
            let set = super::environment_file(file)?.into_iter();
            request.labels.extend(set.map(|(key, value)| (key, value.unwrap_or_default())));
        }
        replace(&mut request.domainname, &self.domainname);
        request.dns_search.extend(self.dns_search.iter().cloned());
        request.dns_options.extend(self.dns_option.iter().cloned());
        self.apply_limits(request)?;
        let security = &mut request.security;
        security.device_cgroup_rules.extend(self.device_cgroup_rule.iter().cloned());
        match self.cgroupns.as_deref() {
            None => {}
            Some("host") => security.cgroup = NamespaceMode::Host,
            Some("private") => security.cgroup = NamespaceMode::Private,
            Some(other) => return Err(Mistake::value("--cgroupns", other, "it takes host or private").into()),
        }
        match self.runtime.as_deref() {
            None | Some("wharf" | "runc" | "io.containerd.runc.v2" | "crun") => {}
            Some(other) => return Err(Mistake::value("--runtime", other, "wharf has its own runtime only").into()),
        }
        let gpus = self.gpus.as_deref().map(super::gpus::parse).transpose()?;
        cdi::give(&gpus.iter().collect::<Vec<_>>(), request).map_err(Failure::of_engine)?;
        self.refuse()
    }

    fn apply_limits(&self, request: &mut Request) -> Result<(), Failure> {
        let resources = &mut request.resources;
        match self.memory_swappiness {
            None | Some(-1) => {}
            Some(percent @ 0..=100) => resources.memory_swappiness = Some(percent.unsigned_abs()),
            Some(other) => {
                return Err(Mistake::value("--memory-swappiness", &other.to_string(), "it takes 0 to 100").into());
            }
        }
        match self.oom_score_adj {
            Some(score) if !(-1000..=1000).contains(&score) => {
                return Err(Mistake::value("--oom-score-adj", &score.to_string(), "it takes -1000 to 1000").into());
            }
            _ => replace(&mut resources.oom_score_adj, &self.oom_score_adj),
        }
        resources.oom_kill_disable |= self.oom_kill_disable;
        replace(&mut resources.cgroup_parent, &self.cgroup_parent.clone().filter(|parent| !parent.is_empty()));
        Ok(self.apply_block(&mut resources.block)?)
    }

    /// What Docker has and wharf has not is said, not dropped.
    fn refuse(&self) -> Result<(), Failure> {
        let given = |text: &Option<String>| text.clone().filter(|text| !matches!(text.as_str(), "" | "0" | "default"));
        let first = |list: &[String]| list.first().cloned();
        for (flag, value, reason) in [
            ("--storage-opt", first(&self.storage_opt), "the size of a container's own layer cannot be limited"),
            ("--isolation", given(&self.isolation), "it takes default"),
            ("--use-api-socket", self.use_api_socket.then(|| "true".into()), "there is no daemon, so no socket of it"),
        ] {
            if let Some(value) = value {
                return Err(Mistake::value(flag, &value, reason).into());
            }
        }
        Ok(())
    }

    fn apply_block(&self, block: &mut BlockLimits) -> Result<(), Mistake> {
        match self.blkio_weight {
            None | Some(0) => {}
            Some(weight @ 10..=1000) => block.weight = Some(weight),
            Some(other) => return Err(Mistake::value("--blkio-weight", &other.to_string(), "it takes 10 to 1000")),
        }
        for text in &self.blkio_weight_device {
            let invalid = || Mistake::value("--blkio-weight-device", text, "it takes PATH:WEIGHT, 10 to 1000");
            let (path, weight) = device_of(text).ok_or_else(invalid)?;
            let weight = weight.parse().ok().filter(|weight| (10..=1000).contains(weight)).ok_or_else(invalid)?;
            block.weights.insert(path, weight);
        }
        for (flag, texts, limits) in [
            ("--device-read-bps", &self.device_read_bps, &mut block.read_bytes),
            ("--device-write-bps", &self.device_write_bps, &mut block.write_bytes),
        ] {
            for text in texts {
                let invalid = || Mistake::value(flag, text, "it takes PATH:SIZE, such as /dev/sda:1mb");
                let (path, size) = device_of(text).ok_or_else(invalid)?;
                limits.insert(path, parse_bytes(size).map_err(|_| invalid())?);
            }
        }
        for (flag, texts, limits) in [
            ("--device-read-iops", &self.device_read_iops, &mut block.read_operations),
            ("--device-write-iops", &self.device_write_iops, &mut block.write_operations),
        ] {
            for text in texts {
                let invalid = || Mistake::value(flag, text, "it takes PATH:NUMBER, such as /dev/sda:100");
                let (path, count) = device_of(text).ok_or_else(invalid)?;
                limits.insert(path, count.parse().map_err(|_| invalid())?);
            }
        }
        Ok(())
    }

    /// Addresses in the container's first network.
    pub fn apply_addresses(&self, network: &mut NetworkMode) -> Result<(), Failure> {
        if self.ip.is_none() && self.ip6.is_none() && self.mac_address.is_none() && self.link_local_ip.is_empty() {
            return Ok(());
        }
        let NetworkMode::Networks { attachments } = network else {
            return Err(Mistake::usage("--ip, --ip6 and --mac-address need a network of the container's own").into());
        };
        let Some(attachment) = attachments.first_mut() else {
            return Err(Mistake::usage("--ip, --ip6 and --mac-address need a network").into());
        };
        let parse = |flag, text: &String| -> Result<IpAddr, Mistake> {
            text.parse().map_err(|_| Mistake::value(flag, text, "it takes an address"))
        };
        if let Some(text) = &self.ip {
            match parse("--ip", text)? {
                IpAddr::V4(address) => attachment.ipv4 = Some(address),
                IpAddr::V6(_) => return Err(Mistake::value("--ip", text, "it takes an IPv4 address; see --ip6").into()),
            }
        }
        if let Some(text) = &self.ip6 {
            match parse("--ip6", text)? {
                IpAddr::V6(address) => attachment.ipv6 = Some(address),
                IpAddr::V4(_) => return Err(Mistake::value("--ip6", text, "it takes an IPv6 address; see --ip").into()),
            }
        }
        replace(&mut attachment.mac, &self.mac_address);
        attachment.link_local.extend(&self.link_local_ip);
        Ok(())
    }
}

/// `/dev/sda:1mb`.
fn device_of(text: &str) -> Option<(PathBuf, &str)> {
    let (path, value) = text.rsplit_once(':')?;
    path.starts_with("/dev/").then(|| (path.into(), value))
}
