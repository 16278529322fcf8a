//! Devices that the host describes in CDI specs: GPUs of `gpus`, `--gpus` and `deploy.resources.reservations.devices`,
//! and `devices: [vendor.com/class=name]`, `--device vendor.com/class=name`.
//!
//! Of what a spec says, device nodes, mounts and variables are done. Its hooks are not: programs of the host that would
//! run with the rights of root for whoever may write a spec; what they make (links of libraries, caches of the linker)
//! is for the image to have.
//! Source: <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::request::Request;
use super::{Error, Result};
use crate::model::container::{DeviceMapping, Mount, MountSource};
use crate::model::project::{DeviceRequest, Service};

/// Where specs lie; of two with the same device, the later one counts.
const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// The most spec files that are looked at.
const FILES_MAX: usize = 256;

/// A spec file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    /// `vendor.com/class`.
    kind: String,
    devices: Vec<Device>,
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Device {
    name: String,
    container_edits: Edits,
}

/// What a container gets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<SpecMount>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeviceNode {
    path: PathBuf,
    host_path: Option<PathBuf>,
    permissions: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SpecMount {
    host_path: PathBuf,
    container_path: String,
    options: Vec<String>,
}

/// The devices of a host by kind and name, with the edits of their whole spec.
#[derive(Debug, Default)]
struct Devices {
    by_kind: BTreeMap<String, BTreeMap<String, [Edits; 2]>>,
}

/// Gives a container the devices that its service asks for.
///
/// Errors: one that no spec of the host describes.
pub(super) fn apply(service: &Service, request: &mut Request) -> Result<()> {
    let reserved = service.deploy.as_ref().and_then(|deploy| deploy.resources.as_ref()?.reservations.as_ref());
    let requests = service.gpus.iter().chain(reserved.iter().flat_map(|reserved| &reserved.devices));
    give(&requests.collect::<Vec<_>>(), request)
}

/// Gives a container the devices that were asked for by what they can do, and those that it names as
/// `vendor.com/class=name`.
///
/// Errors: one that no spec of the host describes.
pub fn give(requests: &[&DeviceRequest], request: &mut Request) -> Result<()> {
    let (named, plain): (Vec<DeviceMapping>, Vec<DeviceMapping>) =
        std::mem::take(&mut request.security.devices).into_iter().partition(|device| is_qualified(&device.source));
    request.security.devices = plain;
    if requests.is_empty() && named.is_empty() {
        return Ok(());
    }
    let devices = Devices::read(&FOLDERS.map(Path::new))?;
    let mut wanted: Vec<(String, String)> = Vec::new();
    for device in named {
        wanted.push(split(&device.source.to_string_lossy())?);
    }
    for one in requests {
        wanted.extend(devices.choose(one)?);
    }
    devices.give(&wanted, request)
}

/// Whether the source of a device is `vendor.com/class=name`.
fn is_qualified(source: &Path) -> bool {
    !source.is_absolute() && source.to_str().is_some_and(|text| text.contains('/') && text.contains('='))
}

fn split(text: &str) -> Result<(String, String)> {
    let wrong =
        || Error::Value { what: "devices".into(), value: text.into(), expected: "vendor.com/class=name".into() };
    text.split_once('=').map(|(kind, name)| (kind.to_owned(), name.to_owned())).ok_or_else(wrong)
}

impl Devices {
    /// Reads all specs. One that cannot be read counts only when a device of it is asked for: it is not there then.
    fn read(folders: &[&Path]) -> Result<Self> {
        let mut devices = Self::default();
        for folder in folders {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            files.retain(|path| path.extension().is_some_and(|ext| ext == "json" || ext == "yaml" || ext == "yml"));
            files.sort();
            for file in files.into_iter().take(FILES_MAX) {
                // JSON is YAML, too.
                let Ok(document) = crate::compose::read_document(&file) else { continue };
                let Ok(spec) = serde_json::from_value::<Spec>(document) else { continue };
                let of_kind = devices.by_kind.entry(spec.kind).or_default();
                for device in spec.devices {
                    of_kind.insert(device.name, [spec.container_edits.clone(), device.container_edits]);
                }
            }
        }
        Ok(devices)
    }

    /// The devices that a request means.
    fn choose(&self, request: &DeviceRequest) -> Result<Vec<(String, String)>> {
        let driver = request.driver.as_deref().unwrap_or_default();
        if driver == "cdi" {
            return request.device_ids.iter().map(|id| split(id)).collect();
        }
        let class = request.capabilities.iter().any(|capability| capability == "gpu").then_some("gpu");
        let is_meant = |kind: &&String| match kind.split_once('/') {
            Some((vendor, of)) => {
                Some(of) == class && (driver.is_empty() || vendor == driver || vendor == format!("{driver}.com"))
            }
            None => false,
        };
        let missing = || Error::NoDevice { capabilities: request.capabilities.join(","), driver: driver.to_owned() };
        let kind = self.by_kind.keys().find(is_meant).ok_or_else(missing)?;
        let named = |name: &str| (kind.clone(), name.to_owned());
        if !request.device_ids.is_empty() {
            return Ok(request.device_ids.iter().map(|id| named(id)).collect());
        }
        let count = request.count.as_ref().and_then(|count| count.as_i64().or_else(|| count.as_str()?.parse().ok()));
        let known = &self.by_kind[kind];
        if count.unwrap_or(-1) < 0 && known.contains_key("all") {
            return Ok(vec![named("all")]);
        }
        // A device may be there by its number and by its UUID: the numbers count, where there are any.
        let mut names: Vec<&String> = known.keys().filter(|name| name.parse::<u32>().is_ok()).collect();
        if names.is_empty() {
            names = known.keys().filter(|name| *name != "all").collect();
        }
        names.sort_by_key(|name| name.parse::<u32>().unwrap_or(u32::MAX));
        let wanted = usize::try_from(count.unwrap_or(-1)).unwrap_or(names.len());
        if wanted > names.len() {
            return Err(missing());
        }
        Ok(names.into_iter().take(wanted).map(|name| named(name)).collect())
    }

