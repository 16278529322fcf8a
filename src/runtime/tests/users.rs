//! User namespaces.

use std::os::unix::fs::{MetadataExt, chown};

use super::*;
use crate::model::container::{DeviceMapping, IdMap, NamespaceMode};

/// Ids that nobody on this machine has.
const FIRST: u32 = 0x7000_0000;

fn with_users(mut bench: Bench) -> Bench {
    let maps = vec![IdMap { inside: 0, outside: FIRST, count: 65_536 }];
    (bench.spec.uid_maps, bench.spec.gid_maps) = (maps.clone(), maps);
    bench
}

#[test]
fn a_terminal_belongs_to_the_user() {
    let mut bench = with_users(Bench::shell("stat -c '%u %g %a' $(tty) /dev/console; id -u; echo x >/dev/tty"));
    bench.terminal = true;
    bench.spec.process.user = "bob".into();
    let output = bench.output();
    assert_eq!(output.lines().collect::<Vec<_>>(), ["1000 5 620", "1000 5 620", "1000", "x"]);
}

#[test]
fn layers_show_owners_shifted_and_keep_those_on_disk() {
    for with_upper in [true, false] {
        let mut bench = with_users(Bench::shell("stat -c %u:%g /bin /etc/passwd; touch /tmp/x && rm -r /etc"));
        chown(bench.root().join("etc/passwd"), Some(1000), Some(29)).unwrap();
        bench.spec.read_only = !with_upper;
        let upper = bench.folder.join("upper");
        let cgroup = bench.cgroup();
        let outcome = bench.run_in(&cgroup).unwrap();
        cgroup.remove().unwrap();
        assert!(outcome.output.starts_with("0:0\n1000:29\n"), "{}", outcome.output);
        assert_eq!(outcome.code == 0, with_upper, "{}", outcome.output);
        if with_upper {
            assert_eq!(std::fs::metadata(upper.join("tmp/x")).unwrap().uid(), 0);
            // The mark of what was removed.
            assert_eq!(std::fs::symlink_metadata(upper.join("etc")).unwrap().rdev(), 0);
        }
    }
}

#[test]
fn devices_have_their_owners() {
    let mut bench =
        with_users(Bench::shell("stat -c '%u %g %a %t,%T' /dev/null /dev/more/zero; echo x >/dev/more/zero"));
    bench.spec.security.devices =
        vec![DeviceMapping { source: "/dev/zero".into(), target: "/dev/more/zero".into(), permissions: "rwm".into() }];
    let host = std::fs::metadata("/dev/zero").unwrap();
    let expected = format!("0 0 666 1,3\n{} {} {:o} 1,5\n", host.uid(), host.gid(), host.mode() & 0o7777);
    assert_eq!(bench.output(), expected);
    let mut elsewhere = with_users(Bench::new(&["true"]));
    elsewhere.spec.security.devices =
        vec![DeviceMapping { source: "/dev/zero".into(), target: "/zero".into(), permissions: "rwm".into() }];
    assert!(matches!(elsewhere.run().unwrap_err(), Error::Unsupported { .. }));
}

#[test]
fn what_cannot_be_mapped_is_said() {
    let mut bench = with_users(Bench::new(&["true"]));
    // procfs has no owners to map.
    let mut mount = bind(Path::new("/proc/sys"), "/data", false);
    if let ResolvedSource::Bind { map_owners, .. } = &mut mount.source {
        *map_owners = true;
    }
    bench.mounts = vec![mount];
    assert!(matches!(bench.run().unwrap_err(), Error::MapOwners { .. }));
    let mut bench = with_users(Bench::new(&["true"]));
    bench.spec.process.user = "70000".into();
    assert!(matches!(bench.run().unwrap_err(), Error::UnmappedId { kind: "user", id: 70_000 }));
}

#[test]
fn a_namespace_is_shared_with_its_users() {
    let mut first = with_users(Bench::shell("echo ready; sleep 100"));
    first.spec.security.ipc = NamespaceMode::Private;
    let cgroup = first.cgroup();
    let (running, read) = first.start(&cgroup);
    let identity = Some(running.identity);
    let other = crate::base::id::ContainerId::random();
    let join = |mut bench: Bench| {
        let mode = NamespaceMode::Container(other.clone());
        bench.spec.security.pid = mode.clone();
        bench.spec.security.ipc = mode.clone();
        bench.net = NetNamespace::Join(namespace_of(running.identity, "net").unwrap());
        bench.joins = Joins { pid: identity, ipc: identity, uts: None, user: None };
        bench
    };
    let output =
        join(with_users(Bench::shell("kill -0 1 && touch /dev/shm/x && readlink /proc/self/ns/user"))).output();
    let namespace = std::fs::read_link(format!("/proc/{}/ns/user", running.identity.pid)).unwrap();
    assert_eq!(output.trim_end(), namespace.to_str().unwrap());
    running.signal(9).unwrap();
    running.wait().unwrap();
    drop(read);
    cgroup.kill_all().unwrap();
    cgroup.remove().unwrap();
    let mut stranger = with_users(Bench::new(&["true"]));
    let own = std::fs::File::open("/proc/self/ns/net").unwrap();
    stranger.net = NetNamespace::Join(own.into());
    assert!(matches!(stranger.run().unwrap_err(), Error::UserNamespacesDiffer));
}
