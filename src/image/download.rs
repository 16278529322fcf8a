//! One layer from a registry, downloaded, verified, inflated and unpacked at once.
//!
//! ```text
//! async   network --chunks--> channel
//! thread 1              spool file + sha256 --> channel     (what an earlier command left comes first)
//! thread 2                                 inflate --> channel
//! thread 3                                          sha256 + unpack
//! ```
//!
//! Thread 3 holds the lock of the layer, so of two commands one downloads and the other finds the layer there.
//! A download that is cut off stays in the spool; one that turns out wrong does not.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use sha2::Digest as _;
use tokio::sync::{mpsc, oneshot};

use super::layer::{Unpacked, unpack_layer};
use super::registry::Client;
use super::{Error, Limits, Result};
use crate::base::fs::{self, Context};
use crate::base::id::Digest;
use crate::model::event::{Event, EventStatus, Progress};
use crate::model::image::{BlobRecord, LayerRecord};
use crate::store::{Spool, Store};

/// Pieces from the network under way; each has at most some hundred KiB.
const PIECES: usize = 16;
/// Bytes read at once from what an earlier command left.
const SPOOL_READ_BYTES: usize = 256 << 10;
/// Least bytes that arrive within the patience for one: a connection that drips is as good as one that stalls.
const BYTES_MIN: u64 = 1024;
/// Bytes between two reports.
const REPORT_BYTES: u64 = 512 << 10;

/// A layer as a manifest describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    pub(super) diff_id: Digest,
    pub(super) blob: BlobRecord,
    /// Whether the blob is wanted although the unpacked layer is there.
    pub(super) needs_blob: bool,
}

/// A layer that is in the store, and what is still to be done for its blob.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) record: LayerRecord,
    /// To be published once the store was synced.
    pub(super) spool: Option<Spool>,
}

/// What came of a blob.
struct Kept {
    digest: Digest,
    size_bytes: u64,
    /// It ended because nothing more arrived.
    is_cut_off: bool,
}

/// What the unpacking thread wants first.
enum Wish {
    /// The layer is there already.
    Nothing,
    /// The blob from this byte on.
    From(u64),
}

