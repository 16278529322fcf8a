//! A bundle's limits as what is written into the files of its control group.
//!
//! Source: config-linux.md of the specification; the files of <https://docs.kernel.org/admin-guide/cgroup-v1/> and
//! cgroup-v2.html. Values are converted between the two versions as runc does it.

use serde_json::Value;

use super::{Error, refused};
use crate::model::container::Resources;
use crate::runtime::Cgroup;
use crate::runtime::cgroup::DeviceRules;

/// One file to write: controller (of v1), name, content.
type Write = (String, String, String);

/// A bundle's limits, read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Limits {
    /// Those that every container of ours can have.
    common: Resources,
    /// Files that only bundles ask for.
    writes: Vec<Write>,
}

/// Fields that are read, by pointer; every other one below `linux.resources` is refused.
const FIELDS: [&str; 32] = [
    "devices",
    "memory.limit",
    "memory.reservation",
    "memory.swap",
    "memory.swappiness",
    "memory.disableOOMKiller",
    "memory.useHierarchy",
    "memory.checkBeforeUpdate",
    "cpu.shares",
    "cpu.quota",
    "cpu.burst",
    "cpu.period",
    "cpu.realtimeRuntime",
    "cpu.realtimePeriod",
    "cpu.cpus",
    "cpu.mems",
    "cpu.idle",
    "pids.limit",
    "blockIO.weight",
    "blockIO.leafWeight",
    "blockIO.weightDevice",
    "blockIO.throttleReadBpsDevice",
    "blockIO.throttleWriteBpsDevice",
    "blockIO.throttleReadIOPSDevice",
    "blockIO.throttleWriteIOPSDevice",
    "hugepageLimits",
    "network.classID",
    "network.priorities",
    "rdma",
    "unified",
    "memory.kernel",
    "memory.kernelTCP",
];

/// The device rules of a bundle.
pub(super) fn devices(resources: &Value) -> Result<DeviceRules, Error> {
    let mut rules = vec![(false, "a *:* rwm".to_owned())];
    let list = resources.get("devices").and_then(Value::as_array);
    for (number, rule) in list.into_iter().flatten().enumerate() {
        let field = format!("linux.resources.devices[{number}]");
        let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
        let part = |name: &str| match rule.get(name).and_then(Value::as_i64) {
            Some(number @ 0..) => number.to_string(),
            // Absent or -1: every one.
            _ => "*".to_owned(),
        };
        let Some(allow) = rule.get("allow").and_then(Value::as_bool) else {
            return refused(&format!("{field}.allow"), "it is missing");
        };
        let kind = if text("type").is_empty() { "a" } else { text("type") };
        let access = if text("access").is_empty() { "rwm" } else { text("access") };
        if !matches!(kind, "a" | "b" | "c") {
            return refused(&format!("{field}.type"), &format!("`{kind}` is none of a, b, c"));
        }
        rules.push((allow, format!("{kind} {}:{} {access}", part("major"), part("minor"))));
    }
    Ok(DeviceRules::of_list(&rules)?)
}

impl Limits {
    /// Reads `linux.resources`. Errors: a field that is not known, or not carried out on this host.
    pub fn parse(resources: &Value, is_unified: bool) -> Result<Self, Error> {
        check_fields(resources)?;
        let signed = |pointer: &str| resources.pointer(pointer).and_then(Value::as_i64);
        let unsigned = |pointer: &str| resources.pointer(pointer).and_then(Value::as_u64);
        let text = |pointer: &str| resources.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let common = Resources {
            memory_bytes: signed("/memory/limit").and_then(|bytes| u64::try_from(bytes).ok()),
            memory_reservation_bytes: signed("/memory/reservation").and_then(|bytes| u64::try_from(bytes).ok()),
            memory_swap_bytes: signed("/memory/swap"),
            memory_swappiness: unsigned("/memory/swappiness"),
            oom_kill_disable: resources.pointer("/memory/disableOOMKiller") == Some(&Value::Bool(true)),
            cpu_shares: unsigned("/cpu/shares"),
            cpu_quota_us: signed("/cpu/quota"),
            cpu_period_us: unsigned("/cpu/period"),
            cpuset_cpus: text("/cpu/cpus"),
            cpuset_mems: text("/cpu/mems"),
            pids: signed("/pids/limit").filter(|limit| *limit != 0),
            ..Resources::default()
        };
        let mut limits = Self { common, writes: Vec::new() };
        limits.cpu(resources, is_unified)?;
        limits.block(resources, is_unified)?;
        limits.others(resources, is_unified)?;
        Ok(limits)
    }

