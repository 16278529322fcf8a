//! `build --print`: the builds of services as a file for `docker buildx bake`.
//!
//! Source: docker/compose `pkg/compose/build_bake.go`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::image_of;
use crate::cli::{Context, Outcome};
use crate::engine::images::ImageWish;
use crate::model::project::{Build, OptionalMap, Project, Service, Ulimit};

#[derive(Serialize)]
struct Bake<'a> {
    group: BTreeMap<&'static str, Group>,
    target: BTreeMap<String, Target<'a>>,
}

#[derive(Serialize)]
struct Group {
    targets: Vec<String>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Target<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    context: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    contexts: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dockerfile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dockerfile_inline: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    args: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cache_from: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cache_to: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secret: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    platforms: &'a [String],
    #[serde(skip_serializing_if = "is_false")]
    pull: bool,
    #[serde(skip_serializing_if = "is_false")]
    no_cache: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shm_size: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ulimits: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entitlements: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra_hosts: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    output: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Prints the bake file of the services that are built.
pub fn run(
    context: &Context,
    project: &Project,
    services: &[&Service],
    wish: &ImageWish,
    check: bool,
    push: bool,
) -> Outcome {
    let names: BTreeMap<&str, String> = target_names(project);
    let targets = services.iter().map(|service| names[service.name.as_str()].clone()).collect();
    let mut bake = Bake { group: BTreeMap::from([("default", Group { targets })]), target: BTreeMap::new() };
    for service in services {
        let Some(build) = &service.build else { continue };
        let mut target = target(project, service, build, wish, &names);
        let push = push && service.image.is_some();
        match (check, build.platforms.len() > 1, push) {
            (true, ..) => target.call = Some("lint"),
            (false, true, push) => target.output.push(format!("type=image,push={push}")),
            (false, false, true) => target.output.push("type=registry".into()),
            (false, false, false) => target.output.push("type=docker".into()),
        }
        bake.target.insert(names[service.name.as_str()].clone(), target);
    }
    let mut out = context.output();
    let text = serde_json::to_string_pretty(&bake).map_err(std::io::Error::from)?;
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(0)
}

/// Bake's names of the services: without dots, each its own.
fn target_names(project: &Project) -> BTreeMap<&str, String> {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for service in project.services.keys() {
        let mut name = service.replace('.', "_");
        while names.values().any(|other| *other == name) {
            name.push('_');
        }
        names.insert(service, name);
    }
    names
}

fn target<'a>(
    project: &'a Project,
    service: &'a Service,
    build: &'a Build,
    wish: &ImageWish,
    names: &BTreeMap<&str, String>,
) -> Target<'a> {
    let mut args: OptionalMap = build.args.clone();
    args.extend(wish.build_args.clone());
    let mut entitlements = build.entitlements.clone();
    if build.privileged {
        entitlements.push("security.insecure".into());
    }
    let context_of = |value: &'a String| match value.strip_prefix("service:").and_then(|name| names.get(name)) {
        Some(target) => format!("target:{target}"),
        None => value.clone(),
    };
    Target {
        context: &build.context,
        contexts: build.additional_contexts.iter().map(|(name, value)| (name.as_str(), context_of(value))).collect(),
        dockerfile: build
            .dockerfile
            .as_deref()
            .filter(|_| build.dockerfile_inline.is_none())
            .map(|path| dockerfile(&build.context, path)),
        // What looks like a variable would be one of bake's.
        dockerfile_inline: build.dockerfile_inline.as_ref().map(|text| text.replace("${", "$${")),
        args: args.into_iter().filter_map(|(key, value)| Some((key, value?.replace("${", "$${")))).collect(),
        labels: build.labels.clone(),
        tags: build.tags.iter().cloned().chain(std::iter::once(image_of(project, service))).collect(),
        cache_from: &build.cache_from,
        cache_to: &build.cache_to,
        target: build.target.as_deref(),
        secret: secrets(project, build),
        ssh: build.ssh.iter().chain(&wish.ssh).map(|entry| with_equals(entry)).collect(),
        platforms: &build.platforms,
        pull: build.pull || wish.pull_base,
        no_cache: build.no_cache || wish.no_cache,
        network: build.network.as_deref(),
        shm_size: build.shm_size.as_deref(),
        ulimits: build.ulimits.iter().map(|(name, limit)| ulimit(name, limit)).collect(),
        call: None,
        entitlements,
        extra_hosts: build.extra_hosts.iter().filter_map(|entry| entry.split_once(['=', ':'])).collect(),
        output: Vec::new(),
    }
}

fn with_equals(entry: &str) -> String {
    if entry.contains('=') { entry.to_owned() } else { format!("{entry}=") }
}

fn ulimit(name: &str, limit: &Ulimit) -> String {
    match limit {
        Ulimit::Single(both) => format!("{name}={both}"),
        Ulimit::Pair { soft, hard } => format!("{name}={soft}:{hard}"),
    }
}

fn secrets(project: &Project, build: &Build) -> Vec<String> {
    let one = |secret: &crate::model::project::ServiceFile| {
        let object = project.secrets.get(&secret.source)?;
        let id = secret.target.as_ref().unwrap_or(&secret.source);
        match (&object.environment, &object.file) {
            (Some(variable), _) => Some(format!("id={id},type=env,env={variable}")),
            (None, Some(file)) => Some(format!("id={id},type=file,src={file}")),
            (None, None) => None,
        }
    };
    build.secrets.iter().filter_map(one).collect()
}

/// The path of the Dockerfile, its folder's links resolved; in a repository, as it stands.
fn dockerfile(context: &str, path: &str) -> String {
    if crate::build::is_remote(context) {
        return path.to_owned();
    }
    let path: PathBuf = Path::new(context).join(path);
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name).display().to_string(),
        _ => path.display().to_string(),
    }
}
