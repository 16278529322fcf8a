//! Digests of files, computed once as long as a file does not change (the stat cache), and of whole selections.
//!
//! A file counts as unchanged when device, inode, size and both times are those that were remembered. A file that
//! changed less than [`RACY_NS`] before it was read may change again within the same tick of the clock, so it is
//! not remembered.
//!
//! What decides about a step: names, types, modes, owners, link targets, content and attributes. Never times.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;
use sha2::{Digest as _, Sha256};

use super::select::Group;
use super::tree::{Meta, Tree, look_at_open};
use crate::base::fs::{self, Context};

/// How old a change must be to be trusted: coarse clocks of network file systems tick every second or two.
const RACY_NS: i128 = 2_000_000_000;
/// First bytes of a stat cache of this version.
const MAGIC: &[u8; 8] = b"wharfst1";
/// Files below this number are hashed by one thread.
const PARALLEL_FILES_MIN: usize = 64;
/// Bytes read at once.
const BUFFER_BYTES: usize = 128 << 10;

/// What was remembered about the files of one context.
#[derive(Debug, Default)]
pub struct StatCache {
    known: Mutex<HashMap<PathBuf, Known>>,
    changed: Mutex<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    device: u64,
    inode: u64,
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    digest: [u8; 32],
}

/// Bytes of one record after its path: three numbers, two times, a digest.
const RECORD_BYTES: usize = 3 * 8 + 2 * 16 + 32;

impl StatCache {
    /// Reads what [`Self::encode`] wrote; anything else is an empty cache.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut known = HashMap::new();
        let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
        while let Some((length, tail)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_le_bytes(*length));
            let (Some(path), Some(record)) = (tail.get(..length), tail.get(length..length + RECORD_BYTES)) else {
                break;
            };
            rest = &tail[length + RECORD_BYTES..];
            if let Some(record) = Known::decode(record) {
                known.insert(PathBuf::from(std::ffi::OsStr::from_bytes(path)), record);
            }
        }
        Self { known: Mutex::new(known), changed: Mutex::new(false) }
    }

    /// The cache as bytes, when it changed since it was read.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if !*lock(&self.changed) {
            return None;
        }
        let mut bytes = MAGIC.to_vec();
        for (path, known) in lock(&self.known).iter() {
            let name = path.as_os_str().as_bytes();
            let Ok(length) = u16::try_from(name.len()) else { continue };
            bytes.extend(length.to_le_bytes());
            bytes.extend(name);
            known.encode(&mut bytes);
        }
        Some(bytes)
    }

    /// Whether anything was remembered of the file at `path`.
    pub fn knows(&self, path: &Path) -> bool {
        lock(&self.known).contains_key(path)
    }

    fn find(&self, path: &Path, meta: &Meta) -> Option<[u8; 32]> {
        let known = *lock(&self.known).get(path)?;
        (known == Known::new(meta, known.digest)).then_some(known.digest)
    }

    fn remember(&self, path: &Path, meta: &Meta, digest: [u8; 32], now_ns: i128) {
        let fresh = now_ns - meta.mtime_ns.max(meta.ctime_ns) < RACY_NS;
        let mut known = lock(&self.known);
        let changed = if fresh {
            known.remove(path).is_some()
        } else {
            known.insert(path.to_owned(), Known::new(meta, digest)) != Some(Known::new(meta, digest))
        };
        if changed {
            *lock(&self.changed) = true;
        }
    }
}

/// A poisoned lock only says that another thread panicked; the maps behind are whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Known {
    fn new(meta: &Meta, digest: [u8; 32]) -> Self {
        let Meta { device, inode, size, mtime_ns, ctime_ns, .. } = *meta;
        Self { device, inode, size, mtime_ns, ctime_ns, digest }
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        for number in [self.device, self.inode, self.size] {
            bytes.extend(number.to_le_bytes());
        }
        for time in [self.mtime_ns, self.ctime_ns] {
            bytes.extend(time.to_le_bytes());
        }
        bytes.extend(self.digest);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |index: usize| bytes.get(index * 8..index * 8 + 8)?.try_into().ok().map(u64::from_le_bytes);
        let time = |index: usize| bytes.get(24 + index * 16..40 + index * 16)?.try_into().ok().map(i128::from_le_bytes);
        Some(Self {
            device: number(0)?,
            inode: number(1)?,
            size: number(2)?,
            mtime_ns: time(0)?,
            ctime_ns: time(1)?,
            digest: bytes.get(56..88)?.try_into().ok()?,
        })
    }
}

