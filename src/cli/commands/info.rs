use std::io::Write;

use serde_json::{Map, Value, json};

use crate::base::units::format_bytes_binary;
use crate::cli::show::template::Template;
use crate::cli::{Context, Failure, Outcome};
use crate::engine::stats::memory_of_host;
use crate::model::container::Status;

/// Show facts about this host and what is on it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output: json or a template such as '{{.Driver}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Shows them.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let facts = facts(context)?;
    let mut out = context.output();
    match args.format.as_deref() {
        None | Some("") => write_text(&mut out, &facts)?,
        Some("json") => writeln!(out, "{}", Value::Object(facts))?,
        Some(template) => writeln!(out, "{}", Template::parse(template)?.fill(&facts)?)?,
    }
    out.flush()?;
    Ok(0)
}

/// Source of the names: moby, `api/types/system.Info`.
fn facts(context: &Context) -> Result<Map<String, Value>, Failure> {
    let engine = context.engine()?;
    let containers = engine.store().containers().list()?;
    let count = |wanted: &[Status]| containers.iter().filter(|(_, state)| wanted.contains(&state.status)).count();
    let running = count(&[Status::Running, Status::Restarting]);
    let paused = count(&[Status::Paused]);
    let host = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let is_unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let row = json!({
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers.len() - running - paused,
        "Images": engine.store().images().ids()?.len(),
        "Driver": "overlayfs",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if is_unified { "2" } else { "1" },
        "DefaultRuntime": "wharf",
        "SecurityOptions": security_options(),
        "KernelVersion": text(host.release()),
        "OperatingSystem": operating_system(),
        "OSType": "linux",
        "Architecture": text(host.machine()),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory_of_host(),
        "Name": text(host.nodename()),
        "DockerRootDir": engine.store().paths().root,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "HttpProxy": variable("HTTP_PROXY"),
        "HttpsProxy": variable("HTTPS_PROXY"),
        "NoProxy": variable("NO_PROXY"),
        "Warnings": engine.network_obstacles(),
    });
    Ok(match row {
        Value::Object(fields) => fields,
        _ => Map::new(),
    })
}

/// A variable that is written in either case.
fn variable(name: &str) -> String {
    std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).unwrap_or_default()
}

/// What this host confines containers by.
fn security_options() -> Vec<&'static str> {
    let apparmor = crate::runtime::apparmor::is_enabled().then_some("name=apparmor");
    apparmor.into_iter().chain(["name=seccomp,profile=builtin"]).collect()
}

/// `PRETTY_NAME` of os-release(5).
fn operating_system() -> String {
    let text = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| std::fs::read_to_string(path).ok());
    let text = text.unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches(['"', '\'']).to_owned())
}

fn write_text(out: &mut impl Write, facts: &Map<String, Value>) -> std::io::Result<()> {
    let fact = |key: &str| match facts.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    writeln!(out, "Client:\n Version:    {}\n Context:    default\n\nServer:", fact("ServerVersion"))?;
    for (indent, title, key) in [
        ("", "Containers", "Containers"),
        (" ", "Running", "ContainersRunning"),
        (" ", "Paused", "ContainersPaused"),
        (" ", "Stopped", "ContainersStopped"),
        ("", "Images", "Images"),
        ("", "Server Version", "ServerVersion"),
        ("", "Storage Driver", "Driver"),
        ("", "Logging Driver", "LoggingDriver"),
        ("", "Cgroup Driver", "CgroupDriver"),
        ("", "Cgroup Version", "CgroupVersion"),
        ("", "Default Runtime", "DefaultRuntime"),
    ] {
        writeln!(out, " {indent}{title}: {}", fact(key))?;
    }
    writeln!(out, " Security Options:")?;
    if crate::runtime::apparmor::is_enabled() {
        writeln!(out, "  apparmor")?;
    }
    writeln!(out, "  seccomp\n   Profile: builtin")?;
    for (title, key) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        writeln!(out, " {title}: {}", fact(key))?;
    }
    let memory = facts.get("MemTotal").and_then(Value::as_u64).unwrap_or(0);
    writeln!(out, " Total Memory: {}", format_bytes_binary(memory))?;
    writeln!(out, " Name: {}\n Docker Root Dir: {}", fact("Name"), fact("DockerRootDir"))?;
    for warning in facts.get("Warnings").and_then(Value::as_array).into_iter().flatten() {
        writeln!(out, "WARNING: {}", warning.as_str().unwrap_or_default())?;
    }
    Ok(())
}
