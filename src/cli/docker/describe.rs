//! What exists, in Docker's JSON.
//!
//! Source of the keys: moby `api/types/container`, `api/types/volume`, `api/types/network`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::base::id::{ContainerId, Digest, NetworkId};
use crate::cli::Failure;
use crate::cli::members::{InScope, Member};
use crate::cli::show::container;
use crate::cli::show::time::nanosecond_time;
use crate::model::container::{
    ContainerSpec, ContainerState, HealthStatus, Mount, MountSource, NamespaceMode, NetworkMode, RestartPolicy,
    Seccomp, Status, UserNamespaceMode,
};
use crate::model::network::{Attachment, NetworkRecord};
use crate::model::volume::VolumeRecord;
use crate::store::Store;

/// What Docker says of a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A container.
pub fn container(scope: &InScope, member: &Member, with_size: bool) -> Result<Value, Failure> {
    let (spec, state) = (&member.spec, &member.state);
    let store = scope.engine.store();
    let containers = store.containers();
    let etc = containers.etc_folder(&spec.id);
    let (path, args) = spec.process.args.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    let mut value = json!({
        "Id": spec.id,
        "Created": nanosecond_time(spec.created),
        "Path": path,
        "Args": args,
        "State": state_of(state),
        "Image": spec.image_id,
        "ResolvConfPath": etc.join("resolv.conf"),
        "HostnamePath": etc.join("hostname"),
        "HostsPath": etc.join("hosts"),
        "LogPath": containers.logs_folder(&spec.id),
        "Name": format!("/{}", spec.name),
        "RestartCount": state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": crate::runtime::apparmor::name_of(&spec.security),
        "ExecIDs": null,
        "HostConfig": host_config(spec),
        "GraphDriver": {
            "Name": "overlay2",
            "Data": {
                "ID": spec.id,
                "LowerDir": lower_folders(store, spec),
                "MergedDir": root_of(state),
                "UpperDir": containers.upper_folder(&spec.id),
                "WorkDir": containers.work_folder(&spec.id),
            },
        },
        "Mounts": spec.mounts.iter().map(|mount| mount_of(store, mount)).collect::<Vec<_>>(),
        "Config": config(spec),
        "NetworkSettings": network_settings(scope, spec, state),
    });
    if with_size {
        let layers: u64 = spec.layers.iter().filter_map(|layer| store.layers().size_bytes(layer).ok()).sum();
        let own = crate::base::fs::tree_bytes(&containers.upper_folder(&spec.id));
        value["SizeRw"] = own.into();
        value["SizeRootFs"] = (layers + own).into();
    }
    Ok(value)
}

/// The layers below a container's own, the top-most first, as overlayfs takes them.
fn lower_folders(store: &Store, spec: &ContainerSpec) -> String {
    let folders = spec.layers.iter().rev().map(|layer| store.layers().path(layer).display().to_string());
    folders.collect::<Vec<_>>().join(":")
}

fn first_process(state: &ContainerState) -> Option<i32> {
    let up = matches!(state.status, Status::Running | Status::Paused);
    state.process.filter(|_| up).map(|process| process.pid)
}

/// Where the host sees the files of a running container: nothing is mounted for it outside.
fn root_of(state: &ContainerState) -> String {
    first_process(state).map(|pid| format!("/proc/{pid}/root")).unwrap_or_default()
}

/// A name for a container's place in a network that nobody else has.
fn endpoint_id(container: &ContainerId, network: &NetworkId) -> String {
    Digest::of(format!("{container} {network}").as_bytes()).hex().to_owned()
}

