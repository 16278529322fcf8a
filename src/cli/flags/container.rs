//! Flags that say what a container is and may do: those of `docker run`, as far as wharf has them.

use std::path::{Path, PathBuf};

use super::limits::LimitFlags;
use super::more::MoreFlags;
use super::{port, volume};
use crate::base::units::{parse_bytes, parse_duration};
use crate::cli::{Failure, Mistake};
use crate::engine::request::{HealthWish, Request};
use crate::engine::service::log_options;
use crate::engine::users;
use crate::model::container::{DeviceMapping, Logging, NamespaceMode, RestartPolicy, Seccomp};

/// What `run` and `create` take besides the image and its command.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Container")]
pub struct ContainerFlags {
    /// Show this help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Environment variable; without a value, the caller's
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// File of environment variables
    #[arg(long = "env-file", visible_alias = "env-from-file", value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Program instead of the image's; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// User (and group) of the process
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Working folder of the process
    #[arg(short, long, value_name = "FOLDER")]
    pub workdir: Option<String>,
    /// Label
    #[arg(short, long, value_name = "KEY[=VALUE]", alias = "labels")]
    pub label: Vec<String>,
    /// Published port
    #[arg(short, long, value_name = "[HOST:]PORT")]
    pub publish: Vec<String>,
    /// Port that is declared, not published
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// Volume or folder of the host
    #[arg(short, long, value_name = "[SOURCE:]TARGET", alias = "volumes")]
    pub volume: Vec<String>,
    /// Mount in long form: type=bind,source=/a,target=/b
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// File system in memory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Network: a name, none, host or container:NAME; may be given several times, also as name=…,alias=…,ip=…
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Further name in the network
    #[arg(long, value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Host name inside
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Line for /etc/hosts
    #[arg(long, value_name = "HOST:ADDRESS")]
    pub add_host: Vec<String>,
    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Capability to add
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Capability to drop
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices
    #[arg(long)]
    pub privileged: bool,
    /// no-new-privileges, seccomp=unconfined, seccomp=FILE, systempaths=unconfined
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Device of the host
    #[arg(long, value_name = "PATH[:PATH[:rwm]]")]
    pub device: Vec<String>,
    /// PID namespace: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// IPC namespace: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// UTS namespace: host
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Read-only root file system
    #[arg(long)]
    pub read_only: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Limit of the process: nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Kernel parameter
    #[arg(long, value_name = "KEY=VALUE")]
    pub sysctl: Vec<String>,
    /// Further group of the process
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// An init that reaps processes and forwards signals
    #[arg(long)]
    pub init: bool,
    /// no, always, on-failure[:N] or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Signal that stops it
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds between that signal and SIGKILL
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u64>,
    /// Health check, run by the shell
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between health checks
    #[arg(long, value_name = "DURATION")]
    pub health_interval: Option<String>,
    /// Time that one may take
    #[arg(long, value_name = "DURATION")]
    pub health_timeout: Option<String>,
    /// Time in which failures do not count
    #[arg(long, value_name = "DURATION")]
    pub health_start_period: Option<String>,
    /// Failures in a row until unhealthy
    #[arg(long, value_name = "NUMBER")]
    pub health_retries: Option<u32>,
    /// No health check, also not the image's
    #[arg(long)]
    pub no_healthcheck: bool,
    /// json-file, local or none
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Option of the log: max-size=10m, max-file=3
    #[arg(long, value_name = "KEY=VALUE")]
    pub log_opt: Vec<String>,
    /// `os/arch` of the image
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// What it may use.
    #[command(flatten)]
    pub limits: LimitFlags,
    /// What few people need.
    #[command(flatten)]
    pub more: MoreFlags,
}

impl ContainerFlags {
    /// Lays the flags over `request`: what was not given leaves it as it is. `find` finds a container by name.
    pub fn apply(
        &self,
        request: &mut Request,
        folder: &Path,
        find: impl Fn(&str) -> Result<crate::base::id::ContainerId, Failure>,
    ) -> Result<(), Failure> {
        self.apply_process(request)?;
        self.apply_files(request, folder)?;
        self.apply_network(request)?;
        self.apply_security(request, &find)?;
        self.apply_limits(request)?;
        self.apply_life(request)?;
        self.more.apply(request)
    }