    /// Writes them.
    pub fn set(&self, cgroup: &Cgroup) -> Result<(), crate::runtime::Error> {
        let mut common = self.common.clone();
        if let (Some(bytes), None) = (common.memory_bytes, common.memory_swap_bytes) {
            // A limit of swap that nobody asked for would be Docker's way.
            let name = if cgroup.is_unified() { "memory.max" } else { "memory.limit_in_bytes" };
            cgroup.set("memory", name, &bytes.to_string())?;
            common.memory_bytes = None;
        }
        cgroup.update(&common)?;
        self.writes.iter().try_for_each(|(controller, name, value)| cgroup.set(controller, name, value))
    }

    fn write(&mut self, controller: &str, name: impl Into<String>, value: impl ToString) {
        self.writes.push((controller.to_owned(), name.into(), value.to_string()));
    }

    fn cpu(&mut self, resources: &Value, is_unified: bool) -> Result<(), Error> {
        let Some(cpu) = resources.get("cpu") else { return Ok(()) };
        if let Some(burst) = cpu.get("burst") {
            let name = if is_unified { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
            self.write("cpu", name, burst);
        }
        if let Some(idle) = cpu.get("idle") {
            self.write("cpu", "cpu.idle", idle);
        }
        for (field, name) in [("realtimePeriod", "cpu.rt_period_us"), ("realtimeRuntime", "cpu.rt_runtime_us")] {
            match cpu.get(field) {
                Some(_) if is_unified => return only_legacy(&format!("cpu.{field}")),
                Some(value) => self.write("cpu", name, value),
                None => {}
            }
        }
        Ok(())
    }

    fn block(&mut self, resources: &Value, is_unified: bool) -> Result<(), Error> {
        let Some(block) = resources.get("blockIO") else { return Ok(()) };
        if let Some(weight) = block.get("weight").and_then(Value::as_u64).filter(|weight| *weight > 0) {
            let weight =
                u16::try_from(weight).or_else(|_| refused("linux.resources.blockIO.weight", "it is too large"))?;
            self.common.block.weight = Some(weight);
        }
        if block.get("leafWeight").and_then(Value::as_u64).is_some_and(|weight| weight > 0) {
            return refused("linux.resources.blockIO.leafWeight", "kernels no longer have it");
        }
        for device in list(block, "weightDevice") {
            if device.get("leafWeight").and_then(Value::as_u64).is_some_and(|weight| weight > 0) {
                return refused("linux.resources.blockIO.weightDevice", "kernels no longer have leaf weights");
            }
            let name = if is_unified { "io.bfq.weight" } else { "blkio.bfq.weight_device" };
            let weight = device.get("weight").and_then(Value::as_u64).unwrap_or_default();
            self.write("blkio", name, format!("{} {weight}", number_of(device)));
        }
        for (field, legacy, unified) in [
            ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
            ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
            ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
            ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
        ] {
            for device in list(block, field) {
                let rate = device.get("rate").and_then(Value::as_u64).unwrap_or_default();
                match is_unified {
                    true => self.write("blkio", "io.max", format!("{} {unified}={rate}", number_of(device))),
                    false => self.write("blkio", legacy, format!("{} {rate}", number_of(device))),
                }
            }
        }
        Ok(())
    }

    fn others(&mut self, resources: &Value, is_unified: bool) -> Result<(), Error> {
        for limit in list(resources, "hugepageLimits") {
            let size = limit.get("pageSize").and_then(Value::as_str).unwrap_or_default();
            let is_size = |size: &str| {
                let digits = size.trim_end_matches(['K', 'M', 'G', 'B']);
                size.ends_with('B') && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            };
            if !is_size(size) {
                return refused("linux.resources.hugepageLimits", &format!("`{size}` is not the size of a page"));
            }
            let name = if is_unified { "max" } else { "limit_in_bytes" };
            let bytes = limit.get("limit").and_then(Value::as_u64).unwrap_or_default();
            self.write("hugetlb", format!("hugetlb.{size}.{name}"), bytes);
        }
        if let Some(class) = resources.pointer("/network/classID") {
            if is_unified {
                return only_legacy("network.classID");
            }
            self.write("net_cls", "net_cls.classid", class);
        }
        let network = resources.get("network").unwrap_or(&Value::Null);
        for priority in list(network, "priorities") {
            if is_unified {
                return only_legacy("network.priorities");
            }
            let name = priority.get("name").and_then(Value::as_str).unwrap_or_default();
            let value = priority.get("priority").and_then(Value::as_u64).unwrap_or_default();
            self.write("net_prio", "net_prio.ifpriomap", format!("{name} {value}"));
        }
        for (device, limit) in resources.get("rdma").and_then(Value::as_object).into_iter().flatten() {
            let number = |field: &str, word: &str| Some(format!(" {word}={}", limit.get(field)?));
            let parts = [number("hcaHandles", "hca_handle"), number("hcaObjects", "hca_object")];
            self.write("rdma", "rdma.max", format!("{device}{}", parts.into_iter().flatten().collect::<String>()));
        }
        for (name, value) in resources.get("unified").and_then(Value::as_object).into_iter().flatten() {
            if !is_unified {
                return refused("linux.resources.unified", "this host has control groups of version 1");
            }
            let Some(value) = value.as_str().filter(|_| !name.contains('/')) else {
                return refused("linux.resources.unified", &format!("`{name}` is not the name of a file with a text"));
            };
            self.write("", name.clone(), value);
        }
        Ok(())
    }
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// `major:minor` of an entry for a device.
fn number_of(device: &Value) -> String {
    let part = |name: &str| device.get(name).and_then(Value::as_i64).unwrap_or_default();
    format!("{}:{}", part("major"), part("minor"))
}

fn only_legacy<T>(field: &str) -> Result<T, Error> {
    refused(&format!("linux.resources.{field}"), "only control groups of version 1 have it")
}

/// Refuses what is not read. Limits on kernel memory are taken when they limit nothing.
fn check_fields(resources: &Value) -> Result<(), Error> {
    for (name, value) in resources.as_object().into_iter().flatten() {
        let inner: Vec<(String, &Value)> = match value.as_object() {
            Some(map) if !matches!(name.as_str(), "unified" | "rdma") => {
                map.iter().map(|(key, value)| (format!("{name}.{key}"), value)).collect()
            }
            _ => vec![(name.clone(), value)],
        };
        for (field, value) in inner {
            let is_kernel = matches!(field.as_str(), "memory.kernel" | "memory.kernelTCP");
            let limits_nothing = value.as_i64().is_some_and(|limit| limit <= 0);
            if (is_kernel && !limits_nothing) || !FIELDS.contains(&field.as_str()) {
                return refused(&format!("linux.resources.{field}"), "it is not supported");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, is_unified: bool) -> Result<Vec<String>, String> {
        let value: Value = serde_json::from_str(text).unwrap();
        let limits = Limits::parse(&value, is_unified).map_err(|error| error.to_string())?;
        Ok(limits.writes.into_iter().map(|(_, name, value)| format!("{name} {value}")).collect())
    }

    #[test]
    fn both_versions_have_their_files() {
        let text = r#"{"cpu":{"burst":10,"idle":1},"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
            "blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}]}}"#;
        assert_eq!(
            check(text, false).unwrap(),
            [
                "cpu.cfs_burst_us 10",
                "cpu.idle 1",
                "blkio.throttle.read_bps_device 8:0 600",
                "hugetlb.2MB.limit_in_bytes 4194304"
            ]
        );
        assert_eq!(
            check(text, true).unwrap(),
            ["cpu.max.burst 10", "cpu.idle 1", "io.max 8:0 rbps=600", "hugetlb.2MB.max 4194304"]
        );
        assert_eq!(check(r#"{"unified":{"memory.high":"1M"}}"#, true).unwrap(), ["memory.high 1M"]);
    }

    #[test]
    fn what_is_not_carried_out_is_an_error_with_its_field() {
        for (text, is_unified, field) in [
            (r#"{"unified":{"memory.high":"1M"}}"#, false, "linux.resources.unified"),
            (r#"{"unified":{"../x":"1"}}"#, true, "linux.resources.unified"),
            (r#"{"network":{"classID":1}}"#, true, "linux.resources.network.classID"),
            (r#"{"memory":{"kernel":5}}"#, false, "linux.resources.memory.kernel"),
            (r#"{"memory":{"sometimes":5}}"#, false, "linux.resources.memory.sometimes"),
            (r#"{"hugepageLimits":[{"pageSize":"2MB/../x","limit":1}]}"#, true, "linux.resources.hugepageLimits"),
        ] {
            assert!(check(text, is_unified).unwrap_err().contains(field), "{text}");
        }
        assert!(check(r#"{"memory":{"kernel":-1}}"#, false).is_ok());
    }

    #[test]
    fn the_last_device_rule_counts() {
        let rules =
            r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"access":"rw"}]}"#;
        let lines = devices(&serde_json::from_str(rules).unwrap()).unwrap().lines();
        assert_eq!(lines[0], (false, "a *:* rwm".to_owned()));
        assert_eq!(lines[1], (true, "c 10:* rw".to_owned()));
        assert!(devices(&serde_json::json!({"devices":[{"type":"c"}]})).is_err());
    }
}
