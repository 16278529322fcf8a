//! One test an attack, and what honest archives ask for.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::layer::unpack_layer;
use super::unpack::{Limits, unpack};
use super::{Error, Result};
use crate::store::testing::Folder;

/// An archive written by hand, hostile where the test wants it.
#[derive(Default)]
pub(super) struct Archive(pub(super) Vec<u8>);

impl Archive {
    pub(super) fn entry(mut self, kind: tar::EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        self.raw(&mut header, content);
        self
    }

    fn raw(&mut self, header: &mut tar::Header, content: &[u8]) {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(super) fn file(self, name: &str, content: &str) -> Self {
        self.entry(tar::EntryType::Regular, name, "", content.as_bytes())
    }

    pub(super) fn folder(self, name: &str) -> Self {
        self.entry(tar::EntryType::Directory, name, "", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Symlink, name, target, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(tar::EntryType::Link, name, target, b"")
    }

    pub(super) fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
            content.extend(format!("{length} {key}={value}\n").bytes());
        }
        self.entry(tar::EntryType::XHeader, "pax", "", &content)
    }

    pub(super) fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    fn unpacked(self) -> (Folder, PathBuf, Result<u64>) {
        let folder = Folder::new();
        let root = folder.path().join("root");
        std::fs::create_dir(&root).unwrap();
        // What an attack would reach.
        std::fs::write(folder.path().join("victim"), "untouched").unwrap();
        let result = unpack(&self.bytes()[..], &root, &Limits::default());
        let victim = folder.path().join("victim");
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "something was made outside");
        (folder, root, result)
    }

    fn refused(self) -> String {
        match self.unpacked().2 {
            Err(error @ Error::RefusedEntry { .. }) => error.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn accepted(self) -> (Folder, PathBuf) {
        let (folder, root, result) = self.unpacked();
        result.unwrap();
        (folder, root)
    }
}

fn text(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_name_with_dots_is_refused() {
    for name in ["../victim", "a/../../victim", "..", "a/.."] {
        assert!(Archive::default().file(name, "x").refused().contains(".."));
    }
}

#[test]
fn an_absolute_name_means_the_folder() {
    let (_folder, root) = Archive::default().file("/etc/../../victim".replace("../../", "").as_str(), "x").accepted();
    assert_eq!(text(root.join("etc/victim")), "x");
}

#[test]
fn a_file_through_a_link_stays_inside() {
    // The parent is a link to a folder outside: seen from the root it leads to nothing.
    Archive::default().symlink("out", "..").file("out/victim", "x").accepted();
    Archive::default().symlink("out", "../..").symlink("two", "out/..").file("two/victim", "x").accepted();
    Archive::default().symlink("out", "/tmp").file("out/victim", "x").refused();
    Archive::default().symlink("out", "/proc/self/root").file("out/victim", "x").refused();
    Archive::default().symlink("a", "b").symlink("b", "a").file("a/x", "x").refused();
}

#[test]
fn a_file_in_the_place_of_a_link_replaces_it() {
    let (folder, root) = Archive::default().symlink("x", "../victim").file("x", "new").accepted();
    assert!(root.join("x").symlink_metadata().unwrap().is_file());
    assert_eq!((text(root.join("x")).as_str(), text(folder.path().join("victim")).as_str()), ("new", "untouched"));
}

#[test]
fn a_folder_in_the_place_of_a_link_replaces_it() {
    let (_folder, root) = Archive::default().symlink("d", "..").folder("d").file("d/victim", "x").accepted();
    assert!(root.join("d").symlink_metadata().unwrap().is_dir());
    assert_eq!(text(root.join("d/victim")), "x");
}

#[test]
fn a_hard_link_out_is_refused() {
    Archive::default().hard_link("x", "../victim").refused();
    Archive::default().hard_link("x", "/etc/passwd").refused();
    Archive::default().symlink("out", "..").hard_link("x", "out/victim").refused();
    Archive::default().file("x", "").hard_link("x", "x").refused();
    // A link to a link is a second name of the link itself, not of its target.
    let (folder, root) = Archive::default().symlink("s", "../victim").hard_link("x", "s").file("x", "new").accepted();
    assert_eq!(text(root.join("x")), "new");
    assert_eq!(text(folder.path().join("victim")), "untouched");
}

#[test]
fn a_whiteout_of_dots_is_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        Archive::default().folder("a").file(name, "").refused();
    }
}

