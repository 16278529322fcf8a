//! A stack of layers as one detached mount.
//!
//! Folders are named to the kernel by handle: a path may be longer than an option takes, may contain what overlayfs
//! reads as a separator, and would show in the container's mountinfo.
//!
//! ```text
//! one folder        a copy of its mount, read-only when there is no writable layer
//! Linux 6.7 on      fsopen, one `lowerdir+` a layer, fsmount
//! before            mount(2) in a short-lived child with a mount namespace of its own, which hands over a copy
//! owners mapped     the same: before 6.15 overlayfs takes only layers that are mounted somewhere in its namespace
//! ```
//! Source: <https://docs.kernel.org/filesystems/overlayfs.html>, fsopen(2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, MountFlags, MountPropagationFlags};

use super::handle::{self, Refused as Stopped};
use super::ids::Ids;
use super::launch::RootFs;
use super::mounts::{c_string, finish, mount_error};
use super::{Error, root};
use crate::sys::mount::{self, MountAttributes, RDONLY};
use crate::sys::{process, security};

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
    layers(stack, "/", None)
}

/// Mounts a stack of layers, detached; with the owners of `ids` where given.
///
/// Errors: more than 500 layers, a missing folder, the kernel's own words where it has any.
pub(super) fn layers(stack: &RootFs, target: &str, ids: Option<&Ids>) -> Result<OwnedFd, Error> {
    if stack.lowers.len() > LAYERS_MAX {
        let what = format!("{} layers (at most {LAYERS_MAX})", stack.lowers.len());
        return Err(mount_error(&what, target, Errno::INVAL));
    }
    let opened = open(stack, target)?;
    let refused = |errno| mount_error("the layers", target, errno);
    match (opened.lowers.as_slice(), &opened.upper) {
        ([], Some((upper, _))) => single(upper.as_fd(), 0, stack, target, ids),
        ([lower], None) => single(lower.as_fd(), RDONLY, stack, target, ids),
        // An older kernel takes the option, refuses the mount, and writes a line to its log each time.
        _ if ids.is_some() || !takes_layers_one_by_one() => overlay_by_child(stack, &opened, target, ids),
        _ => match overlay(&opened) {
            Ok(mount) => Ok(mount),
            Err(Refused::Layer(Errno::INVAL)) => overlay_by_child(stack, &opened, target, ids),
            Err(Refused::Layer(errno)) => Err(refused(errno)),
            Err(Refused::Mount(errno, Some(log))) => Err(mount_error(&format!("the layers ({log})"), target, errno)),
            Err(Refused::Mount(errno, None)) => Err(refused(errno)),
        },
    }
}

/// Whether overlayfs knows `lowerdir+`: since Linux 6.7. In doubt, yes.
fn takes_layers_one_by_one() -> bool {
    kernel_is_since((6, 7))
}

fn kernel_is_since(version: (u32, u32)) -> bool {
    let system = rustix::system::uname();
    is_since(&system.release().to_string_lossy(), version)
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

fn single(folder: BorrowedFd<'_>, set: u64, stack: &RootFs, target: &str, ids: Option<&Ids>) -> Result<OwnedFd, Error> {
    let refused = |errno| mount_error("the layers", target, errno);
    let mount = mount::clone_tree(folder, c"", false).map_err(refused)?;
    let attributes = MountAttributes { set, propagation: libc::MS_PRIVATE, ..Default::default() };
    mount::set_attributes(mount.as_fd(), attributes, false).map_err(refused)?;
    if let Some(ids) = ids {
        let path = stack.path(1).unwrap_or_default();
        let refused = |errno: Errno| Error::MapOwners { path, source: errno.into() };
        mount::map_owners(mount.as_fd(), ids.as_fd(), false).map_err(refused)?;
    }
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

/// The way of Linux before 6.7, and of mapped owners. Options are one page of text: the child's working folder is
/// /proc/self/fd, so that a layer is a number and a colon.
fn overlay_by_child(stack: &RootFs, opened: &Opened, target: &str, ids: Option<&Ids>) -> Result<OwnedFd, Error> {
    let refused = |errno: Errno| mount_error("the layers", target, errno);
    let work = Work {
        options: options(opened)?,
        folders: folders(stack, opened)?,
        mapped: mapped_folders(stack, ids)?,
        owner: ids.map(|ids| ids.on_host(0, 0)).transpose()?,
        ids: ids.map(AsFd::as_fd),
    };
    if ids.is_some() && !kernel_is_since((5, 19)) {
        let path = stack.path(1).unwrap_or_default();
        return Err(Error::MapOwners { path, source: Errno::NOSYS.into() });
    }
    let (ours, theirs) = handle::pair().map_err(refused)?;
    let child = process::clone_process(libc::CLONE_NEWNS, None, || {
        let made = work.mount();
        handle::send(theirs.as_fd(), made.as_ref().map(|mount| (mount.as_fd(), 0)).map_err(|refused| *refused))
    })
    .map_err(refused)?;
    drop(theirs);
    let received = handle::receive(ours.as_fd());
    super::running::reap(child.pidfd.as_fd())?;
    received.map(|(mount, _)| mount).map_err(|stopped| match stack.path(stopped.step) {
        Some(path) => Error::MapOwners { path, source: stopped.errno.into() },
        None => refused(stopped.errno),
    })
}

impl RootFs {
    /// The folder whose owners were to be mapped at a step.
    fn path(&self, step: u32) -> Option<PathBuf> {
        let upper = self.upper.as_ref().and_then(|upper| upper.upper.parent());
        let step = usize::try_from(step).ok()?.checked_sub(1)?;
        self.lowers.iter().map(PathBuf::as_path).chain(upper).nth(step).map(Path::to_owned)
    }
}

/// Every folder of a stack: its descriptor and its path.
fn folders<'a>(stack: &RootFs, opened: &'a Opened) -> Result<Vec<(BorrowedFd<'a>, CString)>, Error> {
    let mut folders = Vec::new();
    for (folder, name) in opened.lowers.iter().zip(&stack.lowers) {
        folders.push((folder.as_fd(), path_text(name)?));
    }
    if let (Some((upper, work)), Some(names)) = (&opened.upper, &stack.upper) {
        folders.push((upper.as_fd(), path_text(&names.upper)?));
        folders.push((work.as_fd(), path_text(&names.work)?));
    }
    Ok(folders)
}

fn path_text(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Nul { text: path.display().to_string() })
}

