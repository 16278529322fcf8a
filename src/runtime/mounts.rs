//! The parent's part of a container's mounts: opens every source, prepares detached mounts, lists the steps.
//!
//! Sources are opened and cloned here, in the host's view, so that their errors carry host paths and their
//! propagation is the host's; file systems that belong to the child's namespaces (proc, sysfs, mqueue, cgroup) are
//! made by the child.
//!
//! Source: fsopen(2), open_tree(2), mount_setattr(2); the list of mounts and their options is Docker's.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::ids::Ids;
use super::launch::{Launch, ResolvedMount, ResolvedSource};
use super::layers::layers;
use super::plan::{MountAction, MountStep, NewMount};
use super::{Error, propagation, root};
use crate::model::container::NamespaceMode;
use crate::sys::mount::{self, MountAttributes, NODEV, NOEXEC, NOSUID, RDONLY, STRICTATIME};

const SECURE: u64 = NOSUID | NODEV | NOEXEC;

/// The steps of a container's mounts with their names.
#[derive(Default)]
pub(super) struct Mounts {
    /// What is made, in this order.
    pub steps: Vec<MountStep>,
    /// What is mounted and where, one for each step.
    pub names: Vec<(String, String)>,
    /// The container's own devpts, for its terminal.
    pub terminals: Option<OwnedFd>,
    /// Whether /dev is ours to fill.
    pub own_dev: bool,
    /// A /dev that was made here, for device nodes that the child may not make.
    pub dev: Option<OwnedFd>,
}

impl Mounts {
    pub(super) fn push(&mut self, target: &str, what: impl Into<String>, action: MountAction) -> Result<(), Error> {
        self.steps.push(MountStep { target: c_string(target)?, action });
        self.names.push((what.into(), target.to_owned()));
        Ok(())
    }

    /// As [`Self::attach`], and the mount is made anew when its turn comes: kernels since 6.8 list mounts in the order
    /// in which they were made, and some read the list.
    pub(super) fn attach_in_order(&mut self, target: &str, what: String, source: Source) -> Result<(), Error> {
        // Only a folder can be attached aside for a moment.
        let subpath = source.is_folder.then(|| c".".into());
        self.push(target, what, MountAction::Attach { mount: source.mount, is_folder: source.is_folder, subpath })
    }

    pub(super) fn attach(&mut self, target: &str, what: String, source: Source) -> Result<(), Error> {
        self.push(target, what, MountAction::Attach { mount: source.mount, is_folder: source.is_folder, subpath: None })
    }
}

/// A detached mount.
pub(super) struct Source {
    pub mount: OwnedFd,
    pub is_folder: bool,
}

/// Text as the kernel takes it.
pub(super) fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Nul { text: text.replace('\0', "\\0") })
}

/// Lists and prepares all mounts of a container.
pub(super) fn plan(launch: &Launch<'_>, ids: Option<&Ids>) -> Result<Mounts, Error> {
    let mut mounts = Mounts::default();
    // A mount of the user's takes the place of ours.
    let is_ours = |target: &str| !launch.mounts.iter().any(|mount| normal(&mount.target) == target);
    mounts.own_dev = is_ours("/dev");
    base_mounts(launch, ids, &mut mounts, &is_ours)?;
    if is_ours("/sys/fs/cgroup") && is_ours("/sys") {
        cgroup_mounts(launch, ids, &mut mounts)?;
    }
    if mounts.own_dev {
        for (name, content) in DEVICE_LINKS {
            let link = MountAction::Link { name: c_string(name)?, content: c_string(content)? };
            mounts.push("/dev", format!("the link {name}"), link)?;
        }
    }
    user_mounts(launch, ids, &mut mounts)?;
    Ok(mounts)
}

/// Links that every /dev has.
const DEVICE_LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Names and targets of the links that every /dev has.
pub(super) fn device_links() -> [(&'static str, &'static str); 6] {
    DEVICE_LINKS
}

/// `/a//b/` as `/a/b`.
pub(super) fn normal(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        normal.push('/');
        normal.push_str(part);
    }
    normal
}

