//! What to build for a service: its `build` section and the flags above it, as the builder takes it.

use std::path::{Path, PathBuf};

use super::contexts;
use super::images::ImageWish;
use super::service::image_name;
use super::{Error, Result};
use crate::build::{self, BuildNetwork, BuildRequest, DockerfileSource, SshSource};
use crate::model::project::{Build, Project, Service, Ulimit};
use crate::model::reference::Reference;

/// The request of a service's build.
///
/// Errors: `Refused`, `Unsupported` and the like for a value that cannot be.
pub(super) fn build_request(
    project: &Project,
    service: &Service,
    build: &Build,
    wish: &ImageWish,
) -> Result<BuildRequest> {
    let context = PathBuf::from(&build.context);
    let mut tags: Vec<Reference> = vec![image_name(project, service).parse()?];
    for tag in &build.tags {
        tags.push(tag.parse()?);
    }
    let mut args = build.args.clone();
    args.extend(wish.build_args.clone());
    let mut request = BuildRequest::new(&context);
    request.dockerfile = match (&build.dockerfile_inline, &build.dockerfile) {
        (Some(text), _) => DockerfileSource::Inline(text.clone()),
        (None, path) => DockerfileSource::Path(context.join(Path::new(path.as_deref().unwrap_or("Dockerfile")))),
    };
    request.args = args;
    request.target = build.target.clone();
    request.labels = build.labels.clone();
    request.tags = tags;
    request.no_cache = build.no_cache || wish.no_cache;
    request.pull = build.pull || wish.pull_base;
    request.network = match build.network.as_deref() {
        None | Some("" | "default" | "bridge") => BuildNetwork::Default,
        Some("none") => BuildNetwork::None,
        Some("host") => BuildNetwork::Host,
        Some(other) => return Err(Error::Unsupported { what: format!("build network `{other}`") }),
    };
    request.platform = service.platform.clone().or_else(|| build.platforms.first().cloned());
    request.shm_size_bytes = build.shm_size.as_deref().and_then(|text| crate::base::units::parse_bytes(text).ok());
    request.extra_hosts = build.extra_hosts.iter().map(|entry| entry.replacen('=', ":", 1)).collect();
    request.ulimits = build
        .ulimits
        .iter()
        .map(|(name, limit)| {
            let pair = match limit {
                Ulimit::Single(both) => (*both, *both),
                Ulimit::Pair { soft, hard } => (*soft, *hard),
            };
            (name.clone(), pair)
        })
        .collect();
    request.allow_host_network = build.entitlements.iter().any(|name| name == "network.host");
    request.allow_insecure = build.privileged || build.entitlements.iter().any(|name| name == "security.insecure");
    for (name, value) in &build.additional_contexts {
        let value = match contexts::service(project, value) {
            Some(service) => {
                let image: Reference = image_name(project, service).parse()?;
                let address = format!("docker-image://{}", image.canonical());
                request.fresh.push(image);
                address
            }
            None => value.clone(),
        };
        request.additional_contexts.insert(name.clone(), value);
    }
    let refused = |what: &str, value: &str, reason| Error::Refused { what: what.into(), value: value.into(), reason };
    for text in &build.cache_from {
        let place = build::parse_cache_from(text, &project.working_dir);
        request.cache_from.push(place.map_err(|reason| refused("build.cache_from", text, reason))?);
    }
    for text in &build.cache_to {
        let export = build::parse_cache_to(text, &project.working_dir);
        request.cache_to.push(export.map_err(|reason| refused("build.cache_to", text, reason))?);
    }
    for secret in &build.secrets {
        let object = project.secrets.get(&secret.source);
        let source = match object.map(|object| (&object.file, &object.environment)) {
            Some((Some(file), _)) => build::SecretSource::File(PathBuf::from(file)),
            Some((None, Some(variable))) => build::SecretSource::Environment(variable.clone()),
            _ => {
                let reason = "a build secret needs a file or a variable".to_owned();
                return Err(Error::FileObject { kind: "secret", name: secret.source.clone(), reason });
            }
        };
        request.secrets.insert(secret.target.clone().unwrap_or_else(|| secret.source.clone()), source);
    }
    for entry in build.ssh.iter().chain(&wish.ssh) {
        let (id, path) = entry.split_once('=').unwrap_or((entry, ""));
        let source = match path {
            "" => std::env::var_os("SSH_AUTH_SOCK").map(|path| SshSource::Socket(path.into())),
            path => Some(ssh_source(path)),
        };
        // Without an agent only the steps that need one fail.
        request.ssh.extend(source.map(|source| (id.to_owned(), source)));
    }
    if let Some(time) = std::env::var("SOURCE_DATE_EPOCH").ok().filter(|text| !text.is_empty()) {
        request.args.entry("SOURCE_DATE_EPOCH".into()).or_insert(Some(time));
    }
    request.resource = service.name.clone();
    Ok(request)
}

/// An agent's socket, or a key.
fn ssh_source(path: &str) -> SshSource {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket { SshSource::Socket(path.into()) } else { SshSource::Keys(vec![path.into()]) }
}