fn state_of(state: &ContainerState) -> Value {
    let time = |time: Option<Timestamp>| time.map_or_else(|| NEVER.to_owned(), nanosecond_time);
    let up = matches!(state.status, Status::Running | Status::Paused);
    let mut value = json!({
        "Status": state.status,
        "Running": up || state.status == Status::Restarting,
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == Status::Dead,
        "Pid": first_process(state).unwrap_or(0),
        "ExitCode": state.exit_code,
        "Error": state.error.clone().unwrap_or_default(),
        "StartedAt": time(state.started_at),
        "FinishedAt": time(state.finished_at),
    });
    if let Some(health) = &state.health {
        let status = match health.status {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        };
        let log: Vec<Value> = health
            .log
            .iter()
            .map(|probe| {
                json!({"Start": nanosecond_time(probe.start), "End": nanosecond_time(probe.end),
                    "ExitCode": probe.exit_code, "Output": probe.output})
            })
            .collect();
        value["Health"] = json!({"Status": status, "FailingStreak": health.failing_streak, "Log": log});
    }
    value
}

fn config(spec: &ContainerSpec) -> Value {
    let process = &spec.process;
    let published = spec.ports.iter().map(|port| format!("{}/{}", port.container_port, port.protocol));
    let exposed: BTreeMap<String, Value> =
        spec.exposed_ports.iter().cloned().chain(published).map(|port| (port, json!({}))).collect();
    let (entrypoint, command) = spec.entrypoint_and_command();
    let volumes: BTreeMap<&String, Value> = spec
        .mounts
        .iter()
        .filter(|mount| matches!(mount.source, MountSource::Volume { anonymous: true, .. }))
        .map(|mount| (&mount.target, json!({})))
        .collect();
    let mut value = json!({
        "Hostname": spec.hostname,
        "Domainname": spec.domainname.clone().unwrap_or_default(),
        "User": process.user,
        "AttachStdin": process.stdin_open,
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": process.terminal,
        "OpenStdin": process.stdin_open,
        "StdinOnce": process.stdin_open,
        "Env": process.env,
        "Cmd": list_or_null(command),
        "Image": spec.image,
        "Volumes": if volumes.is_empty() { Value::Null } else { json!(volumes) },
        "WorkingDir": process.cwd,
        "Entrypoint": list_or_null(entrypoint),
        "OnBuild": null,
        "Labels": spec.labels,
        "StopSignal": crate::engine::signal::name(spec.stop_signal),
        "StopTimeout": spec.stop_timeout_ms / 1000,
    });
    if !exposed.is_empty() {
        value["ExposedPorts"] = json!(exposed);
    }
    if let Some(check) = &spec.healthcheck {
        let nanoseconds = |ms: u64| ms.saturating_mul(1_000_000);
        let test: Vec<&str> = match check.args.as_slice() {
            [shell, flag, text] if shell == "/bin/sh" && flag == "-c" => vec!["CMD-SHELL", text],
            words => std::iter::once("CMD").chain(words.iter().map(String::as_str)).collect(),
        };
        value["Healthcheck"] = json!({"Test": test, "Interval": nanoseconds(check.interval_ms),
            "Timeout": nanoseconds(check.timeout_ms), "StartPeriod": nanoseconds(check.start_period_ms),
            "StartInterval": nanoseconds(check.start_interval_ms), "Retries": check.retries});
    }
    value
}

