//! `--rm=false`: Docker's command line gives switches a value, which the parser of flags refuses.
//!
//! Looked at only after it did refuse: nobody else pays for it.

use std::ffi::OsString;

use clap::{ArgAction, Command};

/// The command line without values of switches: `--x=true` becomes `--x`, `--x=false` goes. `None`: it had none.
pub(super) fn without_values(command: &Command, words: &[OsString]) -> Option<Vec<OsString>> {
    let mut kept: Vec<OsString> = words.iter().take(1).cloned().collect();
    let mut current = command;
    let mut is_changed = false;
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            kept.push(word.clone());
            break;
        }
        if let Some(flag) = text.strip_prefix("--") {
            let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            match (long(current, name), value) {
                (Some(true), Some(value)) if truth(value).is_some() => {
                    is_changed = true;
                    if truth(value) == Some(true) {
                        kept.push(format!("--{name}").into());
                    }
                    continue;
                }
                (Some(false), None) => {
                    kept.push(word.clone());
                    kept.extend(rest.next().cloned());
                    continue;
                }
                _ => {}
            }
        } else if text.len() > 1 && text.starts_with('-') {
            let (letters, value) = text[1..].split_once('=').map_or((&text[1..], None), |(l, v)| (l, Some(v)));
            let last = letters.chars().next_back().and_then(|letter| short(current, letter));
            let are_switches = letters.chars().all(|letter| short(current, letter) == Some(true));
            match value.and_then(truth) {
                Some(is_on) if are_switches => {
                    is_changed = true;
                    let count = letters.chars().count() - usize::from(!is_on);
                    let letters: String = letters.chars().take(count).collect();
                    if !letters.is_empty() {
                        kept.push(format!("-{letters}").into());
                    }
                    continue;
                }
                None if value.is_none() && last == Some(false) && takes_next(current, letters) => {
                    kept.push(word.clone());
                    kept.extend(rest.next().cloned());
                    continue;
                }
                _ => {}
            }
        } else if let Some(inner) = current.find_subcommand(text) {
            current = inner;
        } else if current.get_positionals().any(|argument| argument.is_trailing_var_arg_set()) {
            // What follows an image or a container is the process's own.
            kept.push(word.clone());
            break;
        }
        kept.push(word.clone());
    }
    kept.extend(rest.cloned());
    is_changed.then_some(kept)
}

/// Whether the flag is a switch; `None`: there is none of this name.
fn long(command: &Command, name: &str) -> Option<bool> {
    let argument = command.get_arguments().find(|argument| {
        argument.get_long() == Some(name) || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    });
    argument.map(is_switch)
}

fn short(command: &Command, letter: char) -> Option<bool> {
    command.get_arguments().find(|argument| argument.get_short() == Some(letter)).map(is_switch)
}

fn is_switch(argument: &clap::Arg) -> bool {
    matches!(argument.get_action(), ArgAction::SetTrue | ArgAction::SetFalse | ArgAction::Count | ArgAction::Help)
}

/// Whether the letters end with the one flag that takes a value, and it has none yet.
fn takes_next(command: &Command, letters: &str) -> bool {
    let before = letters.chars().count().saturating_sub(1);
    letters.chars().take(before).all(|letter| short(command, letter) == Some(true))
}

/// Source: Go `strconv.ParseBool`.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn switches_lose_their_values_and_the_process_keeps_its_words() {
        let command = crate::cli::docker::Arguments::command();
        for (typed, meant) in [
            ("docker run --rm=true --init=false busybox --rm=true", Some("docker run --rm busybox --rm=true")),
            ("docker run -e A=true --publish-all=1 -it=false x", Some("docker run -e A=true --publish-all -i x")),
            ("docker -D=true ps --no-trunc=TRUE -a=0", Some("docker -D ps --no-trunc")),
            ("docker container run -P=false x", Some("docker container run x")),
            ("docker run --name --rm=true --tty=true x", Some("docker run --name --rm=true --tty x")),
            ("docker run --label=true --rm x", None),
            ("docker exec x -t=true", None),
            ("docker run -- --rm=true", None),
        ] {
            let words: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
            let meant = meant.map(|line| line.split(' ').map(OsString::from).collect::<Vec<_>>());
            assert_eq!(without_values(&command, &words), meant, "{typed}");
        }
    }
}
