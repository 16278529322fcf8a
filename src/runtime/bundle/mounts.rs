//! The mounts and devices of a bundle as steps of the child.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::FsOpenFlags;

use super::config::{Config, Device, Mount};
use super::options::Options;
use super::{Bundle, Error, refused};
use crate::base::copy;
use crate::runtime::mounts::{Mounts, Source, c_string, device_links, finish, is_folder, mount_error, normal};
use crate::runtime::plan::{Below, MountAction, NewMount, Node, SystemPath};
use crate::runtime::{Cgroup, Hierarchy, defaults, root};
use crate::sys::mount::{self, MountAttributes, RDONLY};

/// Where control groups are shown, unless the bundle says otherwise.
const DEV: &str = "/dev";

/// The mounts of a bundle, and what hangs on them.
pub(super) struct BundleMounts {
    /// Steps, names and the container's terminals.
    pub mounts: Mounts,
    /// Whether /dev is made read-only at the end.
    pub dev_read_only: bool,
}

/// Lists and prepares the mounts of `bundle`, whose root is open as `tree`.
pub(super) fn plan(bundle: &Bundle, cgroup: &Cgroup, tree: BorrowedFd<'_>) -> Result<BundleMounts, Error> {
    let config = &bundle.config;
    let mut made = BundleMounts { mounts: Mounts::default(), dev_read_only: false };
    made.mounts.own_dev = true;
    let own_cgroups = config.linux.namespaces.iter().any(|one| one.kind == "cgroup" && one.path.as_os_str().is_empty());
    for (number, wish) in config.mounts.iter().enumerate() {
        if wish.destination.is_empty() {
            return refused(&format!("mounts[{number}].destination"), "it is empty");
        }
        // Older versions of the specification allowed what is relative to the root.
        let target = format!("/{}", wish.destination.trim_start_matches('/'));
        let mut options = Options::parse(&wish.options, &wish.kind, number)?;
        if normal(&target) == DEV {
            made.mounts.own_dev = !options.bind;
            if options.set & RDONLY != 0 && !options.bind {
                options.set &= !RDONLY;
                made.dev_read_only = true;
            }
        }
        let mounts = &mut made.mounts;
        match wish.kind.as_str() {
            _ if options.bind => bind(bundle, wish, &target, &options, mounts)?,
            "cgroup" | "cgroup2" => cgroups(cgroup, own_cgroups, &target, &options, mounts)?,
            "devpts" => terminals(&target, &options, mounts)?,
            "" | "none" => return refused(&format!("mounts[{number}].type"), "neither a file system nor a bind mount"),
            "tmpfs" if options.copy_up => filled_tmpfs(tree, &target, &options, mounts)?,
            kind => {
                let action = new(kind, &wish.source, &options)?;
                mounts.push(&target, kind, action)?;
            }
        }
        for flags in &options.propagation {
            mounts.push(&target, wish.kind.as_str(), MountAction::Propagate(*flags))?;
        }
    }
    if made.mounts.own_dev {
        for (name, content) in device_links() {
            let link = MountAction::Link { name: c_string(name)?, content: c_string(content)? };
            made.mounts.push(DEV, format!("the link {name}"), link)?;
        }
    }
    Ok(made)
}

/// A file system that the child makes in its namespaces.
fn new(kind: &str, source: &str, options: &Options) -> Result<MountAction, Error> {
    let data =
        options.data.iter().map(|(key, value)| Ok((c_string(key)?, value.as_deref().map(c_string).transpose()?)));
    Ok(MountAction::New(NewMount {
        file_system: c_string(kind)?.into(),
        source: c_string(source)?,
        options: data.collect::<Result<_, Error>>()?,
        attributes: options.set | options.set_recursive,
        optional: kind == "mqueue",
    }))
}

