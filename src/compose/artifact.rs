//! The files of a project as the parts of an artifact, and such parts as files.
//!
//! Files go as they were written, but for paths that mean nothing elsewhere: those of env files and of files that
//! services extend. These are replaced by names made of the path's digest, under which the files travel.
//!
//! Source: docker/compose `pkg/compose/publish.go`, `pkg/remote/oci.go`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::limits::{ENV_FILE_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX};
use super::model::is_env_file;
use super::node::{Node, Span, Value};
use super::paths::Folders;
use super::progress::Load;
use super::remote::is_address;
use super::{Error, template, yaml};
use crate::base::fs;
use crate::base::id::Digest;
use crate::model::artifact::{ENV_FILE, ENV_FILE_TYPE, EXTENDS, FILE, FILE_TYPE, Part};
use crate::model::project::Project;

/// The file that everything that is not extended is written to, one document after the other.
pub const MAIN: &str = "compose.yaml";

/// The parts of a project: its files in merge order, those that they extend, and with `env_files` those, too.
///
/// Errors: a file that cannot be read or moved: one from standard input, or that includes other files.
pub fn pack(project: &Project, env_files: bool) -> Result<Vec<Part>, Error> {
    let mut packing = Packing {
        load: Load::default(),
        environment: &project.environment,
        bases: BTreeSet::new(),
        waiting: VecDeque::new(),
        env_files: BTreeMap::new(),
    };
    let mut parts = Vec::new();
    for file in &project.compose_files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = packing.portable(file, &project.working_dir)?;
        parts.push(Part::file(&name, false, content));
    }
    while let Some(base) = packing.waiting.pop_front() {
        let folder = base.parent().unwrap_or(Path::new("/"));
        let content = packing.portable(&base, folder)?;
        parts.push(Part::file(&name_of(&base, "yaml"), true, content));
        if parts.len() > FILES_MAX {
            return Err(packing.load.fail(Span::default(), format!("more than {FILES_MAX} files are extended")));
        }
    }
    packing.load.check()?;
    if env_files {
        for (path, name) in &packing.env_files {
            parts.push(Part::env_file(name, fs::read_limited(path, ENV_FILE_BYTES_MAX)?));
        }
    }
    Ok(parts)
}

/// The name under which a file travels.
fn name_of(path: &Path, extension: &str) -> String {
    format!("{}.{extension}", Digest::of(path.as_os_str().as_encoded_bytes()).hex())
}

/// Text at a place, to be replaced.
type Replacements = BTreeMap<(u32, u32), (Span, String)>;

struct Packing<'a> {
    load: Load,
    environment: &'a BTreeMap<String, String>,
    /// Files that are extended, those that wait included.
    bases: BTreeSet<PathBuf>,
    waiting: VecDeque<PathBuf>,
    /// Env files that exist, with their names.
    env_files: BTreeMap<PathBuf, String>,
}