    fn apply_process(&self, request: &mut Request) -> Result<(), Failure> {
        for file in &self.env_file {
            request.environment.extend(super::environment_file(file)?);
        }
        request.environment.extend(super::environment(&self.env));
        request.labels.extend(super::labels(&self.label));
        if let Some(entrypoint) = &self.entrypoint {
            request.entrypoint = Some(Some(entrypoint.clone()).filter(|text| !text.is_empty()).into_iter().collect());
        }
        replace(&mut request.name, &self.name);
        replace(&mut request.user, &self.user);
        replace(&mut request.working_dir, &self.workdir);
        replace(&mut request.hostname, &self.hostname);
        request.additional_groups.extend(self.group_add.iter().cloned());
        request.init |= self.init;
        Ok(())
    }

    fn apply_files(&self, request: &mut Request, folder: &Path) -> Result<(), Failure> {
        let mut mounts = Vec::new();
        for text in &self.volume {
            mounts.push(volume::parse(text, folder)?);
        }
        for text in &self.mount {
            mounts.push(volume::parse_mount(text, folder)?);
        }
        for text in &self.tmpfs {
            mounts.push(volume::parse_tmpfs(text)?);
        }
        // A mount on the command line hides the file's at the same place.
        request.mounts.retain(|old| !mounts.iter().any(|new| new.target == old.target));
        request.mounts.extend(mounts);
        request.read_only |= self.read_only;
        if let Some(size) = &self.shm_size {
            request.shm_size_bytes = Some(bytes("--shm-size", size)?);
        }
        Ok(())
    }

    fn apply_network(&self, request: &mut Request) -> Result<(), Failure> {
        for text in &self.publish {
            request.ports.extend(port::parse(text)?);
        }
        for text in &self.expose {
            request.exposed_ports.extend(port::parse_exposed(text)?);
        }
        for entry in &self.add_host {
            if !entry.contains([':', '=']) {
                return Err(Mistake::value("--add-host", entry, "it takes HOST:ADDRESS").into());
            }
            request.extra_hosts.push(entry.replacen('=', ":", 1));
        }
        request.dns.extend(self.dns.iter().cloned());
        Ok(())
    }

    fn apply_security(
        &self,
        request: &mut Request,
        find: &impl Fn(&str) -> Result<crate::base::id::ContainerId, Failure>,
    ) -> Result<(), Failure> {
        let security = &mut request.security;
        security.privileged |= self.privileged;
        security.cap_add.extend(self.cap_add.iter().cloned());
        security.cap_drop.extend(self.cap_drop.iter().cloned());
        for device in &self.device {
            security.devices.push(parse_device(device)?);
        }
        for option in &self.security_opt {
            match option.split_once(['=', ':']).unwrap_or((option, "true")) {
                ("no-new-privileges", value) => security.no_new_privileges = value == "true",
                ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
                ("seccomp", file) => {
                    let text = crate::base::fs::read_limited(Path::new(file), 1 << 20)?;
                    security.seccomp = Seccomp::Profile(String::from_utf8_lossy(&text).into_owned());
                }
                ("systempaths", "unconfined") => security.unmasked = true,
                ("apparmor", profile) => security.apparmor = Some(profile.to_owned()),
                // As in a Docker whose host has no SELinux: taken, and there is nothing to label.
                ("label", _) => {}
                _ => {
                    let reason = "it takes no-new-privileges, seccomp=…, apparmor=…, label=… or systempaths=unconfined";
                    return Err(Mistake::value("--security-opt", option, reason).into());
                }
            }
        }
        for (flag, value, mode) in [
            ("--pid", &self.pid, &mut security.pid),
            ("--ipc", &self.ipc, &mut security.ipc),
            ("--uts", &self.uts, &mut security.uts),
        ] {
            if let Some(value) = value {
                *mode = match value.strip_prefix("container:") {
                    Some(name) => NamespaceMode::Container(find(name)?),
                    None if value == "host" => NamespaceMode::Host,
                    None if matches!(value.as_str(), "private" | "shareable") => NamespaceMode::Private,
                    None => return Err(Mistake::value(flag, value, "it takes host or container:NAME").into()),
                };
            }
        }
        if let Some(mode) = &self.more.userns {
            let other = match mode.strip_prefix("container:") {
                Some(name) => Some(find(name)?),
                None => None,
            };
            security.user = users::parse(mode, |_| Ok(other))?;
        }
        Ok(())
    }