/// The folders whose owners are mapped: the layers, and the one that upper and work are in, for overlayfs wants both
/// in one mount.
fn mapped_folders(stack: &RootFs, ids: Option<&Ids>) -> Result<Vec<CString>, Error> {
    if ids.is_none() {
        return Ok(Vec::new());
    }
    let mut folders = stack.lowers.iter().map(|path| path_text(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(upper) = &stack.upper {
        match upper.upper.parent().filter(|parent| upper.work.starts_with(parent)) {
            Some(parent) => folders.push(path_text(parent)?),
            None => return Err(Error::Unsupported { feature: "a writable layer in two places" }),
        }
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

/// What the child of an overlay needs.
struct Work<'a> {
    options: CString,
    folders: Vec<(BorrowedFd<'a>, CString)>,
    mapped: Vec<CString>,
    /// The host's ids of root inside.
    owner: Option<(u32, u32)>,
    ids: Option<BorrowedFd<'a>>,
}

impl Work<'_> {
    /// Mounts, and copies the mount. Runs in the child of a clone: nothing allocates. The steps are 0, and one for
    /// each folder that is mapped.
    fn mount(&self) -> Result<OwnedFd, Stopped> {
        let at = |step: u32| move |errno| Stopped { step, errno };
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change(c"/", private).map_err(at(0))?;
        if let Some(ids) = self.ids {
            for (path, step) in self.mapped.iter().zip(1..) {
                cover_with_mapped(path, ids).map_err(at(step))?;
            }
        }
        self.overlay().map_err(at(0))
    }

    fn overlay(&self) -> Result<OwnedFd, Errno> {
        for (folder, path) in &self.folders {
            // The same number for the folder as this namespace has it: a layer of another is refused.
            let again = rustix::fs::open(path.as_c_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            process::duplicate_to(again.as_fd(), folder.as_raw_fd(), true)?;
        }
        if let Some((uid, gid)) = self.owner {
            // Overlayfs makes files as who mounted it, and the host's root has no id in the mapped layers.
            security::keep_capabilities()?;
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
            security::raise_permitted()?;
        }
        // Any folder does to mount on, in a namespace of one's own.
        let place = self.folders.first().map_or(c"", |(_, path)| path.as_c_str());
        rustix::process::chdir(c"/proc/self/fd")?;
        rustix::mount::mount(c"overlay", place, c"overlay", MountFlags::empty(), Some(self.options.as_c_str()))?;
        mount::clone_tree(rustix::fs::CWD, place, false)
    }
}

/// Lays a copy of a folder's mount, with owners mapped, over the folder.
fn cover_with_mapped(path: &CStr, ids: BorrowedFd<'_>) -> Result<(), Errno> {
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let copy = mount::clone_tree(place.as_fd(), c"", false)?;
    mount::map_owners(copy.as_fd(), ids, false)?;
    mount::attach(copy.as_fd(), place.as_fd())
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
        let mount = overlay_by_child(&stack, &opened, "/", None).unwrap();
        let read = |path: &str| root::read_in_root(mount.as_fd(), Path::new(path), 100).unwrap();
        assert_eq!(read("file"), b"a");
        assert_eq!(read("b"), b"b:with,odd\\name");
        let made = root::touch_in_root(mount.as_fd(), Path::new("new"), rustix::fs::Mode::from(0o644)).unwrap();
        assert!(upper.join("new").exists());
        drop((made, mount));
        assert_eq!(std::fs::read_to_string("/proc/self/mounts").unwrap(), mounts);
        let missing = RootFs { lowers: vec![folder.join("a"), folder.join("upper/new")], upper: None };
        assert!(matches!(layers(&missing, "/", None), Err(Error::MountSource { .. })));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
