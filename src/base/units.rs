//! Sizes and durations as Docker and Compose write them.

use std::time::Duration;

/// Text that is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidUnit {
    /// What was given.
    pub text: String,
    /// What it should have looked like.
    pub expected: &'static str,
}

/// Reads a size in bytes: `64m`, `1.5g`, `512`, `10 MiB`. Units are powers of 1024, in either case.
///
/// Source: docker/go-units `RAMInBytes`.
pub fn parse_bytes(text: &str) -> Result<u64, InvalidUnit> {
    const EXPECTED: &str = "a size (a number with b, k, m, g, t or p, such as 64m)";
    let invalid = || InvalidUnit { text: text.to_owned(), expected: EXPECTED };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(invalid()),
    };
    let scale = 1u64 << (10 * power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(invalid);
    }
    let value = number.parse::<f64>().map_err(|_| invalid())? * scale as f64;
    if !value.is_finite() || value < 0.0 || value >= u64::MAX as f64 {
        return Err(invalid());
    }
    Ok(value as u64)
}

/// Writes a size as tables show it: decimal units, three significant digits (`133MB`, `1.2GB`).
///
/// Source: docker/go-units `HumanSize`.
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(value), UNITS[unit])
}

/// Writes a size in units of 1024 with four significant digits (`23.44GiB`), as `stats` and `info` show memory.
///
/// Source: docker/go-units `BytesSize`.
pub fn format_bytes_binary(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match value {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

fn significant(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Reads a duration: `1m30s`, `500ms`, `1.5h`, `2d`, `1w`. The unit is mandatory, except in `0`.
///
/// Source: Compose specification, "Specifying durations"; Go's `time.ParseDuration`.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidUnit> {
    const EXPECTED: &str = "a duration (such as 500ms, 30s or 1m30s)";
    let invalid = || InvalidUnit { text: text.to_owned(), expected: EXPECTED };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds = 0f64;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let value: f64 = rest[..split].parse().map_err(|_| invalid())?;
        rest = &rest[split..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let scale = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 86_400e9,
            "w" => 604_800e9,
            _ => return Err(invalid()),
        };
        nanoseconds += value * scale;
        rest = &rest[end..];
    }
    if !nanoseconds.is_finite() || nanoseconds > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(Duration::from_nanos(nanoseconds as u64))
}

/// Writes a duration as Go does: `1m30s`, `500ms`, `24h0m0s`.
pub fn format_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    if nanoseconds == 0 {
        return "0s".into();
    }
    if nanoseconds < 1_000_000_000 {
        let (scale, unit) = if nanoseconds < 1_000 {
            (1, "ns")
        } else if nanoseconds < 1_000_000 {
            (1_000, "µs")
        } else {
            (1_000_000, "ms")
        };
        return format!("{}{unit}", fraction(nanoseconds, scale));
    }
    let seconds = fraction(nanoseconds % 60_000_000_000, 1_000_000_000);
    let minutes = duration.as_secs() / 60;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn fraction(value: u128, scale: u128) -> String {
    let rest = value % scale;
    if rest == 0 {
        return (value / scale).to_string();
    }
    let digits = scale.ilog10() as usize;
    let decimals = format!("{rest:0digits$}");
    format!("{}.{}", value / scale, decimals.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in
            [("0", 0), ("64m", 64 << 20), ("1.5g", 3 << 29), ("1 g", 1 << 30), ("10KiB", 10 << 10), ("5B", 5)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "m", "-1", "1x", "1e3", "99999999999p", "1..5m"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_in_decimal_units() {
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (1_230, "1.23kB"), (132_500_000, "132MB"), (1_200_000_000, "1.2GB")]
        {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn durations_are_go_durations_with_days_and_weeks() {
        for (text, milliseconds) in
            [("0", 0), ("500ms", 500), ("1m30s", 90_000), ("1.5h", 5_400_000), ("1d", 86_400_000), ("1w", 604_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in ["", "5", "s", "5x", "1m30", "-5s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_shown_as_go_shows_them() {
        for (milliseconds, text) in
            [(0, "0s"), (500, "500ms"), (1_500, "1.5s"), (90_000, "1m30s"), (86_400_000, "24h0m0s")]
        {
            assert_eq!(format_duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
