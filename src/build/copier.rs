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
/// Files that were made and wait for their content, each an open descriptor.
const QUEUE: usize = 64;

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
    fn work(mut self, files: &Mutex<Receiver<NewFile>>) -> Result<(), CopyError> {
        let mut result = Ok(());
        loop {
            let next = files.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match next {
                Ok(file) if result.is_ok() => result = self.fill(file),
                Ok(_) => {}
                Err(_) => return result,
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
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| {
        let count = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(|| Copier::new(tree, findings).work(&receiver))).collect();
        let made = make(&mut |file| {
            // The receiver outlives the sender, so this cannot fail.
            drop(sender.send(file));
            Ok(())
        });
        drop(sender);
        let filled =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        filled.fold(made, Result::and)
    })
}
