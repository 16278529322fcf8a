//! How a verb ends badly: an error of a layer below, a mistake on the command line, or a bare exit code.
//!
//! Every error enum of the layers implements [`Explain`], so `?` turns each of them into a [`Failure`]. The
//! text is made once, in [`super::report`].

use std::io;

use super::signals::INTERRUPTED;
use crate::base::error::Explain;
use crate::engine;

/// Why a verb did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// End with this code and say nothing: the process in the container has spoken for itself.
    Exit(u8),
    /// An error, to be shown with its causes, excerpts and hint.
    Error(Box<dyn Explain>),
    /// Several errors, each shown as one.
    Errors(Vec<Box<dyn Explain>>),
    /// The reader of our output went away (`wharf logs | head`): success.
    BrokenPipe,
}

/// What a verb returns: its exit code.
pub type Outcome = Result<u8, Failure>;

impl<E: Explain + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(Box::new(error))
    }
}

impl Failure {
    /// An error of the engine; one that holds several is taken apart.
    pub fn of_engine(error: engine::Error) -> Self {
        match error {
            engine::Error::Interrupted => Self::Exit(INTERRUPTED),
            engine::Error::Several { errors } => {
                Self::Errors(errors.into_iter().map(|error| Box::new(error) as Box<dyn Explain>).collect())
            }
            error => error.into(),
        }
    }

    /// What the user was told to ignore, as warnings.
    ///
    /// Errors: what is no error of the work, such as Ctrl-C.
    pub fn ignored(self, context: &super::Context) -> Result<(), Self> {
        let errors = match self {
            Self::Error(error) => vec![error],
            Self::Errors(errors) => errors,
            other => return Err(other),
        };
        for error in errors {
            // With the cause right below it, in one line.
            match error.source() {
                Some(cause) => context.warn(&format!("{error}: {cause}")),
                None => context.warn(&error.to_string()),
            }
        }
        Ok(())
    }
}

impl From<io::Error> for Failure {
    /// Only writing to our own stdout and stderr gives bare I/O errors here: the layers below name the path.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::BrokenPipe } else { Mistake::Output(error).into() }
    }
}