/// A path of the host.
fn bind(bundle: &Bundle, wish: &Mount, target: &str, options: &Options, mounts: &mut Mounts) -> Result<(), Error> {
    let path = bundle.folder.join(&wish.source);
    let failed = |errno: Errno| {
        Error::Runtime(crate::runtime::Error::MountSource {
            path: path.clone(),
            target: target.to_owned(),
            source: errno.into(),
        })
    };
    let place = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let is_folder = is_folder(place.as_fd()).map_err(failed)?;
    let copy = mount::clone_tree(place.as_fd(), c"", options.recursive).map_err(failed)?;
    let own = MountAttributes { set: options.set, clear: options.clear, ..Default::default() };
    // Without a word, nothing that happens in the container shows on the host, and the reverse.
    let propagation = if options.propagation.is_empty() { libc::MS_PRIVATE } else { 0 };
    let all = MountAttributes {
        set: options.set_recursive,
        clear: options.clear_recursive,
        propagation,
        ..Default::default()
    };
    mount::set_attributes(copy.as_fd(), all, true).map_err(failed)?;
    mount::set_attributes(copy.as_fd(), own, false).map_err(failed)?;
    mounts.attach_in_order(target, path.display().to_string(), Source { mount: copy, is_folder })?;
    Ok(())
}

fn context(kind: &'static str, options: &Options) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", kind)?;
    for (key, value) in &options.data {
        match value {
            Some(value) => rustix::mount::fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str())?,
            None => rustix::mount::fsconfig_set_flag(context.as_fd(), key.as_str())?,
        }
    }
    finish(context.as_fd(), options.set | options.set_recursive)
}

/// A devpts, made here so that the master of the container's terminal can be opened here.
fn terminals(target: &str, options: &Options, mounts: &mut Mounts) -> Result<(), Error> {
    let failed = |errno: Errno| mount_error("devpts", target, errno);
    let made = context("devpts", options).map_err(failed)?;
    if normal(target) == "/dev/pts" {
        mounts.terminals = Some(made.try_clone().map_err(|_| failed(Errno::MFILE))?);
    }
    mounts.attach_in_order(target, "devpts".into(), Source { mount: made, is_folder: true })?;
    Ok(())
}

