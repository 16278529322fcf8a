//! Streams that may be compressed: which way is told by their first bytes, never by a name or a media type.

use std::io::{self, Cursor, Read};

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// gzip, also of several members.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Inflated bytes from which on the ratio is watched.
const RATIO_BYTES_MIN: u64 = 1 << 30;
/// Highest ratio of inflated to compressed bytes. Layers have 2 to 10; gzip cannot exceed 1032.
const RATIO_MAX: u64 = 250;
/// Largest window that a Zstandard stream may ask for, as a power of two: 128 MiB, what `zstd --long` writes.
const WINDOW_LOG_MAX: u32 = 27;

/// Inflates `input`.
///
/// Errors: the stream's; `Unsupported` for bzip2 and xz; reading fails with `InvalidData` for a bomb.
pub(super) fn inflate<'a>(mut input: impl Read + Send + 'a) -> io::Result<(Box<dyn Read + Send + 'a>, Compression)> {
    let mut head = [0u8; 6];
    let mut length = 0;
    while length < head.len() {
        match input.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let head = head[..length].to_vec();
    let compression = sniff(&head)?;
    let whole = Cursor::new(head).chain(input);
    Ok(match compression {
        Compression::None => (Box::new(whole), compression),
        Compression::Gzip => {
            let counted = io::BufReader::with_capacity(64 << 10, whole);
            (
                Box::new(Watched::new(flate2::bufread::MultiGzDecoder::new(Counted { input: counted, bytes: 0 }))),
                compression,
            )
        }
        Compression::Zstd => {
            let counted = io::BufReader::with_capacity(64 << 10, whole);
            let mut decoder = zstd::stream::read::Decoder::with_buffer(Counted { input: counted, bytes: 0 })?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            (Box::new(Watched::new(decoder)), compression)
        }
    })
}

fn sniff(head: &[u8]) -> io::Result<Compression> {
    let unsupported = |name: &str| {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("{name} is not supported here; use gzip or zstd")))
    };
    match head {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => unsupported("xz"),
        _ => Ok(Compression::None),
    }
}

/// Counts the bytes taken.
struct Counted<R> {
    input: R,
    bytes: u64,
}

impl<R: io::BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl<R: io::BufRead> io::BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.bytes += amount as u64;
        self.input.consume(amount);
    }
}

/// A decoder that tells how much it has taken.
trait Taken: Read {
    fn taken_bytes(&self) -> u64;
}

impl<R: io::BufRead> Taken for flate2::bufread::MultiGzDecoder<Counted<R>> {
    fn taken_bytes(&self) -> u64 {
        self.get_ref().bytes
    }
}

impl<R: io::BufRead> Taken for zstd::stream::read::Decoder<'_, Counted<R>> {
    fn taken_bytes(&self) -> u64 {
        self.get_ref().bytes
    }
}

/// Refuses a stream that inflates beyond every sensible ratio.
struct Watched<D> {
    decoder: D,
    inflated_bytes: u64,
}

impl<D: Taken> Watched<D> {
    fn new(decoder: D) -> Self {
        Self { decoder, inflated_bytes: 0 }
    }
}

impl<D: Taken> Read for Watched<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.inflated_bytes += read as u64;
        if self.inflated_bytes > RATIO_BYTES_MIN && self.inflated_bytes / RATIO_MAX > self.decoder.taken_bytes().max(1)
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it inflates to more than 250 times its size"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn inflated(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        inflate(bytes)?.0.read_to_end(&mut content)?;
        Ok(content)
    }

    #[test]
    fn the_first_bytes_tell_the_compression() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"hello").unwrap();
        let mut members = gzip.finish().unwrap();
        members.extend(members.clone());
        assert_eq!(inflated(&members).unwrap(), b"hellohello");
        assert_eq!(inflated(&zstd::encode_all(&b"hello"[..], 1).unwrap()).unwrap(), b"hello");
        assert_eq!(inflated(b"he").unwrap(), b"he");
        assert_eq!(inflated(b"BZh91AY").unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        let zeros = vec![0u8; 1 << 20];
        for _ in 0..1100 {
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        let mut reader = inflate(&bomb[..]).unwrap().0;
        let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