fn host_config(spec: &ContainerSpec) -> Value {
    let (security, resources) = (&spec.security, &spec.resources);
    let binds: Vec<String> = spec
        .mounts
        .iter()
        .filter_map(|mount| {
            let source = match &mount.source {
                MountSource::Bind { path, .. } => path.display().to_string(),
                MountSource::Volume { name, anonymous: false, .. } => name.clone(),
                _ => return None,
            };
            Some(format!("{source}:{}{}", mount.target, if mount.read_only { ":ro" } else { "" }))
        })
        .collect();
    let mut ports: Map<String, Value> = Map::new();
    for port in &spec.ports {
        let host = json!({"HostIp": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            "HostPort": port.host_port.map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            }).unwrap_or_default()});
        if let Value::Array(list) =
            ports.entry(format!("{}/{}", port.container_port, port.protocol)).or_insert_with(|| json!([]))
        {
            list.push(host);
        }
    }
    let (restart, count) = match spec.restart {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure(count) => ("on-failure", count),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    };
    let mut options: Vec<String> = Vec::new();
    if security.no_new_privileges {
        options.push("no-new-privileges".into());
    }
    options.extend(security.apparmor.iter().map(|profile| format!("apparmor={profile}")));
    match &security.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".into()),
        Seccomp::Profile(profile) => options.push(format!("seccomp={profile}")),
    }
    let devices: Vec<Value> = security
        .devices
        .iter()
        .map(|device| {
            json!({"PathOnHost": device.source, "PathInContainer": device.target,
                "CgroupPermissions": device.permissions})
        })
        .collect();
    let ulimits: Vec<Value> =
        spec.ulimits.iter().map(|(name, (soft, hard))| json!({"Name": name, "Soft": soft, "Hard": hard})).collect();
    let nano_cpus = resources.cpus.map_or(0, |cpus| (cpus * 1e9) as i64);
    let limits = json!({
        "ShmSize": spec.shm_size_bytes,
        "Sysctls": spec.sysctls,
        "Runtime": "wharf",
        "CpuShares": resources.cpu_shares.unwrap_or(0),
        "Memory": resources.memory_bytes.unwrap_or(0),
        "NanoCpus": nano_cpus,
        "CpuPeriod": resources.cpu_period_us.unwrap_or(0),
        "CpuQuota": resources.cpu_quota_us.unwrap_or(0),
        "CpuRealtimePeriod": resources.cpu_rt_period_us.unwrap_or(0),
        "CpuRealtimeRuntime": resources.cpu_rt_runtime_us.unwrap_or(0),
        "CgroupParent": resources.cgroup_parent.clone().unwrap_or_default(),
        "CpusetCpus": resources.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": resources.cpuset_mems.clone().unwrap_or_default(),
        "Devices": devices,
        "DeviceCgroupRules": list_or_null(&security.device_cgroup_rules),
        "MemoryReservation": resources.memory_reservation_bytes.unwrap_or(0),
        "MemorySwap": resources.memory_swap_bytes.unwrap_or_else(|| twice(resources.memory_bytes)),
        "MemorySwappiness": resources.memory_swappiness,
        "OomKillDisable": resources.oom_kill_disable,
        "PidsLimit": resources.pids,
        "Ulimits": ulimits,
        "BlkioWeight": resources.block.weight.unwrap_or(0),
        "BlkioWeightDevice": per_device("Weight", &resources.block.weights),
        "BlkioDeviceReadBps": per_device("Rate", &resources.block.read_bytes),
        "BlkioDeviceWriteBps": per_device("Rate", &resources.block.write_bytes),
        "BlkioDeviceReadIOps": per_device("Rate", &resources.block.read_operations),
        "BlkioDeviceWriteIOps": per_device("Rate", &resources.block.write_operations),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "DeviceRequests": null,
    });
    let (masked, read_only) = match security.privileged || security.unmasked {
        true => (Value::Null, Value::Null),
        false => (json!(crate::runtime::MASKED), json!(crate::runtime::READ_ONLY)),
    };
    let mut value = json!({
        "Binds": if binds.is_empty() { Value::Null } else { json!(binds) },
        "ContainerIDFile": "",
        "LogConfig": {
            "Type": if spec.logging.enabled { "json-file" } else { "none" },
            "Config": {"max-size": spec.logging.max_size_bytes.to_string(),
                "max-file": spec.logging.max_files.to_string()},
        },
        "NetworkMode": network_mode(&spec.network),
        "PortBindings": ports,
        "RestartPolicy": {"Name": restart, "MaximumRetryCount": count},
        "AutoRemove": spec.auto_remove,
        "CapAdd": capabilities(&security.cap_add),
        "CapDrop": capabilities(&security.cap_drop),
        "Cgroup": "",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "Links": links(spec),
        "MaskedPaths": masked,
        "ReadonlyPaths": read_only,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "CgroupnsMode": namespace(&security.cgroup, "private"),
        "Dns": spec.dns,
        "DnsOptions": spec.dns_options,
        "DnsSearch": spec.dns_search,
        "ExtraHosts": list_or_null(&spec.extra_hosts),
        "GroupAdd": list_or_null(&spec.process.additional_groups),
        "IpcMode": namespace(&security.ipc, "private"),
        "OomScoreAdj": resources.oom_score_adj.unwrap_or(0),
        "PidMode": namespace(&security.pid, ""),
        "Privileged": security.privileged,
        "PublishAllPorts": false,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": list_or_null(&options),
        "UTSMode": namespace(&security.uts, ""),
        "UsernsMode": user_namespace(&security.user),
        "Init": spec.init,
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut value, limits) {
        all.extend(more);
    }
    value
}

