//! A stack of layers as one detached mount.
//!
//! Folders are named to the kernel by handle: a path may be longer than an option takes, may contain what overlayfs
//! reads as a separator, and would show in the container's mountinfo.
//!
//! ```text
//! one folder        a copy of its mount, read-only when there is no writable layer
//! Linux 6.7 on      fsopen, one `lowerdir+` a layer, fsmount
//! before            mount(2) in a short-lived child with a mount namespace of its own, which hands over a copy
//! ```
//! Source: <https://docs.kernel.org/filesystems/overlayfs.html>, fsopen(2).

use std::ffi::{CStr, CString};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, MountFlags, MountPropagationFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};

use super::launch::RootFs;
use super::mounts::{c_string, finish, mount_error};
use super::{Error, root};
use crate::sys::mount::{self, MountAttributes, RDONLY};
use crate::sys::process;

/// OVL_MAX_STACK of `fs/overlayfs/params.h`.
const LAYERS_MAX: usize = 500;

/// The folders of a stack, open.
struct Opened {
    lowers: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd)>,
    volatile: bool,
}

/// Mounts a stack of layers attached nowhere: it is there as long as its handle.
///
/// Errors: more than 500 layers, a missing folder, the kernel's own words where it has any.
pub fn mount_layers(stack: &RootFs) -> Result<OwnedFd, Error> {
    layers(stack, "/")
}

/// Mounts a stack of layers, detached.
///
/// Errors: more than 500 layers, a missing folder, the kernel's own words where it has any.
pub(super) fn layers(stack: &RootFs, target: &str) -> Result<OwnedFd, Error> {
    if stack.lowers.len() > LAYERS_MAX {
        let what = format!("{} layers (at most {LAYERS_MAX})", stack.lowers.len());
        return Err(mount_error(&what, target, Errno::INVAL));
    }
    let opened = open(stack, target)?;
    let refused = |errno| mount_error("the layers", target, errno);
    match (opened.lowers.as_slice(), &opened.upper) {
        ([], Some((upper, _))) => single(upper.as_fd(), 0).map_err(refused),
        ([lower], None) => single(lower.as_fd(), RDONLY).map_err(refused),
        // An older kernel takes the option, refuses the mount, and writes a line to its log each time.
        _ if !takes_layers_one_by_one() => overlay_by_child(stack, &opened, target),
        _ => match overlay(&opened) {
            Ok(mount) => Ok(mount),
            Err(Refused::Layer(Errno::INVAL)) => overlay_by_child(stack, &opened, target),
            Err(Refused::Layer(errno)) => Err(refused(errno)),
            Err(Refused::Mount(errno, Some(log))) => Err(mount_error(&format!("the layers ({log})"), target, errno)),
            Err(Refused::Mount(errno, None)) => Err(refused(errno)),
        },
    }
}

/// Whether overlayfs knows `lowerdir+`: since Linux 6.7. In doubt, yes.
fn takes_layers_one_by_one() -> bool {
    let system = rustix::system::uname();
    is_since(&system.release().to_string_lossy(), (6, 7))
}

/// Whether a kernel's release (`6.1.0-56-cloud-amd64`) is that version or a later one.
fn is_since(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= version,
        _ => true,
    }
}

fn open(stack: &RootFs, target: &str) -> Result<Opened, Error> {
    let source = |path: &Path| {
        root::open_root(path).map_err(|errno| Error::MountSource {
            path: path.to_owned(),
            target: target.to_owned(),
            source: errno.into(),
        })
    };
    let lowers = stack.lowers.iter().map(|path| source(path)).collect::<Result<Vec<_>, _>>()?;
    let Some(upper) = &stack.upper else { return Ok(Opened { lowers, upper: None, volatile: false }) };
    if upper.volatile {
        // The mark of an earlier volatile mount, which would refuse this one. Whoever wants a layer volatile has no
        // use for what a crash may have taken from it.
        drop(std::fs::remove_dir_all(upper.work.join("work/incompat")));
    }
    let folders = (source(&upper.upper)?, source(&upper.work)?);
    Ok(Opened { lowers, upper: Some(folders), volatile: upper.volatile })
}

fn single(folder: BorrowedFd<'_>, set: u64) -> Result<OwnedFd, Errno> {
    let mount = mount::clone_tree(folder, c"", false)?;
    let attributes = MountAttributes { set, propagation: libc::MS_PRIVATE, ..Default::default() };
    mount::set_attributes(mount.as_fd(), attributes, false)?;
    Ok(mount)
}

/// Where an overlay was refused: at the option for a layer, or with the kernel's words.
enum Refused {
    Layer(Errno),
    Mount(Errno, Option<String>),
}

fn overlay(opened: &Opened) -> Result<OwnedFd, Refused> {
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| Refused::Mount(errno, None))?;
    let set = |key: &str, folder: &OwnedFd| {
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        rustix::mount::fsconfig_set_string(context.as_fd(), key, path.as_str())
    };
    for lower in &opened.lowers {
        set("lowerdir+", lower).map_err(Refused::Layer)?;
    }
    let configure = || {
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", "overlay")?;
        if let Some((upper, work)) = &opened.upper {
            set("upperdir", upper)?;
            set("workdir", work)?;
        }
        if opened.volatile {
            rustix::mount::fsconfig_set_flag(context.as_fd(), "volatile")?;
        }
        finish(context.as_fd(), 0)
    };
    configure().map_err(|errno| Refused::Mount(errno, kernel_log(context.as_fd())))
}

