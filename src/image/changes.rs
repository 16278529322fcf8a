//! Dockerfile instructions applied to a config: `import --change`, `commit --change`.
//!
//! Only instructions that change the config alone; variables are not expanded, as in Docker.

use super::{Error, Result};
use crate::model::image::{ContainerDefaults, ImageHealthcheck};

/// Applies `changes`, one instruction each, to `config`.
///
/// Errors: `InvalidChange` names the instruction and what is wrong with it.
pub fn apply_changes(config: &mut ContainerDefaults, changes: &[String]) -> Result<()> {
    for change in changes {
        apply(config, change).map_err(|reason| Error::InvalidChange { change: change.clone(), reason })?;
    }
    Ok(())
}

fn apply(config: &mut ContainerDefaults, change: &str) -> std::result::Result<(), &'static str> {
    let change = change.trim();
    let (instruction, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let rest = rest.trim();
    let instruction = instruction.to_ascii_uppercase();
    if rest.is_empty() {
        return Err("it has no arguments");
    }
    match instruction.as_str() {
        "CMD" => {
            let shell = config.shell.clone();
            config.cmd = Some(command(rest, shell.as_deref()));
        }
        "ENTRYPOINT" => {
            let shell = config.shell.clone();
            config.entrypoint = Some(command(rest, shell.as_deref()));
        }
        "SHELL" => config.shell = Some(json_words(rest).ok_or("it must be a JSON array of strings")?),
        "ENV" => {
            for (key, value) in pairs(rest)? {
                let prefix = format!("{key}=");
                config.env.retain(|variable| !variable.starts_with(&prefix));
                config.env.push(format!("{prefix}{value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest)?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let port = if port.contains('/') { port.to_ascii_lowercase() } else { format!("{port}/tcp") };
                let number = port.split('/').next().unwrap_or_default();
                if !number.split('-').all(|number| number.parse::<u16>().is_ok()) {
                    return Err("a port is a number from 1 to 65535");
                }
                config.exposed_ports.insert(port, serde_json::json!({}));
            }
        }
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => {
            let base = if rest.starts_with('/') { "" } else { config.working_dir.trim_end_matches('/') };
            config.working_dir = if rest.starts_with('/') { rest.to_owned() } else { format!("{base}/{rest}") };
        }
        "VOLUME" => {
            let paths = json_words(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            config.volumes.extend(paths.into_iter().map(|path| (path, serde_json::json!({}))));
        }
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        _ => {
            return Err(
                "only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR can be given here",
            );
        }
    }
    Ok(())
}

fn healthcheck(rest: &str) -> std::result::Result<ImageHealthcheck, &'static str> {
    if rest.eq_ignore_ascii_case("none") {
        return Ok(ImageHealthcheck { test: vec!["NONE".into()], ..Default::default() });
    }
    let Some(rest) = rest.strip_prefix("CMD ").or_else(|| rest.strip_prefix("cmd ")) else {
        return Err("it must be `NONE` or `CMD` and a command");
    };
    let test = match json_words(rest.trim()) {
        Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
        None => vec!["CMD-SHELL".to_owned(), rest.trim().to_owned()],
    };
    Ok(ImageHealthcheck { test, ..Default::default() })
}

fn json_words(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

/// The exec form as it is, the shell form as arguments of the shell.
fn command(text: &str, shell: Option<&[String]>) -> Vec<String> {
    json_words(text).unwrap_or_else(|| {
        let mut words = shell.map_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()], <[String]>::to_vec);
        words.push(text.to_owned());
        words
    })
}

/// `k=v k2="v 2"`, or the old form `k v`.
fn pairs(text: &str) -> std::result::Result<Vec<(String, String)>, &'static str> {
    let words = words(text)?;
    let Some(first) = words.first() else { return Err("it has no arguments") };
    if !first.contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).ok_or("it must be `key=value`")?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err("it must be `key=value`"),
        })
        .collect()
}

/// Splits at blanks; quotes and backslashes as in a Dockerfile.
fn words(text: &str) -> std::result::Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\\', Some('"')) if matches!(characters.peek(), Some('"' | '\\' | '$')) => {
                word.get_or_insert_default().extend(characters.next());
            }
            ('\\', None) => word.get_or_insert_default().extend(characters.next()),
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<ContainerDefaults> {
        let mut config = ContainerDefaults::default();
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply_changes(&mut config, &changes).map(|()| config)
    }

    #[test]
    fn instructions_change_the_config() {
        let config = applied(&[
            r#"CMD ["redis-server", "--port", "1"]"#,
            "ENTRYPOINT exec me",
            r#"ENV A=1 B="two words" C=a\ b"#,
            "env A=2",
            "LABEL x y z",
            "EXPOSE 80 53/udp",
            "WORKDIR /srv",
            "WORKDIR app",
            r#"VOLUME ["/data"]"#,
            "USER 1000:1000",
            "HEALTHCHECK CMD curl localhost",
        ])
        .unwrap();
        assert_eq!(config.cmd.unwrap(), ["redis-server", "--port", "1"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "exec me"]);
        assert_eq!(config.env, ["B=two words", "C=a b", "A=2"]);
        assert_eq!(config.labels["x"], "y z");
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.working_dir, "/srv/app");
        assert!(config.volumes.contains_key("/data"));
        assert_eq!(config.user, "1000:1000");
        assert_eq!(config.healthcheck.unwrap().test, ["CMD-SHELL", "curl localhost"]);
    }

    #[test]
    fn wrong_instructions_are_named() {
        for change in ["RUN x", "CMD", "ENV =x", "ENV A=\"x", "EXPOSE http", "HEALTHCHECK maybe", "SHELL sh", ""] {
            assert!(matches!(applied(&[change]), Err(Error::InvalidChange { .. })), "{change}");
        }
    }
}
