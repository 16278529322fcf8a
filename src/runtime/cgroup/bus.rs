//! One call over D-Bus: as much of the protocol as that takes.
//!
//! ```text
//! "\0AUTH EXTERNAL <uid in hex>\r\nBEGIN\r\n"  ◄ "OK <guid>\r\n"
//! call: fixed header, fields {path, interface, member, destination, signature}, body ──►
//!                                                  ◄── messages: the answer, signals
//! ```
//! The other end is the host's first process, on a socket of its own that only root may open; nothing of what it says
//! is taken on trust all the same: every length is checked and bounded.
//!
//! Source: <https://dbus.freedesktop.org/doc/dbus-specification.html>, "Message Protocol", "Authentication Protocol".

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// No message that matters here is longer.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Header fields by number.
mod field {
    pub const PATH: u8 = 1;
    pub const INTERFACE: u8 = 2;
    pub const MEMBER: u8 = 3;
    pub const ERROR_NAME: u8 = 4;
    pub const REPLY_SERIAL: u8 = 5;
    pub const DESTINATION: u8 = 6;
    pub const SIGNATURE: u8 = 8;
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub destination: &'static str,
    pub path: &'static str,
    pub interface: &'static str,
    pub member: &'static str,
    /// Of the body.
    pub signature: &'static str,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// The answer to a call.
    Return { to: u32 },
    /// A call was refused: the error's name and what it says.
    Error { to: u32, name: String, text: String },
    /// Something happened; with the texts of its body.
    Signal { member: String, texts: Vec<String> },
    /// What nobody here asked for.
    Other,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    /// Connects to who listens at `path`; no read or write takes longer than `patience`.
    pub fn connect(path: &Path, patience: Duration) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let uid: String = rustix::process::geteuid().as_raw().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())?;
        let answer = line(&mut stream)?;
        if !answer.starts_with("OK ") {
            return Err(io::Error::other(format!("the answer to the authentication is `{answer}`")));
        }
        stream.write_all(b"BEGIN\r\n")?;
        Ok(Self { stream, serial: 0 })
    }

    /// Sends a call; returns its number, which the answer bears.
    pub fn call(&mut self, method: Method, body: &Body) -> io::Result<u32> {
        self.serial += 1;
        let mut fields = Body::default();
        for (number, kind, value) in [
            (field::PATH, "o", method.path),
            (field::INTERFACE, "s", method.interface),
            (field::MEMBER, "s", method.member),
            (field::DESTINATION, "s", method.destination),
            (field::SIGNATURE, "g", method.signature),
        ] {
            fields.align(8);
            fields.bytes.push(number);
            fields.signature(kind);
            if kind == "g" { fields.signature(value) } else { fields.text(value) }
        }
        const CALL: u8 = 1;
        let mut message = Body { bytes: vec![b'l', CALL, 0, 1] };
        message.number(length(&body.bytes)?);
        message.number(self.serial);
        message.number(length(&fields.bytes)?);
        message.bytes.extend(&fields.bytes);
        message.align(8);
        message.bytes.extend(&body.bytes);
        self.stream.write_all(&message.bytes)?;
        Ok(self.serial)
    }

    /// Waits for the next message.
    pub fn receive(&mut self) -> io::Result<Message> {
        const FIXED: usize = 16;
        let mut bytes = vec![0u8; FIXED];
        self.stream.read_exact(&mut bytes)?;
        let numbers = Reader { bytes: &bytes, at: 4, is_big: bytes.first() == Some(&b'B') };
        let body = numbers.number_at(4).ok_or_else(malformed)? as usize;
        let fields = numbers.number_at(12).ok_or_else(malformed)? as usize;
        let whole = FIXED.checked_add(fields).and_then(|end| end.checked_next_multiple_of(8)?.checked_add(body));
        let whole = whole.filter(|length| *length <= MESSAGE_BYTES_MAX).ok_or_else(malformed)?;
        bytes.resize(whole, 0);
        self.stream.read_exact(bytes.get_mut(FIXED..).unwrap_or_default())?;
        parse(&bytes, FIXED + fields).ok_or_else(malformed)
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is no D-Bus message")
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(io::Error::other)
}