/// The kernel's messages about a failed mount: lines `e overlay: …` read from the context.
fn kernel_log(context: BorrowedFd<'_>) -> Option<String> {
    /// More than the kernel keeps.
    const LINES_MAX: usize = 8;
    let mut lines = Vec::new();
    let mut buffer = [0u8; 512];
    while lines.len() < LINES_MAX {
        let Ok(length) = rustix::io::read(context, &mut buffer) else { break };
        let line = String::from_utf8_lossy(buffer.get(..length)?).trim().to_owned();
        lines.push(line.get(2..).unwrap_or_default().to_owned());
    }
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// The way of Linux before 6.7. Options are one page of text: the child's working folder is /proc/self/fd, so that a
/// layer is a number and a colon.
fn overlay_by_child(stack: &RootFs, opened: &Opened, target: &str) -> Result<OwnedFd, Error> {
    let options = options(opened)?;
    let folders = folders(stack, opened)?;
    let refused = |errno: Errno| mount_error("the layers", target, errno);
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(refused)?;
    let child = process::clone_process(libc::CLONE_NEWNS, None, || mount_in_child(&folders, &options, &theirs))
        .map_err(refused)?;
    drop(theirs);
    let received = receive(&ours);
    super::running::reap(child.pidfd.as_fd())?;
    received.map_err(refused)
}

/// Every folder of a stack: its descriptor and its path.
fn folders<'a>(stack: &RootFs, opened: &'a Opened) -> Result<Vec<(BorrowedFd<'a>, CString)>, Error> {
    let path = |path: &Path| {
        CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Nul { text: path.display().to_string() })
    };
    let mut folders = Vec::new();
    for (folder, name) in opened.lowers.iter().zip(&stack.lowers) {
        folders.push((folder.as_fd(), path(name)?));
    }
    if let (Some((upper, work)), Some(names)) = (&opened.upper, &stack.upper) {
        folders.push((upper.as_fd(), path(&names.upper)?));
        folders.push((work.as_fd(), path(&names.work)?));
    }
    Ok(folders)
}

fn options(opened: &Opened) -> Result<CString, Error> {
    let numbers: Vec<String> = opened.lowers.iter().map(|lower| lower.as_raw_fd().to_string()).collect();
    let mut options = format!("lowerdir={}", numbers.join(":"));
    if let Some((upper, work)) = &opened.upper {
        options.push_str(&format!(",upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd()));
    }
    if opened.volatile {
        options.push_str(",volatile");
    }
    c_string(&options)
}

/// Mounts, copies the mount and sends the copy, or the errno. Runs in the child of a clone: nothing allocates.
fn mount_in_child(folders: &[(BorrowedFd<'_>, CString)], options: &CStr, socket: &OwnedFd) -> i32 {
    let made = (|| {
        rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        for (folder, path) in folders {
            // The same number for the folder as this namespace has it: a layer of another is refused.
            let again = rustix::fs::open(path.as_c_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            process::duplicate_to(again.as_fd(), folder.as_raw_fd(), true)?;
        }
        // Any folder does to mount on, in a namespace of one's own.
        let place = folders.first().map_or(c"", |(_, path)| path.as_c_str());
        rustix::process::chdir(c"/proc/self/fd")?;
        rustix::mount::mount(c"overlay", place, c"overlay", MountFlags::empty(), Some(options))?;
        mount::clone_tree(rustix::fs::CWD, place, false)
    })();
    let errno = made.as_ref().err().map_or(0, |errno| errno.raw_os_error());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let copy = made.as_ref().map(AsFd::as_fd);
    if let Ok(copy) = &copy {
        control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(copy)));
    }
    let data = errno.to_ne_bytes();
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(&data)], &mut control, SendFlags::NOSIGNAL);
    i32::from(sent.is_err())
}

fn receive(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut data = [0u8; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut data)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let copy = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    match (copy, i32::from_ne_bytes(data)) {
        (Some(copy), 0) => Ok(copy),
        (_, errno) if errno != 0 && received.bytes == data.len() => Err(Errno::from_raw_os_error(errno)),
        _ => Err(Errno::IO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::UpperLayer;

    #[test]
    fn releases_are_compared_as_numbers() {
        for (release, is_newer) in [
            ("6.7.0", true),
            ("6.12.9+deb13-amd64", true),
            ("7.0", true),
            ("6.6.99-lts", false),
            ("5.15.0-91-generic", false),
            ("strange", true),
        ] {
            assert_eq!(is_since(release, (6, 7)), is_newer, "{release}");
        }
    }

    #[test]
    fn the_way_of_older_kernels() {
        let folder = std::env::temp_dir().join(format!("wharf-layers-{}", std::process::id()));
        let mut lowers = Vec::new();
        for name in ["a", "b:with,odd\\name", "c"] {
            let lower = folder.join(name);
            std::fs::create_dir_all(&lower).unwrap();
            std::fs::write(lower.join("file"), name).unwrap();
            std::fs::write(lower.join(&name[..1]), name).unwrap();
            lowers.push(lower);
        }
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        std::fs::create_dir_all(&upper).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        let stack = RootFs { lowers, upper: Some(UpperLayer { upper: upper.clone(), work, volatile: true }) };
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let opened = open(&stack, "/").unwrap();
        let mount = overlay_by_child(&stack, &opened, "/").unwrap();
        let read = |path: &str| root::read_in_root(mount.as_fd(), Path::new(path), 100).unwrap();
        assert_eq!(read("file"), b"a");
        assert_eq!(read("b"), b"b:with,odd\\name");
        let made = root::touch_in_root(mount.as_fd(), Path::new("new"), rustix::fs::Mode::from(0o644)).unwrap();
        assert!(upper.join("new").exists());
        drop((made, mount));
        assert_eq!(std::fs::read_to_string("/proc/self/mounts").unwrap(), mounts);
        let missing = RootFs { lowers: vec![folder.join("a"), folder.join("upper/new")], upper: None };
        assert!(matches!(layers(&missing, "/"), Err(Error::MountSource { .. })));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
