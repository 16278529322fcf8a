//! Services that another program provides (`provider:`), and what they and models put into the environment of others.
//!
//! The program is called as `<type> compose --project-name=P up|down --option=value SERVICE` and answers with lines of
//! JSON. Source: docker/compose `docs/extension.md`, `pkg/compose/plugins.go`, `pkg/compose/model.go`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Error, Result};
use crate::model::event::{Event, EventStatus, Progress};
use crate::model::project::{Project, Provider, Service};

/// Where Docker's plugins lie, besides the user's own folder.
const PLUGIN_FOLDERS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
/// The most that a program may say, in bytes.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;
/// Where a model runner is found from containers when nobody says where.
const MODEL_ENDPOINT: &str = "http://model-runner.docker.internal/engines/v1/";

/// Lets the providers of `services` come up (but not to plan only: `dry_run`), and returns the project with what they and models say in the environment
/// of those that depend on them.
pub(super) fn bring_up<'p>(
    project: &'p Project,
    services: &[&Service],
    dry_run: bool,
    progress: &dyn Progress,
) -> Result<Cow<'p, Project>> {
    let mut project = Cow::Borrowed(project);
    for service in services.iter().filter(|service| service.provider.is_some() && !dry_run) {
        let variables = run(&project, service, "up", progress)?;
        let dependents: Vec<String> = project
            .services
            .values()
            .filter(|other| other.depends_on.contains_key(&service.name))
            .map(|other| other.name.clone())
            .collect();
        for name in dependents {
            add_environment(project.to_mut(), &name, &variables);
        }
    }
    let users: Vec<String> =
        project.services.values().filter(|service| !service.models.is_empty()).map(|s| s.name.clone()).collect();
    for name in users {
        let variables = model_variables(&project, &project.services[&name]);
        add_environment(project.to_mut(), &name, &variables);
    }
    Ok(project)
}

/// Adds variables that the file does not set, also to what the hash is made of.
fn add_environment(project: &mut Project, name: &str, variables: &BTreeMap<String, String>) {
    let Some(service) = project.services.get_mut(name) else { return };
    for (key, value) in variables {
        service.environment.insert(key.clone(), Some(value.clone()));
        if let Value::Object(fields) = &mut service.canonical
            && let Value::Object(environment) = fields.entry("environment").or_insert_with(|| json!({}))
        {
            environment.insert(key.clone(), value.clone().into());
        }
    }
}

/// What tells a service of its models.
fn model_variables(project: &Project, service: &Service) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let endpoint = || {
        let said = plugin("model").and_then(|program| {
            let output =
                Command::new(program).args(["model", "status", "--json"]).stdin(Stdio::null()).output().ok()?;
            let status: Value = serde_json::from_slice(&output.stdout).ok()?;
            status.get("endpoint")?.as_str().map(str::to_owned)
        });
        said.unwrap_or_else(|| MODEL_ENDPOINT.to_owned())
    };
    let endpoint = endpoint();
    for (key, options) in &service.models {
        let Some(model) = project.models.get(key) else { continue };
        let prefix = key.to_uppercase().replace('-', "_");
        let options = options.clone().unwrap_or_default();
        let url = options.endpoint_var.unwrap_or_else(|| format!("{prefix}_URL"));
        variables.insert(url, endpoint.clone());
        variables.insert(options.model_var.unwrap_or_else(|| format!("{prefix}_MODEL")), model.model.clone());
    }
    variables
}

/// Lets the program do `up` or `down`. Returns the variables for those that depend on the service.
///
/// Errors: the program is not there, misses an option, says that it failed, or ends with another code than 0.
pub(super) fn run(
    project: &Project,
    service: &Service,
    command: &str,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, String>> {
    let Some(provider) = &service.provider else { return Ok(BTreeMap::new()) };
    let fail =
        |reason: String| Error::Provider { provider: provider.kind.clone(), service: service.name.clone(), reason };
    let program =
        find(&provider.kind).ok_or_else(|| fail("there is no such plugin of Docker, nor such a program".into()))?;
    let options = options(project, provider, &program, command).map_err(fail)?;
    let resource = format!("Service {}", service.name);
    let mut child = Command::new(&program)
        .args(["compose", &format!("--project-name={}", project.name), command])
        .args(options)
        .arg(&service.name)
        .current_dir(&project.working_dir)
        .envs(&project.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| fail(format!("{} cannot be run: {error}", program.display())))?;
    let mut variables = BTreeMap::new();
    let mut failure = None;
    let prefix = format!("{}_", service.name.to_uppercase());
    let output = child.stdout.take().map(|output| BufReader::new(output.take(OUTPUT_BYTES_MAX)));
    for line in output.into_iter().flat_map(BufRead::lines).map_while(std::result::Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            failure.get_or_insert(format!("it says what is no message: {line}"));
            continue;
        };
        let field = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default();
        let text = field("message");
        let variable = || text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        match field("type") {
            "info" => progress.report(Event::new(&resource, EventStatus::Working, text)),
            "error" => failure = Some(text.to_owned()),
            "setenv" => variables.extend(variable().map(|(key, value)| (prefix.clone() + &key, value))),
            "rawsetenv" => variables.extend(variable()),
            _ => {}
        }
    }
    let status = child.wait().map_err(|error| fail(error.to_string()))?;
    match failure {
        Some(reason) => Err(fail(reason)),
        None if !status.success() => Err(fail(format!("{command} ended with {status}"))),
        None => Ok(variables),
    }
}

/// The options as arguments; those that the program does not know are left out, when it says what it knows.
fn options(
    project: &Project,
    provider: &Provider,
    program: &Path,
    command: &str,
) -> std::result::Result<Vec<String>, String> {
    let output = Command::new(program)
        .args(["compose", "metadata"])
        .envs(&project.environment)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let metadata: Value =
        output.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default();
    let parameters = metadata.get(command).and_then(|command| command.get("parameters")).and_then(Value::as_array);
    let name = |parameter: &Value| parameter.get("name").and_then(Value::as_str).map(str::to_owned);
    for parameter in parameters.into_iter().flatten() {
        let is_required = parameter.get("required").and_then(Value::as_bool) == Some(true);
        if let Some(name) = name(parameter).filter(|name| is_required && !provider.options.contains_key(name)) {
            return Err(format!("its option `{name}` is required"));
        }
    }
    let known: Option<Vec<String>> = parameters.map(|list| list.iter().filter_map(name).collect());
    let mut arguments = Vec::new();
    for (key, value) in &provider.options {
        if known.as_ref().is_some_and(|known| !known.contains(key)) {
            continue;
        }
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            arguments.push(format!("--{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        }
    }
    Ok(arguments)
}

/// The program of a provider.
fn find(kind: &str) -> Option<PathBuf> {
    if kind.is_empty() || kind.contains('/') {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    plugin(kind).or_else(|| std::env::split_paths(&path).map(|folder| folder.join(kind)).find(|path| is_program(path)))
}

/// A plugin of Docker's.
fn plugin(kind: &str) -> Option<PathBuf> {
    let name = format!("docker-{kind}");
    let own = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let own = own.or(home).map(|folder| folder.join("cli-plugins"));
    let folders = own.into_iter().chain(PLUGIN_FOLDERS.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(&name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
