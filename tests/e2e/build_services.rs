//! `build` of services: their checks, bake's file of them, and builds that need each other.

use crate::world::World;

#[test]
fn a_build_takes_the_image_of_another_service() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:
  app:
    build:
      dockerfile_inline: \"FROM busybox\\nCOPY --from=base /made /made\\nCMD cat /made\\n\"
      additional_contexts: {base: \"service:zz.base\"}
  zz.base:
    image: base-of-app
    build: {dockerfile_inline: \"FROM busybox\\nARG WHAT=first\\nRUN echo $$WHAT > /made\\n\"}
",
    );
    let up = world.wharf(&["up", "--no-deps", "app"]).expect(0);
    assert!(up.stdout.contains("| first\n"), "{up:?}");
    assert_eq!(world.ok(&["run", "--rm", "-q", "-q", "app", "cat", "/made"]), "first");
    world.ok(&["build", "--build-arg", "WHAT=second", "app"]);
    assert_eq!(world.ok(&["run", "--rm", "app", "cat", "/made"]), "second");
    let bake: serde_json::Value = serde_json::from_str(&world.ok(&["build", "--print"])).expect("JSON");
    assert_eq!(bake["target"]["app"]["contexts"]["base"], "target:zz_base");
    assert_eq!(bake["group"]["default"]["targets"], serde_json::json!(["app", "zz_base"]));
    let dry = world.ok(&["--dry-run", "build", "app"]);
    assert!(dry.contains("base-of-app") && dry.contains("-app: "), "{dry}");
    world.ok(&["down"]);
}

#[test]
fn checks_of_all_services_are_shown() {
    let world = World::empty();
    world.write("fine/Dockerfile", "FROM busybox\nRUN true\n");
    world.write("warned/Dockerfile", "FROM busybox\nMAINTAINER me\n");
    let file = "services:\n  fine: {build: fine}\n  warned: {build: warned}\n";
    world.write("compose.yaml", file);
    world.write(
        "broken.yaml",
        &format!("{file}  broken: {{build: {{dockerfile_inline: \"FROM busybox\\nfoo\\n\"}}}}\n"),
    );
    let answer = world.wharf(&["build", "--check"]).expect(1);
    assert!(answer.stdout.starts_with("fine\n\nCheck complete, no warnings found.\n\nwarned\n\n"), "{}", answer.stdout);
    assert!(answer.stdout.contains("WARNING: MaintainerDeprecated"), "{}", answer.stdout);
    world.wharf(&["build", "--check", "fine"]).expect(0);
    let answer = world.wharf(&["-f", "broken.yaml", "build", "--check"]).expect(1);
    assert!(answer.stdout.contains("warned\n\n"), "the others are checked, too: {}", answer.stdout);
    assert!(answer.stderr.contains("unknown instruction foo"), "{}", answer.stderr);
}
