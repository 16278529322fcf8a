//! The content of copied files: many of them by several threads, while their names are made in order by one.
//!
//! Making a name takes its folder's lock in the kernel, filling the file does not; so the one goes on while the
//! others read and write.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::content::{FileDigest, Findings, attributes};
use super::copy::CopyError;
use super::target::{BUFFER_BYTES, Owner, copy_and_read, copy_content, finish_file, shown};
use super::tree::{Meta, Tree};
use crate::base::fs::Context;

/// From this many files on, the threads are worth their start.
pub(super) const PARALLEL_ITEMS: usize = 256;
/// Threads that fill files; more of them only wait for the file system's journal.
const THREADS_MAX: usize = 4;
/// Files handed over at once: to wake a thread costs more than to fill a small file.
const BATCH: usize = 16;
/// Batches of files that were made and wait for their content, each file an open descriptor.
const QUEUE: usize = 4;

/// A regular file that was made and has no content yet.
pub(super) struct NewFile {
    /// The new file, open for writing.
    pub to: OwnedFd,
    /// Its path in the layer, for errors.
    pub path: PathBuf,
    /// What it is a copy of: a resolved path of the tree.
    pub source: PathBuf,
    /// The source's metadata.
    pub meta: Meta,
    /// The owner it gets.
    pub owner: Owner,
    /// The mode it gets.
    pub mode: u32,
}

/// Fills files.
pub(super) struct Copier<'a> {
    tree: &'a Tree,
    findings: &'a Findings,
    buffer: Vec<u8>,
}

impl<'a> Copier<'a> {
    /// Copies from `tree`.
    pub(super) fn new(tree: &'a Tree, findings: &'a Findings) -> Self {
        Self { tree, findings, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Copies content and attributes; sets owner, mode and time.
    pub(super) fn fill(&mut self, file: NewFile) -> Result<(), CopyError> {
        let from = self.tree.open(&file.source)?;
        let context = |result: rustix::io::Result<()>| result.context("copy to", &shown(&file.path));
        let attributes = attributes(from.as_fd());
        if self.findings.wants_digests() {
            let mut digest = FileDigest::new(&attributes);
            context(copy_and_read(&from, &file.to, file.meta.size, &mut self.buffer, &mut |piece| {
                digest.update(piece)
            }))?;
            self.findings.digest(&file.source, digest.finish());
        } else {
            context(copy_content(&from, &file.to, file.meta.size, &mut self.buffer))?;
        }
        context(finish_file(&file.to, file.owner, file.mode, file.meta.mtime_ns))?;
        for (name, value) in attributes {
            context(rustix::fs::fsetxattr(&file.to, name, &value, rustix::fs::XattrFlags::empty()))?;
        }
        Ok(context(self.findings.compare(from.as_fd(), &file.meta))?)
    }

    /// Fills files until no more come. After an error the rest is taken and left empty, so that nobody waits.
    fn work(mut self, batches: &Mutex<Receiver<Vec<NewFile>>>) -> Result<(), CopyError> {
        let mut result = Ok(());
        loop {
            let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(files) = next else { return result };
            if result.is_ok() {
                result = files.into_iter().try_for_each(|file| self.fill(file));
            }
        }
    }
}

/// Runs `make` with a function that hands files to threads, and returns when all of them are filled.
pub(super) fn in_parallel(
    tree: &Tree,
    findings: &Findings,
    make: impl FnOnce(&mut dyn FnMut(NewFile) -> Result<(), CopyError>) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let (sender, receiver) = sync_channel::<Vec<NewFile>>(QUEUE);
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(|| Copier::new(tree, findings).work(&receiver))).collect();
        let mut batch = Vec::with_capacity(BATCH);
        let made = make(&mut |file| {
            batch.push(file);
            if batch.len() == BATCH {
                // The receiver outlives the sender, so this cannot fail.
                drop(sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))));
            }
            Ok(())
        });
        drop(sender.send(batch));
        drop(sender);
        let filled =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        filled.fold(made, Result::and)
    })
}