/// Fills in the digests of all regular files of a selection, several threads at once.
pub fn digest_files(tree: &Tree, groups: &mut [Group], cache: Option<&StatCache>) -> fs::Result<()> {
    let now_ns = jiff::Timestamp::now().as_nanosecond();
    let mut open = Vec::new();
    for item in groups.iter_mut().flat_map(|group| group.items.iter_mut()) {
        if item.meta.kind != FileType::RegularFile {
            continue;
        }
        match cache.and_then(|cache| cache.find(&item.source, &item.meta)) {
            Some(digest) => item.digest = digest,
            None => open.push(item),
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let threads = if open.len() < PARALLEL_FILES_MIN { 1 } else { threads };
    let queue = Mutex::new(open.into_iter());
    let failure = Mutex::new(None);
    let work = || {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            // Bound to a name so that the lock is not held while hashing.
            let next = lock(&queue).next();
            let Some(item) = next else { return };
            match digest_file(tree, &item.source, &mut buffer) {
                Ok(digest) => {
                    item.digest = digest;
                    if let Some(cache) = cache {
                        cache.remember(&item.source, &item.meta, digest, now_ns);
                    }
                }
                Err(error) => {
                    lock(&failure).get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn digest_file(tree: &Tree, path: &Path, buffer: &mut [u8]) -> fs::Result<[u8; 32]> {
    let file = tree.open(path)?;
    let mut hasher = FileDigest::new(&attributes(file.as_fd()));
    let mut file = std::fs::File::from(file);
    loop {
        let count = file.read(buffer).context("read", &tree.display(path))?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..count]);
    }
}

/// The digest of one file under way: attributes, then content.
pub struct FileDigest(Sha256);

impl FileDigest {
    /// Begins with the attributes.
    pub fn new(attributes: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let mut hasher = Sha256::new();
        for (name, value) in attributes {
            field(&mut hasher, name);
            field(&mut hasher, value);
        }
        hasher.update([0]);
        Self(hasher)
    }

    /// Adds content.
    pub fn update(&mut self, content: &[u8]) {
        self.0.update(content);
    }

    /// The digest.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// What is learnt of files while they are copied.
#[derive(Debug, Default)]
pub struct Findings {
    /// When it began; digests are wanted when it is known.
    began_ns: Option<i128>,
    digests: Mutex<HashMap<PathBuf, [u8; 32]>>,
    changed: AtomicBool,
}

impl Findings {
    /// With the digests of files that are copied.
    pub fn with_digests() -> Self {
        Self { began_ns: Some(jiff::Timestamp::now().as_nanosecond()), ..Self::default() }
    }

    /// Whether files are to be hashed.
    pub fn wants_digests(&self) -> bool {
        self.began_ns.is_some()
    }

    /// Takes the digest of a file.
    pub fn digest(&self, path: &Path, digest: [u8; 32]) {
        lock(&self.digests).insert(path.to_owned(), digest);
    }

    /// Looks whether a file that was copied is still what was selected: what somebody wrote meanwhile must not be
    /// remembered as something else.
    pub fn compare(&self, file: BorrowedFd<'_>, meta: &Meta) -> rustix::io::Result<()> {
        let now = look_at_open(file)?;
        if (now.size, now.mtime_ns, now.ctime_ns) != (meta.size, meta.mtime_ns, meta.ctime_ns) {
            self.changed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether a file was written while it was copied.
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Gives the selection the digests that were found, and the cache for the next build.
    pub fn give_digests(&self, groups: &mut [Group], cache: Option<&StatCache>) {
        let Some(began_ns) = self.began_ns else { return };
        let digests = lock(&self.digests);
        // A file with several names is copied once.
        let mut names: HashMap<(u64, u64), [u8; 32]> = HashMap::new();
        let files = groups.iter_mut().flat_map(|group| group.items.iter_mut());
        for item in files.filter(|item| item.meta.kind == FileType::RegularFile) {
            let inode = (item.meta.device, item.meta.inode);
            let Some(digest) = digests.get(&item.source).or_else(|| names.get(&inode)).copied() else { continue };
            names.insert(inode, digest);
            item.digest = digest;
            if let Some(cache) = cache.filter(|_| !self.has_changed()) {
                cache.remember(&item.source, &item.meta, digest, began_ns);
            }
        }
    }
}

/// The extended attributes of a file that belong into an image: file capabilities and those of users.
pub fn attributes(file: BorrowedFd<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0u8; 4096];
    // A file system without attributes has none.
    let Ok(length) = rustix::fs::flistxattr(file, &mut names) else { return Vec::new() };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name != b"security.capability" && !name.starts_with(b"user.") {
            continue;
        }
        let mut value = vec![0u8; 64 << 10];
        if let Ok(length) = rustix::fs::fgetxattr(file, name, &mut value) {
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    found
}

/// The digest of a selection: everything that its copy depends on.
pub fn digest_groups(groups: &[Group]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for group in groups {
        field(&mut hasher, group.name.as_bytes());
        for item in &group.items {
            field(&mut hasher, item.target.as_os_str().as_bytes());
            let Meta { kind, mode, uid, gid, special, .. } = item.meta;
            let special = if matches!(kind, FileType::BlockDevice | FileType::CharacterDevice) { special } else { 0 };
            hasher.update(kind.as_raw_mode().to_le_bytes());
            hasher.update(mode.to_le_bytes());
            hasher.update(uid.to_le_bytes());
            hasher.update(gid.to_le_bytes());
            hasher.update(special.to_le_bytes());
            field(&mut hasher, item.link.as_deref().unwrap_or(Path::new("")).as_os_str().as_bytes());
            hasher.update(item.digest);
        }
        hasher.update([0xff]);
    }
    hasher.finalize().into()
}

/// Adds bytes with their length, so that neighbours cannot be taken for each other.
pub fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::tree::look_at;

    #[test]
    fn a_file_written_while_it_is_copied_is_noticed() {
        let path = std::env::temp_dir().join(format!("wharf-content-{}", crate::base::id::random_hex(6)));
        std::fs::write(&path, "before").expect("written");
        let file = std::fs::File::open(&path).expect("open");
        let folder = std::fs::File::open(std::env::temp_dir()).expect("open");
        let name = Path::new(path.file_name().expect("a name"));
        let meta = look_at(folder.as_fd(), name).expect("seen").expect("it is there");
        let findings = Findings::default();
        findings.compare(file.as_fd(), &meta).expect("seen");
        assert!(!findings.has_changed());
        std::fs::write(&path, "afterwards").expect("written");
        findings.compare(file.as_fd(), &meta).expect("seen");
        assert!(findings.has_changed());
        std::fs::remove_file(&path).expect("removed");
    }
}
