//! Mistakes in flags, in our words: one line that says what is wrong, a hint, the right exit code.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::failure::Mistake;
use super::report;
use super::terminal::{Ansi, Terminal};

/// Ends the process after the parser refused the command line, or was asked for help or the version.
pub(super) fn end(error: &clap::Error, arguments: &[OsString], program: &'static str) -> ExitCode {
    if !error.use_stderr() {
        // A closed pipe behind `--help` is fine.
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        drop(error.print());
        return ExitCode::from(1);
    }
    let terminal = Terminal::detect(Ansi::Auto);
    let verb = verb_of(arguments);
    let mut mistake = explain(error, program, verb, &command_of(arguments, program, verb));
    if let Mistake::Usage { hint, .. } = &mut mistake
        && let Some(better) =
            dash_of(arguments).or_else(|| name_of_build(error, arguments, verb)).or_else(|| long_of(error, arguments))
    {
        *hint = Some(better);
    }
    let text = report::render(&mistake, terminal.stderr_colour);
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
    // `docker run` tells its own mistakes from those of the process by 125; so does `docker` those in any flag.
    let is_word = context(error, ContextKind::InvalidArg).iter().all(|argument| !argument.starts_with('-'));
    let is_flag = match error.kind() {
        ErrorKind::InvalidSubcommand => false,
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument => !is_word,
        _ => true,
    };
    let is_run = program == "wharf" && verb == Some("run");
    ExitCode::from(if is_run || (program == "docker" && is_flag) { 125 } else { 1 })
}

/// What to say of an argument that a word processor has changed: `–d` with a dash instead of a hyphen.
pub(super) fn dash_hint(argument: &str) -> Option<String> {
    let name = argument.strip_prefix(['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2014}', '\u{2212}'])?;
    let hyphens = if name.split('=').next().is_some_and(|name| name.chars().count() > 1) { "--" } else { "-" };
    Some(format!("`{argument}` begins with a dash of printed text: type `{hyphens}{name}`"))
}

fn dash_of(arguments: &[OsString]) -> Option<String> {
    arguments.iter().filter_map(|argument| argument.to_str()).find_map(dash_hint)
}

/// `build NAME PATH` was meant to be `build -t NAME PATH`.
fn name_of_build(error: &clap::Error, arguments: &[OsString], verb: Option<&str>) -> Option<String> {
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    match (error.kind(), words.as_slice()) {
        (ErrorKind::UnknownArgument, [before @ .., name, path])
            if verb == Some("build") && !name.starts_with('-') && !path.starts_with('-') =>
        {
            let flag = before.last().is_some_and(|word| word.starts_with('-') && !word.contains('='));
            (!flag).then(|| format!("did you mean `build -t {name} {path}`?"))
        }
        _ => None,
    }
}

/// The first word that is no flag and no group. The value of a global flag may be taken for it: harmless in a message.
fn verb_of(arguments: &[OsString]) -> Option<&str> {
    let is_group = |word: &&str| matches!(*word, "container" | "image" | "docker");
    let words = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    let mut words = words.filter(|argument| !argument.starts_with('-'));
    let first = words.clone().next()?;
    words.find(|word| !is_group(word)).or(Some(first))
}

/// The command as it is to be named: with its group, so that `image prune` is told from `volume prune`.
fn command_of(arguments: &[OsString], program: &str, verb: Option<&str>) -> String {
    const GROUPS: [&str; 8] = ["container", "image", "volume", "network", "system", "builder", "buildx", "manifest"];
    let words = arguments.iter().skip(1).filter_map(|argument| argument.to_str());
    let mut words = words.skip_while(|word| word.starts_with('-') || *word == "docker");
    match (words.next(), words.find(|word| !word.starts_with('-'))) {
        (Some(group), Some(verb)) if GROUPS.contains(&group) => format!("{program} {group} {verb}"),
        _ => verb.map_or_else(|| program.to_owned(), |verb| format!("{program} {verb}")),
    }
}

/// `-all` was meant to be `--all`.
fn long_of(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let unknown = context(error, ContextKind::InvalidArg).first()?.strip_prefix('-')?.to_owned();
    let is_meant = |argument: &&str| {
        let letters = argument.strip_prefix('-').filter(|name| !name.starts_with('-') && name.len() > 2);
        letters.is_some_and(|letters| unknown.len() == 1 && letters.contains(&unknown))
    };
    let argument = arguments.iter().filter_map(|argument| argument.to_str()).find(is_meant)?;
    Some(format!("did you mean `-{argument}`? One hyphen stands before flags of one letter"))
}

