//! The little languages of `build`: outputs, secrets, agents, named contexts.
//!
//! Source: docker/buildx `util/buildflags`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::build::{SecretSource, SshSource, is_remote};
use crate::cli::Mistake;

/// Where the result of a build goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Into the store, under its tags.
    Image {
        /// And from there to its registry.
        push: bool,
        /// Names besides those of `-t`.
        names: Vec<String>,
    },
    /// Its files into a folder.
    Local(PathBuf),
    /// Its files into an archive.
    Tar(Destination),
    /// An image archive: an OCI layout that `docker load` reads, too.
    Archive {
        /// Where to.
        destination: Destination,
        /// Whether the destination is a folder (`tar=false`).
        folder: bool,
    },
}

/// A file or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `-`.
    Stdout,
    /// A path.
    File(PathBuf),
}

impl Destination {
    fn of(text: &str) -> Self {
        if text == "-" { Self::Stdout } else { Self::File(text.into()) }
    }
}

/// `type=local,dest=…`, a folder, or `-` for an archive of files on standard output.
pub fn output(text: &str) -> Result<Output, Mistake> {
    let wrong = |reason: &str| Mistake::value("--output", text, reason);
    if text == "-" {
        return Ok(Output::Tar(Destination::Stdout));
    }
    if !text.contains('=') {
        return Ok(Output::Local(text.into()));
    }
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    for field in csv(text) {
        let (key, value) = field.split_once('=').ok_or_else(|| wrong("it takes key=value pairs"))?;
        fields.insert(key.trim().to_ascii_lowercase(), value.to_owned());
    }
    let switch = |key: &str, default: bool| match fields.get(key).map(String::as_str) {
        None => Ok(default),
        Some("" | "true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(_) => Err(wrong(&format!("{key} is true or false"))),
    };
    let destination = fields.get("dest").or_else(|| fields.get("output")).map(|text| Destination::of(text));
    let names = || fields.get("name").map_or(Vec::new(), |names| names.split(',').map(str::to_owned).collect());
    let kind = fields.get("type").ok_or_else(|| wrong("type is missing: local, tar, oci, docker or image"))?;
    match (kind.as_str(), destination) {
        ("local", Some(Destination::File(path))) => Ok(Output::Local(path)),
        ("local", Some(Destination::Stdout)) => Err(wrong("dest of a local output is a folder, not standard output")),
        ("local", None) => Err(wrong("dest is missing")),
        ("tar", destination) => Ok(Output::Tar(destination.unwrap_or(Destination::Stdout))),
        ("docker", None) => Ok(Output::Image { push: false, names: names() }),
        ("docker" | "oci", destination) => Ok(Output::Archive {
            destination: destination.unwrap_or(Destination::Stdout),
            folder: !switch("tar", true)?,
        }),
        ("image", _) => Ok(Output::Image { push: switch("push", false)?, names: names() }),
        ("registry", _) => Ok(Output::Image { push: true, names: names() }),
        ("cacheonly", _) => Ok(Output::Image { push: false, names: Vec::new() }),
        _ => Err(wrong("type is local, tar, oci, docker, image or registry")),
    }
}

/// `id=NAME[,src=FILE|,env=VARIABLE]`.
pub fn secret(text: &str) -> Result<(String, SecretSource), Mistake> {
    let wrong = |reason: String| Mistake::value("--secret", text, &reason);
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in csv(text) {
        let (key, value) =
            field.split_once('=').ok_or_else(|| wrong(format!("invalid field `{field}` must be a key=value pair")))?;
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value.to_owned()),
            "type" if matches!(value, "file" | "env") => kind = Some(value.to_owned()),
            "type" => return Err(wrong(format!("unsupported secret type `{value}` (file or env)"))),
            "source" | "src" => file = Some(value.to_owned()),
            "env" => variable = Some(value.to_owned()),
            _ => return Err(wrong(format!("unexpected key `{key}`"))),
        }
    }
    let id = id.ok_or_else(|| wrong("id is missing".into()))?;
    if kind.as_deref() == Some("env") {
        variable = variable.or(file.take());
    }
    let source = match (file, variable) {
        (_, Some(variable)) => SecretSource::Environment(variable),
        (Some(file), None) => SecretSource::File(absolute(&file)?),
        (None, None) if kind.as_deref() != Some("file") && std::env::var_os(&id).is_some() => {
            SecretSource::Environment(id.clone())
        }
        (None, None) => SecretSource::File(absolute(&id)?),
    };
    if let SecretSource::File(path) = &source
        && !path.is_file()
    {
        return Err(wrong(format!("there is no file {}", path.display())));
    }
    Ok((id, source))
}