/// The swap of a container whose memory alone is limited: memory and as much again.
fn twice(memory: Option<u64>) -> i64 {
    memory.map_or(0, |bytes| i64::try_from(bytes.saturating_mul(2)).unwrap_or(i64::MAX))
}

fn per_device<N: serde::Serialize>(key: &str, limits: &BTreeMap<std::path::PathBuf, N>) -> Value {
    limits.iter().map(|(path, limit)| json!({"Path": path, key: limit})).collect()
}

/// Docker's spelling: `CAP_NET_ADMIN`, whatever was typed.
fn capabilities(names: &[String]) -> Value {
    let full = |name: &String| match name.to_ascii_uppercase() {
        all if all == "ALL" => all,
        name if name.starts_with("CAP_") => name,
        name => format!("CAP_{name}"),
    };
    list_or_null(&names.iter().map(full).collect::<Vec<_>>())
}

/// `/other:/own/alias`.
fn links(spec: &ContainerSpec) -> Value {
    let NetworkMode::Networks { attachments } = &spec.network else { return Value::Null };
    let all = attachments.iter().flat_map(|attachment| &attachment.links);
    let links: BTreeSet<String> = all.map(|(alias, name)| format!("/{name}:/{}/{alias}", spec.name)).collect();
    if links.is_empty() { Value::Null } else { json!(links) }
}

fn list_or_null(list: &[String]) -> Value {
    if list.is_empty() { Value::Null } else { json!(list) }
}

fn namespace(mode: &NamespaceMode, private: &str) -> String {
    match mode {
        NamespaceMode::Private => private.to_owned(),
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(id) => format!("container:{id}"),
    }
}

fn user_namespace(mode: &UserNamespaceMode) -> String {
    match mode {
        UserNamespaceMode::Host => String::new(),
        UserNamespaceMode::Auto { size: None } => "auto".to_owned(),
        UserNamespaceMode::Auto { size: Some(size) } => format!("auto:size={size}"),
        UserNamespaceMode::Container(id) => format!("container:{id}"),
    }
}

fn network_mode(network: &NetworkMode) -> String {
    match network {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container { id } => format!("container:{id}"),
        NetworkMode::Networks { attachments } => {
            attachments.first().map(|attachment| attachment.network_name.clone()).unwrap_or_default()
        }
    }
}

fn mount_of(store: &Store, mount: &Mount) -> Value {
    let (kind, name, source) = match &mount.source {
        MountSource::Bind { path, .. } => ("bind", None, path.display().to_string()),
        MountSource::Volume { name, .. } => {
            ("volume", Some(name), store.volumes().data_folder(name).display().to_string())
        }
        MountSource::Tmpfs { .. } => ("tmpfs", None, String::new()),
        MountSource::Image { .. } => ("image", None, String::new()),
    };
    let propagation = match &mount.source {
        MountSource::Bind { propagation, .. } => propagation.clone().unwrap_or_else(|| "rprivate".to_owned()),
        _ => String::new(),
    };
    let mode = match (&mount.source, mount.read_only) {
        (MountSource::Bind { .. } | MountSource::Volume { .. }, true) => "ro",
        (MountSource::Volume { .. }, false) => "z",
        _ => "",
    };
    let mut value = json!({"Type": kind, "Source": source, "Destination": mount.target, "Mode": mode,
        "RW": !mount.read_only, "Propagation": propagation});
    if let Some(name) = name {
        value["Name"] = json!(name);
        value["Driver"] = json!("local");
    }
    value
}

