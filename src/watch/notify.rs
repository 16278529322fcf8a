//! inotify(7) on whole trees: where to look, and when.
//!
//! A file that was written and closed, or renamed into place, is looked at once. One that is just being written has
//! until its writer closes it, or has been silent for a while; one that vanished has a moment to come back, since
//! editors replace files that way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// How long a file that is open for writing must have been silent to be taken as it is.
const OPEN_QUIET: Duration = Duration::from_millis(300);
/// The longest that it can put this off.
const OPEN_MAX: Duration = Duration::from_secs(2);
/// How long something may be gone before that counts.
const GONE_QUIET: Duration = Duration::from_millis(50);

/// Where to look, and when.
#[derive(Debug, Default)]
pub struct Hints {
    now: BTreeSet<PathBuf>,
    /// With the time to look, and the time of the first event.
    later: BTreeMap<PathBuf, (Instant, Instant)>,
    /// Events were lost, or there are none: look everywhere.
    pub everywhere: bool,
}

impl Hints {
    /// Look at once.
    pub fn now(&mut self, path: PathBuf) {
        self.later.remove(&path);
        self.now.insert(path);
    }

    /// Look when the path has been silent.
    fn when_quiet(&mut self, path: PathBuf, quiet: Duration) {
        if self.now.contains(&path) {
            return;
        }
        let time = Instant::now();
        let entry = self.later.entry(path).or_insert((time, time));
        entry.0 = (time + quiet).min(entry.1 + OPEN_MAX);
    }

    /// Look whether what is missing is still missing a moment later.
    pub fn when_gone(&mut self, path: PathBuf) {
        self.when_quiet(path, GONE_QUIET);
    }

    /// Paths whose time has come, each with whether it has had its moment to come back.
    pub fn due(&mut self) -> Vec<(PathBuf, bool)> {
        let time = Instant::now();
        let mut due: Vec<(PathBuf, bool)> =
            std::mem::take(&mut self.now).into_iter().map(|path| (path, false)).collect();
        if self.later.values().any(|(at, _)| *at <= time) {
            let (ready, later) = std::mem::take(&mut self.later).into_iter().partition(|(_, (at, _))| *at <= time);
            self.later = later;
            let ready: BTreeMap<PathBuf, (Instant, Instant)> = ready;
            due.extend(ready.into_keys().map(|path| (path, true)));
        }
        due
    }

    /// How long until something is due; `None` when nothing is.
    pub fn wait(&self) -> Option<Duration> {
        if !self.now.is_empty() || self.everywhere {
            return Some(Duration::ZERO);
        }
        let first = self.later.values().map(|(at, _)| *at).min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }
}

/// Watches on folders.
#[derive(Debug)]
pub struct Notifier {
    queue: OwnedFd,
    folders: HashMap<i32, PathBuf>,
    numbers: BTreeMap<PathBuf, i32>,
}

impl Notifier {
    /// None yet. Errors: `MFILE` where the user has as many queues as the host allows.
    pub fn new() -> Result<Self, Errno> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { queue, folders: HashMap::new(), numbers: BTreeMap::new() })
    }

    /// Watches one folder, not what is in its folders. One that is missing is fine. Errors: `NOSPC` where the user
    /// has as many watches as the host allows.
    pub fn watch(&mut self, folder: &Path) -> Result<(), Errno> {
        let changes = WatchFlags::CLOSE_WRITE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(&self.queue, folder, changes) {
            Ok(number) => {
                // A folder that was renamed keeps its watch: from now on it has the new name.
                if let Some(old) = self.folders.insert(number, folder.to_owned()).filter(|old| old != folder) {
                    self.numbers.remove(&old);
                }
                self.numbers.insert(folder.to_owned(), number);
                Ok(())
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Ends the watches on `path` and all below it.
    pub fn forget(&mut self, path: &Path) {
        let gone: Vec<PathBuf> = self
            .numbers
            .range::<Path, _>((std::ops::Bound::Included(path), std::ops::Bound::Unbounded))
            .map(|(folder, _)| folder)
            .take_while(|folder| folder.starts_with(path))
            .cloned()
            .collect();
        for folder in gone {
            if let Some(number) = self.numbers.remove(&folder) {
                self.folders.remove(&number);
                // The kernel has ended the watch of a folder that is deleted.
                let _gone = inotify::remove_watch(&self.queue, number);
            }
        }
    }

    /// Takes all events that are there.
    pub fn read(&mut self, hints: &mut Hints) {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 16 << 10];
        let mut events = inotify::Reader::new(&self.queue, &mut buffer);
        while let Ok(event) = events.next() {
            let kind = event.events();
            if kind.contains(ReadFlags::QUEUE_OVERFLOW) {
                hints.everywhere = true;
                continue;
            }
            if kind.contains(ReadFlags::IGNORED) {
                if let Some(folder) = self.folders.remove(&event.wd()) {
                    self.numbers.remove(&folder);
                }
                continue;
            }
            let Some(folder) = self.folders.get(&event.wd()) else { continue };
            let path = match event.file_name() {
                Some(name) => folder.join(OsStr::from_bytes(name.to_bytes())),
                None if kind.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) => folder.clone(),
                None => continue,
            };
            let gone = ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
            let complete = ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO | ReadFlags::ISDIR;
            if kind.intersects(gone) {
                hints.when_gone(path);
            } else if kind.intersects(complete) {
                hints.now(path);
            } else if kind.contains(ReadFlags::ATTRIB) {
                // A file that is being written gets its mode and times before it is closed.
                if !hints.later.contains_key(&path) {
                    hints.now(path);
                }
            } else if kind.contains(ReadFlags::CREATE) && is_complete(&path) {
                hints.now(path);
            } else {
                hints.when_quiet(path, OPEN_QUIET);
            }
        }
    }
}