fn line(stream: &mut UnixStream) -> io::Result<String> {
    const LINE_BYTES_MAX: usize = 512;
    let (mut line, mut byte) = (Vec::new(), [0u8; 1]);
    while line.len() < LINE_BYTES_MAX && !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Values one after the other, each aligned to its size; little-endian.
#[derive(Debug, Default)]
pub(super) struct Body {
    bytes: Vec<u8>,
}

impl Body {
    fn align(&mut self, size: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(size), 0);
    }

    fn number(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(0));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// Adds a string or object path.
    pub fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(0));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// Adds an array of structures, which `fill` writes.
    pub fn structures(&mut self, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let place = self.bytes.len() - 4;
        self.align(8);
        let begin = self.bytes.len();
        fill(self);
        let length = u32::try_from(self.bytes.len() - begin).unwrap_or(0);
        if let Some(slot) = self.bytes.get_mut(place..place + 4) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
    }

    /// Adds a structure of a name and a variant.
    pub fn property(&mut self, name: &str, value: Variant<'_>) {
        self.align(8);
        self.text(name);
        match value {
            Variant::Text(text) => {
                self.signature("s");
                self.text(text);
            }
            Variant::Flag(flag) => {
                self.signature("b");
                self.number(flag.into());
            }
            Variant::Long(value) => {
                self.signature("t");
                self.align(8);
                self.bytes.extend(value.to_le_bytes());
            }
            Variant::Numbers(values) => {
                self.signature("au");
                self.number(u32::try_from(values.len() * 4).unwrap_or(0));
                values.iter().for_each(|value| self.number(*value));
            }
        }
    }
}

