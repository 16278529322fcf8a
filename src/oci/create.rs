//! Makes a container from a bundle, and starts it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType};

use super::state::Record;
use super::{Container, Error, Runtime, Status, hooks};
use crate::base::fs::{self, Durability};
use crate::model::container::ProcessIdentity;
use crate::runtime::bundle::{self, Bundle, Config};
use crate::runtime::{Cgroup, Prepared, Stdio};

/// What a container is made from.
#[derive(Debug)]
pub struct Create {
    /// Its name.
    pub id: String,
    /// The folder of the bundle.
    pub bundle: PathBuf,
    /// Where the number of its process is written to.
    pub pid_file: Option<PathBuf>,
    /// Who gets its terminal.
    pub console: Console,
    /// Put its root over the host's instead of exchanging them.
    pub without_pivot: bool,
    /// Leave it the caller's session keyring.
    pub keeps_keyring: bool,
    /// How many descriptors behind the standard ones it inherits.
    pub preserved: u32,
    /// Whether the caller drives systemd: then control groups are named `slice:prefix:name`.
    pub systemd_names: bool,
}

/// The socket that gets the master of a terminal.
#[derive(Debug, Default)]
pub struct Console {
    /// Its path; `None` for a process without terminal.
    pub socket: Option<PathBuf>,
}

/// Size of a terminal that nobody gave one.
const ROWS_AND_COLUMNS: (u16, u16) = (24, 80);

impl Console {
    /// The caller's streams, or a terminal.
    pub(super) fn stdio(&self, process: &bundle::Process) -> Result<Stdio, Error> {
        match (process.terminal, &self.socket) {
            (true, Some(_)) => {
                let (rows, cols) = process.console_size.map_or(ROWS_AND_COLUMNS, |size| (size.height, size.width));
                Ok(Stdio::Terminal { rows, cols })
            }
            (true, None) => Err(Error::Console { problem: "the process wants a terminal: --console-socket is needed" }),
            (false, Some(_)) => Err(Error::Console { problem: "--console-socket is for a process with a terminal" }),
            (false, None) => {
                let copy = |file: std::os::fd::BorrowedFd<'_>| {
                    file.try_clone_to_owned().map_err(|source| crate::runtime::Error::Step {
                        step: "duplicate a standard stream".into(),
                        source,
                    })
                };
                Ok(Stdio::Pipes {
                    stdin: copy(std::io::stdin().as_fd())?,
                    stdout: copy(std::io::stdout().as_fd())?,
                    stderr: copy(std::io::stderr().as_fd())?,
                })
            }
        }
    }

    /// Hands the master of the terminal over, with the name of the terminal as the message.
    pub(super) fn hand_over(&self, master: Option<OwnedFd>) -> Result<(), Error> {
        let (Some(path), Some(master)) = (&self.socket, master) else { return Ok(()) };
        let send = || -> rustix::io::Result<()> {
            let flags = SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new(path.as_path())?)?;
            let files = [master.as_fd()];
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&files)) {
                return Err(rustix::io::Errno::NOBUFS);
            }
            let name = [std::io::IoSlice::new(b"/dev/ptmx")];
            rustix::net::sendmsg(&socket, &name, &mut control, SendFlags::NOSIGNAL).map(drop)
        };
        send().map_err(|errno| Error::ConsoleSocket { path: path.clone(), source: errno.into() })
    }
}

/// Writes the number of a process, for those who wait for the file.
pub(super) fn write_pid(path: Option<&Path>, process: ProcessIdentity) -> Result<(), Error> {
    match path {
        Some(path) => Ok(fs::write_atomic(path, process.pid.to_string().as_bytes(), Durability::Volatile)?),
        None => Ok(()),
    }
}

/// Whether the descriptors that a program should inherit are there.
pub(super) fn check_preserved(count: u32) -> Result<(), Error> {
    for number in (3..).take(count as usize) {
        if !Path::new("/proc/self/fd").join(number.to_string()).exists() {
            return Err(Error::Preserved { number });
        }
    }
    Ok(())
}

