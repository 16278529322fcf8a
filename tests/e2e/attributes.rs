//! Attributes of services that are seen in the container.

use crate::world::World;

#[test]
fn addresses_and_names_of_a_service() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:
  web:
    image: busybox
    command: sleep 1000
    stop_grace_period: 0s
    domainname: corp.example
    hostname: web
    mac_address: 02:42:ac:11:65:43
    external_links: [\"Elsewhere:friend\", elsewhere]
    networks:
      one: {priority: 2, link_local_ips: [169.254.34.68, \"fe80::7\"]}
      two: {driver_opts: {com.docker.network.endpoint.ifname: second}}
networks:
  one: {driver_opts: {com.docker.network.driver.mtu: 1400}}
  two: {name: two-of-the-test}
",
    );
    let up = world.wharf(&["up", "-d"]).expect(0);
    assert!(!up.stderr.contains("warning"), "{}", up.stderr);
    world.ok(&["run", "-d", "--name", "elsewhere", "--network", "two-of-the-test", "busybox", "sleep", "1000"]);
    let inside = |command: &str| world.ok(&["exec", "web", "sh", "-c", command]);
    assert_eq!(inside("hostname -f"), "web.corp.example");
    assert_eq!(inside("cat /sys/class/net/eth0/address"), "02:42:ac:11:65:43");
    assert_eq!(inside("cat /sys/class/net/eth0/mtu"), "1400");
    assert_ne!(inside("cat /sys/class/net/second/address"), "02:42:ac:11:65:43");
    let addresses = inside("ip addr show eth0");
    assert!(addresses.contains("inet 169.254.34.68/16") && addresses.contains("inet6 fe80::7/64"), "{addresses}");
    // A name of this container alone, also for one that comes later.
    let theirs = world.ok(&["exec", "elsewhere", "hostname", "-i"]);
    assert!(inside("nslookup friend").contains(&theirs), "{theirs}");
    let asked = world.wharf(&["exec", "elsewhere", "nslookup", "friend"]);
    assert!(asked.code != 0 || !asked.stdout.contains(&theirs), "{asked:?}");
    world.write("wrong.yaml", "services: {web: {image: busybox, networks: {default: {link_local_ips: [10.0.0.1]}}}}\n");
    let wrong = world.wharf(&["-f", "wrong.yaml", "up", "-d"]).expect(1);
    assert!(wrong.stderr.contains("169.254.0.0/16"), "{}", wrong.stderr);
    world.ok(&["rm", "-f", "-s", "elsewhere"]);
    world.ok(&["down"]);
    world.expect_no_trace();
}

#[test]
fn volumes_of_any_file_system() {
    let world = World::new();
    world.write("lower/sub/low", "low\n");
    world.write("upper/up", "up\n");
    let folder = world.folder();
    let layers = format!("lowerdir={0}/upper:{0}/lower", folder.display());
    let file = |kind: &str, more: &str| {
        format!(
            "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n    \
             volumes: [\"both:/both\", {{type: volume, source: both, target: /sub, volume: {{subpath: sub}}}}]\n{more}\
             volumes: {{both: {{driver_opts: {{type: {kind}, device: over, o: \"ro,{layers}\"}}}}}}\n"
        )
    };
    world.write("compose.yaml", &file("overlay", ""));
    world.ok(&["up", "-d"]);
    assert_eq!(world.ok(&["exec", "web", "cat", "/both/up", "/both/sub/low", "/sub/low"]), "up\nlow\nlow");
    world.wharf(&["exec", "web", "touch", "/both/x"]).expect(1);
    world.ok(&["down", "-v"]);
    world.write("compose.yaml", &file("nosuchfs", ""));
    let refused = world.wharf(&["up", "-d"]).expect(1);
    assert!(refused.stderr.contains("nosuchfs"), "{}", refused.stderr);
    world.ok(&["down", "-v"]);
    for (wrong, said) in [
        ("    logging: {options: {max-sizes: 1m}}\n", "max-sizes"),
        ("    uts: host\n    hostname: mine\n", "the name is the host's"),
    ] {
        world.write("compose.yaml", &file("overlay", wrong));
        let refused = world.wharf(&["up", "-d"]).expect(1);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        world.ok(&["ps", "-a", "-q"]);
    }
    world.ok(&["down", "-v"]);
    world.expect_no_trace();
}
