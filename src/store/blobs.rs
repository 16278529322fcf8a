//! Blobs: immutable files named by the digest of their content, laid out as in an OCI image layout.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::{Error, Kind, Result, Store};
use crate::base::fs::{self, Context, Durability};
use crate::base::id::Digest;

/// What is fetched goes to the device in parts of this size while the rest arrives, so that the sync at the end is short.
const WRITE_BEHIND_BYTES: u64 = 4 << 20;

/// Access to blobs.
#[derive(Debug, Clone, Copy)]
pub struct Blobs<'a> {
    store: &'a Store,
}

impl<'a> Blobs<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// The file of a blob. It need not exist.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.store.root("blobs/sha256").join(digest.hex())
    }

    /// Whether the blob is there.
    pub fn exists(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Size in bytes.
    pub fn size_bytes(&self, digest: &Digest) -> Result<u64> {
        Ok(self.open(digest)?.metadata().context("look at", &self.path(digest))?.len())
    }

    /// Opens a blob for reading.
    pub fn open(&self, digest: &Digest) -> Result<File> {
        match File::open(self.path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::not_found(Kind::Blob, digest.as_str())),
            other => Ok(other.context("open", &self.path(digest))?),
        }
    }

    /// Reads a blob of at most `limit_bytes`.
    pub fn read(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>> {
        match fs::read_limited(&self.path(digest), limit_bytes) {
            Err(error) if error.is_not_found() => Err(Error::not_found(Kind::Blob, digest.as_str())),
            other => Ok(other?),
        }
    }

    /// Keeps `content`, durably, and returns its digest. It is protected by this process's lease.
    pub fn put(&self, content: &[u8]) -> Result<Digest> {
        let digest = Digest::of(content);
        self.store.lease()?.protect(&digest)?;
        if !self.exists(&digest) {
            fs::write_atomic(&self.path(&digest), content, Durability::Durable)?;
        }
        Ok(digest)
    }

    /// Begins a blob whose digest is not known yet.
    pub fn begin(&self) -> Result<BlobWriter> {
        let path = self.store.temporary_path()?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).context("create", &path)?;
        Ok(BlobWriter {
            store: self.store.clone(),
            path,
            file,
            hasher: sha2::Sha256::new(),
            size_bytes: 0,
            finished: false,
        })
    }

    /// Opens the spool of `digest`: what an earlier command fetched of it, to be continued.
    ///
    /// The caller holds the lock of the digest ([`Store::lock_digest`]).
    pub fn spool(&self, digest: &Digest) -> Result<Spool> {
        let path = self.store.root("spool").join(digest.hex());
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path).context("open", &path)?;
        let size_bytes = file.metadata().context("look at", &path)?.len();
        Ok(Spool { path, target: self.path(digest), file, size_bytes, behind_bytes: size_bytes })
    }

    /// The spool of `digest` when an earlier command fetched all of it and ended before it published it.
    ///
    /// The caller holds the lock of the digest. Proves the content; what is wrong is thrown away.
    pub fn whole_spool(&self, digest: &Digest, size_bytes: u64) -> Result<Option<Spool>> {
        let path = self.store.root("spool").join(digest.hex());
        if std::fs::metadata(&path).map_or(true, |metadata| metadata.len() != size_bytes) {
            return Ok(None);
        }
        let spool = self.spool(digest)?;
        let (mut reader, mut hasher) = (spool.reader()?, sha2::Sha256::new());
        let mut piece = vec![0; 256 << 10];
        loop {
            match reader.read(&mut piece).context("read", &path)? {
                0 => break,
                length => hasher.update(&piece[..length]),
            }
        }
        if Digest::from_sha256(&hasher.finalize()) != *digest {
            spool.remove()?;
            return Ok(None);
        }
        Ok(Some(spool))
    }

    /// Removes a blob.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        Ok(fs::remove_file(&self.path(digest))?)
    }

    /// Makes renames into the folder of blobs durable.
    pub fn sync_folder(&self) -> Result<()> {
        Ok(fs::sync_folder(&self.store.root("blobs/sha256"))?)
    }

    /// The digests of all blobs.
    pub fn list(&self) -> Result<Vec<Digest>> {
        let names = super::entries(&self.store.root("blobs/sha256"))?;
        Ok(names.iter().filter_map(|name| format!("sha256:{name}").parse().ok()).collect())
    }
}

/// A blob being written; thrown away unless committed.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    path: PathBuf,
    file: File,
    hasher: sha2::Sha256,
    size_bytes: u64,
    finished: bool,
}

impl BlobWriter {
    /// Bytes written so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The digest of what was written so far.
    pub fn digest(&self) -> Digest {
        Digest::from_sha256(&self.hasher.clone().finalize())
    }

    /// Opens what was written so far, from its beginning.
    pub fn reader(&self) -> Result<File> {
        Ok(File::open(&self.path).context("open", &self.path)?)
    }

    /// Publishes the blob under the digest of what was written and protects it by this process's lease.
    ///
    /// With `Volatile` the caller syncs the store later. Errors: `DigestMismatch` when it is not `expected`.
    pub fn commit(mut self, expected: Option<&Digest>, durability: Durability) -> Result<Digest> {
        let actual = Digest::from_sha256(&self.hasher.finalize_reset());
        if let Some(expected) = expected
            && *expected != actual
        {
            return Err(Error::DigestMismatch { expected: expected.clone(), actual });
        }
        self.store.lease()?.protect(&actual)?;
        if durability == Durability::Durable {
            self.file.sync_all().context("sync", &self.path)?;
        }
        let target = self.store.blobs().path(&actual);
        std::fs::rename(&self.path, &target).context("create", &target)?;
        self.finished = true;
        if durability == Durability::Durable {
            self.store.blobs().sync_folder()?;
        }
        Ok(actual)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What stays is swept once this process is gone.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// A blob under way whose digest is known, kept when the command ends early.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    target: PathBuf,
    file: File,
    size_bytes: u64,
    /// Of which so many are on their way to the device.
    behind_bytes: u64,
}

impl Spool {
    /// Bytes there are.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Another reader of the same file, from its beginning.
    pub fn reader(&self) -> Result<File> {
        Ok(File::open(&self.path).context("open", &self.path)?)
    }

    /// The file under way.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Throws away what there is, to begin anew.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).context("truncate", &self.path)?;
        (self.size_bytes, self.behind_bytes) = (0, 0);
        Ok(())
    }

    /// Publishes it as a blob. The caller has verified the digest and synced the store.
    pub fn publish(self) -> Result<()> {
        Ok(std::fs::rename(&self.path, &self.target).context("create", &self.target)?)
    }

    /// Throws it away: its content is not what its name says.
    pub fn remove(self) -> Result<()> {
        Ok(fs::remove_file(&self.path)?)
    }
}

impl Write for Spool {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.size_bytes += written as u64;
        if self.size_bytes - self.behind_bytes >= WRITE_BEHIND_BYTES {
            // Only a hint: the sync before `publish` is what counts.
            let _ = crate::sys::file::begin_writeback(&self.file, self.behind_bytes);
            self.behind_bytes = self.size_bytes;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