/// What can be wrong with a command line, beyond what the parser of flags finds.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// The flags are wrong; the text is ready.
    #[error("{text}")]
    Usage {
        /// What is wrong.
        text: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Two flags that exclude each other.
    #[error("{first} and {second} cannot be used together")]
    Conflict {
        /// One of them.
        first: &'static str,
        /// The other one.
        second: &'static str,
    },
    /// A verb that needs root was run by somebody else.
    #[error("wharf {verb} needs root: run it with sudo")]
    NotRoot {
        /// The verb.
        verb: &'static str,
    },
    /// The file of `--cidfile` is there already.
    #[error("container ID file found, make sure the other container isn't running or delete {}", path.display())]
    CidFile {
        /// It.
        path: std::path::PathBuf,
    },
    /// A name that is no service of the project.
    #[error("no such service: {name}")]
    NoSuchService {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A name that is neither a service nor a container.
    #[error("no such container: {name}")]
    NoSuchContainer {
        /// What was asked for.
        name: String,
        /// Names that there are, services and containers.
        known: Vec<String>,
    },
    /// A name that nothing has.
    #[error("no such {noun}: {name}")]
    NoSuchObject {
        /// What was looked for: `object`, `volume`.
        noun: &'static str,
        /// The name.
        name: String,
    },
    /// A beginning of an id that several containers share.
    #[error("`{prefix}` is the beginning of several container ids")]
    AmbiguousId {
        /// What was typed.
        prefix: String,
    },
    /// A service that must run does not.
    #[error("service `{name}` is not running")]
    NotRunning {
        /// The service.
        name: String,
    },
    /// A container that must run does not.
    #[error("container {name} is not running")]
    ContainerNotRunning {
        /// Its name.
        name: String,
    },
    /// A replica that does not exist.
    #[error("service `{name}` has no container {index}")]
    NoSuchReplica {
        /// The service.
        name: String,
        /// The number asked for.
        index: u32,
    },
    /// A private port that is not published.
    #[error("no port {port}/{protocol} of {container} is published")]
    NotPublished {
        /// The container.
        container: String,
        /// The port inside.
        port: u16,
        /// Its protocol.
        protocol: String,
    },
    /// A value of a flag that cannot be read.
    #[error("`{value}` is no value for {flag}: {reason}")]
    Value {
        /// The flag, with its dashes.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A `--format` template that cannot be used.
    #[error("bad template `{template}`: {reason}")]
    Template {
        /// What was given.
        template: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Our own output could not be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// The connection to a container ended before the container.
    #[error("the connection to container {container} was lost{}; it goes on", in_brackets(reason.as_deref()))]
    ConnectionLost {
        /// The first digits of its id.
        container: String,
        /// What the supervisor said of its end.
        reason: Option<String>,
    },
    /// `-t` without a terminal.
    #[error("the input device is not a terminal")]
    NoTerminal,
    /// A system call on our own terminal or signals failed.
    #[error("cannot {operation}")]
    System {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Mistake {
    /// A flag's value that cannot be read.
    pub fn value(flag: &'static str, value: &str, reason: impl ToString) -> Self {
        Self::Value { flag, value: value.to_owned(), reason: reason.to_string() }
    }

    /// A wrong use without a hint.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage { text: text.into(), hint: None }
    }
}

impl Explain for Mistake {
    fn exit_code(&self) -> u8 {
        match self {
            // Docker's command line finds this one before it asks for a container.
            Self::NoTerminal => 1,
            _ => 125,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } => hint.clone(),
            Self::NoSuchService { name, known } => match closest(name, known) {
                Some(other) => Some(format!("did you mean `{other}`?")),
                None if known.is_empty() => None,
                None => Some(format!("the project has {}", quoted_list(known))),
            },
            Self::NoSuchContainer { name, known } => {
                closest(name, known).map(|other| format!("did you mean `{other}`?"))
            }
            Self::AmbiguousId { .. } => Some("give more digits".into()),
            Self::NotRunning { .. } => Some("`wharf up -d` starts it; `wharf ps -a` shows why it ended".into()),
            Self::ContainerNotRunning { name } => Some(format!("`wharf start {name}` starts it")),
            Self::ConnectionLost { container, .. } => Some(format!("`wharf logs -f {container}` shows its output")),
            Self::NoTerminal => Some("leave out -t (or use -T) when stdin is a pipe or a file".into()),
            _ => None,
        }
    }
}

fn in_brackets(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

/// The name of `known` that `name` was probably meant to be.
pub fn closest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    known
        .iter()
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, other)| *distance <= 1 + other.len() / 4 && *distance < other.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other.as_str())
}

/// `` `a`, `b` and `c` ``; long lists are cut.
pub fn quoted_list(names: &[String]) -> String {
    const SHOWN_MAX: usize = 12;
    let shown: Vec<String> = names.iter().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN_MAX {
        return format!("{} and {} more", shown.join(", "), names.len() - SHOWN_MAX);
    }
    match shown.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => shown.join(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name() {
        let known = ["web", "redis", "worker"].map(str::to_owned);
        assert_eq!(closest("reids", &known), Some("redis"));
        assert_eq!(closest("wbe", &known), Some("web"));
        assert_eq!(closest("a", &["b".to_owned()]), None);
        assert_eq!(closest("zzz", &known), None);
    }

    #[test]
    fn lists_read_as_sentences() {
        let names = |n: usize| (0..n).map(|i| format!("s{i}")).collect::<Vec<_>>();
        assert_eq!(quoted_list(&names(1)), "`s0`");
        assert_eq!(quoted_list(&names(3)), "`s0`, `s1` and `s2`");
        assert!(quoted_list(&names(20)).ends_with("`s11` and 8 more"));
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        assert!(matches!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)), Failure::BrokenPipe));
        assert!(matches!(Failure::from(io::Error::from_raw_os_error(libc::ENOSPC)), Failure::Error(_)));
    }
}