/// `default`, or `ID=SOCKET`, or `ID=KEY[,KEY…]`.
pub fn ssh(text: &str) -> Result<(String, SshSource), Mistake> {
    use std::os::unix::fs::FileTypeExt;
    let wrong = |reason: String| Mistake::value("--ssh", text, &reason);
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let id = if id.is_empty() { "default" } else { id };
    if paths.is_empty() {
        let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
        let socket = socket.ok_or_else(|| wrong("there is no SSH agent: SSH_AUTH_SOCK is not set".into()))?;
        return Ok((id.to_owned(), SshSource::Socket(socket.into())));
    }
    let paths = paths.split(',').map(absolute).collect::<Result<Vec<_>, _>>()?;
    let mut sockets = 0;
    for path in &paths {
        let metadata = path.metadata().map_err(|_| wrong(format!("there is no file {}", path.display())))?;
        sockets += usize::from(metadata.file_type().is_socket());
    }
    match (sockets, paths.len()) {
        (0, _) => Ok((id.to_owned(), SshSource::Keys(paths))),
        (1, 1) => Ok((id.to_owned(), SshSource::Socket(paths[0].clone()))),
        _ => Err(wrong("it takes one socket, or keys".into())),
    }
}

/// `NAME=FOLDER|docker-image://…|oci-layout://…|git or http address`.
pub fn named_context(text: &str) -> Result<(String, String), Mistake> {
    let wrong = |reason: String| Mistake::value("--build-context", text, &reason);
    let (name, value) = text.split_once('=').ok_or_else(|| wrong("it takes NAME=VALUE".into()))?;
    if name.is_empty() || value.is_empty() {
        return Err(wrong("it takes NAME=VALUE".into()));
    }
    // Names are those of images: docker.io/library/alpine is alpine.
    let name = name.to_lowercase();
    if let Some(path) = value.strip_prefix("oci-layout://") {
        return Ok((name, format!("oci-layout://{}", absolute(path)?.display())));
    }
    if value.starts_with("docker-image://") || is_remote(value) {
        return Ok((name, value.to_owned()));
    }
    if value.contains("://") || value.starts_with("target:") {
        let reason = "it is none of: a folder, docker-image://, oci-layout://, a git or an http address".into();
        return Err(wrong(reason));
    }
    let path = absolute(value)?;
    if !path.is_dir() {
        return Err(wrong(format!("there is no folder {}", path.display())));
    }
    Ok((name, path.display().to_string()))
}

/// `NAME=SOFT[:HARD]`.
pub fn ulimit(text: &str) -> Result<(String, (i64, i64)), Mistake> {
    let wrong = || Mistake::value("--ulimit", text, "it takes NAME=SOFT[:HARD]");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| if text == "unlimited" { Ok(-1) } else { text.parse().map_err(|_| wrong()) };
    Ok((name.to_owned(), (number(soft)?, number(hard)?)))
}

/// A path below the current folder unless it is absolute.
pub fn absolute(path: impl AsRef<Path>) -> Result<PathBuf, Mistake> {
    let path = path.as_ref();
    std::path::absolute(path).map_err(|_| Mistake::usage(format!("`{}` is not a path", path.display())))
}

/// Fields between commas; a field in double quotes may hold some.
fn csv(text: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs() {
        let file = |path: &str| Destination::File(path.into());
        assert_eq!(output("out").ok(), Some(Output::Local("out".into())));
        assert_eq!(output("-").ok(), Some(Output::Tar(Destination::Stdout)));
        assert_eq!(output("type=tar,dest=x.tar").ok(), Some(Output::Tar(file("x.tar"))));
        assert_eq!(output("type=local,\"dest=a,b\"").ok(), Some(Output::Local("a,b".into())));
        let archive = Output::Archive { destination: file("x"), folder: true };
        assert_eq!(output("type=oci,dest=x,tar=false").ok(), Some(archive));
        assert_eq!(output("type=docker").ok(), Some(Output::Image { push: false, names: Vec::new() }));
        for wrong in ["type=local", "type=x,dest=y", "dest=x", "type=local,dest=-", "type=image,push=x"] {
            assert!(output(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_and_contexts() {
        assert_eq!(secret("id=a,env=B").ok(), Some(("a".into(), SecretSource::Environment("B".into()))));
        assert_eq!(secret("id=a,type=env,src=B").ok(), Some(("a".into(), SecretSource::Environment("B".into()))));
        for wrong in ["a", "src=x", "id=a,src=/no/such/file", "id=a,x=y"] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
        assert_eq!(named_context("A=/").ok(), Some(("a".into(), "/".into())));
        assert_eq!(named_context("a=https://h/x.git").ok(), Some(("a".into(), "https://h/x.git".into())));
        for wrong in ["a", "a=", "a=/no/such/folder", "a=ftp://x", "a=target:b"] {
            assert!(named_context(wrong).is_err(), "{wrong}");
        }
    }
}
