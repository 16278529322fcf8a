//! Reads a log: rotated files in order, a tail from the end, and what is written from now on.
//!
//! A reader never blocks in [`Reader::try_next`]; with `follow` its descriptor becomes readable when there may be
//! more, so that one loop can follow many containers. [`Reader::next`] is that loop for one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::record::{self, Line};
use super::{Error, files, tail};
use crate::base::folder_watch::{Changes, FolderWatch};
use crate::base::fs::Context;

/// Longest text of one record: 16 KiB of output at six characters a byte, and its copy in base64.
const RECORD_TEXT_BYTES_MAX: usize = 160 << 10;

/// What to read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions {
    /// Go on with what is written later.
    pub follow: bool,
    /// Only the last so many lines of what is there already.
    pub tail: Option<u64>,
    /// Nothing older than this.
    pub since: Option<Timestamp>,
    /// Nothing younger than this.
    pub until: Option<Timestamp>,
}

/// What a reader has for its caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The next piece of output.
    Line(Line),
    /// Nothing until the descriptor becomes readable.
    Wait,
    /// Nothing any more.
    End,
}

/// The reading end of a log.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    options: ReadOptions,
    /// Files still to be read, oldest first; empty once the current one is open.
    waiting: VecDeque<PathBuf>,
    file: Option<BufReader<File>>,
    /// A record of which the end is not there yet.
    text: Vec<u8>,
    /// The record under way is longer than any of ours: skipped up to its line feed.
    skipping: bool,
    watch: Option<FolderWatch>,
    finished: bool,
}

/// Opens the log whose current file is `path`; a log that does not exist yet is empty.
///
/// Errors: `File` when a file cannot be read, or the folder cannot be watched.
pub fn read(path: &Path, options: ReadOptions) -> Result<Reader, Error> {
    let watch = match options.follow {
        true => Some(FolderWatch::new(path.parent().unwrap_or(Path::new(".")), changes())?),
        false => None,
    };
    let mut reader = Reader {
        path: path.to_owned(),
        options,
        waiting: VecDeque::new(),
        file: None,
        text: Vec::new(),
        skipping: false,
        watch,
        finished: false,
    };
    reader.position()?;
    Ok(reader)
}

/// What tells of new lines, of a rotation, and of the end of a container.
fn changes() -> Changes {
    Changes::MODIFY | Changes::CREATE | Changes::MOVED_TO | Changes::DELETE | Changes::DELETE_SELF
}

impl Reader {
    /// Wakes the reader also when something changes in `folder`: where the caller sees that the container ended.
    ///
    /// The folder of the log itself is watched anyway. Without `follow` this does nothing.
    pub fn watch(&mut self, folder: &Path) -> Result<(), Error> {
        if let Some(watch) = &mut self.watch {
            watch.add(folder, changes())?;
        }
        Ok(())
    }

    /// Readable when [`Self::try_next`] may have more after it answered `Wait`; `None` without `follow`.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Tells that nothing will be written any more: what is there is read, then comes `End`.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// Returns the next piece of output, waiting for it when following; `None` at the end.
    ///
    /// `ended` says whether the container ended; it is asked whenever there is nothing to read and something
    /// changed in a watched folder.
    pub fn next(&mut self, mut ended: impl FnMut() -> bool) -> Result<Option<Line>, Error> {
        loop {
            match self.try_next()? {
                Next::Line(line) => return Ok(Some(line)),
                Next::End => return Ok(None),
                Next::Wait if ended() => self.finish(),
                Next::Wait => self.wait(),
            }
        }
    }

    fn wait(&self) {
        if let Some(watch) = &self.watch {
            let mut fds = [rustix::event::PollFd::new(watch, rustix::event::PollFlags::IN)];
            // Interrupted or not: the caller's loop looks again.
            let _interrupted = rustix::event::poll(&mut fds, None);
        }
    }