fn network_settings(scope: &InScope, spec: &ContainerSpec, state: &ContainerState) -> Value {
    let mut ports: Map<String, Value> = Map::new();
    let up = matches!(state.status, Status::Running | Status::Paused);
    if up {
        for port in &spec.exposed_ports {
            ports.insert(port.clone(), Value::Null);
        }
        for port in container::publishers(state) {
            let host = json!({"HostIp": port.host_ip.to_string(), "HostPort": port.host_port.to_string()});
            let entry = ports.entry(format!("{}/{}", port.container_port, port.protocol)).or_insert(Value::Null);
            match entry {
                Value::Array(list) => list.push(host),
                other => *other = json!([host]),
            }
        }
    }
    let attachments = match &spec.network {
        NetworkMode::Networks { attachments } => attachments.as_slice(),
        _ => &[],
    };
    let mut networks: Map<String, Value> = Map::new();
    for attachment in attachments {
        let endpoint = state.addresses.iter().find(|endpoint| up && endpoint.network == attachment.network);
        let gateway = |v6: bool| {
            let gateways = endpoint.map_or(&[][..], |endpoint| endpoint.gateways.as_slice());
            gateways.iter().find(|ip| ip.is_ipv6() == v6).map(ToString::to_string).unwrap_or_default()
        };
        let (ipv4, ipv6) = (endpoint.and_then(|e| e.ipv4), endpoint.and_then(|e| e.ipv6));
        networks.insert(
            attachment.network_name.clone(),
            json!({
                "IPAMConfig": wished_addresses(attachment),
                "Links": null,
                "Aliases": list_or_null(&attachment.aliases),
                "MacAddress": endpoint.map(|e| e.mac.clone()).unwrap_or_default(),
                "DriverOpts": null,
                "GwPriority": attachment.gateway_priority,
                "NetworkID": attachment.network,
                "EndpointID": endpoint.map(|e| endpoint_id(&spec.id, &e.network)).unwrap_or_default(),
                "Gateway": gateway(false),
                "IPAddress": ipv4.map(|(ip, _)| ip.to_string()).unwrap_or_default(),
                "IPPrefixLen": ipv4.map_or(0, |(_, prefix)| prefix),
                "IPv6Gateway": gateway(true),
                "GlobalIPv6Address": ipv6.map(|(ip, _)| ip.to_string()).unwrap_or_default(),
                "GlobalIPv6PrefixLen": ipv6.map_or(0, |(_, prefix)| prefix),
                "DNSNames": endpoint.map(|e| e.names.clone()),
            }),
        );
    }
    // Docker keeps the addresses of its default network here as well.
    let default = networks.get(crate::net::network::DEFAULT_NAME).cloned().unwrap_or_default();
    let text = |key: &str| default.get(key).cloned().unwrap_or_else(|| json!(""));
    let number = |key: &str| default.get(key).cloned().unwrap_or_else(|| json!(0));
    let bridge = attachments.first().and_then(|a| scope.engine.network_by_name(a.network.as_str()).ok());
    json!({
        "Bridge": bridge.map(|network| network.bridge).unwrap_or_default(),
        "SandboxID": if up { spec.id.as_str() } else { "" },
        "SandboxKey": first_process(state).map(|pid| format!("/proc/{pid}/ns/net")).unwrap_or_default(),
        "Ports": ports,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": text("EndpointID"),
        "Gateway": text("Gateway"),
        "GlobalIPv6Address": text("GlobalIPv6Address"),
        "GlobalIPv6PrefixLen": number("GlobalIPv6PrefixLen"),
        "IPAddress": text("IPAddress"),
        "IPPrefixLen": number("IPPrefixLen"),
        "IPv6Gateway": text("IPv6Gateway"),
        "MacAddress": text("MacAddress"),
        "Networks": networks,
    })
}

/// The addresses that were asked for.
fn wished_addresses(attachment: &Attachment) -> Value {
    let mut wished = Map::new();
    if let Some(address) = attachment.ipv4 {
        wished.insert("IPv4Address".into(), json!(address));
    }
    if let Some(address) = attachment.ipv6 {
        wished.insert("IPv6Address".into(), json!(address));
    }
    if !attachment.link_local.is_empty() {
        wished.insert("LinkLocalIPs".into(), json!(attachment.link_local));
    }
    if wished.is_empty() { Value::Null } else { Value::Object(wished) }
}