    fn give(&self, wanted: &[(String, String)], request: &mut Request) -> Result<()> {
        let mut kinds: Vec<&str> = Vec::new();
        for (kind, name) in wanted {
            let found = self.by_kind.get(kind).and_then(|devices| devices.get(name));
            let [whole, own] = found.ok_or_else(|| Error::NoCdiDevice { name: format!("{kind}={name}") })?;
            if !kinds.contains(&kind.as_str()) {
                kinds.push(kind);
                edit(whole, request);
            }
            edit(own, request);
        }
        Ok(())
    }
}

fn edit(edits: &Edits, request: &mut Request) {
    for variable in &edits.env {
        let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
        request.environment.insert(key.to_owned(), Some(value.to_owned()));
    }
    for node in &edits.device_nodes {
        request.security.devices.push(DeviceMapping {
            source: node.host_path.clone().unwrap_or_else(|| node.path.clone()),
            target: node.path.clone(),
            permissions: node.permissions.clone().unwrap_or_else(|| "rwm".into()),
        });
    }
    for mount in &edits.mounts {
        let has = |option: &str| mount.options.iter().any(|given| given == option);
        request.mounts.push(Mount {
            target: mount.container_path.clone(),
            read_only: has("ro"),
            source: MountSource::Bind {
                path: mount.host_path.clone(),
                create: false,
                propagation: None,
                recursive: has("rbind"),
                idmap: false,
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "cdiVersion: 0.6.0
kind: nvidia.com/gpu
containerEdits:
  env: [DRIVER=1]
  deviceNodes: [{path: /dev/nvidiactl}]
  mounts: [{hostPath: /usr/lib/libcuda.so.1, containerPath: /usr/lib/libcuda.so.1, options: [ro, nosuid, bind]}]
devices:
  - {name: '0', containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /host/nvidia0, permissions: rw}]}}
  - {name: '1', containerEdits: {deviceNodes: [{path: /dev/nvidia1}]}}
  - {name: GPU-0a, containerEdits: {deviceNodes: [{path: /dev/nvidia0}]}}
  - {name: all, containerEdits: {deviceNodes: [{path: /dev/nvidia0}, {path: /dev/nvidia1}]}}
";

    fn devices(folder: &Path) -> Devices {
        std::fs::write(folder.join("nvidia.yaml"), SPEC).unwrap();
        std::fs::write(folder.join("broken.json"), "{").unwrap();
        Devices::read(&[folder, Path::new("/no/such/folder")]).unwrap()
    }

    #[test]
    fn requests_mean_devices_of_specs() {
        let folder = crate::store::testing::Folder::new();
        let devices = devices(folder.path());
        let names = |request: &DeviceRequest| {
            let chosen = devices.choose(request).map_err(|error| error.to_string());
            chosen.map(|list| list.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(" "))
        };
        let gpu = DeviceRequest { capabilities: vec!["gpu".into()], ..DeviceRequest::default() };
        let with_count = |count: i64| DeviceRequest { count: Some(count.into()), ..gpu.clone() };
        assert_eq!(names(&gpu).as_deref(), Ok("all"));
        assert_eq!(names(&with_count(-1)).as_deref(), Ok("all"));
        assert_eq!(names(&with_count(1)).as_deref(), Ok("0"));
        assert_eq!(names(&with_count(2)).as_deref(), Ok("0 1"));
        assert!(names(&with_count(3)).is_err());
        let ids = DeviceRequest { device_ids: vec!["1".into()], driver: Some("nvidia".into()), ..gpu.clone() };
        assert_eq!(names(&ids).as_deref(), Ok("1"));
        assert!(names(&DeviceRequest { driver: Some("amd".into()), ..gpu.clone() }).is_err());
        let cdi = DeviceRequest {
            driver: Some("cdi".into()),
            device_ids: vec!["nvidia.com/gpu=GPU-0a".into()],
            ..DeviceRequest::default()
        };
        assert_eq!(names(&cdi).as_deref(), Ok("GPU-0a"));
    }

    #[test]
    fn a_container_gets_what_the_specs_say_once() {
        let folder = crate::store::testing::Folder::new();
        let devices = devices(folder.path());
        let mut request = Request::default();
        let wanted = ["0", "1"].map(|name| ("nvidia.com/gpu".to_owned(), name.to_owned()));
        devices.give(&wanted, &mut request).unwrap();
        let nodes: Vec<String> = request
            .security
            .devices
            .iter()
            .map(|node| format!("{}:{}:{}", node.source.display(), node.target.display(), node.permissions))
            .collect();
        let expected =
            ["/dev/nvidiactl:/dev/nvidiactl:rwm", "/host/nvidia0:/dev/nvidia0:rw", "/dev/nvidia1:/dev/nvidia1:rwm"];
        assert_eq!(nodes, expected);
        assert_eq!(request.environment["DRIVER"].as_deref(), Some("1"));
        assert!(request.mounts.len() == 1 && request.mounts[0].read_only);
        let unknown = [("nvidia.com/gpu".to_owned(), "7".to_owned())];
        assert!(devices.give(&unknown, &mut request).is_err());
    }
}
