//! `-v [source:]target[:options]`, `--tmpfs target[:options]` and `--mount type=…,source=…,target=…`.
//!
//! Source: <https://docs.docker.com/engine/storage/bind-mounts/>, moby `volume/mounts/linux_parser.go`.

use std::path::{Path, PathBuf};

use crate::base::id::random_hex;
use crate::base::units::parse_bytes;
use crate::cli::Mistake;
use crate::model::container::{Mount, MountSource};

/// Reads `-v`; relative sources that begin with a dot start at `folder`.
pub fn parse(text: &str, folder: &Path) -> Result<Mount, Mistake> {
    let invalid = |reason: &str| Mistake::value("-v", text, reason);
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err(invalid("it takes [source:]target[:options]")),
    };
    if !target.starts_with('/') {
        return Err(invalid("the path inside must begin with `/`"));
    }
    let mut options = Options::parse(options).map_err(|option| invalid(&format!("there is no option `{option}`")))?;
    let source = match source {
        None => volume(random_hex(32), true, !options.nocopy),
        Some("") => return Err(invalid("the source is empty")),
        Some(path) if path.starts_with(['/', '.', '~']) => MountSource::Bind {
            path: absolute(path, folder),
            create: true,
            propagation: options.propagation.take(),
            recursive: true,
            idmap: options.idmap,
        },
        Some(name) => volume(name.to_owned(), false, !options.nocopy),
    };
    Ok(Mount { target: clean(target), read_only: options.read_only, source })
}

/// Reads `--tmpfs`.
pub fn parse_tmpfs(text: &str) -> Result<Mount, Mistake> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let invalid = |reason: &str| Mistake::value("--tmpfs", text, reason);
    if !target.starts_with('/') {
        return Err(invalid("the path inside must begin with `/`"));
    }
    let (mut size_bytes, mut mode, mut others, mut read_only) = (None, None, Vec::new(), false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", size)) => size_bytes = Some(parse_bytes(size).map_err(|error| invalid(&error.to_string()))?),
            Some(("mode", digits)) => {
                mode = Some(u32::from_str_radix(digits, 8).map_err(|_| invalid("the mode is octal, such as 1777"))?);
            }
            _ if option == "ro" => read_only = true,
            _ if option == "rw" => {}
            _ => others.push(option.to_owned()),
        }
    }
    Ok(Mount { target: clean(target), read_only, source: MountSource::Tmpfs { size_bytes, mode, options: others } })
}

/// The image that `--mount type=image,source=…` names.
pub fn image_of_mount(text: &str) -> Option<&str> {
    let mut fields = text.split(',').filter_map(|field| field.split_once('='));
    let is_image = fields.clone().any(|field| field == ("type", "image"));
    fields.find(|(key, _)| is_image && matches!(*key, "source" | "src")).map(|(_, name)| name)
}

/// Reads `--mount`. One of an image gets its layers later.
pub fn parse_mount(text: &str, folder: &Path) -> Result<Mount, Mistake> {
    let invalid = |reason: String| Mistake::value("--mount", text, reason);
    let (mut kind, mut source, mut target, mut read_only) = ("volume", None, None, false);
    let (mut propagation, mut subpath, mut nocopy, mut size_bytes, mut mode) = (None, None, false, None, None);
    let (mut idmap, mut recursive) = (false, true);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, "true"));
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = value,
            "source" | "src" => source = Some(value),
            "target" | "dst" | "destination" => target = Some(value),
            "readonly" | "ro" => read_only = matches!(value, "true" | "1"),
            "bind-propagation" => propagation = Some(value.to_owned()),
            "volume-subpath" => subpath = Some(value.to_owned()),
            "volume-nocopy" => nocopy = matches!(value, "true" | "1"),
            "tmpfs-size" => size_bytes = Some(parse_bytes(value).map_err(|error| invalid(error.to_string()))?),
            "bind-recursive" => match value {
                "enabled" | "writable" => {}
                "disabled" => recursive = false,
                _ => return Err(invalid("`bind-recursive` takes enabled, disabled or writable".into())),
            },
            "bind-nonrecursive" => recursive = !matches!(value, "true" | "1"),
            "image-subpath" if kind == "image" => subpath = Some(value.to_owned()),
            "consistency" => {}
            "idmap" => idmap = matches!(value, "true" | "1"),
            "tmpfs-mode" => mode = u32::from_str_radix(value, 8).ok(),
            _ => return Err(invalid(format!("there is no key `{key}`"))),
        }
    }
    let target = target.filter(|target| target.starts_with('/'));
    let target = target.ok_or_else(|| invalid("it needs target=/a/path/inside".into()))?;
    let source = match (kind, source) {
        ("bind", Some(path)) => {
            MountSource::Bind { path: absolute(path, folder), create: false, propagation, recursive, idmap }
        }
        ("volume", Some(name)) => {
            MountSource::Volume { name: name.to_owned(), subpath, copy: !nocopy, anonymous: false }
        }
        ("volume", None) => volume(random_hex(32), true, !nocopy),
        ("image", Some(_)) => {
            read_only = true;
            MountSource::Image { layers: Vec::new(), subpath }
        }
        ("tmpfs", None) => MountSource::Tmpfs { size_bytes, mode, options: Vec::new() },
        ("bind", None) => return Err(invalid("a bind needs source=/a/path".into())),
        _ => return Err(invalid(format!("type `{kind}` is none of bind, volume, tmpfs and image"))),
    };
    Ok(Mount { target: clean(target), read_only, source })
}