    /// Returns what there is without waiting. Call it until it answers `Wait` or `End`.
    pub fn try_next(&mut self) -> Result<Next, Error> {
        loop {
            if let Some(line) = self.next_record()? {
                if self.options.since.is_some_and(|since| line.time < since) || line.bytes.is_empty() {
                    continue;
                }
                if self.options.until.is_some_and(|until| line.time > until) {
                    return Ok(Next::End);
                }
                return Ok(Next::Line(line));
            }
            if self.next_file()? {
                continue;
            }
            if self.watch.is_none() || self.finished {
                return Ok(Next::End);
            }
            // Asked *after* the files were found without news, so that none is swallowed unseen.
            if !self.watch.as_ref().is_some_and(FolderWatch::drain) {
                return Ok(Next::Wait);
            }
        }
    }

    /// The next whole record of the open file.
    fn next_record(&mut self) -> Result<Option<Line>, Error> {
        while let Some(file) = &mut self.file {
            let buffer = file.fill_buf().context("read", &self.path)?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let take = end.map_or(buffer.len(), |index| index + 1);
            if !self.skipping {
                self.text.extend_from_slice(&buffer[..take]);
            }
            file.consume(take);
            if self.text.len() > RECORD_TEXT_BYTES_MAX {
                self.skipping = true;
                self.text.clear();
            }
            if end.is_some() {
                self.skipping = false;
                let line = record::decode(&self.text);
                self.text.clear();
                if line.is_some() {
                    return Ok(line);
                }
            }
        }
        Ok(None)
    }

    /// Goes on with the file after the open one; `false` when the open one is the current one.
    fn next_file(&mut self) -> Result<bool, Error> {
        if let Some(next) = self.waiting.pop_front() {
            return self.open(&next);
        }
        let Some(open) = &self.file else {
            self.waiting = files(&self.path).into();
            return match self.waiting.pop_front() {
                Some(next) => self.open(&next),
                None => Ok(false),
            };
        };
        let inode = open.get_ref().metadata().context("read", &self.path)?.ino();
        match std::fs::metadata(&self.path) {
            Ok(current) if current.ino() != inode => {}
            // Still the current one, or between two steps of a rotation.
            _ => return Ok(false),
        }
        // Rotated. Its last records may have been written after the last look at it.
        if !self
            .file
            .as_mut()
            .map_or(Ok(true), |file| file.fill_buf().map(<[u8]>::is_empty))
            .context("read", &self.path)?
        {
            return Ok(true);
        }
        let chain = files(&self.path);
        let position = chain.iter().position(|file| std::fs::metadata(file).is_ok_and(|file| file.ino() == inode));
        self.waiting = chain.into_iter().skip(position.map_or(0, |position| position + 1)).collect();
        match self.waiting.pop_front() {
            Some(next) => self.open(&next),
            None => Ok(false),
        }
    }

    fn open(&mut self, path: &Path) -> Result<bool, Error> {
        self.text.clear();
        self.skipping = false;
        match File::open(path) {
            Ok(file) => self.file = Some(BufReader::with_capacity(64 << 10, file)),
            // Rotated away while it waited in the list.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.file = None,
            Err(error) => return Err(error).context("open", path).map_err(Error::from),
        }
        Ok(true)
    }

    /// Finds where to begin: files wholly before `since` are left out, a tail is counted from the end.
    fn position(&mut self) -> Result<(), Error> {
        let mut chain = files(&self.path);
        if let Some(since) = self.options.since {
            let old = |file: &PathBuf| {
                let modified = std::fs::metadata(file).and_then(|metadata| metadata.modified());
                modified.is_ok_and(|time| Timestamp::try_from(time).is_ok_and(|time| time < since))
            };
            let keep_from = chain.iter().position(|file| !old(file)).unwrap_or(chain.len().saturating_sub(1));
            chain.drain(..keep_from);
        }
        if let Some(lines) = self.options.tail {
            let (index, file) = match tail::find(&chain, lines)? {
                Some(found) => found,
                None => return Ok(()),
            };
            self.file = Some(BufReader::with_capacity(64 << 10, file));
            chain.drain(..=index);
        }
        self.waiting = chain.into();
        Ok(())
    }
}