fn new(file_system: &'static CStr, attributes: u64, options: &[(&str, &str)]) -> Result<MountAction, Error> {
    let options = options.iter().map(|(key, value)| Ok((c_string(key)?, Some(c_string(value)?))));
    Ok(MountAction::New(NewMount {
        file_system: file_system.into(),
        source: CString::default(),
        options: options.collect::<Result<_, Error>>()?,
        attributes,
        optional: file_system == c"mqueue",
    }))
}

fn base_mounts(
    launch: &Launch<'_>,
    ids: Option<&Ids>,
    mounts: &mut Mounts,
    is_ours: &dyn Fn(&str) -> bool,
) -> Result<(), Error> {
    let security = &launch.spec.security;
    if is_ours("/proc") {
        mounts.push("/proc", "proc", new(c"proc", SECURE, &[])?)?;
    }
    if is_ours("/dev") {
        let options = [("mode", "755"), ("size", "65536k")];
        match ids {
            None => mounts.push("/dev", "tmpfs", new(c"tmpfs", NOSUID | STRICTATIME, &options)?)?,
            Some(ids) => devices(ids, &options, mounts)?,
        }
    }
    if is_ours("/dev/pts") {
        terminals(ids, mounts)?;
    }
    if is_ours("/sys") {
        let read_only = if security.privileged { 0 } else { RDONLY };
        mounts.push("/sys", "sysfs", new(c"sysfs", SECURE | read_only, &[])?)?;
    }
    let shares_host = security.ipc == NamespaceMode::Host;
    if is_ours("/dev/mqueue") {
        if !shares_host {
            mounts.push("/dev/mqueue", "mqueue", new(c"mqueue", SECURE, &[])?)?;
        } else if Path::new("/dev/mqueue").is_dir() {
            bind_host(mounts, Path::new("/dev/mqueue"), "/dev/mqueue")?;
        }
    }
    if is_ours("/dev/shm") {
        match &security.ipc {
            NamespaceMode::Private => {
                let size = launch.spec.shm_size_bytes.to_string();
                let options = [("mode", "1777"), ("size", size.as_str())];
                mounts.push("/dev/shm", "tmpfs", new(c"tmpfs", SECURE, &options)?)?;
            }
            NamespaceMode::Host => bind_host(mounts, Path::new("/dev/shm"), "/dev/shm")?,
            NamespaceMode::Container(_) => {
                mounts.push("/dev/shm", "the shared /dev/shm", MountAction::AttachSharedMemory)?;
            }
        }
    }
    Ok(())
}

