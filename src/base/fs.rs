//! File operations whose errors name the path, and the one way in which records are replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An operation on a path that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct Error {
    /// What was tried, as a verb: `read`, `create`, `rename`.
    pub operation: &'static str,
    /// The path it was tried on.
    pub path: PathBuf,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

impl Error {
    /// Whether the path (or a folder above it) does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether something stands at the path already.
    pub fn already_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }
}

/// What to do when no space is left.
pub const DISK_FULL_HINT: &str = "free disk space (`wharf system prune`), then run the command again";

/// What to do where the file system is read-only.
const READ_ONLY_HINT: &str = "the file system is mounted read-only: mount it writable (`mount -o remount,rw`), or use another \
                              one (WHARF_ROOT for what is kept, WHARF_RUN for what runs)";

/// What to do where the kernel does not permit something.
pub fn permission_hint() -> &'static str {
    match rustix::process::geteuid().is_root() {
        false => "run as root (sudo)",
        true => {
            "this is root, but not one that may do everything: a security module forbids it, or this runs inside of \
             another container, which takes --privileged"
        }
    }
}

impl super::error::Explain for Error {
    fn hint(&self) -> Option<String> {
        match self.source.raw_os_error() {
            Some(libc::ENOSPC) => Some(DISK_FULL_HINT.into()),
            Some(libc::EROFS) => Some(READ_ONLY_HINT.into()),
            Some(libc::EACCES | libc::EPERM) => Some(permission_hint().into()),
            _ => None,
        }
    }
}

/// Result of a file operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds the operation and the path to an I/O error.
pub trait Context<T> {
    /// Names `operation` on `path` as what failed.
    fn context(self, operation: &'static str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error { operation, path: path.to_owned(), source })
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|errno| Error { operation, path: path.to_owned(), source: errno.into() })
    }
}

/// Whether a record must survive a power cut once the call has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The file and its folder are synced: for what cannot be made again.
    Durable,
    /// Atomic for readers, but a power cut may bring back the old content: for run-time state.
    Volatile,
}

/// Reads a whole file of at most `limit_bytes`.
///
/// Errors: the system's, or `InvalidData` when the file is larger.
pub fn read_limited(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    read_open(File::open(path).context("open", path)?, path, limit_bytes)
}

fn read_open(file: File, path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    // One byte more than there is: the first read is the last, where a growing buffer would take eight.
    let expected = file.metadata().map_or(0, |metadata| metadata.len()).min(limit_bytes);
    let mut content = Vec::with_capacity(usize::try_from(expected).unwrap_or(0) + 1);
    file.take(limit_bytes + 1).read_to_end(&mut content).context("read", path)?;
    if content.len() as u64 > limit_bytes {
        let source = io::Error::new(io::ErrorKind::InvalidData, format!("larger than {limit_bytes} bytes"));
        return Err(Error { operation: "read", path: path.to_owned(), source });
    }
    Ok(content)
}

/// [`read_limited`] of a path that somebody else chose: what never gives data does not stop the program.
///
/// A named pipe is read to its end if that comes within `patience`. Errors: `TimedOut` if it does not;
/// `WouldBlock` for devices that have nothing to say.
pub fn read_limited_within(path: &Path, limit_bytes: u64, patience: Duration) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileTypeExt as _;
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).context("open", path)?;
    if !file.metadata().context("examine", path)?.file_type().is_fifo() {
        return read_open(file, path, limit_bytes);
    }
    let end = Instant::now() + patience;
    let mut content = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec::try_from(left).unwrap_or_default();
        let mut polled = [rustix::event::PollFd::new(&file, rustix::event::PollFlags::IN)];
        let ready = rustix::event::poll(&mut polled, Some(&timeout));
        if left.is_zero() {
            let source = io::Error::new(io::ErrorKind::TimedOut, "nobody writes into this pipe");
            return Err(Error { operation: "read", path: path.to_owned(), source });
        }
        if !matches!(ready, Ok(1..)) {
            continue;
        }
        let mut part = [0; 1 << 16];
        match (&file).read(&mut part) {
            Ok(0) => return Ok(content),
            Ok(count) => content.extend_from_slice(&part[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(source) => return Err(Error { operation: "read", path: path.to_owned(), source }),
        }
        if content.len() as u64 > limit_bytes {
            let source = io::Error::new(io::ErrorKind::InvalidData, format!("larger than {limit_bytes} bytes"));
            return Err(Error { operation: "read", path: path.to_owned(), source });
        }
    }
}

/// Reads a file that may be missing.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error { operation: "read", path: path.to_owned(), source }),
    }
}

/// Replaces `path` by `content` in one step: readers see the old file or the new one, never a part.
///
/// The new file has mode 0600. A crash leaves at most a `.tmp-*` file beside it, which the store sweeps.
pub fn write_atomic(path: &Path, content: &[u8], durability: Durability) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".tmp-{}", super::id::random_hex(8)));
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .context("create", &temporary)?;
        file.write_all(content).context("write", &temporary)?;
        if durability == Durability::Durable {
            file.sync_all().context("sync", &temporary)?;
        }
        fs::rename(&temporary, path).context("replace", path)?;
        if durability == Durability::Durable {
            sync_folder(folder)?;
        }
        Ok(())
    })();
    if result.is_err() {
        // The error to report is the first one; the sweep takes a file that stays.
        drop(fs::remove_file(&temporary));
    }
    result
}

/// Whether a file of the user's can be written beside its place and renamed: there is none yet, or a regular one. A
/// device or a pipe (`/dev/null`) is written to as it is.
pub fn is_replaceable(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |metadata| metadata.is_file())
}

/// Makes renames and removals inside `folder` durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).context("open", folder)?.sync_all().context("sync", folder)
}

/// Creates a folder and those above it; one that exists is fine.
pub fn create_dir_all(path: &Path) -> Result<()> {
    fs::create_dir_all(path).context("create folder", path)
}

/// The sum of the sizes of the files below a folder, in bytes; what cannot be read counts nothing. Links are not
/// followed.
pub fn tree_bytes(folder: &Path) -> u64 {
    let (mut total, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) if metadata.is_file() => total += metadata.len(),
                _ => {}
            }
        }
    }
    total
}

/// Removes a file; one that is missing is fine.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove", path),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it; one that is missing is fine.
pub fn remove_dir_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("remove folder", path),
        _ => Ok(()),
    }
}
