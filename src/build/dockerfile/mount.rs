//! `RUN --mount=type=…,…`: one mount of a RUN step.
//!
//! Checked twice: when the Dockerfile is parsed, the shape of the fields; when the step is planned, their
//! values, because variables are expanded in all of them but `from`.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/#run---mount>, BuildKit `instructions/commands_runmount.go`.

use super::lines::Line;
use super::suggest::suggestion;
use crate::base::units::parse_bytes;
use crate::build::error::Error;

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];
const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARINGS: [&str; 3] = ["shared", "private", "locked"];

/// One mount of a RUN step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunMount {
    /// Its type.
    pub kind: MountKind,
    /// A stage, an image or a named context instead of the build context.
    pub from: Option<String>,
    /// A path in there.
    pub source: Option<String>,
    /// Where it is mounted; relative ones are below the working folder.
    pub target: Option<String>,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// Whether a missing secret is an error.
    pub required: bool,
    /// Limit of a tmpfs.
    pub size_bytes: Option<u64>,
    /// Name of a cache or secret.
    pub id: Option<String>,
    /// Who may use a cache at once.
    pub sharing: Option<Sharing>,
    /// Mode of a new cache folder or of the secret's file.
    pub mode: Option<u32>,
    /// Owner of the same.
    pub uid: Option<u32>,
    /// Group of the same.
    pub gid: Option<u32>,
    /// The variable that gets a secret's content.
    pub env: Option<String>,
}

/// The type of a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MountKind {
    /// A folder or file of the context, a stage or an image; writes are discarded.
    #[default]
    Bind,
    /// A folder that is kept between builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A file with a secret.
    Secret,
    /// An SSH agent's socket.
    Ssh,
}

/// Who may use a cache at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Each gets its own.
    Private,
    /// One after the other.
    Locked,
}

