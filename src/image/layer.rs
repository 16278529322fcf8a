//! One layer from a stream: inflated by one thread, hashed and unpacked by another.
//!
//! ```text
//! compressed --> [inflate] ==chunks==> [diff id | unpack] --> folder of a LayerWriter
//!                          <==empty===
//! ```
//!
//! The channel is bounded and its buffers go back to be filled again, so memory does not grow with the layer.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::Digest as _;

use super::inflate::inflate;
use super::unpack::{Limits, unpack};
use super::{Error, Result};
use crate::base::id::Digest;
use crate::model::image::{BlobRecord, LayerRecord};
use crate::store::{LayerWriter, Store};

/// Size of one chunk of inflated bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks under way.
const CHUNKS: usize = 6;

/// An unpacked layer that nobody sees yet.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) writer: LayerWriter,
    pub(super) diff_id: Digest,
    pub(super) size_bytes: u64,
}

/// Inflates (whatever its compression) and unpacks `compressed` into a new layer.
///
/// `compressed` is read to its end. Nothing stays when it fails.
pub(super) fn unpack_layer(store: &Store, compressed: impl Read + Send, limits: &Limits) -> Result<Unpacked> {
    let writer = store.layers().begin()?;
    let (diff_id, size_bytes) = unpack_into(compressed, writer.folder(), limits)?;
    Ok(Unpacked { writer, diff_id, size_bytes })
}

/// Makes a layer of a folder that overlayfs wrote into, and protects it; the folder stays as it is.
pub fn layer_of_folder(store: &Store, folder: &Path) -> Result<LayerRecord> {
    let (reader, writer) = io::pipe().map_err(|source| Error::Read { source })?;
    std::thread::scope(|scope| {
        let archive = scope.spawn(move || crate::store::write_archive(folder, writer));
        let unpacked = unpack_layer(store, reader, &Limits::default());
        // What the writer says explains why the archive was damaged.
        archive.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let Unpacked { writer, diff_id, size_bytes } = unpacked?;
        store.lease()?.protect(&diff_id)?;
        Ok(writer.commit(&diff_id, size_bytes)?)
    })
}

/// The compressed blob of a layer, where it is kept: the image's own, else that of another image with the same layer.
///
/// A layer that came from elsewhere cannot be archived again byte by byte, so one of its blobs has to go out with it.
pub(super) fn kept_blob(store: &Store, layer: &LayerRecord) -> Result<Option<BlobRecord>> {
    let is_kept = |blob: &BlobRecord| -> Result<bool> {
        store.lease()?.protect(&blob.digest)?;
        Ok(store.blobs().exists(&blob.digest))
    };
    if let Some(blob) = &layer.blob
        && is_kept(blob)?
    {
        return Ok(Some(blob.clone()));
    }
    for (image, _) in store.images().list()? {
        for other in image.layers.into_iter().filter(|other| other.diff_id == layer.diff_id) {
            if let Some(blob) = other.blob
                && is_kept(&blob)?
            {
                return Ok(Some(blob));
            }
        }
    }
    Ok(None)
}

fn unpack_into(compressed: impl Read + Send, folder: &Path, limits: &Limits) -> Result<(Digest, u64)> {
    let (full, chunks) = sync_channel::<io::Result<Vec<u8>>>(CHUNKS);
    let (empty, returned) = sync_channel::<Vec<u8>>(CHUNKS);
    std::thread::scope(|scope| {
        let inflater = std::thread::Builder::new().name("inflate".into());
        let thread = inflater.spawn_scoped(scope, move || fill_chunks(compressed, &full, &returned));
        thread.map_err(|source| Error::Read { source })?;
        let reader = ChunkReader { chunks, empty, current: Vec::new(), position: 0, ended: false };
        let mut hashing = HashingReader { input: reader, hasher: sha2::Sha256::new() };
        let size_bytes = unpack(&mut hashing, folder, limits)?;
        Ok((Digest::from_sha256(&hashing.hasher.finalize()), size_bytes))
    })
}

/// Sends the inflated stream in chunks, then an empty one; an error takes the place of a chunk.
fn fill_chunks(compressed: impl Read + Send, full: &SyncSender<io::Result<Vec<u8>>>, returned: &Receiver<Vec<u8>>) {
    let result = inflate(compressed).and_then(|(mut reader, _)| {
        loop {
            let mut chunk = returned.try_recv().unwrap_or_default();
            chunk.resize(CHUNK_BYTES, 0);
            let length = fill(&mut reader, &mut chunk)?;
            chunk.truncate(length);
            // Nobody listens any more: the other side has failed and says why.
            if full.send(Ok(chunk)).is_err() || length == 0 {
                return Ok(());
            }
        }
    });
    if let Err(error) = result {
        drop(full.send(Err(error)));
    }
}

/// Reads until `buffer` is full or the stream ends.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The other end of the channel.
struct ChunkReader {
    chunks: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.current.len() && !self.ended {
            let next = self
                .chunks
                .recv()
                .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the inflating thread ended")))?;
            self.ended = next.is_empty();
            let used = std::mem::replace(&mut self.current, next);
            self.position = 0;
            // A full return channel means that there are buffers enough.
            drop(self.empty.try_send(used));
        }
        let length = (self.current.len() - self.position).min(buffer.len());
        buffer[..length].copy_from_slice(&self.current[self.position..self.position + length]);
        self.position += length;
        Ok(length)
    }
}

struct HashingReader<R> {
    input: R,
    hasher: sha2::Sha256,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
