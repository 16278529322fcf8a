//! What is no container: services of other programs, and models.

use std::os::unix::fs::PermissionsExt;

use crate::world::World;

/// A provider that writes down how it was called.
const PLUGIN: &str = r#"#!/bin/sh
case "$2" in
metadata) echo '{"description":"test","up":{"parameters":[{"name":"size","required":true},{"name":"many"}]},"down":{"parameters":[]}}'; exit;;
esac
echo "$@" >> calls
echo '{"type":"info","message":"pulling 25%"}'
[ -e broken ] && { echo '{"type":"error","message":"no quota left"}'; exit 1; }
echo '{"type":"setenv","message":"URL=https://db.example/"}'
echo '{"type":"rawsetenv","message":"PLAIN=yes"}'
"#;

const FILE: &str = "services:
  web: {image: busybox, init: true, command: sleep 1000, depends_on: [db], models: {small-one: {}, other: {endpoint_var: AT, model_var: WHAT}}}
  other: {image: busybox, init: true, command: sleep 1000}
  db: {provider: {type: e2e-fake, options: {size: 5, many: [a, b], unknown: x}}}
models: {small-one: {model: ai/small}, other: {model: ai/other}}
";

#[test]
fn providers_and_models_speak_through_the_environment() {
    let world = World::new();
    let plugins = world.folder().join("../.docker/cli-plugins");
    std::fs::create_dir_all(&plugins).expect("it can be made");
    let plugin = plugins.join("docker-e2e-fake");
    std::fs::write(&plugin, PLUGIN).expect("it can be written");
    std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).expect("modes can be set");
    world.write("compose.yaml", FILE);
    let plan = world.ok(&["--dry-run", "up", "-d"]);
    assert!(plan.contains("let the provider of db do up"), "{plan}");
    world.ok(&["up", "-d"]);
    let variables = world.ok(&["exec", "web", "env"]);
    for line in ["DB_URL=https://db.example/", "PLAIN=yes", "SMALL_ONE_MODEL=ai/small", "WHAT=ai/other"] {
        assert!(variables.lines().any(|variable| variable == line), "{line} in\n{variables}");
    }
    assert!(variables.contains("\nSMALL_ONE_URL=http") && variables.contains("\nAT=http"), "{variables}");
    assert!(!world.ok(&["exec", "other", "env"]).contains("DB_URL"));
    // Nothing is made anew by the same answers.
    let before = world.ok(&["ps", "-q", "--no-trunc"]);
    world.ok(&["up", "-d"]);
    assert_eq!(world.ok(&["ps", "-q", "--no-trunc"]), before);
    world.write("broken", "");
    let failed = world.wharf(&["up", "-d"]).expect(1);
    assert!(failed.stderr.contains("no quota left"), "{failed:?}");
    std::fs::remove_file(world.folder().join("broken")).expect("it is there");
    world.ok(&["down", "-t", "0"]);
    let calls = std::fs::read_to_string(world.folder().join("calls")).expect("it was called");
    let up = format!("compose --project-name={} up --many=a --many=b --size=5 db", world.project_name());
    let down = format!("compose --project-name={} down db", world.project_name());
    assert_eq!(calls.lines().collect::<Vec<_>>(), [up.as_str(), &up, &up, &down]);
    world.expect_no_trace();
}
