//! What of other file systems a service sees: mounts, and the files of configs and secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::values::{bytes, octal, plain};
use crate::base::id::random_hex;
use crate::engine::{Error, Result};
use crate::model::container::{InlineContent, InlineFile, Mount, MountSource};
use crate::model::project::{FileObject, Project, Service, ServiceFile, ServiceVolume};

/// The mounts that a service names itself, without those of images.
pub(super) fn own_mounts(project: &Project, service: &Service) -> Result<Vec<Mount>> {
    let volumes = service.volumes.iter().filter(|volume| volume.kind != "image");
    let mounts = volumes.map(|volume| mount(project, volume));
    mounts.chain(service.tmpfs.iter().map(|entry| tmpfs(entry))).collect()
}

pub(super) fn mount(project: &Project, volume: &ServiceVolume) -> Result<Mount> {
    let source = match volume.kind.as_str() {
        "bind" => {
            let options = volume.bind.clone().unwrap_or_default();
            MountSource::Bind {
                path: PathBuf::from(volume.source.as_deref().unwrap_or_default()),
                create: options.create_host_path.unwrap_or(true),
                propagation: options.propagation,
                recursive: options.recursive.as_deref() != Some("disabled"),
                idmap: options.idmap == Some(serde_json::Value::Bool(true)),
            }
        }
        "tmpfs" => {
            let options = volume.tmpfs.clone().unwrap_or_default();
            MountSource::Tmpfs {
                size_bytes: options.size.as_ref().map(|size| bytes("tmpfs size", &plain(size))).transpose()?,
                mode: options.mode.as_ref().and_then(|mode| plain(mode).parse().ok()),
                options: Vec::new(),
            }
        }
        _ => volume_mount(project, volume),
    };
    Ok(Mount { target: volume.target.clone(), read_only: volume.read_only, source })
}

pub(super) fn inline_files(project: &Project, service: &Service) -> Result<Vec<InlineFile>> {
    let mut files = Vec::new();
    let config = |file: &ServiceFile| format!("/{}", file.source);
    let secret = |file: &ServiceFile| format!("/run/secrets/{}", file.source);
    for file in &service.configs {
        files.push(inline_file(project, "config", &project.configs, file, config(file), "/")?);
    }
    for file in &service.secrets {
        files.push(inline_file(project, "secret", &project.secrets, file, secret(file), "/run/secrets/")?);
    }
    Ok(files)
}

pub(super) fn volume_mount(project: &Project, volume: &ServiceVolume) -> MountSource {
    let options = volume.volume.clone().unwrap_or_default();
    let (subpath, copy) = (options.subpath, !options.nocopy);
    match volume.source.as_deref().filter(|source| !source.is_empty()) {
        None => MountSource::Volume { name: random_hex(32), subpath, copy, anonymous: true },
        Some(key) => {
            let name = project.volumes.get(key).map_or(key, |volume| volume.name.as_str()).to_owned();
            MountSource::Volume { name, subpath, copy, anonymous: false }
        }
    }
}

/// Reads `path[:option,option]`.
fn tmpfs(entry: &str) -> Result<Mount> {
    let (target, list) = entry.split_once(':').unwrap_or((entry, ""));
    let mut source = (None, None, Vec::new());
    let mut read_only = false;
    for option in list.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", text)) => source.0 = Some(bytes("tmpfs size", text)?),
            Some(("mode", text)) => source.1 = Some(octal("tmpfs mode", text)?),
            _ if option == "ro" => read_only = true,
            _ if option == "rw" => read_only = false,
            _ => source.2.push(option.to_owned()),
        }
    }
    let (size_bytes, mode, options) = source;
    Ok(Mount { target: target.to_owned(), read_only, source: MountSource::Tmpfs { size_bytes, mode, options } })
}

pub(super) fn inline_file(
    project: &Project,
    kind: &'static str,
    objects: &BTreeMap<String, FileObject>,
    file: &ServiceFile,
    default_target: String,
    folder: &str,
) -> Result<InlineFile> {
    let fail = |reason: String| Error::FileObject { kind, name: file.source.clone(), reason };
    let object = objects.get(&file.source).ok_or_else(|| fail("it is not defined".into()))?;
    let content = match (&object.file, &object.content, &object.environment) {
        _ if object.external => {
            return Err(fail("external ones need a cluster's store, which one host does not have".into()));
        }
        (Some(path), _, _) => InlineContent::HostFile(PathBuf::from(path)),
        (_, Some(text), _) => InlineContent::Text(text.clone()),
        (_, _, Some(variable)) => match project.environment.get(variable) {
            Some(text) => InlineContent::Text(text.clone()),
            None => return Err(fail(format!("environment variable {variable} is not set"))),
        },
        _ => return Err(fail("it has neither file, content nor environment".into())),
    };
    let target = match file.target.as_deref() {
        None => default_target,
        Some(target) if target.starts_with('/') => target.to_owned(),
        Some(target) => format!("{folder}{target}"),
    };
    let number = |what: &str, text: &Option<String>| match text {
        None => Ok(0),
        Some(text) => text.parse::<u32>().map_err(|_| fail(format!("{what} `{text}` is not a number"))),
    };
    let mode = file.mode.as_deref().map(|text| octal("mode", text)).transpose()?.unwrap_or(0o444);
    Ok(InlineFile { target, uid: number("uid", &file.uid)?, gid: number("gid", &file.gid)?, mode, content })
}
