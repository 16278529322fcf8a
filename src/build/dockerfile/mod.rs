//! The Dockerfile language: text -> instructions with positions. Pure: no file, store or network is touched.
//!
//! ```text
//! lines: text -> joined lines, directives, heredocs      words: flags, words, pairs, JSON form
//! parse: line -> Instruction                             expand: `$name` in a word, once variables are known
//! ```

pub mod expand;
pub mod instruction;
pub mod lines;
pub mod mount;
mod parse;
mod suggest;
pub mod words;

use std::path::Path;

use super::error::Error;
use instruction::{Instruction, Kind};
use lines::Directives;
pub use suggest::suggestion;

/// A parsed Dockerfile.
#[derive(Debug)]
pub struct Dockerfile {
    /// What its directives say.
    pub directives: Directives,
    /// ARG instructions before the first FROM.
    pub globals: Vec<Instruction>,
    /// Its stages in order; never empty.
    pub stages: Vec<StageText>,
}

/// A FROM instruction and those after it.
#[derive(Debug)]
pub struct StageText {
    /// The FROM instruction.
    pub from: Instruction,
    /// The others.
    pub instructions: Vec<Instruction>,
}

/// Parses a Dockerfile; `path` is what errors call it.
///
/// Errors: `Syntax` for the first line that is wrong, `Empty`.
pub fn parse_dockerfile(path: &Path, text: &str) -> Result<Dockerfile, Error> {
    let (directives, lines) = lines::split(path, text)?;
    let mut file = Dockerfile { directives, globals: Vec::new(), stages: Vec::new() };
    for line in lines {
        let instruction = parse::parse(line, file.directives.escape)?;
        match (&instruction.kind, file.stages.last_mut()) {
            (Kind::From(_), _) => file.stages.push(StageText { from: instruction, instructions: Vec::new() }),
            (Kind::Arg(_), None) => file.globals.push(instruction),
            (_, Some(stage)) => stage.instructions.push(instruction),
            (_, None) => return Err(instruction.line.error("", "there is no FROM before this instruction")),
        }
    }
    if file.stages.is_empty() {
        let message = "the Dockerfile has no FROM instruction";
        return Err(file.globals[0].line.error("", message));
    }
    Ok(file)
}

/// Parses the ONBUILD triggers of a base image; `image` is what errors call it.
///
/// Errors: `Syntax` for one that is wrong or that may not be a trigger.
pub fn parse_triggers(image: &str, triggers: &[String], escape: char) -> Result<Vec<Instruction>, Error> {
    let mut instructions = Vec::new();
    let path = std::path::PathBuf::from(format!("ONBUILD of {image}"));
    for trigger in triggers {
        // A directive inside a trigger must not change how the rest is read: none can begin with `#`.
        let (_, lines) = lines::split(&path, trigger)?;
        for line in lines {
            let instruction = parse::parse(line, escape)?;
            if matches!(instruction.kind, Kind::From(_) | Kind::Onbuild(_) | Kind::Maintainer(_)) {
                return Err(instruction.line.error("", "the instruction is not allowed as a trigger"));
            }
            instructions.push(instruction);
        }
    }
    Ok(instructions)
}
