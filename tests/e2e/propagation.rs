//! Mounts that are made after a container's start, and come through its binds, or do not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::World;

/// A file system in memory with an empty folder in it; taken away at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf) -> Self {
        fs::create_dir_all(&path).expect("a folder can be made");
        mount(&["-t", "tmpfs", "disk"], &path);
        let disk = Self(path);
        fs::create_dir(disk.0.join("inner")).expect("a folder can be made");
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-Rl").arg(&self.0).status());
    }
}

fn mount(words: &[&str], place: &Path) {
    let done = Command::new("mount").args(words).arg(place).status();
    assert!(done.expect("mount is installed").success(), "{words:?}");
}

#[test]
fn later_mounts_come_through_where_they_are_asked_for() {
    let world = World::new();
    let disk = Disk::mount(world.folder().join("disk"));
    let bind = |propagation: &str| format!("{}:/disk:{propagation}", disk.0.display());
    // Like Docker, instead of a container that waits for mounts in vain.
    mount(&["--make-private"], &disk.0);
    for (propagation, wanted) in [("rslave", "shared or slave"), ("rshared", "shared")] {
        let answer = world.wharf(&["docker", "run", "--rm", "-v", &bind(propagation), "busybox", "true"]).expect(125);
        let said = format!("but it is not a {wanted} mount");
        assert!(answer.stderr.contains(&said) && answer.stderr.contains("--make-rshared"), "{}", answer.stderr);
    }
    mount(&["--make-shared"], &disk.0);
    let all = ["rprivate", "rslave", "rshared"];
    for propagation in all {
        let run = ["docker", "run", "-d", "--name", propagation, "--cap-add", "SYS_ADMIN"];
        world.ok(&[&run[..], &["-v", &bind(propagation), "busybox", "sleep", "1000"]].concat());
    }
    let seen = |name: &str| world.ok(&["docker", "exec", name, "ls", "/disk/inner"]);
    let later = Disk::mount(disk.0.join("inner"));
    assert_eq!(all.map(seen), ["", "inner", "inner"]);
    drop(later);
    assert_eq!(all.map(seen), ["", "", ""]);
    // The other way, only one that is shared.
    let from_inside = |name: &str| {
        world.ok(&["docker", "exec", "--privileged", name, "mount", "-t", "tmpfs", name, "/disk/inner"]);
        let table = fs::read_to_string("/proc/self/mountinfo").expect("it can be read");
        table.contains(&format!(" - tmpfs {name} "))
    };
    assert_eq!(all.map(from_inside), [false, false, true]);
    world.ok(&["docker", "rm", "-f", "rprivate", "rslave", "rshared"]);
    drop(disk);
    world.expect_no_trace();
}
