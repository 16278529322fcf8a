//! Signals by name and number.

use super::{Error, Result};

/// Name (without SIG) and number on Linux, x86-64 and arm64. Source: signal(7).
const SIGNALS: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];
/// First and last real-time signal as programs of the C library see them.
const REAL_TIME: (i32, i32) = (34, 64);

/// The name as Docker shows it: `SIGTERM`, or the number of one without a name.
pub fn name(number: i32) -> String {
    match SIGNALS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None => number.to_string(),
    }
}

/// Reads `SIGTERM`, `term`, `15`, `RTMIN+3`, `RTMAX-1`.
pub fn parse(text: &str) -> Result<i32> {
    let invalid = || Error::Value {
        what: "signal".into(),
        value: text.to_owned(),
        expected: "a signal (such as SIGTERM or 15)".into(),
    };
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=REAL_TIME.1).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => offset(rest).map(|offset| REAL_TIME.0 + offset),
        (_, Some(rest)) => offset(rest).map(|offset| REAL_TIME.1 + offset),
        _ => None,
    };
    number.filter(|number| (REAL_TIME.0..=REAL_TIME.1).contains(number)).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers_are_read() {
        for (text, number) in
            [("SIGTERM", 15), ("term", 15), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("rtmin", 34)]
        {
            assert_eq!(parse(text).ok(), Some(number), "{text}");
        }
        for wrong in ["", "0", "65", "-1", "SIGFOO", "RTMIN+99", "RTMIN-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
