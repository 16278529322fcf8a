//! `RUN --mount=type=ssh`: a socket in the step behind which the caller's SSH agent answers, and nothing else.
//!
//! The socket is a file of the step's own with the owner and mode that the mount asks for; each connection to it is
//! passed on to the agent. Keys given as files are put into an agent that ends with the step: it runs a command that
//! waits for the end of a pipe, which the kernel closes whatever happens to us, and then ends the agent.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::request::SshSource;
use crate::base::fs::{self, Context};

/// Connections at once; `ssh` opens one or two.
const CONNECTIONS_MAX: usize = 64;
/// How long an agent may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(10);

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The system refused.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// `ssh-agent` or `ssh-add` cannot be had.
    #[error("cannot run {program}, which keys of --ssh need")]
    Start {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A key was refused.
    #[error("ssh-add refused {}: {message}", key.display())]
    Key {
        /// Its file.
        key: PathBuf,
        /// What it said.
        message: String,
    },
    /// The agent did not begin.
    #[error("ssh-agent did not begin")]
    Silent,
}

/// An agent's socket for one step.
#[derive(Debug)]
pub struct AgentSocket {
    /// The socket's file on the host.
    pub path: PathBuf,
    /// Ends with us.
    _own: Option<OwnAgent>,
}

/// An agent of our own.
#[derive(Debug)]
struct OwnAgent(Child);

impl Drop for OwnAgent {
    fn drop(&mut self) {
        // The command sees the end of the pipe and ends the agent.
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

impl AgentSocket {
    /// Makes a socket below `folder` that `uid` and `gid` may use as `mode` says.
    pub fn new(folder: &Path, source: &SshSource, owner: (u32, u32), mode: u32) -> Result<Self, AgentError> {
        let (agent, own) = match source {
            SshSource::Socket(path) => (path.clone(), None),
            SshSource::Keys(keys) => {
                let path = folder.join("agent");
                let own = start(&path, keys)?;
                (path, Some(own))
            }
        };
        let path = folder.join("socket");
        let listener = UnixListener::bind(&path).context("make", &path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).context("change the mode of", &path)?;
        std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1)).context("own", &path)?;
        let thread = std::thread::Builder::new().name("ssh agent".into());
        let serve = move || serve(&listener, &agent);
        // The thread waits for connections until the process ends: a step more or less costs nothing.
        thread.spawn(serve).context("serve", &path)?;
        Ok(Self { path, _own: own })
    }
}

/// Passes connections on until the socket's file is gone.
fn serve(listener: &UnixListener, agent: &Path) {
    let active = std::sync::Arc::new(());
    for client in listener.incoming() {
        let (Ok(client), true) = (client, std::sync::Arc::strong_count(&active) <= CONNECTIONS_MAX) else { continue };
        let Ok(server) = UnixStream::connect(agent) else { continue };
        let held = active.clone();
        let passed = std::thread::Builder::new().spawn(move || {
            let _held = held;
            pass(&client, &server);
        });
        // Without a thread the connection is closed, which is an answer.
        drop(passed);
    }
}

fn pass(client: &UnixStream, server: &UnixStream) {
    let one_way = |mut from: &UnixStream, mut to: &UnixStream| {
        let mut buffer = [0u8; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        drop(to.shutdown(std::net::Shutdown::Write));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| one_way(server, client));
        one_way(client, server);
    });
}

fn start(path: &Path, keys: &[PathBuf]) -> Result<OwnAgent, AgentError> {
    let child = Command::new("ssh-agent")
        .arg("-a")
        .arg(path)
        .args(["sh", "-c", "cat >/dev/null; kill -9 $SSH_AGENT_PID"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| AgentError::Start { program: "ssh-agent", source })?;
    let own = OwnAgent(child);
    let begin = Instant::now();
    while UnixStream::connect(path).is_err() {
        if begin.elapsed() > BEGIN_MAX {
            return Err(AgentError::Silent);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for key in keys {
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", path)
            .env("SSH_ASKPASS_REQUIRE", "never")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| AgentError::Start { program: "ssh-add", source })?;
        if !added.status.success() {
            let message = String::from_utf8_lossy(&added.stderr).trim().to_owned();
            return Err(AgentError::Key { key: key.clone(), message });
        }
    }
    Ok(own)
}
