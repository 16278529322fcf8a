//! What is looked at before a project leaves this machine.
//!
//! Source: docker/compose `pkg/compose/publish.go` (`preChecks`).

use std::collections::BTreeMap;
use std::path::Path;

use super::secrets;
use crate::base::fs::read_limited;
use crate::cli::{Context, Failure, Mistake};
use crate::compose::{self, Loaded, Node, Options};
use crate::model::project::Project;

/// Bytes of a file that is searched for secrets.
const SEARCHED_BYTES_MAX: u64 = 4 << 20;

/// What is refused: services that nobody else could run, and environment that was not allowed.
pub(super) fn check(loaded: &Loaded, with_env: bool) -> Result<(), Failure> {
    let project = &loaded.project;
    let built: Vec<String> = project
        .services
        .values()
        .filter(|service| service.image.is_none() && service.build.is_some())
        .map(|service| format!("\n- \"{}\"", service.name))
        .collect();
    if !built.is_empty() {
        let text = format!(
            "your Compose stack cannot be published as it only contains a build section for service(s):{}",
            built.concat()
        );
        let hint = Some("give them an `image`, under which it is pushed".to_owned());
        return Err(Mistake::Usage { text, hint }.into());
    }
    if with_env {
        return Ok(());
    }
    let mut found: Vec<String> = Vec::new();
    for service in project.services.values() {
        let name = &service.name;
        if env_files(loaded, name).next().is_some() {
            found.push(format!("service \"{name}\" has env_file declared."));
        }
        if !service.environment.is_empty() {
            found.push(format!("service \"{name}\" has environment variable(s) declared."));
        }
    }
    for (name, config) in &project.configs {
        if config.environment.is_some() {
            found.push(format!("config \"{name}\" is declare as an environment variable."));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    found.push("To avoid leaking sensitive data, you must either explicitly allow the sending of environment variables by using the --with-env flag,\nor remove sensitive data from your Compose configuration".to_owned());
    Err(Mistake::usage(found.join("\n")).into())
}

/// The env files of a service, where the project was loaded without reading them.
fn env_files<'a>(loaded: &'a Loaded, service: &str) -> impl Iterator<Item = &'a str> {
    let files = loaded.tree.get_path(&["services", service, "env_file"]).and_then(Node::as_sequence);
    files.unwrap_or_default().iter().filter_map(|file| file.get("path").unwrap_or(file).as_str())
}

/// What refers to files that do not travel.
pub(super) fn warn(context: &Context, project: &Project) {
    for (section, objects) in [("config", &project.configs), ("secret", &project.secrets)] {
        for (name, object) in objects {
            if let Some(file) = &object.file {
                context.warn(&format!("{section} {name} is the file {file}, which is not published"));
            }
        }
    }
}

/// Asks about mounts of host folders, secrets and environment; whether all of that may be published.
pub(super) fn confirm(context: &Context, loaded: &Loaded) -> Result<bool, Failure> {
    let project = &loaded.project;
    let mounts = bind_mounts(project);
    if !mounts.is_empty() {
        let question = format!(
            "you are about to publish bind mounts declaration within your OCI artifact.\n\
             only the bind mount declarations will be added to the OCI artifact (not content)\n\
             please double check that you are not mounting potential user's sensitive directories or data\n{mounts}\
             Are you ok to publish these bind mount declarations?"
        );
        if !ask(&question)? {
            return Ok(false);
        }
    }
    let secrets = sensitive(context, loaded)?;
    if !secrets.is_empty() {
        let question = format!(
            "you are about to publish sensitive data within your OCI artifact.\n\
             please double check that you are not leaking sensitive data\n{secrets}\
             Are you ok to publish these sensitive data?"
        );
        if !ask(&question)? {
            return Ok(false);
        }
    }
    let environment = environment(project);
    if !environment.is_empty() {
        let question = format!(
            "you are about to publish environment variables within your OCI artifact.\n\
             please double check that you are not leaking sensitive data\n{environment}\
             Are you ok to publish these environment variables?"
        );
        return Ok(ask(&question)?);
    }
    Ok(true)
}

fn ask(question: &str) -> std::io::Result<bool> {
    use std::io::{BufRead, Write};
    let mut err = std::io::stderr().lock();
    write!(err, "{question} [y/N]: ")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !yes {
        writeln!(err, "\nnot published: answer with yes, or use --yes")?;
    }
    Ok(yes)
}

fn bind_mounts(project: &Project) -> String {
    let mut text = String::new();
    for service in project.services.values() {
        for mount in service.volumes.iter().filter(|mount| mount.kind == "bind") {
            let source = mount.source.as_deref().unwrap_or_default();
            let target = &mount.target;
            text.push_str(&format!("{}: {source}:{target}\n", service.name));
        }
    }
    text
}

fn environment(project: &Project) -> String {
    let mut text = String::new();
    for service in project.services.values().filter(|service| !service.environment.is_empty()) {
        text.push_str(&format!("Service/Config  {}\n", service.name));
        for (key, value) in &service.environment {
            text.push_str(&format!("{key}={}\n", value.as_deref().unwrap_or_default()));
        }
    }
    for (name, config) in &project.configs {
        if let Some(variable) = &config.environment {
            text.push_str(&format!("Service/Config  {name}\n{name}={variable}\n"));
        }
    }
    text
}

/// What looks like a secret in the files as written, env files, and files of configs and secrets.
fn sensitive(context: &Context, loaded: &Loaded) -> Result<String, Failure> {
    let project = &loaded.project;
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |path: &Path| {
        // Those that cannot be read are not published either.
        if let Ok(content) = read_limited(path, SEARCHED_BYTES_MAX) {
            texts.insert(path.display().to_string(), String::from_utf8_lossy(&content).into_owned());
        }
    };
    for object in project.configs.values().chain(project.secrets.values()) {
        object.file.iter().for_each(|file| add(Path::new(file)));
    }
    for service in project.services.keys() {
        env_files(loaded, service).for_each(|file| add(Path::new(file)));
    }
    let mut found = String::new();
    // One key a line, and variables as such.
    let written = Options { interpolate: false, resolve_environment: false, ..context.compose_options()? };
    for finding in secrets::find(&compose::load(&written)?.to_yaml()) {
        found.push_str(&format!("{}\n{}\n", finding.kind, finding.text));
    }
    for (file, text) in &texts {
        for finding in secrets::find(text) {
            found.push_str(&format!("{}\n{file}:{}: {}\n", finding.kind, finding.line, finding.text));
        }
    }
    Ok(found)
}
