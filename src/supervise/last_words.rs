//! Why a supervisor ended before its container did: a file in the container's run folder, for those who were
//! connected to it. Its standard error leads nowhere, and a successor makes good what it can without a word.

use std::path::{Path, PathBuf};

/// In the run folder.
pub(super) const FILE: &str = "last-words";
/// More than this is not told.
const BYTES_MAX: u64 = 4096;

/// Has a panic of this process written down in `run_folder`.
pub(super) fn on_panic(run_folder: PathBuf) {
    std::panic::set_hook(Box::new(move |panic| write(&run_folder, &panic.to_string())));
}

/// Writes `text` down. Nothing waits for it, so it may fail.
pub(super) fn write(run_folder: &Path, text: &str) {
    drop(std::fs::write(run_folder.join(FILE), text));
}

/// What the last supervisor wrote; `None`: nothing, which also is all that SIGKILL lets it say.
pub(super) fn read(run_folder: &Path) -> Option<String> {
    let text = crate::base::fs::read_limited(&run_folder.join(FILE), BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&text).trim().to_owned()).filter(|text| !text.is_empty())
}