/// A /dev that root of a user namespace owns, with nodes that it could not make itself.
fn devices(ids: &Ids, options: &[(&str, &str)], mounts: &mut Mounts) -> Result<(), Error> {
    let refused = |errno| mount_error("tmpfs", "/dev", errno);
    let made = (|| {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", "tmpfs")?;
        for (key, value) in options {
            rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
        }
        finish(context.as_fd(), NOSUID | STRICTATIME)
    })()
    .map_err(refused)?;
    let (uid, gid) = ids.on_host(0, 0)?;
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(&made, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(refused)?;
    mounts.dev = Some(duplicate(&made).map_err(refused)?);
    mounts.attach("/dev", "tmpfs".into(), Source { mount: made, is_folder: true })
}

fn duplicate(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(file, 3)
}

/// A devpts of the container's own, made here so that the master of its terminal can be opened here.
fn terminals(ids: Option<&Ids>, mounts: &mut Mounts) -> Result<(), Error> {
    const TARGET: &str = "/dev/pts";
    /// `tty` in every distribution.
    const GROUP: u32 = 5;
    let refused = |errno| mount_error("devpts", TARGET, errno);
    let owner = ids.map(|ids| ids.on_host(0, 0)).transpose()?;
    let group = ids.map_or(Ok(GROUP), |ids| ids.on_host(0, GROUP).map(|(_, group)| group))?.to_string();
    let options = [("newinstance", None), ("ptmxmode", Some("0666")), ("mode", Some("0620")), ("gid", Some(&*group))];
    let made = (|| {
        let context = rustix::mount::fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", "devpts")?;
        for (key, value) in options {
            match value {
                Some(value) => rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?,
                None => rustix::mount::fsconfig_set_flag(context.as_fd(), key)?,
            }
        }
        let made = finish(context.as_fd(), NOSUID | NOEXEC)?;
        if let Some((uid, gid)) = owner {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            rustix::fs::chownat(&made, c"", uid, gid, AtFlags::EMPTY_PATH)?;
            rustix::fs::chownat(&made, c"ptmx", uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(made)
    })()
    .map_err(refused)?;
    mounts.terminals = Some(duplicate(&made).map_err(refused)?);
    mounts.attach(TARGET, "devpts".into(), Source { mount: made, is_folder: true })
}

pub(super) fn finish(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd, Errno> {
    rustix::mount::fsconfig_create(context)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn cgroup_mounts(launch: &Launch<'_>, ids: Option<&Ids>, mounts: &mut Mounts) -> Result<(), Error> {
    const TARGET: &str = "/sys/fs/cgroup";
    if ids.is_some() && launch.spec.security.cgroup == NamespaceMode::Host {
        // Only who owns the namespace may mount it anew.
        let source = bind(Path::new(TARGET), &Bind { recursive: true, read_only: true, ..Bind::default() }, TARGET)?;
        return mounts.attach(TARGET, "the host's control groups".into(), source);
    }
    let privileged = launch.spec.security.privileged;
    let read_only = if privileged { 0 } else { RDONLY };
    let Some(hierarchies) = launch.cgroup.hierarchies() else {
        return mounts.push(TARGET, "cgroup2", new(c"cgroup2", SECURE | read_only, &[])?);
    };
    mounts.push(TARGET, "tmpfs", new(c"tmpfs", SECURE, &[("mode", "755"), ("size", "1m")])?)?;
    for hierarchy in hierarchies {
        let flags = hierarchy
            .options
            .iter()
            .map(|(key, value)| Ok((c_string(key)?, value.as_deref().map(c_string).transpose()?)));
        let action = MountAction::New(NewMount {
            file_system: c"cgroup".into(),
            source: CString::default(),
            options: flags.collect::<Result<_, Error>>()?,
            attributes: SECURE | read_only,
            optional: false,
        });
        mounts.push(&format!("{TARGET}/{}", hierarchy.folder), format!("cgroup {}", hierarchy.folder), action)?;
        for link in hierarchy.links() {
            let action = MountAction::Link { name: c_string(link)?, content: c_string(&hierarchy.folder)? };
            mounts.push(TARGET, format!("the link {link}"), action)?;
        }
    }
    if !privileged {
        mounts.push(TARGET, "tmpfs", MountAction::Protect)?;
    }
    Ok(())
}

fn bind_host(mounts: &mut Mounts, path: &Path, target: &str) -> Result<(), Error> {
    let source = bind(path, &Bind::default(), target)?;
    mounts.attach(target, path.display().to_string(), source)
}

/// The files of /etc and the user's mounts, those nearer to the root first.
fn user_mounts(launch: &Launch<'_>, ids: Option<&Ids>, mounts: &mut Mounts) -> Result<(), Error> {
    enum Wish<'a> {
        Etc(&'a Path, &'static str),
        User(&'a ResolvedMount),
    }
    let etc = [
        (&launch.etc.hosts, "/etc/hosts"),
        (&launch.etc.resolv_conf, "/etc/resolv.conf"),
        (&launch.etc.hostname, "/etc/hostname"),
    ];
    let mut wishes: Vec<(usize, Wish<'_>)> = Vec::new();
    for (path, target) in etc {
        if let Some(path) = path {
            wishes.push((2, Wish::Etc(path, target)));
        }
    }
    for user in &launch.mounts {
        wishes.push((normal(&user.target).matches('/').count(), Wish::User(user)));
    }
    wishes.sort_by_key(|(depth, _)| *depth);
    for (_, wish) in wishes {
        match wish {
            Wish::Etc(path, target) => {
                let source = bind(path, &Bind { ids, ..Bind::default() }, target)?;
                mounts.attach(target, path.display().to_string(), source)?;
            }
            Wish::User(user) => user_mount(user, ids, mounts)?,
        }
    }
    Ok(())
}

fn user_mount(user: &ResolvedMount, ids: Option<&Ids>, mounts: &mut Mounts) -> Result<(), Error> {
    let target = &user.target;
    if normal(target).is_empty() {
        // What lies on the root would not be the root.
        return Err(Error::Unknown { kind: "place for a mount", name: target.clone() });
    }
    match &user.source {
        ResolvedSource::Bind { path, subpath, propagation, recursive, map_owners } => {
            let wish = Bind {
                subpath: subpath.as_deref(),
                propagation: propagation.as_deref(),
                recursive: *recursive,
                read_only: user.read_only,
                ids: ids.filter(|_| *map_owners),
            };
            let source = bind(path, &wish, target)?;
            mounts.attach(target, path.display().to_string(), source)
        }
        ResolvedSource::Tmpfs { size_bytes, mode, options } => {
            let action = tmpfs(*size_bytes, *mode, options, user.read_only, target)?;
            mounts.push(target, "tmpfs", action)
        }
        ResolvedSource::Layers { stack, subpath } => {
            let mount = layers(stack, target, ids)?;
            detached_mount(user, mount, "the layers", subpath.as_deref(), mounts)
        }
        ResolvedSource::FileSystem { kind, device, options, subpath } => {
            let refused = |errno| mount_error(&format!("{kind} {device}"), target, errno);
            let mount = file_system(kind, device, options).map_err(refused)?;
            detached_mount(user, mount, kind, subpath.as_deref(), mounts)
        }
    }
}

/// Mounts a file system with options as mount(2) has them, attached nowhere. `place` is where it is to go, for errors.
pub fn mount_file_system(kind: &str, device: &str, options: &[&str], place: &Path) -> Result<OwnedFd, Error> {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    file_system(kind, device, &options).map_err(|errno| mount_error(kind, &place.display().to_string(), errno))
}

/// The same.
fn file_system(kind: &str, device: &str, options: &[String]) -> Result<OwnedFd, Errno> {
    use rustix::mount::{FsOpenFlags, fsconfig_set_flag, fsconfig_set_string, fsopen};
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !device.is_empty() {
        fsconfig_set_string(&context, "source", device)?;
    }
    let mut attributes = 0;
    for option in options {
        match (apply_flag(attributes, option), option.split_once('=')) {
            (Some(changed), _) => attributes = changed,
            (None, Some((key, value))) => fsconfig_set_string(&context, key, value)?,
            (None, None) => fsconfig_set_flag(&context, option.as_str())?,
        }
        if matches!(option.as_str(), "ro" | "rw") {
            // Of the file system itself, too: a device that is read-only can be mounted no other way.
            fsconfig_set_flag(&context, option.as_str())?;
        }
    }
    finish(context.as_fd(), attributes)
}

fn detached_mount(
    user: &ResolvedMount,
    mount: OwnedFd,
    what: &str,
    subpath: Option<&str>,
    mounts: &mut Mounts,
) -> Result<(), Error> {
    let target = &user.target;
    let what = subpath.map_or(what.to_owned(), |subpath| format!("`{subpath}` of {what}"));
    let refused = |errno: Errno| mount_error(&what, target, errno);
    let is_folder = match subpath {
        Some(subpath) => {
            let place = root::open_in_root(mount.as_fd(), Path::new(subpath), OFlags::PATH, Mode::empty());
            is_folder(place.map_err(refused)?.as_fd()).map_err(refused)?
        }
        None => true,
    };
    let set = if user.read_only { RDONLY } else { 0 };
    mount::set_attributes(mount.as_fd(), MountAttributes { set, ..Default::default() }, false).map_err(refused)?;
    let subpath = subpath.map(c_string).transpose()?;
    mounts.push(target, what, MountAction::Attach { mount, is_folder, subpath })
}

pub(super) fn is_folder(place: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = rustix::fs::fstat(place)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}

pub(super) fn mount_error(what: &str, target: &str, errno: Errno) -> Error {
    Error::Mount { what: what.to_owned(), target: target.to_owned(), source: errno.into() }
}

/// How a path of the host is mounted.
#[derive(Default)]
struct Bind<'a> {
    /// A path below it that is meant.
    subpath: Option<&'a str>,
    propagation: Option<&'a str>,
    recursive: bool,
    read_only: bool,
    /// Whose owners its files have inside.
    ids: Option<&'a Ids>,
}

fn bind(path: &Path, wish: &Bind<'_>, target: &str) -> Result<Source, Error> {
    let Bind { subpath, propagation, recursive, read_only, ids } = *wish;
    let refused =
        |errno: Errno| Error::MountSource { path: path.to_owned(), target: target.to_owned(), source: errno.into() };
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(refused)?;
    let place = match subpath {
        Some(subpath) => {
            root::open_in_root(place.as_fd(), Path::new(subpath), OFlags::PATH, Mode::empty()).map_err(refused)?
        }
        None => place,
    };
    let is_folder = is_folder(place.as_fd()).map_err(refused)?;
    let mount = mount::clone_tree(place.as_fd(), c"", recursive).map_err(refused)?;
    let unknown = |name: &str| Error::MountOption { option: name.to_owned(), target: target.to_owned() };
    let propagation = propagation::flag(propagation).ok_or_else(|| unknown(propagation.unwrap_or_default()))?;
    propagation::check(propagation, place.as_fd(), path)?;
    let set = if read_only { RDONLY } else { 0 };
    let attributes = MountAttributes { set, propagation, ..Default::default() };
    // Submounts too: a writable one below a read-only mount is not what anybody asks for.
    mount::set_attributes(mount.as_fd(), attributes, true).map_err(refused)?;
    if let Some(ids) = ids {
        let refused = |errno: Errno| Error::MapOwners { path: path.to_owned(), source: errno.into() };
        mount::map_owners(mount.as_fd(), ids.as_fd(), recursive).map_err(refused)?;
    }
    Ok(Source { mount, is_folder })
}

/// A tmpfs with options as `mount -o` has them.
fn tmpfs(
    size_bytes: Option<u64>,
    mode: Option<u32>,
    options: &[String],
    read_only: bool,
    target: &str,
) -> Result<MountAction, Error> {
    let mut attributes = SECURE | if read_only { RDONLY } else { 0 };
    let mut values: Vec<(String, String)> = Vec::new();
    if let Some(size) = size_bytes.filter(|size| *size > 0) {
        values.push(("size".into(), size.to_string()));
    }
    values.push(("mode".into(), format!("{:o}", mode.unwrap_or(0o1777))));
    for option in options.iter().flat_map(|list| list.split(',')).filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((key @ ("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "huge" | "mpol"), value)) => {
                values.push((key.to_owned(), value.to_owned()));
            }
            None => attributes = apply_flag(attributes, option).ok_or_else(|| unknown_option(option, target))?,
            Some(_) => return Err(unknown_option(option, target)),
        }
    }
    let values: Vec<(&str, &str)> = values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    new(c"tmpfs", attributes, &values)
}

fn unknown_option(option: &str, target: &str) -> Error {
    Error::MountOption { option: option.to_owned(), target: target.to_owned() }
}

/// Attributes after one flag of `mount -o`; `None` for one that does not exist.
fn apply_flag(attributes: u64, flag: &str) -> Option<u64> {
    Some(match flag {
        "ro" => attributes | RDONLY,
        "rw" => attributes & !RDONLY,
        "nosuid" => attributes | NOSUID,
        "suid" => attributes & !NOSUID,
        "nodev" => attributes | NODEV,
        "dev" => attributes & !NODEV,
        "noexec" => attributes | NOEXEC,
        "exec" => attributes & !NOEXEC,
        "noatime" => (attributes & !mount::ATIME_MASK) | mount::NOATIME,
        "strictatime" => (attributes & !mount::ATIME_MASK) | STRICTATIME,
        "relatime" => attributes & !mount::ATIME_MASK,
        "defaults" | "private" | "rprivate" => attributes,
        _ => return None,
    })
}
