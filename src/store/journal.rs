//! What happened, for `events`: one line of JSON an entry, appended to `events/journal` of the run folder.
//!
//! A line is one write(2) to a file opened with O_APPEND, so that lines of several processes do not mix. A journal
//! that has grown large becomes `journal.old`, in the place of the one before: what is kept is bounded, and gone
//! after a reboot. Nothing depends on it, and what cannot be written is not: an entry never makes its cause fail.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use super::lock::Lock;
use super::{Result, Store};
use crate::base::folder_watch::{Changes, FolderWatch};
use crate::base::fs::{self, Context};
use crate::model::journal::Entry;

/// A journal larger than this begins anew.
const BYTES_MAX: u64 = 1 << 20;
/// A line longer than this is not written, and not read.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Access to the journal.
#[derive(Debug, Clone, Copy)]
pub struct Journal<'a> {
    store: &'a Store,
}

impl<'a> Journal<'a> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Adds an entry.
    pub fn note(&self, entry: &Entry) {
        // See above: nothing depends on it.
        drop(self.append(entry));
    }

    fn append(&self, entry: &Entry) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return Ok(());
        }
        let path = self.path();
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let mut file = match open() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(self.folder())?;
                open()?
            }
            file => file?,
        };
        file.write_all(&line)?;
        if file.metadata()?.len() > BYTES_MAX {
            self.turn(&file)?;
        }
        Ok(())
    }

    /// Begins a new journal, unless another process did so already.
    fn turn(&self, full: &File) -> std::io::Result<()> {
        let lock = Lock::try_exclusive(&self.folder().join("lock")).ok().flatten();
        let path = self.path();
        if lock.is_some() && std::fs::metadata(&path)?.ino() == full.metadata()?.ino() {
            std::fs::rename(&path, self.folder().join("journal.old"))?;
        }
        Ok(())
    }

    /// Reads what is kept, oldest first, and then what is added.
    pub fn read(&self) -> Result<JournalReader> {
        let folder = self.folder();
        fs::create_dir_all(&folder)?;
        let news = FolderWatch::new(&folder, Changes::MODIFY | Changes::CREATE | Changes::MOVED_FROM)?;
        let files = [folder.join("journal.old"), self.path()];
        let files = files.iter().filter_map(|path| File::open(path).ok()).collect();
        Ok(JournalReader { path: self.path(), news, files, rest: Vec::new() })
    }

    fn folder(&self) -> PathBuf {
        self.store.paths().run.join("events")
    }

    fn path(&self) -> PathBuf {
        self.folder().join("journal")
    }
}

/// Reads the journal. Its descriptor becomes readable when there may be more.
#[derive(Debug)]
pub struct JournalReader {
    path: PathBuf,
    news: FolderWatch,
    /// What is still to be read; the last one grows.
    files: Vec<File>,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl JournalReader {
    /// Everything that was added since the last call.
    pub fn entries(&mut self) -> Result<Vec<Entry>> {
        self.news.drain();
        let mut entries = Vec::new();
        loop {
            for place in 0..self.files.len() {
                self.read_file(place, &mut entries)?;
            }
            self.files.drain(..self.files.len().saturating_sub(1));
            // The last one was moved away when another one has its name: it is read to its end, which it has reached.
            let Ok(current) = File::open(&self.path) else { break };
            let number = |file: &File| file.metadata().map(|metadata| metadata.ino()).ok();
            if self.files.last().is_some_and(|last| number(last) == number(&current)) {
                break;
            }
            self.files = vec![current];
        }
        Ok(entries)
    }

    fn read_file(&mut self, place: usize, entries: &mut Vec<Entry>) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = self.files[place].read(&mut buffer).context("read", &self.path)?;
            if length == 0 {
                return Ok(());
            }
            self.rest.extend_from_slice(&buffer[..length]);
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                // A line that is none is skipped: a newer wharf may have written it.
                entries.extend(serde_json::from_slice::<Entry>(&self.rest[..end]).ok());
                self.rest.drain(..=end);
            }
            if self.rest.len() > LINE_BYTES_MAX {
                self.rest.clear();
                self.files[place].seek(SeekFrom::End(0)).context("seek in", &self.path)?;
            }
        }
    }
}

impl AsFd for JournalReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::journal::Kind;

    #[test]
    fn what_is_noted_is_read_once_and_in_order_also_when_the_journal_turns() {
        let folder = crate::store::testing::Folder::new();
        let store = folder.store();
        let note = |number: usize| {
            let entry = Entry::new(Kind::Volume, "create", format!("v{number}")).with("padding", "x".repeat(10_000));
            store.journal().note(&entry);
        };
        note(0);
        let mut reader = store.journal().read().expect("a journal");
        let mut seen: Vec<String> = reader.entries().expect("entries").into_iter().map(|entry| entry.id).collect();
        for number in 1..250 {
            note(number);
            if number % 7 == 0 {
                seen.extend(reader.entries().expect("entries").into_iter().map(|entry| entry.id));
            }
        }
        seen.extend(reader.entries().expect("entries").into_iter().map(|entry| entry.id));
        assert_eq!(seen, (0..250).map(|number| format!("v{number}")).collect::<Vec<_>>());
        let kept: u64 = std::fs::read_dir(store.paths().run.join("events"))
            .expect("the folder")
            .map(|file| file.and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len()))
            .sum();
        assert!(kept < 3 * BYTES_MAX, "{kept}");
    }
}