#[derive(Default)]
struct Options {
    read_only: bool,
    nocopy: bool,
    idmap: bool,
    propagation: Option<String>,
}

impl Options {
    /// Reads `ro,rslave`; returns the one that is none.
    fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => options.read_only = true,
                // SELinux labels are not ours to set; the files are as they are.
                "rw" | "z" | "Z" => {}
                "nocopy" => options.nocopy = true,
                "idmap" => options.idmap = true,
                "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => {
                    options.propagation = Some(option.to_owned());
                }
                other => return Err(other.to_owned()),
            }
        }
        Ok(options)
    }
}

fn volume(name: String, anonymous: bool, copy: bool) -> MountSource {
    MountSource::Volume { name, subpath: None, copy, anonymous }
}

fn absolute(path: &str, folder: &Path) -> PathBuf {
    let expanded = match (path.strip_prefix('~'), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            PathBuf::from(home).join(rest.trim_start_matches('/'))
        }
        _ => folder.join(path),
    };
    expanded.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

/// The path without doubled and trailing slashes.
fn clean(target: &str) -> String {
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &str) -> MountSource {
        MountSource::Bind { path: path.into(), create: true, propagation: None, recursive: true, idmap: false }
    }

    #[test]
    fn volumes_as_docker_reads_them() {
        let folder = Path::new("/work");
        for (text, target, read_only, source) in [
            ("/src:/dst", "/dst", false, bind("/src")),
            ("./src:/dst/:ro", "/dst", true, bind("/work/src")),
            ("../x:/dst", "/dst", false, bind("/work/../x")),
            ("data:/var//lib", "/var/lib", false, volume("data".into(), false, true)),
            ("data:/d:ro,nocopy", "/d", true, volume("data".into(), false, false)),
        ] {
            let expected = Mount { target: target.into(), read_only, source };
            assert_eq!(parse(text, folder).map_err(|error| error.to_string()), Ok(expected), "{text}");
        }
        let anonymous = parse("/data", folder).expect("an anonymous volume");
        assert!(matches!(anonymous.source, MountSource::Volume { anonymous: true, .. }));
        for wrong in ["", "data", "a:b", ":/x", "a:/b:bogus", "a:/b:ro:x"] {
            assert!(parse(wrong, folder).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tmpfs_has_a_size_and_a_mode() {
        let mount = parse_tmpfs("/run:size=64m,mode=700,noexec").expect("a tmpfs");
        let options = vec!["noexec".to_owned()];
        assert_eq!(mount.source, MountSource::Tmpfs { size_bytes: Some(64 << 20), mode: Some(0o700), options });
        assert!(parse_tmpfs("run").is_err());
        assert!(parse_tmpfs("/run:size=x").is_err());
    }

    #[test]
    fn mounts_have_keys() {
        let folder = Path::new("/work");
        let mount = parse_mount("type=bind,src=/a,dst=/b,readonly", folder).expect("a mount");
        assert!(mount.read_only && matches!(mount.source, MountSource::Bind { create: false, .. }));
        for wrong in ["", "type=bind,dst=/b", "type=x,dst=/b", "dst=b", "type=tmpfs,dst=/b,bogus=1"] {
            assert!(parse_mount(wrong, folder).is_err(), "{wrong}");
        }
    }
}