impl RunMount {
    /// Checks what can be checked before variables are known: every field is `key=value` or a known word, and
    /// `from` holds no variable.
    pub fn check_shape(line: &Line, text: &str) -> Result<(), Error> {
        for field in fields(line, text)? {
            match field.split_once('=') {
                None => {
                    let words = ["readonly", "ro", "readwrite", "rw", "required"];
                    if !words.iter().any(|word| field.eq_ignore_ascii_case(word)) {
                        return Err(line.error(&field, format!("the field `{field}` must be a key=value pair")));
                    }
                }
                Some((key, value)) if key.eq_ignore_ascii_case("from") => {
                    let variable = value.find('$').is_some_and(|index| index + 1 < value.len());
                    if variable {
                        let message = "`from` does not expand variables; define a stage with FROM and name it here";
                        return Err(line.error(&field, message));
                    }
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Reads a mount; `expand` expands the variables of a value.
    pub fn parse(line: &Line, text: &str, expand: &dyn Fn(&str) -> Result<String, Error>) -> Result<Self, Error> {
        let mut mount = Self::default();
        let mut read_only = None;
        for field in fields(line, text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, "")) => (key, Some(String::new())),
                Some(("from", value)) => ("from", Some(value.to_owned())),
                Some((key, value)) => (key, Some(expand(value)?)),
                None => (field.as_str(), None),
            };
            mount.set(line, &field, &key.to_ascii_lowercase(), value, &mut read_only)?;
        }
        mount.finish(line, text, read_only)
    }

    fn set(
        &mut self,
        line: &Line,
        field: &str,
        key: &str,
        value: Option<String>,
        read_only: &mut Option<bool>,
    ) -> Result<(), Error> {
        let invalid = |expected: &str| line.error(field, format!("`{field}`: {key} is {expected}"));
        let switch = || match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(_) => Err(invalid("true or false")),
        };
        let id = |value: &str| value.parse::<u32>().map_err(|_| invalid("a number"));
        match key {
            "readonly" | "ro" => *read_only = Some(switch()?),
            "readwrite" | "rw" => *read_only = Some(!switch()?),
            "required" => self.required = switch()?,
            _ => {
                let Some(value) = value.filter(|_| KEYS.contains(&key)) else {
                    let near = suggestion(key, &KEYS).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
                    return Err(line.error(field, format!("unexpected key `{key}` in `{field}`{near}")));
                };
                match key {
                    "type" => self.kind = MountKind::parse(line, field, &value)?,
                    "from" => self.from = Some(value),
                    "source" | "src" => self.source = Some(value),
                    "target" | "dst" | "destination" => self.target = Some(value),
                    "id" => self.id = Some(value),
                    "env" => self.env = Some(value),
                    "size" => self.size_bytes = Some(parse_bytes(&value).map_err(|_| invalid("a size such as 64m"))?),
                    "uid" => self.uid = Some(id(&value)?),
                    "gid" => self.gid = Some(id(&value)?),
                    "mode" => {
                        self.mode =
                            Some(u32::from_str_radix(&value, 8).map_err(|_| invalid("an octal mode such as 0755"))?);
                    }
                    _ => {
                        self.sharing = Some(match value.to_ascii_lowercase().as_str() {
                            "shared" => Sharing::Shared,
                            "private" => Sharing::Private,
                            "locked" => Sharing::Locked,
                            other => {
                                let near = suggestion(other, &SHARINGS)
                                    .map_or(String::new(), |near| format!(" (did you mean {near}?)"));
                                return Err(line.error(field, format!("unsupported sharing `{other}`{near}")));
                            }
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(mut self, line: &Line, text: &str, read_only: Option<bool>) -> Result<Self, Error> {
        let fail = |message: &str| Err(line.error(text, message));
        self.read_only = read_only.unwrap_or(!matches!(self.kind, MountKind::Cache | MountKind::Tmpfs));
        let secret = matches!(self.kind, MountKind::Secret | MountKind::Ssh);
        if self.required && !secret {
            return fail("`required` is for secret and ssh mounts");
        }
        if self.size_bytes.is_some() && self.kind != MountKind::Tmpfs {
            return fail("`size` is for tmpfs mounts");
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return fail("`sharing` is for cache mounts");
        }
        let owned = self.mode.is_some() || self.uid.is_some() || self.gid.is_some();
        if owned && !secret && self.kind != MountKind::Cache {
            return fail("`mode`, `uid` and `gid` are for cache, secret and ssh mounts");
        }
        if self.kind == MountKind::Secret {
            if self.from.is_some() {
                return fail("a secret mount has no `from`");
            }
            if self.id.is_none() && self.source.is_none() && self.target.is_none() {
                return fail("a secret mount needs an id or a target");
            }
            if self.id.is_some() && self.source.is_some() {
                return fail("a secret mount has either `id` or `source`");
            }
        }
        Ok(self)
    }
}

impl MountKind {
    fn parse(line: &Line, field: &str, value: &str) -> Result<Self, Error> {
        Ok(match value.to_ascii_lowercase().as_str() {
            "bind" => Self::Bind,
            "cache" => Self::Cache,
            "tmpfs" => Self::Tmpfs,
            "secret" => Self::Secret,
            "ssh" => Self::Ssh,
            other => {
                let near = suggestion(other, &TYPES).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
                return Err(line.error(field, format!("unsupported mount type `{other}`{near}")));
            }
        })
    }
}

/// Splits the fields of one CSV record: a field that begins with `"` ends at the next lone `"`.
fn fields(line: &Line, text: &str) -> Result<Vec<String>, Error> {
    let mut fields = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next() {
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some('"') => break,
                    Some(c) => field.push(c),
                    None => return Err(line.error(text, "a quote in the mount is not closed")),
                }
            }
            if chars.peek().is_some_and(|c| *c != ',') {
                return Err(line.error(text, "expected `,` after a quoted field of the mount"));
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                if c == '"' {
                    return Err(line.error(text, "a quote inside an unquoted field of the mount"));
                }
                field.push(c);
            }
        }
        fields.push(field);
        if chars.next().is_none() {
            return Ok(fields);
        }
    }
}
