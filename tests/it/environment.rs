//! A folder, and a store that nobody else uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wharf::base::paths::Paths;
use wharf::store::Store;

/// A test's own surroundings; gone when dropped.
pub struct Environment {
    base: PathBuf,
}

/// What a command said and returned. Paths of the test's folder are shown as `$FOLDER`.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    /// Compares all three; `stderr` and `stdout` are whole.
    #[track_caller]
    pub fn expect(self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!((self.stdout.as_str(), self.stderr.as_str(), self.code), (stdout, stderr, code));
    }
}

impl Environment {
    /// A fresh one.
    pub fn new() -> Self {
        let base = std::env::temp_dir().join(format!("wharf-it-{}", wharf::base::id::random_hex(6)));
        fs::create_dir_all(base.join("project")).expect("the test's folder can be made");
        Self { base }
    }

    /// The project's folder.
    pub fn folder(&self) -> PathBuf {
        self.base.join("project")
    }

    /// Writes a file of the project.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.folder().join(name), content).expect("the file can be written");
    }

    /// The store that the commands use.
    pub fn store(&self) -> Store {
        let paths = Paths::new(self.base.join("root"), self.base.join("run"));
        Store::open(&paths).expect("a store can be made")
    }

    /// Runs a command in the project's folder.
    pub fn wharf(&self, arguments: &[&str]) -> Answer {
        self.wharf_with(arguments, &[])
    }

    /// Runs a command with further variables.
    pub fn wharf_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
        let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
            .args(arguments)
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.base)
            .env("WHARF_ROOT", self.base.join("root"))
            .env("WHARF_RUN", self.base.join("run"))
            .envs(variables.iter().copied())
            .stdin(std::process::Stdio::null())
            .output()
            .expect("wharf can be run");
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).expect("wharf writes UTF-8 here");
            text.replace(&*self.folder().to_string_lossy(), "$FOLDER")
        };
        Answer { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.base));
    }
}

/// Compares `text` with a file of `tests/it/text`; with `UPDATE=1` in the environment the file is written instead.
#[track_caller]
pub fn expect_file(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/text").join(name);
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(&path, text).expect("the expectation can be written");
    }
    let expected = fs::read_to_string(&path).expect("the expectation is there (UPDATE=1 writes it)");
    assert_eq!(text, expected, "{} differs", path.display());
}
