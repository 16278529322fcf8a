//! What can be wrong with a project, with places in files.

use std::path::PathBuf;

use crate::base::error::{Excerpt, Explain, Location};

/// One mistake in what the user wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong, with its nouns, lower-case, no period.
    pub message: String,
    /// Where, when it has a place.
    pub location: Option<Location>,
    /// Length of the offending text in characters; 0 when unknown.
    pub length: usize,
    /// The line it stands in.
    pub source: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that make it one, each with what stands there: the value that this one does not agree with.
    pub others: Vec<Excerpt>,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.location {
            Some(location) => write!(f, "{location}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Why a project could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no compose file, neither named nor found.
    #[error("no compose file in {} or any folder above it", folder.display())]
    NoFile {
        /// Where the search began.
        folder: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] crate::base::fs::Error),
    /// The name of `-p` or `COMPOSE_PROJECT_NAME` is not one.
    #[error("invalid project name `{name}`")]
    ProjectName {
        /// What was given.
        name: String,
    },
    /// A switch in the environment has a value that is not one.
    #[error("{variable}: `{value}` is not a boolean")]
    Switch {
        /// The variable.
        variable: String,
        /// Its value.
        value: String,
    },
    /// A service that was named does not exist.
    #[error("no such service: {name}")]
    NoService {
        /// What was given.
        name: String,
        /// The nearest name that exists.
        nearest: Option<String>,
    },
    /// The files are wrong.
    #[error("{}", summary(mistakes))]
    Invalid {
        /// All that could be found, in the order of the files; never empty.
        mistakes: Vec<Mistake>,
    },
}

fn summary(mistakes: &[Mistake]) -> String {
    if let [only] = mistakes {
        return only.message.clone();
    }
    let mut text = format!("{} mistakes in the compose files", mistakes.len());
    // Those with a place are shown with their excerpt.
    for mistake in mistakes.iter().filter(|mistake| mistake.location.is_none()) {
        text.push_str("\n  ");
        text.push_str(&mistake.message);
        if let Some(hint) = &mistake.hint {
            text.push_str(": ");
            text.push_str(hint);
        }
    }
    text
}

/// What the user wrote, or its beginning where it is too long for a message.
pub(crate) fn shorten(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Error {
    /// The mistakes in the user's files; empty for the other kinds.
    pub fn mistakes(&self) -> &[Mistake] {
        match self {
            Self::Invalid { mistakes } => mistakes,
            _ => &[],
        }
    }
}

impl Explain for Error {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoFile { .. } => Some("create a compose.yaml, or name one with -f".into()),
            Self::File(error) => error.hint(),
            Self::ProjectName { .. } => Some(
                "use lower-case letters, digits, hyphens and underscores, beginning with a letter or a digit".into(),
            ),
            Self::Switch { .. } => Some("use true or false".into()),
            Self::NoService { nearest, .. } => nearest.as_ref().map(|name| format!("did you mean `{name}`?")),
            // Of several mistakes, each shows its own.
            Self::Invalid { mistakes } => match mistakes.as_slice() {
                [only] => only.hint.clone(),
                _ => None,
            },
        }
    }

    fn excerpts(&self) -> Vec<Excerpt> {
        let mistakes = self.mistakes();
        let several = mistakes.len() > 1;
        mistakes
            .iter()
            .flat_map(|mistake| {
                let own = mistake.location.clone().map(|location| Excerpt {
                    location,
                    length: mistake.length,
                    source: mistake.source.clone(),
                    label: match (several, &mistake.hint) {
                        (false, _) => String::new(),
                        (true, None) => mistake.message.clone(),
                        (true, Some(hint)) => format!("{}: {hint}", mistake.message),
                    },
                });
                own.into_iter().chain(mistake.others.iter().cloned())
            })
            .collect()
    }

    fn exit_code(&self) -> u8 {
        1
    }
}
