//! The commands of services before and after their containers' starts and before their stops.

use crate::world::World;

#[test]
fn hooks_run_at_their_moments_as_they_say() {
    let world = World::new();
    let file = |migration: &str| {
        format!(
            "services:
  web:
    image: busybox
    init: true
    command: [sh, -c, 'cat /data/schema > /tmp/seen; exec sleep 1000']
    volumes: [\"data:/data\", \"./log:/log\"]
    environment: {{FROM: service}}
    pre_start:
      - {{command: [sh, -c, '{migration}'], environment: {{FROM: hook}}, user: \"1000\", working_dir: /tmp}}
      - {{command: [sh, -c, 'echo again >> /log/each'], per_replica: true}}
    post_start:
      - {{command: [sh, -c, 'echo $$(id -u) $$(pwd) $$WHO > /tmp/post'], user: \"1000\", working_dir: /data, environment: {{WHO: me}}}}
    pre_stop:
      - command: [sh, -c, 'echo bye >> /log/stops']
    scale: 2
volumes: {{data: }}
"
        )
    };
    std::fs::create_dir(world.folder().join("log")).expect("it can be made");
    let log = |name: &str| std::fs::read_to_string(world.folder().join("log").join(name)).unwrap_or_default();
    world.write(
        "compose.yaml",
        "services: {web: {image: busybox, command: chmod 777 /data, volumes: [\"data:/data\"]}}\nvolumes: {data: }\n",
    );
    world.ok(&["run", "--rm", "web"]);
    let good = file("echo $$FROM $$(id -u) $$(pwd) >> /data/schema");
    world.write("compose.yaml", &good);
    world.ok(&["up", "-d"]);
    for index in ["1", "2"] {
        assert_eq!(world.ok(&["exec", "--index", index, "web", "cat", "/tmp/seen"]), "hook 1000 /tmp");
        assert_eq!(world.ok(&["exec", "--index", index, "web", "cat", "/tmp/post"]), "1000 /data me");
    }
    assert_eq!(log("each").lines().count(), 2);
    // While one runs, only the hook that is for each container runs again.
    world.ok(&["up", "-d", "--scale", "web=3"]);
    assert_eq!(world.ok(&["exec", "web", "cat", "/data/schema"]), "hook 1000 /tmp");
    assert_eq!(log("each").lines().count(), 3);
    world.ok(&["stop"]);
    assert_eq!(log("stops"), "bye\nbye\nbye\n");
    assert_eq!(world.ok(&["ps", "-aq"]).lines().count(), 3, "a hook's container is left");

    // One that fails keeps the service from being started, and stays to be looked at.
    world.write("compose.yaml", &file("echo no such table; exit 4"));
    let failed = world.wharf(&["up", "-d"]).expect(1);
    assert!(failed.stderr.contains("pre_start hook") && failed.stderr.contains("no such table"), "{failed:?}");
    assert_eq!(world.ok(&["ps", "-q"]), "");
    let plan = world.ok(&["--dry-run", "up", "-d"]);
    assert!(plan.contains("run pre_start hook 1 of web 1"), "{plan}");
    world.write("compose.yaml", &good);
    world.ok(&["up", "-d"]);
    assert_eq!(world.ok(&["ps", "-aq"]).lines().count(), 2, "the failed hook's container is left");
    world.ok(&["down", "-v"]);
    world.expect_no_trace();
}

#[test]
fn a_hook_that_fails_inside_is_told_with_its_words() {
    let world = World::new();
    let service =
        |hooks: &str| format!("services: {{web: {{image: busybox, init: true, command: sleep 1000, {hooks}}}}}\n");
    world.write("compose.yaml", &service("post_start: [{command: [sh, -c, 'echo not ready; sleep 100 & exit 5']}]"));
    let failed = world.wharf(&["up", "-d"]).expect(1);
    assert!(failed.stderr.contains("exited with code 5") && failed.stderr.contains("not ready"), "{failed:?}");
    world.write("compose.yaml", &service("labels: {a: b}"));
    world.ok(&["up", "-d", "-t", "0"]);
    // Nothing of the container changes by what is done before its stop.
    let stop = "labels: {a: b}, pre_stop: [{command: [sh, -c, 'echo busy >&2; exit 6']}]";
    world.write("compose.yaml", &service(stop));
    assert!(world.ok(&["--dry-run", "up", "-d"]).contains("nothing to do"));
    let failed = world.wharf(&["down", "-t", "0"]).expect(1);
    assert!(failed.stderr.contains("exited with code 6") && failed.stderr.contains("busy"), "{failed:?}");
    assert_eq!(world.ok(&["ps", "--services"]), "web");
    world.write("compose.yaml", &service("labels: {a: b}"));
    world.ok(&["down", "-t", "0"]);
    world.expect_no_trace();
}