/// A tmpfs with a copy of what the root has at its target.
fn filled_tmpfs(tree: BorrowedFd<'_>, target: &str, options: &Options, mounts: &mut Mounts) -> Result<(), Error> {
    let failed = |errno: Errno| mount_error("tmpfs", target, errno);
    let (mut options, attributes) = (options.clone(), options.set | options.set_recursive);
    // Written to before it is protected.
    (options.set, options.set_recursive) = (0, 0);
    let made = context("tmpfs", &options).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match root::open_in_root(tree, Path::new(target), flags, Mode::empty()) {
        Ok(from) => {
            let to = rustix::fs::openat(&made, c".", flags | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
            let has_mode = options.data.iter().any(|(key, _)| matches!(key.as_str(), "mode" | "uid" | "gid"));
            copy::tree(&from, &to, !has_mode).map_err(failed)?;
        }
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(errno) => return Err(failed(errno).into()),
    }
    let set = MountAttributes { set: attributes, ..Default::default() };
    mount::set_attributes(made.as_fd(), set, false).map_err(failed)?;
    mounts.attach_in_order(target, "tmpfs".into(), Source { mount: made, is_folder: true })?;
    Ok(())
}

/// The container's control groups: in a namespace of its own the whole tree, which begins there, else its own folders.
fn cgroups(cgroup: &Cgroup, own: bool, target: &str, options: &Options, mounts: &mut Mounts) -> Result<(), Error> {
    let is_unified = cgroup.is_unified();
    if !is_unified {
        let tmpfs = Options { set: options.set & !RDONLY, data: Vec::new(), ..options.clone() };
        let action = match new("tmpfs", "tmpfs", &tmpfs)? {
            MountAction::New(new) => MountAction::New(NewMount {
                options: vec![(c"mode".into(), Some(c"755".into())), (c"size".into(), Some(c"1m".into()))],
                ..new
            }),
            other => other,
        };
        mounts.push(target, "tmpfs", action)?;
    }
    for (folder, hierarchy) in cgroup.folders() {
        let place = hierarchy.map_or_else(|| target.to_owned(), |one| format!("{target}/{}", one.folder));
        let what = format!("the control groups at {}", folder.display());
        if own {
            mounts.push(&place, what, cgroup_action(hierarchy, options)?)?;
        } else {
            let failed = |errno| mount_error(&what, &place, errno);
            let opened = root::open_root(&folder).map_err(failed)?;
            let copy = mount::clone_tree(opened.as_fd(), c"", false).map_err(failed)?;
            let attributes = MountAttributes { set: options.set, propagation: libc::MS_PRIVATE, ..Default::default() };
            mount::set_attributes(copy.as_fd(), attributes, false).map_err(failed)?;
            mounts.attach_in_order(&place, what, Source { mount: copy, is_folder: true })?;
        }
        for link in hierarchy.iter().flat_map(|one| one.links()) {
            let content = hierarchy.map(|one| one.folder.as_str()).unwrap_or_default();
            let action = MountAction::Link { name: c_string(link)?, content: c_string(content)? };
            mounts.push(target, format!("the link {link}"), action)?;
        }
    }
    if !is_unified && options.set & RDONLY != 0 {
        mounts.push(target, "tmpfs", MountAction::Protect)?;
    }
    Ok(())
}

fn cgroup_action(hierarchy: Option<&Hierarchy>, options: &Options) -> Result<MountAction, Error> {
    let data: Vec<(CString, Option<CString>)> = match hierarchy {
        Some(one) => {
            let data = one
                .options
                .iter()
                .map(|(key, value)| Ok((c_string(key)?, value.as_deref().map(c_string).transpose()?)));
            data.collect::<Result<_, Error>>()?
        }
        None => Vec::new(),
    };
    Ok(MountAction::New(NewMount {
        file_system: if hierarchy.is_some() { c"cgroup".into() } else { c"cgroup2".into() },
        source: CString::default(),
        options: data,
        attributes: options.set,
        optional: false,
    }))
}

/// The nodes of a bundle, which take the place of the usual ones of the same name, with their paths.
pub(super) fn nodes(config: &Config, own_dev: bool) -> Result<(Vec<Node>, Vec<String>), Error> {
    let mut nodes = Vec::new();
    for (number, device) in config.linux.devices.iter().enumerate() {
        nodes.push(node(device, &format!("linux.devices[{number}]"))?);
    }
    if own_dev {
        for usual in defaults::default_nodes()? {
            if !nodes.iter().any(|node: &Node| node.folder == usual.folder && node.name == usual.name) {
                nodes.push(usual);
            }
        }
    }
    let path = |node: &Node| format!("{}/{}", node.folder.to_string_lossy(), node.name.to_string_lossy());
    let names = nodes.iter().map(path).collect();
    Ok((nodes, names))
}

fn node(device: &Device, field: &str) -> Result<Node, Error> {
    let file_type = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return refused(&format!("{field}.type"), &format!("`{other}` is none of c, u, b, p")),
    };
    let path = Path::new(&device.path);
    let (Some(folder), Some(name), true) = (path.parent(), path.file_name(), path.is_absolute()) else {
        return refused(&format!("{field}.path"), &format!("`{}` is not the absolute path of a file", device.path));
    };
    let number = |number: i64, part: &str| {
        u32::try_from(number)
            .or_else(|_| refused(&format!("{field}.{part}"), &format!("{number} is no number of a device")))
    };
    let device_number = match file_type {
        FileType::Fifo => 0,
        _ => makedev(number(device.major, "major")?, number(device.minor, "minor")?),
    };
    Ok(Node {
        folder: c_string(&folder.to_string_lossy())?,
        name: c_string(&name.to_string_lossy())?,
        file_type,
        mode: device.file_mode.unwrap_or(0o666) & 0o7777,
        device: device_number,
        owner: (device.uid, device.gid),
    })
}

/// Paths to hide or protect. Where /proc or /sys is not a file system of the bundle's own, they are found as inside.
pub(super) fn system_paths(config: &Config, paths: &[String]) -> Result<Vec<SystemPath>, Error> {
    let has = |kind: &str, target: &str| {
        config.mounts.iter().any(|mount| mount.kind == kind && normal(&mount.destination) == target)
    };
    let path = |path: &String| {
        let found = defaults::system_path(path)?;
        let is_own = match found.below {
            Below::Proc => has("proc", "/proc"),
            Below::Sys => has("sysfs", "/sys"),
            Below::Root => true,
        };
        if is_own { Ok(found) } else { Ok(SystemPath { below: Below::Root, path: c_string(path)? }) }
    };
    paths.iter().map(path).collect()
}