impl Packing<'_> {
    /// The text of a file with the names of others in it replaced; relative ones start in `folder`.
    fn portable(&mut self, file: &Path, folder: &Path) -> Result<Vec<u8>, Error> {
        if file.as_os_str() == "-" {
            let message = "a project from standard input cannot be published: put it into a file".to_owned();
            return Err(self.load.fail(Span::default(), message));
        }
        let index = self.load.add(file, fs::read_limited(file, FILE_BYTES_MAX)?)?;
        let mut replacements = Replacements::new();
        for document in yaml::parse(&mut self.load, index)? {
            if let Some(include) = document.get("include") {
                self.refuse_local_includes(include);
            }
            for service in document.get("services").and_then(Node::as_map).into_iter().flat_map(|map| map.values()) {
                self.replace_in(service, folder, &mut replacements)?;
            }
        }
        self.load.check()?;
        let text = self.load.text(index);
        Ok(replaced(&text, replacements).into_bytes())
    }

    fn refuse_local_includes(&mut self, include: &Node) {
        for entry in include.as_sequence().unwrap_or_default() {
            let paths = match entry.get("path") {
                Some(Node { value: Value::Sequence(items), .. }) => items.iter().collect(),
                Some(path) => vec![path],
                None => vec![entry],
            };
            for path in paths.into_iter().filter(|path| path.as_str().is_some_and(|path| !is_address(path))) {
                let message = "a compose file that includes local files cannot be published".to_owned();
                let hint = Some("publish the included file by itself and include its oci:// address".to_owned());
                self.load.mistake_with_hint(path.place(), message, hint);
            }
        }
    }

    fn replace_in(&mut self, service: &Node, folder: &Path, replacements: &mut Replacements) -> Result<(), Error> {
        let env_files: Vec<&Node> = match service.get("env_file") {
            Some(Node { value: Value::Sequence(items), .. }) => items.iter().collect(),
            one => one.into_iter().collect(),
        };
        for node in env_files.into_iter().filter_map(|node| node.get("path").or(Some(node))) {
            let Some(path) = self.path_of(node, folder) else { continue };
            let name = name_of(&path, "env");
            self.replace(node, &name, replacements)?;
            if is_env_file(&path) {
                self.env_files.insert(path, name);
            }
        }
        let Some(base) = service.get_path(&["extends", "file"]) else { return Ok(()) };
        let Some(path) = self.path_of(base, folder).filter(|_| base.as_str().is_some_and(|text| !is_address(text)))
        else {
            return Ok(());
        };
        self.replace(base, &name_of(&path, "yaml"), replacements)?;
        if self.bases.insert(path.clone()) {
            self.waiting.push_back(path);
        }
        Ok(())
    }

    /// The file that a text names, absolute.
    fn path_of(&self, node: &Node, folder: &Path) -> Option<PathBuf> {
        let text = node.as_str()?;
        let lookup = |name: &str| self.environment.get(name).cloned();
        let text = template::substitute(text, &lookup, &mut |_| {}).ok()?;
        let folders = Folders { base: folder, home: self.environment.get("HOME").map(String::as_str) };
        Some(PathBuf::from(folders.absolute(&text)))
    }

    fn replace(&mut self, node: &Node, name: &str, replacements: &mut Replacements) -> Result<(), Error> {
        if node.span.length == 0 {
            let message = "a path over several lines cannot be published".to_owned();
            return Err(self.load.fail(node.place(), message));
        }
        // What an alias repeats is one text.
        replacements.insert((node.span.line, node.span.column), (node.span, name.to_owned()));
        Ok(())
    }
}

/// `text` with other words at some places.
fn replaced(text: &str, replacements: Replacements) -> String {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(body) => ("\u{feff}", body),
        None => ("", text),
    };
    let mut out = String::with_capacity(text.len());
    out.push_str(mark);
    let mut by_line: BTreeMap<u32, Vec<(Span, String)>> = BTreeMap::new();
    for ((line, _), replacement) in replacements {
        by_line.entry(line).or_default().push(replacement);
    }
    for (number, line) in body.split_inclusive('\n').enumerate() {
        let mut rest = line.chars();
        let mut column = 1;
        for (span, name) in by_line.remove(&(number as u32 + 1)).unwrap_or_default() {
            out.extend(rest.by_ref().take(span.column.saturating_sub(column) as usize));
            // The span of a plain word may end in the blanks before a comment.
            let word: String = rest.by_ref().take(span.length as usize).collect();
            out.push_str(&name);
            out.push_str(&word[word.trim_end().len()..]);
            column = span.column + span.length;
        }
        out.push_str(rest.as_str());
    }
    out
}

/// Writes the files of an artifact into `folder`, which is there and empty.
///
/// Errors: names that could be anywhere else than in `folder`, files twice, no compose file at all; the text says what.
pub fn unpack(parts: &[Part], folder: &Path) -> Result<(), UnpackError> {
    let mut main: Vec<u8> = Vec::new();
    let mut others: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for part in parts {
        let named = |key: &str| part.annotations.get(key).map(String::as_str);
        let name = match part.media_type.as_str() {
            FILE_TYPE if named(EXTENDS).is_some() => named(FILE),
            FILE_TYPE => {
                if !main.is_empty() {
                    main.extend_from_slice(b"\n---\n");
                }
                main.extend_from_slice(&part.content);
                continue;
            }
            ENV_FILE_TYPE => named(ENV_FILE),
            _ => continue,
        };
        let name = name.unwrap_or_default();
        if !is_plain_name(name) || others.insert(name, &part.content).is_some() {
            return Err(UnpackError::Name { name: super::error::shorten(name) });
        }
    }
    if main.is_empty() {
        return Err(UnpackError::Empty);
    }
    others.insert(MAIN, &main);
    for (name, content) in others {
        fs::write_atomic(&folder.join(name), content, fs::Durability::Durable)?;
    }
    Ok(())
}

/// Whether a name is that of a file in the folder and of none that means anything to us.
fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=200).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with(['.', '-']) && name != MAIN
}

