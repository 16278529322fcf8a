//! The keys that leave a container without ending it: ctrl-p ctrl-q unless told otherwise.

use crate::cli::Mistake;

/// Watches the input for a sequence of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { sequence: vec![0x10, 0x11], matched: 0 }
    }
}

impl DetachKeys {
    /// Reads `--detach-keys`: `ctrl-p,ctrl-q`, `ctrl-a,d`; an empty text switches them off.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let invalid =
            || Mistake::value("--detach-keys", text, "it takes keys with commas between them, such as ctrl-p,ctrl-q");
        let mut sequence = Vec::new();
        for key in text.split(',').filter(|_| !text.is_empty()) {
            let byte = match (key.strip_prefix("ctrl-"), key.as_bytes()) {
                (Some(key), _) => match key.as_bytes() {
                    [letter @ b'a'..=b'z'] => letter - b'a' + 1,
                    [b'@'] => 0,
                    [sign @ (b'[' | b'\\' | b']' | b'^' | b'_')] => sign - b'@',
                    _ => return Err(invalid()),
                },
                (None, [byte]) if byte.is_ascii_graphic() => *byte,
                _ => return Err(invalid()),
            };
            sequence.push(byte);
        }
        Ok(Self { sequence, matched: 0 })
    }

    /// Takes input; returns what to hand on, and whether the sequence was typed. Keys that may begin the sequence
    /// are held back until it is clear that they do not.
    pub fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(input.len());
        for byte in input {
            if self.sequence.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = 0;
            if self.sequence.first() == Some(byte) {
                self.matched = 1;
                if self.sequence.len() == 1 {
                    return (passed, true);
                }
            } else {
                passed.push(*byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_found_across_reads() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"\x11"), (Vec::new(), true));
    }

    #[test]
    fn a_sequence_that_is_broken_off_is_handed_on() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"\x10x\x10\x10\x11"), (b"\x10x\x10".to_vec(), true));
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"\x10"), (Vec::new(), false));
        assert_eq!(keys.filter(b"y"), (b"\x10y".to_vec(), false));
    }

    #[test]
    fn keys_are_parsed() {
        assert_eq!(DetachKeys::parse("ctrl-p,ctrl-q").ok(), Some(DetachKeys::default()));
        assert_eq!(DetachKeys::parse("ctrl-a,d").map(|keys| keys.sequence).ok(), Some(vec![1, b'd']));
        assert_eq!(DetachKeys::parse("").map(|mut keys| keys.filter(b"\x10\x11").1).ok(), Some(false));
        for wrong in ["ctrl-", "ctrl-1", "ab", ",", "ctrl-p,,x", "ä"] {
            assert!(DetachKeys::parse(wrong).is_err(), "{wrong}");
        }
    }
}