    fn apply_limits(&self, request: &mut Request) -> Result<(), Failure> {
        self.limits.apply(&mut request.resources)?;
        for text in &self.ulimit {
            let invalid = || Mistake::value("--ulimit", text, "it takes NAME=SOFT[:HARD]");
            let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
            let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
            let number = |text: &str| text.parse::<i64>().ok().filter(|limit| *limit >= -1).ok_or_else(invalid);
            request.ulimits.insert(name.to_owned(), (number(soft)?, number(hard)?));
        }
        for text in &self.sysctl {
            let (key, value) =
                text.split_once('=').ok_or_else(|| Mistake::value("--sysctl", text, "it takes KEY=VALUE"))?;
            request.sysctls.insert(key.to_owned(), value.to_owned());
        }
        Ok(())
    }

    fn apply_life(&self, request: &mut Request) -> Result<(), Failure> {
        if let Some(policy) = &self.restart {
            request.restart = parse_restart(policy)?;
        }
        replace(&mut request.stop_signal, &self.stop_signal);
        replace(&mut request.stop_timeout_ms, &self.stop_timeout.map(|seconds| seconds.saturating_mul(1000)));
        self.apply_health(&mut request.healthcheck)?;
        if self.log_driver.is_some() || !self.log_opt.is_empty() {
            request.logging = Some(self.logging()?);
        }
        Ok(())
    }

    fn apply_health(&self, health: &mut HealthWish) -> Result<(), Failure> {
        health.disable |= self.no_healthcheck;
        if let Some(command) = &self.health_cmd {
            health.test = vec!["CMD-SHELL".into(), command.clone()];
        }
        replace(&mut health.interval_ms, &milliseconds("--health-interval", &self.health_interval)?);
        replace(&mut health.timeout_ms, &milliseconds("--health-timeout", &self.health_timeout)?);
        replace(&mut health.start_period_ms, &milliseconds("--health-start-period", &self.health_start_period)?);
        let start_interval = milliseconds("--health-start-interval", &self.more.health_start_interval)?;
        replace(&mut health.start_interval_ms, &start_interval);
        replace(&mut health.retries, &self.health_retries);
        Ok(())
    }

    fn logging(&self) -> Result<Logging, Mistake> {
        let driver = self.log_driver.as_deref().unwrap_or("json-file");
        if !matches!(driver, "json-file" | "local" | "none") {
            return Err(Mistake::value("--log-driver", driver, "it takes json-file, local or none"));
        }
        let mut options = Vec::new();
        for option in &self.log_opt {
            options
                .push(option.split_once('=').ok_or_else(|| Mistake::value("--log-opt", option, "it takes KEY=VALUE"))?);
        }
        log_options(driver, options.iter().copied())
            .map_err(|error| Mistake::value("--log-opt", &self.log_opt.join(" "), error))
    }
}

pub(super) fn replace<T: Clone>(slot: &mut Option<T>, value: &Option<T>) {
    if value.is_some() {
        slot.clone_from(value);
    }
}

pub(super) fn bytes(flag: &'static str, text: &str) -> Result<u64, Mistake> {
    parse_bytes(text).map_err(|_| Mistake::value(flag, text, "it takes a size, such as 64m"))
}

fn milliseconds(flag: &'static str, text: &Option<String>) -> Result<Option<u64>, Mistake> {
    let Some(text) = text else { return Ok(None) };
    let duration = parse_duration(text).map_err(|_| Mistake::value(flag, text, "it takes a duration, such as 30s"))?;
    Ok(Some(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
}

fn parse_device(text: &str) -> Result<DeviceMapping, Mistake> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, permissions] if !permissions.starts_with('/') => (*source, *source, *permissions),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ => return Err(Mistake::value("--device", text, "it takes PATH[:PATH[:rwm]]")),
    };
    if permissions.is_empty() || !permissions.chars().all(|c| "rwm".contains(c)) {
        return Err(Mistake::value("--device", text, "the permissions are letters of rwm"));
    }
    Ok(DeviceMapping { source: source.into(), target: target.into(), permissions: permissions.into() })
}