/// Why the files of an artifact were not written.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A name that is not one of a file in the folder, or is taken.
    #[error("the artifact has a file with the name `{name}`, which is refused")]
    Name {
        /// The name.
        name: String,
    },
    /// There is no compose file.
    #[error("the artifact has no compose file")]
    Empty,
    /// The system refused.
    #[error(transparent)]
    File(#[from] fs::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(folder: &Path, files: &[&str]) -> Project {
        let environment = BTreeMap::from([("WHICH".to_owned(), "web".to_owned())]);
        let compose_files = files.iter().map(|file| folder.join(file)).collect();
        Project { working_dir: folder.to_owned(), compose_files, environment, ..Project::default() }
    }

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wharf-artifact-{}", crate::base::id::random_hex(6)));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        folder
    }

    #[test]
    fn paths_that_mean_nothing_elsewhere_are_replaced() {
        let folder = folder();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write(
            "compose.yaml",
            "\u{feff}x-e: &e [a.env , \"${WHICH}.env\"] # ü\nservices:\n  ü: {env_file: *e, extends: {file: 'sub/base.yaml', service: b}}\n  \
             w:\n    env_file:\n      - path: missing.env   # why\n        required: false\n    \
             extends: {service: r, file: oci://r/x}\n---\nservices: {v: {env_file: a.env}}",
        );
        write("sub/base.yaml", "services: {b: {env_file: own.env, extends: {file: ../compose.yaml, service: w}}}\n");
        write("a.env", "A=1\n");
        write("web.env", "W=1\n");
        write("sub/own.env", "O=1\n");
        let env = |name: &str| name_of(&folder.join(name), "env");
        let yaml = |name: &str| name_of(&folder.join(name), "yaml");
        let parts = pack(&project(&folder, &["compose.yaml"]), true).unwrap();
        let texts: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(&part.content).into_owned()).collect();
        let main = format!(
            "\u{feff}x-e: &e [{} , {}] # ü\nservices:\n  ü: {{env_file: *e, extends: {{file: {}, service: b}}}}\n  \
             w:\n    env_file:\n      - path: {}   # why\n        required: false\n    \
             extends: {{service: r, file: oci://r/x}}\n---\nservices: {{v: {{env_file: {}}}}}",
            env("a.env"),
            env("web.env"),
            yaml("sub/base.yaml"),
            env("missing.env"),
            env("a.env")
        );
        assert_eq!(texts[0], main);
        let base = format!(
            "services: {{b: {{env_file: {}, extends: {{file: {}, service: w}}}}}}\n",
            env("sub/own.env"),
            yaml("compose.yaml")
        );
        assert_eq!(texts[1], base);
        // The file that extends itself by another name travels as what is extended, too.
        assert_eq!(parts[2].annotations[FILE], yaml("compose.yaml"));
        let mut contents = texts[3..].to_vec();
        contents.sort();
        assert_eq!(contents, ["A=1\n", "O=1\n", "W=1\n"]);
        assert_eq!(pack(&project(&folder, &["compose.yaml"]), false).unwrap().len(), 3);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_cannot_travel_is_refused_where_it_stands() {
        let folder = folder();
        std::fs::write(folder.join("a.yaml"), "include: [{path: [oci://r/x, b.yaml]}, c.yaml]\n").unwrap();
        let error = pack(&project(&folder, &["a.yaml"]), true).unwrap_err();
        let places: Vec<_> = error.mistakes().iter().map(|m| m.location.as_ref().unwrap().column).collect();
        assert_eq!(places, [30, 40]);
        assert!(pack(&Project { compose_files: vec!["-".into()], ..Project::default() }, true).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn files_of_an_artifact_stay_in_their_folder() {
        let folder = folder();
        let good = [
            Part::file("x.yaml", false, b"a: 1".to_vec()),
            Part::env_file("a.env", b"A=1".to_vec()),
            Part::file("b.yaml", true, b"b: 1".to_vec()),
            Part { media_type: "text/other".into(), ..Part::env_file("../other", Vec::new()) },
            Part::file("../../y.yaml", false, b"c: 1".to_vec()),
        ];
        unpack(&good, &folder).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!((read(MAIN).as_str(), read("a.env").as_str()), ("a: 1\n---\nc: 1", "A=1"));
        assert_eq!(read("b.yaml"), "b: 1");
        for name in ["../x", "/etc/x", "a/b", "..", ".", "", ".env", MAIN, "a\\b", "a\nb", "-", "a.env"] {
            let parts = [good[0].clone(), good[1].clone(), Part::env_file(name, Vec::new())];
            assert!(matches!(unpack(&parts, &folder), Err(UnpackError::Name { .. })), "{name}");
            let parts = [good[0].clone(), good[1].clone(), Part::file(name, true, Vec::new())];
            assert!(matches!(unpack(&parts, &folder), Err(UnpackError::Name { .. })), "{name}");
        }
        assert!(matches!(unpack(&good[1..3], &folder), Err(UnpackError::Empty)));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