#[test]
fn a_redirect_of_overlayfs_is_dropped() {
    let archive = Archive::default()
        .pax(&[("SCHILY.xattr.trusted.overlay.redirect", "/other"), ("SCHILY.xattr.user.note", "kept")])
        .folder("d");
    let (_folder, root) = archive.accepted();
    let mut value = [0u8; 64];
    assert!(rustix::fs::getxattr(root.join("d"), "trusted.overlay.redirect", &mut value[..]).is_err());
    assert_eq!(rustix::fs::getxattr(root.join("d"), "user.note", &mut value[..]), Ok(4));
}

#[test]
fn long_records_do_not_fill_the_memory() {
    let mut archive = Archive::default();
    for kind in [tar::EntryType::XHeader, tar::EntryType::GNULongName] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(1 << 40);
        archive = Archive::default();
        archive.raw(&mut header, b"");
        let result = unpack(&archive.0[..], Folder::new().path(), &Limits::default());
        assert!(matches!(result, Err(Error::DamagedArchive { .. })), "{result:?}");
    }
    drop(archive);
}

#[test]
fn limits_hold() {
    let folder = Folder::new();
    let bytes = Archive::default().file("a", "1").file("b", "22").folder("c/d/e").bytes();
    let limits = Limits { entries: 2, ..Limits::default() };
    assert!(unpack(&bytes[..], folder.path(), &limits).is_err());
    let limits = Limits { bytes: 2, ..Limits::default() };
    assert!(unpack(&bytes[..], folder.path(), &limits).is_err());
    let limits = Limits { depth: 2, ..Limits::default() };
    assert!(unpack(&bytes[..], folder.path(), &limits).is_err());
    assert_eq!(unpack(&bytes[..], folder.path(), &Limits::default()).unwrap(), 3);
}

#[test]
fn a_size_in_a_pax_record_counts_everywhere() {
    // Readers that go on by the header's size (0) would take the content for entries.
    let inner = Archive::default().file("smuggled", "x").bytes();
    let mut archive = Archive::default().pax(&[("size", &inner.len().to_string())]);
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..4].copy_from_slice(b"file");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    archive.raw(&mut header, &inner);
    let (_folder, root) = archive.accepted();
    assert_eq!(std::fs::read(root.join("file")).unwrap(), inner);
    assert!(!root.join("smuggled").exists());
}

#[test]
fn whiteouts_become_marks_of_overlayfs() {
    let archive = Archive::default()
        .folder("d")
        .file("d/.wh.gone", "")
        .file("d/.wh..wh..opq", "")
        .file("d/.wh..wh.plnk", "")
        .file(".wh.again", "")
        .folder("again")
        .file("late", "here")
        .file(".wh.late", "");
    let (_folder, root) = archive.accepted();
    let gone = root.join("d/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0u8; 8];
    assert_eq!(rustix::fs::getxattr(root.join("d"), "trusted.overlay.opaque", &mut value[..]), Ok(1));
    assert_eq!(rustix::fs::getxattr(root.join("again"), "trusted.overlay.opaque", &mut value[..]), Ok(1));
    assert_eq!(text(root.join("late")), "here");
    assert_eq!(std::fs::read_dir(root.join("d")).unwrap().count(), 1);
}

#[test]
fn attributes_owners_times_and_kinds_are_kept() {
    let folder = Folder::new();
    let source = folder.path().join("source");
    std::fs::create_dir_all(source.join("dir")).unwrap();
    let tool = source.join("dir/tool");
    std::fs::write(&tool, "#!").unwrap();
    std::os::unix::fs::chown(&tool, Some(3_000_000), Some(1001)).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o4755)).unwrap();
    // cap_net_bind_service, revision 2.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(&tool, "security.capability", &capability, rustix::fs::XattrFlags::empty()).unwrap();
    std::fs::hard_link(&tool, source.join("dir/other")).unwrap();
    std::os::unix::fs::symlink("../x".repeat(60), source.join("dir/symlink")).unwrap();
    let (character, fifo) = (rustix::fs::FileType::CharacterDevice, rustix::fs::FileType::Fifo);
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, source.join("null"), character, mode, null).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, source.join("fifo"), fifo, mode, 0).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    std::fs::File::open(source.join("dir")).unwrap().set_modified(time).unwrap();
    let mut archive = Vec::new();
    let size = crate::store::write_archive(&source, &mut archive).unwrap();
    let target = folder.path().join("target");
    std::fs::create_dir(&target).unwrap();
    assert_eq!(unpack(&archive[..], &target, &Limits::default()).unwrap(), size);
    // The archive of the copy is the same: nothing was lost.
    let mut again = Vec::new();
    crate::store::write_archive(&target, &mut again).unwrap();
    assert!(archive == again, "the copy differs");
    let tool = std::fs::metadata(target.join("dir/tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.uid(), tool.nlink()), (0o4755, 3_000_000, 2));
    assert_eq!(std::fs::metadata(target.join("dir")).unwrap().mtime(), 1_234_567_890);
}

/// The archives of GNU tar, which writes formats that nothing else here does.
#[test]
fn blank_numbers_are_0_and_wrong_ones_are_refused() {
    let with_numbers = |owner: &[u8; 8], mode: &[u8; 8]| {
        let mut header = tar::Header::new_old();
        header.set_entry_type(tar::EntryType::Regular);
        header.as_old_mut().name[..4].copy_from_slice(b"file");
        header.as_old_mut().mode = *mode;
        header.set_size(0);
        header.as_old_mut().uid = *owner;
        header.as_old_mut().gid = *owner;
        let mut archive = Archive::default();
        archive.raw(&mut header, b"");
        archive.unpacked()
    };
    for blank in [b"       \0", b"\0\0\0\0\0\0\0\0"] {
        let (_folder, root, result) = with_numbers(blank, blank);
        result.unwrap();
        let file = std::fs::metadata(root.join("file")).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (0, 0, 0));
    }
    for (owner, mode) in [(b"people\0\0", b"0000644\0"), (b"0000000\0", b"rw-r--r-")] {
        assert!(matches!(with_numbers(owner, mode).2, Err(Error::DamagedArchive { .. })));
    }
}