/// Fetches one layer. `parent` is the resource that its progress belongs to.
pub(super) async fn layer(
    client: &Client,
    store: &Store,
    wanted: &Wanted,
    parent: &str,
    progress: &dyn Progress,
) -> Result<Arrived> {
    let report = |status, text: &str, amount| {
        let parent = Some(parent.to_owned());
        let resource = wanted.blob.digest.short().to_owned();
        progress.report(Event { resource, parent, status, text: text.to_owned(), amount });
    };
    // What an earlier command left may be wrong; then it is fetched once more from the beginning.
    let mut resumed = false;
    loop {
        let (wish_sender, wish) = oneshot::channel();
        let (pieces, arriving) = mpsc::channel::<Bytes>(PIECES);
        let (result_sender, result) = oneshot::channel();
        let (their_store, their_wanted) = (store.clone(), wanted.clone());
        let thread = std::thread::Builder::new().name("layer".into());
        let work = move || {
            // Nobody waits any more when the command was cancelled.
            drop(result_sender.send(receive(&their_store, &their_wanted, wish_sender, arriving)));
        };
        thread.spawn(work).map_err(|source| Error::Thread { source })?;
        let downloaded = match wish.await {
            Ok(Wish::Nothing) => {
                report(EventStatus::Done, "Already exists", None);
                Ok(())
            }
            Ok(Wish::From(offset)) => {
                resumed |= offset > 0;
                let all = wanted.blob.size_bytes;
                report(EventStatus::Working, "Downloading", Some((offset, all)));
                let seen = |bytes| report(EventStatus::Working, "Downloading", Some((bytes, all)));
                download(client, wanted, offset, &pieces, &seen).await
            }
            // The thread has failed and says why below.
            Err(_) => Ok(()),
        };
        drop(pieces);
        let received = result
            .await
            .unwrap_or_else(|_| Err(Error::Thread { source: io::Error::other("a thread ended without a result") }));
        if let Err(error) = downloaded {
            if matches!(error, Error::WrongContent { .. }) {
                forget(store, wanted)?;
            }
            return Err(error);
        }
        match received {
            Ok(arrived) => {
                if arrived.spool.is_some() {
                    report(EventStatus::Done, "Pull complete", None);
                }
                return Ok(arrived);
            }
            Err(Error::WrongContent { .. } | Error::Read { .. } | Error::DamagedArchive { .. }) if resumed => {
                resumed = false;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Throws away what was kept of a blob that is not what it should be.
fn forget(store: &Store, wanted: &Wanted) -> Result<()> {
    let _one_at_a_time = store.lock_digest(&wanted.diff_id)?;
    Ok(store.blobs().spool(&wanted.blob.digest)?.remove()?)
}

/// Sends the blob from `offset` on into `pieces`, asking again after failures that pass.
async fn download(
    client: &Client,
    wanted: &Wanted,
    offset: u64,
    pieces: &mpsc::Sender<Bytes>,
    seen: &dyn Fn(u64),
) -> Result<()> {
    let mut at = offset;
    let mut attempt = 1;
    while at < wanted.blob.size_bytes {
        let before = at;
        match stream(client, wanted, &mut at, pieces, seen).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if error.passes() || is_lost_connection(&error, before) => {
                attempt = if at > before { 1 } else { attempt + 1 };
                if attempt > client.timing().attempts {
                    return Err(error);
                }
                client.pause(attempt, &error).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// In the middle of a download even a refused connection may pass: a registry that restarts.
fn is_lost_connection(error: &Error, at: u64) -> bool {
    at > 0 && matches!(error, Error::Unreachable { .. })
}

/// One request's answer; false when nobody takes it any more.
async fn stream(
    client: &Client,
    wanted: &Wanted,
    at: &mut u64,
    pieces: &mpsc::Sender<Bytes>,
    seen: &dyn Fn(u64),
) -> Result<bool> {
    let digest = &wanted.blob.digest;
    let (mut response, begins) = client.stream(digest, *at).await?;
    let mut known = *at - begins;
    let mut reported = *at;
    let (mut since, mut window) = (tokio::time::Instant::now(), 0);
    while let Some(mut piece) = client.chunk(&mut response).await? {
        window += piece.len() as u64;
        if since.elapsed() > client.timing().stall {
            if window < BYTES_MIN {
                return Err(client.stalled(client.timing().stall));
            }
            (since, window) = (tokio::time::Instant::now(), 0);
        }
        // A server that cannot do ranges sends what is here already.
        let skipped = known.min(piece.len() as u64);
        known -= skipped;
        // At most the piece's length, so it fits.
        drop(piece.split_to(skipped as usize));
        *at += piece.len() as u64;
        if *at > wanted.blob.size_bytes {
            return Err(Error::WrongContent { digest: digest.clone(), reason: "it is longer than the manifest says" });
        }
        if pieces.send(piece).await.is_err() {
            return Ok(false);
        }
        if *at - reported >= REPORT_BYTES {
            reported = *at;
            seen(*at);
        }
    }
    if *at < wanted.blob.size_bytes && known > 0 {
        return Err(Error::WrongContent { digest: digest.clone(), reason: "it is shorter than the manifest says" });
    }
    Ok(true)
}

/// Thread 3: waits for the lock, says what it wants, unpacks what comes.
fn receive(
    store: &Store,
    wanted: &Wanted,
    wish: oneshot::Sender<Wish>,
    arriving: mpsc::Receiver<Bytes>,
) -> Result<Arrived> {
    store.lease()?.protect(&wanted.diff_id)?;
    store.lease()?.protect(&wanted.blob.digest)?;
    let _one_at_a_time = store.lock_digest(&wanted.diff_id)?;
    let layers = store.layers();
    let blob_is_here = store.blobs().exists(&wanted.blob.digest);
    if layers.exists(&wanted.diff_id) && (blob_is_here || !wanted.needs_blob) {
        drop(wish.send(Wish::Nothing));
        // A command that was killed after the layer and before the image left the blob in its spool. A layer that
        // came from elsewhere can only be pushed with it.
        let spool = match blob_is_here {
            true => None,
            false => store.blobs().whole_spool(&wanted.blob.digest, wanted.blob.size_bytes)?,
        };
        let blob = (blob_is_here || spool.is_some()).then(|| wanted.blob.clone());
        let size_bytes = layers.size_bytes(&wanted.diff_id)?;
        return Ok(Arrived { record: LayerRecord { diff_id: wanted.diff_id.clone(), blob, size_bytes }, spool });
    }
    if blob_is_here {
        drop(wish.send(Wish::Nothing));
        let unpacked = unpack_layer(store, store.blobs().open(&wanted.blob.digest)?, &Limits::default())?;
        return commit(unpacked, wanted, None);
    }
    let mut spool = store.blobs().spool(&wanted.blob.digest)?;
    if spool.size_bytes() > wanted.blob.size_bytes {
        spool.restart()?;
    }
    drop(wish.send(Wish::From(spool.size_bytes())));
    let received = unpack_arriving(store, wanted, &mut spool, arriving);
    match received {
        Ok(unpacked) => commit(unpacked, wanted, Some(spool)),
        Err(error) => {
            // Of what was cut off the beginning is kept; the digest of all of it decides in the end.
            let is_cut_off = matches!(&error, Error::Read { source } if source.kind() == io::ErrorKind::UnexpectedEof)
                && spool.size_bytes() < wanted.blob.size_bytes;
            if !is_cut_off && !matches!(error, Error::File(_) | Error::Store(_)) {
                spool.remove()?;
            }
            Err(error)
        }
    }
}

fn unpack_arriving(
    store: &Store,
    wanted: &Wanted,
    spool: &mut Spool,
    arriving: mpsc::Receiver<Bytes>,
) -> Result<Unpacked> {
    let (sender, pieces) = sync_channel(PIECES);
    std::thread::scope(|scope| {
        let keeper = std::thread::Builder::new().name("spool".into());
        let keeper = keeper
            .spawn_scoped(scope, move || keep(spool, arriving, &sender))
            .map_err(|source| Error::Thread { source })?;
        let unpacked = unpack_layer(store, Pieces { pieces, current: Bytes::new(), at: 0 }, &Limits::default());
        let kept = keeper.join().unwrap_or_else(|_| Err(Error::Thread { source: io::Error::other("a thread failed") }));
        let Kept { digest, size_bytes, is_cut_off } = kept?;
        if is_cut_off && size_bytes < wanted.blob.size_bytes {
            return Err(Error::Read { source: io::ErrorKind::UnexpectedEof.into() });
        }
        // A wrong blob explains why it could not be unpacked.
        if size_bytes == wanted.blob.size_bytes && digest != wanted.blob.digest {
            return Err(Error::WrongContent { digest: wanted.blob.digest.clone(), reason: "it has another digest" });
        }
        unpacked
    })
}

/// Thread 1: hashes and passes on what the spool has, then hashes, keeps and passes on what arrives.
fn keep(spool: &mut Spool, mut arriving: mpsc::Receiver<Bytes>, pieces: &SyncSender<Bytes>) -> Result<Kept> {
    let mut hasher = sha2::Sha256::new();
    let mut listened = true;
    let mut left = spool.size_bytes();
    let mut reader = spool.reader()?;
    while left > 0 {
        let mut piece = vec![0; SPOOL_READ_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX))];
        reader.read_exact(&mut piece).context("read", spool.path())?;
        left -= piece.len() as u64;
        hasher.update(&piece);
        listened = listened && pieces.send(piece.into()).is_ok();
    }
    while let Some(piece) = arriving.blocking_recv() {
        hasher.update(&piece);
        let path = spool.path().to_owned();
        spool.write_all(&piece).map_err(|source| fs::Error { operation: "write", path, source })?;
        // When unpacking has failed the rest is not needed.
        if listened && pieces.send(piece).is_err() {
            listened = false;
            break;
        }
    }
    let digest = Digest::from_sha256(&hasher.finalize());
    Ok(Kept { digest, size_bytes: spool.size_bytes(), is_cut_off: listened })
}

fn commit(unpacked: Unpacked, wanted: &Wanted, spool: Option<Spool>) -> Result<Arrived> {
    if unpacked.diff_id != wanted.diff_id {
        if let Some(spool) = spool {
            spool.remove()?;
        }
        return Err(Error::WrongContent {
            digest: wanted.diff_id.clone(),
            reason: "the layer's content is not what the image's config says",
        });
    }
    let record = unpacked.writer.commit(&wanted.diff_id, unpacked.size_bytes)?;
    Ok(Arrived { record: LayerRecord { blob: Some(wanted.blob.clone()), ..record }, spool })
}

/// A channel of pieces as a stream of bytes.
struct Pieces {
    pieces: Receiver<Bytes>,
    current: Bytes,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            match self.pieces.recv() {
                Ok(piece) => (self.current, self.at) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let length = (self.current.len() - self.at).min(buffer.len());
        buffer[..length].copy_from_slice(&self.current[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}
