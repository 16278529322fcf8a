//! Times as people read them, and times as they type them.
//!
//! Source of the words: docker/go-units `HumanDuration`; of the flags: moby `api/types/time`.

use std::time::Duration;

use jiff::Timestamp;

use crate::base::units::parse_duration;
use crate::cli::failure::Mistake;

/// `About a minute`, `3 hours`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        return match seconds {
            0 => "Less than a second".into(),
            1 => "1 second".into(),
            _ => format!("{seconds} seconds"),
        };
    }
    let minutes = seconds / 60;
    if minutes < 60 {
        return if minutes == 1 { "About a minute".into() } else { format!("{minutes} minutes") };
    }
    let hours = (seconds + 1800) / 3600;
    match hours {
        0 | 1 => "About an hour".into(),
        2..48 => format!("{hours} hours"),
        48..336 => format!("{} days", hours / 24),
        336..1440 => format!("{} weeks", hours / 24 / 7),
        1440..17520 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `2 minutes ago`.
pub fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human_duration(since(time, now)))
}

/// The time between two instants; none when the clock went back.
pub fn since(time: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(time).try_into().unwrap_or_default()
}

/// The value of `--since` or `--until`: a time (RFC 3339, or a part of it in local time), seconds since 1970,
/// or a duration back from now (`10m`).
pub fn parse_moment(flag: &'static str, text: &str, now: Timestamp) -> Result<Timestamp, Mistake> {
    let invalid =
        || Mistake::value(flag, text, "it takes a time (2026-01-31T12:00:00Z), a duration (10m) or seconds since 1970");
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Some((seconds, fraction)) = unix_seconds(text) {
        return Timestamp::new(seconds, fraction).map_err(|_| invalid());
    }
    if let Ok(duration) = parse_duration(text) {
        return now.checked_sub(duration).map_err(|_| invalid());
    }
    let local = jiff::tz::TimeZone::system();
    let civil = text.parse::<jiff::civil::DateTime>().map_err(|_| invalid())?;
    civil.to_zoned(local).map(|zoned| zoned.timestamp()).map_err(|_| invalid())
}

/// `1700000000.5` as seconds and nanoseconds.
fn unix_seconds(text: &str) -> Option<(i64, i32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Some((whole.parse().ok()?, nanoseconds))
}

/// The time as Docker's JSON shows it: `2026-01-31 12:00:00 +0000 UTC`.
pub fn docker_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// A time with its zone, where that is UTC by its letter as Go writes it.
pub fn with_zone(text: String) -> String {
    match text.strip_suffix("+00:00") {
        Some(rest) => format!("{rest}Z"),
        None => text,
    }
}

/// RFC 3339 with nine digits, as `logs --timestamps` shows it.
pub fn nanosecond_time(time: Timestamp) -> String {
    format!("{time:.9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers_words() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (61 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), words, "{seconds}");
        }
    }

    #[test]
    fn moments_are_times_durations_or_seconds() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        for (text, time) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
            ("10m", "2026-01-31T11:50:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
        ] {
            assert_eq!(parse_moment("--since", text, now).expect(text).to_string(), time, "{text}");
        }
        assert!(parse_moment("--since", "2026-01-01", now).is_ok());
        for wrong in ["", "yesterday", "-5m", "1.0000000001", "99999999999999999999"] {
            assert!(parse_moment("--since", wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_went_back_is_no_time_at_all() {
        let now = Timestamp::UNIX_EPOCH;
        let later: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        assert_eq!(ago(later, now), "Less than a second ago");
    }

    #[test]
    fn nanoseconds_are_always_shown() {
        assert_eq!(nanosecond_time(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(docker_time(Timestamp::UNIX_EPOCH), "1970-01-01 00:00:00 +0000 UTC");
    }
}
