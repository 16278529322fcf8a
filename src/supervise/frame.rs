//! What goes over an attach connection: one packet a frame, its kind in the first byte.
//!
//! The connection is a Unix socket of type SEQPACKET, so frames keep their borders and are never torn.

/// Most bytes of output or input in one frame.
pub const PAYLOAD_BYTES_MAX: usize = 32 << 10;

/// One message between a client and a supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the client: output. With a terminal, all of it.
    Stdout(Vec<u8>),
    /// To the client: error output.
    Stderr(Vec<u8>),
    /// To the client: the container ended with this code, after all output of that run, and stays so.
    Exit(i32),
    /// To the client: the container ended with this code, after all output of that run, and will be started again.
    Restarting(i32),
    /// To the client: it was disconnected, since it fell too far behind or another supervisor took over.
    Detached,
    /// To the client: what was asked for is done; or the reason why not.
    Answer(Option<String>),
    /// To the supervisor: show output from now on.
    Attach,
    /// To the supervisor: freeze the container's processes, or let them go on. Answered.
    Freeze(bool),
    /// To the supervisor: the container's spec was replaced: do what it says now. Answered.
    Reload,
    /// To the supervisor: end the container's process and start it again, whatever its policy. Not answered.
    Restart,
    /// To the container: input.
    Stdin(Vec<u8>),
    /// To the container: end of input.
    StdinEnd,
    /// To the container's terminal: its new size.
    Resize {
        /// Rows.
        rows: u16,
        /// Columns.
        columns: u16,
    },
}

impl Frame {
    /// Writes the frame as one packet.
    pub fn encode(&self) -> Vec<u8> {
        let with = |kind: u8, payload: &[u8]| {
            let mut packet = Vec::with_capacity(1 + payload.len());
            packet.push(kind);
            packet.extend_from_slice(payload);
            packet
        };
        match self {
            Self::Stdout(bytes) => with(b'o', bytes),
            Self::Stderr(bytes) => with(b'e', bytes),
            Self::Exit(code) => with(b'x', &code.to_le_bytes()),
            Self::Restarting(code) => with(b'y', &code.to_le_bytes()),
            Self::Detached => with(b'd', &[]),
            Self::Answer(None) => with(b'k', &[]),
            Self::Answer(Some(reason)) => with(b'n', reason.as_bytes()),
            Self::Attach => with(b'a', &[]),
            Self::Freeze(freeze) => with(b'f', &[u8::from(*freeze)]),
            Self::Reload => with(b'u', &[]),
            Self::Restart => with(b's', &[]),
            Self::Stdin(bytes) => with(b'i', bytes),
            Self::StdinEnd => with(b'z', &[]),
            Self::Resize { rows, columns } => with(b'r', &[rows.to_le_bytes(), columns.to_le_bytes()].concat()),
        }
    }

    /// Reads one packet; `None` when it is no frame.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (kind, payload) = packet.split_first()?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            return None;
        }
        Some(match kind {
            b'o' => Self::Stdout(payload.to_vec()),
            b'e' => Self::Stderr(payload.to_vec()),
            b'x' => Self::Exit(i32::from_le_bytes(payload.try_into().ok()?)),
            b'y' => Self::Restarting(i32::from_le_bytes(payload.try_into().ok()?)),
            b'd' if payload.is_empty() => Self::Detached,
            b'k' if payload.is_empty() => Self::Answer(None),
            b'n' => Self::Answer(Some(String::from_utf8_lossy(payload).into_owned())),
            b'a' if payload.is_empty() => Self::Attach,
            b'f' if payload.len() == 1 => Self::Freeze(payload[0] != 0),
            b'u' if payload.is_empty() => Self::Reload,
            b's' if payload.is_empty() => Self::Restart,
            b'i' => Self::Stdin(payload.to_vec()),
            b'z' if payload.is_empty() => Self::StdinEnd,
            b'r' => match *payload {
                [r0, r1, c0, c1] => {
                    Self::Resize { rows: u16::from_le_bytes([r0, r1]), columns: u16::from_le_bytes([c0, c1]) }
                }
                _ => return None,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire_and_garbage_does_not() {
        for frame in [
            Frame::Stdout(b"a\0b".to_vec()),
            Frame::Stderr(Vec::new()),
            Frame::Exit(-1),
            Frame::Restarting(137),
            Frame::Detached,
            Frame::Answer(None),
            Frame::Answer(Some("no".into())),
            Frame::Attach,
            Frame::Freeze(true),
            Frame::Reload,
            Frame::Restart,
            Frame::Stdin(vec![0; PAYLOAD_BYTES_MAX]),
            Frame::StdinEnd,
            Frame::Resize { rows: 24, columns: 300 },
        ] {
            assert_eq!(Frame::decode(&frame.encode()), Some(frame));
        }
        for packet in [&b""[..], b"?", b"x1", b"r123", b"r12345", b"dx", &vec![b'o'; PAYLOAD_BYTES_MAX + 2]] {
            assert_eq!(Frame::decode(packet), None);
        }
    }
}