/// Reads `--restart`.
pub fn parse_restart(text: &str) -> Result<RestartPolicy, Mistake> {
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    match (name, count.map(str::parse::<u32>)) {
        ("no", None) => Ok(RestartPolicy::No),
        ("always", None) => Ok(RestartPolicy::Always),
        ("unless-stopped", None) => Ok(RestartPolicy::UnlessStopped),
        ("on-failure", None) => Ok(RestartPolicy::OnFailure(0)),
        ("on-failure", Some(Ok(count))) => Ok(RestartPolicy::OnFailure(count)),
        _ => Err(Mistake::value("--restart", text, "it takes no, always, on-failure[:N] or unless-stopped")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        flags: ContainerFlags,
    }

    fn apply(line: &str) -> Result<Request, String> {
        let words = std::iter::once("run").chain(line.split_whitespace());
        let flags = Line::try_parse_from(words).map_err(|error| error.to_string())?.flags;
        let mut request = Request::default();
        let find = |_: &str| Ok(crate::base::id::ContainerId::random());
        match flags.apply(&mut request, Path::new("/"), find) {
            Ok(()) => Ok(request),
            Err(Failure::Error(error)) => Err(error.to_string()),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn flags_become_a_request() {
        let request = apply("-e A=1 -u 5:6 -w /x -l a=b -m 64m --cpus 1.5 --pids-limit -1 --ulimit nofile=1:2 --restart on-failure:3 --health-cmd true --health-interval 5s --entrypoint sh --init --log-opt max-size=1m --pid host").expect("good flags");
        assert_eq!(request.environment.get("A"), Some(&Some("1".into())));
        assert_eq!((request.user.as_deref(), request.working_dir.as_deref()), (Some("5:6"), Some("/x")));
        assert_eq!(
            (request.resources.memory_bytes, request.resources.cpus, request.resources.pids),
            (Some(64 << 20), Some(1.5), Some(-1))
        );
        assert_eq!(request.ulimits.get("nofile"), Some(&(1, 2)));
        assert_eq!(request.restart, RestartPolicy::OnFailure(3));
        assert_eq!((request.healthcheck.test.len(), request.healthcheck.interval_ms), (2, Some(5000)));
        assert_eq!(request.entrypoint, Some(vec!["sh".into()]));
        assert!(request.init);
        assert_eq!(request.logging.map(|logging| logging.max_size_bytes), Some(1 << 20));
        assert_eq!(request.security.pid, NamespaceMode::Host);
    }

    #[test]
    fn an_empty_entrypoint_clears_the_images() {
        let flags = Line::try_parse_from(["run", "--entrypoint", ""]).unwrap_or_else(|error| panic!("{error}")).flags;
        let mut request = Request { entrypoint: Some(vec!["x".into()]), ..Request::default() };
        assert!(flags.apply(&mut request, Path::new("/"), |_| Ok(crate::base::id::ContainerId::random())).is_ok());
        assert_eq!(request.entrypoint, Some(Vec::new()));
    }

    #[test]
    fn bad_values_name_their_flag() {
        for (line, flag) in [
            ("--restart sometimes", "--restart"),
            ("-m lots", "--memory"),
            ("--ulimit nofile", "--ulimit"),
            ("--device a:b:c:d", "--device"),
            ("--security-opt what", "--security-opt"),
            ("--pid mars", "--pid"),
            ("--health-interval 5", "--health-interval"),
            ("--log-driver syslog", "--log-driver"),
            ("--log-opt max-file=0", "--log-opt"),
            ("--add-host x", "--add-host"),
        ] {
            let error = apply(line).expect_err(line);
            assert!(error.contains(&format!("no value for {flag}")), "{line}: {error}");
        }
    }
}
