//! Mounts seen from inside, hostile targets, configs and secrets.

use std::os::unix::fs::symlink;

use super::*;
use crate::base::error::Explain;

#[test]
fn the_default_mounts() {
    let output = Bench::new(&["cat", "/proc/self/mounts"]).output();
    let find = |target: &str| {
        let line = output.lines().find(|line| line.split(' ').nth(1) == Some(target));
        let fields: Vec<&str> = line.unwrap_or_else(|| panic!("{target} in {output}")).split(' ').collect();
        format!("{} {}", fields[2], fields[3].replace(",inode64", ""))
    };
    assert!(find("/").starts_with("overlay rw,"));
    for (target, expected) in [
        ("/proc", "proc rw,nosuid,nodev,noexec,relatime"),
        ("/dev", "tmpfs rw,nosuid,size=65536k,mode=755"),
        ("/dev/pts", "devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666"),
        ("/sys", "sysfs ro,nosuid,nodev,noexec,relatime"),
        ("/dev/shm", "tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k"),
        ("/proc/sys", "proc ro,nosuid,nodev,noexec,relatime"),
    ] {
        assert_eq!(find(target), expected, "{target}");
    }
    assert!(find("/sys/fs/cgroup").contains(" ro,"), "{}", find("/sys/fs/cgroup"));
    assert!(find("/sys/firmware").starts_with("tmpfs ro,"), "{}", find("/sys/firmware"));
    assert!(!output.contains("/tmp/wharf"), "host folders are not told: {output}");
}

#[test]
fn devices_are_what_they_seem() {
    let script = "stat -c '%n %F %t:%T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /proc/keys; \
                  readlink /dev/fd; readlink /dev/stdin; readlink /dev/ptmx; echo x > /dev/null; ls /dev";
    assert_eq!(
        Bench::shell(script).output(),
        "/dev/null character special file 1:3 666\n/dev/zero character special file 1:5 666\n\
         /dev/full character special file 1:7 666\n/dev/random character special file 1:8 666\n\
         /dev/urandom character special file 1:9 666\n/dev/tty character special file 5:0 666\n\
         /proc/keys character special file 1:3 666\n/proc/self/fd\n/proc/self/fd/0\npts/ptmx\n\
         core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
    );
}

#[test]
fn binds_of_folders_and_files() {
    let mut bench = Bench::shell(
        "cat /data/file /new/deep/file; echo new > /data/new; echo x > /ro/x; echo $?; echo x > /ro/below/x; echo $?",
    );
    let source = bench.folder.join("source");
    std::fs::create_dir_all(source.join("below")).unwrap();
    std::fs::write(source.join("file"), "content\n").unwrap();
    bench.mounts = vec![
        bind(&source, "/data", false),
        bind(&source.join("file"), "/new/deep/file", false),
        bind(&source, "/ro", true),
    ];
    let cgroup = bench.cgroup();
    let outcome = bench.run_in(&cgroup).unwrap();
    cgroup.remove().unwrap();
    assert_eq!(
        outcome.output,
        "content\ncontent\nsh: can't create /ro/x: Read-only file system\n1\n\
         sh: can't create /ro/below/x: Read-only file system\n1\n"
    );
    assert_eq!(std::fs::read_to_string(source.join("new")).unwrap(), "new\n");
}

#[test]
fn a_folder_is_not_mounted_onto_a_file() {
    let mut bench = Bench::new(&["true"]);
    bench.mounts = vec![bind(Path::new("/etc"), "/bin/busybox", false)];
    let error = bench.run().unwrap_err();
    assert!(matches!(error, Error::MountKind { ref target } if target == "/bin/busybox"), "{error}");
    assert_eq!(error.exit_code(), 127);
    let mut bench = Bench::new(&["true"]);
    bench.mounts = vec![bind(Path::new("/no/such/path"), "/data", false)];
    let message = bench.run().unwrap_err().to_string();
    assert_eq!(message, "cannot use `/no/such/path` as the source of the mount at `/data`");
}

