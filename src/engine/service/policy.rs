//! What is done when a service ends, how its health is told, and where its output goes.

use super::values::{bytes, milliseconds};
use crate::engine::request::HealthWish;
use crate::engine::{Error, Result};
use crate::model::container::{Logging, RestartPolicy};
use crate::model::project::Service;

pub(super) fn restart(service: &Service) -> Result<RestartPolicy> {
    if let Some(policy) = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref()) {
        let attempts = u32::try_from(policy.max_attempts.unwrap_or(0)).unwrap_or(0);
        return Ok(match policy.condition.as_deref() {
            Some("none") => RestartPolicy::No,
            Some("on-failure") => RestartPolicy::OnFailure(attempts),
            _ => RestartPolicy::Always,
        });
    }
    restart_policy(service.restart.as_deref().unwrap_or("no"))
}

/// Reads `no`, `always`, `on-failure[:max]`, `unless-stopped`.
pub fn restart_policy(text: &str) -> Result<RestartPolicy> {
    let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
    Ok(match (name, count) {
        ("" | "no", None) => RestartPolicy::No,
        ("always", None) => RestartPolicy::Always,
        ("unless-stopped", None) => RestartPolicy::UnlessStopped,
        ("on-failure", None) => RestartPolicy::OnFailure(0),
        ("on-failure", Some(count)) if count.parse::<u32>().is_ok() => {
            RestartPolicy::OnFailure(count.parse().unwrap_or(0))
        }
        _ => {
            let expected = "no, always, on-failure[:max-retries] or unless-stopped".to_owned();
            return Err(Error::Value { what: "restart".into(), value: text.to_owned(), expected });
        }
    })
}

pub(super) fn health(service: &Service) -> Result<HealthWish> {
    let Some(check) = &service.healthcheck else { return Ok(HealthWish::default()) };
    let time = |what: &str, text: &Option<String>| text.as_deref().map(|text| milliseconds(what, text)).transpose();
    Ok(HealthWish {
        disable: check.disable,
        test: check.test.clone(),
        interval_ms: time("healthcheck.interval", &check.interval)?,
        timeout_ms: time("healthcheck.timeout", &check.timeout)?,
        start_period_ms: time("healthcheck.start_period", &check.start_period)?,
        start_interval_ms: time("healthcheck.start_interval", &check.start_interval)?,
        retries: check.retries.and_then(|retries| u32::try_from(retries).ok()),
    })
}

pub(super) fn logging(service: &Service) -> Result<Option<Logging>> {
    let Some(wish) = &service.logging else { return Ok(None) };
    let options = wish.options.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_deref()?)));
    log_options(wish.driver.as_deref().unwrap_or("json-file"), options).map(Some)
}

/// Reads a log driver with its options. Drivers that send logs elsewhere are not there: the log stays on disk.
pub fn log_options<'a>(driver: &str, options: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Logging> {
    let mut logging = Logging { enabled: driver != "none", ..Logging::default() };
    for (key, value) in options {
        match key {
            "max-size" => logging.max_size_bytes = bytes("logging.options.max-size", value)?,
            "max-file" => {
                let invalid = || Error::Value {
                    what: "logging.options.max-file".into(),
                    value: value.to_owned(),
                    expected: "a number above 0".into(),
                };
                logging.max_files = value.parse().ok().filter(|files| *files > 0).ok_or_else(invalid)?;
            }
            "labels" => logging.labels = value.split(',').map(|name| name.trim().to_owned()).collect(),
            "env" => logging.env = value.split(',').map(|name| name.trim().to_owned()).collect(),
            // They describe the log to others, or how it is kept: ours says all of it, and is never in the way.
            "labels-regex" | "env-regex" | "tag" | "compress" | "mode" | "max-buffer-size" => {}
            other if matches!(driver, "json-file" | "local") => {
                return Err(Error::Value {
                    what: "logging.options".into(),
                    value: other.to_owned(),
                    expected: format!("an option of {driver}: max-size, max-file, compress, labels, env, tag, mode"),
                });
            }
            _ => {}
        }
    }
    Ok(logging)
}
