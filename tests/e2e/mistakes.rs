//! Values that the loader takes and the engine cannot: each ends `up` before anything is made, with its service,
//! what is wrong with it and where it stands.

use crate::world::World;

/// What a service says, from line 4 on; the line and column of the mistake; what is said of it.
const VALUES: &[(&str, (usize, usize), &str)] = &[
    ("volumes: [\"data:relative/path\"]", (4, 21), "`relative/path` is not an absolute path inside the container"),
    ("volumes:\n      - type: tmpfs\n        target: cache", (6, 17), "`cache` is not an absolute path"),
    ("tmpfs: [run]", (4, 13), "tmpfs: `run` is not an absolute path"),
    ("volumes: [\"data:/\"]", (4, 21), "over the root folder"),
    ("working_dir: app", (4, 18), "working_dir: `app` is not an absolute path"),
    ("dns: [9.9.9.9, dns.example]", (4, 20), "dns: `dns.example` is not an IP address"),
    ("dns: resolver", (4, 10), "dns: `resolver` is not an IP address"),
    ("extra_hosts:\n      db: no-address", (5, 11), "`no-address`, for db, is neither an IP address"),
    ("mem_limit: 4m", (4, 16), "mem_limit: a container needs at least 6 MB"),
    ("deploy:\n      resources:\n        limits:\n          memory: 100k", (7, 19), "at least 6 MB"),
    ("mem_limit: 64m\n    mem_reservation: 1g", (5, 22), "more than the memory limit"),
    ("mem_limit: 64m\n    memswap_limit: 32m", (5, 20), "memory and swap together"),
    ("cpus: 4096", (4, 11), "there are only"),
    ("mem_swappiness: 300", (4, 21), "from 0 to 100"),
    ("cap_add: [NET_ADMIN, NET_ADMIM]", (4, 26), "cap_add: `NET_ADMIM` is not a capability"),
    ("cap_drop:\n      - EVERYTHING", (5, 9), "cap_drop: `EVERYTHING` is not a capability"),
    ("ulimits:\n      nofiles: 5", (5, 7), "ulimits: `nofiles` is not a resource limit"),
    ("ulimits:\n      nofile: {soft: 9, hard: 5}", (5, 22), "the soft limit 9 is above the hard limit 5"),
    ("sysctls:\n      vm.swappiness: 1", (5, 7), "sysctl `vm.swappiness` is not in a namespace"),
    ("sysctls: [kernel.hostname=x]", (4, 15), "sysctl `kernel.hostname` is not in a namespace"),
    ("devices: [\"/dev/null:/dev/x:rx\"]", (4, 33), "devices: `rx` is not letters of `rwm`"),
    ("stop_signal: SIGNOTHING", (4, 18), "stop_signal: `SIGNOTHING` is not a signal"),
    ("security_opt: [no-such-thing]", (4, 20), "security_opt: `no-such-thing` is not"),
    ("logging:\n      options:\n        max-size: big", (6, 19), "logging.options.max-size: `big` is not"),
    ("networks:\n      default:\n        ipv4_address: 10.0.0.300", (6, 23), "`10.0.0.300` is not an IPv4 address"),
    ("secrets: [key]", (4, 15), "secret `key`"),
];

#[test]
fn a_value_that_cannot_be_ends_up_with_its_place() {
    let world = World::empty();
    let mut wrong = Vec::new();
    for (value, (line, column), message) in VALUES {
        world.write(
            "compose.yaml",
            &format!(
                "services:\n  web:\n    image: nowhere.invalid/nothing\n    {value}\n\
                 volumes:\n  data:\nsecrets:\n  key:\n    environment: NO_SUCH_VARIABLE\n"
            ),
        );
        let answer = world.wharf(&["up", "-d"]).expect(1);
        let place = format!("compose.yaml:{line}:{column}\n");
        for expected in ["service `web` cannot be created", message, &place, "^"] {
            if !answer.stderr.contains(expected) {
                wrong.push(format!("{value}: no `{expected}` in\n{}", answer.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(world.ok(&["ps", "-aq"]), "");
    world.expect_no_trace();
}

#[test]
fn every_mistake_of_every_service_is_told_at_once() {
    let world = World::empty();
    world.write(
        "compose.yaml",
        "services:\n  web:\n    image: x\n    working_dir: app\n    dns: here\n  db:\n    image: x\n    mem_limit: 1k\n",
    );
    let answer = world.wharf(&["up", "-d"]).expect(1);
    for place in ["compose.yaml:4:18", "compose.yaml:5:10", "compose.yaml:8:16"] {
        assert!(answer.stderr.contains(place), "{place}:\n{}", answer.stderr);
    }
}

#[test]
fn what_only_the_image_or_the_host_can_tell_has_its_place_too() {
    let world = World::new();
    let mut wrong = Vec::new();
    for (value, (line, column), message) in [
        ("user: nobody-here", (5, 11), "unable to find user nobody-here"),
        ("user: root:no-group", (5, 16), "unable to find group no-group"),
        ("group_add: [no-group]", (5, 17), "unable to find group no-group"),
        ("entrypoint: [no-such-program]", (5, 18), "\"no-such-program\": executable file not found"),
        ("devices: [/dev/no-such-device]", (5, 15), "the device /dev/no-such-device does not exist"),
        ("tmpfs: [\"/x:nonsense=1\"]", (5, 17), "`nonsense=1`"),
    ] {
        world.write(
            "compose.yaml",
            &format!("services:\n  web:\n    image: busybox\n    command: sleep 1000\n    {value}\n"),
        );
        let answer = world.wharf(&["up", "-d"]).expect(1);
        let place = format!("compose.yaml:{line}:{column}\n");
        for expected in ["service `web` cannot be started", message, &place] {
            if !answer.stderr.contains(expected) {
                wrong.push(format!("{value}: no `{expected}` in\n{}", answer.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let answer = world.wharf(&["run", "-w", "relative", "busybox"]).expect(125);
    assert!(answer.stderr.contains("working_dir: `relative` is not an absolute path"), "{}", answer.stderr);
}

#[test]
fn a_log_driver_that_is_not_there_is_a_warning() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    logging:\n      driver: syslog\n",
    );
    let answer = world.wharf(&["up", "-d"]).expect(0);
    assert!(answer.stderr.contains("services.web.logging.driver (`syslog`) has no effect"), "{}", answer.stderr);
}
