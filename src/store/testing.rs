//! Fresh folders and stores for tests.

use std::path::{Path, PathBuf};

use super::Store;
use crate::base::paths::Paths;

/// A fresh folder, removed with all that is in it when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one below the folder for temporary files.
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("wharf-test-{}", crate::base::id::random_hex(6)));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A store in it.
    pub fn store(&self) -> Store {
        Store::open(&Paths::new(self.0.join("root"), self.0.join("run"))).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