/// Whether something that was just made will get no more content: links, and files that have another name.
fn is_complete(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file() || metadata.nlink() > 1)
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// The setting of the host that stands in the way, and what to set it to; `None` for other errors.
pub fn limit(errno: Errno) -> Option<(&'static str, u32)> {
    match errno {
        Errno::NOSPC => Some(("fs.inotify.max_user_watches", 524_288)),
        Errno::MFILE => Some(("fs.inotify.max_user_instances", 1024)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_looked_at_when_it_is_complete() {
        let folder = std::env::temp_dir().join(format!("wharf-notify-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        let mut notifier = Notifier::new().unwrap();
        notifier.watch(&folder).unwrap();
        let mut hints = Hints::default();
        let mut read = |hints: &mut Hints| {
            notifier.read(hints);
            let mut due: Vec<_> = hints.due().into_iter().map(|(path, _)| path).collect();
            due.sort();
            due
        };
        let (file, other) = (folder.join("file"), folder.join("other"));
        let mut writer = std::fs::File::create(&file).unwrap();
        std::io::Write::write_all(&mut writer, b"half").unwrap();
        assert_eq!(read(&mut hints), Vec::<PathBuf>::new());
        assert!(hints.wait().is_some_and(|wait| wait > Duration::ZERO && wait <= OPEN_QUIET));
        drop(writer);
        // A process that another test forks may hold the file for a moment.
        let closed = std::iter::repeat_with(|| read(&mut hints)).find(|due| !due.is_empty());
        assert_eq!(closed.unwrap(), std::slice::from_ref(&file));
        assert_eq!(hints.wait(), None);
        std::fs::rename(&file, &other).unwrap();
        assert_eq!(read(&mut hints), std::slice::from_ref(&other));
        assert!(hints.wait().is_some_and(|wait| wait <= GONE_QUIET));
        std::os::unix::fs::symlink("other", &file).unwrap();
        assert_eq!(read(&mut hints), std::slice::from_ref(&file));
        // Where the link was in time, nothing is gone.
        assert_eq!(hints.wait(), None);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_overflow_is_noticed() {
        let folder = std::env::temp_dir().join(format!("wharf-overflow-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(folder.join("a")).unwrap();
        std::fs::create_dir_all(folder.join("b")).unwrap();
        let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let mut notifier = Notifier::new().unwrap();
        notifier.watch(&folder).unwrap();
        // Equal events that follow each other would be one.
        for _ in 0..=limit.trim().parse::<usize>().unwrap() / 2 {
            for name in ["a", "b"] {
                rustix::fs::chmod(folder.join(name), rustix::fs::Mode::RWXU).unwrap();
            }
        }
        let mut hints = Hints::default();
        notifier.read(&mut hints);
        assert!(hints.everywhere);
        assert_eq!(hints.wait(), Some(Duration::ZERO));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_limit_of_watches_is_told() {
        // A user namespace has a limit of its own: this very test runs again inside of one.
        const INSIDE: &str = "WHARF_TEST_FEW_WATCHES";
        if std::env::var_os(INSIDE).is_none() {
            let script = "echo 1 > /proc/sys/user/max_inotify_watches && exec \"$0\" --exact watch::notify::tests::the_limit_of_watches_is_told";
            let own = std::env::current_exe().unwrap();
            let output = std::process::Command::new("unshare")
                .args(["-Ur", "sh", "-c", script])
                .arg(own)
                .env(INSIDE, "1")
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("1 passed"), "{said}");
            return;
        }
        let mut notifier = Notifier::new().unwrap();
        notifier.watch(Path::new("/")).unwrap();
        let refused = notifier.watch(Path::new("/proc")).unwrap_err();
        assert_eq!(limit(refused), Some(("fs.inotify.max_user_watches", 524_288)));
    }
}
