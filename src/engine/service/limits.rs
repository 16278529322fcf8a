//! What a service may do, and how much of the host it may take.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::values::{bytes, plain};
use crate::engine::{Error, Result};
use crate::model::container::{BlockLimits, DeviceMapping, Resources, Seccomp, Security};
use crate::model::project::{BlkioRate, Service, Ulimit};

pub(super) fn security(service: &Service) -> Result<Security> {
    let mut security = Security {
        privileged: service.privileged,
        cap_add: service.cap_add.clone(),
        cap_drop: service.cap_drop.clone(),
        devices: service
            .devices
            .iter()
            .map(|device| DeviceMapping {
                source: PathBuf::from(&device.source),
                target: PathBuf::from(device.target.as_ref().unwrap_or(&device.source)),
                permissions: device.permissions.clone().unwrap_or_else(|| "rwm".into()),
            })
            .collect(),
        device_cgroup_rules: service.device_cgroup_rules.clone(),
        ..Security::default()
    };
    for option in &service.security_opt {
        apply_security_option(&mut security, option)?;
    }
    Ok(security)
}

/// Applies one `security_opt`.
pub fn apply_security_option(security: &mut Security, option: &str) -> Result<()> {
    let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        ("no-new-privileges", "false") => security.no_new_privileges = false,
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("seccomp", "" | "builtin") => security.seccomp = Seccomp::Default,
        ("seccomp", path) => {
            const PROFILE_SIZE_MAX: u64 = 4 << 20;
            let profile = crate::base::fs::read_limited(path.as_ref(), PROFILE_SIZE_MAX)?;
            security.seccomp = Seccomp::Profile(String::from_utf8_lossy(&profile).into_owned());
        }
        ("systempaths", "unconfined") => security.unmasked = true,
        ("apparmor", "") => {}
        ("apparmor", profile) => security.apparmor = Some(profile.to_owned()),
        // As in a Docker whose host has no SELinux: taken, and there is nothing to label.
        ("label", _) => {}
        _ => {
            let expected = "no-new-privileges, seccomp=…, apparmor=…, label=… or systempaths=unconfined".to_owned();
            return Err(Error::Value { what: "security_opt".into(), value: option.to_owned(), expected });
        }
    }
    Ok(())
}

pub(super) fn resources(service: &Service, deploy: Option<&crate::model::project::Resources>) -> Result<Resources> {
    let limits = deploy.and_then(|resources| resources.limits.as_ref());
    let reservations = deploy.and_then(|resources| resources.reservations.as_ref());
    let memory = service.mem_limit.as_ref().or(limits.and_then(|limits| limits.memory.as_ref()));
    let reservation = service.mem_reservation.as_ref().or(reservations.and_then(|amount| amount.memory.as_ref()));
    let cpus =
        service.cpus.or(limits.and_then(|limits| limits.cpus.as_ref()).and_then(|cpus| plain(cpus).parse().ok()));
    let number = |value: &Option<serde_json::Value>| value.as_ref().and_then(|value| plain(value).parse().ok());
    Ok(Resources {
        memory_bytes: memory.map(|text| bytes("mem_limit", text)).transpose()?.filter(|bytes| *bytes > 0),
        memory_reservation_bytes: reservation
            .map(|text| bytes("mem_reservation", text))
            .transpose()?
            .filter(|bytes| *bytes > 0),
        memory_swap_bytes: match service.memswap_limit.as_deref() {
            None => None,
            Some("-1") => Some(-1),
            Some(text) => i64::try_from(bytes("memswap_limit", text)?).ok().filter(|bytes| *bytes != 0),
        },
        memory_swappiness: number(&service.mem_swappiness),
        oom_kill_disable: service.oom_kill_disable.unwrap_or(false),
        oom_score_adj: service.oom_score_adj.and_then(|score| i32::try_from(score).ok()),
        cpus: cpus.filter(|cpus| *cpus > 0.0),
        cpu_shares: number(&service.cpu_shares),
        cpu_quota_us: service.cpu_quota.as_ref().and_then(|value| plain(value).parse().ok()),
        cpu_period_us: number(&service.cpu_period),
        cpu_rt_period_us: number(&service.cpu_rt_period),
        cpu_rt_runtime_us: service.cpu_rt_runtime.as_ref().and_then(|value| plain(value).parse().ok()),
        cgroup_parent: service.cgroup_parent.clone().filter(|parent| !parent.is_empty()),
        cpuset_cpus: service.cpuset.clone(),
        cpuset_mems: None,
        block: block_limits(service)?,
        pids: service.pids_limit.or(limits.and_then(|limits| limits.pids)).filter(|pids| *pids != 0),
    })
}

pub(super) fn block_limits(service: &Service) -> Result<BlockLimits> {
    let Some(config) = &service.blkio_config else { return Ok(BlockLimits::default()) };
    let rates = |list: &[BlkioRate]| -> Result<BTreeMap<PathBuf, u64>> {
        list.iter().map(|limit| Ok((PathBuf::from(&limit.path), bytes("blkio_config", &plain(&limit.rate))?))).collect()
    };
    Ok(BlockLimits {
        weight: config.weight.filter(|weight| *weight > 0),
        weights: config.weight_device.iter().map(|device| (PathBuf::from(&device.path), device.weight)).collect(),
        read_bytes: rates(&config.device_read_bps)?,
        write_bytes: rates(&config.device_write_bps)?,
        read_operations: rates(&config.device_read_iops)?,
        write_operations: rates(&config.device_write_iops)?,
    })
}

pub(super) fn pair(limit: &Ulimit) -> (i64, i64) {
    match limit {
        Ulimit::Single(both) => (*both, *both),
        Ulimit::Pair { soft, hard } => (*soft, *hard),
    }
}
