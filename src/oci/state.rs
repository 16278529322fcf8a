//! A container's folder, and how it fares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Runtime, VERSION};
use crate::base::fs::{self, Durability};
use crate::model::container::ProcessIdentity;
use crate::runtime::bundle::Config;
use crate::runtime::{Cgroup, is_alive};

/// What is kept of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: jiff::Timestamp,
    /// Below the root of control groups.
    pub cgroup: String,
    /// `None` until it is made.
    pub process: Option<ProcessIdentity>,
    /// Whether it has a namespace of processes that ends with its first one.
    pub own_pids: bool,
    pub annotations: BTreeMap<String, String>,
}

/// A container that was found.
#[derive(Debug)]
pub struct Container {
    pub(super) folder: PathBuf,
    pub(super) record: Record,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits to be started.
    Created,
    /// Its program runs.
    Running,
    /// Its processes stand still.
    Paused,
    /// Its first process ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// The state of a container as the specification has it, with what runc adds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Version of the specification.
    pub oci_version: &'static str,
    /// Its name.
    pub id: String,
    /// Number of its first process; 0 when it has none.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Its root file system.
    pub rootfs: PathBuf,
    /// When it was made.
    pub created: String,
    /// Text of the bundle for others.
    pub annotations: BTreeMap<String, String>,
}

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const GO: &str = "go";
const REPORT: &str = "report";
/// More than any configuration has.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

impl Container {
    /// Makes the folder of a new container. Errors: the name is taken.
    pub(super) fn make(runtime: &Runtime, record: Record, config: &[u8]) -> Result<Self, Error> {
        let folder = runtime.folder(&record.id)?;
        fs::create_dir_all(&runtime.root)?;
        match rustix::fs::mkdir(&folder, rustix::fs::Mode::RWXU) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(Error::Exists { id: record.id }),
            Err(errno) => Err(fs::Error { operation: "create folder", path: folder.clone(), source: errno.into() })?,
        }
        let container = Self { folder, record };
        let written = container.write_files(config);
        if written.is_err() {
            // The error to report is the first one.
            let _: fs::Result<()> = fs::remove_dir_all(&container.folder);
        }
        written.map(|()| container)
    }

    fn write_files(&self, config: &[u8]) -> Result<(), Error> {
        use crate::base::fs::Context;
        self.save()?;
        fs::write_atomic(&self.folder.join(CONFIG), config, Durability::Volatile)?;
        for name in [GO, REPORT] {
            let path = self.folder.join(name);
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
                .context("create the pipe", &path)?;
        }
        Ok(())
    }

    pub(super) fn save(&self) -> Result<(), Error> {
        let text = serde_json::to_vec(&self.record).unwrap_or_default();
        Ok(fs::write_atomic(&self.folder.join(STATE), &text, Durability::Volatile)?)
    }

    pub(super) fn read(folder: PathBuf, id: &str) -> Result<Self, Error> {
        let missing = || Error::Missing { id: id.to_owned() };
        let text = match fs::read_limited(&folder.join(STATE), CONFIG_BYTES_MAX) {
            Err(error) if error.is_not_found() => return Err(missing()),
            text => text?,
        };
        // Written by us in one step: what is malformed is not a container's.
        let record = serde_json::from_slice(&text).map_err(|_| missing())?;
        Ok(Self { folder, record })
    }

    /// The pipe by which it is let go.
    pub(super) fn go(&self) -> PathBuf {
        self.folder.join(GO)
    }

    /// The pipe by which it is heard.
    pub(super) fn report(&self) -> PathBuf {
        self.folder.join(REPORT)
    }

    /// The bundle's configuration as it was.
    pub(super) fn config(&self) -> Result<Config, Error> {
        Ok(Config::parse(&fs::read_limited(&self.folder.join(CONFIG), CONFIG_BYTES_MAX)?)?)
    }

    /// Its control group.
    pub(super) fn cgroup(&self) -> Result<Cgroup, Error> {
        Ok(Cgroup::open_at(&self.record.cgroup)?)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        match self.record.process {
            None => Status::Creating,
            Some(process) if !is_alive(process) => Status::Stopped,
            Some(_) if self.go().exists() => Status::Created,
            Some(_) if self.cgroup().is_ok_and(|cgroup| cgroup.is_frozen()) => Status::Paused,
            Some(_) => Status::Running,
        }
    }

    /// Its state, for others.
    pub fn state(&self) -> State {
        self.state_as(self.status())
    }

    pub(super) fn state_as(&self, status: Status) -> State {
        let pid = self.record.process.map_or(0, |process| process.pid);
        State {
            oci_version: VERSION,
            id: self.record.id.clone(),
            pid: if status == Status::Stopped { 0 } else { pid },
            status,
            bundle: self.record.bundle.clone(),
            rootfs: self.record.rootfs.clone(),
            created: self.record.created.to_string(),
            annotations: self.record.annotations.clone(),
        }
    }

    /// The processes in it.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        Ok(self.cgroup()?.pids()?)
    }

    /// Removes its folder.
    pub(super) fn forget(&self) -> Result<(), Error> {
        // Without its state first: what is left of a folder is no container.
        fs::remove_file(&self.folder.join(STATE))?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }

    /// Reads `config.json` of a bundle.
    pub(super) fn read_config(bundle: &Path) -> Result<Vec<u8>, Error> {
        Ok(fs::read_limited(&bundle.join(CONFIG), CONFIG_BYTES_MAX)?)
    }
}