#[test]
fn nothing_is_mounted_over_the_root() {
    for target in ["/", "", "//."] {
        let mut bench = Bench::new(&["true"]);
        bench.mounts = vec![bind(Path::new("/etc"), target, false)];
        assert_eq!(bench.run().unwrap_err().to_string(), format!("`{target}` is not a place for a mount"));
    }
    let mut bench = Bench::new(&["true"]);
    bench.mounts = vec![bind(Path::new("/etc"), "/..", false)];
    assert!(bench.run().is_err());
}

#[test]
fn a_subpath_stays_inside() {
    let mut bench = Bench::new(&["ls", "/data"]);
    let source = bench.folder.join("volume");
    std::fs::create_dir_all(source.join("etc/inside")).unwrap();
    symlink("/etc", source.join("link")).unwrap();
    bench.mounts = vec![ResolvedMount {
        target: "/data".into(),
        read_only: false,
        source: ResolvedSource::Bind {
            path: source,
            subpath: Some("../link".into()),
            propagation: None,
            recursive: true,
            map_owners: false,
        },
    }];
    assert_eq!(bench.output(), "inside\n");
}

#[test]
fn links_in_the_image_lead_nowhere_else() {
    // Every place that we mount on or write to is a link to the host's, had it been followed outside.
    let mut bench = Bench::shell("ls -d /proc/1 /dev/null /sys/fs /etc/hosts; cat /etc/hosts /mnt/data/file");
    let root = bench.root();
    for (name, target) in [("proc", "/tmp/p"), ("dev", "../../../../../tmp/d"), ("sys", "/tmp/s"), ("mnt", "/dangling")]
    {
        symlink(target, root.join(name)).unwrap();
    }
    std::fs::write(bench.folder.join("hosts"), "127.0.0.1 localhost\n").unwrap();
    std::fs::write(bench.folder.join("file"), "bound\n").unwrap();
    std::fs::rename(root.join("etc"), root.join("real-etc")).unwrap();
    symlink("/real-etc", root.join("etc")).unwrap();
    bench.etc.hosts = Some(bench.folder.join("hosts"));
    bench.mounts = vec![bind(&bench.folder.join("file"), "/mnt/data/file", false)];
    assert_eq!(bench.output(), "/dev/null\n/etc/hosts\n/proc/1\n/sys/fs\n127.0.0.1 localhost\nbound\n");
    for name in ["p", "d", "s"] {
        assert!(!Path::new("/tmp").join(name).exists());
    }
    assert!(!Path::new("/dangling").exists());
}

#[test]
fn a_mount_of_the_user_replaces_ours_and_order_is_by_depth() {
    let mut bench = Bench::shell("cat /etc/hosts /etc/app; ls /dev/shm; grep ' /dev/shm ' /proc/self/mounts | wc -l");
    let (etc, shm) = (bench.folder.join("etc"), bench.folder.join("shm"));
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::create_dir_all(shm.join("mine")).unwrap();
    std::fs::write(etc.join("app"), "app\n").unwrap();
    std::fs::write(bench.folder.join("hosts"), "hosts\n").unwrap();
    bench.etc.hosts = Some(bench.folder.join("hosts"));
    bench.mounts = vec![bind(&shm, "/dev/shm/", false), bind(&etc, "/etc", false)];
    assert_eq!(bench.output(), "hosts\napp\nmine\n1\n");
}

#[test]
fn tmpfs_with_options() {
    let mut bench = Bench::shell("stat -c '%a %u' /t; grep ' /t ' /proc/self/mounts");
    bench.mounts = vec![ResolvedMount {
        target: "/t".into(),
        read_only: false,
        source: ResolvedSource::Tmpfs {
            size_bytes: Some(1 << 20),
            mode: Some(0o750),
            options: vec!["exec,uid=1000".into()],
        },
    }];
    // inode64 is a matter of the kernel's configuration.
    let output = bench.output().replace(",inode64", "");
    assert_eq!(output, "750 1000\ntmpfs /t tmpfs rw,nosuid,nodev,relatime,size=1024k,mode=750,uid=1000 0 0\n");
    let mut bench = Bench::new(&["true"]);
    let source = ResolvedSource::Tmpfs { size_bytes: None, mode: None, options: vec!["uppercase".into()] };
    bench.mounts = vec![ResolvedMount { target: "/t".into(), read_only: false, source }];
    assert_eq!(bench.run().unwrap_err().to_string(), "`uppercase` is not an option of the mount at `/t`");
}

