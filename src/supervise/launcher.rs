//! A single-threaded copy of a command that is about to have threads: it forks supervisors for all of them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use super::start::{self, Connections, Request};
use super::{Error, Result, StartOptions, Started, clients};
use crate::base::id::ContainerId;
use crate::store::Store;
use crate::sys::daemon::{self, Fork};

/// Largest request: two paths and an id.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// A single-threaded copy of this process, made before it has threads, that starts containers for all of them.
///
/// It ends with its parent; the supervisors that it made stay.
#[derive(Debug)]
pub struct Launcher {
    socket: Option<OwnedFd>,
    process: rustix::process::Pid,
}

impl Launcher {
    /// Forks the copy. Call it while the process has one thread ([`Error::Threads`] otherwise).
    pub fn spawn() -> Result<Self> {
        start::single_thread()?;
        let (ours, theirs) = clients::pair().map_err(|errno| Error::Launcher { source: errno.into() })?;
        match daemon::fork().map_err(|source| Error::Launcher { source })? {
            Fork::Parent { pid } => Ok(Self { socket: Some(ours), process: pid }),
            Fork::Child => daemon::exit_now(serve(theirs)),
        }
    }

    /// Does what [`super::start`] does; from any thread, any number at once.
    pub fn start(&self, store: &Store, id: &ContainerId, options: StartOptions) -> Result<Started> {
        let (ours, theirs) = Connections::pair(id, options.attach)?;
        let socket = self.socket.as_ref().ok_or(Error::LauncherLost)?;
        let request = Request::new(store, id, options);
        send(socket, &request, &theirs).map_err(|_| Error::LauncherLost)?;
        drop(theirs);
        ours.wait(id)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // The copy ends when our end of the socket is closed; then it is reaped.
        self.socket = None;
        let _refused = rustix::process::waitpid(Some(self.process), rustix::process::WaitOptions::empty());
    }
}

fn send(socket: &OwnedFd, request: &Request, connections: &Connections) -> io::Result<()> {
    let packet = serde_json::to_vec(request)?;
    let fds = connections.fds();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    loop {
        match rustix::net::sendmsg(socket, &[io::IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The life of the copy: one supervisor a request, until the parent is gone.
fn serve(socket: OwnedFd) -> i32 {
    // Of its own session: a Ctrl-C at the terminal is for the command, which decides what to stop.
    let _leader = rustix::process::setsid();
    if detached(&socket).is_err() {
        return 1;
    }
    while let Some((request, connections)) = receive(&socket) {
        // A failure closes the connections, which the caller sees.
        drop(start::spawn(request, connections));
    }
    0
}

fn detached(socket: &OwnedFd) -> io::Result<()> {
    daemon::close_all_but(&[socket.as_raw_fd()])?;
    let null = super::stdio::null().map_err(|error| error.source)?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    rustix::stdio::dup2_stderr(null.as_fd())?;
    daemon::reset_signals()
}

fn receive(socket: &OwnedFd) -> Option<(Request, Connections)> {
    let mut packet = vec![0; REQUEST_BYTES_MAX];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [io::IoSliceMut::new(&mut packet)];
        let length = match rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
        };
        if length == 0 {
            return None;
        }
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if let (Ok(request), Some(connections)) =
            (serde_json::from_slice(&packet[..length]), Connections::received(fds))
        {
            return Some((request, connections));
        }
    }
}