/// A volume.
pub fn volume(store: &Store, volume: &VolumeRecord) -> Value {
    json!({
        "CreatedAt": volume.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "Driver": "local",
        "Labels": if volume.labels.is_empty() { Value::Null } else { json!(volume.labels) },
        "Mountpoint": store.volumes().data_folder(&volume.name),
        "Name": volume.name,
        "Options": if volume.options.is_empty() { Value::Null } else { json!(volume.options) },
        "Scope": "local",
    })
}

/// A network with the containers that run in it.
pub fn network(scope: &InScope, network: &NetworkRecord) -> Value {
    let ipam: Vec<Value> = network
        .subnets
        .iter()
        .map(|subnet| {
            json!({"Subnet": format!("{}/{}", subnet.address, subnet.prefix), "Gateway": subnet.gateway.to_string()})
        })
        .collect();
    let mut containers: Map<String, Value> = Map::new();
    for member in scope.all().iter().filter(|member| member.is_up()) {
        for endpoint in member.state.addresses.iter().filter(|endpoint| endpoint.network == network.id) {
            containers.insert(
                member.spec.id.to_string(),
                json!({
                    "Name": member.spec.name,
                    "EndpointID": endpoint_id(&member.spec.id, &network.id),
                    "MacAddress": endpoint.mac,
                    "IPv4Address": endpoint.ipv4.map(|(ip, prefix)| format!("{ip}/{prefix}")).unwrap_or_default(),
                    "IPv6Address": endpoint.ipv6.map(|(ip, prefix)| format!("{ip}/{prefix}")).unwrap_or_default(),
                }),
            );
        }
    }
    let is_default = network.name == crate::net::network::DEFAULT_NAME;
    let mut options = network.options.clone();
    if is_default {
        for (key, value) in [
            ("bridge.default_bridge", "true".to_owned()),
            ("bridge.enable_icc", "true".to_owned()),
            ("bridge.enable_ip_masquerade", "true".to_owned()),
            ("bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
            ("bridge.name", network.bridge.clone()),
            ("driver.mtu", network.mtu.to_string()),
        ] {
            options.entry(format!("com.docker.network.{key}")).or_insert(value);
        }
    }
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": nanosecond_time(network.created),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": network.subnets.iter().any(|subnet| subnet.address.is_ipv4()),
        "EnableIPv6": network.subnets.iter().any(|subnet| subnet.address.is_ipv6()),
        "IPAM": {"Driver": "default", "Options": if is_default { Value::Null } else { json!({}) }, "Config": ipam},
        "Internal": network.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers,
        "Options": options,
        "Labels": network.labels,
    })
}

/// The networks that are none: the mode of a container, and what Docker says drives it.
pub const MODES: [(&str, &str); 2] = [("host", "host"), ("none", "null")];

/// The id that `host` and `none` have in Docker's lists.
pub fn mode_id(name: &str) -> String {
    Digest::of(name.as_bytes()).hex().to_owned()
}

/// `host` or `none`, with the containers that run in it. `None`: it is neither.
pub fn network_mode_of(scope: &InScope, name: &str) -> Option<Value> {
    let (name, driver) = MODES.into_iter().find(|(known, _)| *known == name)?;
    let is_in = |mode: &NetworkMode| match mode {
        NetworkMode::Host => name == "host",
        NetworkMode::None => name == "none",
        _ => false,
    };
    let containers: Map<String, Value> = scope
        .all()
        .iter()
        .filter(|member| member.is_up() && is_in(&member.spec.network))
        .map(|member| {
            let value = json!({"Name": member.spec.name, "EndpointID": "", "MacAddress": "", "IPv4Address": "",
                "IPv6Address": ""});
            (member.spec.id.to_string(), value)
        })
        .collect();
    Some(json!({
        "Name": name,
        "Id": mode_id(name),
        "Created": NEVER,
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null, "Config": null},
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": false,
        "Containers": containers,
        "Options": {},
        "Labels": {},
    }))
}