#[test]
fn layers_as_a_mount() {
    let mut bench = Bench::shell("cat /image/a /image/b /sub /one/c; echo x > /image/a");
    for (layer, file) in [("l1", "a"), ("l2", "b"), ("l2", "sub/c")] {
        let file = bench.folder.join(layer).join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{layer}\n")).unwrap();
    }
    let both = RootFs { lowers: vec![bench.folder.join("l1"), bench.folder.join("l2")], upper: None };
    let one = RootFs { lowers: vec![bench.folder.join("l2")], upper: None };
    let mount = |target: &str, stack: &RootFs, subpath: Option<&str>| ResolvedMount {
        target: target.into(),
        read_only: true,
        source: ResolvedSource::Layers { stack: stack.clone(), subpath: subpath.map(String::from) },
    };
    bench.mounts =
        vec![mount("/image", &both, None), mount("/sub", &both, Some("sub/c")), mount("/one", &one, Some("sub"))];
    let outcome = bench.run().unwrap();
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.output, "l1\nl2\nl2\nl2\nsh: can't create /image/a: Read-only file system\n");
}

#[test]
fn configs_and_secrets_are_files_of_their_own() {
    let mut bench = Bench::shell(
        "stat -c '%a %u %s' /run/secrets/key /etc/app.conf; cat /run/secrets/key; grep -c ' /run/secrets/key tmpfs ' /proc/self/mounts",
    );
    bench.files = vec![secret("/run/secrets/key", "secret\n", 1000, 0o400), secret("/etc/app.conf", "", 0, 0o444)];
    bench.spec.read_only = true;
    assert_eq!(bench.output(), "400 1000 7\n444 0 0\nsecret\n1\n");
    let mut bench = Bench::new(&["id"]);
    bench.files = vec![secret("/etc/passwd", "eve:x:7:8::/eve:\n", 0, 0o644)];
    bench.spec.process.user = "eve".into();
    assert_eq!(bench.output(), "uid=7(eve) gid=8 groups=8\n");
}

#[test]
fn a_read_only_root_with_writable_mounts() {
    let mut bench =
        Bench::shell("echo x > /file; echo $?; echo x > /dev/shm/file; echo $?; echo x > /data/file; echo $?");
    bench.spec.read_only = true;
    let data = bench.folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    bench.mounts = vec![bind(&data, "/data", false)];
    assert_eq!(bench.output(), "sh: can't create /file: Read-only file system\n1\n0\n0\n");
}

#[test]
fn many_layers() {
    let mut bench = Bench::new(&["cat", "/f0", "/f299"]);
    let mut lowers = Vec::new();
    for number in 0..300 {
        let layer = bench.folder.join(format!("a-rather-long-name-for-a-layer-{number}"));
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::write(layer.join(format!("f{number}")), format!("{number}\n")).unwrap();
        lowers.push(layer);
    }
    let root = bench.root();
    lowers.push(root);
    let cgroup = bench.cgroup();
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let upper = UpperLayer { upper: bench.folder.join("upper"), work: bench.folder.join("work"), volatile: false };
    let launch = Launch {
        spec: &bench.spec,
        root: RootFs { lowers, upper: Some(upper) },
        mounts: Vec::new(),
        etc: EtcFiles::default(),
        files: std::mem::take(&mut bench.files),
        net: NetNamespace::New,
        joins: Joins::default(),
        cgroup: &cgroup,
        stdio: pipes(write),
        dies_with_caller: false,
    };
    let prepared = prepare(&launch).unwrap();
    drop(launch);
    let running = prepared.start().unwrap();
    assert_eq!(read_all(read), "0\n299\n");
    assert_eq!(running.wait().unwrap().code, 0);
    cgroup.remove().unwrap();
}
