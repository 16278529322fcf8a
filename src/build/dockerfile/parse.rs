//! One line of a Dockerfile -> one [`Instruction`]: names, flags, number and form of arguments.
//!
//! Values stay as typed; what depends on variables is checked when stages are planned.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/>, BuildKit `instructions/parse.go`.

use std::time::Duration;

use super::instruction::{Command, Copy, From, Healthcheck, Instruction, Kind, Run, RunNetwork};
use super::lines::{Line, heredoc_word};
use super::mount::RunMount;
use super::suggest::suggestion;
use super::words::{Flags, Form, Split, form, pairs, split_blanks, split_command, split_words};
use crate::base::units::parse_duration;
use crate::build::error::Error;

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses one line.
pub fn parse(line: Line, escape: char) -> Result<Instruction, Error> {
    let kind = Parser { line: &line, split: split_command(&line.text, escape), escape }.parse()?;
    Ok(Instruction { kind, line })
}

struct Parser<'a> {
    line: &'a Line,
    split: Split<'a>,
    escape: char,
}

impl Parser<'_> {
    fn parse(&self) -> Result<Kind, Error> {
        let name = self.split.command.to_ascii_uppercase();
        match name.as_str() {
            "FROM" => self.from(),
            "ARG" => self.arg(),
            "ENV" => self.without_flags().and_then(|()| self.pairs("ENV")).map(Kind::Env),
            "LABEL" => self.without_flags().and_then(|()| self.pairs("LABEL")).map(Kind::Label),
            "RUN" => self.run(),
            "COPY" => self.copy(),
            "ADD" => self.add(),
            "CMD" => self.command().map(Kind::Cmd),
            "ENTRYPOINT" => self.command().map(Kind::Entrypoint),
            "SHELL" => self.shell(),
            "EXPOSE" => self.expose(),
            "VOLUME" => self.volume(),
            "USER" => self.one_argument("USER").map(Kind::User),
            "WORKDIR" => self.one_argument("WORKDIR").map(Kind::Workdir),
            "STOPSIGNAL" => self.one_argument_with_flags("STOPSIGNAL").map(Kind::StopSignal),
            "MAINTAINER" => self.one_argument("MAINTAINER").map(Kind::Maintainer),
            "HEALTHCHECK" => self.healthcheck(),
            "ONBUILD" => self.onbuild(),
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> Error {
        let name = self.split.command;
        let near = suggestion(name, &NAMES).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
        self.line.error(name, format!("unknown instruction {name}{near}"))
    }

    fn error(&self, message: impl Into<String>) -> Error {
        self.line.error("", message)
    }

    fn flags(&self) -> Flags<'_> {
        Flags::new(self.line, &self.split.flags)
    }

    fn without_flags(&self) -> Result<(), Error> {
        self.flags().finish()
    }

    fn pairs(&self, command: &str) -> Result<Vec<super::words::Pair>, Error> {
        pairs(self.line, command, self.split.rest, self.escape)
    }

    fn one_argument(&self, command: &str) -> Result<String, Error> {
        self.without_flags()?;
        self.one_argument_with_flags(command)
    }

    fn one_argument_with_flags(&self, command: &str) -> Result<String, Error> {
        match self.split.rest {
            "" => Err(self.error(format!("{command} requires exactly one argument"))),
            rest => Ok(rest.to_owned()),
        }
    }

    fn from(&self) -> Result<Kind, Error> {
        let words = split_blanks(self.split.rest);
        let (base, name) = match words.as_slice() {
            [base] => (base, None),
            [base, word, name] if word.eq_ignore_ascii_case("as") => (base, Some(name)),
            _ => return Err(self.error("FROM takes one argument or three: FROM image [AS name]")),
        };
        if let Some(name) = name {
            let lower = name.to_lowercase();
            let rest_is_valid =
                lower.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
            if !rest_is_valid || !lower.starts_with(|c: char| c.is_ascii_lowercase()) {
                let message = format!(
                    "`{name}` is not a stage name: it begins with a letter and has letters, digits, `-`, `_` and `.`"
                );
                return Err(self.line.error(name, message));
            }
        }
        let mut flags = self.flags();
        let platform = flags.value("platform")?.filter(|platform| !platform.is_empty());
        flags.finish()?;
        Ok(Kind::From(From { base: base.clone(), name: name.map(|name| name.to_lowercase()), platform }))
    }

    fn arg(&self) -> Result<Kind, Error> {
        let words = split_words(self.split.rest, self.escape);
        if words.is_empty() {
            return Err(self.error("ARG requires at least one argument"));
        }
        let pairs = words.into_iter().map(|word| match word.split_once('=') {
            Some(("", _)) => Err(self.line.error(&word, "ARG names can not be blank")),
            Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
            None => Ok((word, None)),
        });
        pairs.collect::<Result<_, _>>().map(Kind::Arg)
    }

    fn run(&self) -> Result<Kind, Error> {
        let mut flags = self.flags();
        let mounts = flags.values("mount")?;
        let network = match flags.value("network")?.as_deref() {
            None | Some("" | "default") => RunNetwork::Default,
            Some("none") => RunNetwork::None,
            Some("host") => RunNetwork::Host,
            Some(other) => {
                let message = format!("the network of RUN is default, none or host, not `{other}`");
                return Err(self.line.error("--network", message));
            }
        };
        let insecure = match flags.value("security")?.as_deref() {
            None | Some("" | "sandbox") => false,
            Some("insecure") => true,
            Some(other) => {
                let message = format!("the security of RUN is sandbox or insecure, not `{other}`");
                return Err(self.line.error("--security", message));
            }
        };
        let devices = flags.values("device")?;
        flags.finish()?;
        for mount in &mounts {
            RunMount::check_shape(self.line, mount)?;
        }
        let form = form(self.line, self.split.rest)?;
        let heredocs = self.line.heredocs.clone();
        Ok(Kind::Run(Run { form, heredocs, mounts, network, insecure, devices }))
    }

    fn copy(&self) -> Result<Kind, Error> {
        let copy = self.sources("COPY")?;
        let mut flags = self.flags();
        let copy = Copy {
            from: flags.value("from")?.filter(|from| !from.is_empty()),
            parents: flags.switch("parents")?.unwrap_or(false),
            ..copy
        };
        Ok(Kind::Copy(self.copy_flags(copy, flags)?))
    }

    fn add(&self) -> Result<Kind, Error> {
        let copy = self.sources("ADD")?;
        let mut flags = self.flags();
        let copy = Copy {
            add: true,
            checksum: flags.value("checksum")?.filter(|checksum| !checksum.is_empty()),
            keep_git_dir: flags.switch("keep-git-dir")?,
            unpack: flags.switch("unpack")?,
            ..copy
        };
        Ok(Kind::Copy(self.copy_flags(copy, flags)?))
    }

    fn copy_flags(&self, copy: Copy, mut flags: Flags<'_>) -> Result<Copy, Error> {
        // Layers are independent of those below anyway, so `--link` asks for nothing more.
        flags.switch("link")?;
        let copy = Copy {
            chown: flags.value("chown")?.filter(|chown| !chown.is_empty()),
            chmod: flags.value("chmod")?.filter(|chmod| !chmod.is_empty()),
            exclude: flags.values("exclude")?,
            ..copy
        };
        flags.finish()?;
        Ok(copy)
    }

    fn sources(&self, command: &str) -> Result<Copy, Error> {
        let mut words = match form(self.line, self.split.rest)? {
            Form::Json(words) => words,
            Form::Text(text) => split_blanks(&text),
        };
        let destination = words.pop().filter(|_| !words.is_empty()).ok_or_else(|| {
            self.error(format!("{command} requires at least two arguments, the sources and the destination"))
        })?;
        if heredoc_word(&destination).is_some() {
            return Err(self.line.error(&destination, format!("{command} cannot have a heredoc as its destination")));
        }
        let mut copy = Copy { destination, ..Copy::default() };
        for word in words {
            match heredoc_word(&word) {
                Some(opened) => {
                    let body = self.line.heredocs.iter().rfind(|heredoc| heredoc.name == opened.name);
                    let content = body.map_or(String::new(), |heredoc| heredoc.content.clone());
                    copy.heredocs.push(super::lines::Heredoc { content, ..opened });
                }
                None => copy.sources.push(word),
            }
        }
        Ok(copy)
    }

    fn command(&self) -> Result<Command, Error> {
        self.without_flags()?;
        Ok(Command { form: form(self.line, self.split.rest)? })
    }

    fn shell(&self) -> Result<Kind, Error> {
        self.without_flags()?;
        match form(self.line, self.split.rest)? {
            Form::Json(words) if !words.is_empty() => Ok(Kind::Shell(words)),
            Form::Json(_) => Err(self.error("SHELL requires at least one argument")),
            Form::Text(text) if text.is_empty() => Err(self.error("SHELL requires at least one argument")),
            Form::Text(text) => {
                Err(self.line.error(&text, "SHELL requires its arguments in JSON form: [\"sh\", \"-c\"]"))
            }
        }
    }

    fn expose(&self) -> Result<Kind, Error> {
        self.without_flags()?;
        match split_blanks(self.split.rest) {
            ports if ports.is_empty() => Err(self.error("EXPOSE requires at least one argument")),
            ports => Ok(Kind::Expose(ports)),
        }
    }

    fn volume(&self) -> Result<Kind, Error> {
        self.without_flags()?;
        let paths = match form(self.line, self.split.rest)? {
            Form::Json(paths) => paths,
            Form::Text(text) => split_blanks(&text),
        };
        if paths.is_empty() {
            return Err(self.error("VOLUME requires at least one argument"));
        }
        if paths.iter().any(|path| path.trim().is_empty()) {
            return Err(self.error("the path of a VOLUME cannot be empty"));
        }
        Ok(Kind::Volume(paths.iter().map(|path| path.trim().to_owned()).collect()))
    }

    fn healthcheck(&self) -> Result<Kind, Error> {
        let rest = self.split.rest;
        let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match kind.to_ascii_uppercase().as_str() {
            "" => Err(self.error("HEALTHCHECK requires at least one argument: NONE or CMD")),
            "NONE" if !command.trim().is_empty() => {
                Err(self.line.error(command.trim(), "HEALTHCHECK NONE takes no arguments"))
            }
            "NONE" => Ok(Kind::Healthcheck(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() })),
            "CMD" => self.healthcheck_command(command.trim()),
            _ => Err(self.line.error(kind, format!("HEALTHCHECK is followed by NONE or CMD, not `{kind}`"))),
        }
    }

    fn healthcheck_command(&self, command: &str) -> Result<Kind, Error> {
        let mut flags = self.flags();
        let mut duration = |name: &'static str| -> Result<Option<Duration>, Error> {
            let Some(text) = flags.value(name)?.filter(|text| !text.is_empty()) else { return Ok(None) };
            let fail = |message: String| self.line.error(&format!("--{name}"), message);
            let duration = parse_duration(&text).map_err(|error| fail(error.to_string()))?;
            if !duration.is_zero() && duration < Duration::from_millis(1) {
                return Err(fail(format!("--{name} cannot be less than 1ms")));
            }
            Ok(Some(duration).filter(|duration| !duration.is_zero()))
        };
        let mut check = Healthcheck {
            interval: duration("interval")?,
            timeout: duration("timeout")?,
            start_period: duration("start-period")?,
            start_interval: duration("start-interval")?,
            ..Healthcheck::default()
        };
        if let Some(retries) = flags.value("retries")?.filter(|text| !text.is_empty()) {
            let number = retries.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok());
            check.retries = number.ok_or_else(|| {
                self.line.error("--retries", format!("--retries is a number from 0, not `{retries}`"))
            })?;
        }
        flags.finish()?;
        check.test = match form(self.line, command)? {
            Form::Json(words) if words.is_empty() => {
                return Err(self.error("the command after HEALTHCHECK CMD is missing"));
            }
            Form::Json(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            Form::Text(text) if text.is_empty() => {
                return Err(self.error("the command after HEALTHCHECK CMD is missing"));
            }
            Form::Text(text) => vec!["CMD-SHELL".into(), text],
        };
        Ok(Kind::Healthcheck(check))
    }

    fn onbuild(&self) -> Result<Kind, Error> {
        self.without_flags()?;
        let inner = self.split.rest;
        let trigger = inner.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        match trigger.as_str() {
            "" => return Err(self.error("ONBUILD requires at least one argument")),
            "ONBUILD" => return Err(self.line.error(inner, "ONBUILD cannot be followed by another ONBUILD")),
            "MAINTAINER" | "FROM" => {
                return Err(self.line.error(inner, format!("{trigger} is not allowed after ONBUILD")));
            }
            _ => {}
        }
        let mut text = inner.to_owned();
        for heredoc in &self.line.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        Ok(Kind::Onbuild(text))
    }
}