fn explain(error: &clap::Error, program: &str, verb: Option<&str>, command: &str) -> Mistake {
    let text_of = |kind| context(error, kind).join(", ");
    let suggestion = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
        .into_iter()
        .flat_map(|kind| context(error, kind))
        .next()
        .map(|other| format!("did you mean `{other}`?"));
    let see_help = || Some(format!("`{command} --help` lists what it takes"));
    let (text, hint) = match error.kind() {
        ErrorKind::UnknownArgument => {
            let argument = text_of(ContextKind::InvalidArg);
            let hint = suggestion.or_else(|| misplaced(&argument, verb)).or_else(see_help);
            if argument.starts_with('-') {
                (format!("`{command}` has no flag `{argument}`"), hint)
            } else {
                (format!("`{command}` takes no further argument, `{argument}` is one too many"), hint)
            }
        }
        ErrorKind::InvalidSubcommand => {
            let verb = text_of(ContextKind::InvalidSubcommand);
            // `imagem` is `image` with a letter too many before it is anything else.
            let beginning = context(error, ContextKind::SuggestedSubcommand)
                .into_iter()
                .find(|other| verb.starts_with(other.as_str()))
                .map(|other| format!("did you mean `{other}`?"));
            let suggestion = not_there(&verb).or(beginning).or(suggestion);
            (
                format!("there is no `{program} {verb}`"),
                suggestion.or_else(|| Some(format!("`{program} --help` lists the verbs"))),
            )
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => invalid_value(error, suggestion),
        ErrorKind::MissingRequiredArgument => {
            (format!("`{command}` needs {}", text_of(ContextKind::InvalidArg)), see_help())
        }
        ErrorKind::ArgumentConflict => {
            let (first, second) = (text_of(ContextKind::InvalidArg), text_of(ContextKind::PriorArg));
            if first == second {
                (format!("{first} can be given only once"), None)
            } else {
                (format!("{} and {} cannot be used together", flag_only(&first), flag_only(&second)), None)
            }
        }
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues | ErrorKind::NoEquals => {
            (format!("{} needs a value", text_of(ContextKind::InvalidArg)), see_help())
        }
        ErrorKind::InvalidUtf8 => ("the command line has an argument that is not UTF-8".into(), None),
        _ => (first_line(error), see_help()),
    };
    Mistake::Usage { text, hint }
}

/// Why Docker's verbs that are not here are not.
fn not_there(verb: &str) -> Option<String> {
    let reason = match verb {
        "swarm" | "node" | "service" | "stack" | "secret" | "config" => {
            "containers of one machine only: services, their secrets and configs are in a compose file (`wharf up`)"
        }
        "search" => "look for images on the registry's own page, such as https://hub.docker.com",
        "plugin" => "there are no plugins: volumes of other file systems are mounted by `--driver local` with options",
        "trust" => "images are held to their digests: `NAME@sha256:…` is that one and no other",
        "checkpoint" => "a container's memory cannot be kept; `docker pause` lets it stand still",
        _ => return None,
    };
    Some(reason.to_owned())
}

fn invalid_value(error: &clap::Error, suggestion: Option<String>) -> (String, Option<String>) {
    let flag = context(error, ContextKind::InvalidArg).join(" ");
    let value = context(error, ContextKind::InvalidValue).join(" ");
    if value.is_empty() {
        return (format!("{} needs a value", flag_only(&flag)), None);
    }
    let accepted = context(error, ContextKind::ValidValue);
    let reason = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    let hint = suggestion.or_else(|| (!accepted.is_empty()).then(|| format!("it takes {}", accepted.join(", "))));
    (format!("`{value}` is no value for {}{reason}", flag_only(&flag)), hint)
}

/// A flag of Compose itself that was written behind the verb.
fn misplaced(argument: &str, verb: Option<&str>) -> Option<String> {
    const GLOBAL: [&str; 11] = [
        "--file",
        "--project-name",
        "--project-directory",
        "--profile",
        "--env-file",
        "--ansi",
        "--progress",
        "--parallel",
        "--all-resources",
        "-f",
        "-p",
    ];
    let flag = argument.split('=').next()?;
    let verb = verb?;
    GLOBAL.contains(&flag).then(|| format!("it stands before the verb: `wharf {flag} … {verb}`"))
}

/// `--tail` of `--tail <N>`.
fn flag_only(argument: &str) -> &str {
    argument.split([' ', '=']).next().unwrap_or(argument)
}

fn context(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
