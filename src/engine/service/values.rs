//! Values of compose files as the engine needs them.

use crate::base::units::{parse_bytes, parse_duration};
use crate::engine::{Error, Result};

/// A JSON scalar without quotes.
pub(super) fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn bytes(what: &str, text: &str) -> Result<u64> {
    parse_bytes(text).map_err(|error| Error::Value {
        what: what.to_owned(),
        value: error.text,
        expected: error.expected.to_owned(),
    })
}

pub(super) fn milliseconds(what: &str, text: &str) -> Result<u64> {
    let duration = parse_duration(text).map_err(|error| Error::Value {
        what: what.to_owned(),
        value: error.text,
        expected: error.expected.to_owned(),
    })?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn octal(what: &str, text: &str) -> Result<u32> {
    u32::from_str_radix(text.trim_start_matches("0o"), 8).map_err(|_| Error::Value {
        what: what.to_owned(),
        value: text.to_owned(),
        expected: "an octal mode".into(),
    })
}
