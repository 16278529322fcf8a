//! Values of flags that are little languages of their own: ports, volumes, environment, limits.

pub mod build;
pub mod container;
mod gpus;
pub mod limits;
pub mod more;
pub mod network;
pub mod port;
pub mod volume;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Mistake;
use crate::base::fs::read_limited;
use crate::model::project::OptionalMap;

/// Largest file of environment variables.
const ENVIRONMENT_BYTES_MAX: u64 = 4 << 20;

/// `KEY=value`, or `KEY` for the caller's own value; one that is not set there stays unset.
pub fn environment(entries: &[String]) -> OptionalMap {
    entries
        .iter()
        .filter_map(|entry| match entry.split_once('=') {
            Some((key, value)) => Some((key.to_owned(), Some(value.to_owned()))),
            None => Some((entry.clone(), Some(std::env::var(entry).ok()?))),
        })
        .collect()
}

/// A file of `KEY=value` lines as `docker run --env-file` reads it: no quotes, `#` begins a comment line.
pub fn environment_file(path: &Path) -> Result<OptionalMap, super::Failure> {
    let content = read_limited(path, ENVIRONMENT_BYTES_MAX)?;
    environment_lines(&String::from_utf8_lossy(&content))
        .map_err(|(number, reason)| super::Mistake::usage(format!("{}:{number}: {reason}", path.display())).into())
}

/// Errors: the line's number, and what is wrong with it.
fn environment_lines(text: &str) -> Result<OptionalMap, (usize, String)> {
    let mut lines = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err((number + 1, format!("no variable name in `{line}`")));
        }
        if name.contains(char::is_whitespace) {
            return Err((number + 1, format!("the variable name `{name}` has white space in it")));
        }
        lines.push(line.to_owned());
    }
    Ok(environment(&lines))
}

/// `KEY=value`, or `KEY` with an empty value.
pub fn labels(entries: &[String]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|entry| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

/// `SERVICE=N`.
pub fn scale(entries: &[String]) -> Result<BTreeMap<String, u32>, Mistake> {
    entries
        .iter()
        .map(|entry| {
            let invalid = || Mistake::value("--scale", entry, "it takes SERVICE=NUMBER");
            let (service, number) = entry.split_once('=').ok_or_else(invalid)?;
            Ok((service.to_owned(), number.parse().map_err(|_| invalid())?))
        })
        .collect()
}

/// A number of seconds.
pub fn seconds(flag: &'static str, value: Option<i64>) -> Result<Option<Duration>, Mistake> {
    match value {
        None => Ok(None),
        // Docker waits without end for a negative number.
        Some(seconds) if seconds < 0 => Ok(Some(Duration::from_secs(u64::from(u32::MAX)))),
        Some(seconds) => u64::try_from(seconds)
            .map(|seconds| Some(Duration::from_secs(seconds)))
            .map_err(|_| Mistake::value(flag, &seconds.to_string(), "it takes a number of seconds")),
    }
}

/// A switch in the environment: `1`, `true`, `yes`.
pub fn switch(environment: &BTreeMap<String, String>, variable: &str) -> bool {
    environment
        .get(variable)
        .is_some_and(|value| ["1", "t", "true", "y", "yes", "on"].contains(&value.to_ascii_lowercase().as_str()))
}

/// How files are watched in the environment of a project.
///
/// `WHARF_WATCH_POLL=1` looks at everything from time to time: for folders of other hosts, which send no events.
pub fn watch_options(project: &crate::model::project::Project) -> crate::watch::Options {
    crate::watch::Options { poll: switch(&project.environment, "WHARF_WATCH_POLL"), ..crate::watch::Options::default() }
}

/// The platform that `DOCKER_DEFAULT_PLATFORM` names.
pub fn default_platform() -> Option<String> {
    std::env::var("DOCKER_DEFAULT_PLATFORM").ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_takes_the_callers_values() {
        let map = environment(&["A=1=2", "B=", "PATH", "WHARF_NOT_SET_ANYWHERE"].map(str::to_owned));
        assert_eq!(map.get("A"), Some(&Some("1=2".into())));
        assert_eq!(map.get("B"), Some(&Some(String::new())));
        assert_eq!(map.get("PATH"), Some(&std::env::var("PATH").ok()));
        assert!(!map.contains_key("WHARF_NOT_SET_ANYWHERE"));
    }

    #[test]
    fn files_have_names_without_spaces() {
        let map = environment_lines("\u{feff}# said\n\n A=1 \nB=\"q\" # no comment\nC=\n").expect("good lines");
        assert_eq!(map.get("A"), Some(&Some("1 ".into())));
        assert_eq!(map.get("B"), Some(&Some("\"q\" # no comment".into())));
        assert_eq!(map.get("C"), Some(&Some(String::new())));
        assert_eq!(environment_lines("A=1\nB C=2").expect_err("a space").0, 2);
        assert_eq!(environment_lines("=2").expect_err("no name").0, 1);
    }

    #[test]
    fn scales_are_numbers() {
        assert_eq!(scale(&["web=3".into()]).ok(), Some(BTreeMap::from([("web".to_owned(), 3)])));
        for wrong in ["web", "web=", "web=-1", "web=x"] {
            assert!(scale(&[wrong.into()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_negative_time_is_without_end() {
        assert_eq!(seconds("-t", Some(3)).ok(), Some(Some(Duration::from_secs(3))));
        assert!(seconds("-t", Some(-1)).ok().flatten().is_some_and(|time| time.as_secs() > 1_000_000));
    }
}
