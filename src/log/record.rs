//! One record of a log: its text form and back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;

/// Which of its two outputs a container wrote to. With a terminal everything is `Stdout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A piece of output: a line, or a part of one when it does not end in a line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was read from the container.
    pub time: Timestamp,
    /// Where the container wrote it.
    pub stream: Stream,
    /// The bytes as written, with the line feed.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    stream: Stream,
    time: Timestamp,
    #[serde(borrow, default)]
    raw: Option<std::borrow::Cow<'a, str>>,
}

/// Appends the record of `bytes` to `out`. `time` is RFC 3339 text.
pub(super) fn encode(out: &mut Vec<u8>, stream: Stream, bytes: &[u8], time: &str) {
    out.extend_from_slice(b"{\"log\":\"");
    let text = String::from_utf8_lossy(bytes);
    escape(out, text.as_bytes());
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    if matches!(text, std::borrow::Cow::Owned(_)) {
        out.extend_from_slice(b"\",\"raw\":\"");
        out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    }
    out.extend_from_slice(b"\"}\n");
}

/// Appends a record without output that says how many bytes before it were lost.
pub(super) fn encode_dropped(out: &mut Vec<u8>, dropped_bytes: u64, time: &str) {
    out.extend_from_slice(
        format!("{{\"log\":\"\",\"stream\":\"stderr\",\"time\":\"{time}\",\"dropped\":{dropped_bytes}}}\n").as_bytes(),
    );
}

/// Copies runs of harmless bytes at once; escapes what JSON wants escaped.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut start = 0;
    for (index, byte) in text.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' && *byte != 0x7f {
            continue;
        }
        out.extend_from_slice(&text[start..index]);
        start = index + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(byte >> 4)]);
                out.push(DIGITS[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// Reads one record; `None` when the text is not one (torn by a crash, or foreign).
pub(super) fn decode(text: &[u8]) -> Option<Line> {
    let record: Record<'_> = serde_json::from_slice(text).ok()?;
    let bytes = match record.raw {
        Some(raw) => STANDARD.decode(raw.as_bytes()).ok()?,
        None => record.log.into_owned().into_bytes(),
    };
    Some(Line { time: record.time, stream: record.stream, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-20T12:00:00.123456789Z";

    #[test]
    fn the_text_form_is_dockers() {
        let mut out = Vec::new();
        encode(&mut out, Stream::Stdout, b"a \"b\" \\ \x01\x7f\n", TIME);
        let expected = "{\"log\":\"a \\\"b\\\" \\\\ \\u0001\\u007f\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T12:00:00.123456789Z\"}\n";
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [&all[..], b"", b"plain\n", "ü€😀\n".as_bytes(), b"\xff\xfe", b"cut \xe2\x82"] {
            let mut out = Vec::new();
            encode(&mut out, Stream::Stderr, bytes, TIME);
            assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
            let line = decode(&out);
            assert_eq!(line.as_ref().map(|line| (line.stream, &line.bytes[..])), Some((Stream::Stderr, bytes)));
        }
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in ["", "{", "{\"log\":\"x\"}", "null", "{\"log\":1,\"stream\":\"stdout\",\"time\":\"x\"}"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