/// A value that says its type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Variant<'a> {
    Text(&'a str),
    Flag(bool),
    Long(u64),
    Numbers(&'a [u32]),
}

/// Reads a whole message whose header fields end at `fields_end`.
fn parse(bytes: &[u8], fields_end: usize) -> Option<Message> {
    const RETURN: u8 = 2;
    const ERROR: u8 = 3;
    const SIGNAL: u8 = 4;
    let is_big = match bytes.first()? {
        b'l' => false,
        b'B' => true,
        _ => return None,
    };
    let mut reader = Reader { bytes: bytes.get(..fields_end)?, at: 16, is_big };
    let (mut to, mut member, mut error, mut signature) = (0, String::new(), String::new(), String::new());
    while reader.at < fields_end {
        reader.align(8)?;
        let number = reader.byte()?;
        let kind = reader.signature()?;
        match (number, kind.as_str()) {
            (field::REPLY_SERIAL, "u") => to = reader.number()?,
            (field::MEMBER, "s") => member = reader.text()?,
            (field::ERROR_NAME, "s") => error = reader.text()?,
            (field::SIGNATURE, "g") => signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "u") => drop(reader.number()?),
            (_, "g") => drop(reader.signature()?),
            _ => return None,
        }
    }
    let mut body = Reader { bytes, at: fields_end.next_multiple_of(8), is_big };
    Some(match *bytes.get(1)? {
        RETURN => Message::Return { to },
        ERROR => {
            Message::Error { to, name: error, text: body.texts(&signature).into_iter().next().unwrap_or_default() }
        }
        SIGNAL => Message::Signal { member, texts: body.texts(&signature) },
        _ => Message::Other,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

impl Reader<'_> {
    fn align(&mut self, size: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(size)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number_at(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4)?;
        let number = self.number_at(self.at)?;
        self.at += 4;
        Some(number)
    }

    fn piece(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = String::from_utf8(self.bytes.get(self.at..end)?.to_vec()).ok()?;
        // The zero byte behind it.
        self.at = end.checked_add(1)?;
        Some(text)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.piece(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.piece(length)
    }

    /// The texts of a body, up to the first value that is neither text nor number.
    fn texts(&mut self, signature: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for kind in signature.chars() {
            let read = match kind {
                's' | 'o' => self.text().map(|text| texts.push(text)),
                'u' | 'i' | 'b' => self.number().map(drop),
                _ => None,
            };
            if read.is_none() {
                break;
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const METHOD: Method = Method {
        destination: "org.example",
        path: "/org/example",
        interface: "org.example.Shop",
        member: "Buy",
        signature: "sa(sv)",
    };

    /// Somebody who answers `answers` to the first call, as bytes; returns what was called.
    fn with_server(answers: Vec<u8>, client: impl FnOnce(&mut Bus)) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("wharf-bus-{}", crate::base::id::random_hex(6)));
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut zero = [0u8; 1];
            stream.read_exact(&mut zero).unwrap();
            assert!(line(&mut stream).unwrap().starts_with("AUTH EXTERNAL 3"));
            stream.write_all(b"OK 1234\r\n").unwrap();
            assert_eq!(line(&mut stream).unwrap(), "BEGIN");
            let mut called = vec![0u8; 4096];
            let length = stream.read(&mut called).unwrap();
            stream.write_all(&answers).unwrap();
            called.truncate(length);
            called
        });
        client(&mut Bus::connect(&path, Duration::from_secs(10)).unwrap());
        std::fs::remove_file(path).unwrap();
        server.join().unwrap()
    }

    /// A message as another implementation writes it (libsystemd's, of `JobRemoved`).
    fn message(kind: u8, fields: &[(u8, &str, &str)], signature: &str, body: &Body) -> Vec<u8> {
        let mut all = Body::default();
        for (number, kind, value) in fields {
            all.align(8);
            all.bytes.push(*number);
            all.signature(kind);
            match *kind {
                "u" => all.number(value.parse().unwrap()),
                _ => all.text(value),
            }
        }
        all.align(8);
        all.bytes.push(field::SIGNATURE);
        all.signature("g");
        all.signature(signature);
        let mut message = Body { bytes: vec![b'l', kind, 0, 1] };
        message.number(body.bytes.len() as u32);
        message.number(7);
        message.number(all.bytes.len() as u32);
        message.bytes.extend(all.bytes);
        message.align(8);
        message.bytes.extend(&body.bytes);
        message.bytes
    }

    #[test]
    fn a_call_and_what_comes_back() {
        let mut removed = Body::default();
        removed.number(5);
        ["/job/5", "x.scope", "done"].iter().for_each(|text| removed.text(text));
        let mut text = Body::default();
        text.text("sold out");
        let mut answers = message(2, &[(field::REPLY_SERIAL, "u", "1")], "", &Body::default());
        answers.extend(message(4, &[(field::PATH, "o", "/a"), (field::MEMBER, "s", "JobRemoved")], "uoss", &removed));
        let error = [(field::ERROR_NAME, "s", "org.example.None"), (field::REPLY_SERIAL, "u", "1")];
        answers.extend(message(3, &error, "s", &text));
        let called = with_server(answers, |bus| {
            let mut body = Body::default();
            body.text("apple");
            body.structures(|list| {
                list.property("Count", Variant::Long(3));
                list.property("Ripe", Variant::Flag(true));
                list.property("Sizes", Variant::Numbers(&[1, 2]));
                list.property("Kind", Variant::Text("red"));
            });
            assert_eq!(bus.call(METHOD, &body).unwrap(), 1);
            assert_eq!(bus.receive().unwrap(), Message::Return { to: 1 });
            let texts = ["/job/5", "x.scope", "done"].map(str::to_owned).into();
            assert_eq!(bus.receive().unwrap(), Message::Signal { member: "JobRemoved".into(), texts });
            let (name, text) = ("org.example.None".to_owned(), "sold out".to_owned());
            assert_eq!(bus.receive().unwrap(), Message::Error { to: 1, name, text });
            assert!(bus.receive().is_err());
        });
        // What was sent can be read by the same rules.
        let fields = u32::from_le_bytes(called[12..16].try_into().unwrap()) as usize;
        assert_eq!(parse(&called, 16 + fields), Some(Message::Other));
        let mut body = Reader { bytes: &called, at: (16 + fields).next_multiple_of(8), is_big: false };
        assert_eq!(body.text().as_deref(), Some("apple"));
        let (length, begin) = (body.number().unwrap() as usize, body.at.next_multiple_of(8));
        assert_eq!(begin + length, called.len());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let mut long = message(2, &[], "", &Body::default());
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut odd = message(2, &[], "", &Body::default());
        odd[0] = b'x';
        let mut beyond = message(4, &[(field::MEMBER, "s", "M")], "s", &Body::default());
        // A text that is longer than the message.
        beyond[20..24].copy_from_slice(&1000u32.to_le_bytes());
        for bytes in [long, odd, beyond, b"short".to_vec()] {
            with_server(bytes, |bus| {
                bus.call(METHOD, &Body::default()).unwrap();
                assert!(bus.receive().is_err());
            });
        }
    }
}