#[test]
fn sparse_files_and_long_names_of_gnu_tar() {
    let folder = Folder::new();
    let source = folder.path().join("source");
    let deep = source.join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("f"), "deep").unwrap();
    let mut sparse = std::fs::File::create(source.join("sparse")).unwrap();
    sparse.write_all(b"begin").unwrap();
    sparse.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 4 << 20).unwrap();
    for format in ["gnu", "posix", "oldgnu"] {
        let archive = folder.path().join(format);
        let status = std::process::Command::new("tar")
            .args(["--sparse", "--format", format, "-cf"])
            .arg(&archive)
            .arg("-C")
            .arg(&source)
            .arg(".")
            .status()
            .unwrap();
        assert!(status.success());
        assert!(std::fs::metadata(&archive).unwrap().len() < 1 << 20, "tar wrote no sparse file");
        let target = folder.path().join(format!("{format}-root"));
        std::fs::create_dir(&target).unwrap();
        unpack(std::fs::File::open(&archive).unwrap(), &target, &Limits::default())
            .unwrap_or_else(|error| panic!("{format}: {error}"));
        let unpacked = std::fs::read(target.join("sparse")).unwrap();
        assert!(unpacked == std::fs::read(source.join("sparse")).unwrap(), "{format}");
        assert!(std::fs::metadata(target.join("sparse")).unwrap().blocks() < 1 << 10, "{format}: not sparse any more");
        assert_eq!(text(target.join("d".repeat(120)).join("e".repeat(120)).join("f")), "deep");
    }
}

#[test]
fn damaged_bytes_are_refused_without_harm() {
    let good = Archive::default()
        .folder("d")
        .file("d/x", &"content ".repeat(100))
        .pax(&[("mtime", "12.5"), ("path", "d/long")])
        .file("short", "1")
        .symlink("d/link", "x")
        .hard_link("hard", "d/x")
        .bytes();
    let folder = Folder::new();
    let mut state = 1u64;
    for round in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..1 + round % 4 {
            // A generator is enough here; the seed is fixed so that a failure can be repeated.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 24) as u8;
            // Make most headers pass the checksum, so that the damage is looked at.
            let header = at / 512 * 512;
            let sum: u32 = (header..header + 512)
                .map(|index| if (148..156).contains(&(index - header)) { 32 } else { u32::from(bytes[index]) })
                .sum();
            let text = format!("{sum:06o}\0 ");
            bytes[header + 148..header + 156].copy_from_slice(text.as_bytes());
        }
        if round % 3 == 0 {
            bytes.truncate((state >> 40) as usize % bytes.len());
        }
        let root = folder.path().join(format!("{round}"));
        std::fs::create_dir(&root).unwrap();
        let limits = Limits { bytes: 1 << 20, entries: 100, depth: 10 };
        drop(unpack(&bytes[..], &root, &limits));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn nothing_stays_of_a_layer_that_fails() {
    let folder = Folder::new();
    let store = folder.store();
    let bytes = Archive::default().file("a", "1").file("../b", "2").bytes();
    assert!(unpack_layer(&store, &bytes[..], &Limits::default()).is_err());
    let truncated = zstd::encode_all(&bytes[..], 1).unwrap();
    assert!(unpack_layer(&store, &truncated[..truncated.len() / 2], &Limits::default()).is_err());
    for name in ["tmp", "trash", "layers"] {
        assert_eq!(std::fs::read_dir(store.paths().root.join(name)).unwrap().count(), 0, "{name}");
    }
}