impl Runtime {
    /// Makes a container up to the point where [`Runtime::start`] lets it go. Its process is a child of the caller.
    ///
    /// Errors: the name is taken; what the bundle cannot be; a hook failed. Then nothing is left.
    pub fn create(&self, create: &Create) -> Result<ProcessIdentity, Error> {
        check_preserved(create.preserved)?;
        let folder = std::path::absolute(&create.bundle).unwrap_or_else(|_| create.bundle.clone());
        let text = Container::read_config(&folder)?;
        let config = Config::parse(&text)?;
        let record = Record {
            id: create.id.clone(),
            rootfs: folder.join(config.root.as_ref().map(|root| root.path.clone()).unwrap_or_default()),
            bundle: folder.clone(),
            created: jiff::Timestamp::now(),
            cgroup: cgroup_path(&config.linux.cgroups_path, &create.id, create.systemd_names),
            process: None,
            own_pids: config.linux.namespaces.iter().any(|one| one.kind == "pid" && one.path.as_os_str().is_empty()),
            annotations: config.annotations.clone(),
        };
        let mut container = Container::make(self, record, &text)?;
        let bundle = Bundle {
            folder,
            config,
            keeps_keyring: create.keeps_keyring,
            without_pivot: create.without_pivot,
            preserved: create.preserved,
        };
        match container.fill(&bundle, create) {
            Ok(process) => Ok(process),
            Err(error) => {
                self.warn(container.unmake(&bundle.config));
                Err(error)
            }
        }
    }

    /// Lets a created container's program run.
    ///
    /// Errors: it is not created; a hook failed, which ends it; the program cannot be run.
    pub fn start(&self, id: &str) -> Result<(), Error> {
        let container = self.find(id)?;
        let status = container.status();
        let (Status::Created, Some(process)) = (status, container.record.process) else {
            return Err(Error::Status { verb: "start", id: id.to_owned(), status });
        };
        let config = container.config()?;
        let hooked = hooks::run_inside("startContainer", &config.hooks.start_container, &container, process);
        if let Err(error) = hooked {
            container.kill_all()?;
            return Err(error);
        }
        let started = bundle::start(&config, &container.go(), &container.report());
        fs::remove_file(&container.go())?;
        started?;
        self.warn(hooks::run("poststart", &config.hooks.poststart, &container, Status::Running));
        Ok(())
    }
}

impl Container {
    fn fill(&mut self, bundle: &Bundle, create: &Create) -> Result<ProcessIdentity, Error> {
        let Some(process) = &bundle.config.process else {
            return Err(bundle::Error::Field { field: "process".into(), problem: "it is missing".into() }.into());
        };
        let stdio = create.console.stdio(process)?;
        let cgroup: Cgroup = bundle.make_cgroup(&self.record.cgroup)?;
        let mut prepared: Prepared = bundle.prepare(&cgroup, &stdio, &self.go(), &self.report())?;
        self.record.process = Some(prepared.identity());
        create.console.hand_over(prepared.take_console())?;
        prepared.mounted()?;
        let hooks = &bundle.config.hooks;
        // Of a time when there was no other: it was promised a created container.
        hooks::run("prestart", &hooks.prestart, self, Status::Created)?;
        hooks::run("createRuntime", &hooks.create_runtime, self, Status::Creating)?;
        hooks::run_inside("createContainer", &hooks.create_container, self, prepared.identity())?;
        prepared.created()?;
        self.save()?;
        write_pid(create.pid_file.as_deref(), prepared.identity())?;
        Ok(prepared.leave())
    }

    /// Removes what was made of a container that could not be made.
    fn unmake(&self, config: &Config) -> Result<(), Error> {
        let removed = self.cgroup().and_then(|cgroup| {
            cgroup.kill_all()?;
            Ok(cgroup.remove()?)
        });
        let hooked = hooks::run("poststop", &config.hooks.poststop, self, Status::Stopped);
        self.forget().and(removed).and(hooked)
    }
}

/// The path of a control group as runc's drivers read it: as it is, or `slice:prefix:name` in systemd's words.
fn cgroup_path(wished: &str, id: &str, systemd_names: bool) -> String {
    let parts: Vec<&str> = wished.split(':').collect();
    if let ([slice, prefix, name], true) = (parts.as_slice(), systemd_names) {
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        let scope = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        return format!("{}/{scope}", slice_path(slice));
    }
    let plain = wished.trim_matches('/');
    if plain.is_empty() { format!("wharf-oci/{id}") } else { plain.to_owned() }
}

/// `a-b.slice` lies in `a.slice`.
fn slice_path(slice: &str) -> String {
    let name = slice.trim_end_matches(".slice");
    let mut path = Vec::new();
    for (place, _) in name.match_indices('-') {
        path.push(format!("{}.slice", &name[..place]));
    }
    path.push(format!("{name}.slice"));
    path.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_are_found_where_their_driver_puts_them() {
        for (wished, systemd, expected) in [
            ("", false, "wharf-oci/c1"),
            ("/libpod_parent/libpod-c1", false, "libpod_parent/libpod-c1"),
            ("a/b/", false, "a/b"),
            ("user-1000.slice:libpod:c1", true, "user.slice/user-1000.slice/libpod-c1.scope"),
            (":runc:c1", true, "system.slice/runc-c1.scope"),
        ] {
            assert_eq!(cgroup_path(wished, "c1", systemd), expected, "{wished}");
        }
    }
}
